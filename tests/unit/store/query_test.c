/* query_test.c - the query language, row by row */
#include "support.h"

#include <stdio.h>

#include "make.h"
#include "query_cases.h"
#include "store/query.h"

struct fixture {
    struct record done, waiting;
    struct msg *request, *reply;
};

static int
setup(void **state)
{
    static struct fixture f;

    f.request = make_msg("{\"msg_id\": \"m1\", \"msg_type\": \"apply_request\","
                         " \"session\": \"client\"}",
                         "{\"label\": \"part-1\", \"retries\": 2}",
                         "{\"code\": \"1\"}", "x");
    f.reply = make_msg("{\"msg_id\": \"r1\", \"msg_type\": \"apply_reply\"}",
                       "{\"status\": \"ok\", \"n\": 7}", "{\"status\": \"ok\"}",
                       NULL);
    record_init(&f.done);
    f.done.msg_id = SPAN_LIT("m1");
    f.done.request = f.request;
    f.done.result = f.reply;
    f.done.submitted_us = T0;
    f.done.completed_us = T0 + 1000000;
    f.done.engine_uuid = SPAN_LIT("E0");
    f.done.queue = SPAN_LIT("mux");
    f.done.execute_input = SPAN_LIT("\"6*7\"");
    f.done.out = SPAN_LIT("hello\n");
    record_init(&f.waiting);
    f.waiting.msg_id = SPAN_LIT("m2");
    f.waiting.request = f.request;
    f.waiting.submitted_us = T0 + 5000000;
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    msg_unref(&f->request);
    msg_unref(&f->reply);
    return 0;
}

static void
test_table(void **state)
{
    const struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct query *q = NULL;
        struct fault fault = {0};

        if (query_parse(&q, span_str(cases[i].query), &fault) < 0)
            fail_msg("%s: %s: %s", cases[i].query, fault.ename, fault.evalue);
        if (query_match(q, &f->done) != cases[i].done)
            fail_msg("%s on the finished one", cases[i].query);
        if (query_match(q, &f->waiting) != cases[i].waiting)
            fail_msg("%s on the waiting one", cases[i].query);
        query_free(&q);
    }
}

// clang-format off
static const struct { const char *query, *ename, *evalue; } refusals[] = {
    { "{\"msg_id\": {\"$foo\": 1}}",   "KeyError",  "'$foo'" },
    { "{\"msg_id\": {\"$eq\": 1, \"foo\": 1}}", "KeyError", "'foo'" },
    { "{\"foo\": 1}",    "KeyError",  "\"Illegal testing key(s): {'foo'}\"" },
    { "{\"msg_id\": {\"$in\": \"m1\"}}", "TypeError", "$in needs a list of values" },
    { "{\"msg_id\": {\"$nin\": 1}}",   "TypeError", "$nin needs a list of values" },
    { "{\"msg_id\": {\"$all\": {}}}",  "TypeError", "$all needs a list of values" },
    { "{\"label\": {\"$mod\": 2}}",    "TypeError", "$mod needs [divisor, remainder]" },
    { "{\"label\": {\"$mod\": [2]}}",  "TypeError", "$mod needs [divisor, remainder]" },
    { "{\"label\": {\"$mod\": [\"2\", 0]}}", "TypeError", "$mod needs [divisor, remainder]" },
    { "{\"label\": {\"$mod\": [0, 0]}}", "ZeroDivisionError", "$mod with divisor 0" },
    { "{\"label\": {\"$glob\": 1}}",   "TypeError", "$glob needs a pattern string" },
    { "{\"completed\": {\"$lt\": 5}}", "TypeError",
      "$lt needs an ISO 8601 date to compare with completed" },
    { "{\"started\": {\"$gte\": \"soon\"}}", "TypeError",
      "$gte needs an ISO 8601 date to compare with started" },
    { "[]",              "TypeError",  "the query must be a dict of fields and values" },
    { "\"all\"",         "TypeError",  "the query must be a dict of fields and values" },
};
// clang-format on

static void
test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct query *q = NULL;
        struct fault fault = {0};

        assert_true(query_parse(&q, span_str(refusals[i].query), &fault) < 0);
        assert_null(q);
        assert_string_equal(fault.ename, refusals[i].ename);
        assert_string_equal(fault.evalue, refusals[i].evalue);
    }
}

static void
test_not_json(void **state)
{
    struct query *q = NULL;
    struct fault fault = {0};

    (void)state;
    assert_int_equal(query_parse(&q, SPAN_LIT("{\"msg_id\": "), &fault),
                     RH_EINVAL);
    assert_string_equal(fault.ename, "ValueError");
    assert_int_equal(strncmp(fault.evalue, "the query is not JSON: ", 23), 0);
}

// clang-format off
static const struct { const char *label, *query; bool match; } labels[] = {
    { "7",          "{\"label\": {\"$mod\": [4, 3]}}",   true },
    { "7",          "{\"label\": {\"$mod\": [4, 2]}}",   false },
    { "-7",         "{\"label\": {\"$mod\": [4, 1]}}",   true },  // as Python
    { "7",          "{\"label\": {\"$mod\": [-4, -1]}}", true },
    { "1.5",        "{\"label\": {\"$mod\": [1, 0.5]}}", true },
    { "\"x\"",      "{\"label\": {\"$mod\": [1, 0]}}",   false },
    { "true",       "{\"label\": 1}",                    true },
    { "3",          "{\"label\": {\"$lt\": 3.5}}",       true },
    { "3",          "{\"label\": {\"$gt\": \"a\"}}",     false },
    { "9007199254740993", "{\"label\": {\"$gt\": 9007199254740992}}", true },
    { "[1, 2, 3]",  "{\"label\": {\"$all\": [1, 3]}}",   true },
    { "[1, 2, 3]",  "{\"label\": {\"$all\": [1, 4]}}",   false },
    { "[1, [2]]",   "{\"label\": [1, [2]]}",             true },
    { "[1, [2]]",   "{\"label\": [1, [3]]}",             false },
    { "[1]",        "{\"label\": [1, 2]}",               false },
    { "{\"a\": 1}", "{\"label\": {\"a\": 1}}",           true },
    { "{\"a\": 1}", "{\"label\": {\"b\": 1}}",           false },
    { "{\"a\": 1}", "{\"label\": {\"a\": 1, \"b\": 1}}", false },
    { "\"a\"",      "{\"label\": {\"$all\": [{\"a\": 1}]}}", true },
    { "\"a\\u0000b\"", "{\"label\": \"a\\u0000b\"}",     true },
    { "\"a\\u0000b\"", "{\"label\": \"a\"}",             false },
    { "null",       "{\"label\": null}",                 true },
};
// clang-format on

static void
test_values_of_every_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        struct record r;
        struct query *q = NULL;
        char metadata[128];

        (void)snprintf(metadata, sizeof(metadata), "{\"label\": %s}",
                       labels[i].label);
        record_init(&r);
        r.msg_id = SPAN_LIT("m");
        r.request = make_msg("{}", metadata, "{}", NULL);
        assert_int_equal(query_parse(&q, span_str(labels[i].query), NULL), 0);
        if (query_match(q, &r) != labels[i].match)
            fail_msg("%s on %s", labels[i].query, labels[i].label);
        query_free(&q);
        msg_unref(&r.request);
    }
}

static void
test_frames_that_are_no_json_match_as_null(void **state)
{
    struct record r;
    struct query *q = NULL;

    (void)state;
    record_init(&r);
    r.msg_id = SPAN_LIT("m");
    r.request = make_msg("{}", "\x80\x04pickle", "[1]", NULL);
    assert_int_equal(
        query_parse(&q, SPAN_LIT("{\"content\": null, \"label\": null}"), NULL),
        0);
    assert_int_equal(query_match(q, &r), 1);
    query_free(&q);
    msg_unref(&r.request);
}

static void
test_pinned_ids(void **state)
{
    struct query *q = NULL;

    (void)state;
    assert_int_equal(query_parse(&q, SPAN_LIT("{\"msg_id\": \"a\"}"), NULL), 0);
    assert_string_equal(json_string_value(query_ids(q)), "a");
    query_free(&q);
    assert_int_equal(
        query_parse(&q,
                    SPAN_LIT("{\"queue\": \"mux\", "
                             "\"msg_id\": {\"$in\": [\"a\", \"b\"]}}"),
                    NULL),
        0);
    assert_int_equal(json_array_size(query_ids(q)), 2);
    query_free(&q);
    assert_int_equal(
        query_parse(&q, SPAN_LIT("{\"msg_id\": {\"$ne\": \"a\"}}"), NULL), 0);
    assert_null(query_ids(q));
    query_free(&q);
}

static void
test_out_of_memory(void **state)
{
    static const char text[] =
        "{\"submitted\": {\"$in\": [\"2023-11-14T22:13:20Z\"]}, "
        "\"content\": {\"code\": \"1\"}, \"msg_id\": {\"$glob\": \"m*\"}}";
    const struct fixture *f = *state;
    int rc;

    OOM_SWEEP(rc, {
        struct query *q = NULL;
        struct fault fault = {0};

        rc = query_parse(&q, SPAN_LIT(text), &fault);
        if (rc == 0)
            rc = query_match(q, &f->done);
        else
            assert_string_equal(fault.ename, "MemoryError");
        query_free(&q);
    });
    assert_int_equal(rc, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_table, setup, teardown),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_values_of_every_type),
        cmocka_unit_test(test_frames_that_are_no_json_match_as_null),
        cmocka_unit_test(test_pinned_ids),
        cmocka_unit_test_setup_teardown(test_out_of_memory, setup, teardown),
    };

    jansson_from_mem();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
