/* inflow_test.c - the same bytes, however they arrive, are the same messages */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

#include "net/inflow.h"
#include "stream.h"

#define N_LOG 4096

static uint8_t scratch[INFLOW_SCRATCH];

/* What came out, as text: "READY [a|3|] PING:x DROPPED". */
struct recorder {
    char text[N_LOG];
    size_t n;
    int n_dropped, dropped;
};

static void
note(struct recorder *self, const char *s, size_t n)
{
    assert_true(n < N_LOG - self->n);
    memcpy(self->text + self->n, s, n);
    self->n += n;
    self->text[self->n] = '\0';
}

static int
on_ready(void *ctx, struct span body, rh_error *err)
{
    struct span name;

    note(ctx, "READY ", 6);
    return zmtp_read_ready(body, NET_ROUTER, &name, err);
}

static uint32_t
sum(struct span s)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < s.n; i++)
        h = (h ^ s.p[i]) * 16777619u;
    return h;
}

/* Long frames as size and checksum. */
static void
on_message(void *ctx, struct span *frame, struct msg **owner, size_t n)
{
    char text[64];

    note(ctx, "[", 1);
    for (size_t i = 1; i <= n; i++) {
        bool inside =
            frame[i].p >= scratch && frame[i].p <= scratch + INFLOW_SCRATCH;
        int len;

        assert_true(owner[i] ? !inside : inside);
        if (frame[i].n < 20) {
            note(ctx, (const char *)frame[i].p, frame[i].n);
        } else {
            len = snprintf(text, sizeof(text), "%zu#%08x", frame[i].n,
                           sum(frame[i]));
            note(ctx, text, (size_t)len);
        }
        note(ctx, i < n ? "|" : "] ", i < n ? 1 : 2);
    }
}

static void
on_dropped(void *ctx, int code)
{
    struct recorder *self = ctx;

    self->n_dropped++;
    self->dropped = code;
    note(self, "DROPPED ", 8);
}

static void
on_ping(void *ctx, struct span context)
{
    note(ctx, "PING:", 5);
    note(ctx, (const char *)context.p, context.n);
    note(ctx, " ", 1);
}

/* Feed bytes as a connection does, at most 'step' at a time. */
static int
feed(struct inflow *in, struct recorder *r, struct span bytes, size_t step,
     rh_error *err)
{
    const struct inflow_port port = {r, on_ready, on_message, on_dropped,
                                     on_ping};
    int rc = 0;

    while (rc == 0 && bytes.n) {
        size_t n;
        uint8_t *at = inflow_room(in, scratch, &n);

        assert_true(n > 0);
        n = n < step ? n : step;
        n = n < bytes.n ? n : bytes.n;
        memcpy(at, bytes.p, n);
        bytes = span_of(bytes.p + n, bytes.n - n);
        rc = inflow_take(in, scratch, n, &port, err);
        if (!in->bulk) // what was given is gone
            memset(scratch, 0xee, sizeof(scratch));
    }
    return rc;
}

/* All there is: small and large frames in every order, commands between. */
static void
add_everything(struct buf *out)
{
    static uint8_t big[INFLOW_BULK + 500];
    struct span large = span_of(big, INFLOW_BULK + 1);

    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i * 31 + i / 200);
    add_hello(out, NET_DEALER, "me");
    ADD_MESSAGE(out, "a");
    ADD_MESSAGE(out, "", "", "");
    add_frame(out, ZMTP_MORE, SPAN_LIT("b"));
    add_frame(out, ZMTP_COMMAND, SPAN_LIT("\4PING\0\0ctx"));
    add_frame(out, 0, span_of(big, 300));
    add_frame(out, ZMTP_MORE, SPAN_LIT("before"));
    add_frame(out, ZMTP_MORE, large);
    add_frame(out, ZMTP_MORE, SPAN_LIT("after"));
    add_frame(out, 0, SPAN_NONE);
    add_command(out, "\5OTHER");
    ADD_MESSAGE(out, "1", "2", "3", "4", "5", "6"); // one too many
    add_frame(out, 0, SPAN_LIT("end"));
}

static const char *
everything(void)
{
    static char text[256];
    static uint8_t big[INFLOW_BULK + 1];

    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (uint8_t)(i * 31 + i / 200);
    snprintf(text, sizeof(text),
             "READY [a] [||] PING:ctx [b|300#%08x] "
             "[before|16385#%08x|after|] DROPPED [end] ",
             sum(span_of(big, 300)), sum(span_of(big, sizeof(big))));
    return text;
}

static void
test_cuts_change_nothing(void **state)
{
    static struct recorder r;
    struct buf bytes = {0};
    struct inflow in;

    (void)state;
    add_everything(&bytes);
    for (size_t cut = 0; cut <= bytes.n; cut++) {
        // Inside the large frame one place is like another.
        if (cut > 1000 && cut < bytes.n - 1000 && cut % 97)
            continue;
        r = (struct recorder){.n = 0};
        inflow_init(&in, 5, 0);
        assert_int_equal(feed(&in, &r, span_of(bytes.p, cut), bytes.n, NULL),
                         0);
        assert_int_equal(
            feed(&in, &r, span_of(bytes.p + cut, bytes.n - cut), bytes.n, NULL),
            0);
        assert_string_equal(r.text, everything());
        assert_int_equal(r.dropped, RH_ELIMIT);
        inflow_fini(&in);
    }
    buf_fini(&bytes);
}

static void
test_steps_change_nothing(void **state)
{
    static struct recorder r;
    struct buf bytes = {0};
    struct inflow in;

    (void)state;
    add_everything(&bytes);
    for (size_t step = 1; step < 70; step++) {
        r = (struct recorder){.n = 0};
        inflow_init(&in, 5, 0);
        assert_int_equal(feed(&in, &r, buf_span(&bytes), step, NULL), 0);
        assert_string_equal(r.text, everything());
        assert_int_equal(in.rest.n, 0);
        assert_null(in.rest.p); // an idle connection holds none
        inflow_fini(&in);
    }
    buf_fini(&bytes);
}

static void
test_a_new_connection_starts_anew(void **state)
{
    static struct recorder r;
    struct buf bytes = {0};
    struct inflow in;

    (void)state;
    add_everything(&bytes);
    inflow_init(&in, 5, 0);
    for (size_t cut = 0; cut < bytes.n; cut += 7) {
        r = (struct recorder){.n = 0};
        assert_int_equal(feed(&in, &r, span_of(bytes.p, cut), 333, NULL), 0);
        inflow_reset(&in);
        r = (struct recorder){.n = 0};
        assert_int_equal(feed(&in, &r, buf_span(&bytes), bytes.n, NULL), 0);
        assert_string_equal(r.text, everything());
        inflow_reset(&in);
    }
    inflow_fini(&in);
    buf_fini(&bytes);
}

static void
test_errors_have_texts(void **state)
{
    static const struct {
        const char *bytes; // after a good READY; or instead of everything
        size_t n;
        bool bare;
        int rc;
        const char *text;
    } cases[] = {
#define CASE(bytes, bare, rc, text) {bytes, sizeof(bytes) - 1, bare, rc, text}
        CASE("SSH-2.0-x\r\n", true, RH_EPROTO, "does not speak ZeroMQ's"),
        CASE("\x09\x01x", false, RH_EPROTO, "flags 0x09"),
        CASE("\5\0", false, RH_EPROTO, "flags 0x05"),
        CASE("\2\0\0\0\0\0\0\3\xe9", false, RH_ELIMIT,
             "frame of 1001 bytes, allowed 1000"),
        CASE("\2\0\0\0\1\0\0\0\0", false, RH_ELIMIT, "frame of 4294967296"),
        CASE("\3\xff\xff\xff\xff\xff\xff\xff\xff", false, RH_ELIMIT,
             "allowed 1000"),
        CASE("\6\0\0\0\0\0\1\0\0", false, RH_EPROTO, "command of 65536"),
#undef CASE
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (size_t step = 1; step < 100; step += 98) {
            static struct recorder r;
            struct buf bytes = {0};
            struct inflow in;
            rh_error err = {0};

            r = (struct recorder){.n = 0};
            if (!cases[i].bare)
                add_hello(&bytes, NET_DEALER, NULL);
            buf_add(&bytes, cases[i].bytes, cases[i].n);
            inflow_init(&in, 5, 1000);
            assert_int_equal(feed(&in, &r, buf_span(&bytes), step, &err),
                             cases[i].rc);
            assert_non_null(strstr(err.text, cases[i].text));
            inflow_fini(&in);
            buf_fini(&bytes);
        }
}

static void
test_ready_comes_first(void **state)
{
    static struct recorder r;
    struct buf bytes = {0};
    struct inflow in;
    rh_error err = {0};

    (void)state;
    add_greeting(&bytes);
    ADD_MESSAGE(&bytes, "x");
    inflow_init(&in, 5, 0);
    assert_int_equal(feed(&in, &r, buf_span(&bytes), 1, &err), RH_EPROTO);
    assert_non_null(strstr(err.text, "before READY"));
    inflow_fini(&in);
    buf_clear(&bytes);
    add_greeting(&bytes);
    add_command(&bytes, "\5ERROR");
    inflow_init(&in, 5, 0);
    assert_int_equal(feed(&in, &r, buf_span(&bytes), 1, &err), RH_EPROTO);
    assert_non_null(strstr(err.text, "not READY"));
    inflow_fini(&in);
    buf_fini(&bytes);
}

/* Without a limit it is the memory that says no. */
static void
test_impossible_sizes_are_refused(void **state)
{
    static struct recorder r;
    struct buf bytes = {0};
    struct inflow in;
    rh_error err = {0};

    (void)state;
    add_hello(&bytes, NET_DEALER, NULL);
    buf_add(&bytes, "\2\xff\xff\xff\xff\xff\xff\xff\xff", 9);
    inflow_init(&in, 5, 0);
    assert_int_equal(feed(&in, &r, buf_span(&bytes), 9, &err), RH_ENOMEM);
    assert_non_null(strstr(err.text, "18446744073709551615 bytes"));
    inflow_fini(&in);
    buf_fini(&bytes);
}

static void
test_a_message_without_end_is_dropped_once(void **state)
{
    static struct recorder r;
    struct buf bytes = {0};
    struct inflow in;

    (void)state;
    add_hello(&bytes, NET_DEALER, NULL);
    for (int i = 0; i < 100000; i++)
        add_frame(&bytes, ZMTP_MORE, SPAN_LIT("x"));
    inflow_init(&in, 1000, 0);
    assert_int_equal(feed(&in, &r, buf_span(&bytes), 1000, NULL), 0);
    assert_true(in.skipping);
    assert_int_equal(in.n, 0);
    assert_int_equal(r.n_dropped, 1);
    buf_clear(&bytes);
    add_frame(&bytes, 0, SPAN_LIT("its end"));
    ADD_MESSAGE(&bytes, "next");
    assert_int_equal(feed(&in, &r, buf_span(&bytes), 1000, NULL), 0);
    assert_string_equal(r.text, "READY DROPPED [next] ");
    inflow_fini(&in);
    buf_fini(&bytes);
}

static void
count(void *ctx, struct span *frame, struct msg **owner, size_t n)
{
    (void)frame;
    (void)owner;
    *(size_t *)ctx += n;
}

static void
test_memory_of_a_long_message_is_given_back(void **state)
{
    size_t n_frames = 0, n = 0;
    const struct inflow_port port = {.ctx = &n_frames, .message = count};
    struct inflow in;

    (void)state;
    inflow_init(&in, 262144, 0);
    in.greeted = in.ready = true;
    for (size_t i = 0; i < 262144; i += n / 2) {
        uint8_t *at = inflow_room(&in, scratch, &n);

        for (size_t k = 0; k < n; k += 2) { // empty frames
            at[k] = i + k / 2 == 262143 ? 0 : ZMTP_MORE;
            at[k + 1] = 0;
        }
        if (n / 2 > 262144 - i)
            n = 2 * (262144 - i);
        assert_int_equal(inflow_take(&in, scratch, n, &port, NULL), 0);
    }
    assert_int_equal(n_frames, 262144);
    assert_int_equal(in.cap, 0);
    inflow_fini(&in);
}

/* A failure costs one message or the connection, and nothing is left over. */
static void
test_out_of_memory(void **state)
{
    static struct recorder r;
    struct buf bytes = {0};
    int rc;

    (void)state;
    add_everything(&bytes);
    for (size_t step = 5; step < 600; step += 583)
        OOM_SWEEP(rc, {
            struct inflow in;

            r = (struct recorder){.n = 0};
            inflow_init(&in, 7, 0);
            rc = feed(&in, &r, buf_span(&bytes), step, NULL);
            if (rc == 0 && r.n_dropped)
                rc = r.dropped;
            inflow_fini(&in);
        });
    assert_int_equal(rc, 0);
    buf_fini(&bytes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts_change_nothing),
        cmocka_unit_test(test_steps_change_nothing),
        cmocka_unit_test(test_a_new_connection_starts_anew),
        cmocka_unit_test(test_errors_have_texts),
        cmocka_unit_test(test_ready_comes_first),
        cmocka_unit_test(test_impossible_sizes_are_refused),
        cmocka_unit_test(test_a_message_without_end_is_dropped_once),
        cmocka_unit_test(test_memory_of_a_long_message_is_given_back),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests_name("net.inflow", tests, NULL, NULL);
}
