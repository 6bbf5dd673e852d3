/* direct_test.c - DEALER and ROUTER against a peer written by hand
 *
 * The peer is a plain descriptor of the same thread: the socket moves only in
 * the loops UNTIL and read_exactly, and the peer only when the test says so.
 */
#include "support.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/direct.h"
#include "stream.h"

#define WAIT_MS 20000 // only ever waited for when something is broken

static struct net_ctx *ctx;
static uint8_t big[4000000];

static int
set_up(void **state)
{
    rh_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i * 17 + i / 253);
    return net_ctx_new(&ctx, &err);
}

static int
tear_down(void **state)
{
    (void)state;
    net_ctx_free(&ctx);
    return 0;
}

static struct direct *
inside(struct net_sock *s)
{
    return (struct direct *)(void *)s;
}

static struct net_sock *
open_with(enum net_type type, struct net_options options)
{
    struct net_sock *s = NULL;
    rh_error err;

    assert_int_equal(net_open(&s, ctx, type, &options, &err), 0);
    return s;
}

static struct net_sock *
open_sock(enum net_type type, const char *identity)
{
    return open_with(type,
                     (struct net_options){.identity = span_str(identity)});
}

/* Let the socket do what it can do now, without receiving. */
static void
step(struct net_sock *s)
{
    struct net_pollitem item = {.sock = s};

    assert_true(net_poll(&item, 1, 5) == 0);
}

#define UNTIL(s, condition)                          \
    do {                                             \
        int64_t end_ms_ = clock_mono_ms() + WAIT_MS; \
        while (!(condition)) {                       \
            assert_true(clock_mono_ms() < end_ms_);  \
            step(s);                                 \
        }                                            \
    } while (0)

static struct msg *
receive(struct net_sock *s)
{
    struct net_pollitem item = {.sock = s, .events = NET_IN};
    struct msg *m = NULL;

    assert_int_equal(net_poll(&item, 1, WAIT_MS), 1);
    assert_int_equal(net_recv(s, &m, NULL), 0);
    return m;
}

static void
send_text(struct net_sock *s, const char *text)
{
    struct span frame = span_str(text);

    assert_int_equal(net_send(s, &frame, 1, NULL, 0, NULL), 0);
}

// ---------------------------------------------------------------------------
// The peer

static int
listen_at(int *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, n), 0);
    assert_int_equal(listen(fd, 100), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static void
connect_sock(struct net_sock *s, int port)
{
    char url[64];
    rh_error err;

    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    assert_int_equal(net_connect(s, url, &err), 0);
}

static int
bind_sock(struct net_sock *s)
{
    int port = 0;
    rh_error err;

    assert_int_equal(net_bind(s, "tcp://127.0.0.1:0", &port, &err), 0);
    return port;
}

static int
accept_from(struct net_sock *s, int listener)
{
    int fd = -1;

    UNTIL(s, (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0);
    return fd;
}

static int
dial(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void
write_all(int fd, const struct buf *b)
{
    assert_int_equal(send(fd, b->p, b->n, MSG_NOSIGNAL), (ssize_t)b->n);
}

static void
say_hello(int fd, enum net_type type, const char *identity)
{
    struct buf b = {0};

    add_hello(&b, type, identity);
    write_all(fd, &b);
    buf_fini(&b);
}

static void
say(int fd, const char *text)
{
    struct buf b = {0};

    ADD_MESSAGE(&b, text);
    write_all(fd, &b);
    buf_fini(&b);
}

/* The next bytes from the socket are these. */
static void
read_exactly(struct net_sock *s, int fd, struct span wanted)
{
    static uint8_t got[65536];
    int64_t end_ms = clock_mono_ms() + WAIT_MS;

    while (wanted.n) {
        size_t max = wanted.n < sizeof(got) ? wanted.n : sizeof(got);
        ssize_t n = recv(fd, got, max, MSG_DONTWAIT);

        assert_true(n != 0 && clock_mono_ms() < end_ms);
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            step(s);
            continue;
        }
        assert_memory_equal(got, wanted.p, (size_t)n);
        wanted = span_of(wanted.p + n, wanted.n - (size_t)n);
    }
}

static void
read_hello(struct net_sock *s, int fd, enum net_type type, const char *identity)
{
    struct buf b = {0};

    add_hello(&b, type, identity);
    read_exactly(s, fd, buf_span(&b));
    buf_fini(&b);
}

static void
read_text(struct net_sock *s, int fd, const char *text)
{
    struct buf b = {0};

    ADD_MESSAGE(&b, text);
    read_exactly(s, fd, buf_span(&b));
    buf_fini(&b);
}

/* Has the socket closed the connection?  What it said before is skipped. */
static bool
is_closed(int fd)
{
    uint8_t bytes[4096];
    ssize_t n;

    do
        n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    while (n > 0);
    return n == 0 || errno == ECONNRESET;
}

static bool
is_silent(int fd)
{
    uint8_t byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

// ---------------------------------------------------------------------------
// A DEALER that connects

static void
test_handshake_and_messages(void **state)
{
    struct net_sock *s = open_sock(NET_DEALER, "me");
    int port, listener = listen_at(&port), fd;
    struct msg *m;

    (void)state;
    connect_sock(s, port);
    send_text(s, "early"); // waits for the peer
    fd = accept_from(s, listener);
    read_hello(s, fd, NET_DEALER, "me");
    step(s);
    assert_true(is_silent(fd));
    say_hello(fd, NET_ROUTER, NULL);
    read_text(s, fd, "early");
    say(fd, "hi");
    m = receive(s);
    assert_int_equal(m->n, 1);
    assert_true(span_is(m->frame[0], "hi"));
    msg_unref(&m);
    assert_int_equal(net_recv(s, &m, NULL), RH_EAGAIN);
    net_close(&s);
    assert_true(is_closed(fd));
    close(fd);
    close(listener);
}

static enum net_change
next_change(struct net_sock *s)
{
    enum net_change change;

    UNTIL(s, (change = net_monitor_read(s)) != NET_SAME);
    return change;
}

/* The peer dies in the middle of a large message; the next one gets it whole,
 * and what was sent in between, in order.
 */
static void
test_output_outlives_the_peer(void **state)
{
    struct net_sock *s = open_sock(NET_DEALER, "me");
    int port, listener = listen_at(&port), fd;
    struct span large = span_of(big, sizeof(big));
    struct msg *m = msg_new(&large, 1);
    struct buf b = {0};
    rh_error err;

    (void)state;
    assert_int_equal(net_monitor(s, ctx, &err), 0);
    connect_sock(s, port);
    fd = accept_from(s, listener);
    say_hello(fd, NET_ROUTER, NULL);
    read_hello(s, fd, NET_DEALER, "me");
    assert_int_equal(next_change(s), NET_UP);
    add_frame(&b, 0, large);
    for (int i = 0; i < 4; i++) // more than any buffer takes
        assert_int_equal(net_send(s, NULL, 0, m, 0, &err), 0);
    read_exactly(s, fd, span_of(b.p, 100000));
    assert_false(net_flush(s));
    close(fd);
    assert_int_equal(next_change(s), NET_LOST);
    assert_true(poll(&(struct pollfd){net_monitor_fd(s), POLLIN, 0}, 1, 0) == 0
                || net_monitor_read(s) == NET_SAME);
    send_text(s, "later");
    fd = accept_from(s, listener);
    read_hello(s, fd, NET_DEALER, "me");
    say_hello(fd, NET_ROUTER, NULL);
    while (atomic_load(&m->refs) > 1) // those that had left are lost
        read_exactly(s, fd, buf_span(&b));
    read_text(s, fd, "later");
    assert_int_equal(next_change(s), NET_UP);
    assert_true(net_flush(s));
    msg_unref(&m);
    buf_fini(&b);
    net_close(&s);
    close(fd);
    close(listener);
}

static void
test_half_a_message_is_forgotten(void **state)
{
    struct net_sock *s = open_sock(NET_DEALER, NULL);
    int port, listener = listen_at(&port), fd;
    struct buf half = {0};
    struct msg *m;

    (void)state;
    connect_sock(s, port);
    fd = accept_from(s, listener);
    say_hello(fd, NET_ROUTER, NULL);
    add_frame(&half, ZMTP_MORE, SPAN_LIT("begun"));
    add_frame(&half, ZMTP_MORE, span_of(big, 50000));
    half.n -= 1000;
    write_all(fd, &half);
    close(fd);
    fd = accept_from(s, listener);
    say_hello(fd, NET_ROUTER, NULL);
    say(fd, "whole");
    m = receive(s);
    assert_int_equal(m->n, 1);
    assert_true(span_is(m->frame[0], "whole"));
    msg_unref(&m);
    buf_fini(&half);
    net_close(&s);
    close(fd);
    close(listener);
}

/* Time passes at once: the limits of connections in the handshake are over. */
static void
let_time_pass(struct net_sock *s)
{
    struct list *due = &inside(s)->due;

    for (struct list *i = due->next; i != due; i = i->next)
        LIST_ENTRY(i, struct conn, due)->due_ms = clock_mono_ms();
    direct_set_timer(inside(s));
}

static void
test_silent_peers_are_given_up(void **state)
{
    struct net_sock *dealer = open_sock(NET_DEALER, NULL);
    struct net_sock *router = open_sock(NET_ROUTER, NULL);
    int port, listener = listen_at(&port), fd, stranger;

    (void)state;
    connect_sock(dealer, port);
    fd = accept_from(dealer, listener);
    read_hello(dealer, fd, NET_DEALER, NULL);
    let_time_pass(dealer);
    UNTIL(dealer, is_closed(fd));
    close(fd);
    fd = accept_from(dealer, listener); // it tries again
    stranger = dial(bind_sock(router));
    read_hello(router, stranger, NET_ROUTER, NULL);
    let_time_pass(router);
    UNTIL(router, is_closed(stranger));
    assert_true(list_empty(&inside(router)->conns));
    net_close(&dealer);
    net_close(&router);
    close(stranger);
    close(fd);
    close(listener);
}

static void
test_corked_output_leaves(void **state)
{
    struct net_sock *s =
        open_with(NET_DEALER, (struct net_options){.corked = true});
    int port, listener = listen_at(&port), fd;
    struct net_pollitem item = {.sock = s, .events = NET_IN};

    (void)state;
    connect_sock(s, port);
    fd = accept_from(s, listener);
    say_hello(fd, NET_ROUTER, NULL);
    read_hello(s, fd, NET_DEALER, NULL);
    UNTIL(s, !list_empty(&inside(s)->conns)
                 && LIST_ENTRY(inside(s)->conns.next, struct conn, link)->phase
                        == CONN_UP);
    send_text(s, "flush");
    assert_true(is_silent(fd));
    assert_true(net_flush(s));
    read_text(s, fd, "flush");
    send_text(s, "poll");
    assert_true(is_silent(fd));
    assert_int_equal(net_poll(&item, 1, 0), 0);
    read_text(s, fd, "poll");
    for (int i = 0; i < 40; i++) // more than may wait
        assert_int_equal(
            net_send(s, (struct span[]){span_of(big, 1000)}, 1, NULL, 0, NULL),
            0);
    assert_false(is_silent(fd));
    send_text(s, "close");
    net_set_linger(s, WAIT_MS);
    net_close(&s);
    close(fd);
    close(listener);
}

static void
test_close_waits_for_output(void **state)
{
    struct net_sock *router = open_sock(NET_ROUTER, NULL), *s;
    char url[64], text[16];
    int port = bind_sock(router);
    rh_error err;

    (void)state;
    s = open_with(NET_DEALER,
                  (struct net_options){.corked = true, .linger_ms = WAIT_MS});
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    assert_int_equal(net_connect(s, url, &err), 0);
    UNTIL(router, (step(s), inside(router)->names.n) == 1);
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof(text), "%d", i);
        send_text(s, text);
    }
    net_close(&s);
    for (int i = 0; i < 100; i++) {
        struct msg *m = receive(router);

        snprintf(text, sizeof(text), "%d", i);
        assert_true(span_is(m->frame[1], text));
        msg_unref(&m);
    }
    net_close(&router);
}

// ---------------------------------------------------------------------------
// A ROUTER

static bool
is_known(struct net_sock *router, const char *name)
{
    return map_get(&inside(router)->names, span_str(name));
}

static void
test_a_name_is_taken_once(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    int port = bind_sock(s), first = dial(port), second = dial(port);
    struct msg *m;

    (void)state;
    say_hello(first, NET_DEALER, "E0");
    UNTIL(s, is_known(s, "E0"));
    say_hello(second, NET_DEALER, "E0");
    say(second, "impostor");
    UNTIL(s, is_closed(second));
    close(second);
    say(first, "still here");
    m = receive(s);
    assert_true(span_is(m->frame[0], "E0"));
    assert_true(span_is(m->frame[1], "still here"));
    msg_unref(&m);
    close(first);
    UNTIL(s, !is_known(s, "E0"));
    first = dial(port);
    say_hello(first, NET_DEALER, "E0");
    UNTIL(s, is_known(s, "E0"));
    net_close(&s);
    close(first);
}

static void
test_names_are_made_up(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    int port = bind_sock(s), fd[2] = {dial(port), dial(port)};
    struct msg *m[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        say_hello(fd[i], NET_DEALER, NULL);
        say(fd[i], "x");
        m[i] = receive(s);
        assert_int_equal(m[i]->frame[0].n, 5);
        assert_int_equal(m[i]->frame[0].p[0], 0);
        read_hello(s, fd[i], NET_ROUTER, NULL);
    }
    assert_false(span_eq(m[0]->frame[0], m[1]->frame[0]));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(net_send(s, NULL, 0, m[i], 0, NULL), 0);
        read_text(s, fd[i], "x");
        msg_unref(&m[i]);
        close(fd[i]);
    }
    net_close(&s);
}

static void
test_only_a_mandatory_router_says_who_is_missing(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    struct net_sock *must =
        open_with(NET_ROUTER, (struct net_options){.mandatory = true});
    struct span message[] = {SPAN_LIT("E0"), SPAN_LIT("x")};
    int fd = dial(bind_sock(must));

    (void)state;
    assert_int_equal(net_send(s, message, 2, NULL, 0, NULL), 0);
    assert_int_equal(net_send(must, message, 2, NULL, 0, NULL), RH_ENOENT);
    assert_int_equal(net_send(must, NULL, 0, NULL, 0, NULL), RH_ENOENT);
    say_hello(fd, NET_DEALER, "E0");
    UNTIL(must, is_known(must, "E0"));
    assert_int_equal(net_send(must, message, 1, NULL, 0, NULL), 0); // no frame
    assert_int_equal(net_send(must, message, 2, NULL, 0, NULL), 0);
    read_hello(must, fd, NET_ROUTER, NULL);
    read_text(must, fd, "x");
    close(fd);
    UNTIL(must, net_send(must, message, 2, NULL, 0, NULL) == RH_ENOENT);
    net_close(&s);
    net_close(&must);
}

static void
test_ping_gets_pong(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    int fd = dial(bind_sock(s));
    struct buf b = {0};
    struct msg *m;

    (void)state;
    say_hello(fd, NET_DEALER, NULL);
    read_hello(s, fd, NET_ROUTER, NULL);
    add_frame(&b, ZMTP_MORE, SPAN_LIT("a")); // in the middle of a message
    add_frame(&b, ZMTP_COMMAND, SPAN_LIT("\4PING\0\012context"));
    add_frame(&b, 0, SPAN_LIT("b"));
    write_all(fd, &b);
    buf_clear(&b);
    add_frame(&b, ZMTP_COMMAND, SPAN_LIT("\4PONGcontext"));
    read_exactly(s, fd, buf_span(&b));
    m = receive(s);
    assert_int_equal(m->n, 3);
    assert_true(span_is(m->frame[2], "b"));
    msg_unref(&m);
    buf_fini(&b);
    net_close(&s);
    close(fd);
}

// ---------------------------------------------------------------------------
// Peers that mean no good

static size_t
output_of(struct net_sock *s)
{
    size_t n = 0;

    for (struct list *i = inside(s)->conns.next; i != &inside(s)->conns;
         i = i->next)
        n += LIST_ENTRY(i, struct conn, link)->out.n_bytes;
    return n;
}

/* Send it all without reading anything. */
static void
push(struct net_sock *s, int fd, struct span bytes)
{
    while (bytes.n) {
        ssize_t n = send(fd, bytes.p, bytes.n, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
            step(s);
        else
            bytes = span_of(bytes.p + n, bytes.n - (size_t)n);
    }
}

/* It asks and asks and does not listen. */
static void
test_answers_do_not_pile_up(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    int fd = dial(bind_sock(s));
    uint8_t ping[4000] = "\4PING";
    struct buf b = {0};

    (void)state;
    say_hello(fd, NET_DEALER, NULL);
    for (int i = 0; i < 100; i++)
        add_frame(&b, ZMTP_COMMAND, span_of(ping, sizeof(ping)));
    while (output_of(s) == 0) // until the way is blocked
        push(s, fd, buf_span(&b));
    for (int i = 0; i < 5; i++) {
        push(s, fd, buf_span(&b));
        assert_in_range(output_of(s), 1, 8192);
    }
    buf_fini(&b);
    net_close(&s);
    close(fd);
}

/* Noise from many, and many who say nothing: others are served. */
static void
test_noise_harms_nobody(void **state)
{
    enum { N = 150 };
    struct net_sock *s =
        open_with(NET_ROUTER, (struct net_options){.max_msg_size = 100000,
                                                   .max_frames = 100});
    int port = bind_sock(s), good = dial(port), fd[N];
    uint32_t seed = 1;
    struct msg *m;

    (void)state;
    say_hello(good, NET_DEALER, "good");
    for (int i = 0; i < N; i++) {
        struct buf b = {0};

        fd[i] = dial(port);
        if (i % 3)
            add_hello(&b, NET_DEALER, NULL);
        for (int k = 0; i % 5 && k < 3000; k++) {
            seed = seed * 1103515245u + 12345u;
            buf_add_char(&b, (char)(seed >> 16 & (i % 2 ? 0xff : 3)));
        }
        if (b.n && send(fd[i], b.p, b.n, MSG_NOSIGNAL) < 0)
            fail();
        buf_fini(&b);
    }
    say(good, "hello");
    for (bool done = false; !done;) {
        struct net_pollitem item = {.sock = s, .events = NET_IN};

        assert_int_equal(net_poll(&item, 1, WAIT_MS), 1);
        if (net_recv(s, &m, NULL) < 0)
            continue; // of the noise
        done = span_is(m->frame[0], "good");
        assert_true(!done || span_is(m->frame[1], "hello"));
        msg_unref(&m);
    }
    net_close(&s);
    for (int i = 0; i < N; i++)
        close(fd[i]);
    close(good);
}

/* Without a free descriptor the newcomer waits, and nobody spins. */
static void
test_descriptors_run_out(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    int fd = dial(bind_sock(s)), next = dup(fd);
    struct rlimit before, none;
    struct net_pollitem item = {.sock = s, .events = NET_IN};
    struct msg *m;

    (void)state;
    close(next);
    say_hello(fd, NET_DEALER, "E0");
    say(fd, "x");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){(rlim_t)next, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(net_poll(&item, 1, 20), 0);
    assert_true(inside(s)->paused);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    m = receive(s);
    assert_true(span_is(m->frame[1], "x"));
    msg_unref(&m);
    assert_false(inside(s)->paused);
    net_close(&s);
    close(fd);
}

/* A child that holds the descriptors does not keep the connection open. */
static void
test_forked_children_keep_nothing_open(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    int fd = dial(bind_sock(s)), hold[2];
    pid_t child;
    char byte;

    (void)state;
    say_hello(fd, NET_DEALER, "E0");
    UNTIL(s, is_known(s, "E0"));
    assert_int_equal(pipe(hold), 0);
    child = fork();
    if (child == 0) {
        close(hold[1]);
        _exit(read(hold[0], &byte, 1) != 0);
    }
    assert_true(child > 0);
    net_close(&s);
    for (int64_t end = clock_mono_ms() + WAIT_MS; !is_closed(fd);)
        assert_true(clock_mono_ms() < end);
    close(hold[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(hold[0]);
    close(fd);
}

// ---------------------------------------------------------------------------
// Polling

/* Whatever was read is told of until it was received. */
static void
test_nothing_is_forgotten(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    int fd = dial(bind_sock(s));
    struct msg *m;

    (void)state;
    say_hello(fd, NET_DEALER, "E0");
    for (int i = 0; i < 3; i++)
        say(fd, "x");
    for (int i = 0; i < 3; i++) {
        if (i == 1) { // one more, behind those that are here already
            assert_true(net_queued(s));
            say(fd, "y");
        }
        m = receive(s);
        msg_unref(&m);
    }
    m = receive(s);
    assert_true(span_is(m->frame[1], "y"));
    msg_unref(&m);
    assert_false(net_queued(s));
    assert_int_equal(net_recv(s, &m, NULL), RH_EAGAIN);
    assert_int_equal(net_events(s), NET_OUT);
    net_close(&s);
    close(fd);
}

/* Polled without events, with messages that nobody takes. */
static void
test_polling_ends_when_its_time_is_over(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    int fd = dial(bind_sock(s));
    struct net_pollitem item = {.sock = s, .events = NET_OUT};
    struct msg *m;

    (void)state;
    assert_int_equal(net_poll(&item, 1, WAIT_MS), 1); // a ROUTER always can
    assert_int_equal(item.revents, NET_OUT);
    say_hello(fd, NET_DEALER, "E0");
    say(fd, "1");
    UNTIL(s, net_queued(s));
    say(fd, "2");
    item.events = 0;
    assert_int_equal(net_poll(&item, 1, 20), 0);
    assert_int_equal(net_poll(&item, 1, 0), 0);
    assert_int_equal(inside(s)->ring_n, 2); // it did not wake us for nothing
    for (int i = 0; i < 2; i++) {
        m = receive(s);
        assert_true(span_is(m->frame[1], i ? "2" : "1"));
        msg_unref(&m);
    }
    net_close(&s);
    close(fd);
}

static void
test_a_burst_leaves_no_memory_behind(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    int fd = dial(bind_sock(s));
    struct buf b = {0};

    (void)state;
    say_hello(fd, NET_DEALER, "E0");
    for (int i = 0; i < 5000; i++)
        ADD_MESSAGE(&b, "x");
    write_all(fd, &b);
    UNTIL(s, inside(s)->ring_n == 5000);
    for (int i = 0; i < 5000; i++) {
        struct msg *m = receive(s);

        msg_unref(&m);
    }
    assert_int_equal(inside(s)->ring_cap, 0);
    buf_fini(&b);
    net_close(&s);
    close(fd);
}

// ---------------------------------------------------------------------------
// Addresses

static void
test_ipc(void **state)
{
    struct net_sock *router = open_sock(NET_ROUTER, NULL);
    struct net_sock *s = open_sock(NET_DEALER, "me");
    char dir[] = "/tmp/roundhouse-test-XXXXXX", path[64], url[80], far[200];
    struct stat st;
    struct msg *m;
    int port = 1;
    rh_error err;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/sock", dir);
    snprintf(url, sizeof(url), "ipc://%s", path);
    assert_int_equal(net_connect(s, url, &err), 0); // nobody is there yet
    send_text(s, "hello");
    assert_int_equal(net_bind(router, url, &port, &err), 0);
    assert_int_equal(port, 0);
    UNTIL(router, (step(s), net_queued(router)));
    assert_int_equal(net_recv(router, &m, NULL), 0);
    assert_int_equal(net_send(router, NULL, 0, m, 0, NULL), 0);
    msg_unref(&m);
    m = receive(s);
    assert_true(span_is(m->frame[0], "hello"));
    msg_unref(&m);
    net_close(&router);
    assert_int_equal(stat(path, &st), -1);
    net_close(&s);
    rmdir(dir);
    memset(far, 'x', sizeof(far));
    memcpy(far, "ipc://", 6);
    far[sizeof(far) - 1] = '\0';
    s = open_sock(NET_DEALER, NULL);
    assert_int_equal(net_connect(s, far, &err), RH_EINVAL);
    assert_non_null(strstr(err.text, "socket path of 193 bytes"));
    net_close(&s);
}

static void
test_addresses_that_are_none(void **state)
{
    static const char *const bad[] = {
        "tcp://127.0.0.1",   "tcp://:1",      "tcp://127.0.0.1:",
        "tcp://h:http",      "tcp://h:70000", "tcp://h:0001234",
        "inproc://x",        "ipc://",        "",
        "tcp//127.0.0.1:80", "xtcp://h:1",
    };
    struct net_sock *s = open_sock(NET_DEALER, NULL);
    rh_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(net_connect(s, bad[i], &err), RH_EINVAL);
        assert_int_equal(net_bind(s, bad[i], NULL, &err), RH_EINVAL);
    }
    net_close(&s);
}

/* All interfaces, one by its name, a name. */
static void
test_places_to_listen_at(void **state)
{
    static const char *const good[] = {"tcp://*:*", "tcp://lo:0",
                                       "tcp://localhost:0"};
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    char url[100];
    rh_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        int port = 0, fd;

        assert_int_equal(net_bind(s, good[i], &port, &err), 0);
        fd = dial(port);
        close(fd);
    }
    // Longer than a name can be: nobody has to be asked.
    memset(url, 'x', sizeof(url));
    memcpy(url, "tcp://", 6);
    memcpy(url + 80, ":0", 3);
    assert_int_equal(net_bind(s, url, NULL, &err), RH_ENET);
    assert_non_null(strstr(err.text, "xxx"));
    net_close(&s);
}

static void
test_a_connection_with_itself(void **state)
{
    struct sockaddr_in at;
    socklen_t n = sizeof(at);
    int port, listener = listen_at(&port), fd = dial(port), itself;

    (void)state;
    assert_false(url_is_itself(fd));
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    close(fd);
    at.sin_port = 0;
    itself = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(itself, (struct sockaddr *)&at, n), 0);
    assert_int_equal(getsockname(itself, (struct sockaddr *)&at, &n), 0);
    assert_int_equal(connect(itself, (struct sockaddr *)&at, n), 0);
    assert_true(url_is_itself(itself));
    close(itself);
    close(listener);
}

static void
test_one_way_to_meet(void **state)
{
    struct net_sock *a = open_sock(NET_DEALER, NULL);
    struct net_sock *b = open_sock(NET_DEALER, NULL);
    struct net_sock *router = open_sock(NET_ROUTER, NULL);
    rh_error err;

    (void)state;
    connect_sock(a, 9);
    assert_int_equal(net_connect(a, "tcp://127.0.0.1:9", &err), RH_ESTATE);
    assert_int_equal(net_bind(a, "tcp://127.0.0.1:0", NULL, &err), RH_ESTATE);
    assert_non_null(strstr(err.text, "connected"));
    bind_sock(b);
    assert_int_equal(net_connect(b, "tcp://127.0.0.1:9", &err), RH_ESTATE);
    assert_non_null(strstr(err.text, "not bound"));
    assert_int_equal(net_connect(router, "tcp://127.0.0.1:9", &err), RH_ESTATE);
    net_close(&a);
    net_close(&b);
    net_close(&router);
}

// ---------------------------------------------------------------------------
// Memory

static void
test_out_of_memory(void **state)
{
    struct net_sock *s;
    char url[64];
    int port, rc = 0, listener = listen_at(&port);

    (void)state;
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    OOM_SWEEP(rc, {
        s = NULL;
        rc = net_open(&s, ctx, NET_DEALER, &(struct net_options){0}, NULL);
        rc = rc < 0 ? rc : net_connect(s, url, NULL);
        net_close(&s);
    });
    assert_int_equal(rc, 0);
    close(listener);
}

/* Each failure may cost a connection or a message; the peer tries again. */
static void
test_out_of_memory_while_serving(void **state)
{
    struct net_sock *s = open_sock(NET_ROUTER, NULL);
    int port = bind_sock(s);

    (void)state;
    for (long n = 0; n < 40; n++) {
        struct msg *m = NULL;
        int fd = dial(port);

        say_hello(fd, NET_DEALER, "E0");
        if (send(fd, "\1\1a\0\1b", 6, MSG_NOSIGNAL) != 6)
            fail();
        mem_fail_after(n);
        for (int i = 0; i < 5; i++) {
            (void)net_events(s);
            while (net_recv(s, &m, NULL) != RH_EAGAIN)
                msg_unref(&m);
        }
        mem_fail_after(-1);
        close(fd);
        UNTIL(s, list_empty(&inside(s)->conns));
        assert_int_equal(inside(s)->names.n, 0);
    }
    net_close(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_and_messages),
        cmocka_unit_test(test_output_outlives_the_peer),
        cmocka_unit_test(test_half_a_message_is_forgotten),
        cmocka_unit_test(test_silent_peers_are_given_up),
        cmocka_unit_test(test_corked_output_leaves),
        cmocka_unit_test(test_close_waits_for_output),
        cmocka_unit_test(test_a_name_is_taken_once),
        cmocka_unit_test(test_names_are_made_up),
        cmocka_unit_test(test_only_a_mandatory_router_says_who_is_missing),
        cmocka_unit_test(test_ping_gets_pong),
        cmocka_unit_test(test_answers_do_not_pile_up),
        cmocka_unit_test(test_noise_harms_nobody),
        cmocka_unit_test(test_descriptors_run_out),
        cmocka_unit_test(test_forked_children_keep_nothing_open),
        cmocka_unit_test(test_nothing_is_forgotten),
        cmocka_unit_test(test_polling_ends_when_its_time_is_over),
        cmocka_unit_test(test_a_burst_leaves_no_memory_behind),
        cmocka_unit_test(test_ipc),
        cmocka_unit_test(test_addresses_that_are_none),
        cmocka_unit_test(test_places_to_listen_at),
        cmocka_unit_test(test_a_connection_with_itself),
        cmocka_unit_test(test_one_way_to_meet),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_out_of_memory_while_serving),
    };

    return cmocka_run_group_tests_name("net.direct", tests, set_up, tear_down);
}
