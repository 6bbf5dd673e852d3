/* place_test.c - what each scheme chooses, by statistics and by force */
#include "world.h"

#define N 10

static int count[N];

static int
count_dispatch(void *ctx, const struct sched_peer *e, struct msg *m)
{
    (void)ctx, (void)m;
    count[e->uuid.p[0] - 'a']++;
    return 0;
}

static int asked; // how often a scheme of our own was

static struct world *
start(const char *scheme, uint32_t hwm, const struct rh_scheme *own)
{
    struct sched_config config;
    struct sched_port port;
    struct world *w = calloc(1, sizeof(*w));

    memset(count, 0, sizeof(count));
    sched_config_init(&config);
    config.scheme = scheme;
    config.hwm = hwm;
    config.own = own;
    config.own_state = &asked;
    config.seed = 42;
    w->wake = INT64_MAX;
    w->quiet = true;
    port = world_port(w);
    port.dispatch = count_dispatch;
    assert_int_equal(sched_new(&w->s, &config, &port, NULL), 0);
    // The last one registered is at the head of the line.
    for (char c = 'a' + N - 1; c >= 'a'; c--) {
        char name[2] = {c, 0};

        assert_int_equal(world_engine(w, name, 0), 0);
    }
    return w;
}

static void
submit_many(struct world *w, int from, int to, const char *metadata)
{
    char id[32];

    for (int i = from; i < to; i++) {
        snprintf(id, sizeof(id), "t%d", i);
        assert_int_equal(world_submit(w, "c", id, metadata), 0);
    }
    sched_check(w->s);
}

static void
test_leastload_is_even(void **state)
{
    struct world *w = start("leastload", 0, NULL);

    (void)state;
    submit_many(w, 0, 1000, "{}");
    for (int i = 0; i < N; i++)
        assert_int_equal(count[i], 100);
    world_free(w);
}

static void
test_plainrandom_is_uniform(void **state)
{
    struct world *w = start("plainrandom", 0, NULL);

    (void)state;
    submit_many(w, 0, 20000, "{}");
    // 2000 each; the standard deviation is 42.
    for (int i = 0; i < N; i++)
        assert_in_range(count[i], 1790, 2210);
    world_free(w);
}

/* The longer unused of two: engines that were just used are rarely chosen, so
 * that the use is more even than plain chance would have it.
 */
static void
check_twobin(const char *metadata)
{
    struct world *w = start("twobin", 0, NULL);
    double off = 0;

    submit_many(w, 0, 10000, metadata);
    for (int i = 0; i < N; i++)
        off += (count[i] - 1000.0) * (count[i] - 1000.0) / 1000.0;
    assert_true(off < 4.0); // chi square of plain chance: 9 on average
    world_free(w);
}

static void
test_twobin_prefers_the_longer_unused(void **state)
{
    (void)state;
    check_twobin("{}");
    check_twobin("{'targets': ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', "
                 "'j']}");
}

/* Loads 0, 1, 3 and the rest full: weights 1e6, 1, 1/3; the idle one always. */
static void
test_weighted_prefers_the_idle(void **state)
{
    struct world *w = start("weighted", 0, NULL);

    (void)state;
    submit_many(w, 0, N, "{}"); // one each, for all are idle at first
    for (int i = 0; i < N; i++)
        assert_int_equal(count[i], 1);
    submit_many(w, N, 5000, "{}");
    for (int i = 0; i < N; i++)
        assert_in_range(count[i], 400, 600);
    world_free(w);
}

static void
test_weighted_follows_the_weights(void **state)
{
    struct world *w;
    int b_wins = 0;

    (void)state;
    // Loads 1 and 3 by targets, then one task that may go to either: weights
    // 1 and 1/3, and of two draws the less loaded wins: 1 - 1/16 for 'a'.
    for (int round = 0; round < 800; round++) {
        struct sched_config config;
        struct sched_port port;

        sched_config_init(&config);
        config.scheme = "weighted";
        config.hwm = 0;
        config.seed = (uint64_t)round;
        w = calloc(1, sizeof(*w));
        w->wake = INT64_MAX;
        w->quiet = true;
        port = world_port(w);
        port.dispatch = count_dispatch;
        assert_int_equal(sched_new(&w->s, &config, &port, NULL), 0);
        world_engine(w, "a", 0);
        world_engine(w, "b", 0);
        submit_many(w, 0, 1, "{'targets': ['a']}");
        submit_many(w, 1, 4, "{'targets': ['b']}");
        memset(count, 0, sizeof(count));
        submit_many(w, 4, 5, round % 2 ? "{}" : "{'targets': ['a', 'b']}");
        b_wins += count[1];
        world_free(w);
    }
    // 50 expected; the standard deviation is 7.
    assert_in_range(b_wins, 20, 80);
}

/* The sums of weights survive engines that come and go. */
static void
test_weighted_with_many_engines(void **state)
{
    struct world *w = start("weighted", 1, NULL);
    struct sched_stats st;
    char name[16];

    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "a%d", i);
        assert_int_equal(world_engine(w, name, 0), 0);
        submit_many(w, i, i + 1, "{}");
        if (i % 3 == 0)
            assert_int_equal(world_lost(w, name, "", 0), 0);
    }
    submit_many(w, 100, 200, "{}");
    sched_get_stats(w->s, &st);
    assert_int_equal(st.n_engines, N + 66);
    assert_int_equal(st.n_running, N + 66); // every one has exactly one
    world_free(w);
}

/* The highest name, to see that it is asked and obeyed. */
static size_t
pick_last(void *ctx, const struct rh_scheme_engine *v, size_t n,
          uint64_t random)
{
    size_t best = 0;

    (void)random;
    ++*(int *)ctx;
    for (size_t i = 1; i < n; i++)
        if (v[i].uuid[0] > v[best].uuid[0])
            best = i;
    return best;
}

static size_t
pick_beyond(void *ctx, const struct rh_scheme_engine *v, size_t n,
            uint64_t random)
{
    (void)ctx, (void)v, (void)random;
    return n;
}

static void
test_own_scheme(void **state)
{
    struct rh_scheme own = {.name = "mine", .pick = pick_last};
    struct world *w = start("lru", 2, &own);

    (void)state;
    asked = 0;
    submit_many(w, 0, 5, "{}");
    assert_int_equal(count[N - 1], 2);
    assert_int_equal(count[N - 2], 2);
    assert_int_equal(count[N - 3], 1);
    submit_many(w, 5, 6, "{'targets': ['a', 'c', 'b']}");
    assert_int_equal(count[2], 1);
    assert_int_equal(asked, 6);
    world_free(w);
    own.pick = pick_beyond;
    w = start("lru", 1, &own);
    submit_many(w, 0, N, "{}");
    for (int i = 0; i < N; i++)
        assert_int_equal(count[i], 1);
    world_free(w);
}

/* The engine that has it now; each has it at most once. */
static int
where(bool *seen)
{
    int at = -1;

    for (int i = 0; i < N; i++) {
        assert_in_range(count[i], 0, 1);
        if (!count[i] || seen[i])
            continue;
        assert_int_equal(at, -1);
        at = i;
    }
    if (at >= 0)
        seen[at] = true;
    return at;
}

/* Also a random scheme finds the few engines that are not excluded. */
static void
test_blacklists_in_all_schemes(void **state)
{
    static const char *const scheme[] = {"leastload", "lru", "plainrandom",
                                         "twobin", "weighted"};

    (void)state;
    for (size_t k = 0; k < 5; k++) {
        struct world *w = start(scheme[k], 0, NULL);
        bool seen[N] = {false};

        submit_many(w, 0, 1, "{}");
        for (int round = 0; round < N; round++) {
            int at = where(seen);
            char name[2] = {(char)('a' + at), 0};

            assert_in_range(at, 0, N - 1);
            assert_int_equal(world_reply(w, name, "t0", "unmet"), 0);
            sched_check(w->s);
        }
        assert_int_equal(where(seen), -1); // it waits for a new engine
        world_free(w);
    }
}

static void
test_names(void **state)
{
    struct sched_config config;
    struct world w = {0};
    struct sched_port port = world_port(&w);
    struct sched *s;
    rh_error err;

    (void)state;
    assert_true(sched_scheme_known("leastload"));
    assert_true(sched_scheme_known("pure"));
    assert_false(sched_scheme_known("none"));
    assert_false(sched_scheme_known(NULL));
    sched_config_init(&config);
    config.scheme = "best";
    assert_int_equal(sched_new(&s, &config, &port, &err), RH_EINVAL);
    assert_non_null(strstr(err.text, "unknown task scheme 'best'"));
    assert_null(s);
    sched_free(&s);
}

static void
test_loads(void **state)
{
    struct world *w = start("leastload", 0, NULL);
    struct rh_scheme_engine load[N + 5];

    (void)state;
    submit_many(w, 0, N + 3, "{}");
    assert_int_equal(sched_get_loads(w->s, load, N + 5), N);
    for (int i = 0; i < N; i++) { // oldest first: the last name
        assert_int_equal(load[i].uuid[0], 'a' + N - 1 - i);
        assert_int_equal(load[i].load, N - 1 - i < 3 ? 2 : 1);
    }
    assert_int_equal(sched_get_loads(w->s, load, 3), N);
    world_free(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leastload_is_even),
        cmocka_unit_test(test_plainrandom_is_uniform),
        cmocka_unit_test(test_twobin_prefers_the_longer_unused),
        cmocka_unit_test(test_weighted_prefers_the_idle),
        cmocka_unit_test(test_weighted_follows_the_weights),
        cmocka_unit_test(test_weighted_with_many_engines),
        cmocka_unit_test(test_own_scheme),
        cmocka_unit_test(test_blacklists_in_all_schemes),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_loads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
