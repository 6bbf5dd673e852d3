/* scan_test.c - what is JSON, what is not, and what is found in it */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "vector.h"
#include "wire/scan.h"

/* Scanned in a heap copy of exact size, so that the sanitizer sees a read
 * past the end.
 */
static int
scan_copy(struct span json, rh_error *err)
{
    uint8_t *copy = mem_dup(json.p, json.n);
    int rc = scan_object(span_of(copy, json.n), NULL, 0, err);

    mem_free(copy);
    return rc;
}

// clang-format off
static const struct span accepted[] = {
    SPAN_INIT("{}"), SPAN_INIT(" \t\r\n{ \n} "),
    SPAN_INIT("{\"\": \"\"}"),
    SPAN_INIT("{\"a\":1,\"b\":[1,2,{\"c\":null}],\"d\":true,\"e\":false}"),
    SPAN_INIT("{\"n\": [0, -0, 10, -1.5, 1e5, 1E+5, 1e-5, 0.0, 1.25e10]}"),
    SPAN_INIT("{\"n\": 123456789012345678901234567890}"),
    SPAN_INIT("{\"n\": 1e999}"),
    SPAN_INIT("{\"a\": [[], {}, [ ], { }]}"),
    SPAN_INIT("{\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\": \"\\ud83d\\udc0d\"}"),
    SPAN_INIT("{\"\\u0000\": \"\\u0000\"}"),
    SPAN_INIT("{\"\xc3\xa4\": \"\xe2\x82\xac\xf0\x9f\x90\x8d\x7f\"}"),
    SPAN_INIT("{\"12345678\": \"1234567\xc3\xa4""89\"}"),
    SPAN_INIT(VECTOR_HEADER),
};

static const struct span refused[] = {
    SPAN_INIT(""), SPAN_INIT(" "), SPAN_INIT("null"), SPAN_INIT("[]"),
    SPAN_INIT("1"), SPAN_INIT("\"a\""), SPAN_INIT("{"), SPAN_INIT("}"),
    SPAN_INIT("{}}"), SPAN_INIT("{} x"), SPAN_INIT("{}{}"), SPAN_INIT("{}\0"),
    SPAN_INIT("\xef\xbb\xbf{}"), SPAN_INIT("{,}"), SPAN_INIT("{\"a\"}"),
    SPAN_INIT("{\"a\":}"), SPAN_INIT("{\"a\":1,}"), SPAN_INIT("{\"a\":1 \"b\":2}"),
    SPAN_INIT("{\"a\":1;\"b\":2}"), SPAN_INIT("{a:1}"), SPAN_INIT("{'a':1}"),
    SPAN_INIT("{1:1}"), SPAN_INIT("{\"a\"::1}"), SPAN_INIT("{\"a\":[1,]}"),
    SPAN_INIT("{\"a\":[,1]}"), SPAN_INIT("{\"a\":[1 2]}"), SPAN_INIT("{\"a\":[1}}"),
    SPAN_INIT("{\"a\":{\"b\":1]}"), SPAN_INIT("{\"a\":[{]}]}"), SPAN_INIT("{\"a\":[1]]}"),
    SPAN_INIT("{\"a\":01}"), SPAN_INIT("{\"a\":-}"), SPAN_INIT("{\"a\":+1}"),
    SPAN_INIT("{\"a\":.5}"), SPAN_INIT("{\"a\":1.}"), SPAN_INIT("{\"a\":1e}"),
    SPAN_INIT("{\"a\":1e+}"), SPAN_INIT("{\"a\":0x1}"), SPAN_INIT("{\"a\":1_0}"),
    SPAN_INIT("{\"a\":NaN}"), SPAN_INIT("{\"a\":Infinity}"), SPAN_INIT("{\"a\":-Infinity}"),
    SPAN_INIT("{\"a\":True}"), SPAN_INIT("{\"a\":nul}"), SPAN_INIT("{\"a\":nulll}"),
    SPAN_INIT("{\"a\":tru"), SPAN_INIT("{\"a\":\"b}"), SPAN_INIT("{\"a\":\"\n\"}"),
    SPAN_INIT("{\"a\":\"\x1f\"}"), SPAN_INIT("{\"a\":\"\0\"}"), SPAN_INIT("{\"a\":\"\\x\"}"),
    SPAN_INIT("{\"a\":\"\\"), SPAN_INIT("{\"a\":\"\\\0\"}"), SPAN_INIT("{\"a\":\"\\u12\"}"),
    SPAN_INIT("{\"a\":\"\\u12g4\"}"), SPAN_INIT("{\"a\":\"\\ud800\"}"),
    SPAN_INIT("{\"a\":\"\\ud800x\"}"), SPAN_INIT("{\"a\":\"\\udc00\"}"),
    SPAN_INIT("{\"a\":\"\\ud800\\ud800\"}"), SPAN_INIT("{\"a\":\"\\ud800\\n\"}"),
    SPAN_INIT("{\"a\":\"\\ud800\\u0041\"}"), SPAN_INIT("{\"a\":\"\xff\"}"),
    SPAN_INIT("{\"a\":\"\xc3\"}"), SPAN_INIT("{\"a\":\"\xc0\x80\"}"),
    SPAN_INIT("{\"a\":\"\xed\xa0\x80\"}"), SPAN_INIT("{\"a\":\"\xf4\x90\x80\x80\"}"),
    SPAN_INIT("{\"\xff\":1}"), SPAN_INIT("{\"a\":\v1}"), SPAN_INIT("{\"a\":1}//"),
    SPAN_INIT("{/**/}"), SPAN_INIT("{\"1234567890123456\x01\":1}"),
};
// clang-format on

static void
test_what_is_an_object(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        rh_error err = {0};

        if (scan_copy(accepted[i], &err) != 0)
            fail_msg("%s: %s", (const char *)accepted[i].p, err.text);
    }
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        rh_error err = {0};

        if (scan_copy(refused[i], &err) != RH_EPROTO)
            fail_msg("accepted %s", (const char *)refused[i].p);
        assert_non_null(strstr(err.text, "byte "));
    }
}

static void
test_every_prefix_is_refused(void **state)
{
    (void)state;
    for (size_t i = 2; i < sizeof(accepted) / sizeof(accepted[0]); i++)
        for (size_t n = 0; n < accepted[i].n; n++)
            assert_int_equal(scan_copy(span_of(accepted[i].p, n), NULL),
                             RH_EPROTO);
}

/* Bytes are looked at in groups: none may hide in any place of one. */
static void
test_each_byte_at_each_place(void **state)
{
    (void)state;
    for (int byte = 0; byte < 256; byte++)
        for (size_t place = 0; place < 17; place++) {
            char json[] = "{\"a\":\"0123456789abcdefg\"}";
            bool plain =
                byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';

            json[6 + place] = (char)byte;
            assert_int_equal(
                scan_copy(span_of(json, sizeof(json) - 1), NULL),
                plain || (byte == '\\' && place == 10)   // \\b is an escape
                        || (byte == '\\' && place == 14) // \\f, too
                    ? 0
                    : RH_EPROTO);
        }
}

/* {"a":[[[...]]]} with 'depth' levels in all. */
static int
scan_nested(int depth, char open, char close)
{
    char text[400];
    int n = sprintf(text, "{\"a\":");

    for (int i = 1; i < depth; i++)
        n += sprintf(text + n, "%s", open == '{' ? "{\"\":" : "[");
    text[n++] = '1';
    for (int i = 1; i < depth; i++)
        text[n++] = close;
    text[n++] = '}';
    return scan_copy(span_of(text, (size_t)n), NULL);
}

static void
test_depth_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(scan_nested(SCAN_DEPTH, '[', ']'), 0);
    assert_int_equal(scan_nested(SCAN_DEPTH, '{', '}'), 0);
    assert_int_equal(scan_nested(SCAN_DEPTH + 1, '[', ']'), RH_EPROTO);
    assert_int_equal(scan_nested(SCAN_DEPTH + 1, '{', '}'), RH_EPROTO);
    assert_int_equal(scan_nested(SCAN_DEPTH, '[', '}'), RH_EPROTO);
}

static void
test_fields(void **state)
{
    struct scan_field f[] = {{"a", SPAN_NONE},
                             {"b", SPAN_NONE},
                             {"missing", SPAN_LIT("stale")},
                             {"\xc3\xa4", SPAN_NONE},
                             {"msg", SPAN_NONE},
                             {"", SPAN_NONE}};
    const char *json = " { \"b\" : [1, {\"a\": 2}] , \"a\":\t\"x\" ,"
                       "\"\\u00e4\":3,\"a\": 4 , \"msg\\u0000\": 5, \"\":6} ";

    (void)state;
    assert_int_equal(scan_object(span_str(json), f, 6, NULL), 0);
    assert_true(span_is(f[5].value, "6"));
    assert_true(span_is(f[0].value, "4")); // the last one counts
    assert_true(span_is(f[1].value, "[1, {\"a\": 2}]"));
    assert_int_equal(f[2].value.n, 0);
    assert_true(span_is(f[3].value, "3"));
    assert_int_equal(f[4].value.n, 0);
}

static void
test_refusal_leaves_no_field(void **state)
{
    struct scan_field f = {"a", SPAN_NONE};
    rh_error err;

    (void)state;
    assert_int_equal(scan_object(SPAN_LIT("{\"a\": 1, }"), &f, 1, &err),
                     RH_EPROTO);
    assert_int_equal(f.value.n, 0);
    assert_string_equal(err.text, "not a JSON object: byte 9 of 10");
}

static void
test_long_escaped_keys(void **state)
{
    struct scan_field f = {"a", SPAN_NONE};
    char json[1000];
    int n = sprintf(json, "{\"\\u0061\": 1, \"");

    (void)state;
    for (int i = 0; i < 100; i++)
        n += sprintf(json + n, "\\u0061");
    n += sprintf(json + n, "\": 2}");
    assert_int_equal(scan_object(span_of(json, (size_t)n), &f, 1, NULL), 0);
    assert_true(span_is(f.value, "1"));
}

// clang-format off
static const struct { const char *raw; int rc; int64_t value; } int_case[] = {
    { "0", 0, 0 }, { "-0", 0, 0 }, { "7", 0, 7 }, { "-12", 0, -12 },
    { "9223372036854775807", 0, INT64_MAX },
    { "-9223372036854775808", 0, INT64_MIN },
    { "9223372036854775808", RH_EPROTO, 0 },
    { "-9223372036854775809", RH_EPROTO, 0 },
    { "99999999999999999999", RH_EPROTO, 0 }, { "1.0", RH_EPROTO, 0 },
    { "1e3", RH_EPROTO, 0 }, { "\"1\"", RH_EPROTO, 0 }, { "null", RH_EPROTO, 0 },
    { "true", RH_EPROTO, 0 }, { "", RH_EPROTO, 0 }, { "-", RH_EPROTO, 0 },
    { "1 ", RH_EPROTO, 0 }, { "01", RH_EPROTO, 0 }, { "[1]", RH_EPROTO, 0 },
};
static const struct { const char *raw; int rc; double value; } double_case[] = {
    { "0", 0, 0 }, { "1.5", 0, 1.5 }, { "-2e3", 0, -2000 }, { "17", 0, 17 },
    { "1e308", 0, 1e308 }, { "1e-400", 0, 0 }, { "0.1", 0, 0.1 },
    { "1e309", RH_EPROTO, 0 }, { "-1e309", RH_EPROTO, 0 }, { "", RH_EPROTO, 0 },
    { "\"1\"", RH_EPROTO, 0 }, { "NaN", RH_EPROTO, 0 }, { "1.", RH_EPROTO, 0 },
    { "null", RH_EPROTO, 0 }, { "0x10", RH_EPROTO, 0 }, { "1,5", RH_EPROTO, 0 },
};
// clang-format on

static void
test_numbers(void **state)
{
    char digits[600];
    double d;

    (void)state;
    for (size_t i = 0; i < sizeof(int_case) / sizeof(int_case[0]); i++) {
        int64_t v = 4711;

        assert_int_equal(scan_int(span_str(int_case[i].raw), &v),
                         int_case[i].rc);
        assert_int_equal(v, int_case[i].rc ? 4711 : int_case[i].value);
    }
    for (size_t i = 0; i < sizeof(double_case) / sizeof(double_case[0]); i++) {
        d = 4711;
        assert_int_equal(scan_double(span_str(double_case[i].raw), &d),
                         double_case[i].rc);
        assert_true(d == (double_case[i].rc ? 4711 : double_case[i].value));
    }
    memset(digits, '1', sizeof(digits));
    digits[1] = '.';
    assert_int_equal(scan_double(span_of(digits, 500), &d), 0);
    assert_true(fabs(d - 1.1111111111111112) < 1e-15);
    assert_int_equal(scan_double(span_of(digits, sizeof(digits)), &d),
                     RH_EPROTO);
}

static void
test_words(void **state)
{
    bool b = false;

    (void)state;
    assert_int_equal(scan_bool(SPAN_LIT("true"), &b), 0);
    assert_true(b);
    assert_int_equal(scan_bool(SPAN_LIT("false"), &b), 0);
    assert_false(b);
    assert_int_equal(scan_bool(SPAN_LIT("1"), &b), RH_EPROTO);
    assert_int_equal(scan_bool(SPAN_LIT("null"), &b), RH_EPROTO);
    assert_int_equal(scan_bool(SPAN_NONE, &b), RH_EPROTO);
    assert_true(scan_is_null(SPAN_NONE));
    assert_true(scan_is_null(SPAN_LIT("null")));
    assert_false(scan_is_null(SPAN_LIT("0")));
    assert_false(scan_is_null(SPAN_LIT("\"\"")));
}

static void
test_strings(void **state)
{
    static const char raw[] = "\"\\\"\\\\\\/\\b\\f\\n\\r\\t"
                              "\\u0041\\u00e4\\u20AC\\uD83D\\uDC0D\\u0000!\"";
    static const char want[] = "\"\\/\b\f\n\r\tA\xc3\xa4\xe2\x82\xac"
                               "\xf0\x9f\x90\x8d\0!";
    static const char *const bad[] = {
        "", "null", "1", "\"", "\"a", "a\"", "\"a\"b", "\"\\u00\"", "['a']"};
    struct span plain = SPAN_LIT("\"plain \xc3\xa4\""), out;
    struct buf scratch = {0};

    (void)state;
    assert_int_equal(scan_string(plain, &scratch, &out), 0);
    assert_ptr_equal(out.p, plain.p + 1); // borrowed
    assert_int_equal(out.n, plain.n - 2);
    assert_int_equal(scratch.n, 0);
    buf_add_str(&scratch, "before");
    assert_int_equal(scan_string(SPAN_LIT(raw), &scratch, &out), 0);
    assert_true(span_eq(out, SPAN_LIT(want)));
    assert_memory_equal(scratch.p, "before", 6);
    assert_int_equal(scan_string(SPAN_LIT("\"\""), &scratch, &out), 0);
    assert_int_equal(out.n, 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(scan_string(span_str(bad[i]), &scratch, &out),
                         RH_EPROTO);
    buf_fini(&scratch);
}

static void
test_string_out_of_memory(void **state)
{
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct buf scratch = {0};
        struct span out;

        rc = scan_string(SPAN_LIT("\"\\n\""), &scratch, &out);
        buf_fini(&scratch);
    });
    assert_int_equal(rc, 0);
}

static void
test_arrays(void **state)
{
    struct span a = SPAN_LIT("[1, [2, {\"x\": 3}] ,\"a,]\"]"), out;
    static const char *const want[] = {"1", "[2, {\"x\": 3}]", "\"a,]\""};
    static const char *const bad[] = {"",   "{}",  "null", "[",     "[,]",
                                      "[1", "[1,", "[1,]", "[1 2]", "\"[\""};
    size_t pos = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(scan_next(a, &pos, &out), 1);
        assert_true(span_is(out, want[i]));
    }
    assert_int_equal(scan_next(a, &pos, &out), 0);
    assert_int_equal(scan_next(a, &pos, &out), 0);
    pos = 0;
    assert_int_equal(scan_next(SPAN_LIT("[ ]"), &pos, &out), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int rc;

        for (pos = 0; (rc = scan_next(span_str(bad[i]), &pos, &out)) > 0;)
            ;
        assert_int_equal(rc, RH_EPROTO);
    }
    pos = 99;
    assert_int_equal(scan_next(a, &pos, &out), RH_EPROTO);
}

static void
test_members(void **state)
{
    struct span o = SPAN_LIT("{\"a\" : [1], \"b\\n\":{\"c\": 2} ,\"\":3}");
    static const char *const want[][2] = {
        {"\"a\"", "[1]"}, {"\"b\\n\"", "{\"c\": 2}"}, {"\"\"", "3"}};
    static const char *const bad[] = {
        "",           "[]",        "null",    "{",
        "{,}",        "{\"a\"",    "{\"a\":", "{\"a\":1",
        "{\"a\":1,}", "{\"a\" 1}", "{1:1}",   "{\"a\":1 \"b\":2}"};
    struct span key, value;
    size_t pos = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(scan_next_member(o, &pos, &key, &value), 1);
        assert_true(span_is(key, want[i][0]));
        assert_true(span_is(value, want[i][1]));
    }
    assert_int_equal(scan_next_member(o, &pos, &key, &value), 0);
    assert_int_equal(scan_next_member(o, &pos, &key, &value), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int rc;

        for (pos = 0;
             (rc = scan_next_member(span_str(bad[i]), &pos, &key, &value)) > 0;)
            ;
        assert_int_equal(rc, RH_EPROTO);
    }
}

static void
test_captured_header(void **state)
{
    struct header_view v;

    (void)state;
    assert_int_equal(scan_header(vector_frame[3], &v, NULL), 0);
    assert_true(span_is(v.msg_id, VECTOR_SESSION "_20331_1"));
    assert_true(span_is(v.msg_type, "apply_request"));
    assert_true(span_is(v.session, VECTOR_SESSION));
    assert_true(span_is(v.date, "2026-11-20T22:56:05.030017Z"));
    assert_true(span_is(v.version, "5.3"));
}

static const struct {
    const char *json, *says; // says NULL: accepted
} header_case[] = {
    {"{\"msg_id\":\"a\",\"msg_type\":\"b\"}", NULL},
    {"{\"msg_id\":\"a\",\"msg_type\":\"b\",\"version\":null}", NULL},
    {"{\"msg_type\":\"b\"}", "no msg_id"},
    {"{\"msg_id\":\"a\"}", "no msg_type"},
    {"{\"msg_id\":null,\"msg_type\":\"b\"}", "no msg_id"},
    {"{\"msg_id\":\"\",\"msg_type\":\"b\"}", "msg_id is empty"},
    {"{\"msg_id\":\"a\",\"msg_type\":\"\"}", "msg_type is empty"},
    {"{\"msg_id\":1,\"msg_type\":\"b\"}", "msg_id is not a string"},
    {"{\"msg_id\":[\"a\"],\"msg_type\":\"b\"}", "msg_id is not a string"},
    {"{\"msg_id\":\"\\u0061\",\"msg_type\":\"b\"}", "msg_id contains escapes"},
    {"{\"msg_id\":\"a\",\"msg_type\":\"\\n\"}", "msg_type contains escapes"},
    {"{\"msg_id\":\"a\",\"msg_type\":\"b\",\"session\":7}",
     "session is not a string"},
    {"{\"msg_id\":\"a\",\"msg_type\":\"b\",\"date\":{}}",
     "date is not a string"},
    {"{}", "no msg_id"},
    {"[]", "not a JSON object"},
};

static void
test_header_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(header_case) / sizeof(header_case[0]); i++) {
        struct header_view v = {.msg_id = SPAN_LIT("untouched")};
        rh_error err = {0};
        int rc = scan_header(span_str(header_case[i].json), &v, &err);

        assert_int_equal(rc, header_case[i].says ? RH_EPROTO : 0);
        if (!header_case[i].says) {
            assert_true(span_is(v.msg_id, "a"));
            assert_int_equal(v.session.n + v.date.n + v.version.n, 0);
            continue;
        }
        assert_true(span_is(v.msg_id, "untouched"));
        if (!strstr(err.text, header_case[i].says))
            fail_msg("'%s' lacks '%s'", err.text, header_case[i].says);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_an_object),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_each_byte_at_each_place),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_refusal_leaves_no_field),
        cmocka_unit_test(test_long_escaped_keys),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_string_out_of_memory),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_captured_header),
        cmocka_unit_test(test_header_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
