/* interop_test.c - our DEALER and ROUTER with libzmq's
 *
 * libzmq's half lives in a thread of its own; ours moves in net_poll.
 */
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <zmq.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/net.h"

#define WAIT_MS 20000 // only ever waited for when something is broken
#define N_FRAMES 300
#define LARGE 5000000

static struct net_ctx *ctx;
static void *zmq;
static struct span frame[N_FRAMES];

static int
set_up(void **state)
{
    uint8_t *bytes = mem_alloc(LARGE + N_FRAMES);
    rh_error err;

    (void)state;
    zmq = zmq_ctx_new();
    if (!zmq || !bytes || net_ctx_new(&ctx, &err) < 0)
        return -1;
    for (size_t i = 0; i < LARGE + N_FRAMES; i++)
        bytes[i] = (uint8_t)(i * 11 + i / 257);
    // Every length around one byte of size, some around 16 KiB, one large.
    for (size_t i = 0; i < N_FRAMES; i++)
        frame[i] = span_of(bytes + i, i == 200 ? LARGE : i);
    for (size_t i = 280; i < N_FRAMES; i++)
        frame[i].n = 16384 - 290 + i;
    *state = bytes;
    return 0;
}

static int
tear_down(void **state)
{
    mem_free(*state);
    net_ctx_free(&ctx);
    return zmq_ctx_term(zmq);
}

static struct net_sock *
open_ours(enum net_type type, const char *identity)
{
    struct net_options options = {.identity = span_str(identity),
                                  .linger_ms = WAIT_MS};
    struct net_sock *s = NULL;
    rh_error err;

    assert_int_equal(net_open(&s, ctx, type, &options, &err), 0);
    return s;
}

static void *
open_theirs(int type, const char *identity)
{
    void *s = zmq_socket(zmq, type);
    int linger = 0, limit = 0;

    assert_non_null(s);
    zmq_setsockopt(s, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_setsockopt(s, ZMQ_SNDHWM, &limit, sizeof(limit));
    zmq_setsockopt(s, ZMQ_RCVHWM, &limit, sizeof(limit));
    if (identity)
        zmq_setsockopt(s, ZMQ_ROUTING_ID, identity, strlen(identity));
    return s;
}

static void
step(struct net_sock *ours)
{
    struct net_pollitem item = {.sock = ours};

    assert_int_equal(net_poll(&item, 1, 5), 0);
}

/* The next frame that libzmq has received; is it this one? */
static void
expect(struct net_sock *ours, void *theirs, struct span wanted)
{
    int64_t end_ms = clock_mono_ms() + WAIT_MS;
    zmq_msg_t got;

    zmq_msg_init(&got);
    while (zmq_msg_recv(&got, theirs, ZMQ_DONTWAIT) < 0) {
        assert_int_equal(errno, EAGAIN);
        assert_true(clock_mono_ms() < end_ms);
        step(ours);
    }
    assert_true(
        span_eq(wanted, span_of(zmq_msg_data(&got), zmq_msg_size(&got))));
    zmq_msg_close(&got);
}

static void
give(void *theirs, struct span s, bool more)
{
    assert_true(zmq_send(theirs, s.p, s.n, more ? ZMQ_SNDMORE : 0) >= 0);
}

static struct msg *
receive(struct net_sock *ours)
{
    struct net_pollitem item = {.sock = ours, .events = NET_IN};
    struct msg *m = NULL;

    assert_int_equal(net_poll(&item, 1, WAIT_MS), 1);
    assert_int_equal(net_recv(ours, &m, NULL), 0);
    return m;
}

static void
send_all(struct net_sock *ours, const struct span *prefix, size_t n)
{
    struct msg *m = msg_new(frame, N_FRAMES);

    assert_int_equal(net_send(ours, prefix, n, m, 0, NULL), 0);
    msg_unref(&m);
}

/* Both ways, twice, all frames; 'ours' connects. */
static void
test_dealer_to_their_router(void **state)
{
    struct net_sock *ours = open_ours(NET_DEALER, "ours");
    void *theirs = open_theirs(ZMQ_ROUTER, NULL);
    char url[256];
    size_t n = sizeof(url);
    rh_error err;

    (void)state;
    assert_int_equal(zmq_bind(theirs, "tcp://127.0.0.1:*"), 0);
    zmq_getsockopt(theirs, ZMQ_LAST_ENDPOINT, url, &n);
    assert_int_equal(net_connect(ours, url, &err), 0);
    for (int round = 0; round < 2; round++) {
        struct msg *m;

        send_all(ours, NULL, 0);
        expect(ours, theirs, SPAN_LIT("ours"));
        for (size_t i = 0; i < N_FRAMES; i++)
            expect(ours, theirs, frame[i]);
        give(theirs, SPAN_LIT("ours"), true);
        for (size_t i = 0; i < N_FRAMES; i++)
            give(theirs, frame[i], i + 1 < N_FRAMES);
        m = receive(ours);
        assert_int_equal(m->n, N_FRAMES);
        for (size_t i = 0; i < N_FRAMES; i++)
            assert_true(span_eq(m->frame[i], frame[i]));
        msg_unref(&m);
    }
    net_close(&ours);
    zmq_close(theirs);
}

/* ... and libzmq connects, with a name or without, a DEALER or a REQ. */
static void
test_router_for_their_sockets(void **state)
{
    static const struct {
        int type;
        const char *name;
    } cases[] = {{ZMQ_DEALER, "theirs"}, {ZMQ_DEALER, NULL}, {ZMQ_REQ, NULL}};
    struct net_sock *ours = open_ours(NET_ROUTER, NULL);
    char url[64];
    int port = 0;
    rh_error err;

    (void)state;
    assert_int_equal(net_bind(ours, "tcp://127.0.0.1:0", &port, &err), 0);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
        void *theirs = open_theirs(cases[k].type, cases[k].name);
        size_t first = cases[k].type == ZMQ_REQ ? 2 : 1;
        struct msg *m;

        assert_int_equal(zmq_connect(theirs, url), 0);
        for (size_t i = 0; i < N_FRAMES; i++)
            give(theirs, frame[i], i + 1 < N_FRAMES);
        m = receive(ours);
        assert_int_equal(m->n, N_FRAMES + first);
        if (cases[k].name)
            assert_true(span_is(m->frame[0], cases[k].name));
        for (size_t i = 0; i < N_FRAMES; i++)
            assert_true(span_eq(m->frame[first + i], frame[i]));
        assert_int_equal(net_send(ours, NULL, 0, m, 0, NULL), 0);
        for (size_t i = 0; i < N_FRAMES; i++)
            expect(ours, theirs, frame[i]);
        msg_unref(&m);
        zmq_close(theirs);
    }
    net_close(&ours);
}

/* Their ROUTER goes and comes back at the same address. */
static void
test_dealer_finds_a_router_again(void **state)
{
    struct net_sock *ours = open_ours(NET_DEALER, "ours");
    struct span text = SPAN_LIT("again");
    char url[256];
    size_t n = sizeof(url);
    rh_error err;

    (void)state;
    assert_int_equal(net_monitor(ours, ctx, &err), 0);
    for (int round = 0; round < 3; round++) {
        void *theirs = open_theirs(ZMQ_ROUTER, NULL);
        int64_t end_ms = clock_mono_ms() + WAIT_MS;

        while (zmq_bind(theirs, round ? url : "tcp://127.0.0.1:*") < 0)
            assert_true(errno == EADDRINUSE && clock_mono_ms() < end_ms);
        if (round == 0) {
            zmq_getsockopt(theirs, ZMQ_LAST_ENDPOINT, url, &n);
            assert_int_equal(net_connect(ours, url, &err), 0);
        }
        assert_int_equal(net_send(ours, &text, 1, NULL, 0, NULL), 0);
        expect(ours, theirs, SPAN_LIT("ours"));
        expect(ours, theirs, text);
        assert_int_equal(net_monitor_read(ours), NET_UP);
        zmq_close(theirs);
        while (net_monitor_read(ours) != NET_LOST) {
            assert_true(clock_mono_ms() < end_ms);
            step(ours);
        }
    }
    net_set_linger(ours, 0);
    net_close(&ours);
}

/* Our ROUTER does; their DEALER sends again when it is there. */
static void
test_their_dealer_finds_our_router_again(void **state)
{
    void *theirs = open_theirs(ZMQ_DEALER, "theirs");
    int soon_ms = 10, port = 0;
    char url[64] = "tcp://127.0.0.1:0";
    rh_error err;

    (void)state;
    zmq_setsockopt(theirs, ZMQ_RECONNECT_IVL, &soon_ms, sizeof(soon_ms));
    for (int round = 0; round < 3; round++) {
        struct net_sock *ours = open_ours(NET_ROUTER, NULL);
        struct msg *m;

        assert_int_equal(net_bind(ours, url, &port, &err), 0);
        if (round == 0) {
            snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
            assert_int_equal(zmq_connect(theirs, url), 0);
        }
        do { // what it sends before it notices is lost
            struct net_pollitem item = {.sock = ours, .events = NET_IN};

            give(theirs, SPAN_LIT("x"), false);
            if (net_poll(&item, 1, 20))
                break;
        } while (true);
        m = receive(ours);
        assert_true(span_is(m->frame[0], "theirs"));
        msg_unref(&m);
        net_close(&ours);
    }
    zmq_close(theirs);
}

/* libzmq asks whether we are alive, and hangs up if we are not. */
static void
test_heartbeats_of_libzmq(void **state)
{
    struct net_sock *ours = open_ours(NET_ROUTER, NULL);
    void *theirs = open_theirs(ZMQ_DEALER, "theirs");
    int every_ms = 20, patience_ms = WAIT_MS, port = 0;
    char url[64];
    struct msg *m;
    rh_error err;

    (void)state;
    assert_int_equal(net_bind(ours, "tcp://127.0.0.1:0", &port, &err), 0);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    zmq_setsockopt(theirs, ZMQ_HEARTBEAT_IVL, &every_ms, sizeof(every_ms));
    zmq_setsockopt(theirs, ZMQ_HEARTBEAT_TIMEOUT, &patience_ms,
                   sizeof(patience_ms));
    assert_int_equal(zmq_connect(theirs, url), 0);
    give(theirs, SPAN_LIT("x"), false);
    m = receive(ours);
    for (int i = 0; i < 20; i++)
        step(ours); // its questions arrive, and our answers
    assert_int_equal(net_send(ours, NULL, 0, m, 0, NULL), 0);
    expect(ours, theirs, SPAN_LIT("x"));
    msg_unref(&m);
    zmq_close(theirs);
    net_close(&ours);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dealer_to_their_router),
        cmocka_unit_test(test_router_for_their_sockets),
        cmocka_unit_test(test_dealer_finds_a_router_again),
        cmocka_unit_test(test_their_dealer_finds_our_router_again),
        cmocka_unit_test(test_heartbeats_of_libzmq),
    };

    return cmocka_run_group_tests_name("net.interop", tests, set_up, tear_down);
}
