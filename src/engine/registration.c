/* registration.c - from a connection file to a place in the cluster
 *
 * The shell, control and iopub sockets connect before the request is sent: the
 * controller drops what it cannot deliver, so they should be there before
 * anybody learns of this engine.
 */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "engine/lifeline.h"
#include "engine/private.h"

#define LIFELINE_TIMEOUT_MS 2000

int
engine_url(const struct engine *self, enum conn_port port, char *out,
           size_t cap, rh_error *err)
{
    const struct engine_config *c = self->config;
    const char *given = c->url[port];

    if (port == PORT_REGISTRATION && c->registration_url[0])
        given = c->registration_url;
    if (!given[0])
        return connfile_url(&c->conn, c->conn.port[port], out, cap, err);
    snprintf(out, cap, "%s", given);
    return 0;
}

int
engine_open_socket(struct engine *self, struct net_sock **out,
                   enum net_type type, bool named, bool is_beat,
                   const char *url, rh_error *err)
{
    const struct connfile *conn = &self->config->conn;
    const struct net_codec codec = {
        .pack = conn->pack,
        .unpack = conn->unpack,
        .key = span_str(conn->key),
        .scheme = conn->signature_scheme,
    };
    const struct net_options options = {
        .identity = named ? span_str(self->uuid) : SPAN_NONE,
        .curve = self->use_curve ? &self->curve : NULL,
        .codec = is_beat ? NULL : &codec,
        .linger_ms = 1000,
    };
    int rc = net_open(out, self->net, type, &options, err);

    if (rc == 0)
        rc = net_connect(*out, url, err);
    return rc;
}

static int
connect_channel(struct engine *self, struct net_sock **out, enum net_type type,
                enum conn_port port, rh_error *err)
{
    char url[640];
    int rc = engine_url(self, port, url, sizeof(url), err);

    if (rc == 0)
        rc = engine_open_socket(self, out, type, type != NET_SUB,
                                port == PORT_HB_PING || port == PORT_HB_PONG,
                                url, err);
    return rc;
}

int
registration_connect(struct engine *self, rh_error *err)
{
    const struct {
        struct net_sock **sock;
        enum net_type type;
        enum conn_port port;
    } plan[] = {
        {&self->registration, NET_DEALER, PORT_REGISTRATION},
        {&self->shell[SHELL_MUX], NET_DEALER, PORT_MUX},
        {&self->shell[SHELL_TASK], NET_DEALER, PORT_TASK},
        {&self->control, NET_DEALER, PORT_CONTROL},
        {&self->iopub.sock, NET_PUB, PORT_IOPUB},
    };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(plan) / sizeof(plan[0]); i++)
        rc = connect_channel(self, plan[i].sock, plan[i].type, plan[i].port,
                             err);
    return rc;
}

/* For a controller on this host: who we are, and where it finds what tasks we
 * have begun.
 */
static void
describe_process(const struct engine *self, char *out, size_t cap)
{
    char host[PROCESS_HOST_SIZE], begun[40] = "";

    process_host(host);
    *out = '\0';
    if (self->begun)
        snprintf(begun, sizeof(begun), ", \"begun\": %d",
                 begun_fd(self->begun));
    if (*host)
        snprintf(out, cap, ", \"host\": \"%s\", \"pid\": %d%s", host,
                 (int)getpid(), begun);
}

static int
send_request(struct engine *self, rh_error *err)
{
    char content[512], process[200], id[40] = "";
    struct msg *m = NULL;
    int rc;

    if (self->config->id >= 0)
        snprintf(id, sizeof(id), "\"id\": %" PRId64 ", ", self->config->id);
    describe_process(self, process, sizeof(process));
    snprintf(content, sizeof(content),
             "{\"uuid\": \"%s\", %s\"roundhouse\": {\"version\": 1, "
             "\"withdraw\": true, \"again\": true%s}}",
             self->uuid, id, process);
    rc = compose(&self->sender,
                 &(struct draft){
                     .msg_type = "registration_request",
                     .content = span_str(content),
                     .wall_us = clock_wall_us(),
                 },
                 &m, err);
    if (rc == 0)
        rc = net_send(self->registration, NULL, 0, m, 0, err);
    msg_unref(&m);
    return rc;
}

/* Copy of a JSON string for a text. */
static void
show(struct span raw, char *out, size_t cap)
{
    struct buf scratch = {.p = NULL};
    struct span s = SPAN_NONE;

    (void)scan_string(raw, &scratch, &s);
    log_escape(s, out, cap);
    buf_fini(&scratch);
}

/* The lifeline is an extra: without it the heartbeat has to do. */
static void
take_offer(struct engine *self, struct span offer)
{
    char url[640], token[160];
    rh_error err = {.code = 0};
    int port, fd, rc = lifeline_offer(offer, &port, token);

    if (rc == RH_EPROTO)
        log_warn("the controller's offer of extensions is not understood");
    if (rc < 0 || self->config->tunnelled)
        return;
    rc = engine_url(self, PORT_REGISTRATION, url, sizeof(url), &err);
    fd = rc < 0 ? rc
                : lifeline_open(url, port, token, self->uuid,
                                LIFELINE_TIMEOUT_MS, &err);
    if (fd < 0)
        log_info("no lifeline: %s", err.text);
    else
        self->lifeline = fd;
}

static int
take_content(struct engine *self, struct span content, rh_error *err)
{
    struct scan_field f[] = {
        {.key = "status"}, {.key = "id"},         {.key = "hb_period"},
        {.key = "ename"},  {.key = "roundhouse"}, {.key = "evalue"},
    };
    char ename[64], evalue[200];
    int rc = scan_object(content, f, sizeof(f) / sizeof(f[0]), err);

    if (rc < 0)
        return rc;
    if (!span_is(f[0].value, "\"ok\"")) {
        show(f[3].value, ename, sizeof(ename));
        show(f[5].value, evalue, sizeof(evalue));
        return rh_fail(err, RH_ESTATE, "the controller refused: %s: %s", ename,
                       evalue);
    }
    if (scan_int(f[1].value, &self->id) < 0 || self->id < 0)
        return rh_fail(err, RH_EPROTO, "registration_reply has no valid id");
    if (scan_int(f[2].value, &self->hb_period_ms) < 0 || self->hb_period_ms < 1
        || self->hb_period_ms > INT32_MAX)
        self->hb_period_ms = 3000; // the protocol's default
    take_offer(self, f[4].value);
    if (shm_join(&self->shm, f[4].value, span_str(self->uuid), err) < 0)
        log_debug("%s", err->text);
    return 0;
}

/* 1: this was the reply; 0: something else; else a failure. */
static int
take_message(struct engine *self, struct msg *m, rh_error *err)
{
    struct header_view header;
    int rc = msg_parse(m, &msg_limits_default, err);

    if (rc == 0)
        rc = session_admit(self->verifier, m, err);
    if (rc == 0)
        rc = scan_header(msg_part(m, MSG_HEADER), &header, err);
    if (rc != 0) {
        log_warn("dropped a registration message: %s", err->text);
        return 0;
    }
    if (!span_is(header.msg_type, "registration_reply"))
        return 0;
    rc = take_content(self, msg_part(m, MSG_CONTENT), err);
    return rc < 0 ? rc : 1;
}

static int
wait_reply(struct engine *self, rh_error *err)
{
    int64_t end = clock_mono_ms() + self->config->timeout_ms;
    int rc = 0;

    while (rc == 0) {
        struct net_pollitem item = {.sock = self->registration,
                                    .events = NET_IN};
        int64_t left = end - clock_mono_ms();
        struct msg *m = NULL;

        if (left < 0)
            return rh_fail(err, RH_ETIMEDOUT,
                           "no answer from the controller in %d ms; is it "
                           "running, and does it listen where this machine "
                           "can reach it (ipcontroller --ip)?",
                           self->config->timeout_ms);
        if (net_poll(&item, 1, (int)left) == RH_EINTR
            && self->interp->service(self->interp->ctx) < 0)
            return rh_fail(err, RH_EINTR, "interrupted");
        rc = net_recv(self->registration, &m, err);
        if (rc == 0) {
            rc = take_message(self, m, err);
            msg_unref(&m);
        } else if (net_dropped(rc)) {
            log_warn("dropped a registration message: %s", err->text);
            rc = 0;
        } else if (rc == RH_EAGAIN) {
            rc = 0;
        }
    }
    return rc < 0 ? rc : 0;
}

/* What needs the id, or is only worth it with one. */
static int
complete(struct engine *self, rh_error *err)
{
    const struct connfile *conn = &self->config->conn;
    char url[640];
    int rc = 0;

    if (conn->n_broadcast > 0) {
        size_t leaf = (size_t)(self->id % conn->n_broadcast);
        const char *given = self->config->broadcast_url[leaf];

        if (given[0])
            snprintf(url, sizeof(url), "%s", given);
        else
            rc = connfile_url(conn, conn->broadcast[leaf], url, sizeof(url),
                              err);
        if (rc == 0)
            rc = engine_open_socket(self, &self->shell[2], NET_DEALER, true,
                                    false, url, err);
    }
    if (rc == 0)
        rc = connect_channel(self, &self->ping, NET_SUB, PORT_HB_PING, err);
    if (rc == 0)
        rc = net_subscribe(self->ping, SPAN_NONE, err);
    if (rc == 0)
        rc = connect_channel(self, &self->pong, NET_DEALER, PORT_HB_PONG, err);
    return rc;
}

int
registration_run(struct engine *self, rh_error *err)
{
    char url[640];
    int rc = engine_url(self, PORT_REGISTRATION, url, sizeof(url), err);

    if (rc < 0)
        return rc;
    log_info("Registering with controller at %s", url);
    rc = send_request(self, err);
    if (rc == 0)
        rc = wait_reply(self, err);
    if (rc == 0)
        rc = complete(self, err);
    if (rc < 0)
        return rc;
    if (self->config->id >= 0 && self->id != self->config->id)
        log_warn("asked for id %" PRId64 ", got %" PRId64, self->config->id,
                 self->id);
    return 0;
}
