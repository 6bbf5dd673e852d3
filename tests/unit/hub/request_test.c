/* request_test.c - every query: its shape, its refusals, want of memory
 *
 * Expected texts follow the samples of the protocol's appendix (A18 to A24).
 */
#include "support.h"

#include "world.h"

/* Engine 0 has done m1 and works on m2; t1 waits for an engine; output too. */
static void
open_busy(struct world *w)
{
    struct msg *m;

    world_open(w);
    add_engine(w);
    add_engine(w);
    m = make(w, (struct parts){.from = &w->client,
                               .ident = {"E0", "cid"},
                               .type = "execute_request",
                               .id = "m1",
                               .content = "{\"code\": \"7*6\"}",
                               .buffer = {"b"}});
    hub_on_traffic(w->hub, HUB_IN, m, w->now, w->wall);
    output_of(w, 0, m, "execute_input", "{\"code\": \"7*6\"}");
    output_of(w, 0, m, "execute_result",
              "{\"data\": {\"text/plain\": \"42\"}, \"metadata\": {}, "
              "\"execution_count\": 5}");
    reply_to(w, HUB_OUT, 0, m, "value");
    msg_unref(&m);
    m = mux_request(w, 0, "m2");
    msg_unref(&m);
    m = task_request(w, "t1", "{\"after\": [], \"label\": \"part\"}");
    msg_unref(&m);
    sent_clear(&w->replies);
}

static void
open_without_database(struct world *w)
{
    struct store *store = NULL;

    assert_int_equal(none_open(&store, NULL), 0);
    assert_int_equal(world_open_store(w, store, NULL), 0);
}

// clang-format off
static const struct { const char *request, *content, *reply, *ename, *evalue; }
refusals[] = {
    /* queue, load */
    { "queue_request", "{}", "hub_error", "KeyError", "'targets'" },
    { "queue_request", "{\"targets\": [99]}", "hub_error",
      "IndexError", "No Such Engine: [99]" },
    { "queue_request", "{\"targets\": 99}", "hub_error",
      "IndexError", "No Such Engine: [99]" },
    { "queue_request", "{\"targets\": [0, \"x'y\", 98]}", "hub_error",
      "IndexError", "No Such Engine: [\"x'y\", 98]" },
    { "queue_request", "{\"targets\": []}", "hub_error",
      "IndexError", "No Engines Registered" },
    { "queue_request", "{\"targets\": {\"a\": 1}}", "hub_error",
      "IndexError", "No Such Engine: [{\"a\": 1}]" },
    { "queue_request", "{\"targets\": \"nope\"}", "hub_error",
      "IndexError", "No Such Engine: ['nope']" },
    { "load_request", "{}", "hub_error", "KeyError", "'targets'" },
    { "load_request", "{\"targets\": [99]}", "hub_error",
      "IndexError", "No Such Engine: [99]" },
    /* result */
    { "result_request", "{}", "hub_error", "KeyError", "'msg_ids'" },
    { "result_request", "{\"msg_ids\": [\"nope\"]}", "result_reply",
      "KeyError", "'No such message: nope'" },
    { "result_request", "{\"msg_ids\": [\"m1\", \"nope\"]}", "result_reply",
      "KeyError", "'No such message: nope'" },
    { "result_request", "{\"msg_ids\": \"nope\"}", "result_reply",
      "KeyError", "'No such message: nope'" },
    { "result_request", "{\"msg_ids\": [\"nope\"], \"status_only\": true}",
      "result_reply", "KeyError", "'No such message: nope'" },
    { "result_request", "{\"msg_ids\": [5]}", "hub_error",
      "TypeError", "msg_ids must be strings, not numbers or other values" },
    { "result_request", "{\"msg_ids\": null}", "hub_error",
      "TypeError", "msg_ids must be a list of message ids" },
    { "result_request", "{\"msg_ids\": {\"m1\": 1}}", "hub_error",
      "TypeError", "msg_ids must be a list of message ids" },
    /* purge */
    { "purge_request", "{\"msg_ids\": [\"m2\"]}", "purge_reply",
      "IndexError", "msg pending: 'm2'" },
    { "purge_request", "{\"msg_ids\": [\"m1\", \"t1\"]}", "purge_reply",
      "IndexError", "msg pending: 't1'" },
    { "purge_request", "{\"engine_ids\": [99]}", "purge_reply",
      "IndexError", "No such engine: 99" },
    { "purge_request", "{\"msg_ids\": [\"m1\"], \"engine_ids\": [0, 99]}",
      "purge_reply", "IndexError", "No such engine: 99" },
    { "purge_request", "{\"engine_ids\": [\"E0\"]}", "purge_reply",
      "TypeError", "engine_ids must be a list of numbers" },
    { "purge_request", "{\"engine_ids\": 0}", "purge_reply",
      "TypeError", "engine_ids must be a list of numbers" },
    { "purge_request", "{\"msg_ids\": 5}", "hub_error",
      "TypeError", "msg_ids must be a list of message ids" },
    /* resubmit */
    { "resubmit_request", "{}", "hub_error", "KeyError", "'msg_ids'" },
    { "resubmit_request", "{\"msg_ids\": [\"nope\"]}", "resubmit_reply",
      "KeyError", "\"No such msg(s): ['nope']\"" },
    { "resubmit_request", "{\"msg_ids\": [\"m1\", \"x\", \"y\"]}",
      "resubmit_reply", "KeyError", "\"No such msg(s): ['x', 'y']\"" },
    /* database */
    { "db_request", "{\"query\": {\"msg_id\": {\"$foo\": 1}}}", "db_reply",
      "KeyError", "'$foo'" },
    { "db_request", "{\"query\": {\"foo\": 1}}", "db_reply",
      "KeyError", "\"Illegal testing key(s): {'foo'}\"" },
    { "db_request", "{\"query\": {}, \"keys\": [\"foo\"]}", "db_reply",
      "KeyError", "'foo'" },
    { "db_request", "{\"query\": {}, \"keys\": [5]}", "db_reply",
      "KeyError", "'?'" },
    { "db_request", "{\"query\": {}, \"keys\": 5}", "db_reply",
      "TypeError", "keys must be null or a list of field names" },
    { "db_request", "{\"query\": []}", "db_reply",
      "TypeError", "the query must be a dict of fields and values" },
    /* others */
    { "nonsense_request", "{}", "hub_error",
      "KeyError", "\"Bad Message Type: 'nonsense_request'\"" },
    { "queue_request", "[]", "hub_error",
      "ValueError", "2 bytes of JSON are no object" },
    { "become_dask_request", "{\"scheduler_args\": {}}", "hub_error",
      "NotImplementedError",
      "this controller does not run a dask scheduler: start one with "
      "'dask scheduler' and point its workers there" },
    { "stop_distributed_request", "{}", "hub_error", "NotImplementedError",
      "this controller does not run a dask scheduler: start one with "
      "'dask scheduler' and point its workers there" },
};
// clang-format on

static void
test_refusals_change_nothing(void **state)
{
    struct world w;

    (void)state;
    open_busy(&w);
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        expect_error(&w, refusals[i].request, refusals[i].content,
                     refusals[i].reply, refusals[i].ename, refusals[i].evalue);
    expect(&w, "history_request", "{}", "history_reply",
           "{\"status\": \"ok\", \"history\": [\"m1\", \"m2\", \"t1\"]}");
    expect(&w, "queue_request", "{\"targets\": 0}", "queue_reply",
           "{\"status\": \"ok\", \"0\": {\"queue\": 1, \"completed\": 1, "
           "\"tasks\": 0}, \"unassigned\": 1}");
    assert_int_equal(w.submitted.total, 0);
    assert_int_equal(w.shutdowns, 0);
    world_close(&w);
}

/* Whatever the arguments are, there is one answer. */
static void
test_odd_arguments(void **state)
{
    static const char *const request[] = {
        "connection_request", "registration_request", "queue_request",
        "load_request",       "result_request",       "purge_request",
        "resubmit_request",   "history_request",      "db_request"};
    static const char *const key[] = {
        "targets", "msg_ids", "engine_ids", "query",       "keys",
        "uuid",    "id",      "verbose",    "status_only", "roundhouse"};
    static const char *const value[] = {
        "null",
        "true",
        "0",
        "-1",
        "1e300",
        "\"\"",
        "[]",
        "{}",
        "[[]]",
        "[null]",
        "[1, 2]",
        "[\"m1\"]",
        "[{}]",
        "\"m1\"",
        "\"\\u0000\"",
        "{\"msg_id\": {\"$in\": {}}}",
        "{\"msg_id\": {\"$in\": [[], {}, null]}}",
        "[\"\\ud83d\\ude00\"]"};
    const size_t n_key = sizeof(key) / sizeof(key[0]);
    const size_t n_value = sizeof(value) / sizeof(value[0]);
    struct world w;

    (void)state;
    open_busy(&w);
    for (size_t r = 0; r < sizeof(request) / sizeof(request[0]); r++)
        for (size_t i = 0; i < n_key * n_value; i++) {
            char content[200];
            struct answer a;

            (void)snprintf(content, sizeof(content), "{\"%s\": %s}",
                           key[i % n_key], value[i / n_key]);
            w.events[0] = '\0';
            a = ask(&w, request[r], content);
            close_answer(&a);
        }
    world_close(&w);
}

static void
test_parent_is_the_request(void **state)
{
    struct world w;
    struct answer a;
    json_t *parent;

    (void)state;
    world_open(&w);
    a = ask(&w, "history_request", "{}");
    parent = a.parent;
    assert_same_json(json_object_get(parent, "msg_type"),
                     "\"history_request\"");
    assert_same_json(json_object_get(parent, "session"), "\"client\"");
    close_answer(&a);
    a = ask(&w, "no_such_request", "{}");
    assert_same_json(json_object_get(a.parent, "msg_type"),
                     "\"no_such_request\"");
    close_answer(&a);
    world_close(&w);
}

/* Several routing frames, as through a proxy, come back as they were. */
static void
test_routing_frames_are_kept(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    m = make(&w, (struct parts){.from = &w.client,
                                .ident = {"proxy", "client"},
                                .type = "history_request"});
    hub_on_request(w.hub, m, w.now, w.wall);
    msg_unref(&m);
    assert_int_equal(w.replies.n, 1);
    m = w.replies.m[0];
    assert_int_equal(m->i_delim, 2);
    assert_true(span_is(m->frame[0], "proxy"));
    assert_true(span_is(m->frame[1], "client"));
    assert_int_equal(session_verify(w.peer_session, m, NULL), 0);
    world_close(&w);
}

static void
test_unsigned_malformed_and_repeated_get_nothing(void **state)
{
    const struct span short_msg[] = {SPAN_LIT("cid"), SPAN_LIT(MSG_DELIM)};
    const struct span no_delim[] = {SPAN_LIT("cid"), SPAN_LIT("x")};
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    m = msg_new(short_msg, 2);
    hub_on_request(w.hub, m, w.now, w.wall);
    msg_unref(&m);
    m = msg_new(no_delim, 2);
    hub_on_request(w.hub, m, w.now, w.wall);
    msg_unref(&m);
    m = msg_new(NULL, 0);
    hub_on_request(w.hub, m, w.now, w.wall);
    msg_unref(&m);
    m = make(&w, (struct parts){.from = &w.client, .type = "history_request"});
    hub_on_request(w.hub, m, w.now, w.wall); // nobody to answer
    msg_unref(&m);
    m = make(&w, (struct parts){.from = &w.client,
                                .ident = {"cid"},
                                .type = "history_request"});
    m->frame[m->i_delim + MSG_CONTENT] = SPAN_LIT("{\"forged\": 1}");
    hub_on_request(w.hub, m, w.now, w.wall);
    msg_unref(&m);
    assert_int_equal(w.replies.total, 0);
    m = make(&w, (struct parts){.from = &w.client,
                                .ident = {"cid"},
                                .type = "history_request"});
    hub_on_request(w.hub, m, w.now, w.wall);
    hub_on_request(w.hub, m, w.now, w.wall);
    msg_unref(&m);
    assert_int_equal(w.replies.total, 1);
    world_close(&w);
}

static void
test_queue_and_load(void **state)
{
    struct world w;

    (void)state;
    open_busy(&w);
    expect(&w, "queue_request", "{\"targets\": [0], \"verbose\": false}",
           "queue_reply",
           "{\"status\": \"ok\", \"0\": {\"queue\": 1, \"completed\": 1, "
           "\"tasks\": 0}, \"unassigned\": 1}");
    expect(&w, "queue_request", "{\"targets\": [\"E0\", 1], \"verbose\": 1}",
           "queue_reply",
           "{\"status\": \"ok\", \"0\": {\"queue\": [\"m2\"], \"completed\": "
           "[\"m1\"], \"tasks\": []}, \"1\": {\"queue\": [], \"completed\": "
           "[], \"tasks\": []}, \"unassigned\": [\"t1\"]}");
    expect(&w, "load_request", "{\"targets\": null}", "load_reply",
           "{\"status\": \"ok\", \"0\": 1, \"1\": 0}");
    // Gone and nothing left to do: not shown, unless asked for by name.
    hub_on_engine_lost(w.hub, SPAN_LIT("E1"), "killed", w.now, w.wall);
    expect(&w, "load_request", "{\"targets\": null}", "load_reply",
           "{\"status\": \"ok\", \"0\": 1}");
    expect(&w, "load_request", "{\"targets\": [1, \"E1\"]}", "load_reply",
           "{\"status\": \"ok\", \"1\": 0, \"1\": 0}");
    world_close(&w);
}

static void
test_results(void **state)
{
    struct world w;
    struct answer a;
    const json_t *rec;

    (void)state;
    open_busy(&w);
    expect(&w, "result_request",
           "{\"msg_ids\": [\"t1\", \"m1\", \"m2\", \"m1\"], "
           "\"status_only\": true}",
           "result_reply",
           "{\"status\": \"ok\", \"pending\": [\"m2\", \"t1\"], "
           "\"completed\": [\"m1\"]}");
    expect(&w, "result_request", "{\"msg_ids\": []}", "result_reply",
           "{\"status\": \"ok\", \"pending\": [], \"completed\": []}");
    a = ask(&w, "result_request", "{\"msg_ids\": [\"m1\", \"m2\"]}");
    assert_same_json(json_object_get(a.content, "pending"), "[\"m2\"]");
    assert_int_equal(json_object_size(a.content), 4);
    rec = json_object_get(a.content, "m1");
    assert_int_equal(json_object_size(rec), 8);
    assert_same_json(json_object_get(rec, "header"),
                     "{\"msg_id\": \"m1\", \"msg_type\": \"execute_request\", "
                     "\"username\": \"user\", \"session\": \"client\", "
                     "\"date\": \"2023-11-14T22:13:20.000000Z\", "
                     "\"version\": \"5.3\"}");
    assert_same_json(json_object_get(rec, "metadata"), "{}");
    assert_same_json(
        json_object_get(json_object_get(rec, "result_header"), "session"),
        "\"E0\"");
    assert_same_json(
        json_object_get(json_object_get(rec, "result_metadata"), "status"),
        "\"ok\"");
    assert_same_json(json_object_get(rec, "result_content"),
                     "{\"status\": \"ok\"}");
    assert_same_json(json_object_get(rec, "received"),
                     "\"2023-11-14T22:13:20.000000Z\"");
    assert_same_json(json_object_get(rec, "io"),
                     "{\"execute_input\": \"7*6\", \"execute_result\": "
                     "{\"data\": {\"text/plain\": \"42\"}, \"metadata\": {}, "
                     "\"execution_count\": 5}, \"error\": null, \"stdout\": "
                     "\"\", \"stderr\": \"\"}");
    assert_int_equal(msg_n_buffers(a.m), 1);
    assert_true(span_is(msg_buffer(a.m, 0), "value"));
    close_answer(&a);
    world_close(&w);
}

/* Buffers carry no lengths, so their order is that of the sorted ids. */
static void
test_result_buffers_are_in_sorted_order(void **state)
{
    static const char *const id[] = {"m3", "m1", "m2"};
    struct world w;
    struct answer a;

    (void)state;
    world_open(&w);
    add_engine(&w);
    for (int i = 0; i < 3; i++) {
        struct msg *m = mux_request(&w, 0, id[i]);

        reply_to(&w, HUB_OUT, 0, m, id[i]);
        msg_unref(&m);
    }
    a = ask(&w, "result_request", "{\"msg_ids\": [\"m2\", \"m3\", \"m1\"]}");
    assert_same_json(json_object_get(a.content, "completed"),
                     "[\"m1\", \"m2\", \"m3\"]");
    assert_int_equal(msg_n_buffers(a.m), 3);
    assert_true(span_is(msg_buffer(a.m, 0), "m1"));
    assert_true(span_is(msg_buffer(a.m, 1), "m2"));
    assert_true(span_is(msg_buffer(a.m, 2), "m3"));
    close_answer(&a);
    world_close(&w);
}

/* Asks for ids, ready to wait for 'wait'; how many replies came at once. */
static int
ask_waiting(struct world *w, const char *ids, const char *wait)
{
    const int before = w->replies.total;
    char content[128];
    struct msg *m;

    (void)snprintf(content, sizeof(content),
                   "{\"msg_ids\": %s, \"status_only\": true, "
                   "\"roundhouse\": {\"wait\": %s}}",
                   ids, wait);
    m = make(w, (struct parts){.from = &w->client,
                               .ident = {"cid"},
                               .type = "result_request",
                               .content = content});
    hub_on_request(w->hub, m, w->now, w->wall);
    msg_unref(&m);
    return w->replies.total - before;
}

static void
assert_last_reply(struct world *w, const char *content)
{
    struct answer a = open_answer(w->replies.m[w->replies.n - 1]);

    assert_string_equal(a.type, "result_reply");
    assert_same_json(a.content, content);
    close_answer(&a);
}

static void
goes_idle(struct world *w, int engine, struct msg *request)
{
    output_of(w, engine, request, "status", "{\"execution_state\": \"busy\"}");
    output_of(w, engine, request, "status", "{\"execution_state\": \"idle\"}");
}

static void
test_requests_that_wait(void **state)
{
    struct world w;
    struct msg *m, *t;

    (void)state;
    open_busy(&w);
    m = mux_request(&w, 1, "m5");
    t = mux_request(&w, 1, "m6");
    assert_int_equal(ask_waiting(&w, "[\"m5\", \"m6\"]", "true"), 0);
    assert_int_equal(ask_waiting(&w, "[\"m5\"]", "true"), 0);
    assert_int_equal(ask_waiting(&w, "[\"m5\"]", "false"), 1);
    assert_int_equal(ask_waiting(&w, "[\"m5\"]", "\"output\""), 1);
    hub_check(w.hub);
    // One reply, when both are done with all their output, and none before.
    reply_to(&w, HUB_OUT, 1, t, "value");
    goes_idle(&w, 1, t);
    pass(&w, 20000);
    assert_int_equal(w.replies.total, 4); // with those of open_busy
    reply_to(&w, HUB_OUT, 1, m, "value");
    pass(&w, 0);
    assert_int_equal(w.replies.total, 4);
    assert_int_equal(ask_waiting(&w, "[\"m5\"]", "\"output\""), 0);
    hub_check(w.hub);
    goes_idle(&w, 1, m);
    pass(&w, 0);
    assert_int_equal(w.replies.total, 7);
    // Nothing to wait for.
    assert_int_equal(ask_waiting(&w, "[\"m5\", \"m6\"]", "true"), 1);
    assert_last_reply(&w, "{\"status\": \"ok\", \"pending\": [], "
                          "\"completed\": [\"m5\", \"m6\"]}");
    assert_int_equal(ask_waiting(&w, "[\"m5\", \"nope\"]", "true"), 1);
    // m1's engine never said that it went idle: not for long.
    assert_int_equal(ask_waiting(&w, "[\"m1\"]", "true"), 0);
    pass(&w, 999);
    assert_int_equal(w.replies.total, 9);
    pass(&w, 1);
    assert_last_reply(&w, "{\"status\": \"ok\", \"pending\": [], "
                          "\"completed\": [\"m1\"], "
                          "\"roundhouse\": {\"waited\": true}}");
    msg_unref(&m);
    msg_unref(&t);
    world_close(&w);
}

/* Engine 1 answers a call without going idle after it. */
static void
answer_mutely(struct world *w, const char *msg_id, const char *metadata)
{
    struct msg *m = mux_request(w, 1, msg_id);

    traffic(w, HUB_OUT,
            make(w, (struct parts){.from = &w->engine[1],
                                   .ident = {"cid", uuid_of(w, 1)},
                                   .type = "apply_reply",
                                   .parent = m,
                                   .metadata = metadata,
                                   .content = "{\"status\": \"ok\"}"}));
    msg_unref(&m);
}

static void
test_mute_calls_have_no_output_to_wait_for(void **state)
{
    struct world w;

    (void)state;
    open_busy(&w);
    answer_mutely(&w, "m5",
                  "{\"engine\": \"E1\", \"roundhouse\": {\"quiet\": true}}");
    answer_mutely(&w, "m6", "{\"engine\": \"E1\", \"status\": \"aborted\"}");
    assert_int_equal(ask_waiting(&w, "[\"m5\"]", "true"), 1);
    assert_int_equal(ask_waiting(&w, "[\"m6\"]", "true"), 1);
    // Nor have calls that no engine will finish.
    hub_on_engine_lost(w.hub, SPAN_LIT("E0"), "killed", w.now, w.wall);
    assert_int_equal(ask_waiting(&w, "[\"m2\"]", "true"), 0);
    pass(&w, 1000);
    assert_last_reply(&w, "{\"status\": \"ok\", \"pending\": [], "
                          "\"completed\": [\"m2\"]}");
    world_close(&w);
}

static void
test_requests_that_wait_too_long(void **state)
{
    struct world w;
    int n = 0;

    (void)state;
    open_busy(&w);
    assert_int_equal(ask_waiting(&w, "[\"t1\"]", "true"), 0);
    pass(&w, 29999);
    assert_int_equal(w.replies.total, 2);
    pass(&w, 1);
    assert_int_equal(w.replies.total, 3);
    assert_last_reply(&w, "{\"status\": \"ok\", \"pending\": [\"t1\"], "
                          "\"completed\": [], "
                          "\"roundhouse\": {\"waited\": true}}");
    // There is room for many, not for any number; the rest is answered at once.
    while (n < 20000 && ask_waiting(&w, "[\"t1\"]", "true") == 0)
        n++;
    assert_int_equal(n, 16384);
    hub_check(w.hub);
    assert_last_reply(&w, "{\"status\": \"ok\", \"pending\": [\"t1\"], "
                          "\"completed\": []}");
    pass(&w, 30000);
    assert_int_equal(w.replies.total, 4 + 16384);
    assert_int_equal(ask_waiting(&w, "[\"t1\"]", "true"),
                     0); // closed while it waits
    world_close(&w);
}

static void
test_purge(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    open_busy(&w);
    m = mux_request(&w, 1, "m3");
    reply_to(&w, HUB_OUT, 1, m, "value");
    msg_unref(&m);
    // Unknown ids are no error.
    expect(&w, "purge_request",
           "{\"msg_ids\": [\"nope\"], \"engine_ids\": "
           "[1]}",
           "purge_reply", "{\"status\": \"ok\"}");
    expect(&w, "history_request", "{}", "history_reply",
           "{\"status\": \"ok\", \"history\": [\"m1\", \"m2\", \"t1\"]}");
    expect(&w, "purge_request", "{\"msg_ids\": [\"m1\"]}", "purge_reply",
           "{\"status\": \"ok\"}");
    // Known to have finished, but its record is gone.
    expect_error(&w, "result_request", "{\"msg_ids\": [\"m1\"]}", "hub_error",
                 "KeyError", "\"No such msg_id 'm1'\"");
    expect(&w, "result_request",
           "{\"msg_ids\": [\"m1\"], \"status_only\": true}", "result_reply",
           "{\"status\": \"ok\", \"pending\": [], \"completed\": [\"m1\"]}");
    // 'all' spares what is unfinished, and does not look at engine_ids.
    expect(&w, "purge_request", "{\"msg_ids\": \"all\", \"engine_ids\": [99]}",
           "purge_reply", "{\"status\": \"ok\"}");
    expect(&w, "history_request", "{}", "history_reply",
           "{\"status\": \"ok\", \"history\": [\"m2\", \"t1\"]}");
    expect(&w, "purge_request", "{}", "purge_reply", "{\"status\": \"ok\"}");
    // Counts stay.
    expect(&w, "queue_request", "{\"targets\": 0}", "queue_reply",
           "{\"status\": \"ok\", \"0\": {\"queue\": 1, \"completed\": 1, "
           "\"tasks\": 0}, \"unassigned\": 1}");
    world_close(&w);
}

static void
test_resubmit(void **state)
{
    struct world w;
    struct answer a, sent;
    json_t *header, *metadata;
    const char *new_id;
    struct msg *m;

    (void)state;
    open_busy(&w);
    w.wall += 1000000;
    a = ask(&w, "resubmit_request", "{\"msg_ids\": [\"t1\", \"t1\"]}");
    assert_string_equal(a.type, "resubmit_reply");
    assert_int_equal(json_object_size(a.content), 2);
    new_id = json_string_value(
        json_object_get(json_object_get(a.content, "resubmitted"), "t1"));
    assert_non_null(new_id);
    assert_int_equal(strncmp(new_id, "HUB_", 4), 0);
    // Sent once, signed, from nobody's identity, under the client's session.
    assert_int_equal(w.submitted.total, 1);
    m = w.submitted.m[0];
    assert_int_equal(m->i_delim, 0);
    assert_int_equal(session_verify(w.peer_session, m, NULL), 0);
    sent = open_answer(m);
    assert_string_equal(sent.type, "apply_request");
    header = load_part(m, MSG_HEADER);
    assert_string_equal(json_string_value(json_object_get(header, "msg_id")),
                        new_id);
    assert_same_json(json_object_get(header, "session"), "\"client\"");
    assert_same_json(json_object_get(header, "date"),
                     "\"2023-11-14T22:13:21.000000Z\"");
    metadata = load_part(m, MSG_METADATA);
    assert_same_json(metadata, "{\"after\": [], \"label\": \"part\"}");
    assert_int_equal(msg_n_buffers(m), 2);
    assert_true(span_is(msg_buffer(m, 1), "args"));
    json_decref(header);
    json_decref(metadata);
    close_answer(&sent);

    close_answer(&a);
    a = ask(&w, "db_request",
            "{\"query\": {\"msg_id\": \"t1\"}, \"keys\": [\"resubmitted\"]}");
    assert_non_null(
        strstr(json_string_value(json_object_get(
                   json_array_get(json_object_get(a.content, "records"), 0),
                   "resubmitted")),
               "HUB_"));
    close_answer(&a);
    world_close(&w);
}

static void
test_resubmitted_task_runs_like_any_other(void **state)
{
    struct world w;
    struct answer a;
    struct msg *m, *routed;
    char query[128], id[64];
    struct span ident = SPAN_LIT("hub's own");

    (void)state;
    open_busy(&w);
    a = ask(&w, "resubmit_request", "{\"msg_ids\": [\"m1\"]}");
    (void)snprintf(id, sizeof(id), "%s",
                   json_string_value(json_object_get(
                       json_object_get(a.content, "resubmitted"), "m1")));
    close_answer(&a);
    m = w.submitted.m[0];
    {
        struct span frame[16];

        assert_true(m->n < 15);
        frame[0] = ident;
        memcpy(frame + 1, m->frame, m->n * sizeof(frame[0]));
        routed = msg_new(frame, m->n + 1);
        assert_int_equal(msg_parse(routed, &msg_limits_default, NULL), 0);
    }
    hub_on_traffic(w.hub, HUB_INTASK, routed, w.now, w.wall);
    hub_on_assigned(w.hub, span_str(id), SPAN_LIT("E1"));
    hub_check(w.hub);
    reply_to(&w, HUB_OUTTASK, 1, routed, "again");
    msg_unref(&routed);
    (void)snprintf(query, sizeof(query), "{\"msg_ids\": [\"%s\"]}", id);
    a = ask(&w, "result_request", query);
    assert_int_equal(json_array_size(json_object_get(a.content, "completed")),
                     1);
    assert_true(span_is(msg_buffer(a.m, 0), "again"));
    close_answer(&a);
    expect(&w, "queue_request", "{\"targets\": 1}", "queue_reply",
           "{\"status\": \"ok\", \"1\": {\"queue\": 0, \"completed\": 1, "
           "\"tasks\": 0}, \"unassigned\": 1}");
    world_close(&w);
}

static void
test_resubmit_refused_by_the_scheduler(void **state)
{
    struct world w;

    (void)state;
    open_busy(&w);
    w.refuse_submit = 1;
    expect_error(&w, "resubmit_request", "{\"msg_ids\": [\"t1\"]}",
                 "resubmit_reply", "RuntimeError",
                 "'t1' could not be sent to the scheduler: its queue is full");
    expect(&w, "history_request", "{}", "history_reply",
           "{\"status\": \"ok\", \"history\": [\"m1\", \"m2\", \"t1\"]}");
    world_close(&w);
}

static void
test_resubmit_of_broadcasts(void **state)
{
    struct world w;
    struct msg *m;
    struct answer a;
    json_t *metadata;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = make(&w, (struct parts){.from = &w.client,
                                .ident = {"cid"},
                                .type = "apply_request",
                                .id = "b1",
                                .metadata = "{\"is_coalescing\": true, "
                                            "\"targets\": [[\"E0\", 0]]}"});
    traffic(&w, HUB_INBCAST, m);
    m = make(&w, (struct parts){.from = &w.client,
                                .ident = {"E0", "cid"},
                                .type = "apply_request",
                                .id = "b2_E0",
                                .metadata = "{\"is_coalescing\": false, "
                                            "\"targets\": [[\"E0\", 0]]}"});
    traffic(&w, HUB_INBCAST, m);
    expect_error(&w, "resubmit_request", "{\"msg_ids\": [\"b1\"]}",
                 "resubmit_reply", "ValueError",
                 "b1 is a coalescing broadcast, which one engine alone cannot "
                 "repeat: send it again from a view");
    assert_int_equal(w.submitted.total, 0);
    a = ask(&w, "resubmit_request", "{\"msg_ids\": [\"b2_E0\"]}");
    assert_string_equal(a.type, "resubmit_reply");
    close_answer(&a);
    metadata = load_part(w.submitted.m[0], MSG_METADATA);
    assert_same_json(metadata, "{}");
    json_decref(metadata);
    world_close(&w);
}

/* The scheduler answers, unless it cannot be asked. */
static void
test_tasks(void **state)
{
    static const char *const type[] = {"task_explain", "task_cancel"};
    struct world w;
    char request[40], reply[40];

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < 2; i++) {
        struct answer a;
        struct msg *m;

        (void)snprintf(request, sizeof(request), "%s_request", type[i]);
        (void)snprintf(reply, sizeof(reply), "%s_reply", type[i]);
        m = make(&w, (struct parts){.from = &w.client,
                                    .ident = {"cid"},
                                    .type = request,
                                    .content = "{\"msg_ids\": [\"t1\"]}"});
        hub_on_request(w.hub, m, w.now, w.wall);
        msg_unref(&m);
        assert_int_equal(w.replies.total, 2 * i);
        assert_int_equal(w.asked.n, i + 1);
        w.refuse_submit = 1;
        a = ask(&w, request, "{\"msg_ids\": [\"t1\"]}");
        w.refuse_submit = 0;
        assert_string_equal(a.type, reply);
        assert_same_json(json_object_get(a.content, "ename"),
                         "\"MemoryError\"");
        close_answer(&a);
        a = ask(&w, request, "{\"msg_ids\": [1]}");
        assert_string_equal(a.type, reply);
        assert_same_json(json_object_get(a.content, "ename"), "\"TypeError\"");
        close_answer(&a);
        assert_int_equal(w.asked.n, i + 1);
    }
    world_close(&w);
}

static void
test_shutdown(void **state)
{
    struct world w;
    struct answer a;

    (void)state;
    world_open(&w);
    expect(&w, "shutdown_request", "{}", "shutdown_reply",
           "{\"status\": \"ok\"}");
    assert_int_equal(w.shutdowns, 1);
    assert_int_equal(w.notices.n, 1);
    a = open_answer(w.notices.m[0]);
    assert_string_equal(a.type, "shutdown_notification");
    assert_same_json(a.content, "{\"status\": \"ok\"}");
    assert_same_json(json_object_get(a.parent, "msg_type"),
                     "\"shutdown_request\"");
    close_answer(&a);
    world_close(&w);
}

static void
test_without_database(void **state)
{
    static const char no_data[] = "NoDB backend doesn't store any data. ";
    struct world w;
    struct msg *m;

    (void)state;
    open_without_database(&w);
    add_engine(&w);
    m = mux_request(&w, 0, "m1");
    reply_to(&w, HUB_OUT, 0, m, "value");
    msg_unref(&m);
    m = mux_request(&w, 0, "m2");
    msg_unref(&m);
    expect(&w, "result_request",
           "{\"msg_ids\": [\"m1\", \"m2\"], \"status_only\": true}",
           "result_reply",
           "{\"status\": \"ok\", \"pending\": [\"m2\"], \"completed\": "
           "[\"m1\"]}");
    expect_error(&w, "result_request",
                 "{\"msg_ids\": [\"x\"], \"status_only\": true}",
                 "result_reply", "KeyError", "'No such message: x'");
    // Nobody should wait for what will not be there in the end.
    expect_error(&w, "result_request", "{\"msg_ids\": [\"m2\"]}",
                 "result_reply", "NoData", no_data);
    expect_error(&w, "result_request", "{\"msg_ids\": [\"m1\"]}",
                 "result_reply", "NoData", no_data);
    expect_error(&w, "db_request", "{\"query\": {}}", "db_reply", "NoData",
                 no_data);
    expect_error(&w, "history_request", "{}", "history_reply", "NoData",
                 no_data);
    expect_error(&w, "resubmit_request", "{\"msg_ids\": [\"m1\"]}",
                 "resubmit_reply", "NoData", no_data);
    expect(&w, "purge_request", "{\"msg_ids\": \"all\"}", "purge_reply",
           "{\"status\": \"ok\"}");
    expect(&w, "purge_request", "{\"msg_ids\": [\"m1\"], \"engine_ids\": [0]}",
           "purge_reply", "{\"status\": \"ok\"}");
    expect(&w, "queue_request", "{\"targets\": null}", "queue_reply",
           "{\"status\": \"ok\", \"0\": {\"queue\": 1, \"completed\": 1, "
           "\"tasks\": 0}, \"unassigned\": 0}");
    world_close(&w);
}

// clang-format off
static const struct { const char *request, *content; } sweep[] = {
    { "connection_request",     "{\"roundhouse\": {}}" },
    { "registration_request",   "{\"uuid\": \"new\", \"roundhouse\": {}}" },
    { "unregistration_request", "{\"id\": 0}" },
    { "queue_request",          "{\"targets\": null, \"verbose\": true}" },
    { "queue_request",          "{\"targets\": [98, 99]}" },
    { "load_request",           "{\"targets\": [0, \"E1\"]}" },
    { "result_request",         "{\"msg_ids\": [\"m1\", \"m2\"]}" },
    { "result_request",         "{\"msg_ids\": [\"nope\"]}" },
    { "result_request",         "{\"msg_ids\": [\"m1\", \"t1\"], "
      "\"roundhouse\": {\"wait\": true}}" },
    { "purge_request",          "{\"msg_ids\": [\"m1\"], \"engine_ids\": [0]}" },
    { "purge_request",          "{\"msg_ids\": \"all\"}" },
    { "resubmit_request",       "{\"msg_ids\": [\"m1\", \"t1\"]}" },
    { "resubmit_request",       "{\"msg_ids\": [\"nope\"]}" },
    { "history_request",        "{}" },
    { "db_request",             "{\"query\": {\"completed\": {\"$lt\": "
      "\"2030-01-01T00:00:00Z\"}}, \"keys\": [\"buffers\", \"header\"]}" },
    { "shutdown_request",       "{}" },
    { "nonsense_request",       "{}" },
};
// clang-format on

/* Fails the n-th allocation and all after it; true if that was one too many. */
static bool
sweep_once(size_t i, long n)
{
    struct world w;
    struct msg *m;
    bool whole;
    int replies;

    open_busy(&w);
    w.offer = "{\"lifeline\": 1}";
    m = make(&w, (struct parts){.from = &w.client,
                                .ident = {"cid"},
                                .type = sweep[i].request,
                                .content = sweep[i].content});
    replies = w.replies.total;
    mem_fail_after(n);
    hub_on_request(w.hub, m, w.now, w.wall);
    // Was there an allocation left?
    {
        void *p = mem_alloc(1);

        whole = p != NULL;
        mem_free(p);
    }
    mem_fail_after(-1);
    hub_check(w.hub);
    // Nobody is left waiting for what the failure touched.
    pass(&w, 100000);
    replies = w.replies.total - replies;
    assert_in_range(replies, 0, 1);
    if (strcmp(sweep[i].request, "unregistration_request") == 0)
        assert_int_equal(replies, 0);
    else if (replies == 0) // then at least the log knows
        assert_int_equal(w.unanswered, 1);
    msg_unref(&m);
    world_close(&w);
    return whole;
}

static void
test_requests_out_of_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(sweep) / sizeof(sweep[0]); i++) {
        long n = 0;

        while (!sweep_once(i, n))
            assert_in_range(++n, 0, 10000);
    }
}

static int
new_hub(void)
{
    struct store *store = NULL;
    struct session *session = NULL;
    struct hub *hub = NULL;
    const struct hub_port port = {0};
    struct hub_config config = {.connection_info = SPAN_LIT("{\"a\": 1}")};
    int rc = memory_open(&store, NULL, NULL);

    if (rc == 0)
        rc = session_new(&session, SPAN_LIT("k"), "hmac-sha256", NULL);
    config.store = store;
    config.session = session;
    if (rc == 0)
        rc = hub_new(&hub, &config, &port, NULL);
    hub_free(&hub);
    store_close(&store);
    session_free(&session);
    return rc;
}

static void
test_construction(void **state)
{
    const struct hub_port port = {0};
    struct hub_config config = {.connection_info = SPAN_LIT("no object")};
    struct hub *hub = NULL;
    int rc;

    (void)state;
    OOM_SWEEP(rc, { rc = new_hub(); });
    assert_int_equal(rc, 0);
    assert_int_equal(hub_new(&hub, &config, &port, NULL), RH_EINVAL);
    assert_null(hub);
    hub_free(&hub);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_change_nothing),
        cmocka_unit_test(test_odd_arguments),
        cmocka_unit_test(test_parent_is_the_request),
        cmocka_unit_test(test_routing_frames_are_kept),
        cmocka_unit_test(test_unsigned_malformed_and_repeated_get_nothing),
        cmocka_unit_test(test_queue_and_load),
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_result_buffers_are_in_sorted_order),
        cmocka_unit_test(test_requests_that_wait),
        cmocka_unit_test(test_mute_calls_have_no_output_to_wait_for),
        cmocka_unit_test(test_requests_that_wait_too_long),
        cmocka_unit_test(test_purge),
        cmocka_unit_test(test_resubmit),
        cmocka_unit_test(test_resubmitted_task_runs_like_any_other),
        cmocka_unit_test(test_resubmit_refused_by_the_scheduler),
        cmocka_unit_test(test_resubmit_of_broadcasts),
        cmocka_unit_test(test_tasks),
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_without_database),
        cmocka_unit_test(test_requests_out_of_memory),
        cmocka_unit_test(test_construction),
    };

    return cmocka_run_group_tests(tests, jansson_from_mem, NULL);
}
