/* record_test.c - a record's JSON, field by field */
#include "support.h"

#include "make.h"

#define T0 INT64_C(1700000000000000)

static void
assert_json(const struct record *r, uint32_t fields, const char *want)
{
    struct buf out = {0};
    json_t *got, *expected;

    record_add_json(&out, r, fields);
    assert_false(out.failed);
    got = json_loadb((const char *)out.p, out.n, 0, NULL);
    expected = json_loads(want, 0, NULL);
    assert_non_null(got);
    assert_non_null(expected);
    if (!json_equal(got, expected))
        fail_msg("got %.*s", (int)out.n, (const char *)out.p);
    json_decref(got);
    json_decref(expected);
    buf_fini(&out);
}

static void
test_empty_record_has_every_key(void **state)
{
    struct record r;

    (void)state;
    record_init(&r);
    r.msg_id = SPAN_LIT("m1");
    // Without the buffers, which never are JSON.
    assert_json(
        &r, RECORD_ALL,
        "{\"msg_id\": \"m1\", \"header\": null, \"metadata\": null, "
        "\"content\": null, \"submitted\": null, \"client_uuid\": null, "
        "\"engine_uuid\": null, \"started\": null, \"completed\": null, "
        "\"resubmitted\": null, \"received\": null, \"result_header\": null, "
        "\"result_metadata\": null, \"result_content\": null, "
        "\"queue\": null, \"execute_input\": null, \"execute_result\": null, "
        "\"error\": null, \"stdout\": \"\", \"stderr\": \"\", "
        "\"label\": null}");
    assert_false(record_is_unfinished(&r));
}

static void
test_full_record(void **state)
{
    struct record r;

    (void)state;
    record_init(&r);
    r.msg_id = SPAN_LIT("m1");
    r.request = make_request(1);
    r.submitted_us = T0;
    assert_true(record_is_unfinished(&r));
    r.result = make_reply(1);
    r.started_us = r.completed_us = r.received_us = T0 + 1;
    assert_false(record_is_unfinished(&r));
    r.engine_uuid = SPAN_LIT("E0");
    r.resubmitted = SPAN_LIT("m9");
    r.queue = SPAN_LIT("task");
    r.execute_input = SPAN_LIT("\"6*7\"");
    r.execute_result = SPAN_LIT("{\"data\": {}}");
    r.error = SPAN_LIT("{\"ename\": \"E\"}");
    r.display_data = SPAN_LIT("{\"data\": 1}");
    r.out = SPAN_LIT("out \"quoted\"\n");
    r.err = SPAN_LIT("err");
    assert_json(
        &r, RECORD_ALL,
        "{\"msg_id\": \"m1\", \"header\": {\"msg_id\": \"m1\", \"msg_type\": "
        "\"apply_request\", \"session\": \"client\"}, \"metadata\": "
        "{\"label\": \"part-1\"}, \"content\": {}, "
        "\"submitted\": \"2023-11-14T22:13:20.000000Z\", "
        "\"client_uuid\": \"client\", \"engine_uuid\": \"E0\", "
        "\"started\": \"2023-11-14T22:13:20.000001Z\", "
        "\"completed\": \"2023-11-14T22:13:20.000001Z\", "
        "\"resubmitted\": \"m9\", "
        "\"received\": \"2023-11-14T22:13:20.000001Z\", "
        "\"result_header\": {\"msg_id\": \"r1\", \"msg_type\": "
        "\"apply_reply\", \"session\": \"E0\"}, "
        "\"result_metadata\": {\"status\": \"ok\"}, "
        "\"result_content\": {\"status\": \"ok\"}, \"queue\": \"task\", "
        "\"execute_input\": \"6*7\", \"execute_result\": {\"data\": {}}, "
        "\"error\": {\"ename\": \"E\"}, \"stdout\": \"out \\\"quoted\\\"\\n\", "
        "\"stderr\": \"err\", \"label\": \"part-1\", "
        "\"display_data\": {\"data\": 1}}");
    assert_json(&r, RECORD_BIT(QUEUE) | RECORD_BIT(BUFFERS),
                "{\"msg_id\": \"m1\", \"queue\": \"task\"}");
    msg_unref(&r.request);
    msg_unref(&r.result);
}

static void
test_asked_for_fields_are_there_even_if_null(void **state)
{
    struct record r;

    (void)state;
    record_init(&r);
    r.msg_id = SPAN_LIT("m1");
    assert_json(&r, RECORD_BIT(DISPLAY_DATA),
                "{\"msg_id\": \"m1\", \"display_data\": null}");
}

/* One frame that is no JSON must not spoil the rest. */
static void
test_odd_frames_become_null(void **state)
{
    struct record r;

    (void)state;
    record_init(&r);
    r.msg_id = SPAN_LIT("m1");
    r.request = make_msg("{\"session\": 5}", "{\"label\": ", "[1, 2]", NULL);
    assert_json(&r,
                RECORD_BIT(HEADER) | RECORD_BIT(METADATA) | RECORD_BIT(CONTENT)
                    | RECORD_BIT(CLIENT_UUID) | RECORD_BIT(LABEL),
                "{\"msg_id\": \"m1\", \"header\": {\"session\": 5}, "
                "\"metadata\": null, \"content\": null, "
                "\"client_uuid\": null, \"label\": null}");
    msg_unref(&r.request);
}

static void
test_field_names(void **state)
{
    (void)state;
    for (int i = 0; i < N_RECORD_FIELDS; i++)
        assert_int_equal(record_field_of(span_str(record_field_name[i])), i);
    assert_int_equal(record_field_of(SPAN_LIT("nope")), RH_ENOENT);
    assert_int_equal(record_field_of(SPAN_LIT("")), RH_ENOENT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_record_has_every_key),
        cmocka_unit_test(test_full_record),
        cmocka_unit_test(test_asked_for_fields_are_there_even_if_null),
        cmocka_unit_test(test_odd_frames_become_null),
        cmocka_unit_test(test_field_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
