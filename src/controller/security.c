/* security.c - see security.h */
#include "controller/security.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "wire/pack.h"

#define KEYFILE_MAX 4096

int
read_file(const char *path, size_t max, struct buf *out, rh_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char chunk[4096];
    ssize_t n = -1;

    if (fd < 0)
        return rh_fail(err, errno == ENOENT ? RH_ENOENT : RH_EIO,
                       "cannot open %s: %s", path, strerror(errno));
    while (out->n <= max && (n = read(fd, chunk, sizeof(chunk))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        buf_add(out, chunk, (size_t)n);
    }
    close(fd);
    if (n < 0)
        return rh_fail(err, RH_EIO, "cannot read %s: %s", path,
                       strerror(errno));
    if (out->n > max)
        return rh_fail(err, RH_ELIMIT, "%s is larger than %zu bytes", path,
                       max);
    return out->failed ? rh_fail(err, RH_ENOMEM, "out of memory") : 0;
}

// ---------------------------------------------------------------------------
// Earlier files

static const char *
disagreement(const struct connfile *a, const struct connfile *b)
{
    if (strcmp(a->key, b->key) != 0)
        return "key";
    if (a->port[PORT_REGISTRATION] != b->port[PORT_REGISTRATION])
        return "registration";
    if (strcmp(a->pack, b->pack) != 0)
        return "pack";
    if (strcmp(a->unpack, b->unpack) != 0)
        return "unpack";
    if (strcmp(a->signature_scheme, b->signature_scheme) != 0)
        return "signature_scheme";
    return NULL;
}

void
earlier_read(struct earlier *self, const struct profile *profile)
{
    const char *what;
    rh_error err;

    self->usable = false;
    if (connfile_read(&self->engine, profile->engine_path, &err) < 0
        || connfile_read(&self->client, profile->client_path, &err) < 0) {
        log_warn("no connection files to reuse: %s", err.text);
        return;
    }
    what = disagreement(&self->client, &self->engine);
    if (what) {
        log_error("the connection files do not agree on '%s': making new ones",
                  what);
        return;
    }
    if (strstr(self->client.interface, "://") == NULL
        || strstr(self->engine.interface, "://") == NULL) {
        log_error("the connection files have no usable interface: making new "
                  "ones");
        return;
    }
    if (pack_check(self->engine.pack, &err) < 0
        || pack_check(self->engine.unpack, &err) < 0) {
        log_error("in the connection files: %s: making new ones", err.text);
        return;
    }
    log_info("using connection info of %s", profile->engine_path);
    log_info("using connection info of %s", profile->client_path);
    self->usable = true;
}

// ---------------------------------------------------------------------------
// Keys

static int
key_from_file(const char *path, struct buf *out, rh_error *err)
{
    int rc = read_file(path, KEYFILE_MAX, out, err);

    while (rc == 0 && out->n && strchr(" \t\r\n", out->p[out->n - 1]))
        out->n--;
    if (rc == 0 && out->n == 0)
        rc = rh_fail(err, RH_EINVAL, "the key file %s is empty", path);
    if (rc == 0 && memchr(out->p, '\0', out->n))
        rc = rh_fail(err, RH_EINVAL, "the key file %s is not text", path);
    return rc;
}

int
security_key(const struct settings *s, const struct earlier *earlier,
             char key[sizeof(((struct connfile *)0)->key)], rh_error *err)
{
    const size_t cap = sizeof(((struct connfile *)0)->key);
    struct buf text;
    size_t skip;
    int rc = 0;

    buf_init(&text);
    if (earlier->usable)
        buf_add_str(&text, earlier->engine.key);
    else if (*s->keyfile)
        rc = key_from_file(s->keyfile, &text, err);
    else if (!s->enable_curve
             || settings_source(s, offsetof(struct settings, key))
                    != FROM_DEFAULT)
        buf_add_str(&text, s->key);
    if (rc == 0 && text.failed)
        rc = rh_fail(err, RH_ENOMEM, "out of memory");
    for (skip = 0; skip < text.n && strchr(" \t\r\n", text.p[skip]); skip++)
        ;
    if (rc == 0 && text.n - skip >= cap)
        rc = rh_fail(err, RH_EINVAL, "key of %zu bytes: at most %zu", text.n,
                     cap - 1);
    if (rc == 0)
        snprintf(key, cap, "%.*s", (int)(text.n - skip),
                 text.n ? (const char *)text.p + skip : "");
    buf_fini(&text);
    return rc;
}

static int
copy_key(char out[41], const char *key, const char *name, rh_error *err)
{
    if (strlen(key) != 40)
        return rh_fail(err, RH_EINVAL,
                       "%s has %zu characters: a CURVE key has 40", name,
                       strlen(key));
    memcpy(out, key, 41);
    return 0;
}

int
security_curve(const struct settings *s, struct net_curve *curve, rh_error *err)
{
    char derived[41];
    int rc;

    memset(curve, 0, sizeof(*curve));
    curve->server = true;
    if (!net_has_curve())
        return rh_fail(err, RH_EINVAL,
                       "enable_curve: this ZeroMQ was built without CURVE");
    if (!*s->curve_secret) {
        if (*s->curve_public)
            return rh_fail(err, RH_EINVAL,
                           "a CURVE public key without its secret key: set "
                           "IPController.curve_secretkey as well");
        log_info("Generating new CURVE credentials");
        return net_curve_keypair(curve->public_key, curve->secret_key, err);
    }
    rc = copy_key(curve->secret_key, s->curve_secret, "curve_secretkey", err);
    if (rc == 0)
        rc = net_curve_public(curve->public_key, curve->secret_key, err);
    if (rc == 0 && *s->curve_public) {
        rc = copy_key(derived, s->curve_public, "curve_publickey", err);
        if (rc == 0 && strcmp(derived, curve->public_key) != 0)
            rc = rh_fail(err, RH_EINVAL,
                         "the CURVE public and secret keys do not belong "
                         "together");
    }
    return rc;
}

// ---------------------------------------------------------------------------
// Files

int
security_write_files(const struct profile *profile,
                     const struct connfile *client,
                     const struct connfile *engine, rh_error *err)
{
    int rc;

    log_info("writing connection info to %s", profile->client_path);
    rc = connfile_write(client, profile->client_path, err);
    if (rc < 0)
        return rc;
    log_info("writing connection info to %s", profile->engine_path);
    rc = connfile_write(engine, profile->engine_path, err);
    if (rc < 0)
        (void)unlink(profile->client_path); // half a pair helps nobody
    return rc;
}

void
security_remove_files(const struct profile *profile)
{
    const char *const path[] = {profile->client_path, profile->engine_path};

    log_debug("cleaning up JSON connection files");
    for (size_t i = 0; i < 2; i++) {
        if (unlink(path[i]) == 0)
            log_debug("removed %s", path[i]);
        else if (errno != ENOENT)
            log_error("cannot remove %s: %s", path[i], strerror(errno));
    }
}

void
security_connection_info(const struct connfile *engine, struct buf *out)
{
    static const struct {
        const char *name;
        int port;
    } ports[] = {
        {"registration", PORT_REGISTRATION},
        {"control", PORT_CONTROL},
        {"mux", PORT_MUX},
        {"task", PORT_TASK},
        {"iopub", PORT_IOPUB},
        {"hb_ping", PORT_HB_PING},
        {"hb_pong", PORT_HB_PONG},
    };

    buf_add_str(out, "{\"interface\": ");
    buf_add_json_str(out, span_str(engine->interface));
    for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
        buf_add_fmt(out, ", \"%s\": %d", ports[i].name,
                    engine->port[ports[i].port]);
    buf_add_str(out, ", \"broadcast\": [");
    for (int i = 0; i < engine->n_broadcast; i++)
        buf_add_fmt(out, "%s%d", i ? ", " : "", engine->broadcast[i]);
    buf_add_str(out, "]}");
}
