/* faults_test.c - every event with the 1st, 2nd, ... allocation failing
 *
 * Whatever happens, the task concerned is answered or the event can be made
 * again; nothing leaks; and the scheduler goes on.
 */
#include "world.h"

#define RICH                                                            \
    "{'after': ['a\\u0031'], 'follow': ['a1', 'b1'], 'targets': ['A', " \
    "'\\u0042'], 'retries': 2, 'retry_delay': 0.5, 'retry_on': ['X', "  \
    "'\\u0059'], 'timeout': 9, 'priority': 2, 'retry_same_engine': true}"

/* Two engines with a task each, others waiting. */
static struct world *
busy_world(void)
{
    struct sched_config config;
    struct world *w;

    sched_config_init(&config);
    config.window = 1000;
    w = world_new(&config);
    w->quiet = true;
    assert_int_equal(world_engine(w, "A", SCHED_PREFETCH), 0);
    assert_int_equal(world_engine(w, "B", 0), 0);
    assert_int_equal(world_submit(w, "c", "b1", "{'retries': 3}"), 0);
    assert_int_equal(world_submit(w, "c", "a1", "{'retries': 3}"), 0);
    assert_int_equal(world_submit(w, "c", "w1", "{'retries': 3}"), 0);
    assert_int_equal(world_submit(w, "d", "w2", "{'targets': ['B']}"), 0);
    assert_int_equal(world_submit(w, "d", "w3", "{'after': ['w2']}"), 0);
    return w;
}

/* Everything that was submitted is answered exactly once in the end. */
static void
settle(struct world *w, size_t submitted)
{
    static const char *const id[] = {"b1", "a1", "w1", "w2", "w3", "x"};
    struct sched_stats st;

    sched_check(w->s);
    for (int round = 0; round < 40; round++) {
        world_pass(w, w->now + 1000);
        for (int e = 0; e < 3; e++)
            for (int i = 0; i < 6; i++) {
                const char *name[] = {"A", "B", "C"};

                (void)world_reply(w, name[e], id[i], "ok");
                sched_check(w->s);
            }
    }
    for (int i = 0; i < 6; i++) {
        struct span one = span_str(id[i]);

        (void)sched_cancel(w->s, &one, 1, NULL, w->now);
    }
    sched_check(w->s);
    sched_get_stats(w->s, &st);
    assert_int_equal(st.n_unassigned + st.n_running + st.n_answering, 0);
    assert_int_equal(st.submitted, submitted);
    assert_int_equal(w->n_relay + w->n_answer, submitted);
    world_free(w);
}

/* Fails the n-th allocation of one event, n = 0, 1, ..., until none fails. */
struct sweep {
    const char *name;
    int (*event)(struct world *w, struct msg *m);
    struct msg *(*message)(void);
    size_t adds;     // submissions the event adds if it succeeds
    bool may_refuse; // may return RH_ENOMEM with nothing changed
};

static struct msg *
plain_request(void)
{
    return make_request("new", "x", "{}");
}

static struct msg *
rich_request(void)
{
    return make_request("new", "x", RICH);
}

static struct msg *
invalid_request(void)
{
    return make_request("new", "x", "{'after': ['nobody']}");
}

static struct msg *
impossible_request(void)
{
    return make_request("new", "x", "{'targets': ['nobody']}");
}

static struct msg *
target_request(void)
{
    return make_request("new", "x", "{'targets': ['A', 'B']}");
}

static int
submit_event(struct world *w, struct msg *m)
{
    return sched_on_submit(w->s, m, w->now, NULL);
}

static struct msg *
ok_reply(void)
{
    return make_reply("A", "a1", "ok");
}

static struct msg *
error_reply(void)
{
    return make_reply("A", "a1", "error");
}

static struct msg *
unmet_reply(void)
{
    return make_reply("B", "b1", "unmet");
}

static int
reply_event(struct world *w, struct msg *m)
{
    return sched_on_reply(w->s, m, w->now, NULL);
}

static int
engine_event(struct world *w, struct msg *m)
{
    (void)m;
    return sched_on_engine(w->s, SPAN_LIT("C"), 7, 3, w->now, NULL);
}

static int
lost_event(struct world *w, struct msg *m)
{
    (void)m;
    return sched_on_engine_lost(w->s, SPAN_LIT("B"), SPAN_LIT("why"), w->now,
                                0);
}

static int
cancel_event(struct world *w, struct msg *m)
{
    struct span id = SPAN_LIT("w2");

    (void)m;
    return (int)sched_cancel(w->s, &id, 1, NULL, w->now);
}

static const struct sweep sweeps[] = {
    {"plain", submit_event, plain_request, 1, false},
    {"rich", submit_event, rich_request, 1, false},
    {"invalid", submit_event, invalid_request, 1, false},
    {"impossible", submit_event, impossible_request, 1, false},
    {"target", submit_event, target_request, 1, false},
    {"ok", reply_event, ok_reply, 0, false},
    {"error", reply_event, error_reply, 0, false},
    {"unmet", reply_event, unmet_reply, 0, false},
    {"engine", engine_event, NULL, 0, true},
    {"lost", lost_event, NULL, 0, false},
    {"cancel", cancel_event, NULL, 0, false},
};

static void
run_sweep(const struct sweep *sweep)
{
    for (long n = 0; n < 40; n++) {
        struct world *w = busy_world();
        struct msg *m = sweep->message ? sweep->message() : NULL;
        int rc;

        mem_fail_after(n);
        rc = sweep->event(w, m);
        mem_fail_after(-1);
        sched_check(w->s);
        if (rc == RH_ENOMEM && sweep->may_refuse)
            assert_int_equal(sweep->event(w, m), 0);
        else if (rc < 0)
            fail_msg("%s: %d with allocation %ld failing", sweep->name, rc, n);
        msg_unref(&m);
        settle(w, 5 + sweep->adds);
    }
}

static void
test_every_event(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(sweeps) / sizeof(sweeps[0]); i++)
        run_sweep(&sweeps[i]);
}

/* When not even the refusal can be sent, nothing has happened. */
static void
test_submission_is_left_to_the_caller(void **state)
{
    (void)state;
    for (long n = 0; n < 20; n++) {
        struct world *w = busy_world();
        struct msg *m = rich_request();
        struct sched_stats st;
        int rc;

        w->refuse_answer = 1;
        mem_fail_after(n);
        rc = sched_on_submit(w->s, m, w->now, NULL);
        mem_fail_after(-1);
        sched_check(w->s);
        sched_get_stats(w->s, &st);
        w->refuse_answer = 0;
        assert_true(rc == 0 || rc == RH_ENOMEM);
        assert_int_equal(st.submitted, rc == 0 ? 6 : 5);
        assert_int_equal(m->refs, rc == 0 ? 2 : 1);
        if (rc < 0)
            assert_int_equal(sched_on_submit(w->s, m, w->now, NULL), 0);
        msg_unref(&m);
        settle(w, 6);
    }
}

static void
test_making_one(void **state)
{
    struct sched_config config;
    struct world w = {0};
    struct sched_port port = world_port(&w);
    struct sched *s;
    rh_error err;
    int rc;

    (void)state;
    sched_config_init(&config);
    OOM_SWEEP(rc, {
        rc = sched_new(&s, &config, &port, &err);
        sched_free(&s);
    });
    assert_int_equal(rc, 0);
}

/* An explanation that does not fit is refused whole. */
static void
test_explaining(void **state)
{
    struct world *w = busy_world();
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct buf json = {0};

        rc = sched_explain(w->s, SPAN_LIT("w3"), w->now, &json);
        buf_fini(&json);
    });
    assert_int_equal(rc, 0);
    settle(w, 5);
}

/* What is not a request or a reply changes nothing. */
static void
test_nonsense(void **state)
{
    static const char *const ident[] = {"A", "c", "more"};
    struct world *w = busy_world();
    const char *h = "{\"msg_id\": \"a1\", \"msg_type\": \"apply_reply\", "
                    "\"session\": \"s\"}";
    struct {
        size_t n_ident;
        const char *header, *parent, *metadata;
        int submit, reply;
    } row[] = {
        {0, h, h, "{}", RH_EPROTO, RH_EPROTO},
        {1, "{}", h, "{}", RH_EPROTO, RH_EPROTO},
        {1, "[]", h, "{}", RH_EPROTO, RH_EPROTO},
        {1, "{\"msg_id\": 4, \"msg_type\": \"x\"}", h, "{}", RH_EPROTO,
         RH_EPROTO},
        {2, "not JSON", "not JSON", "{}", RH_EPROTO, RH_EPROTO},
        {2, "{", "{}", "{}", RH_EPROTO, RH_EPROTO},
        {2, "{", "{\"msg_id\": null}", "{}", RH_EPROTO, RH_EPROTO},
        {2, "{", "{\"msg_id\": \"a\\u0031\"}", "{}", RH_EPROTO, RH_EPROTO},
        {2, "{", h, "[1", RH_EPROTO, RH_EPROTO},
        {2, "{", "{\"msg_id\": \"zz\"}", "{}", RH_EPROTO, RH_ENOENT},
        {2, "{", "{\"msg_id\": \"w1\"}", "{}", RH_EPROTO, RH_ESTATE},
        {3, "{", "{\"msg_id\": \"b1\"}", "{}", RH_EPROTO, RH_ESTATE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct msg *m = make_msg(ident, row[i].n_ident, row[i].header,
                                 row[i].parent, row[i].metadata, "{}");
        rh_error err;

        assert_int_equal(sched_on_submit(w->s, m, 0, &err), row[i].submit);
        assert_int_equal(sched_on_reply(w->s, m, 0, &err), row[i].reply);
        assert_true(strlen(err.text) > 10);
        sched_check(w->s);
        msg_unref(&m);
    }
    assert_int_equal(w->n_dispatch, 2);
    settle(w, 5);
}

static void
test_long_names(void **state)
{
    struct world *w = busy_world();
    size_t n = 70000;
    char *id = malloc(n + 1), *header = malloc(n + 400);
    const char *ident = "c";
    struct msg *m;

    (void)state;
    memset(id, 'x', n);
    id[n] = '\0';
    make_header(header, n + 400, id, "apply_request");
    m = make_msg(&ident, 1, header, "{}", "{}", "{}");
    assert_int_equal(sched_on_submit(w->s, m, 0, NULL), 0);
    assert_non_null(strstr(w->text, "no more than 65535"));
    msg_unref(&m);
    id[SCHED_UUID_MAX + 1] = '\0';
    assert_int_equal(world_engine(w, id, 0), RH_ELIMIT);
    assert_int_equal(world_engine(w, "", 0), RH_ELIMIT);
    id[SCHED_UUID_MAX] = '\0';
    assert_int_equal(world_engine(w, id, 0), 0);
    assert_int_equal(world_lost(w, id, "", 0), 0);
    free(id);
    free(header);
    world_free(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_event),
        cmocka_unit_test(test_submission_is_left_to_the_caller),
        cmocka_unit_test(test_making_one),
        cmocka_unit_test(test_explaining),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_long_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
