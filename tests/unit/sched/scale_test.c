/* scale_test.c - a million tasks, ten thousand engines
 *
 * Not a measurement (that is bench/sched_core.c): what would be quadratic here
 * would not end.  Smaller under sanitizers.
 */
#include <malloc.h>

#include "world.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef SANITIZED
#define MANY 100000
#else
#define MANY 1000000
#endif

struct big {
    struct world w;
    struct {
        int engine, task;
    } * running; // a ring
    size_t head, n, cap;
    int *answered; // per task
    int n_answered, n_wrong;
    int last_client, streak, longest;
};

static int
number(const struct msg *m)
{
    return atoi((const char *)request_id(m).p + 1);
}

static int
on_dispatch(void *ctx, const struct sched_peer *e, struct msg *m)
{
    struct big *b = ctx;
    size_t at = (b->head + b->n++) % b->cap;
    int client = m->frame[0].p[0];

    assert_true(b->n <= b->cap);
    b->running[at].engine = e->id;
    b->running[at].task = number(m);
    b->streak = client == b->last_client ? b->streak + 1 : 1;
    b->last_client = client;
    if (b->streak > b->longest)
        b->longest = b->streak;
    return 0;
}

static int
on_relay(void *ctx, struct span client, struct span uuid, struct msg *reply,
         struct msg *request)
{
    struct big *b = ctx;

    (void)client, (void)uuid, (void)reply;
    b->n_answered++;
    b->n_wrong += b->answered[number(request)]++ != 0;
    return 0;
}

static int
on_answer(void *ctx, const struct sched_answer *a)
{
    struct big *b = ctx;

    b->n_answered++;
    b->n_wrong += b->answered[number(a->request)]++ != 0;
    return 0;
}

static struct big *
big_new(int n_tasks, int n_engines)
{
    struct big *b = calloc(1, sizeof(*b));
    struct sched_config config;
    struct sched_port port;
    char name[16];

    b->cap = (size_t)n_engines;
    b->running = calloc(b->cap, sizeof(*b->running));
    b->answered = calloc((size_t)n_tasks, sizeof(int));
    b->w.wake = INT64_MAX;
    sched_config_init(&config);
    port = world_port(&b->w);
    port.ctx = b;
    port.dispatch = on_dispatch;
    port.relay = on_relay;
    port.answer = on_answer;
    port.tracked = NULL;
    assert_int_equal(sched_new(&b->w.s, &config, &port, NULL), 0);
    for (int i = 0; i < n_engines; i++) {
        snprintf(name, sizeof(name), "E%d", i);
        assert_int_equal(sched_on_engine(b->w.s, span_str(name), i, 0, 0, NULL),
                         0);
    }
    return b;
}

static void
big_free(struct big *b)
{
    sched_free(&b->w.s);
    free(b->running);
    free(b->answered);
    free(b);
}

static void
submit(struct big *b, const char *client, int i, const char *metadata)
{
    char id[16];

    snprintf(id, sizeof(id), "t%d", i);
    assert_int_equal(world_submit(&b->w, client, id, metadata), 0);
}

static void
reply_first(struct big *b, const char *status)
{
    char name[16], id[16];

    snprintf(name, sizeof(name), "E%d", b->running[b->head].engine);
    snprintf(id, sizeof(id), "t%d", b->running[b->head].task);
    b->head = (b->head + 1) % b->cap;
    b->n--;
    assert_int_equal(world_reply(&b->w, name, id, status), 0);
}

/* Each task after two earlier ones, all submitted before the first reply. */
static void
test_graph_of_a_million(void **state)
{
    struct big *b = big_new(MANY, 100);
    char metadata[64];

    (void)state;
    submit(b, "c", 0, "{}");
    for (int i = 1; i < MANY; i++) {
        int back = 1 + i % 200;

        snprintf(metadata, sizeof(metadata), "{'after': ['t%d', 't%d']}",
                 i < back ? 0 : i - back, i / 2);
        submit(b, "c", i, metadata);
    }
    while (b->n)
        reply_first(b, "ok");
    assert_int_equal(b->n_answered, MANY);
    assert_int_equal(b->n_wrong, 0);
    sched_check(b->w.s);
    big_free(b);
}

/* One failure takes a long chain with it, without recursion. */
static void
test_a_chain_falls(void **state)
{
    enum { N = MANY / 4 };
    struct big *b = big_new(N, 1);
    char metadata[64];

    (void)state;
    submit(b, "c", 0, "{}");
    for (int i = 1; i < N; i++) {
        snprintf(metadata, sizeof(metadata), "{'follow': ['t%d']}", i - 1);
        submit(b, "c", i, metadata);
    }
    reply_first(b, "error");
    assert_int_equal(b->n_answered, N);
    assert_int_equal(b->n_wrong, 0);
    big_free(b);
}

static void
test_many_engines_and_sets(void **state)
{
    enum { ENGINES = 10000, TASKS = 60000 };
    struct big *b = big_new(TASKS, ENGINES);
    char metadata[128];
    int lost = 0;

    (void)state;
    for (int i = 0; i < TASKS; i++) {
        if (i % 3 == 0)
            snprintf(metadata, sizeof(metadata),
                     "{'targets': ['E%d', 'E%d', 'E%d']}", i % ENGINES,
                     i * 7 % ENGINES, i * 13 % ENGINES);
        else if (i % 3 == 1)
            snprintf(metadata, sizeof(metadata), "{'retries': 3}");
        else
            snprintf(metadata, sizeof(metadata), "{}");
        submit(b, "c", i, metadata);
    }
    for (int i = 0; b->n; i++)
        reply_first(b, i % 5 == 0 ? "error" : "ok");
    assert_int_equal(b->n_answered, TASKS);
    assert_int_equal(b->n_wrong, 0);
    sched_check(b->w.s);
    for (int i = 0; i < ENGINES; i++) {
        char name[16];

        snprintf(name, sizeof(name), "E%d", i);
        lost += world_lost(&b->w, name, "", 0) == 0;
    }
    assert_int_equal(lost, ENGINES);
    sched_check(b->w.s);
    big_free(b);
}

/* Clients that have nothing to do are forgotten, sooner or later. */
static void
test_many_clients(void **state)
{
    enum { N = 2000 };
    struct big *b = big_new(N, 1);
    struct sched_stats st;

    (void)state;
    for (int i = 0; i < N; i++) {
        char client[16], metadata[64];

        snprintf(client, sizeof(client), "c%d", i);
        snprintf(metadata, sizeof(metadata), "{'priority': %d}", i % 50);
        submit(b, client, i, metadata);
    }
    sched_check(b->w.s);
    sched_get_stats(b->w.s, &st);
    assert_int_equal(st.n_clients, N);
    while (b->n)
        reply_first(b, "ok");
    assert_int_equal(b->n_answered, N);
    sched_get_stats(b->w.s, &st);
    assert_int_equal(st.n_clients, 0);
    sched_check(b->w.s);
    big_free(b);
}

/* A client with many tasks does not keep another one waiting. */
static void
test_fair_share(void **state)
{
    enum { FEW = 1000, ALL = MANY / 5 };
    struct big *b = big_new(ALL, 4);
    int before, longest = 0;

    (void)state;
    for (int i = 0; i < ALL - FEW; i++)
        submit(b, "a", i, "{}");
    for (int i = ALL - FEW; i < ALL; i++)
        submit(b, "b", i, "{}");
    before = b->n_answered;
    b->longest = 0;
    while (b->n_answered - before < 2 * FEW) {
        if (b->n_answered - before == 2 * FEW - 20)
            longest = b->longest; // later b has no more to send
        reply_first(b, "ok");
    }
    // All of b's are done, with one of a's for each.
    for (int i = ALL - FEW; i < ALL - 4; i++)
        assert_int_equal(b->answered[i], 1);
    assert_in_range(longest, 1, 2);
    big_free(b);
}

/* Not more than 300 bytes of scheduler for a waiting task. */
static void
test_memory_per_task(void **state)
{
#if defined(SANITIZED)
    (void)state;
    skip();
#else
    enum { N = 200000 };
    struct big *b = big_new(N, 1);
    struct msg **m = calloc(N, sizeof(*m));
    char id[16];
    size_t before;

    (void)state;
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "t%d", i);
        m[i] = make_request("c", id, i ? "{'after': ['t0', 't0']}" : "{}");
    }
    before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (int i = 0; i < N; i++)
        assert_int_equal(sched_on_submit(b->w.s, m[i], 0, NULL), 0);
    assert_in_range((mallinfo2().uordblks + mallinfo2().hblkhd - before) / N,
                    100, 300);
    for (int i = 0; i < N; i++)
        msg_unref(&m[i]);
    free(m);
    big_free(b);
#endif
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_graph_of_a_million),
        cmocka_unit_test(test_a_chain_falls),
        cmocka_unit_test(test_many_engines_and_sets),
        cmocka_unit_test(test_many_clients),
        cmocka_unit_test(test_fair_share),
        cmocka_unit_test(test_memory_per_task),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
