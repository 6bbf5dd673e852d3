/* explain_test.c - what the scheduler says about a task, and its counters */
#include "wire/scan.h"
#include "world.h"

/* The explanation is one JSON object with this key and raw value; a value that
 * begins with ~ need only be contained.
 */
static void
expect(struct world *w, const char *id, const char *key, const char *value)
{
    struct scan_field f = {key, SPAN_NONE};
    struct buf json = {0};
    rh_error err;
    bool hit;

    assert_int_equal(sched_explain(w->s, span_str(id), w->now, &json), 0);
    assert_int_equal(scan_object(buf_span(&json), &f, 1, &err), 0);
    hit =
        value[0] == '~'
            ? memmem(f.value.p, f.value.n, value + 1, strlen(value + 1)) != NULL
            : span_is(f.value, value);
    if (!hit)
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
    expect(w, "t0", "state", "\"unknown\"");
    expect(w, "t0", "text", "~no such task was submitted");
    world_submit(w, "c", "t0", "{}");
    expect(w, "t0", "state", "\"queued\"");
    expect(w, "t0", "text", "\"no engine is registered\"");
    world_engine(w, "A", 0);
    world_pass(w, 40);
    expect(w, "t0", "state", "\"running\"");
    expect(w, "t0", "engine", "0");
    expect(w, "t0", "text", "\"it was sent to engine 0 0.040 s ago\"");
    world_submit(w, "c", "t1", "{'priority': 3, 'timeout': 2}");
    world_pass(w, 50);
    expect(w, "t1", "engine", "null");
    expect(w, "t1", "text",
           "\"it waits for an engine: 1 of 1 may run it, and have no room; its "
           "timeout is in 1.990 s\"");
    expect(w, "t1", "excluded",
           "[{\"engine\": 0, \"why\": \"it is busy: 1 unfinished tasks, hwm "
           "1\"}]");
    world_submit(w, "c", "t2",
                 "{'after': ['t0', 't1'], 'follow': {'dependencies': "
                 "['t3', 't1']}, 'retries': 4}");
    expect(w, "t2", "state", "\"finished\""); // t3 is unknown
    world_submit(w, "c", "t4", "{'after': ['t0', 't1'], 'follow': ['t1']}");
    expect(w, "t4", "state", "\"waiting\"");
    expect(w, "t4", "waiting_for", "[\"t0\", \"t1\", \"t1\"]");
    expect(w, "t4", "excluded", "[]");
    world_reply(w, "A", "t0", "ok");
    expect(w, "t0", "state", "\"finished\"");
    expect(w, "t0", "engine", "0");
    expect(w, "t0", "text", "\"it succeeded on engine 0\"");
    expect(w, "t4", "waiting_for", "[\"t1\", \"t1\"]");
    world_reply(w, "A", "t1", "unmet");
    expect(w, "t1", "tries", "1");
    expect(w, "t1", "text",
           "~none of the 1 registered engines may run it; its timeout");
    expect(w, "t1", "excluded",
           "[{\"engine\": 0, \"why\": \"it had the task before\"}]");
    world_pass(w, 5000);
    expect(w, "t1", "text", "\"it failed or was aborted\"");
    world_lost(w, "A", "", 0);
    expect(w, "t0", "text", "\"it succeeded on engine 0, which is gone\"");
    world_free(w);
}

static void
test_running_and_delayed(void **state)
{
    struct sched_config config;
    struct span t4 = SPAN_LIT("t4");
    struct sched_cancelled was;
    struct world *w;

    (void)state;
    sched_config_init(&config);
    config.hwm = 2;
    w = world_new(&config);
    w->quiet = true;
    world_engine(w, "A", 0);
    world_submit(w, "c", "t3", "{'retries': 1, 'retry_delay': 3}");
    world_submit(w, "c", "t4", "{}");
    expect(w, "t4", "behind", "1");
    expect(w, "t4", "text", "~where 1 other is before it");
    sched_cancel(w->s, &t4, 1, &was, w->now);
    assert_int_equal(was.was, SCHED_RUNNING);
    assert_int_equal(was.engine, 0);
    expect(w, "t4", "text", "~cancelled since, but the engine has not replied");
    world_reply(w, "A", "t3", "error");
    expect(w, "t3", "state", "\"waiting\"");
    expect(w, "t3", "text",
           "\"it failed, and is tried again in 3.000 s; it was tried 1 time "
           "before, and 0 retries are left\"");
    world_lost(w, "A", "", 10000);
    expect(w, "t4", "text", "~which is lost; it is given up at the end");
    world_free(w);
}

static void
test_obstacles(void **state)
{
    struct sched_config config;
    struct world *w;

    (void)state;
    sched_config_init(&config);
    w = world_new(&config);
    w->quiet = true;
    world_engine(w, "A", 0);
    world_engine(w, "B", 0);
    world_submit(w, "c", "t0", "{'targets': ['A']}");
    world_submit(w, "c", "t1", "{'targets': ['A']}");
    expect(w, "t1", "excluded",
           "[{\"engine\": 0, \"why\": \"it is busy: 1 unfinished tasks, hwm "
           "1\"}, {\"engine\": 1, \"why\": \"it is not one of the task's "
           "targets\"}]");
    world_submit(w, "c", "t2", "{'follow': ['t0']}");
    world_submit(w, "c", "t3", "{}");
    world_submit(w, "c", "t4", "{}");
    world_submit(w, "c", "t5", "{}");
    world_submit(w, "d", "t6", "{}");
    expect(w, "t6", "behind", "0"); // clients take turns: d has had none
    expect(w, "t4", "behind", "1");
    expect(w, "t5", "behind", "2");
    world_reply(w, "A", "t0", "ok");
    expect(w, "t1", "state", "\"running\"");
    expect(w, "t2", "excluded",
           "[{\"engine\": 0, \"why\": \"it is busy: 1 unfinished tasks, hwm "
           "1\"}, {\"engine\": 1, \"why\": \"the tasks to be followed did not "
           "run there\"}]");
    world_free(w);
}

/* However many there are, a list has an end. */
static void
test_long_lists(void **state)
{
    struct sched_config config;
    struct buf json = {0}, metadata = {0};
    struct scan_field f = {"waiting_for", SPAN_NONE};
    struct world *w;
    struct span item;
    size_t at = 0, n = 0;
    char id[16];

    (void)state;
    sched_config_init(&config);
    w = world_new(&config);
    w->quiet = true;
    buf_add_str(&metadata, "{'after': [");
    for (int i = 0; i < 130; i++) {
        snprintf(id, sizeof(id), "d%d", i);
        world_submit(w, "c", id, "{}");
        buf_add_fmt(&metadata, "%s'%s'", i ? "," : "", id);
    }
    buf_add(&metadata, "]}", 3);
    world_submit(w, "c", "all", (const char *)metadata.p);
    expect(w, "all", "text", "\"it waits for 130 tasks to finish\"");
    expect(w, "d129", "behind", "129");
    assert_int_equal(sched_explain(w->s, SPAN_LIT("all"), 0, &json), 0);
    assert_int_equal(scan_object(buf_span(&json), &f, 1, NULL), 0);
    while (scan_next(f.value, &at, &item) > 0)
        n++;
    assert_int_equal(n, 100);
    buf_fini(&json);
    buf_fini(&metadata);
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
        cmocka_unit_test(test_obstacles),
        cmocka_unit_test(test_long_lists),
        cmocka_unit_test(test_counters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
