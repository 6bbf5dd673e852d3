/* config.c - what the command line found out, as one JSON object */
#include <stdio.h>

#include "base/buf.h"
#include "base/log.h"
#include "engine/engine.h"
#include "wire/pack.h"
#include "wire/scan.h"

/* Copy a string value, if present, into a field of fixed size. */
static int
take_text(struct span raw, const char *key, char *out, size_t cap,
          rh_error *err)
{
    struct buf scratch = {.p = NULL};
    struct span s;
    int rc;

    if (scan_is_null(raw))
        return 0;
    rc = scan_string(raw, &scratch, &s);
    if (rc < 0)
        rc = rh_fail(err, rc, "engine option '%s' is not text", key);
    else if (s.n >= cap || memchr(s.p, 0, s.n))
        rc = rh_fail(err, RH_EINVAL,
                     "engine option '%s' has %zu characters, at most %zu work",
                     key, s.n, cap - 1);
    else if (s.n) {
        memcpy(out, s.p, s.n);
        out[s.n] = '\0';
    }
    buf_fini(&scratch);
    return rc;
}

static int
take_int(struct span raw, const char *key, int64_t low, int64_t high,
         int64_t *out, rh_error *err)
{
    int64_t value;

    if (scan_is_null(raw))
        return 0;
    if (scan_int(raw, &value) < 0)
        return rh_fail(err, RH_EPROTO, "engine option '%s' is no number", key);
    if (value < low || value > high)
        return rh_fail(err, RH_EINVAL,
                       "engine option '%s' is %lld; it has to be %lld to %lld",
                       key, (long long)value, (long long)low, (long long)high);
    *out = value;
    return 0;
}

static int
take_urls(struct engine_config *out, struct span raw, rh_error *err)
{
    static const struct {
        const char *key;
        enum conn_port port;
    } channel[] = {
        {"registration", PORT_REGISTRATION},
        {"control", PORT_CONTROL},
        {"mux", PORT_MUX},
        {"task", PORT_TASK},
        {"iopub", PORT_IOPUB},
        {"hb_ping", PORT_HB_PING},
        {"hb_pong", PORT_HB_PONG},
    };
    enum { N = sizeof(channel) / sizeof(channel[0]) };
    struct scan_field field[N + 1] = {{.key = NULL}};
    struct span item;
    size_t pos = 0;
    int rc = 0;

    if (scan_is_null(raw))
        return 0;
    for (size_t i = 0; i < N; i++)
        field[i].key = channel[i].key;
    field[N].key = "broadcast";
    rc = scan_object(raw, field, N + 1, err);
    for (size_t i = 0; rc == 0 && i < N; i++)
        rc = take_text(field[i].value, channel[i].key,
                       out->url[channel[i].port], sizeof(out->url[0]), err);
    if (scan_is_null(field[N].value))
        return rc;
    for (size_t i = 0; rc == 0 && scan_next(field[N].value, &pos, &item) == 1;
         i++)
        rc = i < CONN_BROADCAST_MAX
                 ? take_text(item, "broadcast", out->broadcast_url[i],
                             sizeof(out->broadcast_url[0]), err)
                 : rh_fail(err, RH_ELIMIT, "more than %d broadcast addresses",
                           CONN_BROADCAST_MAX);
    out->tunnelled = true;
    return rc;
}

/* The connection file, and what the command line puts in its place. */
static int
take_connection(struct engine_config *out, const struct scan_field *connection,
                const struct scan_field *key, const struct scan_field *location,
                rh_error *err)
{
    int rc;

    if (scan_is_null(connection->value))
        return rh_fail(err, RH_EPROTO, "engine option 'connection' is missing");
    rc = connfile_parse(&out->conn, connection->value, err);
    if (rc == 0)
        rc = take_text(key->value, key->key, out->conn.key,
                       sizeof(out->conn.key), err);
    if (rc == 0)
        rc = take_text(location->value, location->key, out->conn.location,
                       sizeof(out->conn.location), err);
    if (rc == 0)
        rc = pack_check(out->conn.pack, err);
    if (rc == 0)
        rc = pack_check(out->conn.unpack, err);
    return rc;
}

enum {
    K_CONNECTION,
    K_KEY,
    K_LOCATION,
    K_URLS,
    K_LOG_FILE,
    K_CAPTURE,
    K_TEXT, // the rows of texts[] from here
    K_UUID = K_TEXT,
    K_USERNAME,
    K_REGISTRATION,
    K_PUBLIC,
    K_SECRET,
    K_INT, // the rows of ints[] from here
    K_ID = K_INT,
    K_TIMEOUT,
    K_MISSES,
    K_GRACE,
    K_LEVEL,
    K_OUTPUT,
    N_KEYS
};

int
engine_config_parse(struct engine_config *out, struct span json, rh_error *err)
{
    struct scan_field f[N_KEYS] = {
        [K_CONNECTION] = {.key = "connection"},
        [K_KEY] = {.key = "key"},
        [K_LOCATION] = {.key = "location"},
        [K_URLS] = {.key = "urls"},
        [K_LOG_FILE] = {.key = "log_file"},
        [K_CAPTURE] = {.key = "capture"},
        [K_UUID] = {.key = "uuid"},
        [K_USERNAME] = {.key = "username"},
        [K_REGISTRATION] = {.key = "registration_url"},
        [K_PUBLIC] = {.key = "curve_publickey"},
        [K_SECRET] = {.key = "curve_secretkey"},
        [K_ID] = {.key = "id"},
        [K_TIMEOUT] = {.key = "timeout_ms"},
        [K_MISSES] = {.key = "max_misses"},
        [K_GRACE] = {.key = "grace_ms"},
        [K_LEVEL] = {.key = "log_level"},
        [K_OUTPUT] = {.key = "output_limit"},
    };
    const struct {
        char *p;
        size_t cap;
    } texts[] = {
        {out->uuid, sizeof(out->uuid)},
        {out->username, sizeof(out->username)},
        {out->registration_url, sizeof(out->registration_url)},
        {out->curve_public, sizeof(out->curve_public)},
        {out->curve_secret, sizeof(out->curve_secret)},
    };
    int64_t ints[] = {-1, 5000, 50, 3000, LOG_INFO, 0}; // and their defaults
    char log_file[1024] = "";
    int rc;

    *out = (struct engine_config){.capture = true};
    rc = scan_object(json, f, N_KEYS, err);
    if (rc == 0 && !scan_is_null(f[K_CAPTURE].value)
        && scan_bool(f[K_CAPTURE].value, &out->capture) < 0)
        rc = rh_fail(err, RH_EPROTO,
                     "engine option 'capture' is not true or false");
    if (rc == 0)
        rc = take_connection(out, &f[K_CONNECTION], &f[K_KEY], &f[K_LOCATION],
                             err);
    for (int i = K_TEXT; rc == 0 && i < K_INT; i++)
        rc = take_text(f[i].value, f[i].key, texts[i - K_TEXT].p,
                       texts[i - K_TEXT].cap, err);
    for (int i = K_INT; rc == 0 && i < N_KEYS; i++)
        rc =
            take_int(f[i].value, f[i].key, 0, INT32_MAX, &ints[i - K_INT], err);
    if (rc == 0)
        rc = take_urls(out, f[K_URLS].value, err);
    if (rc == 0)
        rc = take_text(f[K_LOG_FILE].value, f[K_LOG_FILE].key, log_file,
                       sizeof(log_file), err);
    if (rc < 0)
        return rc;
    out->id = ints[K_ID - K_INT];
    out->timeout_ms = (int)ints[K_TIMEOUT - K_INT];
    out->max_misses = (int)ints[K_MISSES - K_INT];
    out->grace_ms = (int)ints[K_GRACE - K_INT];
    out->output_limit = (size_t)ints[K_OUTPUT - K_INT];
    log_setup("IPEngine", (enum log_level)ints[K_LEVEL - K_INT]);
    if (log_file[0] && log_to_file(log_file) < 0)
        return rh_fail(err, RH_EIO, "cannot write the log file %s", log_file);
    return 0;
}
