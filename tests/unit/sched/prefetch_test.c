/* prefetch_test.c - tasks sent ahead, and taken back */
#include "script.h"

// clang-format off
/* The first reply comes in the millisecond of its dispatch: a pace of half a
 * millisecond is assumed, so that two tasks may be sent ahead.
 */
#define WARM "engine A 1\n" "submit t0\n" "> dispatch A t0\n" \
    "reply A t0 ok\n" "> relay t0 A\n"

static const struct play plays[] = {
    { "nothing is sent ahead before the pace is known",
      "engine A 1\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2\n" "submit t3\n" "submit t4\n" "submit t5\n"
      "reply A t1 ok\n"
      "> dispatch A t2\n" "> dispatch A t3\n" "> dispatch A t4\n"
      "> relay t1 A\n" "stat prefetched 2\n" },
    { "only to engines that can give back",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "submit t3\n"
      "reply A t1 ok\n" "> dispatch A t2\n" "> relay t1 A\n" },
    { "not at all with prefetch_max 0",
      "config prefetch=0\n" WARM
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" },
    { "not while another engine has room",
      WARM "engine B\n"
      "submit t1\n" "> dispatch B t1\n" "submit t2\n" "> dispatch A t2\n"
      "submit t3\n" "> dispatch A t3\n" },
    { "not if the tasks are long",
      "engine A 1\n"
      "submit t1\n" "> dispatch A t1\n" "pass 2\n"
      "reply A t1 ok\n" "> relay t1 A\n"
      "submit t2\n" "> dispatch A t2\n" "submit t3\n" },
    { "a choice of engines is not taken away; no choice, no wait",
      "engine B\n" WARM
      "submit t1 {'targets': ['A']}\n" "> dispatch A t1\n"
      "submit t2\n" "> dispatch B t2\n"
      "submit t3 {'targets': ['A', 'B']}\n"
      "submit t4 {'targets': ['A']}\n" "> dispatch A t4\n"
      "reply B t2 ok\n" "> dispatch B t3\n" "> relay t2 B\n" },
    { "silence: what was sent ahead comes back, and goes to others",
      WARM
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "submit t3\n" "> dispatch A t3\n" "submit t4\n"
      "pass 4\n"
      "pass 1\n" "> withdraw A t3 t2\n"
      "engine B\n" "> dispatch B t4\n"
      "back A t2 t3\n" "stat given_back 2\n"
      "reply B t4 ok\n" "> dispatch B t2\n" "> relay t4 B\n"
      "reply B t2 ok\n" "> dispatch B t3\n" "> relay t2 B\n"
      "reply A t1 ok\n" "> relay t1 A\n"
      "reply B t3 ok\n" "> relay t3 B\n" },
    { "what had been started stays, and its reply counts",
      WARM
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "pass 5\n" "> withdraw A t2\n"
      "reply A t1 ok\n" "> relay t1 A\n"
      "back A\n"
      "engine B\n"
      "pass 100\n"
      "reply A t2 ok\n" "> relay t2 A\n" },
    { "a reply that crosses the request",
      WARM
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "pass 5\n" "> withdraw A t2\n"
      "reply A t1 ok\n" "> relay t1 A\n"
      "reply A t2 ok\n" "> relay t2 A\n"
      "back A t2\n" "stat given_back 0\n" },
    { "nothing comes back that was not asked for",
      WARM
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "back A t2 !\n" "back X t2 !\n"
      "pass 5\n" "> withdraw A t2\n"
      "engine B 1\n"
      "back A t1 t9\n"
      "stat n_running 2\n" "stat given_back 0\n" },
    { "one request at a time, nothing is sent ahead meanwhile",
      WARM
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "pass 5\n" "> withdraw A t2\n"
      "submit t3\n" "pass 100\n"
      "back A t2\n"
      "reply A t1 ok\n" "> dispatch A t2\n" "> relay t1 A\n" },
    { "the engine dies with what it was asked for",
      WARM
      "submit t1\n" "> dispatch A t1\n"
      "submit t2 {'retries': 1}\n" "> dispatch A t2\n"
      "pass 5\n" "> withdraw A t2\n"
      "engine B\n"
      "lost A 1000\n"
      "back A t2\n" "> dispatch B t2\n"
      "pass 1000\n" "> answer t1 EngineError A\n" },
    { "a slower engine gives back at once, before it is silent",
      WARM
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "submit t3\n" "> dispatch A t3\n"
      "pass 4\n"
      "reply A t1 ok\n" "> withdraw A t3\n" "> relay t1 A\n" },
    { "an idle engine gets half of what waits elsewhere",
      WARM
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "submit t3\n" "> dispatch A t3\n"
      "engine B\n" "submit t4\n" "> dispatch B t4\n"
      "reply B t4 ok\n" "> withdraw A t3\n" "> relay t4 B\n"
      "back A t3\n" "> dispatch B t3\n" },
    { "cancel asks for a task that waits on an engine",
      WARM
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "submit t3\n" "> dispatch A t3\n"
      "cancel t2 !\n" "> withdraw A t2\n"
      "back A t2\n" "> abort t2\n" },
    { "a request the port refuses is made again",
      WARM
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "refuse withdraw 1\n"
      "pass 5\n" "pass 19\n" "pass 1\n" "> withdraw A t2\n" },
    { "only the oldest task counts as a possible cause of a death",
      "config max_deaths=1\n" WARM
      "submit t1 {'retries': 1}\n" "> dispatch A t1\n"
      "submit t2 {'retries': 1}\n" "> dispatch A t2\n"
      "engine B\n"
      "lost A 0\n" "> dispatch B t2\n" "> answer t1 EngineError A\n" },
};
// clang-format on

static void
test_plays(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(plays) / sizeof(plays[0]); i++)
        run_play(&plays[i]);
}

/* The pace is a mean over many replies, although each looks like 0 or 1 ms. */
static void
test_depth_follows_the_pace(void **state)
{
    struct sched_config config;
    struct sched_stats st;
    struct world *w;
    char id[32];
    int64_t us = 0;
    int sent = 0, replied = 0;

    (void)state;
    sched_config_init(&config);
    w = world_new(&config);
    w->quiet = true;
    assert_int_equal(world_engine(w, "A", SCHED_PREFETCH), 0);
    // 0.1 ms each: about ten tasks may be on the engine.
    for (; sent < 3000; sent++) {
        snprintf(id, sizeof(id), "t%d", sent);
        assert_int_equal(world_submit(w, "c", id, "{}"), 0);
    }
    for (; replied < 2000; replied++) {
        us += 100;
        world_pass(w, us / 1000);
        snprintf(id, sizeof(id), "t%d", replied);
        assert_int_equal(world_reply(w, "A", id, "ok"), 0);
        sched_check(w->s);
        sched_get_stats(w->s, &st);
        if (replied > 500)
            assert_in_range(st.n_running, 6, 16);
    }
    // 0.9 ms each: hardly any.
    for (; replied < 2900; replied++) {
        us += 900;
        world_pass(w, us / 1000);
        snprintf(id, sizeof(id), "t%d", replied);
        assert_int_equal(world_reply(w, "A", id, "ok"), 0);
        // It is asked for some at first, and has none to give.
        (void)sched_on_withdrawn(w->s, SPAN_LIT("A"), NULL, 0, w->now, NULL);
        sched_get_stats(w->s, &st);
        if (replied > 2300)
            assert_in_range(st.n_running, 2, 4);
    }
    assert_int_equal(st.given_back, 0);
    world_free(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plays),
        cmocka_unit_test(test_depth_follows_the_pace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
