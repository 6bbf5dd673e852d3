/* outflow_test.c - what goes out, through a pipe that takes little at a time */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/outflow.h"
#include "stream.h"
#include "wire/msg.h"

static uint8_t big[300000];

struct pipe_ends {
    int in, out;
};

static struct pipe_ends
open_pipe(void)
{
    int fd[2], small = 1; // the system rounds it up

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd),
                     0);
    assert_int_equal(
        setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    return (struct pipe_ends){fd[0], fd[1]};
}

static void
close_pipe(struct pipe_ends p)
{
    close(p.in);
    close(p.out);
}

static size_t
read_some(struct pipe_ends p, struct buf *out, size_t max)
{
    uint8_t bytes[4096];
    ssize_t n = read(p.out, bytes, max < sizeof(bytes) ? max : sizeof(bytes));

    if (n > 0)
        buf_add(out, bytes, (size_t)n);
    return n > 0 ? (size_t)n : 0;
}

/* Write until all is out, reading what arrives. */
static void
pump(struct outflow *flow, struct pipe_ends p, struct buf *out)
{
    int rc;

    while ((rc = outflow_write(flow, p.in)) == RH_EAGAIN) {
        size_t before = flow->n_bytes, n = 0, got;

        assert_true(before > 0);
        while ((got = read_some(p, out, 1001)))
            n += got;
        assert_true(n > 0);
    }
    assert_int_equal(rc, 0);
    assert_true(outflow_empty(flow));
    assert_int_equal(flow->n_bytes, 0);
    while (read_some(p, out, 4096))
        ;
}

/* Frames around all limits: copied, shared, with short and long headers. */
static struct msg *
make_message(struct buf *expected, const struct span *prefix)
{
    static const size_t sizes[] = {0,    1,    255, 256,    4095,
                                   4096, 4097, 0,   300000, 3};
    struct span frame[10];

    if (prefix)
        add_frame(expected, ZMTP_MORE, *prefix);
    for (size_t i = 0; i < 10; i++) {
        frame[i] = span_of(big, sizes[i]);
        if (i > 0) // sent from frame 1 on
            add_frame(expected, i < 9 ? ZMTP_MORE : 0, frame[i]);
    }
    return msg_new(frame, 10);
}

static void
test_messages_arrive_in_order(void **state)
{
    struct pipe_ends p = open_pipe();
    struct buf expected = {0}, got = {0};
    struct span prefix = span_of(big + 7, 5000);
    struct outflow flow;
    struct msg *m;

    (void)state;
    outflow_init(&flow);
    for (int i = 0; i < 3; i++) {
        m = make_message(&expected, &prefix);
        assert_int_equal(outflow_add(&flow, &prefix, 1, m, 1), 0);
        ADD_MESSAGE(&expected, "small", "one");
        assert_int_equal(
            outflow_add(&flow,
                        (struct span[]){SPAN_LIT("small"), SPAN_LIT("one")}, 2,
                        NULL, 0),
            0);
        buf_add_str(&expected, "raw");
        assert_int_equal(outflow_add_raw(&flow, SPAN_LIT("raw")), 0);
        assert_int_equal(flow.n_bytes, expected.n);
        assert_int_equal(atomic_load(&m->refs), 2); // shared, not copied
        if (i < 2)
            msg_unref(&m);
    }
    pump(&flow, p, &got);
    assert_true(span_eq(buf_span(&got), buf_span(&expected)));
    assert_int_equal(atomic_load(&m->refs), 1);
    msg_unref(&m);
    buf_fini(&expected);
    buf_fini(&got);
    outflow_fini(&flow);
    close_pipe(p);
}

static void
test_more_pieces_than_one_call_takes(void **state)
{
    enum { N = 1000 };
    struct pipe_ends p = open_pipe();
    struct buf expected = {0}, got = {0};
    static struct span frame[N];
    struct outflow flow;
    struct msg *m;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        frame[i] = span_of(big + i, 4096 + i % 3);
        add_frame(&expected, i + 1 < N ? ZMTP_MORE : 0, frame[i]);
    }
    m = msg_new(frame, N);
    outflow_init(&flow);
    assert_int_equal(outflow_add(&flow, NULL, 0, m, 0), 0);
    pump(&flow, p, &got);
    assert_true(span_eq(buf_span(&got), buf_span(&expected)));
    assert_int_equal(atomic_load(&m->refs), 1);
    msg_unref(&m);
    buf_fini(&expected);
    buf_fini(&got);
    outflow_fini(&flow);
    close_pipe(p);
}

/* Wherever the first connection broke, the next one gets whole messages. */
static void
test_rewound_messages_go_whole(void **state)
{
    struct buf expected = {0};
    struct msg *m = make_message(&expected, NULL);
    size_t first = expected.n;

    (void)state;
    ADD_MESSAGE(&expected, "next");
    for (size_t broken = 0; broken < first; broken += 1 + first / 60) {
        struct pipe_ends p = open_pipe(), q = open_pipe();
        struct buf lost = {0}, got = {0};
        struct outflow flow;

        outflow_init(&flow);
        assert_int_equal(outflow_add(&flow, NULL, 0, m, 1), 0);
        assert_int_equal(
            outflow_add(&flow, (struct span[]){SPAN_LIT("next")}, 1, NULL, 0),
            0);
        while (lost.n < broken && outflow_write(&flow, p.in) == RH_EAGAIN)
            read_some(p, &lost, broken - lost.n);
        assert_false(outflow_empty(&flow));
        outflow_rewind(&flow);
        assert_int_equal(flow.n_bytes, expected.n);
        pump(&flow, q, &got);
        assert_true(span_eq(buf_span(&got), buf_span(&expected)));
        buf_fini(&lost);
        buf_fini(&got);
        outflow_fini(&flow);
        close_pipe(p);
        close_pipe(q);
    }
    msg_unref(&m);
    buf_fini(&expected);
}

static void
test_nothing_is_not_a_message(void **state)
{
    struct pipe_ends p = open_pipe();
    struct span frame = SPAN_LIT("x");
    struct msg *m = msg_new(&frame, 1);
    struct outflow flow;

    (void)state;
    outflow_init(&flow);
    assert_int_equal(outflow_add(&flow, NULL, 0, NULL, 0), 0);
    assert_int_equal(outflow_add(&flow, NULL, 0, m, 1), 0);
    assert_true(outflow_empty(&flow));
    assert_int_equal(outflow_write(&flow, p.in), 0);
    outflow_rewind(&flow);
    outflow_fini(&flow);
    msg_unref(&m);
    close_pipe(p);
}

static void
test_a_broken_connection_keeps_what_waits(void **state)
{
    struct pipe_ends p = open_pipe();
    struct buf expected = {0};
    struct msg *m = make_message(&expected, NULL);
    struct outflow flow;

    (void)state;
    outflow_init(&flow);
    assert_int_equal(outflow_add(&flow, NULL, 0, m, 1), 0);
    assert_int_equal(outflow_write(&flow, p.in), RH_EAGAIN);
    close(p.out);
    assert_int_equal(outflow_write(&flow, p.in), RH_ENET);
    assert_int_equal(atomic_load(&m->refs), 2);
    outflow_fini(&flow);
    assert_int_equal(atomic_load(&m->refs), 1);
    msg_unref(&m);
    buf_fini(&expected);
    close(p.in);
}

static void
test_out_of_memory(void **state)
{
    struct buf expected = {0};
    struct msg *m = make_message(&expected, NULL);
    struct outflow flow;
    int rc;

    (void)state;
    outflow_init(&flow);
    OOM_SWEEP(rc, {
        rc = outflow_add(&flow, NULL, 0, m, 1);
        assert_int_equal(flow.n_bytes, rc == 0 ? expected.n : 0);
    });
    OOM_SWEEP(rc, { rc = outflow_add_raw(&flow, SPAN_LIT("raw")); });
    assert_int_equal(flow.n_bytes, expected.n + 3);
    outflow_fini(&flow);
    msg_unref(&m);
    buf_fini(&expected);
}

static int
set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i * 13 + i / 255);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_arrive_in_order),
        cmocka_unit_test(test_more_pieces_than_one_call_takes),
        cmocka_unit_test(test_rewound_messages_go_whole),
        cmocka_unit_test(test_nothing_is_not_a_message),
        cmocka_unit_test(test_a_broken_connection_keeps_what_waits),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests_name("net.outflow", tests, set_up, NULL);
}
