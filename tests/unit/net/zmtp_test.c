/* zmtp_test.c - greetings, frame headers and commands, and what is refused */
#include "support.h"

#include "stream.h"

static void
test_greeting_is_checked_as_it_comes(void **state)
{
    (void)state;
    for (size_t n = 0; n < ZMTP_GREETING; n++)
        assert_int_equal(zmtp_check_greeting(zmtp_greeting, n, NULL),
                         RH_EAGAIN);
    assert_int_equal(zmtp_check_greeting(zmtp_greeting, ZMTP_GREETING, NULL),
                     0);
}

static void
test_foreign_greetings_are_refused(void **state)
{
    static const struct {
        size_t at, n; // bytes that are changed, bytes that have arrived
        const char *bytes, *text;
    } cases[] = {
        {0, 1, "G", "does not speak ZeroMQ's"},
        {0, 64, "GET / HTTP", "does not speak ZeroMQ's"},
        {9, 10, "\x7e", "does not speak ZeroMQ's"},
        {10, 11, "\1", "version 1"},
        {12, 32, "CURVE", "CURVE"},
        {12, 32, "PLAIN", "security mechanism"},
        {12, 32, "NULLX", "security mechanism"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        uint8_t bytes[ZMTP_GREETING];
        rh_error err = {0};

        memcpy(bytes, zmtp_greeting, sizeof(bytes));
        memcpy(bytes + cases[i].at, cases[i].bytes, strlen(cases[i].bytes));
        assert_int_equal(zmtp_check_greeting(bytes, cases[i].n, &err),
                         RH_EPROTO);
        assert_non_null(strstr(err.text, cases[i].text));
    }
}

static void
test_headers_go_there_and_back(void **state)
{
    static const uint64_t sizes[] = {0,     1,          255,        256,
                                     65536, UINT32_MAX, 1ull << 32, UINT64_MAX};
    uint8_t bytes[ZMTP_HEADER_MAX];
    struct zmtp_frame f;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
        for (uint8_t more = 0; more <= ZMTP_MORE; more++) {
            size_t n = zmtp_put_header(bytes, more, sizes[i]);

            assert_int_equal(n, sizes[i] > 255 ? 9 : 2);
            for (size_t cut = 0; cut < n; cut++)
                assert_int_equal(zmtp_get_header(bytes, cut, &f, NULL),
                                 RH_EAGAIN);
            assert_int_equal(zmtp_get_header(bytes, n, &f, NULL), 0);
            assert_int_equal(f.n_header, n);
            assert_int_equal(f.flags & ZMTP_MORE, more);
            assert_true(f.size == sizes[i]);
        }
}

static void
test_broken_headers_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
    } cases[] = {
        {"\x08", 1, "flags 0x08"},
        {"\xff", 1, "flags 0xff"},
        {"\5", 1, "flags 0x05"}, // a command with more to come
        {"\6\0\0\0\0\0\0\x10\1", 9, "command of 4097 bytes, allowed 4096"},
        {"\6\xff\xff\xff\xff\xff\xff\xff\xff", 9, "allowed 4096"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct zmtp_frame f;
        rh_error err = {0};

        assert_int_equal(zmtp_get_header((const uint8_t *)cases[i].bytes,
                                         cases[i].n, &f, &err),
                         RH_EPROTO);
        assert_non_null(strstr(err.text, cases[i].text));
    }
}

/* The body of READY as our own sockets send it. */
static struct span
ready_of(struct buf *out, enum net_type type, struct span identity)
{
    struct zmtp_frame f;

    buf_clear(out);
    zmtp_add_ready(out, type, identity);
    assert_int_equal(zmtp_get_header(out->p, out->n, &f, NULL), 0);
    assert_int_equal(f.flags & ~ZMTP_LONG, ZMTP_COMMAND);
    assert_int_equal(f.n_header + f.size, out->n);
    return span_of(out->p + f.n_header, (size_t)f.size);
}

static void
test_ready_tells_who_is_there(void **state)
{
    uint8_t name[255];
    struct span got, id;
    struct buf b = {0};
    rh_error err;

    (void)state;
    memset(name, 'n', sizeof(name));
    id = ready_of(&b, NET_DEALER, span_of(name, sizeof(name)));
    assert_int_equal(zmtp_read_ready(id, NET_ROUTER, &got, &err), 0);
    assert_true(span_eq(got, span_of(name, sizeof(name))));
    id = ready_of(&b, NET_ROUTER, SPAN_NONE);
    assert_int_equal(zmtp_read_ready(id, NET_DEALER, &got, &err), 0);
    assert_int_equal(got.n, 0);
    buf_fini(&b);
}

#define TYPE(name, size) "\13Socket-Type\0\0\0" size name
#define DEALER TYPE("DEALER", "\6")

static void
test_ready_of_every_kind(void **state)
{
    static const struct {
        const char *body;
        size_t n;
        const char *identity; // NULL: refused with
        const char *text;
    } cases[] = {
#define CASE(body, identity, text) {body, sizeof(body) - 1, identity, text}
        CASE("\5READY" DEALER, "", NULL),
        CASE("\5READY" TYPE("ROUTER", "\6"), "", NULL),
        CASE("\5READY" TYPE("REQ", "\3"), "", NULL),
        CASE("\5READY\13sOCKET-tYPE\0\0\0\6DEALER\10IDENTITY\0\0\0\2me", "me",
             NULL),
        CASE("\5READY\10Identity\0\0\0\2me" DEALER "\5X-Any\0\0\0\1y", "me",
             NULL),
        CASE("\5READY" TYPE("REP", "\3"), NULL, "cannot talk to"),
        CASE("\5READY" TYPE("SUB", "\3"), NULL, "type that a ROUTER"),
        CASE("\5READY" TYPE("dealer", "\6"), NULL, "cannot talk to"),
        CASE("\5READY", NULL, "cannot talk to"),
        CASE("\5READ" DEALER, NULL, "not READY"),
        CASE("\5ERROR\3no!", NULL, "not READY"),
        CASE("", NULL, "not READY"),
        CASE("\5READY" DEALER "\0\0\0\0\0", NULL, "broken"),
        CASE("\5READY" DEALER "\1", NULL, "broken"),
        CASE("\5READY" DEALER "\1x\0\0\0", NULL, "broken"),
        CASE("\5READY" DEALER "\1x\0\0\0\1", NULL, "broken"),
        CASE("\5READY" DEALER "\1x\xff\xff\xff\xff", NULL, "broken"),
        CASE("\5READY" DEALER "\xffx\0\0\0\0", NULL, "broken"),
        CASE("\5READY" DEALER "\10Identity\0\0\0\2\0a", NULL, "not allowed"),
#undef CASE
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct span got;
        rh_error err = {0};
        int rc = zmtp_read_ready(span_of(cases[i].body, cases[i].n), NET_ROUTER,
                                 &got, &err);

        if (cases[i].identity) {
            assert_int_equal(rc, 0);
            assert_true(span_is(got, cases[i].identity));
        } else {
            assert_int_equal(rc, RH_EPROTO);
            assert_non_null(strstr(err.text, cases[i].text));
        }
    }
}

/* However it is cut, a READY is either whole or refused. */
static void
test_cut_ready_is_refused(void **state)
{
    struct buf b = {0};
    struct span body = ready_of(&b, NET_DEALER, SPAN_LIT("me")), got;
    size_t type_end = 6 + 12 + 4 + 6; // there it is complete without a name

    (void)state;
    for (size_t n = 0; n < body.n; n++) {
        uint8_t *cut = mem_dup(body.p, n); // the sanitizer sees the end

        assert_int_equal(
            zmtp_read_ready(span_of(cut, n), NET_ROUTER, &got, NULL),
            n == type_end ? 0 : RH_EPROTO);
        mem_free(cut);
    }
    buf_fini(&b);
}

static void
test_long_names_are_refused(void **state)
{
    uint8_t name[256] = {'n'};
    struct buf b = {0};
    struct span got, body = ready_of(&b, NET_DEALER, span_of(name, 256));
    rh_error err = {0};

    (void)state;
    assert_int_equal(zmtp_read_ready(body, NET_ROUTER, &got, &err), RH_EPROTO);
    assert_non_null(strstr(err.text, "not allowed"));
    buf_fini(&b);
}

static void
test_ping_has_a_context(void **state)
{
    struct span context;

    (void)state;
    assert_true(zmtp_is_ping(SPAN_LIT("\4PING\0\1abc"), &context));
    assert_true(span_is(context, "abc"));
    assert_true(zmtp_is_ping(SPAN_LIT("\4PING\0\1"), &context));
    assert_int_equal(context.n, 0);
    assert_false(zmtp_is_ping(SPAN_LIT("\4PING\0"), &context));
    assert_false(zmtp_is_ping(SPAN_LIT("\4PONG\0\1abc"), &context));
    assert_false(zmtp_is_ping(SPAN_NONE, &context));
}

static void
test_out_of_memory(void **state)
{
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct buf b = {0};

        zmtp_add_ready(&b, NET_DEALER, SPAN_LIT("me"));
        rc = b.failed ? RH_ENOMEM : 0;
        buf_fini(&b);
    });
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greeting_is_checked_as_it_comes),
        cmocka_unit_test(test_foreign_greetings_are_refused),
        cmocka_unit_test(test_headers_go_there_and_back),
        cmocka_unit_test(test_broken_headers_are_refused),
        cmocka_unit_test(test_ready_tells_who_is_there),
        cmocka_unit_test(test_ready_of_every_kind),
        cmocka_unit_test(test_cut_ready_is_refused),
        cmocka_unit_test(test_long_names_are_refused),
        cmocka_unit_test(test_ping_has_a_context),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests_name("net.zmtp", tests, NULL, NULL);
}
