/* explain_test.c - what the scheduler says about a task, and its counters */
#include "wire/scan.h"
#include "world.h"

/* The explanation is one JSON object with this key and raw value. */
static void
expect(struct world *w, const char *id, const char *key, const char *value)
{
    struct scan_field f = {key, SPAN_NONE};
    struct buf json = {0};
    rh_error err;

    assert_int_equal(sched_explain(w->s, span_str(id), w->now, &json), 0);
    assert_int_equal(scan_object(buf_span(&json), &f, 1, &err), 0);
    if (!span_is(f.value, value))
        fail_msg("%s: %s is %.*s in %.*s", id, key, (int)f.value.n,
                 (const char *)f.value.p, (int)json.n, (const char *)json.p);
    buf_fini(&json);
}

static void
test_states(void **state)
{
    struct sched_config config;
    struct world *w;

    (void)state;
    sched_config_init(&config);
    w = world_new(&config);
    w->quiet = true;
    world_submit(w, "c", "t0", "{}");
    expect(w, "t0", "state", "\"waiting_engine\"");
    expect(w, "t0", "why", "\"no engine is registered\"");
    expect(w, "t0", "n_allowed", "0");
    world_engine(w, "A", 0);
    world_pass(w, 40);
    expect(w, "t0", "msg_id", "\"t0\"");
    expect(w, "t0", "state", "\"running\"");
    expect(w, "t0", "engine", "\"A\"");
    expect(w, "t0", "running_ms", "40");
    world_submit(w, "c", "t1", "{'priority': 3, 'timeout': 2}");
    world_pass(w, 50);
    expect(w, "t1", "why", "\"the engines that may run it are busy\"");
    expect(w, "t1", "waiting_ms", "10");
    expect(w, "t1", "timeout_in_ms", "1990");
    expect(w, "t1", "priority", "3");
    expect(w, "t1", "restricted", "false");
    world_submit(w, "c", "t2",
                 "{'after': ['t0', 't1'], 'follow': {'dependencies': "
                 "['t1']}, 'retries': 4}");
    expect(w, "t2", "state", "\"waiting_dependencies\"");
    expect(w, "t2", "after", "[\"t0\", \"t1\"]");
    expect(w, "t2", "n_after", "2");
    expect(w, "t2", "follow", "[\"t1\"]");
    expect(w, "t2", "retries", "4");
    world_reply(w, "A", "t0", "ok");
    expect(w, "t0", "state", "\"finished\"");
    expect(w, "t0", "ok", "true");
    expect(w, "t0", "engine_alive", "true");
    expect(w, "t2", "after", "[\"t1\"]");
    world_reply(w, "A", "t1", "unmet");
    expect(w, "t1", "why", "\"no registered engine may run it\"");
    expect(w, "t1", "n_tried", "1");
    expect(w, "t1", "restricted", "true");
    world_submit(w, "c", "t5", "{}");
    world_reply(w, "A", "t5", "unmet");
    expect(w, "t5", "restricted", "true");
    world_pass(w, 5000);
    expect(w, "t1", "ok", "false");
    expect(w, "t2", "why", "\"it failed or was aborted\"");
    world_lost(w, "A", "", 0);
    expect(w, "t0", "engine_alive", "false");
    world_free(w);
}

static void
test_running_and_delayed(void **state)
{
    struct sched_config config;
    struct span t4 = SPAN_LIT("t4");
    struct world *w;

    (void)state;
    sched_config_init(&config);
    config.hwm = 2;
    w = world_new(&config);
    w->quiet = true;
    world_engine(w, "A", 0);
    world_submit(w, "c", "t3", "{'retries': 1, 'retry_delay': 3}");
    world_submit(w, "c", "t4", "{}");
    expect(w, "t4", "why", "\"it waits on an engine behind other tasks\"");
    sched_cancel(w->s, &t4, 1, NULL, w->now);
    expect(w, "t4", "why",
           "\"it is cancelled, but its engine has not replied\"");
    world_reply(w, "A", "t3", "error");
    expect(w, "t3", "state", "\"delayed\"");
    expect(w, "t3", "retry_in_ms", "3000");
    world_lost(w, "A", "", 10000);
    expect(w, "t4", "why",
           "\"its engine is lost; it is given up when the grace time ends\"");
    world_pass(w, 3000);
    expect(w, "t3", "n_tried", "1");
    expect(w, "t3", "restricted", "false"); // the one it was tried on is gone
    world_free(w);
}

static void
test_unknown_and_long_lists(void **state)
{
    struct sched_config config;
    struct buf json = {0};
    struct world *w;
    char metadata[2000] = "{'after': [", id[16];

    (void)state;
    sched_config_init(&config);
    w = world_new(&config);
    w->quiet = true;
    assert_int_equal(sched_explain(w->s, SPAN_LIT("x"), 0, &json), RH_ENOENT);
    assert_int_equal(json.n, 0);
    for (int i = 0; i < 30; i++) {
        snprintf(id, sizeof(id), "d%d", i);
        world_submit(w, "c", id, "{}");
        snprintf(metadata + strlen(metadata),
                 sizeof(metadata) - strlen(metadata), "%s'%s'", i ? "," : "",
                 id);
    }
    strcat(metadata, "]}");
    world_submit(w, "c", "all", metadata);
    expect(w, "all", "n_after", "30");
    expect(w, "all", "n_follow", "0");
    expect(w, "all", "after",
           "[\"d0\", \"d1\", \"d2\", \"d3\", \"d4\", \"d5\", \"d6\", \"d7\", "
           "\"d8\", \"d9\"]");
    world_free(w);
}

static void
test_counters(void **state)
{
    struct sched_config config;
    struct sched_stats st;
    struct world *w;

    (void)state;
    sched_config_init(&config);
    w = world_new(&config);
    w->quiet = true;
    world_engine(w, "A", 0);
    world_engine(w, "B", 0);
    for (int i = 0; i < 5; i++) {
        char id[16], client[16];

        snprintf(id, sizeof(id), "t%d", i);
        snprintf(client, sizeof(client), "c%d", i % 2);
        world_submit(w, client, id, i < 4 ? "{}" : "{'after': ['t0']}");
    }
    world_lost(w, "A", "", 0);
    sched_get_stats(w->s, &st);
    assert_int_equal(st.n_engines, 1);
    assert_int_equal(st.n_idle, 0);
    assert_int_equal(st.n_waiting_room, 2);
    assert_int_equal(st.n_waiting_deps, 1);
    assert_int_equal(st.n_unassigned, 3);
    assert_int_equal(st.n_running, 1);
    assert_int_equal(st.n_clients, 2);
    assert_int_equal(st.n_remembered, 1);
    assert_int_equal(st.deaths, 1);
    assert_int_equal(st.submitted, 5);
    assert_int_equal(st.dispatched, 2);
    assert_int_equal(w->n_tracked, 2);
    assert_int_equal(st.failed, 1);
    world_free(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_running_and_delayed),
        cmocka_unit_test(test_unknown_and_long_lists),
        cmocka_unit_test(test_counters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
