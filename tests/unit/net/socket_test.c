/* socket_test.c - whole messages over real sockets, all inside one process */
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include <sys/socket.h>

#include "net/local.h"
#include "net/net.h"

#define WAIT_MS 20000 // only ever waited for when something is broken

static struct net_ctx *ctx;
/* All that open_sock made: sockets move only when they are polled. */
#define N_OPEN 8
static struct net_sock *opened[N_OPEN];

static int
set_up(void **state)
{
    rh_error err;

    (void)state;
    return net_ctx_new(&ctx, &err);
}

static int
tear_down(void **state)
{
    (void)state;
    net_ctx_free(&ctx);
    return ctx != NULL;
}

static struct net_sock *
open_sock(enum net_type type, const char *identity)
{
    struct net_options options = {.identity = span_str(identity)};
    struct net_sock *s = NULL;
    rh_error err;

    assert_int_equal(net_open(&s, ctx, type, &options, &err), 0);
    for (size_t i = 0; i < N_OPEN; i++)
        if (!opened[i])
            return opened[i] = s;
    fail_msg("more than %d sockets", N_OPEN);
    return NULL;
}

static void
join(struct net_sock *bound, struct net_sock *other)
{
    char url[64];
    int port = 0;
    rh_error err;

    assert_int_equal(net_bind(bound, "tcp://127.0.0.1:0", &port, &err), 0);
    assert_in_range(port, 1, 65535);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    assert_int_equal(net_connect(other, url, &err), 0);
}

/* Wait for a message; the other sockets are kept going meanwhile. */
static void
await_input(struct net_sock *s)
{
    struct net_pollitem item[1 + N_OPEN] = {{.sock = s, .events = NET_IN}};
    size_t n = 1;

    for (size_t i = 0; i < N_OPEN; i++)
        if (opened[i] && opened[i] != s)
            item[n++].sock = opened[i];
    assert_int_equal(net_poll(item, n, WAIT_MS), 1);
    assert_int_equal(item[0].revents, NET_IN);
}

static struct msg *
await(struct net_sock *s)
{
    struct msg *m = NULL;
    rh_error err;

    await_input(s);
    assert_int_equal(net_recv(s, &m, &err), 0);
    return m;
}

static void
close_sock(struct net_sock **s)
{
    for (size_t i = 0; i < N_OPEN; i++)
        if (opened[i] == *s)
            opened[i] = NULL;
    net_close(s);
}

static void
put(struct net_sock *s, struct msg *m)
{
    rh_error err;

    assert_int_equal(net_send(s, NULL, 0, m, 0, &err), 0);
}

/* Sizes around every way a frame can be stored or shared. */
static void
test_frames_arrive_unchanged(void **state)
{
    static const size_t sizes[] = {0, 1, 33, 34, 8191, 8192, 8193, 300000};
    struct net_sock *a = open_sock(NET_DEALER, "a");
    struct net_sock *b = open_sock(NET_ROUTER, NULL);
    struct span frame[8];
    uint8_t *bytes = mem_alloc(300000 + 8);
    struct msg *m, *got;

    (void)state;
    join(b, a);
    for (size_t i = 0; i < 300000 + 8; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    for (size_t i = 0; i < 8; i++)
        frame[i] = span_of(bytes + i, sizes[i]);
    m = msg_new(frame, 8);
    put(a, m);
    msg_unref(&m);
    got = await(b);
    assert_int_equal(got->n, 9);
    assert_true(span_is(got->frame[0], "a"));
    for (size_t i = 0; i < 8; i++)
        assert_true(span_eq(got->frame[i + 1], frame[i]));
    assert_int_equal(net_recv(b, &m, NULL), RH_EAGAIN);
    msg_unref(&got);
    mem_free(bytes);
    close_sock(&a);
    close_sock(&b);
    assert_null(a);
}

/* A relay: new prefix, the rest from frame 'first' on, to several peers. */
static void
test_relay_shares_frames(void **state)
{
    struct net_sock *in = open_sock(NET_ROUTER, NULL);
    struct net_sock *client = open_sock(NET_DEALER, "client");
    struct net_sock *out = open_sock(NET_ROUTER, "mux_out");
    struct net_sock *engine[2] = {open_sock(NET_DEALER, "E0"),
                                  open_sock(NET_DEALER, "E1")};
    static uint8_t big[100000];
    struct span frame[] = {
        SPAN_LIT("E0"), SPAN_LIT("head"), {big, sizeof(big)}};
    struct msg *m, *got, *hello[2];
    rh_error err;

    (void)state;
    memset(big, 'x', sizeof(big));
    m = msg_new(frame, 3);
    join(in, client);
    join(out, engine[0]);
    join(out, engine[1]);
    for (size_t i = 0; i < 2; i++) { // now the router knows both
        put(engine[i], m);
        hello[i] = await(out);
    }
    put(client, m);
    msg_unref(&m);
    got = await(in);
    for (size_t i = 0; i < 2; i++) {
        struct span prefix[] = {hello[i]->frame[0], got->frame[0]};

        assert_int_equal(net_send(out, prefix, 2, got, 2, &err), 0);
    }
    msg_unref(&got);
    for (size_t i = 0; i < 2; i++) {
        got = await(engine[i]);
        assert_int_equal(got->n, 3);
        assert_true(span_is(got->frame[0], "client"));
        assert_true(span_is(got->frame[1], "head"));
        assert_true(span_eq(got->frame[2], frame[2]));
        msg_unref(&got);
        msg_unref(&hello[i]);
        close_sock(&engine[i]);
    }
    close_sock(&in);
    close_sock(&out);
    close_sock(&client);
}

struct copier {
    struct msg *m;
    struct net_sock *out;
    pthread_t thread;
};

static void *
copy_many(void *arg)
{
    struct copier *self = arg;

    for (int i = 0; i < 200; i++)
        if (net_send(self->out, NULL, 0, self->m, 0, NULL) < 0)
            return self;
    return NULL;
}

/* Two threads share one received message at once; run with tsan it shows
 * whether the first sharing is guarded.
 */
static void
test_threads_may_share_one_message(void **state)
{
    struct net_sock *a = open_sock(NET_DEALER, NULL);
    struct net_sock *b = open_sock(NET_DEALER, NULL);
    struct net_sock *sink = open_sock(NET_DEALER, NULL);
    struct copier c[2];
    static uint8_t big[500];
    struct span frame = {big, sizeof(big)};
    struct msg *m = msg_new(&frame, 1), *got;

    (void)state;
    join(b, a);
    put(a, m);
    msg_unref(&m);
    got = await(b);
    for (size_t i = 0; i < 2; i++) {
        c[i].m = got;
        c[i].out = open_sock(NET_DEALER, NULL);
        join(sink, c[i].out);
    }
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&c[i].thread, NULL, copy_many, &c[i]),
                         0);
    for (size_t i = 0; i < 2; i++) {
        void *failed;

        pthread_join(c[i].thread, &failed);
        assert_null(failed);
    }
    for (int i = 0; i < 400; i++) {
        m = await(sink);
        assert_true(span_eq(m->frame[0], got->frame[0]));
        msg_unref(&m);
    }
    msg_unref(&got);
    for (size_t i = 0; i < 2; i++)
        close_sock(&c[i].out);
    close_sock(&a);
    close_sock(&b);
    close_sock(&sink);
}

static void
test_too_many_frames_are_dropped(void **state)
{
    struct net_options options = {.max_frames = 40};
    struct net_sock *a = open_sock(NET_DEALER, NULL), *b;
    struct span frame[41];
    struct msg *m, *got = NULL;
    rh_error err;

    (void)state;
    assert_int_equal(net_open(&b, ctx, NET_DEALER, &options, &err), 0);
    join(b, a);
    for (size_t i = 0; i < 41; i++)
        frame[i] = SPAN_LIT("x");
    m = msg_new(frame, 41);
    put(a, m);
    msg_unref(&m);
    m = msg_new(frame, 40);
    put(a, m);
    await_input(b);
    assert_int_equal(net_recv(b, &got, &err), RH_ELIMIT);
    assert_non_null(strstr(err.text, "40"));
    got = await(b);
    assert_int_equal(got->n, 40);
    msg_unref(&got);
    msg_unref(&m);
    close_sock(&a);
    close_sock(&b);
}

static void
test_send_without_a_peer(void **state)
{
    struct net_sock *s = open_sock(NET_DEALER, NULL);
    struct span frame = SPAN_LIT("x");
    struct msg *m = msg_new(&frame, 1);
    rh_error err;

    (void)state;
    assert_int_equal(net_bind(s, "tcp://127.0.0.1:*", NULL, &err), 0);
    assert_int_equal(net_send(s, NULL, 0, m, 0, &err), RH_EAGAIN);
    assert_int_equal(net_events(s), 0);
    assert_true(net_fd(s) >= 0);
    msg_unref(&m);
    close_sock(&s);
}

static void
test_publish_and_subscribe(void **state)
{
    struct net_sock *pub = open_sock(NET_XPUB, NULL);
    struct net_sock *sub = open_sock(NET_SUB, NULL);
    struct span topic = SPAN_LIT("engine.0.stdout");
    struct msg *m;
    rh_error err;

    (void)state;
    assert_int_equal(net_set_verbose(pub), 0);
    assert_int_equal(net_subscribe(sub, SPAN_LIT("engine"), &err), 0);
    join(pub, sub);
    m = await(pub);
    assert_true(span_is(m->frame[0], "\1engine"));
    msg_unref(&m);
    assert_int_equal(net_send(pub, &topic, 1, NULL, 0, &err), 0);
    m = await(sub);
    assert_true(span_eq(m->frame[0], topic));
    msg_unref(&m);
    close_sock(&pub);
    close_sock(&sub);
}

static void
test_refusals_say_why(void **state)
{
    struct net_curve curve = {.server_key = "short"};
    static uint8_t name[256];
    struct net_options options = {.identity = {name, sizeof(name)}};
    struct net_sock *s = NULL, *t;
    rh_error err;

    (void)state;
    assert_int_equal(net_open(&s, ctx, NET_DEALER, &options, &err), RH_EINVAL);
    assert_non_null(strstr(err.text, "256 bytes"));
    options.identity = SPAN_NONE;
    options.curve = &curve;
    assert_int_equal(net_open(&s, ctx, NET_DEALER, &options, &err), RH_EINVAL);
    assert_non_null(strstr(err.text, "server key is 5"));
    assert_null(s);
    s = open_sock(NET_DEALER, NULL);
    assert_int_equal(net_connect(s, "nonsense", &err), RH_EINVAL);
    assert_non_null(strstr(err.text, "nonsense"));
    t = open_sock(NET_DEALER, NULL);
    join(t, s);
    close_sock(&s);
    close_sock(&t);
}

static bool
answers_locally(const char *key, int port)
{
    const struct net_codec codec = {"json", "json", span_str(key),
                                    "hmac-sha256"};
    char secret[LOCAL_SECRET];
    struct address at;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), rc;

    local_secret(&codec, secret);
    assert_int_equal(strlen(secret), *key ? LOCAL_SECRET - 1 : 0);
    if (!local_address(secret, (unsigned)port, &at))
        at = (struct address){.n = 0};
    rc = connect(fd, &at.sa, at.n);
    close(fd);
    return rc == 0;
}

/* Who has the key finds the short way to a TCP port of this machine. */
static void
test_local_address(void **state)
{
    const struct net_codec codec = {"json", "json", SPAN_LIT("secret"),
                                    "hmac-sha256"};
    struct net_options options = {.codec = &codec};
    struct net_sock *s = NULL;
    int port;

    (void)state;
    assert_int_equal(net_open(&s, ctx, NET_ROUTER, &options, NULL), 0);
    assert_int_equal(net_bind(s, "tcp://127.0.0.1:0", &port, NULL), 0);
    assert_true(answers_locally("secret", port));
    assert_false(answers_locally("secrets", port));
    assert_false(answers_locally("", port));
    assert_false(answers_locally("secret", 0));
    net_close(&s);
    assert_false(answers_locally("secret", port));
}

static void
test_curve_encrypts_both_ways(void **state)
{
    struct net_curve server = {.server = true}, client = {0}, wrong;
    struct net_options options = {.curve = &server};
    struct net_sock *a, *b;
    struct span frame = SPAN_LIT("secret");
    struct msg *m = msg_new(&frame, 1), *got;
    char public_key[41];
    rh_error err;

    (void)state;
    if (!net_has_curve()) {
        msg_unref(&m);
        skip();
    }
    assert_int_equal(
        net_curve_keypair(server.public_key, server.secret_key, &err), 0);
    assert_int_equal(net_curve_public(public_key, server.secret_key, &err), 0);
    assert_string_equal(public_key, server.public_key);
    assert_int_equal(
        net_curve_keypair(client.public_key, client.secret_key, &err), 0);
    memcpy(client.server_key, server.public_key, 41);
    assert_int_equal(net_open(&a, ctx, NET_DEALER, &options, &err), 0);
    options.curve = &client;
    assert_int_equal(net_open(&b, ctx, NET_DEALER, &options, &err), 0);
    join(a, b);
    put(b, m);
    got = await(a);
    assert_true(span_is(got->frame[0], "secret"));
    put(a, got);
    msg_unref(&got);
    got = await(b);
    assert_true(span_is(got->frame[0], "secret"));
    msg_unref(&got);
    msg_unref(&m);
    close_sock(&a);
    close_sock(&b);

    wrong = client;
    wrong.server_key[0] = ' ';
    options.curve = &wrong;
    assert_int_equal(net_open(&b, ctx, NET_DEALER, &options, &err), RH_EINVAL);
}

static void
test_poll_reports_plain_descriptors(void **state)
{
    struct net_pollitem item = {.events = NET_IN};
    struct net_pollitem many[40];
    int p[2];

    (void)state;
    assert_int_equal(pipe(p), 0);
    item.fd = p[0];
    assert_int_equal(net_poll(&item, 1, 0), 0);
    assert_int_equal(write(p[1], "x", 1), 1);
    assert_int_equal(net_poll(&item, 1, WAIT_MS), 1);
    assert_int_equal(item.revents, NET_IN);
    for (size_t i = 0; i < 40; i++)
        many[i] = (struct net_pollitem){.fd = p[0], .events = NET_IN};
    assert_int_equal(net_poll(many, 40, WAIT_MS), 40);
    close(p[0]);
    close(p[1]);
}

static void
test_out_of_memory(void **state)
{
    struct net_sock *a = open_sock(NET_DEALER, NULL);
    struct net_sock *b = open_sock(NET_DEALER, NULL), *s = NULL;
    struct net_options options = {.linger_ms = 0};
    struct span frame = SPAN_LIT("x");
    struct msg *m = msg_new(&frame, 1), *got = NULL;
    int rc;

    (void)state;
    OOM_SWEEP(rc, { rc = net_open(&s, ctx, NET_DEALER, &options, NULL); });
    close_sock(&s);
    join(b, a);
    OOM_SWEEP(rc, { rc = net_send(a, NULL, 0, m, 0, NULL); });
    for (int i = 0; i < 3; i++) // each failure may cost one message
        put(a, m);
    OOM_SWEEP(rc, {
        mem_fail_after(-1);
        await_input(b);
        mem_fail_after(oom_n_ - 1);
        rc = net_recv(b, &got, NULL);
    });
    assert_int_equal(rc, 0);
    msg_unref(&got);
    msg_unref(&m);
    close_sock(&a);
    close_sock(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_arrive_unchanged),
        cmocka_unit_test(test_relay_shares_frames),
        cmocka_unit_test(test_threads_may_share_one_message),
        cmocka_unit_test(test_too_many_frames_are_dropped),
        cmocka_unit_test(test_send_without_a_peer),
        cmocka_unit_test(test_publish_and_subscribe),
        cmocka_unit_test(test_refusals_say_why),
        cmocka_unit_test(test_local_address),
        cmocka_unit_test(test_curve_encrypts_both_ways),
        cmocka_unit_test(test_poll_reports_plain_descriptors),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests_name("net.socket", tests, set_up, tear_down);
}
