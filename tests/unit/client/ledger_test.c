/* ledger_test.c - what settles a request, and that it happens once
 *
 * The port records every call; a storm of random arrivals at the end checks
 * the same promises on thousands of orders nobody thought of.
 */
#include "support.h"

#include <stdlib.h>

#include "made.h"

static struct ledger ledger;
static struct moment now;
static unsigned n_done, n_output_done, n_output, n_joined, n_left, n_stray,
    n_shutdown;

static void
on_settled(void *ctx, struct rh_request *req, unsigned bits)
{
    (void)ctx;
    assert_true(bits != 0);
    assert_int_equal(request_state(req) & bits, bits);
    n_done += (bits & RH_DONE) != 0;
    n_output_done += (bits & RH_OUTPUT_DONE) != 0;
}

static void
on_output(void *ctx, struct rh_request *req)
{
    (void)ctx;
    assert_true(req->n_output > 0);
    n_output++;
}

static void
on_engine(void *ctx, const struct engine *engine, bool joined)
{
    (void)ctx;
    assert_true(engine->id >= 0);
    n_joined += joined;
    n_left += !joined;
}

static void
on_stray(void *ctx, struct msg *m)
{
    (void)ctx;
    (void)m;
    n_stray++;
}

static void
on_shutdown(void *ctx)
{
    (void)ctx;
    n_shutdown++;
}

static const struct ledger_port port = {on_settled, on_output, on_engine,
                                        on_stray, on_shutdown};

static int
set_up(void **state)
{
    (void)state;
    ledger_init(&ledger, SPAN_LIT(SESSION), &port, NULL);
    now = (struct moment){1000000, 5000000};
    n_done = n_output_done = n_output = n_joined = n_left = n_stray =
        n_shutdown = 0;
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    ledger_check(&ledger);
    ledger_fail_all(&ledger, FAIL_CLOSED, now);
    assert_int_equal(ledger.pending.n, 0);
    ledger_fini(&ledger);
    return 0;
}

static int
reply(const char *parent, const char *content)
{
    struct msg *m =
        make_child("apply_reply", parent, "{\"engine\": \"E0\"}", content);
    int rc = ledger_reply(&ledger, m, now, NULL);

    msg_unref(&m);
    ledger_check(&ledger);
    return rc;
}

static int
publish(const char *type, const char *parent, const char *content)
{
    struct msg *m = make_child(type, parent, "{}", content);
    int rc = ledger_output(&ledger, m, now, NULL);

    msg_unref(&m);
    ledger_check(&ledger);
    return rc;
}

static void
notify(const char *what, int id, const char *uuid)
{
    struct msg *m = make_notification(what, id, uuid);

    assert_int_equal(ledger_notify(&ledger, m, now, NULL), 0);
    msg_unref(&m);
    ledger_check(&ledger);
}

static struct rh_request *
add(enum rh_channel channel, const char *id, const char *target,
    const char *type)
{
    struct rh_request *req = make_request(channel, id, target, type, false);

    assert_int_equal(ledger_add(&ledger, req, now, NULL), 0);
    ledger_check(&ledger);
    return req;
}

static struct rh_request *
broadcast(const char *id, int n, bool coalescing, int expected)
{
    struct rh_request *req =
        make_request(RH_BROADCAST, id, "", "apply_request", coalescing);

    for (int i = 0; i < n; i++) {
        char part[64], uuid[16];

        snprintf(uuid, sizeof(uuid), "E%d", i);
        snprintf(part, sizeof(part), "%s_%s", id, uuid);
        assert_int_equal(request_add_part(req, part, uuid), 0);
    }
    assert_int_equal(ledger_add(&ledger, req, now, NULL), expected);
    ledger_check(&ledger);
    return req;
}

static void
assert_text(struct rh_request *req, enum rh_part part, const char *want)
{
    struct rh_bytes got;
    char *copy;

    assert_int_equal(rh_request_part(req, part, &got), 0);
    copy = mem_strndup(got.p, got.n);
    assert_non_null(strstr(copy, want));
    mem_free(copy);
}

/* ---- one request ------------------------------------------------------ */

static void
test_reply_then_idle(void **state)
{
    struct rh_request *req;

    (void)state;
    notify("registration", 0, "E0");
    req = add(RH_MUX, "a", "E0", "apply_request");
    assert_int_equal(request_state(req), 0);
    assert_int_equal(rh_request_status(req), RH_PENDING);
    assert_int_equal(reply("a", OK_CONTENT), 0);
    assert_int_equal(request_state(req), RH_DONE);
    assert_int_equal(rh_request_status(req), RH_STATUS_OK);
    assert_int_equal(ledger.pending.n, 1);
    assert_int_equal(publish("status", "a", IDLE_CONTENT), 0);
    assert_int_equal(request_state(req), RH_SETTLED);
    assert_int_equal(ledger.pending.n, 0);
    assert_text(req, RH_REPLY_CONTENT, "ok");
    request_unref(&req);
    assert_int_equal(n_done, 1);
    assert_int_equal(n_output_done, 1);
}

static void
test_idle_then_reply(void **state)
{
    struct rh_request *req = add(RH_TASK, "a", "", "execute_request");

    (void)state;
    assert_false(atomic_load(&req->begun));
    assert_int_equal(publish("status", "a", "{\"execution_state\": \"busy\"}"),
                     0);
    assert_true(atomic_load(&req->begun));
    assert_int_equal(request_state(req), 0);
    publish("status", "a", IDLE_CONTENT);
    assert_int_equal(request_state(req), RH_OUTPUT_DONE);
    reply("a", ERROR_CONTENT);
    assert_int_equal(request_state(req), RH_SETTLED);
    assert_int_equal(rh_request_status(req), RH_STATUS_ERROR);
    assert_int_equal(reply("a", OK_CONTENT), RH_ENOENT);
    assert_int_equal(rh_request_status(req), RH_STATUS_ERROR);
    request_unref(&req);
}

static void
test_second_reply_is_dropped(void **state)
{
    struct rh_request *req = add(RH_TASK, "a", "", "apply_request");

    (void)state;
    reply("a", ERROR_CONTENT);
    assert_int_equal(reply("a", OK_CONTENT), RH_EEXIST);
    assert_int_equal(rh_request_status(req), RH_STATUS_ERROR);
    assert_int_equal(ledger.n_late, 1);
    assert_int_equal(n_done, 1);
    request_unref(&req);
}

/* Which replies say that no output follows. */
static void
test_replies_that_end_output(void **state)
{
    static const struct {
        const char *content;
        enum rh_status status;
        unsigned state;
    } cases[] = {
        {OK_CONTENT, RH_STATUS_OK, RH_DONE},
        {"{}", RH_STATUS_OK, RH_DONE},
        {ERROR_CONTENT, RH_STATUS_ERROR, RH_DONE},
        {REFUSAL_CONTENT, RH_STATUS_ERROR, RH_SETTLED},
        {"{\"status\":\"error\",\"engine_info\":{ \n}}", RH_STATUS_ERROR,
         RH_SETTLED},
        {"{\"status\":\"error\",\"engine_info\":null}", RH_STATUS_ERROR,
         RH_SETTLED},
        {"{\"status\":\"error\"}", RH_STATUS_ERROR, RH_SETTLED},
        {"{\"status\":\"resubmitted\",\"engine_info\":{\"a\":1}}",
         RH_STATUS_ERROR, RH_DONE},
        {ABORTED_CONTENT, RH_STATUS_ABORTED, RH_SETTLED},
        {"[]", RH_STATUS_ERROR, RH_SETTLED},
        {"{\"status\":", RH_STATUS_ERROR, RH_SETTLED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rh_request *req = add(RH_TASK, "a", "", "apply_request");

        assert_int_equal(reply("a", cases[i].content), 0);
        assert_int_equal(rh_request_status(req), cases[i].status);
        assert_int_equal(request_state(req), cases[i].state);
        publish("status", "a", IDLE_CONTENT);
        assert_int_equal(request_state(req), RH_SETTLED);
        request_unref(&req);
    }
    assert_int_equal(n_done, n_output_done);
}

static void
test_malformed_reply_is_an_answer(void **state)
{
    struct rh_request *req = add(RH_TASK, "a", "", "apply_request");

    (void)state;
    reply("a", "nonsense");
    assert_text(req, RH_REPLY_CONTENT, "malformed");
    assert_text(req, RH_REPLY_CONTENT, "ProtocolError");
    request_unref(&req);
}

static void
test_control_and_query_have_no_output(void **state)
{
    struct rh_request *req;

    (void)state;
    notify("registration", 0, "E0");
    req = add(RH_CONTROL, "a", "E0", "clear_request");
    assert_int_equal(request_state(req), RH_OUTPUT_DONE);
    reply("a", OK_CONTENT);
    assert_int_equal(request_state(req), RH_SETTLED);
    request_unref(&req);
    req = add(RH_QUERY, "b", "", "queue_request");
    reply("b", OK_CONTENT);
    assert_int_equal(request_state(req), RH_SETTLED);
    request_unref(&req);
}

static void
test_one_way_messages_are_done_at_once(void **state)
{
    struct rh_request *req;

    (void)state;
    notify("registration", 0, "E0");
    req = add(RH_MUX, "a", "E0", "comm_msg");
    assert_int_equal(request_state(req), RH_SETTLED);
    assert_int_equal(rh_request_status(req), RH_STATUS_OK);
    assert_int_equal(ledger.pending.n, 0);
    request_unref(&req);
}

static void
test_ids_are_unique(void **state)
{
    struct rh_request *a = add(RH_TASK, "a", "", "apply_request");
    struct rh_request *b =
        make_request(RH_TASK, "a", "", "apply_request", false);
    rh_error err;

    (void)state;
    assert_int_equal(ledger_add(&ledger, b, now, &err), RH_EEXIST);
    assert_non_null(strstr(err.text, "'a'"));
    request_unref(&b);
    b = make_request(RH_BROADCAST, "b", "", "apply_request", false);
    assert_int_equal(request_add_part(b, "a", "E0"), 0);
    assert_int_equal(ledger_add(&ledger, b, now, &err), RH_EEXIST);
    request_unref(&b);
    assert_int_equal(ledger.pending.n, 1);
    request_unref(&a);
}

static void
test_retracting_and_abandoning(void **state)
{
    struct rh_request *req;

    (void)state;
    notify("registration", 0, "E0");
    req = add(RH_MUX, "a", "E0", "apply_request");
    ledger_retract(&ledger, req);
    assert_int_equal(ledger.pending.n, 0);
    assert_int_equal(reply("a", OK_CONTENT), RH_ENOENT);
    assert_int_equal(request_state(req), 0);
    request_unref(&req);
    req = broadcast("b", 1, false, 0);
    ledger_abandon(&ledger, req->part[0]);
    assert_int_equal(ledger.pending.n, 0);
    request_unref(&req);
    notify("unregistration", 0, "E0"); // nothing of theirs is on the engine
}

/* ---- output ----------------------------------------------------------- */

static void
test_text_of_streams(void **state)
{
    struct rh_request *req = add(RH_TASK, "a", "", "execute_request");
    struct rh_output out;
    char *text;
    size_t n;

    (void)state;
    publish("stream", "a", "{\"name\": \"stdout\", \"text\": \"one\\n\"}");
    text = rh_request_text(req, 1, &n);
    assert_string_equal(text, "one\n");
    rh_free(text);
    publish("display_data", "a", "{\"data\": {}}");
    publish("stream", "a", "{\"name\": \"stderr\", \"text\": \"\\u20ac\"}");
    publish("stream", "a", "{\"name\": \"stdout\", \"text\": \"two\"}");
    publish("stream", "a", "{\"name\": \"stdout\", \"text\": 7}");
    text = rh_request_text(req, 1, NULL);
    assert_string_equal(text, "one\ntwo");
    rh_free(text);
    text = rh_request_text(req, 2, &n);
    assert_string_equal(text, "\xe2\x82\xac");
    assert_int_equal(n, 3);
    rh_free(text);
    assert_int_equal(rh_request_output(req, 1, &out), 0);
    assert_int_equal(out.msg_type.n, 12);
    assert_memory_equal(out.msg_type.p, "display_data", 12);
    assert_int_equal(rh_request_output(req, 5, &out), RH_ENOENT);
    assert_int_equal(n_output, 5);
    request_unref(&req);
}

static void
test_output_of_others_is_ignored(void **state)
{
    struct rh_request *req = add(RH_TASK, "a", "", "apply_request");
    struct msg *m = make_msg("{\"msg_id\":\"x\",\"msg_type\":\"stream\"}",
                             "{\"msg_id\":\"a\",\"session\":\"other\"}", "{}",
                             "{\"name\":\"stdout\",\"text\":\"x\"}", NULL);

    (void)state;
    assert_int_equal(ledger_output(&ledger, m, now, NULL), 0);
    msg_unref(&m);
    m = make_msg("{\"msg_type\":\"status\"}", "{}", "{}", IDLE_CONTENT, NULL);
    assert_int_equal(ledger_output(&ledger, m, now, NULL), 0);
    msg_unref(&m);
    assert_int_equal(req->n_output, 0);
    assert_int_equal(n_stray, 0);
    request_unref(&req);
}

static void
test_strays(void **state)
{
    struct rh_request *req = add(RH_TASK, "a", "", "apply_request");

    (void)state;
    publish("status", "gone", IDLE_CONTENT);
    assert_int_equal(n_stray, 0);
    publish("display_data", "gone", "{}");
    assert_int_equal(n_stray, 1);
    publish("comm_open", "a", "{}"); // comms belong to the session
    assert_int_equal(n_stray, 2);
    assert_int_equal(req->n_output, 0);
    request_unref(&req);
}

/* ---- engines ---------------------------------------------------------- */

static void
test_death_fails_what_is_pending(void **state)
{
    struct rh_request *mux, *done, *task;
    char uuid[8];

    (void)state;
    notify("registration", 3, "E3");
    mux = add(RH_MUX, "m", "E3", "apply_request");
    done = add(RH_MUX, "d", "E3", "apply_request");
    task = add(RH_TASK, "t", "", "apply_request");
    reply("d", OK_CONTENT);
    notify("unregistration", 3, "E3");
    assert_int_equal(ledger_tick(&ledger, now), now.mono_us + LEAVE_GRACE_US);
    assert_int_equal(request_state(mux), 0);
    now.mono_us += LEAVE_GRACE_US;
    assert_int_equal(ledger_tick(&ledger, now), INT64_MAX);
    assert_int_equal(request_state(mux), RH_SETTLED);
    assert_text(mux, RH_REPLY_CONTENT,
                "\"evalue\": \"Engine 3 died while running task 'm'\"");
    assert_text(mux, RH_REPLY_CONTENT, "\"ename\": \"EngineError\"");
    assert_text(mux, RH_REPLY_CONTENT, "\"engine_info\": {}");
    assert_text(mux, RH_REPLY_METADATA, "\"engine\": \"E3\"");
    assert_text(mux, RH_REPLY_HEADER, "\"msg_type\": \"apply_reply\"");
    assert_int_equal(rh_request_engine(mux, uuid, sizeof(uuid)), 2);
    assert_string_equal(uuid, "E3");
    assert_int_equal(reply("m", OK_CONTENT), RH_ENOENT);
    // It had answered: only its output is over.
    assert_int_equal(request_state(done), RH_SETTLED);
    assert_int_equal(rh_request_status(done), RH_STATUS_OK);
    assert_int_equal(request_state(task), 0);
    request_unref(&mux);
    request_unref(&done);
    request_unref(&task);
}

static void
test_last_words_are_heard(void **state)
{
    struct rh_request *req;

    (void)state;
    notify("registration", 0, "E0");
    req = add(RH_CONTROL, "a", "E0", "shutdown_request");
    notify("unregistration", 0, "E0");
    reply("a", OK_CONTENT);
    now.mono_us += LEAVE_GRACE_US;
    ledger_tick(&ledger, now);
    assert_int_equal(rh_request_status(req), RH_STATUS_OK);
    request_unref(&req);
}

static void
test_unknown_engines_fail_at_once(void **state)
{
    struct rh_request *req =
        make_request(RH_MUX, "a", "nobody", "apply_request", false);

    (void)state;
    assert_int_equal(ledger_add(&ledger, req, now, NULL), 1);
    assert_int_equal(request_state(req), RH_SETTLED);
    assert_text(req, RH_REPLY_CONTENT, "'nobody' is not registered");
    request_unref(&req);
    notify("registration", 0, "E0");
    notify("unregistration", 0, "E0");
    req = make_request(RH_MUX, "b", "E0", "apply_request", false);
    assert_int_equal(ledger_add(&ledger, req, now, NULL), 1);
    request_unref(&req);
}

static void
test_the_list_of_engines(void **state)
{
    static const char json[] = "{\"status\": \"ok\", \"engines\": "
                               "{\"7\": \"E7\", \"2\": \"E2\"}}";
    uint64_t version;

    (void)state;
    assert_int_equal(ledger_connected(&ledger, SPAN_LIT(json), NULL), 0);
    ledger_check(&ledger);
    assert_int_equal(n_joined, 0); // known from the start, no news
    assert_int_equal(ledger.n_engines, 2);
    assert_int_equal(ledger.engine[0]->id, 2);
    version = ledger.version;
    notify("registration", 7, "E7"); // said twice
    assert_int_equal(ledger.version, version);
    notify("registration", 4, "E4");
    assert_int_equal(n_joined, 1);
    assert_true(ledger.version != version);
    notify("registration", 4, "F4"); // replaced
    assert_int_equal(n_left, 1);
    assert_null(ledger_engine(&ledger, SPAN_LIT("E4")));
    notify("registration", 9, "F4"); // moved
    assert_int_equal(ledger.n_engines, 3);
    notify("unregistration", 2, "other"); // not that one
    assert_int_equal(ledger.n_engines, 3);
    notify("unregistration", 99, "E99");
    notify("unregistration", 2, "E2");
    assert_int_equal(ledger.n_engines, 2);
}

static void
test_bad_lists_and_notifications(void **state)
{
    static const char *const lists[] = {
        "",
        "[]",
        "{}",
        "{\"engines\": 1}",
        "{\"engines\": {\"x\": \"E\"}}",
        "{\"engines\": {\"-1\": \"E\"}}",
        "{\"engines\": {\"1\": 2}}",
        "{\"engines\": {\"1\": \"\"}}",
    };
    static const char *const contents[] = {
        "",
        "{}",
        "{\"id\": \"1\", \"uuid\": \"E\"}",
        "{\"id\": 1}",
        "{\"id\": 1, \"uuid\": 2}",
        "{\"id\": 99999999999, \"uuid\": \"E\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        assert_int_equal(ledger_connected(&ledger, span_str(lists[i]), NULL),
                         RH_EPROTO);
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        struct msg *m = make_msg(
            "{\"msg_id\":\"x\",\"msg_type\":\"registration_notification\","
            "\"session\":\"H\"}",
            "{}", "{}", contents[i], NULL);

        assert_int_equal(ledger_notify(&ledger, m, now, NULL), RH_EPROTO);
        msg_unref(&m);
    }
    assert_int_equal(ledger.n_engines, 0);
}

static void
test_goodbye_fails_everything(void **state)
{
    struct rh_request *req = add(RH_TASK, "a", "", "apply_request");

    (void)state;
    notify("shutdown", 0, "");
    notify("shutdown", 0, "");
    assert_int_equal(n_shutdown, 1);
    assert_int_equal(ledger_tick(&ledger, now),
                     now.mono_us + SHUTDOWN_GRACE_US);
    now.mono_us += SHUTDOWN_GRACE_US;
    ledger_tick(&ledger, now);
    assert_int_equal(request_state(req), RH_SETTLED);
    assert_text(req, RH_REPLY_CONTENT, "shut down");
    request_unref(&req);
}

/* ---- broadcasts ------------------------------------------------------- */

static void
register_engines(int n)
{
    for (int i = 0; i < n; i++) {
        char uuid[16];

        snprintf(uuid, sizeof(uuid), "E%d", i);
        notify("registration", i, uuid);
    }
}

static void
test_plain_broadcast(void **state)
{
    struct rh_request *req;

    (void)state;
    register_engines(2);
    req = broadcast("b", 2, false, 0);
    reply("b_E1", OK_CONTENT);
    assert_int_equal(request_state(req), 0);
    assert_int_equal(request_state(req->part[1]), RH_DONE);
    reply("b_E0", OK_CONTENT);
    assert_int_equal(request_state(req), RH_DONE);
    assert_int_equal(rh_request_status(req), RH_STATUS_OK);
    publish("stream", "b_E0", "{\"name\": \"stdout\", \"text\": \"x\"}");
    assert_int_equal(req->part[0]->n_output, 1);
    publish("status", "b_E0", IDLE_CONTENT);
    publish("status", "b_E1", IDLE_CONTENT);
    assert_int_equal(request_state(req), RH_SETTLED);
    assert_int_equal(ledger.pending.n, 0);
    assert_int_equal(rh_request_n_parts(req), 2);
    assert_ptr_equal(rh_request_subrequest(req, 1), req->part[1]);
    request_unref(&req);
    assert_int_equal(n_done, 3);
    assert_int_equal(n_output_done, 3);
}

static void
test_broadcast_and_death(void **state)
{
    struct rh_request *req;

    (void)state;
    register_engines(2);
    req = broadcast("b", 3, false, 0); // E2 does not exist
    assert_int_equal(request_state(req->part[2]), RH_SETTLED);
    reply("b_E0", ABORTED_CONTENT);
    notify("unregistration", 1, "E1");
    now.mono_us += LEAVE_GRACE_US;
    ledger_tick(&ledger, now);
    assert_int_equal(request_state(req), RH_SETTLED);
    assert_int_equal(rh_request_status(req), RH_STATUS_ABORTED);
    assert_text(req->part[1], RH_REPLY_CONTENT,
                "Engine 1 died while running task 'b_E1'");
    assert_int_equal(ledger.pending.n, 0);
    request_unref(&req);
    req = broadcast("c", 0, false, 0);
    request_unref(&req);
}

static void
test_broadcast_to_nobody(void **state)
{
    struct rh_request *req = broadcast("b", 2, false, 1);

    (void)state;
    assert_int_equal(request_state(req), RH_SETTLED);
    request_unref(&req);
    req = broadcast("c", 2, true, 1);
    assert_int_equal(request_state(req), RH_SETTLED);
    assert_text(req, RH_REPLY_CONTENT, "not registered");
    request_unref(&req);
}

static void
test_refused_broadcast(void **state)
{
    struct rh_request *req;

    (void)state;
    register_engines(3);
    req = broadcast("b", 3, false, 0);
    reply("b_E1", OK_CONTENT);
    reply("b", REFUSAL_CONTENT); // the whole
    assert_int_equal(rh_request_status(req->part[0]), RH_STATUS_ERROR);
    assert_int_equal(rh_request_status(req->part[1]), RH_STATUS_OK);
    assert_int_equal(rh_request_status(req), RH_STATUS_ERROR);
    assert_int_equal(request_state(req), RH_DONE);
    publish("status", "b_E1", IDLE_CONTENT);
    assert_int_equal(request_state(req), RH_SETTLED);
    request_unref(&req);
}

static void
test_coalesced_broadcast(void **state)
{
    struct rh_request *req;

    (void)state;
    register_engines(3);
    req = broadcast("b", 3, true, 0);
    publish("stream", "b_E2", "{\"name\": \"stdout\", \"text\": \"x\"}");
    assert_int_equal(req->n_output, 1); // output of all is the whole's
    publish("status", "b_E2", IDLE_CONTENT);
    reply("b_E1", OK_CONTENT); // any part's id
    assert_int_equal(request_state(req), RH_DONE);
    assert_int_equal(rh_request_status(req), RH_STATUS_OK);
    assert_int_equal(reply("b_E0", OK_CONTENT), RH_EEXIST);
    publish("status", "b_E0", IDLE_CONTENT);
    assert_int_equal(request_state(req), RH_DONE);
    notify("unregistration", 1, "E1"); // its idle will not come
    now.mono_us += LEAVE_GRACE_US;
    ledger_tick(&ledger, now);
    assert_int_equal(request_state(req), RH_SETTLED);
    assert_int_equal(rh_request_status(req), RH_STATUS_OK);
    assert_int_equal(ledger.pending.n, 0);
    assert_int_equal(rh_request_n_parts(req), 0);
    request_unref(&req);
}

static void
test_coalesced_broadcast_and_death(void **state)
{
    struct rh_request *req;

    (void)state;
    register_engines(2);
    req = broadcast("b", 2, true, 0);
    notify("unregistration", 1, "E1");
    now.mono_us += LEAVE_GRACE_US;
    ledger_tick(&ledger, now);
    assert_int_equal(request_state(req), RH_SETTLED);
    assert_text(req, RH_REPLY_CONTENT, "Engine 1 died while running task 'b'");
    assert_int_equal(ledger.pending.n, 0);
    request_unref(&req);
}

static void
test_ending_output(void **state)
{
    struct rh_request *req = add(RH_TASK, "a", "", "apply_request");

    (void)state;
    ledger_end_output(&ledger, req); // not before the reply
    assert_int_equal(request_state(req), 0);
    reply("a", OK_CONTENT);
    ledger_end_output(&ledger, req);
    assert_int_equal(request_state(req), RH_SETTLED);
    request_unref(&req);
}

/* ---- hard times ------------------------------------------------------- */

static void
test_out_of_memory(void **state)
{
    struct msg *text = make_child(
        "stream", "a", "{}", "{\"name\": \"stdout\", \"text\": \"\\u20ac\"}");
    struct msg *joined = make_notification("registration", 1, "E1");
    struct msg *answer = make_child("apply_reply", "a", "{}", "bad");
    int rc;

    (void)state;
    OOM_SWEEP(rc, { rc = ledger_notify(&ledger, joined, now, NULL); });
    OOM_SWEEP(rc, {
        struct rh_request *req =
            make_request(RH_MUX, "a", "E1", "apply_request", false);
        const struct msg *made;

        rc = req ? ledger_add(&ledger, req, now, NULL) : RH_ENOMEM;
        if (rc == 0)
            rc = ledger_output(&ledger, text, now, NULL);
        if (rc == 0)
            rc = request_read_text(req);
        if (rc == 0)
            rc = ledger_reply(&ledger, answer, now, NULL);
        if (rc == 0)
            rc = request_reply(req, &made);
        if (req && req->pending)
            ledger_retract(&ledger, req);
        ledger_check(&ledger);
        request_unref(&req);
    });
    OOM_SWEEP(rc, {
        struct rh_request *req =
            make_request(RH_BROADCAST, "b", "", "apply_request", true);

        rc = req ? request_add_part(req, "b_E1", "E1") : RH_ENOMEM;
        if (rc == 0)
            rc = request_add_part(req, "b_E9", "E1");
        if (rc == 0)
            rc = ledger_add(&ledger, req, now, NULL);
        if (req && req->pending)
            ledger_retract(&ledger, req);
        request_unref(&req);
    });
    msg_unref(&text);
    msg_unref(&joined);
    msg_unref(&answer);
}

/* Anything may arrive in any order; a request settles once and for all. */
#define STORM_STEPS 200000
#define STORM_LIVE 64

static struct rh_request *live[STORM_LIVE];
static uint32_t dice_state = 1;

static uint32_t
dice(uint32_t n)
{
    dice_state = dice_state * 1664525u + 1013904223u;
    return (dice_state >> 8) % n;
}

static void
storm_add(uint32_t slot, int serial)
{
    static const char *const types[] = {"apply_request", "execute_request",
                                        "clear_request", "comm_msg"};
    enum rh_channel channel = (enum rh_channel)dice(5);
    bool direct = channel == RH_MUX || channel == RH_CONTROL;
    char id[32], uuid[16], part[64];
    struct rh_request *req;

    snprintf(id, sizeof(id), "r%d", serial);
    snprintf(uuid, sizeof(uuid), "E%u", dice(12));
    req = make_request(channel, id, direct ? uuid : "", types[dice(4)],
                       channel == RH_BROADCAST && dice(2));
    for (uint32_t i = dice(6); channel == RH_BROADCAST && i > 0; i--) {
        snprintf(uuid, sizeof(uuid), "E%u", dice(12));
        snprintf(part, sizeof(part), "%s_%s", id, uuid);
        assert_int_equal(request_add_part(req, part, uuid), 0);
    }
    assert_true(ledger_add(&ledger, req, now, NULL) >= 0);
    live[slot] = req;
}

/* An id of somebody's, in the map or not. */
static const char *
storm_id(uint32_t slot)
{
    struct rh_request *req = live[slot];

    if (!req)
        return "nobody";
    return req->n_parts && dice(4)
               ? req->part[dice((uint32_t)req->n_parts)]->msg_id
               : req->msg_id;
}

static void
storm_step(uint32_t slot, int serial)
{
    static const char *const contents[] = {
        OK_CONTENT, ERROR_CONTENT, REFUSAL_CONTENT, ABORTED_CONTENT, "x"};
    char uuid[16];
    int id = (int)dice(12);

    snprintf(uuid, sizeof(uuid), "E%d", id);
    switch (dice(8)) {
    case 0:
        notify("registration", id, uuid);
        break;
    case 1:
        notify("unregistration", id, uuid);
        break;
    case 2:
        now.mono_us += (int64_t)dice(LEAVE_GRACE_US);
        ledger_tick(&ledger, now);
        break;
    case 3:
        publish("status", storm_id(slot), IDLE_CONTENT);
        break;
    case 4:
        publish("stream", storm_id(slot),
                "{\"name\": \"stdout\", \"text\": \"x\"}");
        break;
    case 5:
        if (live[slot]) {
            if (live[slot]->pending && dice(8) == 0)
                ledger_abandon(&ledger, live[slot]);
            request_unref(&live[slot]);
        }
        storm_add(slot, serial);
        break;
    default:
        reply(storm_id(slot), contents[dice(5)]);
        break;
    }
}

static void
test_storm(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 4; seed++) {
        dice_state = seed;
        for (int i = 0; i < STORM_STEPS / 4; i++)
            storm_step(dice(STORM_LIVE), i);
        ledger_fail_all(&ledger, FAIL_CLOSED, now);
        assert_int_equal(ledger.pending.n, 0);
        for (size_t i = 0; i < STORM_LIVE; i++)
            request_unref(&live[i]);
    }
    assert_true(n_done > 10000);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_reply_then_idle),
        TEST(test_idle_then_reply),
        TEST(test_second_reply_is_dropped),
        TEST(test_replies_that_end_output),
        TEST(test_malformed_reply_is_an_answer),
        TEST(test_control_and_query_have_no_output),
        TEST(test_one_way_messages_are_done_at_once),
        TEST(test_ids_are_unique),
        TEST(test_retracting_and_abandoning),
        TEST(test_text_of_streams),
        TEST(test_output_of_others_is_ignored),
        TEST(test_strays),
        TEST(test_death_fails_what_is_pending),
        TEST(test_last_words_are_heard),
        TEST(test_unknown_engines_fail_at_once),
        TEST(test_the_list_of_engines),
        TEST(test_bad_lists_and_notifications),
        TEST(test_goodbye_fails_everything),
        TEST(test_plain_broadcast),
        TEST(test_broadcast_and_death),
        TEST(test_broadcast_to_nobody),
        TEST(test_refused_broadcast),
        TEST(test_coalesced_broadcast),
        TEST(test_coalesced_broadcast_and_death),
        TEST(test_ending_output),
        TEST(test_out_of_memory),
        TEST(test_storm),
    };

    return cmocka_run_group_tests_name("client.ledger", tests, NULL, NULL);
}
