/* iopub_test.c - bundling, order, ticking, and a subscriber that lags */
#include "controller.h"

#include <poll.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/iopub.h"

struct world {
    struct controller c;
    struct net_ctx *net;
    struct iopub iopub;
};

static struct world *
start(void)
{
    const struct net_options options = {.linger_ms = 0};
    struct world *w = calloc(1, sizeof(*w));
    char url[64];
    struct msg *m;

    controller_open(&w->c);
    assert_int_equal(net_ctx_new(&w->net, NULL), 0);
    assert_int_equal(
        iopub_init(&w->iopub, SPAN_LIT(KEY), "hmac-sha256", "E0", "me", NULL),
        0);
    assert_int_equal(net_open(&w->iopub.sock, w->net, NET_PUB, &options, NULL),
                     0);
    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", w->c.port[IOPUB]);
    assert_int_equal(net_connect(w->iopub.sock, url, NULL), 0);
    iopub_set_id(&w->iopub, 2);
    // A PUB drops what it sends before it is connected.
    do
        assert_int_equal(iopub_status(&w->iopub, "starting"), 0);
    while (!(m = controller_poll(&w->c, IOPUB, 20)));
    do
        msg_unref(&m);
    while ((m = controller_poll(&w->c, IOPUB, 100)));
    return w;
}

static void
finish(struct world *w)
{
    iopub_fini(&w->iopub);
    net_ctx_free(&w->net);
    controller_close(&w->c);
    free(w);
}

static void
put(struct world *w, enum engine_stream stream, const char *text)
{
    size_t done;

    assert_int_equal(
        iopub_write(&w->iopub, stream, span_str(text), true, &done), 0);
    assert_int_equal(done, strlen(text));
}

static void
expect(struct world *w, const char *topic, const char *key, const char *value)
{
    struct msg *m = controller_recv(&w->c, IOPUB);

    assert_true(span_is(m->frame[0], topic));
    assert_member(msg_part(m, MSG_CONTENT), key, value);
    assert_member(msg_part(m, MSG_METADATA), "engine", "\"E0\"");
    msg_unref(&m);
}

static void
test_order_of_streams_and_messages(void **state)
{
    struct world *w = start();

    (void)state;
    put(w, ENGINE_STDOUT, "a\n");
    put(w, ENGINE_STDOUT, "b\xc3\xbc");
    put(w, ENGINE_STDERR, "c\"");
    put(w, ENGINE_STDOUT, "d");
    assert_int_equal(iopub_publish_now(&w->iopub,
                                       &(struct engine_publication){
                                           .kind = "displaypub",
                                           .msg_type = "display_data",
                                           .content = SPAN_LIT("{\"x\": 1}"),
                                       },
                                       NULL),
                     0);
    expect(w, "engine.2.stdout", "text", "\"a\\nb\xc3\xbc\"");
    expect(w, "engine.2.stderr", "text", "\"c\\\"\"");
    expect(w, "engine.2.stdout", "text", "\"d\"");
    expect(w, "engine.2.displaypub", "x", "1");
    finish(w);
}

static void
test_output_belongs_to_the_request_it_was_written_in(void **state)
{
    struct world *w = start();
    struct msg *first = NULL, *second = NULL, *m;

    (void)state;
    assert_int_equal(compose(&w->c.sender,
                             &(struct draft){.msg_type = "a", .msg_id = "one"},
                             &first, NULL),
                     0);
    assert_int_equal(compose(&w->c.sender,
                             &(struct draft){.msg_type = "a", .msg_id = "two"},
                             &second, NULL),
                     0);
    iopub_begin(&w->iopub, first);
    put(w, ENGINE_STDOUT, "1");
    iopub_begin(&w->iopub, second);
    put(w, ENGINE_STDOUT, "2");
    iopub_flush(&w->iopub);
    m = controller_recv(&w->c, IOPUB);
    assert_message(m, "stream", "one");
    msg_unref(&m);
    m = controller_recv(&w->c, IOPUB);
    assert_message(m, "stream", "two");
    msg_unref(&m);
    msg_unref(&first);
    msg_unref(&second);
    finish(w);
}

static bool
is_woken(const struct world *w)
{
    struct pollfd item = {.fd = w->iopub.wake_fd, .events = POLLIN};

    return poll(&item, 1, 0) == 1;
}

static void
test_ticks_flush_what_is_old(void **state)
{
    struct world *w = start();
    int64_t now;

    (void)state;
    assert_false(is_woken(w));
    put(w, ENGINE_STDOUT, "x");
    assert_true(is_woken(w)); // somebody has to start ticking
    now = w->iopub.dirty_at;
    assert_int_equal(iopub_tick(&w->iopub, now + 1), now + IOPUB_FLUSH_MS);
    assert_null(controller_poll(&w->c, IOPUB, 20));
    assert_true(iopub_tick(&w->iopub, now + IOPUB_FLUSH_MS) < INT64_MAX);
    expect(w, "engine.2.stdout", "text", "\"x\"");
    assert_int_equal(iopub_tick(&w->iopub, now + 100000), INT64_MAX);
    finish(w);
}

/* All text that arrives, until 'n' bytes are there. */
static void
receive_text(struct world *w, size_t n)
{
    size_t received = 0;

    while (received < n) {
        struct msg *m = controller_recv(&w->c, IOPUB);

        received += member(msg_part(m, MSG_CONTENT), "text").n - 2;
        msg_unref(&m);
    }
    assert_int_equal(received, n);
}

static void
test_large_text_is_neither_kept_nor_lost(void **state)
{
    struct world *w = start();
    const size_t n = 5 << 20;
    char *text = malloc(n);
    size_t at = 0, done;

    (void)state;
    memset(text, 'x', n);
    while (at < n) {
        int rc = iopub_write(&w->iopub, ENGINE_STDOUT,
                             span_of(text + at, n - at), false, &done);

        assert_true(rc == 0 || rc == RH_EAGAIN);
        at += done;
        if (rc == RH_EAGAIN)
            engine_pause();
    }
    iopub_flush(&w->iopub);
    receive_text(w, n);
    while (atomic_load(&w->iopub.tally->in_flight))
        engine_pause(); // ZeroMQ gives all of it back
    free(text);
    finish(w);
}

/* What is on its way is bounded: writers are told to wait, then go on. */
static void
test_what_one_request_prints_is_bounded(void **state)
{
    static const char mark[] =
        "\\n[output truncated: this call printed more than 10 bytes, the "
        "engine's output_limit]\\n\"";
    struct world *w = start();
    struct msg *first = NULL, *m;
    char want[256];

    (void)state;
    w->iopub.limit = 10;
    assert_int_equal(compose(&w->c.sender,
                             &(struct draft){.msg_type = "a", .msg_id = "one"},
                             &first, NULL),
                     0);
    assert_int_equal(msg_parse(first, &msg_limits_default, NULL), 0);
    for (int round = 0; round < 2; round++) { // each request anew
        iopub_begin(&w->iopub, first);
        put(w, ENGINE_STDOUT, "12345678");
        put(w, ENGINE_STDERR, "9\xe2\x82\xac..."); // cut before the euro
        put(w, ENGINE_STDERR, "x");
        put(w, ENGINE_STDOUT, "lost");
        iopub_flush(&w->iopub);
        expect(w, "engine.2.stdout", "text", "\"12345678\"");
        (void)snprintf(want, sizeof(want), "\"9%s", mark);
        expect(w, "engine.2.stderr", "text", want);
    }
    iopub_begin(&w->iopub, first);
    put(w, ENGINE_STDOUT, "1234567890"); // no more than allowed: no mark
    iopub_flush(&w->iopub);
    expect(w, "engine.2.stdout", "text", "\"1234567890\"");
    m = controller_poll(&w->c, IOPUB, 50);
    assert_null(m);
    msg_unref(&first);
    finish(w);
}

static void
test_a_slow_controller_makes_writers_wait(void **state)
{
    struct world *w = start();
    const size_t n = OUTPUT_BYTES + 100;
    char *text = malloc(n);
    size_t done, more;

    (void)state;
    memset(text, 'x', n);
    atomic_fetch_add(&w->iopub.tally->in_flight, (size_t)1 << 30);
    assert_int_equal(
        iopub_write(&w->iopub, ENGINE_STDOUT, span_of(text, n), false, &done),
        RH_EAGAIN);
    assert_int_equal(done, OUTPUT_BYTES);
    assert_int_equal(
        iopub_write(&w->iopub, ENGINE_STDOUT, span_of(text, n), false, &more),
        RH_EAGAIN);
    assert_int_equal(more, 0);
    (void)iopub_tick(&w->iopub, clock_mono_ms() + 1000); // nor does that send
    assert_null(controller_poll(&w->c, IOPUB, 50));
    atomic_fetch_sub(&w->iopub.tally->in_flight, (size_t)1 << 30);
    assert_int_equal(iopub_write(&w->iopub, ENGINE_STDOUT,
                                 span_of(text + done, n - done), false, &more),
                     0);
    iopub_flush(&w->iopub);
    receive_text(w, n);
    free(text);
    finish(w);
}

static void
test_closed(void **state)
{
    struct world *w = start();

    (void)state;
    net_close(&w->iopub.sock);
    put(w, ENGINE_STDOUT, "nobody hears this");
    iopub_flush(&w->iopub);
    assert_int_equal(iopub_status(&w->iopub, "idle"), RH_ECLOSED);
    finish(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_streams_and_messages),
        cmocka_unit_test(test_output_belongs_to_the_request_it_was_written_in),
        cmocka_unit_test(test_ticks_flush_what_is_old),
        cmocka_unit_test(test_large_text_is_neither_kept_nor_lost),
        cmocka_unit_test(test_what_one_request_prints_is_bounded),
        cmocka_unit_test(test_a_slow_controller_makes_writers_wait),
        cmocka_unit_test(test_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
