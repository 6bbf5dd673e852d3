/* reply_test.c - the dicts the scheduler, the hub and clients read */
#include "support.h"

#include <string.h>

#include "engine/reply.h"

static const struct reply_facts facts = {
    .uuid = "E0",
    .id = 7,
    .started_us = INT64_C(1795215366432031),
    .method = "apply",
};

static void
assert_text(struct buf *b, const char *text)
{
    assert_false(b->failed);
    buf_add_char(b, '\0');
    assert_string_equal((const char *)b->p, text);
    buf_fini(b);
}

#define HEAD "{\"started\": \"2026-11-20T22:56:06.432031Z\", "

// clang-format off
static const struct {
    const char *name, *request, *expected;
    struct outcome result;
} metadata[] = {
    { "plain", "{}",
      HEAD "\"dependencies_met\": true, \"engine\": \"E0\", "
      "\"is_broadcast\": false, \"is_coalescing\": false, "
      "\"original_msg_id\": \"\", \"label\": null, \"status\": \"ok\"}",
      { .status = OUTCOME_OK } },
    { "broadcast", "{\"targets\": [], \"is_broadcast\": true, "
      "\"is_coalescing\": true, \"original_msg_id\": \"C_1\"}",
      HEAD "\"dependencies_met\": true, \"engine\": \"E0\", "
      "\"is_broadcast\": true, \"is_coalescing\": true, "
      "\"original_msg_id\": \"C_1\", \"label\": null, \"status\": \"ok\"}",
      { .status = OUTCOME_OK } },
    { "label", "{\"label\": \"m\\u00fc\\\"\"}",
      HEAD "\"dependencies_met\": true, \"engine\": \"E0\", "
      "\"is_broadcast\": false, \"is_coalescing\": false, "
      "\"original_msg_id\": \"\", \"label\": \"m\\u00fc\\\"\", "
      "\"status\": \"aborted\"}",
      { .status = OUTCOME_ABORTED } },
    { "odd values", "{\"label\": [1], \"is_broadcast\": \"yes\", "
      "\"is_coalescing\": 1, \"original_msg_id\": {\"a\": 2}}",
      HEAD "\"dependencies_met\": true, \"engine\": \"E0\", "
      "\"is_broadcast\": false, \"is_coalescing\": false, "
      "\"original_msg_id\": \"\", \"label\": null, \"status\": \"ok\"}",
      { .status = OUTCOME_OK } },
    { "not an object", "[1, 2, 3]",
      HEAD "\"dependencies_met\": true, \"engine\": \"E0\", "
      "\"is_broadcast\": false, \"is_coalescing\": false, "
      "\"original_msg_id\": \"\", \"label\": null, \"status\": \"ok\"}",
      { .status = OUTCOME_OK } },
    { "unmet dependency", "{}",
      HEAD "\"dependencies_met\": false, \"engine\": \"E0\", "
      "\"is_broadcast\": false, \"is_coalescing\": false, "
      "\"original_msg_id\": \"\", \"label\": null, \"status\": \"error\", "
      "\"engine_info\": {\"engine_uuid\": \"E0\", \"engine_id\": 7}}",
      { .status = OUTCOME_ERROR, .unmet = true } },
};
// clang-format on

static void
test_metadata(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(metadata) / sizeof(metadata[0]); i++) {
        struct buf out = {.p = NULL};

        print_message("%s\n", metadata[i].name);
        reply_metadata(&out, &facts, span_str(metadata[i].request),
                       &metadata[i].result);
        assert_text(&out, metadata[i].expected);
    }
}

static void
test_content(void **state)
{
    struct outcome ok = {.status = OUTCOME_OK}, error = {.status = OUTCOME_OK},
                   own = {.own_status = true};
    struct buf out = {.p = NULL};

    (void)state;
    reply_content(&out, &facts, &ok);
    assert_text(&out, "{\"status\": \"ok\"}");

    buf_add_str(&ok.content, "\"execution_count\": 3");
    reply_content(&out, &facts, &ok);
    assert_text(&out, "{\"execution_count\": 3, \"status\": \"ok\"}");

    outcome_fail(&error, "ValueError", "not \"this\"");
    reply_content(&out, &facts, &error);
    assert_text(&out, "{\"traceback\": [], \"ename\": \"ValueError\", "
                      "\"evalue\": \"not \\\"this\\\"\", \"engine_info\": "
                      "{\"engine_uuid\": \"E0\", \"engine_id\": 7, "
                      "\"method\": \"apply\"}, \"status\": \"error\"}");

    error.status = OUTCOME_ABORTED; // content does not matter then
    reply_content(&out, &facts, &error);
    assert_text(&out, "{\"status\": \"aborted\"}");

    buf_add_str(&own.content, "\"status\": \"incomplete\"");
    reply_content(&out, &facts, &own);
    assert_text(&out, "{\"status\": \"incomplete\"}");
    outcome_fini(&ok);
    outcome_fini(&error);
    outcome_fini(&own);
}

static void
test_reply_types(void **state)
{
    char type[32];

    (void)state;
    assert_int_equal(reply_type(type, 32, SPAN_LIT("apply_request")), 0);
    assert_string_equal(type, "apply_reply");
    assert_int_equal(reply_type(type, 32, SPAN_LIT("_request")), 0);
    assert_string_equal(type, "_request_reply");
    assert_int_equal(reply_type(type, 32, SPAN_LIT("odd")), 0);
    assert_string_equal(type, "odd_reply");
    assert_int_equal(reply_type(type, 12, SPAN_LIT("apply_request")), 0);
    assert_int_equal(reply_type(type, 11, SPAN_LIT("apply_request")),
                     RH_ELIMIT);
    assert_int_equal(reply_type(type, 4, SPAN_LIT("apply_request")), RH_ELIMIT);
}

static void
test_outcomes_own_their_buffers(void **state)
{
    struct span frame = SPAN_LIT("bytes");
    struct msg *m = msg_new(&frame, 1);
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct outcome result = {.status = OUTCOME_OK};
        struct msg *owner = msg_ref(m);

        rc = 0;
        for (int i = 0; i < 20 && rc == 0; i++) {
            struct msg *more = msg_ref(m);

            rc = outcome_add(&result, frame, &more);
            assert_true((rc == 0) == (more == NULL));
            msg_unref(&more);
        }
        if (rc == 0)
            rc = outcome_add(&result, frame, NULL); // copied later
        outcome_fini(&result);
        msg_unref(&owner);
    });
    assert_int_equal(atomic_load(&m->refs), 1);
    msg_unref(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_reply_types),
        cmocka_unit_test(test_outcomes_own_their_buffers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
