/* connfile.c - reading and writing connection files
 *
 * One table says which key goes where, in which kind of file, and what it is
 * when an older or hand-made file lacks it.  The key that signs, the interface
 * and the ports have no default: guessing them would fail later and worse.
 *
 * A file is written beside its place and renamed, so a reader that polls for
 * it never sees half of it and a full disk leaves the old one alone.
 */
#include "wire/connfile.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "wire/scan.h"

#define FILE_MAX_BYTES (1u << 20)

enum kind { BOTH, CLIENT, ENGINE };

struct text_field {
    const char *key;
    enum kind kind;
    size_t at, cap;
    const char *fallback; // NULL: the key is required
};

#define TEXT(key, kind, member, fallback)                    \
    {                                                        \
        key, kind, offsetof(struct connfile, member),        \
            sizeof(((struct connfile *)0)->member), fallback \
    }

// clang-format off
static const struct text_field text_field[] = {
    TEXT("ssh",              BOTH,   ssh,              ""),
    TEXT("interface",        BOTH,   interface,        NULL),
    TEXT("task_scheme",      CLIENT, task_scheme,      "leastload"),
    TEXT("key",              BOTH,   key,              NULL),
    TEXT("curve_serverkey",  BOTH,   curve_serverkey,  ""),
    TEXT("location",         BOTH,   location,         ""),
    TEXT("pack",             BOTH,   pack,             "json"),
    TEXT("unpack",           BOTH,   unpack,           "json"),
    TEXT("signature_scheme", BOTH,   signature_scheme, "hmac-sha256"),
};

static const struct {
    const char *key;
    enum kind kind;
} port_field[N_PORTS] = {
    [PORT_REGISTRATION] = { "registration", BOTH   },
    [PORT_CONTROL]      = { "control",      BOTH   },
    [PORT_MUX]          = { "mux",          BOTH   },
    [PORT_TASK]         = { "task",         BOTH   },
    [PORT_IOPUB]        = { "iopub",        BOTH   },
    [PORT_NOTIFICATION] = { "notification", CLIENT },
    [PORT_HB_PING]      = { "hb_ping",      ENGINE },
    [PORT_HB_PONG]      = { "hb_pong",      ENGINE },
};
// clang-format on

#define N_TEXT (sizeof(text_field) / sizeof(text_field[0]))

static bool
applies(enum kind kind, bool for_client)
{
    return kind == BOTH || kind == (for_client ? CLIENT : ENGINE);
}

static int
read_text(struct connfile *out, const struct text_field *f, const json_t *root,
          rh_error *err)
{
    const json_t *value = json_object_get(root, f->key);
    char *to = (char *)out + f->at;
    size_t n;

    if (!value || (json_is_null(value) && f->fallback)) {
        if (!f->fallback)
            return rh_fail(err, RH_EPROTO, "'%s' is missing", f->key);
        memcpy(to, f->fallback, strlen(f->fallback) + 1);
        return 0;
    }
    if (!json_is_string(value))
        return rh_fail(err, RH_EPROTO, "'%s' is not a string", f->key);
    n = json_string_length(value);
    if (n >= f->cap)
        return rh_fail(err, RH_ELIMIT, "'%s' has %zu bytes, limit %zu", f->key,
                       n, f->cap - 1);
    memcpy(to, json_string_value(value), n + 1);
    return 0;
}

static int
read_port(int *out, const char *key, const json_t *value, rh_error *err)
{
    json_int_t port = json_integer_value(value);

    if (!value)
        return rh_fail(err, RH_EPROTO, "'%s' is missing", key);
    if (!json_is_integer(value))
        return rh_fail(err, RH_EPROTO, "'%s' is not a port number", key);
    if (port < 1 || port > 65535)
        return rh_fail(err, RH_EPROTO, "'%s' is %lld, but ports are 1 to 65535",
                       key, (long long)port);
    *out = (int)port;
    return 0;
}

/* An integer for clients, a list for engines; absent before 7.0. */
static int
read_broadcast(struct connfile *out, const json_t *value, rh_error *err)
{
    size_t n = json_array_size(value); // 0 if it is not one

    if (!value || json_is_null(value))
        return 0;
    if (!json_is_array(value)) {
        out->n_broadcast = 1;
        return read_port(&out->broadcast[0], "broadcast", value, err);
    }
    if (n > CONN_BROADCAST_MAX)
        return rh_fail(err, RH_ELIMIT, "'broadcast' has %zu ports, limit %d", n,
                       CONN_BROADCAST_MAX);
    for (size_t i = 0; i < n; i++) {
        int rc = read_port(&out->broadcast[i], "broadcast",
                           json_array_get(value, i), err);

        if (rc < 0)
            return rc;
    }
    out->n_broadcast = (int)n;
    return 0;
}

static int
read_object(struct connfile *out, const json_t *root, rh_error *err)
{
    int rc;

    if (!json_is_object(root))
        return rh_fail(err, RH_EPROTO, "not a JSON object");
    out->for_client = !json_object_get(root, "hb_ping");
    if (out->for_client && !json_object_get(root, "notification"))
        return rh_fail(err, RH_EPROTO,
                       "neither 'notification' (a client's file) nor "
                       "'hb_ping' (an engine's) is there");
    for (size_t i = 0; i < N_TEXT; i++)
        if (applies(text_field[i].kind, out->for_client)
            && (rc = read_text(out, &text_field[i], root, err)) < 0)
            return rc;
    for (int i = 0; i < N_PORTS; i++)
        if (applies(port_field[i].kind, out->for_client)
            && (rc = read_port(&out->port[i], port_field[i].key,
                               json_object_get(root, port_field[i].key), err))
                   < 0)
            return rc;
    if (!strstr(out->interface, "://"))
        return rh_fail(err, RH_EPROTO,
                       "'interface' is '%.64s', not transport://host",
                       out->interface);
    return read_broadcast(out, json_object_get(root, "broadcast"), err);
}

/* Why jansson gave up.  Out of memory it says nothing, or reports a syntax
 * error: a text that the scanner finds flawless did not fail for its syntax.
 */
static int
load_failed(struct span json, const json_error_t *where, rh_error *err)
{
    switch (json_error_code(where)) {
    case json_error_unknown:
    case json_error_out_of_memory:
        return rh_fail(err, RH_ENOMEM, "out of memory");
    case json_error_invalid_syntax:
    case json_error_premature_end_of_input:
        if (scan_object(json, NULL, 0, NULL) == 0)
            return rh_fail(err, RH_ENOMEM, "out of memory");
        break;
    default:
        break;
    }
    return rh_fail(err, RH_EPROTO, "not JSON: line %d: %.160s", where->line,
                   where->text);
}

int
connfile_parse(struct connfile *out, struct span json, rh_error *err)
{
    struct connfile result = {0};
    json_error_t where = {0};
    json_t *root;
    int rc;

    if (json.n > FILE_MAX_BYTES)
        return rh_fail(err, RH_ELIMIT, "connection info: %zu bytes, limit %u",
                       json.n, FILE_MAX_BYTES);
    root = json_loadb(json.n ? (const char *)json.p : "", json.n, 0, &where);
    if (!root)
        return load_failed(json, &where, err);
    rc = read_object(&result, root, err);
    json_decref(root);
    if (rc == 0)
        *out = result;
    return rc;
}

static void
add_key(struct buf *b, const char *key)
{
    buf_add_fmt(b, "%s\n  \"%s\": ", b->n > 1 ? "," : "", key);
}

static void
add_text(struct buf *b, const struct connfile *self, const char *key)
{
    for (size_t i = 0; i < N_TEXT; i++) {
        const struct text_field *f = &text_field[i];

        if (strcmp(f->key, key) != 0 || !applies(f->kind, self->for_client))
            continue;
        add_key(b, key);
        buf_add_json_str(b, span_str((const char *)self + f->at));
    }
}

static void
add_port(struct buf *b, const struct connfile *self, enum conn_port port)
{
    if (!applies(port_field[port].kind, self->for_client))
        return;
    add_key(b, port_field[port].key);
    buf_add_fmt(b, "%d", self->port[port]);
}

static void
add_broadcast(struct buf *b, const struct connfile *self)
{
    if (self->n_broadcast == 0)
        return;
    add_key(b, "broadcast");
    if (self->for_client) {
        buf_add_fmt(b, "%d", self->broadcast[0]);
        return;
    }
    for (int i = 0; i < self->n_broadcast; i++)
        buf_add_fmt(b, "%s\n    %d", i ? "," : "[", self->broadcast[i]);
    buf_add_str(b, "\n  ]");
}

char *
connfile_format(const struct connfile *self)
{
    struct buf b = {0};

    // The order of the real files; readers do not care, people do.
    buf_add_char(&b, '{');
    add_text(&b, self, "ssh");
    add_text(&b, self, "interface");
    for (int i = PORT_REGISTRATION; i <= PORT_TASK; i++)
        add_port(&b, self, (enum conn_port)i);
    add_text(&b, self, "task_scheme");
    for (int i = PORT_IOPUB; i < N_PORTS; i++)
        add_port(&b, self, (enum conn_port)i);
    add_broadcast(&b, self);
    add_text(&b, self, "key");
    if (*self->curve_serverkey) {
        add_text(&b, self, "curve_serverkey");
    } else {
        add_key(&b, "curve_serverkey");
        buf_add_str(&b, "null");
    }
    add_text(&b, self, "location");
    add_text(&b, self, "pack");
    add_text(&b, self, "unpack");
    add_text(&b, self, "signature_scheme");
    buf_add(&b, "\n}", 3); // with the NUL
    if (b.failed) {
        buf_fini(&b);
        return NULL;
    }
    return (char *)b.p;
}

/* All of an open file, at most FILE_MAX_BYTES. */
static int
read_all(int fd, const char *path, struct buf *out, rh_error *err)
{
    for (;;) {
        ssize_t n;

        if (buf_reserve(out, 4096) < 0)
            return rh_fail(err, RH_ENOMEM, "%s: out of memory", path);
        n = read(fd, out->p + out->n, out->cap - out->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return rh_fail(err, RH_EIO, "%s: %s", path, strerror(errno));
        if (n == 0)
            return 0;
        out->n += (size_t)n;
        if (out->n > FILE_MAX_BYTES)
            return rh_fail(err, RH_ELIMIT,
                           "%s: larger than %u bytes, no connection file", path,
                           FILE_MAX_BYTES);
    }
}

int
connfile_read(struct connfile *out, const char *path, rh_error *err)
{
    rh_error why = {0, ""};
    struct buf text = {0};
    int rc, fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return rh_fail(err, errno == ENOENT ? RH_ENOENT : RH_EIO, "%s: %s",
                       path, strerror(errno));
    rc = read_all(fd, path, &text, err);
    close(fd);
    if (rc == 0) {
        rc = connfile_parse(out, buf_span(&text), &why);
        if (rc < 0)
            rh_fail(err, rc, "%s: %s", path, why.text);
    }
    buf_fini(&text);
    return rc;
}

static int
write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return RH_EIO;
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

/* Make the rename itself last.  Not every file system can; then it is as safe
 * as it gets.
 */
static void
sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    char *folder = n ? mem_strndup(path, n) : mem_strdup(slash ? "/" : ".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    mem_free(folder);
}

/* Write 'text' to a new file beside 'path' and put it there; errno tells what
 * failed.
 */
static int
replace_file(const char *path, char *temp, const char *text)
{
    int saved, fd = mkostemp(temp, O_CLOEXEC); // mode 0600

    if (fd < 0)
        return RH_EIO;
    if (fchmod(fd, S_IRUSR | S_IWUSR) == 0
        && write_all(fd, text, strlen(text)) == 0 && fsync(fd) == 0) {
        if (close(fd) == 0 && rename(temp, path) == 0)
            return 0;
        fd = -1;
    }
    saved = errno;
    if (fd >= 0)
        close(fd);
    unlink(temp);
    errno = saved;
    return RH_EIO;
}

int
connfile_write(const struct connfile *self, const char *path, rh_error *err)
{
    char *text = connfile_format(self);
    struct buf temp = {0};
    int rc = RH_ENOMEM;

    buf_add_str(&temp, path);
    buf_add(&temp, ".XXXXXX", 8); // with the NUL
    if (!text || temp.failed)
        rh_fail(err, rc, "%s: out of memory", path);
    else if ((rc = replace_file(path, (char *)temp.p, text)) < 0)
        rh_fail(err, rc, "cannot write %s: %s", path, strerror(errno));
    else
        sync_folder(path);
    buf_fini(&temp);
    mem_free(text);
    return rc;
}
