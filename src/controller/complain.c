/* complain.c - see complain.h */
#include "controller/complain.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/log.h"
#include "wire/pack.h"

#define WINDOW_MS 10000
#define LINES_MAX 10

/* May another line be written?  Also closes a window that is over. */
static bool
admit(struct complain *self, int64_t now)
{
    if (now - self->window_ms >= WINDOW_MS) {
        if (self->dropped)
            log_warn("%s: %u more lines like this were left out", self->topic,
                     self->dropped);
        self->window_ms = now;
        self->n = self->dropped = 0;
    }
    if (self->n == LINES_MAX) {
        self->dropped++;
        return false;
    }
    self->n++;
    return true;
}

__attribute__((format(printf, 3, 0))) static void
write_line(const struct complain *self, enum log_level level, const char *fmt,
           va_list args)
{
    char text[512];

    vsnprintf(text, sizeof(text), fmt, args);
    log_write(level, "%s: %s", self->topic, text);
}

void
complain(struct complain *self, int64_t now, const char *fmt, ...)
{
    va_list args;

    if (!admit(self, now))
        return;
    va_start(args, fmt);
    write_line(self, LOG_WARN, fmt, args);
    va_end(args);
}

void
complain_quietly(struct complain *self, int64_t now, const char *fmt, ...)
{
    va_list args;

    if (log_level() > LOG_DEBUG || !admit(self, now))
        return;
    va_start(args, fmt);
    write_line(self, LOG_DEBUG, fmt, args);
    va_end(args);
}

static const char *
signature_hint(const struct msg *m, const char *scheme)
{
    static const struct {
        const char *scheme;
        size_t hex;
    } known[] = {{"hmac-md5", 32},    {"hmac-sha1", 40},
                 {"hmac-sha224", 56}, {"hmac-sha256", 64},
                 {"hmac-sha384", 96}, {"hmac-sha512", 128}};
    size_t n = msg_part(m, MSG_SIGNATURE).n, ours = 0;

    if (n == 0)
        return "the peer does not sign at all";
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (span_is(span_str(scheme), known[i].scheme))
            ours = known[i].hex;
    if (ours && n != ours)
        return "the peer uses another signature scheme";
    return "the peer has another key, perhaps from an old connection file";
}

/* Only JSON comes this far; sockets have translated what else is spoken. */
static const char *
packer_hint(const struct msg *m)
{
    const char *packer = pack_guess(msg_part(m, MSG_HEADER));

    if (!packer || strcmp(packer, "json") == 0)
        return NULL;
    return strcmp(packer, "pickle") == 0
               ? "the peer packs messages as pickle, not as JSON"
               : "the peer packs messages as msgpack, not as JSON";
}

const char *
refusal_hint(const struct msg *m, int rc, const char *scheme)
{
    return rc == RH_EAUTH    ? signature_hint(m, scheme)
           : rc == RH_EPROTO ? packer_hint(m)
                             : NULL;
}

void
complain_refusal(struct complain *self, int64_t now, const char *what,
                 const struct msg *m, int rc, const rh_error *err,
                 const char *scheme)
{
    const char *hint = refusal_hint(m, rc, scheme);
    char peer[100] = "nobody";

    if (m->i_delim > 0)
        log_escape(m->frame[0], peer, sizeof(peer));
    if (rc == RH_ENOENT)
        complain_quietly(self, now, "%s: %s", what, err->text);
    else
        complain(self, now, "%s: %s (from %s%s%s)", what, err->text, peer,
                 hint ? "; " : "", hint ? hint : "");
}
