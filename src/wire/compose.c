/* compose.c - build and sign outgoing messages
 *
 * The header is written into the sender's scratch buffer, everything is signed
 * where it lies, and then copied into the one allocation that is the message:
 * after the first message of a sender, malloc is called once per message.
 */
#include "wire/compose.h"

#include <stdio.h>
#include <unistd.h>

#include "base/isodate.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "wire/msg_build.h"

#define EMPTY_DICT SPAN_LIT("{}")

/* Printable, and the same in JSON as outside. */
static bool
is_plain(const char *s)
{
    for (; *s; s++)
        if ((uint8_t)*s < 0x20 || *s == '"' || *s == '\\' || *s == 0x7F)
            return false;
    return true;
}

static int
set_name(char *out, size_t cap, const char *what, const char *value,
         rh_error *err)
{
    size_t n = strlen(value);

    if (n == 0 || n >= cap)
        return rh_fail(err, RH_EINVAL, "%s of %zu bytes, allowed 1 to %zu",
                       what, n, cap - 1);
    if (!is_plain(value))
        return rh_fail(err, RH_EINVAL,
                       "%s holds a quote, backslash or control character",
                       what);
    memcpy(out, value, n + 1);
    return 0;
}

int
sender_init(struct sender *self, struct session *signer, const char *session,
            const char *username, rh_error *err)
{
    char uuid[UUID_SIZE];
    int rc;

    *self = (struct sender){.pid = (int)getpid(), .signer = signer};
    if (!session && uuid_new(uuid) < 0)
        return rh_fail(err, RH_EIO, "no random bytes for a session id");
    rc = set_name(self->session, sizeof(self->session), "session id",
                  session ? session : uuid, err);
    if (rc == 0)
        rc = set_name(self->username, sizeof(self->username), "user name",
                      username, err);
    if (rc < 0)
        return rc;
    // The part of every header that never changes; it fits by its size.
    self->n_fixed = (size_t)snprintf(
        self->fixed, sizeof(self->fixed),
        "\", \"username\": \"%s\", \"session\": \"%s\", \"date\": \"",
        self->username, self->session);
    return 0;
}

void
sender_fini(struct sender *self)
{
    buf_fini(&self->scratch);
}

/* Decimal digits of 'value' after 'p'; returns the new end. */
static char *
put_number(char *p, uint64_t value)
{
    char digit[20];
    size_t n = 0;

    do
        digit[n++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    while (n > 0)
        *p++ = digit[--n];
    return p;
}

void
sender_next_id(struct sender *self, char msg_id[MSG_ID_SIZE])
{
    size_t n = strlen(self->session); // at most 79
    char *p = msg_id + n;

    memcpy(msg_id, self->session, n);
    *p++ = '_';
    p = put_number(p, (uint64_t)self->pid);
    *p++ = '_';
    p = put_number(p, self->counter++); // 79 + 1 + 10 + 1 + 20 < 128
    *p = '\0';
}

/* A string's content; what is not plain is escaped. */
static void
add_text(struct buf *out, const char *s)
{
    size_t start;

    if (is_plain(s)) {
        buf_add_str(out, s);
        return;
    }
    start = out->n;
    buf_add_json_str(out, span_str(s));
    if (!out->failed) { // the caller writes the quotes
        out->n -= 2;
        memmove(out->p + start, out->p + start + 1, out->n - start);
    }
}

void
compose_header(struct sender *self, struct buf *out, const char *msg_type,
               const char *msg_id, int64_t wall_us)
{
    static const char id_key[] = "{\"msg_id\": \"";
    static const char type_key[] = "\", \"msg_type\": \"";
    static const char tail[] = "\", \"version\": \"" PROTOCOL_VERSION "\"}";
    char date[ISODATE_SIZE];

    isodate_format(wall_us, date);
    buf_reserve(out, sizeof(id_key) + sizeof(type_key) + sizeof(tail)
                         + self->n_fixed + sizeof(date) + strlen(msg_type)
                         + strlen(msg_id));
    buf_add(out, id_key, sizeof(id_key) - 1);
    add_text(out, msg_id);
    buf_add(out, type_key, sizeof(type_key) - 1);
    add_text(out, msg_type);
    buf_add(out, self->fixed, self->n_fixed);
    buf_add(out, date, ISODATE_SIZE - 1);
    buf_add(out, tail, sizeof(tail) - 1);
}

static struct span
or_empty(struct span dict)
{
    return dict.n ? dict : EMPTY_DICT;
}

/* Where frames go: routing frames, delimiter, signature. */
static void
put_front(struct msg *m, uint8_t **bytes, const struct span *ident,
          size_t n_ident, struct span signature)
{
    for (size_t i = 0; i < n_ident; i++)
        m->frame[i] = msg_put(bytes, ident[i]);
    m->frame[n_ident] = SPAN_LIT(MSG_DELIM);
    m->frame[n_ident + MSG_SIGNATURE] = msg_put(bytes, signature);
    m->i_delim = (uint32_t)n_ident;
}

/* Sum of frame sizes; false if it is absurd. */
static bool
add_sizes(const struct span *s, size_t n, size_t *sum)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i].n > SIZE_MAX / 4 - *sum)
            return false;
        *sum += s[i].n;
    }
    return true;
}

/* A message of all this; buffers with an owner are shared, the rest copied. */
static struct msg *
assemble(const struct draft *draft, const struct span *part,
         struct span signature)
{
    size_t n_bytes = signature.n, n_owners = 0;
    struct msg *m;
    uint8_t *p;

    if (!add_sizes(draft->ident, draft->n_ident, &n_bytes)
        || !add_sizes(part, 4, &n_bytes) || draft->n_buffers > UINT32_MAX / 2
        || draft->n_ident > UINT32_MAX / 4)
        return NULL;
    for (size_t i = 0; i < draft->n_buffers; i++) {
        if (draft->owner && draft->owner[i])
            n_owners++;
        else if (!add_sizes(&draft->buffer[i], 1, &n_bytes))
            return NULL;
    }
    m = msg_build(draft->n_ident + MSG_BUFFER0 + draft->n_buffers, n_owners,
                  n_bytes, &p);
    if (!m)
        return NULL;
    put_front(m, &p, draft->ident, draft->n_ident, signature);
    for (uint32_t i = 0; i < 4; i++)
        m->frame[m->i_delim + MSG_HEADER + i] = msg_put(&p, part[i]);
    for (size_t i = 0; i < draft->n_buffers; i++) {
        struct span *to = &m->frame[m->i_delim + MSG_BUFFER0 + i];

        if (draft->owner && draft->owner[i]) {
            *to = draft->buffer[i];
            msg_own(m, draft->owner[i]);
        } else {
            *to = msg_put(&p, draft->buffer[i]);
        }
    }
    return m;
}

int
compose(struct sender *self, const struct draft *draft, struct msg **out,
        rh_error *err)
{
    char id[MSG_ID_SIZE], hex[SESSION_HEX_MAX];
    const char *msg_id = draft->msg_id;
    struct span part[4];
    struct msg *m;
    int n;

    if (!msg_id) {
        sender_next_id(self, id);
        msg_id = id;
    }
    buf_clear(&self->scratch);
    compose_header(self, &self->scratch, draft->msg_type, msg_id,
                   draft->wall_us);
    if (self->scratch.failed)
        return rh_fail(err, RH_ENOMEM, "out of memory composing a %s",
                       draft->msg_type);
    part[0] = buf_span(&self->scratch);
    part[1] = or_empty(draft->parent);
    part[2] = or_empty(draft->metadata);
    part[3] = or_empty(draft->content);
    n = session_sign(self->signer, part, hex);
    if (n < 0)
        return rh_fail(err, n, "cannot sign a %s", draft->msg_type);
    m = assemble(draft, part, span_of(hex, (size_t)n));
    if (!m)
        return rh_fail(err, RH_ENOMEM, "out of memory composing a %s",
                       draft->msg_type);
    *out = m;
    return 0;
}

int
recompose(struct sender *self, struct msg *m, const struct span *ident,
          size_t n_ident, struct span header, struct span metadata,
          struct msg **out, rh_error *err)
{
    struct span part[4] = {header, msg_part(m, MSG_PARENT),
                           metadata.n ? metadata : msg_part(m, MSG_METADATA),
                           msg_part(m, MSG_CONTENT)};
    size_t n_bytes = header.n + metadata.n;
    char hex[SESSION_HEX_MAX];
    struct msg *copy = NULL;
    uint8_t *p;
    int n = session_sign(self->signer, part, hex);

    if (n < 0)
        return rh_fail(err, n, "cannot sign a relayed message");
    n_bytes += (size_t)n;
    if (n_ident < UINT32_MAX / 4 && add_sizes(ident, n_ident, &n_bytes))
        copy = msg_build(n_ident + (m->n - m->i_delim), 1, n_bytes, &p);
    if (!copy)
        return rh_fail(err, RH_ENOMEM, "out of memory relaying a message");
    put_front(copy, &p, ident, n_ident, span_of(hex, (size_t)n));
    for (uint32_t i = MSG_HEADER; i < m->n - m->i_delim; i++)
        copy->frame[copy->i_delim + i] = m->frame[m->i_delim + i];
    copy->frame[copy->i_delim + MSG_HEADER] = msg_put(&p, header);
    if (metadata.n)
        copy->frame[copy->i_delim + MSG_METADATA] = msg_put(&p, metadata);
    msg_own(copy, m);
    *out = copy;
    return 0;
}
