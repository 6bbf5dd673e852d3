/* buf_test.c - growing, latching failure, JSON strings */
#include "support.h"

#include "base/buf.h"

static void
test_appends_in_order(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b);
    buf_add(&b, "ab", 2);
    buf_add(&b, NULL, 0);
    buf_add_str(&b, "cd");
    buf_add_span(&b, SPAN_LIT("ef"));
    buf_add_char(&b, 'g');
    buf_add_fmt(&b, "-%d-%s", 42, "x");
    assert_true(span_is(buf_span(&b), "abcdefg-42-x"));
    assert_false(b.failed);
    buf_fini(&b);
    buf_add_str(&b, "again"); // usable after fini
    assert_true(span_is(buf_span(&b), "again"));
    buf_fini(&b);
}

static void
test_grows_far(void **state)
{
    struct buf b = {0};

    (void)state;
    for (int i = 0; i < 100000; i++)
        buf_add_char(&b, (char)('a' + i % 26));
    assert_int_equal(b.n, 100000);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(b.p[i], 'a' + i % 26);
    buf_clear(&b);
    assert_int_equal(b.n, 0);
    assert_true(b.cap >= 100000);
    buf_fini(&b);
}

static void
test_failure_latches_and_keeps_the_content(void **state)
{
    struct buf b = {0};

    (void)state;
    buf_add_str(&b, "kept");
    mem_fail_after(0);
    buf_add_fmt(&b, "%0500d", 1);
    assert_true(b.failed);
    mem_fail_after(-1);
    buf_add_str(&b, "not added");
    assert_int_equal(buf_reserve(&b, 1), RH_ENOMEM);
    assert_true(span_is(buf_span(&b), "kept"));
    buf_clear(&b);
    buf_add_str(&b, "fresh");
    assert_true(span_is(buf_span(&b), "fresh"));
    buf_fini(&b);
}

static void
test_absurd_reserve_fails(void **state)
{
    struct buf b = {0};

    (void)state;
    buf_add_str(&b, "x");
    assert_int_equal(buf_reserve(&b, SIZE_MAX), RH_ENOMEM);
    assert_int_equal(b.n, 1);
    buf_fini(&b);
}

static const struct {
    struct span in;
    const char *out;
} json_case[] = {
    {SPAN_INIT(""), "\"\""},
    {SPAN_INIT("plain"), "\"plain\""},
    {SPAN_INIT("a\"b\\c/"), "\"a\\\"b\\\\c/\""},
    {SPAN_INIT("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\""},
    {SPAN_INIT("\x00\x01\x1f\x7f"), "\"\\u0000\\u0001\\u001f\x7f\""},
    {SPAN_INIT("\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x8d"),
     "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x8d\""},
    {SPAN_INIT("\xff"), "\"\xef\xbf\xbd\""},
    {SPAN_INIT("a\xc3"), "\"a\xef\xbf\xbd\""},
    {SPAN_INIT("\xed\xa0\x80"), // a surrogate: three broken bytes
     "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
    {SPAN_INIT("\xc0\xaf!"), "\"\xef\xbf\xbd\xef\xbf\xbd!\""},
};

static void
test_json_strings(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(json_case) / sizeof(json_case[0]); i++) {
        struct buf b = {0};

        buf_add_json_str(&b, json_case[i].in);
        buf_add_char(&b, '\0');
        assert_string_equal((char *)b.p, json_case[i].out);
        buf_fini(&b);
    }
}

static void
test_json_string_is_whole_or_absent(void **state)
{
    (void)state;
    for (long n = 0; n < 8; n++) {
        struct buf b = {0};

        mem_fail_after(n);
        for (int i = 0; i < 40 && !b.failed; i++) {
            size_t before = b.n;

            buf_add_json_str(&b, SPAN_LIT("a\nb\x01 c\xff"));
            assert_true(b.n == before || !b.failed);
        }
        mem_fail_after(-1);
        buf_fini(&b);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appends_in_order),
        cmocka_unit_test(test_grows_far),
        cmocka_unit_test(test_failure_latches_and_keeps_the_content),
        cmocka_unit_test(test_absurd_reserve_fails),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_json_string_is_whole_or_absent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
