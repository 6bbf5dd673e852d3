/* fake.h - a controller and its engines in one thread, as small as can be
 *
 * Every request is answered as an engine would, or misanswered when its
 * content says so:
 *
 *     drop     no reply, no output      twice    two replies
 *     forge    a reply with a bad signature before the right one
 *     garbage  a message that is no message before the reply
 *     print    a stream message         raise    an error reply
 *     leave    the engine leaves instead of answering
 *     goodbye  the controller says so instead of answering
 */
#ifndef TESTS_CLIENT_FAKE_H
#define TESTS_CLIENT_FAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/net.h"
#include "wire/compose.h"
#include "wire/scan.h"

#define FAKE_KEY "a-key-for-tests"
#define FAKE_ENGINES 3

enum fake_sock {
    FAKE_QUERY,
    FAKE_NOTIFY,
    FAKE_MUX,
    FAKE_TASK,
    FAKE_CONTROL,
    FAKE_BROADCAST,
    FAKE_IOPUB,
    N_FAKE
};

struct fake {
    struct net_ctx *ctx;
    struct net_sock *sock[N_FAKE];
    int port[N_FAKE];
    struct session *session;
    struct sender sender;
    pthread_t thread;
    atomic_bool stop;
    atomic_uint n_served;
    _Atomic(const char *) engines; // JSON, as in a connection_reply
    char json[2048];               // the connection file
};

static inline void
fake_publish(struct fake *self, const char *type, struct span parent,
             const char *content)
{
    struct span topic = SPAN_LIT("engine.0");
    struct draft draft = {.ident = &topic,
                          .n_ident = 1,
                          .msg_type = type,
                          .parent = parent,
                          .content = span_str(content),
                          .wall_us = clock_wall_us()};
    struct msg *m;

    assert_int_equal(compose(&self->sender, &draft, &m, NULL), 0);
    net_send(self->sock[FAKE_IOPUB], NULL, 0, m, 0, NULL);
    msg_unref(&m);
}

static inline void
fake_notify(struct fake *self, const char *type, const char *content)
{
    struct draft draft = {.msg_type = type,
                          .content = span_str(content),
                          .wall_us = clock_wall_us()};
    struct msg *m;

    assert_int_equal(compose(&self->sender, &draft, &m, NULL), 0);
    net_send(self->sock[FAKE_NOTIFY], NULL, 0, m, 0, NULL);
    msg_unref(&m);
}

static inline void
fake_answer(struct fake *self, enum fake_sock s, struct msg *m,
            const char *content)
{
    struct draft draft = {.ident = m->frame,
                          .n_ident = m->i_delim,
                          .msg_type = "apply_reply",
                          .parent = msg_part(m, MSG_HEADER),
                          .metadata = SPAN_LIT("{\"engine\": \"U0\"}"),
                          .content = span_str(content),
                          .buffer = &m->frame[m->i_delim + MSG_BUFFER0],
                          .n_buffers = msg_n_buffers(m),
                          .wall_us = clock_wall_us()};
    struct msg *reply;

    assert_int_equal(compose(&self->sender, &draft, &reply, NULL), 0);
    net_send(self->sock[s], NULL, 0, reply, 0, NULL);
    msg_unref(&reply);
}

static inline void
fake_forge(struct fake *self, enum fake_sock s, struct msg *m)
{
    struct span frame[8];
    uint32_t n = 0;

    while (n < m->i_delim + 6 && n < 8) {
        frame[n] = m->frame[n];
        n++;
    }
    frame[m->i_delim + MSG_PARENT] = msg_part(m, MSG_HEADER);
    frame[m->i_delim + MSG_CONTENT] =
        SPAN_LIT("{\"status\": \"ok\", \"forged\": true}");
    net_send(self->sock[s], frame, n, NULL, 0, NULL);
}

static inline bool
fake_says(struct msg *m, const char *word)
{
    struct span c = msg_part(m, MSG_CONTENT);

    return memmem(c.p, c.n, word, strlen(word)) != NULL;
}

static inline void
fake_work(struct fake *self, enum fake_sock s, struct msg *m)
{
    struct span header = msg_part(m, MSG_HEADER);
    const char *content = "{\"status\": \"ok\"}";

    if (fake_says(m, "goodbye"))
        fake_notify(self, "shutdown_notification", "{\"status\": \"ok\"}");
    if (fake_says(m, "leave")) {
        self->engines = "{\"0\": \"U0\", \"2\": \"U2\"}";
        fake_notify(self, "unregistration_notification",
                    "{\"id\": 1, \"uuid\": \"U1\"}");
    }
    if (fake_says(m, "drop") || fake_says(m, "leave")
        || fake_says(m, "goodbye"))
        return;
    if (fake_says(m, "forge"))
        fake_forge(self, s, m);
    if (fake_says(m, "garbage")) {
        struct span junk[] = {m->frame[0], SPAN_LIT("junk")};

        net_send(self->sock[s], junk, 2, NULL, 0, NULL);
    }
    if (fake_says(m, "raise"))
        content = "{\"status\": \"error\", \"ename\": \"Oops\", \"evalue\": "
                  "\"\", \"traceback\": [], \"engine_info\": {\"a\": 1}}";
    if (fake_says(m, "print"))
        fake_publish(self, "stream", header,
                     "{\"name\": \"stdout\", \"text\": \"hello\\n\"}");
    if (fake_says(m, "twice"))
        fake_answer(self, s, m, content);
    fake_answer(self, s, m, content);
    fake_publish(self, "status", header, "{\"execution_state\": \"idle\"}");
}

static inline void
fake_introduce(struct fake *self, enum fake_sock s, struct msg *m)
{
    char content[512];

    snprintf(content, sizeof(content), "{\"status\": \"ok\", \"engines\": %s}",
             atomic_load(&self->engines));
    fake_answer(self, s, m, content);
}

static inline void
fake_serve(struct fake *self, enum fake_sock s)
{
    struct header_view header;
    struct msg *m;

    while (net_recv(self->sock[s], &m, NULL) == 0) {
        if (msg_parse(m, &msg_limits_default, NULL) == 0
            && session_admit(self->session, m, NULL) == 0
            && scan_header(msg_part(m, MSG_HEADER), &header, NULL) == 0) {
            if (span_is(header.msg_type, "connection_request"))
                fake_introduce(self, s, m);
            else
                fake_work(self, s, m);
            atomic_fetch_add(&self->n_served, 1);
        }
        msg_unref(&m);
    }
}

static inline void *
fake_main(void *arg)
{
    struct fake *self = arg;

    while (!atomic_load(&self->stop)) {
        struct net_pollitem item[N_FAKE];

        for (int i = 0; i < N_FAKE; i++)
            item[i] = (struct net_pollitem){
                .sock = self->sock[i],
                .events = i == FAKE_NOTIFY || i == FAKE_IOPUB ? 0 : NET_IN};
        if (net_poll(item, N_FAKE, 20) <= 0)
            continue;
        for (enum fake_sock i = 0; i < N_FAKE; i++)
            if (item[i].revents)
                fake_serve(self, i);
    }
    return NULL;
}

static inline void
fake_bind(struct fake *self)
{
    // A PUB of libzmq that closes at once may abort over half a message.
    static const struct net_options options = {.linger_ms = 50};
    rh_error err;

    for (int i = 0; i < N_FAKE; i++) {
        enum net_type type =
            i == FAKE_NOTIFY || i == FAKE_IOPUB ? NET_PUB : NET_ROUTER;
        char url[64];

        snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", self->port[i]);
        assert_int_equal(
            net_open(&self->sock[i], self->ctx, type, &options, &err), 0);
        while (net_bind(self->sock[i], url, &self->port[i], &err) < 0)
            usleep(1000); // the system may still hold the port
    }
    assert_int_equal(pthread_create(&self->thread, NULL, fake_main, self), 0);
}

static inline void
fake_stop(struct fake *self)
{
    if (!atomic_exchange(&self->stop, true))
        pthread_join(self->thread, NULL);
    for (int i = 0; i < N_FAKE; i++)
        net_close(&self->sock[i]);
}

/* End all connections, and start again on the same ports. */
static inline void
fake_restart(struct fake *self, const char *engines)
{
    fake_stop(self);
    atomic_store(&self->stop, false);
    self->engines = engines;
    fake_bind(self);
}

static inline void
fake_open(struct fake *self)
{
    rh_error err;

    *self = (struct fake){.engines =
                              "{\"0\": \"U0\", \"1\": \"U1\", \"2\": \"U2\"}"};
    assert_int_equal(net_ctx_new(&self->ctx, &err), 0);
    assert_int_equal(
        session_new(&self->session, SPAN_LIT(FAKE_KEY), "hmac-sha256", &err),
        0);
    assert_int_equal(
        sender_init(&self->sender, self->session, "fake", "fake", &err), 0);
    fake_bind(self);
    snprintf(self->json, sizeof(self->json),
             "{\"ssh\": \"\", \"interface\": \"tcp://127.0.0.1\", "
             "\"registration\": %d, \"control\": %d, \"mux\": %d, \"task\": "
             "%d, \"task_scheme\": \"leastload\", \"iopub\": %d, "
             "\"notification\": %d, \"broadcast\": %d, \"key\": \"" FAKE_KEY
             "\", \"curve_serverkey\": null, \"location\": \"here\", "
             "\"pack\": \"json\", \"unpack\": \"json\", "
             "\"signature_scheme\": \"hmac-sha256\"}",
             self->port[FAKE_QUERY], self->port[FAKE_CONTROL],
             self->port[FAKE_MUX], self->port[FAKE_TASK],
             self->port[FAKE_IOPUB], self->port[FAKE_NOTIFY],
             self->port[FAKE_BROADCAST]);
}

static inline void
fake_close(struct fake *self)
{
    fake_stop(self);
    net_ctx_free(&self->ctx);
    sender_fini(&self->sender);
    session_free(&self->session);
}

#endif /* TESTS_CLIENT_FAKE_H */
