/* controller.h - the least a controller can be, for tests of the engine
 *
 * Sockets on loopback and a session; the test says what to send and looks at
 * what comes.  Everything waits for a message with a generous limit, so that a
 * test fails instead of hanging.
 */
#ifndef TESTS_ENGINE_CONTROLLER_H
#define TESTS_ENGINE_CONTROLLER_H

#include "support.h"

#include <stdio.h>
#include <string.h>

#include "net/net.h"
#include "wire/compose.h"
#include "wire/scan.h"

#define PATIENCE_MS 20000
#define KEY "the key"

enum channel { REG, MUX, TASK, CONTROL, BCAST, IOPUB, PING, PONG, N_CHANNELS };

struct controller {
    struct net_ctx *net;
    struct net_sock *sock[N_CHANNELS];
    int port[N_CHANNELS];
    struct session *session, *checker;
    struct sender sender;
    char engine[80];          // its identity
    char msg_id[MSG_ID_SIZE]; // of the last request
};

static const enum net_type channel_type[] = {
    [REG] = NET_ROUTER,     [MUX] = NET_ROUTER,   [TASK] = NET_ROUTER,
    [CONTROL] = NET_ROUTER, [BCAST] = NET_ROUTER, [IOPUB] = NET_SUB,
    [PING] = NET_PUB,       [PONG] = NET_ROUTER,
};

static inline void
controller_open(struct controller *self)
{
    const struct net_options options = {.linger_ms = 0};

    *self = (struct controller){.net = NULL};
    assert_int_equal(net_ctx_new(&self->net, NULL), 0);
    for (int i = 0; i < N_CHANNELS; i++) {
        assert_int_equal(net_open(&self->sock[i], self->net, channel_type[i],
                                  &options, NULL),
                         0);
        assert_int_equal(
            net_bind(self->sock[i], "tcp://127.0.0.1:*", &self->port[i], NULL),
            0);
    }
    assert_int_equal(net_subscribe(self->sock[IOPUB], SPAN_NONE, NULL), 0);
    assert_int_equal(
        session_new(&self->session, SPAN_LIT(KEY), "hmac-sha256", NULL), 0);
    assert_int_equal(
        session_new(&self->checker, SPAN_LIT(KEY), "hmac-sha256", NULL), 0);
    assert_int_equal(
        sender_init(&self->sender, self->session, "hub", "test", NULL), 0);
}

static inline void
controller_close(struct controller *self)
{
    for (int i = 0; i < N_CHANNELS; i++)
        net_close(&self->sock[i]);
    sender_fini(&self->sender);
    session_free(&self->session);
    session_free(&self->checker);
    net_ctx_free(&self->net);
}

/* The connection file, with 'more' members. */
static inline void
controller_file(const struct controller *self, char *out, size_t cap)
{
    int n = snprintf(
        out, cap,
        "{\"ssh\": \"\", \"interface\": \"tcp://127.0.0.1\", "
        "\"registration\": %d, \"control\": %d, \"mux\": %d, \"task\": %d, "
        "\"iopub\": %d, \"hb_ping\": %d, \"hb_pong\": %d, \"broadcast\": [%d], "
        "\"key\": \"" KEY "\", \"curve_serverkey\": null, \"location\": \"\", "
        "\"pack\": \"json\", \"unpack\": \"json\", "
        "\"signature_scheme\": \"hmac-sha256\"}",
        self->port[REG], self->port[CONTROL], self->port[MUX], self->port[TASK],
        self->port[IOPUB], self->port[PING], self->port[PONG],
        self->port[BCAST]);

    assert_true(n > 0 && (size_t)n < cap);
}

/* The next message of a channel, verified; NULL after 'ms'. */
static inline struct msg *
controller_poll(struct controller *self, enum channel channel, int ms)
{
    struct net_pollitem item[N_CHANNELS];
    struct msg *m = NULL;
    rh_error err = {.code = 0};

    for (size_t i = 0; i < N_CHANNELS; i++) // all have to be kept going
        item[i] = (struct net_pollitem){.sock = self->sock[i],
                                        .events = i == channel ? NET_IN : 0};
    while (net_recv(self->sock[channel], &m, &err) == RH_EAGAIN)
        if (net_poll(item, N_CHANNELS, ms) == 0)
            return NULL;
    assert_non_null(m);
    if (channel == PONG)
        return m;
    if (msg_parse(m, &msg_limits_default, &err) < 0
        || session_admit(self->checker, m, &err) < 0)
        fail_msg("%s", err.text);
    return m;
}

static inline struct msg *
controller_recv(struct controller *self, enum channel channel)
{
    struct msg *m = controller_poll(self, channel, PATIENCE_MS);

    assert_non_null(m);
    return m;
}

/* Send a request with the id of the last; all the same, it is the same. */
static inline void
controller_send_again(struct controller *self, enum channel channel,
                      const char *msg_type, const char *metadata,
                      const char *content, const char *buffer)
{
    const struct span ident[] = {span_str(self->engine), SPAN_LIT("cid")};
    const struct span bytes = span_str(buffer);
    struct msg *m = NULL;

    assert_int_equal(compose(&self->sender,
                             &(struct draft){
                                 .ident = ident,
                                 .n_ident = channel == REG ? 1 : 2,
                                 .msg_type = msg_type,
                                 .msg_id = self->msg_id,
                                 .metadata = span_str(metadata),
                                 .content = span_str(content),
                                 .buffer = &bytes,
                                 .n_buffers = buffer ? 1 : 0,
                             },
                             &m, NULL),
                     0);
    assert_int_equal(net_send(self->sock[channel], NULL, 0, m, 0, NULL), 0);
    msg_unref(&m);
}

/* Send a request or reply to the engine, as if from client "cid". */
static inline void
controller_send(struct controller *self, enum channel channel,
                const char *msg_type, const char *metadata, const char *content,
                const char *buffer)
{
    sender_next_id(&self->sender, self->msg_id);
    controller_send_again(self, channel, msg_type, metadata, content, buffer);
}

/* Take the registration request and answer it with 'reply'. */
static inline void
controller_register(struct controller *self, const char *reply)
{
    struct msg *m = controller_recv(self, REG);

    assert_true(m->frame[0].n < sizeof(self->engine));
    memcpy(self->engine, m->frame[0].p, m->frame[0].n);
    self->engine[m->frame[0].n] = '\0';
    msg_unref(&m);
    controller_send(self, REG, "registration_reply", NULL, reply, NULL);
}

static inline struct span
member(struct span json, const char *key)
{
    struct scan_field field = {.key = key};

    assert_int_equal(scan_object(json, &field, 1, NULL), 0);
    return field.value;
}

static inline void
assert_member(struct span json, const char *key, const char *value)
{
    struct span raw = member(json, key);

    if (!span_is(raw, value))
        fail_msg("%s is %.*s, not %s, in %.*s", key, (int)raw.n,
                 (const char *)raw.p, value, (int)json.n, (const char *)json.p);
}

/* A message of this type whose parent is 'parent' (NULL: any). */
static inline void
assert_message(const struct msg *m, const char *msg_type, const char *parent)
{
    char quoted[MSG_ID_SIZE + 2];

    (void)snprintf(quoted, sizeof(quoted), "\"%s\"", msg_type);
    assert_member(msg_part(m, MSG_HEADER), "msg_type", quoted);
    if (!parent)
        return;
    (void)snprintf(quoted, sizeof(quoted), "\"%s\"", parent);
    assert_member(msg_part(m, MSG_PARENT), "msg_id", quoted);
}

#endif /* TESTS_ENGINE_CONTROLLER_H */
