/* traffic_test.c - bookkeeping of each kind of traffic, and what is refused */
#include "support.h"

#include "world.h"

static void
assert_queue(struct world *w, const char *content, const char *reply)
{
    expect(w, "queue_request", content, "queue_reply", reply);
}

static json_t *
record_of(struct world *w, const char *id)
{
    char content[160];
    struct answer a;
    json_t *rec;

    (void)snprintf(content, sizeof(content),
                   "{\"query\": {\"msg_id\": \"%s\"}}", id);
    a = ask(w, "db_request", content);
    assert_string_equal(a.type, "db_reply");
    rec = json_incref(json_array_get(json_object_get(a.content, "records"), 0));
    close_answer(&a);
    return rec;
}

static void
assert_field(struct world *w, const char *id, const char *field,
             const char *want)
{
    json_t *rec = record_of(w, id);

    assert_non_null(rec);
    assert_same_json(json_object_get(rec, field), want);
    json_decref(rec);
}

static void
test_mux(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = mux_request(&w, 0, "m1");
    hub_check(w.hub);
    assert_queue(&w, "{\"targets\": null, \"verbose\": true}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": [\"m1\"], "
                 "\"completed\": [], \"tasks\": []}, \"unassigned\": []}");
    assert_field(&w, "m1", "queue", "\"mux\"");
    assert_field(&w, "m1", "engine_uuid", "\"E0\"");
    assert_field(&w, "m1", "client_uuid", "\"client\"");
    assert_field(&w, "m1", "submitted", "\"2023-11-14T22:13:20.000000Z\"");
    assert_field(&w, "m1", "completed", "null");
    w.wall += 7;
    reply_to(&w, HUB_OUT, 0, m, "value");
    hub_check(w.hub);
    assert_queue(&w, "{\"targets\": null, \"verbose\": true}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": [], \"completed\": "
                 "[\"m1\"], \"tasks\": []}, \"unassigned\": []}");
    assert_field(&w, "m1", "completed", "\"2023-11-14T22:13:20.000007Z\"");
    assert_field(&w, "m1", "started", "\"2023-11-14T22:13:19.500000Z\"");
    assert_field(&w, "m1", "result_content", "{\"status\": \"ok\"}");
    msg_unref(&m);
    world_close(&w);
}

static void
test_tasks_and_retries_leave_no_trace(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    add_engine(&w);
    m = task_request(&w, "t1", "{\"retries\": 3, \"label\": \"x\"}");
    assert_queue(&w, "{\"targets\": [0]}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": 0, \"completed\": 0, "
                 "\"tasks\": 0}, \"unassigned\": 1}");
    hub_on_assigned(w.hub, SPAN_LIT("t1"), SPAN_LIT("E0"));
    assert_queue(&w, "{\"targets\": null}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": 0, \"completed\": 0, "
                 "\"tasks\": 1}, \"1\": {\"queue\": 0, \"completed\": 0, "
                 "\"tasks\": 0}, \"unassigned\": 0}");
    // Unmet, tried elsewhere, and again.
    hub_on_assigned(w.hub, SPAN_LIT("t1"), SPAN_LIT("E1"));
    hub_on_assigned(w.hub, SPAN_LIT("t1"), SPAN_LIT("E0"));
    hub_on_assigned(w.hub, SPAN_LIT("t1"), SPAN_LIT("E1"));
    hub_check(w.hub);
    assert_field(&w, "t1", "engine_uuid", "\"E1\"");
    reply_to(&w, HUB_OUTTASK, 1, m, "value");
    hub_check(w.hub);
    assert_queue(&w, "{\"targets\": null}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": 0, \"completed\": 0, "
                 "\"tasks\": 0}, \"1\": {\"queue\": 0, \"completed\": 1, "
                 "\"tasks\": 0}, \"unassigned\": 0}");
    assert_field(&w, "t1", "label", "\"x\"");
    assert_field(&w, "t1", "queue", "\"task\"");
    msg_unref(&m);
    world_close(&w);
}

/* The same with a signed message, as other programs send it. */
static void
test_task_destination(void **state)
{
    static const char *const bad[] = {
        "{}", "{\"msg_id\": \"t1\"}", "{\"msg_id\": 1, \"engine_id\": 2}",
        "{\"msg_id\": \"nope\", \"engine_id\": \"E0\"}", "[1]"};
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = task_request(&w, "t1", "{}");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        traffic(&w, HUB_TRACKTASK,
                make(&w, (struct parts){.from = &w.scheduler,
                                        .ident = {"sched"},
                                        .type = "task_destination",
                                        .content = bad[i]}));
        hub_check(w.hub);
    }
    traffic(&w, HUB_TRACKTASK,
            make(&w, (struct parts){.from = &w.scheduler,
                                    .ident = {"sched"},
                                    .type = "task_destination",
                                    .content =
                                        "{\"msg_id\": \"t1\", \"engine_id\": "
                                        "\"E0\"}"}));
    assert_queue(&w, "{\"targets\": \"E0\", \"verbose\": true}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": [], \"completed\": "
                 "[], \"tasks\": [\"t1\"]}, \"unassigned\": []}");
    msg_unref(&m);
    world_close(&w);
}

static void
scheduler_error(struct world *w, struct msg *request, const char *engine)
{
    char metadata[64] = "{}";

    if (engine)
        (void)snprintf(metadata, sizeof(metadata),
                       "{\"status\": \"error\", \"engine\": \"%s\"}", engine);
    traffic(w, HUB_OUTTASK,
            make(w, (struct parts){
                        .from = &w->scheduler,
                        .ident = {"cid", engine},
                        .type = "apply_reply",
                        .parent = request,
                        .metadata = metadata,
                        .content = "{\"status\": \"error\", \"ename\": "
                                   "\"TaskTimeout\", \"evalue\": \"\", "
                                   "\"traceback\": [], \"engine_info\": {}}"}));
}

static void
test_the_schedulers_failures(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = task_request(&w, "t1", "{}");
    scheduler_error(&w, m, NULL);
    msg_unref(&m);
    m = task_request(&w, "t2", "{}");
    hub_on_assigned(w.hub, SPAN_LIT("t2"), SPAN_LIT("E0"));
    hub_on_engine_lost(w.hub, SPAN_LIT("E0"), "killed", w.now, w.wall);
    // Still shown: its work is not settled.
    assert_queue(&w, "{\"targets\": null}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": 0, \"completed\": 0, "
                 "\"tasks\": 1}, \"unassigned\": 0}");
    scheduler_error(&w, m, "E0");
    msg_unref(&m);
    hub_check(w.hub);
    // Done, but no engine's work; the dead engine is not shown any more.
    assert_queue(&w, "{\"targets\": null}",
                 "{\"status\": \"ok\", \"unassigned\": 0}");
    assert_queue(&w, "{\"targets\": 0}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": 0, \"completed\": 0, "
                 "\"tasks\": 0}, \"unassigned\": 0}");
    expect(&w, "result_request",
           "{\"msg_ids\": [\"t1\", \"t2\"], \"status_only\": true}",
           "result_reply",
           "{\"status\": \"ok\", \"pending\": [], \"completed\": [\"t1\", "
           "\"t2\"]}");
    world_close(&w);
}

/* Scheme 'pure': the engine is first named by the reply. */
static void
test_pure_tasks(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = task_request(&w, "t1", "{}");
    reply_to(&w, HUB_OUTTASK, 0, m, "value");
    hub_check(w.hub);
    assert_queue(&w, "{\"targets\": 0}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": 0, \"completed\": 1, "
                 "\"tasks\": 0}, \"unassigned\": 0}");
    msg_unref(&m);
    world_close(&w);
}

static struct msg *
share(struct world *w, int engine, const char *id)
{
    struct msg *m =
        make(w, (struct parts){.from = &w->client,
                               .ident = {uuid_of(w, engine), "cid"},
                               .type = "apply_request",
                               .id = id,
                               .metadata = "{\"is_broadcast\": true}"});

    hub_on_traffic(w->hub, HUB_INBCAST, m, w->now, w->wall);
    return m;
}

static void
test_broadcast_shares(void **state)
{
    struct world w;
    struct msg *a, *b;

    (void)state;
    world_open(&w);
    add_engine(&w);
    add_engine(&w);
    a = share(&w, 0, "b1_E0");
    b = share(&w, 1, "b1_E1");
    reply_to(&w, HUB_OUTBCAST, 1, b, "value");
    hub_check(w.hub);
    assert_queue(&w, "{\"targets\": null, \"verbose\": true}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": [\"b1_E0\"], "
                 "\"completed\": [], \"tasks\": []}, \"1\": {\"queue\": [], "
                 "\"completed\": [\"b1_E1\"], \"tasks\": []}, "
                 "\"unassigned\": []}");
    assert_field(&w, "b1_E1", "queue", "\"broadcast\"");
    assert_field(&w, "b1_E1", "result_content", "{\"status\": \"ok\"}");
    msg_unref(&a);
    msg_unref(&b);
    world_close(&w);
}

static struct msg *
coalescing(struct world *w, const char *targets)
{
    char metadata[160];
    struct msg *m;

    (void)snprintf(metadata, sizeof(metadata),
                   "{\"targets\": %s, \"is_broadcast\": true, "
                   "\"is_coalescing\": true}",
                   targets);
    m = make(w, (struct parts){.from = &w->client,
                               .ident = {"cid"},
                               .type = "apply_request",
                               .id = "b1",
                               .metadata = metadata});
    hub_on_traffic(w->hub, HUB_INBCAST, m, w->now, w->wall);
    hub_check(w->hub);
    return m;
}

/* The reply has the parent of the engine that came last. */
static void
coalesced_reply(struct world *w)
{
    struct msg *last = make(w, (struct parts){.from = &w->client,
                                              .type = "apply_request",
                                              .id = "b1_E1"});

    traffic(
        w, HUB_OUTBCAST,
        make(w, (struct parts){
                    .from = &w->engine[1],
                    .ident = {"cid"},
                    .type = "apply_reply",
                    .parent = last,
                    .metadata =
                        "{\"engine\": \"E1\", \"is_coalescing\": true, "
                        "\"original_msg_id\": \"b1\", \"status\": \"ok\", "
                        "\"broadcast_targets\": [[\"E0\", 0], [\"E1\", 1]]}",
                    .content = "{\"status\": \"ok\"}",
                    .buffer = {"one", "two"}}));
    msg_unref(&last);
    hub_check(w->hub);
}

static void
test_coalescing_broadcast(void **state)
{
    struct world w;
    struct msg *m, *part;
    struct answer a;

    (void)state;
    world_open(&w);
    add_engine(&w);
    add_engine(&w);
    m = coalescing(&w, "[[\"E0\", 0], [\"E1\", 1], [\"nope\", 7]]");
    assert_queue(&w, "{\"targets\": null, \"verbose\": true}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": [\"b1\"], "
                 "\"completed\": [], \"tasks\": []}, \"1\": {\"queue\": "
                 "[\"b1\"], \"completed\": [], \"tasks\": []}, "
                 "\"unassigned\": []}");
    // Output of a share belongs to the whole.
    part = make(&w, (struct parts){.from = &w.client,
                                   .type = "apply_request",
                                   .id = "b1_E0"});
    output_of(&w, 0, part, "stream",
              "{\"name\": \"stdout\", \"text\": \"hi\\n\"}");
    msg_unref(&part);
    coalesced_reply(&w);
    assert_field(&w, "b1", "stdout", "\"hi\\n\"");
    assert_queue(&w, "{\"targets\": null}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": 0, \"completed\": 1, "
                 "\"tasks\": 0}, \"1\": {\"queue\": 0, \"completed\": 1, "
                 "\"tasks\": 0}, \"unassigned\": 0}");
    a = ask(&w, "result_request", "{\"msg_ids\": [\"b1\"]}");
    assert_same_json(
        json_object_get(json_object_get(a.content, "b1"), "n_result_buffers"),
        "2");
    assert_int_equal(msg_n_buffers(a.m), 2);
    close_answer(&a);
    msg_unref(&m);
    world_close(&w);
}

static void
test_coalescing_broadcast_with_a_dead_engine(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    add_engine(&w);
    m = coalescing(&w, "[[\"E0\", 0], [\"E1\", 1]]");
    hub_on_engine_lost(w.hub, SPAN_LIT("E0"), "killed", w.now, w.wall);
    pass(&w, 1000);
    assert_field(&w, "b1", "result_metadata",
                 "{\"status\": \"error\", \"engine\": \"E0\"}");
    // If somebody puts an answer together all the same, it counts.
    coalesced_reply(&w);
    assert_field(&w, "b1", "result_content", "{\"status\": \"ok\"}");
    msg_unref(&m);
    world_close(&w);
}

static void
test_odd_coalescing_metadata(void **state)
{
    static const char *const targets[] = {
        "null", "[]", "5", "[5, null, [], [7], {}]", "[\"E0\"]", "{\"a\": 1}"};

    (void)state;
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        struct world w;
        struct msg *m;

        world_open(&w);
        add_engine(&w);
        add_engine(&w);
        m = coalescing(&w, targets[i]);
        coalesced_reply(&w);
        assert_field(&w, "b1", "result_content", "{\"status\": \"ok\"}");
        msg_unref(&m);
        world_close(&w);
    }
}

/* ---- output ----------------------------------------------------------- */

static void
test_output(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = make(&w, (struct parts){.from = &w.client,
                                .ident = {"E0", "cid"},
                                .type = "execute_request",
                                .id = "m1",
                                .content = "{\"code\": \"6*7\"}"});
    output_of(&w, 0, m, "execute_input",
              "{\"code\": \"6*7\", \"execution_count\": 5}"); // comes first
    hub_on_traffic(w.hub, HUB_IN, m, w.now, w.wall);
    output_of(&w, 0, m, "stream", "{\"name\": \"stdout\", \"text\": \"a\"}");
    output_of(&w, 0, m, "stream", "{\"name\": \"stderr\", \"text\": \"e\"}");
    output_of(&w, 0, m, "stream",
              "{\"name\": \"stdout\", \"text\": \"b\\u00fc\"}");
    output_of(&w, 0, m, "stream", "{\"name\": \"other\", \"text\": \"x\"}");
    output_of(&w, 0, m, "stream", "{\"name\": \"stdout\", \"text\": 5}");
    output_of(&w, 0, m, "display_data", "{\"data\": {\"text/plain\": \"1\"}}");
    output_of(&w, 0, m, "display_data", "{\"data\": {\"text/plain\": \"2\"}}");
    output_of(&w, 0, m, "execute_result", "{\"data\": {}}");
    output_of(&w, 0, m, "error", "{\"ename\": \"E\"}");
    output_of(&w, 0, m, "data_message", "{\"keys\": [\"a\"]}");
    output_of(&w, 0, m, "comm_open", "{\"comm_id\": \"1\"}");
    output_of(&w, 0, m, "clear_output", "{\"wait\": false}");
    output_of(&w, 0, NULL, "stream",
              "{\"name\": \"stdout\", \"text\": \"nobody's\"}");
    assert_field(&w, "m1", "execute_input", "\"6*7\"");
    assert_field(&w, "m1", "stdout", "\"ab\\u00fc\"");
    assert_field(&w, "m1", "stderr", "\"e\"");
    assert_field(&w, "m1", "display_data",
                 "{\"data\": {\"text/plain\": "
                 "\"2\"}}");
    assert_field(&w, "m1", "execute_result", "{\"data\": {}}");
    assert_field(&w, "m1", "error", "{\"ename\": \"E\"}");
    assert_field(&w, "m1", "queue", "\"mux\"");
    assert_field(&w, "m1", "content", "{\"code\": \"6*7\"}");
    msg_unref(&m);
    world_close(&w);
}

/* A status that nobody signed is none. */
static void
test_forged_status_is_dropped(void **state)
{
    const struct span frame[] = {SPAN_LIT("engine.0.status"),
                                 SPAN_LIT(MSG_DELIM),
                                 SPAN_LIT("forged"),
                                 SPAN_LIT("{}"),
                                 SPAN_LIT("{}"),
                                 SPAN_LIT("{}"),
                                 SPAN_LIT("{}")};
    struct world w;
    struct msg *m = msg_new(frame, 7);

    (void)state;
    world_open(&w);
    assert_int_equal(msg_parse(m, &msg_limits_default, NULL), 0);
    traffic(&w, HUB_IOPUB, m);
    assert_non_null(strstr(w.last_log, "iopub message dropped: signature"));
    world_close(&w);
}

static void
test_output_does_not_bring_back_purged_records(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = mux_request(&w, 0, "m1");
    reply_to(&w, HUB_OUT, 0, m, "value");
    expect(&w, "purge_request", "{\"msg_ids\": \"all\"}", "purge_reply",
           "{\"status\": \"ok\"}");
    output_of(&w, 0, m, "stream", "{\"name\": \"stdout\", \"text\": \"x\"}");
    assert_null(record_of(&w, "m1"));
    msg_unref(&m);
    world_close(&w);
}

/* ---- what is refused -------------------------------------------------- */

static void
test_forged_and_repeated_messages(void **state)
{
    struct world w;
    struct msg *m;
    struct session *other = NULL;
    struct sender forger;

    (void)state;
    world_open(&w);
    add_engine(&w);
    assert_int_equal(
        session_new(&other, SPAN_LIT("wrong"), "hmac-sha256", NULL), 0);
    assert_int_equal(sender_init(&forger, other, "x", "x", NULL), 0);
    traffic(&w, HUB_IN,
            make(&w, (struct parts){.from = &forger,
                                    .ident = {"E0", "cid"},
                                    .type = "apply_request"}));
    assert_non_null(strstr(w.last_log, "in message dropped"));
    m = mux_request(&w, 0, "m1");
    w.last_log[0] = '\0';
    hub_on_traffic(w.hub, HUB_IN, m, w.now, w.wall); // the same once more
    assert_non_null(strstr(w.last_log, "in message dropped"));
    assert_queue(&w, "{\"targets\": 0}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": 1, \"completed\": 0, "
                 "\"tasks\": 0}, \"unassigned\": 0}");
    msg_unref(&m);
    sender_fini(&forger);
    session_free(&other);
    world_close(&w);
}

static void
test_too_few_routing_frames(void **state)
{
    // clang-format off
    static const struct { enum hub_kind kind; int idents; bool ok; } cases[] = {
        { HUB_IN, 0, false },      { HUB_IN, 1, false },
        { HUB_OUT, 1, false },     { HUB_INTASK, 0, false },
        { HUB_INTASK, 1, true },   { HUB_OUTTASK, 0, false },
        { HUB_IOPUB, 0, false },   { HUB_INBCAST, 0, false },
        { HUB_OUTBCAST, 0, false },
    };
    // clang-format on
    struct world w;

    (void)state;
    world_open(&w);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct parts p = {.from = &w.client, .type = "apply_request"};

        for (int k = 0; k < cases[i].idents; k++)
            p.ident[k] = "frame";
        w.last_log[0] = '\0';
        traffic(&w, cases[i].kind, make(&w, p));
        assert_int_equal(w.last_log[0] == '\0', cases[i].ok);
        hub_check(w.hub);
    }
    world_close(&w);
}

static void
test_unknown_engines_and_replies(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    traffic(&w, HUB_IN,
            make(&w, (struct parts){.from = &w.client,
                                    .ident = {"nope", "cid"},
                                    .type = "apply_request",
                                    .id = "m1"}));
    assert_null(record_of(&w, "m1"));
    m = make(&w, (struct parts){.from = &w.client, .type = "x", .id = "m2"});
    reply_to(&w, HUB_OUT, 0, m, "nobody asked");
    reply_to(&w, HUB_OUTTASK, 0, m, "nobody asked");
    assert_null(record_of(&w, "m2"));
    reply_to(&w, HUB_OUT, 0, NULL, "to nothing");
    hub_check(w.hub);
    msg_unref(&m);
    world_close(&w);
}

/* An id used twice does not reopen what is finished. */
static void
test_reused_ids(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = mux_request(&w, 0, "m1");
    reply_to(&w, HUB_OUT, 0, m, "value");
    msg_unref(&m);
    w.wall++;
    m = mux_request(&w, 0, "m1");
    hub_check(w.hub);
    assert_non_null(strstr(w.last_log, "used before"));
    w.wall++;
    reply_to(&w, HUB_OUT, 0, m, "another");
    expect(&w, "result_request",
           "{\"msg_ids\": [\"m1\"], \"status_only\": true}", "result_reply",
           "{\"status\": \"ok\", \"pending\": [], \"completed\": [\"m1\"]}");
    msg_unref(&m);
    world_close(&w);
}

static void
test_huge_ids_are_refused(void **state)
{
    char header[2200];
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    memset(header, 'x', 2000);
    header[2000] = '\0';
    m = make(&w, (struct parts){.from = &w.client,
                                .ident = {"E0", "cid"},
                                .type = "apply_request",
                                .id = header});
    traffic(&w, HUB_IN, m);
    assert_non_null(strstr(w.last_log, "2000 bytes"));
    world_close(&w);
}

static void
test_finished_ids_are_bounded(void **state)
{
    const struct hub_config config = {.max_finished = 10};
    struct store *store = NULL;
    struct world w;

    (void)state;
    assert_int_equal(memory_open(&store, NULL, NULL), 0);
    assert_int_equal(world_open_store(&w, store, &config), 0);
    add_engine(&w);
    for (int i = 0; i < 100; i++) {
        struct msg *m;
        char id[16];

        (void)snprintf(id, sizeof(id), "m%03d", i);
        m = mux_request(&w, 0, id);
        reply_to(&w, HUB_OUT, 0, m, "value");
        msg_unref(&m);
        hub_check(w.hub);
    }
    // The count is true; what is forgotten here the database still knows.
    assert_queue(&w, "{\"targets\": 0}",
                 "{\"status\": \"ok\", \"0\": {\"queue\": 0, \"completed\": "
                 "100, \"tasks\": 0}, \"unassigned\": 0}");
    expect(&w, "result_request",
           "{\"msg_ids\": [\"m000\", \"m099\"], \"status_only\": true}",
           "result_reply",
           "{\"status\": \"ok\", \"pending\": [], \"completed\": [\"m000\", "
           "\"m099\"]}");
    world_close(&w);
}

/* A database outlives its controller: what ran then may end now. */
static void
test_tasks_of_an_earlier_controller(void **state)
{
    struct world w;
    struct record old;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = make(&w, (struct parts){
                     .from = &w.client, .type = "apply_request", .id = "old"});
    record_init(&old);
    old.request = m;
    old.submitted_us = WALL - 1;
    assert_int_equal(w.store->ops->put(w.store, SPAN_LIT("old"), &old, NULL),
                     0);
    expect(&w, "result_request", "{\"msg_ids\": [\"old\"]}", "result_reply",
           "{\"status\": \"ok\", \"pending\": [\"old\"], \"completed\": "
           "[]}");
    reply_to(&w, HUB_OUT, 0, m, "value");
    expect(&w, "result_request",
           "{\"msg_ids\": [\"old\"], \"status_only\": true}", "result_reply",
           "{\"status\": \"ok\", \"pending\": [], \"completed\": "
           "[\"old\"]}");
    assert_field(&w, "old", "result_content", "{\"status\": \"ok\"}");
    // A second reply does not count.
    w.wall++;
    traffic(&w, HUB_OUT,
            make(&w, (struct parts){.from = &w.engine[0],
                                    .ident = {"cid", "E0"},
                                    .type = "apply_reply",
                                    .parent = m,
                                    .content = "{\"status\": \"other\"}"}));
    assert_field(&w, "old", "result_content", "{\"status\": \"ok\"}");
    msg_unref(&m);
    world_close(&w);
}

/* Output alone is no task that anybody could wait for. */
static void
test_output_without_a_request_is_no_task(void **state)
{
    struct world w;
    struct msg *m;

    (void)state;
    world_open(&w);
    add_engine(&w);
    m = make(&w, (struct parts){.from = &w.client,
                                .type = "complete_request",
                                .id = "c1"});
    output_of(&w, 0, m, "stream", "{\"name\": \"stdout\", \"text\": \"x\"}");
    msg_unref(&m);
    expect_error(&w, "result_request", "{\"msg_ids\": [\"c1\"]}",
                 "result_reply", "KeyError", "'No such message: c1'");
    expect(&w, "history_request", "{}", "history_reply",
           "{\"status\": \"ok\", \"history\": []}");
    world_close(&w);
}

/* Every kind of event with its n-th allocation and all later ones failing. */
static bool
starve_once(int kind, long n)
{
    struct world w;
    struct msg *request, *m;
    bool whole;
    void *p;

    world_open(&w);
    add_engine(&w);
    request = task_request(&w, "t1", "{}");
    m = make(&w,
             (struct parts){
                 .from = kind == HUB_TRACKTASK ? &w.scheduler : &w.engine[0],
                 .ident = {kind == HUB_IN || kind == HUB_INBCAST ? "E0" : "cid",
                           "E0"},
                 .type = kind == HUB_IOPUB ? "stream" : "apply_reply",
                 .id = "new",
                 .parent = request,
                 .metadata = "{\"engine\": \"E0\"}",
                 .content = "{\"msg_id\": \"t1\", \"engine_id\": "
                            "\"E0\", \"name\": \"stdout\", \"text\": "
                            "\"a\\u00fcb\"}",
                 .buffer = {"x"}});
    mem_fail_after(n);
    hub_on_traffic(w.hub, (enum hub_kind)kind, m, w.now, w.wall);
    p = mem_alloc(1);
    whole = p != NULL;
    mem_free(p);
    mem_fail_after(-1);
    hub_check(w.hub);
    msg_unref(&m);
    msg_unref(&request);
    world_close(&w);
    return whole;
}

static void
test_traffic_out_of_memory(void **state)
{
    (void)state;
    for (int kind = 0; kind < N_HUB_KINDS; kind++) {
        long n = 0;

        while (!starve_once(kind, n))
            assert_in_range(++n, 0, 1000);
    }
}

/* Well signed, and still nothing that can be relied upon. */
static void
test_odd_dicts(void **state)
{
    static const char *const odd[] = {
        "{}",
        "[]",
        "null",
        "\"text\"",
        "{\"engine\": 5, \"started\": [], \"is_coalescing\": \"x\"}",
        "{\"engine\": \"E0\", \"started\": \"never\"}",
        "{\"engine\": \"\\ud800\"}",
        "{\"is_coalescing\": true, \"original_msg_id\": 7}",
        "{\"name\": \"stdout\"}",
        "{\"name\": null, \"text\": {}}",
        "{\"code\": {\"a\": [1, 2]}}",
        "{\"msg_id\": \"t1\", \"engine_id\": null}",
        "{\"targets\": [[[[[]]]]], \"is_coalescing\": true}",
        "{\"broken\": "};
    const int n = sizeof(odd) / sizeof(odd[0]);
    struct world w;
    struct msg *request;
    struct answer a;

    (void)state;
    world_open(&w);
    add_engine(&w);
    request = task_request(&w, "t1", "{}");
    for (int i = 0; i < n * n * N_HUB_KINDS; i++) {
        static const char *const type[] = {"stream", "execute_input", "error",
                                           "execute_result", "apply_reply"};

        traffic(&w, (enum hub_kind)(i % N_HUB_KINDS),
                make(&w, (struct parts){.from = &w.engine[0],
                                        .ident = {"E0", "cid"},
                                        .type = type[i % 5],
                                        .parent = i % 3 ? request : NULL,
                                        .metadata = odd[i % n],
                                        .content = odd[i / n % n]}));
        hub_check(w.hub);
    }
    // Whatever was recorded, an answer about it is JSON.
    a = ask(&w, "db_request", "{\"query\": {}}");
    assert_string_equal(a.type, "db_reply");
    close_answer(&a);
    msg_unref(&request);
    world_close(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mux),
        cmocka_unit_test(test_tasks_and_retries_leave_no_trace),
        cmocka_unit_test(test_task_destination),
        cmocka_unit_test(test_the_schedulers_failures),
        cmocka_unit_test(test_pure_tasks),
        cmocka_unit_test(test_broadcast_shares),
        cmocka_unit_test(test_coalescing_broadcast),
        cmocka_unit_test(test_coalescing_broadcast_with_a_dead_engine),
        cmocka_unit_test(test_odd_coalescing_metadata),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_forged_status_is_dropped),
        cmocka_unit_test(test_output_does_not_bring_back_purged_records),
        cmocka_unit_test(test_forged_and_repeated_messages),
        cmocka_unit_test(test_too_few_routing_frames),
        cmocka_unit_test(test_unknown_engines_and_replies),
        cmocka_unit_test(test_reused_ids),
        cmocka_unit_test(test_huge_ids_are_refused),
        cmocka_unit_test(test_finished_ids_are_bounded),
        cmocka_unit_test(test_tasks_of_an_earlier_controller),
        cmocka_unit_test(test_output_without_a_request_is_no_task),
        cmocka_unit_test(test_traffic_out_of_memory),
        cmocka_unit_test(test_odd_dicts),
    };

    return cmocka_run_group_tests(tests, jansson_from_mem, NULL);
}
