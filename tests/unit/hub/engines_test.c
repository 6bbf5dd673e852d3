/* engines_test.c - registration, hearts, ids, death, restore */
#include "support.h"

#include "world.h"

static struct answer
hello(struct world *w, const char *uuid, const char *content)
{
    return ask_as(w, &w->scheduler, uuid, "registration_request", content);
}

static int64_t
id_in(const struct answer *a)
{
    assert_string_equal(a->type, "registration_reply");
    assert_same_json(json_object_get(a->content, "status"), "\"ok\"");
    return json_integer_value(json_object_get(a->content, "id"));
}

static int64_t
hello_id(struct world *w, const char *uuid, const char *content)
{
    struct answer a = hello(w, uuid, content);
    const int64_t id = id_in(&a);

    close_answer(&a);
    return id;
}

static struct answer
notice(struct world *w, int i)
{
    assert_true(i < w->notices.n);
    return open_answer(w->notices.m[i]);
}

static void
assert_notice(struct world *w, int i, const char *type, const char *content)
{
    struct answer a = notice(w, i);

    assert_int_equal(a.m->i_delim, 0);
    assert_string_equal(a.type, type);
    assert_same_json(a.content, content);
    assert_same_json(a.parent, "{}");
    close_answer(&a);
}

/* The form of protocol sample A2, A3 and A4. */
static void
test_two_steps(void **state)
{
    const struct hub_config config = {
        .connection_info = SPAN_LIT(
            "{\"interface\": \"tcp://127.0.0.1\", \"registration\": 33907, "
            "\"broadcast\": [53611, 59535]}"),
    };
    struct store *store = NULL;
    struct world w;
    struct answer a;

    (void)state;
    assert_int_equal(memory_open(&store, NULL, NULL), 0);
    assert_int_equal(world_open_store(&w, store, &config), 0);
    a = hello(&w, "E0", "{\"uuid\": \"E0\"}");
    assert_string_equal(a.type, "registration_reply");
    assert_same_json(
        a.content, "{\"id\": 0, \"status\": \"ok\", \"hb_period\": 1000, "
                   "\"connection_info\": {\"interface\": \"tcp://127.0.0.1\", "
                   "\"registration\": 33907, \"broadcast\": [53611, 59535]}}");
    assert_same_json(a.parent, "{}");
    close_answer(&a);
    // Told before the reply, so that its pong is not taken for a stranger's.
    assert_string_equal(w.events, "pending 0 E0; ");
    assert_int_equal(w.notices.n, 0);
    assert_int_equal(hub_n_engines(w.hub), 0);
    expect(&w, "connection_request", "{}", "connection_reply",
           "{\"status\": \"ok\", \"engines\": {}}");

    hub_on_heart(w.hub, SPAN_LIT("E0"), w.now, w.wall);
    assert_string_equal(w.events, "pending 0 E0; up 0 E0; ");
    assert_int_equal(w.notices.n, 1);
    assert_notice(&w, 0, "registration_notification",
                  "{\"id\": 0, \"uuid\": \"E0\"}");
    assert_string_equal(w.saved, "{\"engines\": {\"0\": \"E0\"}, "
                                 "\"next_id\": 1}");
    // A second first pong, or a stranger's, changes nothing.
    hub_on_heart(w.hub, SPAN_LIT("E0"), w.now, w.wall);
    hub_on_heart(w.hub, SPAN_LIT("E9"), w.now, w.wall);
    assert_int_equal(w.notices.n, 1);
    expect(&w, "connection_request", "{}", "connection_reply",
           "{\"status\": \"ok\", \"engines\": {\"0\": \"E0\"}}");
    world_close(&w);
}

/* A client that has just said hello may not hear of an engine; it is told a
 * second time, once.
 */
static void
test_new_clients_are_told_twice(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    assert_int_equal(hello_id(&w, "E0", "{\"uuid\": \"E0\"}"), 0);
    expect(&w, "connection_request", "{}", "connection_reply",
           "{\"status\": \"ok\", \"engines\": {}}");
    hub_on_heart(w.hub, SPAN_LIT("E0"), w.now, w.wall);
    assert_int_equal(w.notices.n, 1);
    (void)hub_tick(w.hub, w.now + 999, w.wall);
    assert_int_equal(w.notices.n, 1);
    (void)hub_tick(w.hub, w.now + 1000, w.wall);
    assert_int_equal(w.notices.n, 2);
    assert_notice(&w, 1, "registration_notification",
                  "{\"id\": 0, \"uuid\": \"E0\"}");
    (void)hub_tick(w.hub, w.now + 5000, w.wall);
    assert_int_equal(w.notices.n, 2);
    world_close(&w);
}

static void
test_uuid_in_use(void **state)
{
    struct world w;
    struct answer a;

    (void)state;
    world_open(&w);
    assert_int_equal(hello_id(&w, "E0", "{\"uuid\": \"E0\"}"), 0);
    a = hello(&w, "E0", "{\"uuid\": \"E0\"}"); // pending
    assert_error(&a, "registration_reply", "KeyError", "\"uuid 'E0' in use\"");
    assert_same_json(a.parent, "{}");
    close_answer(&a);
    hub_on_heart(w.hub, SPAN_LIT("E0"), w.now, w.wall);
    a = hello(&w, "E0", "{\"uuid\": \"E0\"}"); // registered
    assert_error(&a, "registration_reply", "KeyError", "\"uuid 'E0' in use\"");
    close_answer(&a);
    // Gone, it may come back; its id does not.
    hub_on_engine_lost(w.hub, SPAN_LIT("E0"), "its process ended", w.now,
                       w.wall);
    assert_int_equal(hello_id(&w, "E0", "{\"uuid\": \"E0\"}"), 1);
    world_close(&w);
}

// clang-format off
static const struct { const char *content, *ename, *evalue; } refused[] = {
    { "{}",                          "KeyError", "'uuid'" },
    { "{\"uuid\": 5}",               "ValueError", NULL },
    { "{\"uuid\": \"\"}",            "ValueError", NULL },
    { "{\"uuid\": \"a\\u0000b\"}",   "ValueError", NULL },
    { "{\"uuid\": null}",            "ValueError", NULL },
    { "{\"uuid\": \"E0\", \"id\": \"1\"}", "ValueError",
      "a requested engine id is a number from 0" },
    { "{\"uuid\": \"E0\", \"id\": -1}", "ValueError",
      "a requested engine id is a number from 0" },
    { "{\"uuid\": \"E0\", \"id\": 1.5}", "ValueError",
      "a requested engine id is a number from 0" },
};
// clang-format on

static void
test_refused_registrations_change_nothing(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct answer a = hello(&w, "E0", refused[i].content);

        assert_error(&a, "registration_reply", refused[i].ename,
                     refused[i].evalue
                         ? refused[i].evalue
                         : "an engine's uuid is a string of 1 to 255 bytes, "
                           "because it is its ZeroMQ identity");
        close_answer(&a);
    }
    assert_string_equal(w.events, "");
    assert_int_equal(hello_id(&w, "E0", "{\"uuid\": \"E0\"}"), 0);
    world_close(&w);
}

static void
test_ids(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    assert_int_equal(hello_id(&w, "a", "{\"uuid\": \"a\"}"), 0);
    assert_int_equal(hello_id(&w, "b", "{\"uuid\": \"b\", \"id\": 7}"), 7);
    assert_int_equal(hello_id(&w, "c", "{\"uuid\": \"c\"}"), 8);
    // Taken by a pending engine: the counter instead.
    assert_int_equal(hello_id(&w, "d", "{\"uuid\": \"d\", \"id\": 7}"), 9);
    assert_int_equal(hello_id(&w, "e", "{\"uuid\": \"e\", \"id\": 3}"), 3);
    assert_int_equal(hello_id(&w, "f", "{\"uuid\": \"f\", \"id\": null}"), 10);
    // Absurd ids are not worth exhausting the counter for.
    assert_int_equal(hello_id(&w, "g", "{\"uuid\": \"g\", \"id\": 2147483647}"),
                     11);
    assert_int_equal(
        hello_id(&w, "h", "{\"uuid\": \"h\", \"id\": 99999999999999}"), 12);
    hub_on_heart(w.hub, SPAN_LIT("c"), w.now, w.wall);
    hub_on_engine_lost(w.hub, SPAN_LIT("c"), "killed", w.now, w.wall);
    // Never again by itself, but who asks for a dead one's id gets it.
    assert_int_equal(hello_id(&w, "i", "{\"uuid\": \"i\"}"), 13);
    assert_int_equal(hello_id(&w, "j", "{\"uuid\": \"j\", \"id\": 8}"), 8);
    world_close(&w);
}

static void
test_pending_registrations_expire(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    assert_int_equal(hello_id(&w, "E0", "{\"uuid\": \"E0\"}"), 0);
    assert_int_equal(hub_tick(w.hub, w.now, w.wall), 1000 + 30000);
    pass(&w, 29999);
    assert_string_equal(w.events, "pending 0 E0; ");
    pass(&w, 1);
    assert_string_equal(w.events, "pending 0 E0; down 0 E0; ");
    assert_int_equal(w.notices.n, 0); // nobody ever knew it
    assert_true(hub_tick(w.hub, w.now, w.wall) == INT64_MAX);
    assert_int_equal(hello_id(&w, "E0", "{\"uuid\": \"E0\"}"), 1);
    world_close(&w);
}

/* Each way to lose an engine, by its name in the loop. */
static void
lose(struct world *w, int way)
{
    struct msg *m;
    const int before = w->replies.total;

    switch (way) {
    case 0: // asked for: no reply
        m = make(w, (struct parts){.from = &w->client,
                                   .ident = {"cid"},
                                   .type = "unregistration_request",
                                   .content = "{\"id\": 0}"});
        hub_on_request(w->hub, m, w->now, w->wall);
        msg_unref(&m);
        assert_int_equal(w->replies.total, before);
        return;
    case 1: // stopped heart or closed lifeline
        hub_on_engine_lost(w->hub, SPAN_LIT("E0"), "its heart stopped", w->now,
                           w->wall);
        return;
    default: // its own farewell
        output_of(w, 0, NULL, "shutdown_reply",
                  "{\"status\": \"ok\", \"restart\": false}");
    }
}

static void
test_every_way_to_go(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        struct world w;

        world_open(&w);
        add_engine(&w);
        lose(&w, way);
        hub_check(w.hub);
        assert_string_equal(w.events, "pending 0 E0; up 0 E0; down 0 E0; ");
        assert_int_equal(w.notices.n, 2);
        assert_notice(&w, 1, "unregistration_notification",
                      "{\"id\": 0, \"uuid\": \"E0\"}");
        assert_string_equal(w.saved, "{\"engines\": {}, \"next_id\": 1}");
        assert_int_equal(hub_n_engines(w.hub), 0);
        // The others come late.
        for (int again = 0; again < 3; again++)
            lose(&w, again);
        assert_int_equal(w.notices.n, 2);
        world_close(&w);
    }
}

static void
test_unregistration_cancels_a_pending_one(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    assert_int_equal(hello_id(&w, "E0", "{\"uuid\": \"E0\"}"), 0);
    lose(&w, 0);
    assert_string_equal(w.events, "pending 0 E0; down 0 E0; ");
    assert_int_equal(w.notices.n, 0);
    hub_on_heart(w.hub, SPAN_LIT("E0"), w.now, w.wall);
    assert_int_equal(hub_n_engines(w.hub), 0);
    world_close(&w);
}

static void
test_bad_unregistrations_are_only_logged(void **state)
{
    static const char *const content[] = {"{}", "{\"id\": \"0\"}",
                                          "{\"id\": 99}", "{\"id\": null}"};
    struct world w;

    (void)state;
    world_open(&w);
    add_engine(&w);
    for (size_t i = 0; i < 4; i++) {
        struct msg *m =
            make(&w, (struct parts){.from = &w.client,
                                    .ident = {"cid"},
                                    .type = "unregistration_request",
                                    .content = content[i]});

        hub_on_request(w.hub, m, w.now, w.wall);
        msg_unref(&m);
    }
    assert_int_equal(hub_n_engines(w.hub), 1);
    assert_int_equal(w.replies.total, 1); // the registration's
    world_close(&w);
}

static void
test_a_goodbye_with_a_reason(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = make(&w,
             (struct parts){.from = &w.client,
                            .ident = {"cid"},
                            .type = "unregistration_request",
                            .content = "{\"id\": 0, \"roundhouse\": "
                                       "{\"exit\": \"a cancelled call\"}}"});
    hub_on_request(w.hub, m, w.now, w.wall);
    msg_unref(&m);
    assert_int_equal(hub_n_engines(w.hub), 0);
    assert_string_equal(w.why, "it exited (a cancelled call)");
    world_close(&w);
}

static void
test_offers(void **state)
{
    struct world w;
    struct answer a;

    (void)state;
    world_open(&w);
    w.offer = "{\"lifeline\": 4711}";
    a = hello(&w, "E0", "{\"uuid\": \"E0\", \"roundhouse\": {\"v\": 1}}");
    assert_same_json(json_object_get(a.content, "roundhouse"),
                     "{\"lifeline\": 4711}");
    close_answer(&a);
    a = hello(&w, "E1", "{\"uuid\": \"E1\"}"); // a foreign engine
    assert_null(json_object_get(a.content, "roundhouse"));
    close_answer(&a);
    a = ask(&w, "connection_request", "{\"roundhouse\": {}}");
    assert_same_json(json_object_get(a.content, "roundhouse"),
                     "{\"lifeline\": 4711}");
    close_answer(&a);
    w.offer = "half an object {";
    expect(&w, "connection_request", "{\"roundhouse\": {}}", "connection_reply",
           "{\"status\": \"ok\", \"engines\": {}}");
    world_close(&w);
}

static void
test_engine_limit(void **state)
{
    const struct hub_config config = {.max_engines = 2};
    struct store *store = NULL;
    struct world w;
    struct answer a;

    (void)state;
    assert_int_equal(memory_open(&store, NULL, NULL), 0);
    assert_int_equal(world_open_store(&w, store, &config), 0);
    assert_int_equal(hello_id(&w, "a", "{\"uuid\": \"a\"}"), 0);
    assert_int_equal(hello_id(&w, "b", "{\"uuid\": \"b\"}"), 1);
    a = hello(&w, "c", "{\"uuid\": \"c\"}");
    assert_error(&a, "registration_reply", "RuntimeError",
                 "this controller takes at most 2 engines");
    close_answer(&a);
    hub_on_engine_lost(w.hub, SPAN_LIT("a"), "killed", w.now, w.wall);
    assert_int_equal(hello_id(&w, "c", "{\"uuid\": \"c\"}"), 2);
    world_close(&w);
}

/* ---- death ------------------------------------------------------------ */

static void
test_stranded_requests_become_engine_errors(void **state)
{
    struct world w;
    struct answer a;
    const json_t *rec;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = mux_request(&w, 0, "m1");
    hub_on_engine_lost(w.hub, SPAN_LIT("E0"), "its process ended", w.now,
                       w.wall);
    // A reply may still be on its way.
    a = ask(&w, "result_request",
            "{\"msg_ids\": [\"m1\"], \"status_only\": true}");
    assert_same_json(a.content, "{\"status\": \"ok\", \"pending\": [\"m1\"], "
                                "\"completed\": []}");
    close_answer(&a);
    assert_int_equal(hub_tick(w.hub, w.now, w.wall), w.now + 1000);
    pass(&w, 1000);
    a = ask(&w, "result_request", "{\"msg_ids\": [\"m1\"]}");
    assert_same_json(json_object_get(a.content, "completed"), "[\"m1\"]");
    rec = json_object_get(a.content, "m1");
    // What a real client indexes without asking is there.
    assert_same_json(json_object_get(rec, "result_metadata"),
                     "{\"status\": \"error\", \"engine\": \"E0\"}");
    assert_same_json(
        json_object_get(json_object_get(rec, "result_header"), "msg_type"),
        "\"apply_reply\"");
    assert_true(json_is_string(
        json_object_get(json_object_get(rec, "result_header"), "date")));
    rec = json_object_get(rec, "result_content");
    assert_same_json(json_object_get(rec, "ename"), "\"EngineError\"");
    assert_same_json(json_object_get(rec, "evalue"),
                     "\"Engine 0 died while running task 'm1'\"");
    assert_same_json(json_object_get(rec, "engine_info"), "{}");
    assert_true(json_is_array(json_object_get(rec, "traceback")));
    close_answer(&a);
    // Not its completed work.
    expect(&w, "queue_request", "{\"targets\": 0}", "queue_reply",
           "{\"status\": \"ok\", \"0\": {\"queue\": 0, \"completed\": 0, "
           "\"tasks\": 0}, \"unassigned\": 0}");
    msg_unref(&m);
    world_close(&w);
}

static void
test_a_late_reply_counts(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++) { // before and after the obituary
        struct world w;
        struct answer a;
        struct msg *m;

        world_open(&w);
        add_engine(&w);
        m = mux_request(&w, 0, "m1");
        hub_on_engine_lost(w.hub, SPAN_LIT("E0"), "unregistered", w.now,
                           w.wall);
        if (late)
            pass(&w, 5000);
        reply_to(&w, HUB_OUT, 0, m, "value");
        pass(&w, 5000);
        a = ask(&w, "result_request", "{\"msg_ids\": [\"m1\"]}");
        assert_same_json(
            json_object_get(json_object_get(a.content, "m1"), "result_content"),
            "{\"status\": \"ok\"}");
        assert_int_equal(msg_n_buffers(a.m), 1);
        close_answer(&a);
        msg_unref(&m);
        world_close(&w);
    }
}

static void
test_a_request_for_a_dead_engine_is_answered_too(void **state)
{
    struct world w;
    struct answer a;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    hub_on_engine_lost(w.hub, SPAN_LIT("E0"), "killed", w.now, w.wall);
    m = mux_request(&w, 0, "m1");
    msg_unref(&m);
    pass(&w, 1000);
    m = mux_request(&w, 0, "m2");
    msg_unref(&m);
    hub_check(w.hub);
    a = ask(&w, "result_request",
            "{\"msg_ids\": [\"m1\", \"m2\"], \"status_only\": true}");
    assert_same_json(json_object_get(a.content, "completed"),
                     "[\"m1\", \"m2\"]");
    close_answer(&a);
    world_close(&w);
}

static void
test_an_id_taken_over_settles_the_dead_first(void **state)
{
    struct world w;
    struct answer a;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = mux_request(&w, 0, "m1");
    msg_unref(&m);
    hub_on_engine_lost(w.hub, SPAN_LIT("E0"), "killed", w.now, w.wall);
    assert_int_equal(hello_id(&w, "x", "{\"uuid\": \"x\", \"id\": 0}"), 0);
    a = ask(&w, "result_request",
            "{\"msg_ids\": [\"m1\"], \"status_only\": true}");
    assert_same_json(json_object_get(a.content, "completed"), "[\"m1\"]");
    close_answer(&a);
    world_close(&w);
}

/* Thousands of engines come and go; what is kept of them is bounded. */
static void
test_the_dead_are_forgotten_in_the_end(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    for (int i = 0; i < 1500; i++) {
        char uuid[16], content[64];

        (void)snprintf(uuid, sizeof(uuid), "X%d", i);
        (void)snprintf(content, sizeof(content), "{\"uuid\": \"%s\"}", uuid);
        assert_int_equal(hello_id(&w, uuid, content), i);
        hub_on_heart(w.hub, span_str(uuid), w.now, w.wall);
        hub_on_engine_lost(w.hub, span_str(uuid), "killed", w.now, w.wall);
        w.events[0] = '\0';
        pass(&w, 1);
    }
    expect(&w, "queue_request", "{\"targets\": [1499]}", "queue_reply",
           "{\"status\": \"ok\", \"1499\": {\"queue\": 0, \"completed\": 0, "
           "\"tasks\": 0}, \"unassigned\": 0}");
    expect_error(&w, "queue_request", "{\"targets\": [0]}", "hub_error",
                 "IndexError", "No Such Engine: [0]");
    world_close(&w);
}

/* ---- restore ---------------------------------------------------------- */

static void
test_restore(void **state)
{
    struct world w;
    struct buf out = {0};

    (void)state;
    world_open(&w);
    assert_int_equal(
        hub_restore_engines(w.hub,
                            SPAN_LIT("{\"engines\": {\"0\": \"E0\", \"4\": "
                                     "\"E4\"}, \"next_id\": 9}"),
                            NULL),
        0);
    hub_check(w.hub);
    assert_string_equal(w.events, "up 0 E0; up 4 E4; ");
    assert_int_equal(w.notices.n, 0);
    assert_int_equal(hub_n_engines(w.hub), 2);
    assert_true(span_is(hub_engine_uuid(w.hub, 4), "E4"));
    assert_int_equal(hub_engine_uuid(w.hub, 1).n, 0);
    assert_int_equal(hello_id(&w, "x", "{\"uuid\": \"x\"}"), 9);
    assert_int_equal(hub_export_engines(w.hub, &out), 0);
    buf_add_char(&out, '\0');
    assert_string_equal(
        out.p,
        "{\"engines\": {\"0\": \"E0\", \"4\": \"E4\"}, \"next_id\": 10}");
    buf_fini(&out);
    assert_int_equal(
        hub_restore_engines(
            w.hub, SPAN_LIT("{\"engines\": {}, \"next_id\": 0}"), NULL),
        RH_ESTATE);
    world_close(&w);
}

// clang-format off
static const struct { const char *text; int rc; } bad_state[] = {
    { "", RH_EPROTO },
    { "[]", RH_EPROTO },
    { "{\"engines\": {}}", RH_EPROTO },
    { "{\"next_id\": 1}", RH_EPROTO },
    { "{\"engines\": [], \"next_id\": 1}", RH_EPROTO },
    { "{\"engines\": {\"x\": \"E0\"}, \"next_id\": 1}", RH_EPROTO },
    { "{\"engines\": {\"-1\": \"E0\"}, \"next_id\": 1}", RH_EPROTO },
    { "{\"engines\": {\"4294967296\": \"E0\"}, \"next_id\": 1}", RH_EPROTO },
    { "{\"engines\": {\"0\": 5}, \"next_id\": 1}", RH_EPROTO },
    { "{\"engines\": {\"0\": \"\"}, \"next_id\": 1}", RH_EPROTO },
    { "{\"engines\": {\"0\": \"E0\", \"1\": \"E0\"}, \"next_id\": 2}", RH_EPROTO },
    { "{\"engines\": {\"0\": \"E0\"}, \"next_id\": \"1\"}", RH_EPROTO },
};
// clang-format on

static void
test_bad_state_files_change_nothing(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < sizeof(bad_state) / sizeof(bad_state[0]); i++) {
        rh_error err = {0};
        const int rc =
            hub_restore_engines(w.hub, span_str(bad_state[i].text), &err);

        if (rc != bad_state[i].rc)
            fail_msg("%s gives %d", bad_state[i].text, rc);
        assert_true(err.text[0] != '\0');
        assert_int_equal(hub_n_engines(w.hub), 0);
        hub_check(w.hub);
    }
    assert_string_equal(w.events, "");
    assert_int_equal(hello_id(&w, "x", "{\"uuid\": \"x\"}"), 0);
    world_close(&w);
}

static void
test_restore_out_of_memory(void **state)
{
    struct world w;
    int rc;

    (void)state;
    world_open(&w);
    OOM_SWEEP(rc, {
        rc = hub_restore_engines(
            w.hub,
            SPAN_LIT("{\"engines\": {\"0\": \"E0\", \"1\": \"E1\"}, "
                     "\"next_id\": 2}"),
            NULL);
        mem_fail_after(-1);
        hub_check(w.hub);
        assert_int_equal(hub_n_engines(w.hub), rc == 0 ? 2 : 0);
    });
    assert_int_equal(rc, 0);
    world_close(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_steps),
        cmocka_unit_test(test_new_clients_are_told_twice),
        cmocka_unit_test(test_uuid_in_use),
        cmocka_unit_test(test_refused_registrations_change_nothing),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_pending_registrations_expire),
        cmocka_unit_test(test_every_way_to_go),
        cmocka_unit_test(test_unregistration_cancels_a_pending_one),
        cmocka_unit_test(test_bad_unregistrations_are_only_logged),
        cmocka_unit_test(test_a_goodbye_with_a_reason),
        cmocka_unit_test(test_offers),
        cmocka_unit_test(test_engine_limit),
        cmocka_unit_test(test_stranded_requests_become_engine_errors),
        cmocka_unit_test(test_a_late_reply_counts),
        cmocka_unit_test(test_a_request_for_a_dead_engine_is_answered_too),
        cmocka_unit_test(test_an_id_taken_over_settles_the_dead_first),
        cmocka_unit_test(test_the_dead_are_forgotten_in_the_end),
        cmocka_unit_test(test_restore),
        cmocka_unit_test(test_bad_state_files_change_nothing),
        cmocka_unit_test(test_restore_out_of_memory),
    };

    return cmocka_run_group_tests(tests, jansson_from_mem, NULL);
}
