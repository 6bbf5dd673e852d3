/* db_test.c - db_request over the wire: projection, buffers, dates, history */
#include "support.h"

#include "world.h"

/* m1, m2 done, m3 waiting; a second apart. */
static void
open_three(struct world *w)
{
    world_open(w);
    add_engine(w);
    for (int i = 1; i <= 3; i++) {
        char id[8], value[16];
        struct msg *m;

        (void)snprintf(id, sizeof(id), "m%d", i);
        (void)snprintf(value, sizeof(value), "value %d", i);
        m = mux_request(w, 0, id);
        w->wall += 1000000;
        if (i < 3)
            reply_to(w, HUB_OUT, 0, m, value);
        msg_unref(&m);
    }
}

/* Sample A21. */
static void
test_buffers_are_interleaved(void **state)
{
    static const char *const want[] = {"f", "args", "value 1",
                                       "f", "args", "value 2"};
    struct world w;
    struct answer a;

    (void)state;
    open_three(&w);
    a = ask(&w, "db_request",
            "{\"query\": {\"msg_id\": {\"$in\": [\"m1\", \"m2\"]}}, \"keys\": "
            "[\"msg_id\", \"buffers\", \"result_buffers\", \"completed\"]}");
    assert_string_equal(a.type, "db_reply");
    assert_same_json(
        a.content,
        "{\"status\": \"ok\", \"records\": [{\"msg_id\": \"m1\", "
        "\"completed\": \"2023-11-14T22:13:21.000000Z\"}, {\"msg_id\": "
        "\"m2\", \"completed\": \"2023-11-14T22:13:22.000000Z\"}], "
        "\"buffer_lens\": [2, 2], \"result_buffer_lens\": [1, 1]}");
    assert_int_equal(msg_n_buffers(a.m), 6);
    for (uint32_t i = 0; i < 6; i++)
        assert_true(span_is(msg_buffer(a.m, i), want[i]));
    close_answer(&a);
    world_close(&w);
}

static void
test_lens_only_where_asked(void **state)
{
    struct world w;
    struct answer a;

    (void)state;
    open_three(&w);
    a = ask(&w, "db_request",
            "{\"query\": {}, \"keys\": [\"result_buffers\"]}");
    assert_same_json(json_object_get(a.content, "buffer_lens"), "null");
    assert_same_json(json_object_get(a.content, "result_buffer_lens"),
                     "[1, 1, 0]");
    assert_same_json(json_object_get(a.content, "records"),
                     "[{\"msg_id\": \"m1\"}, {\"msg_id\": \"m2\"}, "
                     "{\"msg_id\": \"m3\"}]");
    assert_int_equal(msg_n_buffers(a.m), 2);
    close_answer(&a);
    world_close(&w);
}

static void
test_without_keys_all_but_buffers(void **state)
{
    static const char *const asks[] = {
        "{\"query\": {\"msg_id\": \"m3\"}}",
        "{\"query\": {\"msg_id\": \"m3\"}, \"keys\": null}",
        "{\"query\": {\"msg_id\": \"m3\"}, \"keys\": []}"};
    struct world w;

    (void)state;
    open_three(&w);
    for (int i = 0; i < 3; i++) {
        struct answer a = ask(&w, "db_request", asks[i]);
        const json_t *rec =
            json_array_get(json_object_get(a.content, "records"), 0);

        assert_int_equal(json_object_size(rec), 21);
        assert_null(json_object_get(rec, "buffers"));
        assert_null(json_object_get(rec, "result_buffers"));
        assert_same_json(json_object_get(rec, "label"), "null");
        assert_same_json(json_object_get(a.content, "buffer_lens"), "null");
        assert_int_equal(msg_n_buffers(a.m), 0);
        close_answer(&a);
    }
    world_close(&w);
}

static void
test_a_single_key_may_be_a_string(void **state)
{
    struct world w;

    (void)state;
    open_three(&w);
    expect(&w, "db_request",
           "{\"query\": {\"completed\": null}, \"keys\": \"queue\"}",
           "db_reply",
           "{\"status\": \"ok\", \"records\": [{\"msg_id\": \"m3\", \"queue\": "
           "\"mux\"}], \"buffer_lens\": null, \"result_buffer_lens\": null}");
    world_close(&w);
}

// clang-format off
static const struct { const char *query, *ids; } queries[] = {
    { "{}",                                           "m1 m2 m3 " },
    { "{\"completed\": null}",                        "m3 " },
    { "{\"completed\": {\"$ne\": null}}",             "m1 m2 " },
    { "{\"completed\": {\"$gt\": \"2023-11-14T22:13:21Z\"}}", "m2 " },
    { "{\"submitted\": {\"$lte\": \"2023-11-14T23:13:21+01:00\"}, "
      "\"client_uuid\": \"client\"}",                 "m1 m2 " },
    { "{\"submitted\": {\"$gte\": \"2023-11-14T22:13:21Z\"}, "
      "\"client_uuid\": \"another\"}",                "" },
    { "{\"engine_uuid\": {\"$in\": [\"E0\"]}, \"queue\": \"mux\"}", "m1 m2 m3 " },
    { "{\"msg_id\": {\"$glob\": \"m[12]\"}}",         "m1 m2 " },
    { "{\"started\": {\"$exists\": true}}",           "m1 m2 " },
};
// clang-format on

static void
test_queries(void **state)
{
    struct world w;

    (void)state;
    open_three(&w);
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        char content[300], ids[64] = "";
        const json_t *records;
        struct answer a;

        (void)snprintf(content, sizeof(content),
                       "{\"query\": %s, \"keys\": [\"msg_id\"]}",
                       queries[i].query);
        a = ask(&w, "db_request", content);
        assert_string_equal(a.type, "db_reply");
        records = json_object_get(a.content, "records");
        for (size_t k = 0; k < json_array_size(records); k++)
            (void)snprintf(ids + strlen(ids), sizeof(ids) - strlen(ids), "%s ",
                           json_string_value(json_object_get(
                               json_array_get(records, k), "msg_id")));
        if (strcmp(ids, queries[i].ids) != 0)
            fail_msg("%s gives %s", queries[i].query, ids);
        close_answer(&a);
    }
    world_close(&w);
}

static void
test_missing_query_matches_all(void **state)
{
    struct world w;
    struct answer a;

    (void)state;
    open_three(&w);
    a = ask(&w, "db_request", "{\"keys\": [\"msg_id\"]}");
    assert_int_equal(json_array_size(json_object_get(a.content, "records")), 3);
    close_answer(&a);
    world_close(&w);
}

static void
test_history_is_ordered_by_submission(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    open_three(&w);
    w.wall = WALL - 1000000; // a client whose clock is slow
    m = task_request(&w, "early", "{}");
    msg_unref(&m);
    expect(&w, "history_request", "{}", "history_reply",
           "{\"status\": \"ok\", \"history\": [\"early\", \"m1\", \"m2\", "
           "\"m3\"]}");
    world_close(&w);
}

static void
test_culled_records_say_so(void **state)
{
    const struct memory_limits limits = {.max_bytes = 1 << 20,
                                         .max_records = 2,
                                         .cull_fraction = 0.1,
                                         .max_output = 100};
    struct store *store = NULL;
    struct world w;

    (void)state;
    assert_int_equal(memory_open(&store, &limits, NULL), 0);
    assert_int_equal(world_open_store(&w, store, NULL), 0);
    add_engine(&w);
    for (int i = 1; i <= 3; i++) {
        char id[8];
        struct msg *m;

        (void)snprintf(id, sizeof(id), "m%d", i);
        m = mux_request(&w, 0, id);
        reply_to(&w, HUB_OUT, 0, m, "value");
        msg_unref(&m);
    }
    expect_error(&w, "result_request", "{\"msg_ids\": [\"m1\"]}", "hub_error",
                 "KeyError", "\"Record 'm1' has been culled for size\"");
    world_close(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buffers_are_interleaved),
        cmocka_unit_test(test_lens_only_where_asked),
        cmocka_unit_test(test_without_keys_all_but_buffers),
        cmocka_unit_test(test_a_single_key_may_be_a_string),
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_missing_query_matches_all),
        cmocka_unit_test(test_history_is_ordered_by_submission),
        cmocka_unit_test(test_culled_records_say_so),
    };

    return cmocka_run_group_tests(tests, jansson_from_mem, NULL);
}
