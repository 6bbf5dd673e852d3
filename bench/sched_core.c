/* sched_core.c - how fast the task scheduler decides, without any socket
 *
 * One decision is the whole way of a task through the core: its submission, its
 * dispatch and the engine's reply, metadata scans included.  Making messages
 * and checking signatures is not timed: that is the work of other layers.
 *
 *   sched_core [rounds]
 *
 * prints one JSON object a line.  "flat" compares what should cost the same.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "sched/sched.h"

#define BATCH 4096

struct bench {
    struct sched *s;
    size_t n_engines;
    size_t n_sent, n_answers; // of this bench
    // Dispatched and not answered, oldest first.
    int *engine;
    uint32_t *task;
    size_t head, n_running, cap;
};

/* ---- messages ---------------------------------------------------------- */

/* What real clients send with every task. */
#define PLAIN                                                             \
    "{\"after\": [], \"follow\": [], \"timeout\": 0.0, \"targets\": [], " \
    "\"retries\": 0}"

static struct msg *
make(const struct span *frame, size_t n)
{
    struct msg *m = msg_new(frame, n);

    if (!m || msg_parse(m, &msg_limits_default, NULL) < 0) {
        fprintf(stderr, "sched_core: no memory for messages\n");
        exit(1);
    }
    return m;
}

static int
header(char *out, size_t cap, const char *session, uint32_t i, const char *type)
{
    return snprintf(out, cap,
                    "{\"msg_id\": \"%s_20331_%u\", \"msg_type\": \"%s\", "
                    "\"username\": \"user\", \"session\": \"%s\", \"date\": "
                    "\"2026-11-20T22:56:05.030017Z\", \"version\": \"5.3\"}",
                    session, i, type, session);
}

static const char client_session[] = "97456ff1-e4409120c17d5d7876e003f8";

static struct msg *
make_request(uint32_t i, const char *metadata)
{
    char h[400];
    struct span f[] = {SPAN_LIT("\0cl01"),
                       SPAN_LIT(MSG_DELIM),
                       SPAN_LIT(""),
                       span_of(h, (size_t)header(h, sizeof(h), client_session,
                                                 i, "apply_request")),
                       SPAN_LIT("{}"),
                       span_str(metadata),
                       SPAN_LIT("{}")};

    return make(f, 7);
}

static void
engine_name(int i, char *out, size_t cap)
{
    snprintf(out, cap, "ec18f271-2b6dd8bedc9b2b94%08x", i);
}

static struct msg *
make_reply(int engine, uint32_t i, const char *status)
{
    char name[64], h[400], p[400], metadata[400];

    engine_name(engine, name, sizeof(name));
    snprintf(metadata, sizeof(metadata),
             "{\"started\": \"2026-11-20T22:56:05.031772Z\", "
             "\"dependencies_met\": true, \"engine\": \"%s\", "
             "\"is_broadcast\": false, \"is_coalescing\": false, "
             "\"original_msg_id\": \"\", \"status\": \"%s\"}",
             name, status);

    struct span f[] = {
        span_str(name),
        SPAN_LIT("\0cl01"),
        SPAN_LIT(MSG_DELIM),
        SPAN_LIT(""),
        span_of(h, (size_t)header(h, sizeof(h), name, i, "apply_reply")),
        span_of(p, (size_t)header(p, sizeof(p), client_session, i,
                                  "apply_request")),
        span_str(metadata),
        SPAN_LIT("{\"status\": \"ok\"}")};

    return make(f, 8);
}

/* ---- the port ---------------------------------------------------------- */

static int
on_dispatch(void *ctx, const struct sched_peer *engine, struct msg *m)
{
    struct bench *b = ctx;
    struct span h = msg_part(m, MSG_HEADER);
    size_t at = (b->head + b->n_running++) % b->cap;

    // The number at the end of the id, which begins at a known place.
    b->engine[at] = engine->id;
    b->task[at] = (uint32_t)strtoul(
        (const char *)h.p + 12 + sizeof(client_session) + 6, NULL, 10);
    b->n_sent++;
    return 0;
}

static int
on_relay(void *ctx, struct span client, struct span uuid, struct msg *reply,
         struct msg *request)
{
    struct bench *b = ctx;

    (void)client, (void)uuid, (void)reply, (void)request;
    b->n_answers++;
    return 0;
}

static int
on_answer(void *ctx, const struct sched_answer *a)
{
    struct bench *b = ctx;

    if (b->n_answers++ == 0)
        fprintf(stderr, "sched_core: %s: %s\n", a->ename, a->evalue);
    return 0;
}

static void
on_wake_at(void *ctx, int64_t ms)
{
    (void)ctx, (void)ms;
}

static void
start(struct bench *b, const char *scheme, uint32_t hwm, size_t n_engines,
      size_t n_tasks)
{
    struct sched_config config;
    struct sched_port port = {
        .ctx = b,
        .dispatch = on_dispatch,
        .relay = on_relay,
        .answer = on_answer,
        .wake_at = on_wake_at,
    };
    char name[64];

    *b = (struct bench){.n_engines = n_engines, .cap = n_tasks + 1};
    b->engine = malloc(b->cap * sizeof(*b->engine));
    b->task = malloc(b->cap * sizeof(*b->task));
    sched_config_init(&config);
    config.scheme = scheme;
    config.hwm = hwm;
    if (sched_new(&b->s, &config, &port, NULL) < 0)
        exit(1);
    for (size_t i = 0; i < n_engines; i++) {
        engine_name((int)i, name, sizeof(name));
        if (sched_on_engine(b->s, span_str(name), (int)i, 0, 0, NULL) < 0)
            exit(1);
    }
}

static void
stop(struct bench *b)
{
    sched_free(&b->s);
    free(b->engine);
    free(b->task);
}

static double
seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void
submit(struct bench *b, struct msg **m)
{
    if (sched_on_submit(b->s, *m, 0, NULL) < 0)
        exit(1);
    msg_unref(m);
}

/* ---- measurements ------------------------------------------------------ */

/* 'waiting' tasks more than the engines can take, and one in for each one out.
 * Returns nanoseconds per decision; the best of a few batches, because the
 * machine does other things too.
 */
static double
turnover(struct bench *b, size_t waiting, uint32_t n_batches,
         const char *metadata)
{
    struct msg *in[BATCH], *out[BATCH];
    uint32_t next = 0;
    double best = 1e9;

    for (; next < waiting; next++) {
        struct msg *m = make_request(next, metadata);

        submit(b, &m);
    }
    for (uint32_t k = 0; k < n_batches; k++) {
        size_t n = b->n_running && b->n_running < BATCH ? b->n_running : BATCH;
        double took;

        for (size_t i = 0; i < n; i++)
            in[i] = make_request(next++, metadata);
        took = seconds();
        for (size_t i = 0; i < n; i++)
            submit(b, &in[i]);
        took = seconds() - took;
        if (n > b->n_running)
            n = b->n_running;
        for (size_t i = 0; i < n; i++) {
            out[i] = make_reply(b->engine[b->head], b->task[b->head], "ok");
            b->head = (b->head + 1) % b->cap;
            b->n_running--;
        }
        took -= seconds();
        for (size_t i = 0; i < n; i++) {
            if (sched_on_reply(b->s, out[i], 0, NULL) < 0)
                exit(1);
            msg_unref(&out[i]);
        }
        took += seconds();
        if (took / (double)n < best)
            best = took / (double)n;
    }
    return best * 1e9;
}

static double
measure(const char *what, const char *scheme, uint32_t hwm, size_t n_engines,
        size_t waiting, const char *metadata)
{
    uint32_t n_batches = n_engines < 100 ? 2000 : 200;
    struct bench b;
    double ns;

    start(&b, scheme, hwm, n_engines, waiting + (n_batches + 1) * BATCH);
    ns = turnover(&b, waiting, n_batches, metadata);
    stop(&b);
    printf("{\"bench\": \"%s\", \"scheme\": \"%s\", \"hwm\": %u, \"engines\": "
           "%zu, \"waiting\": %zu, \"ns_per_decision\": %.0f, "
           "\"decisions_per_s\": %.0f}\n",
           what, scheme, hwm, n_engines, waiting, ns, 1e9 / ns);
    fflush(stdout);
    return ns;
}

static size_t
in_use(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* Bytes of scheduler per waiting task, beyond its message. */
static void
memory(const char *what, const char *metadata, size_t n)
{
    struct bench b;
    struct msg **m = malloc(n * sizeof(*m));
    size_t before;

    start(&b, "leastload", 1, 1, n);
    for (size_t i = 0; i < n; i++)
        m[i] = make_request((uint32_t)i, i ? metadata : PLAIN);
    before = in_use();
    for (size_t i = 0; i < n; i++)
        sched_on_submit(b.s, m[i], 0, NULL);
    printf("{\"bench\": \"memory\", \"what\": \"%s\", \"waiting\": %zu, "
           "\"bytes_per_task\": %.0f}\n",
           what, n, (double)(in_use() - before) / (double)n);
    fflush(stdout);
    for (size_t i = 0; i < n; i++)
        msg_unref(&m[i]);
    free(m);
    stop(&b);
}

/* 'n' tasks, each after two earlier ones, on 100 engines. */
static void
graph(uint32_t n)
{
    char metadata[256];
    struct bench b;
    double took = 0, start_s;

    start(&b, "leastload", 1, 100, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t back = 1 + i % 200;
        struct msg *m;

        snprintf(metadata, sizeof(metadata),
                 "{\"after\": [\"%s_20331_%u\", \"%s_20331_%u\"]}",
                 client_session, i < back ? 0 : i - back, client_session,
                 i / 2);
        m = make_request(i, i ? metadata : "{}");
        start_s = seconds();
        submit(&b, &m);
        took += seconds() - start_s;
    }
    while (b.n_running) {
        struct msg *m = make_reply(b.engine[b.head], b.task[b.head], "ok");

        b.head = (b.head + 1) % b.cap;
        b.n_running--;
        start_s = seconds();
        if (sched_on_reply(b.s, m, 0, NULL) < 0)
            exit(1);
        took += seconds() - start_s;
        msg_unref(&m);
    }
    printf("{\"bench\": \"graph\", \"tasks\": %u, \"answers\": %zu, "
           "\"seconds\": %.2f, \"ns_per_decision\": %.0f}\n",
           n, b.n_answers, took, took * 1e9 / n);
    fflush(stdout);
    stop(&b);
}

static void
flat(const char *what, double few, double many)
{
    printf("{\"bench\": \"flat\", \"what\": \"%s\", \"ratio\": %.2f}\n", what,
           many / few);
}

int
main(int argc, char **argv)
{
    static const char *const scheme[] = {"leastload", "lru", "plainrandom",
                                         "twobin", "weighted"};
    size_t big = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    double e10, e10k, w1k, w1m;

    e10 = measure("engines", "leastload", 1, 10, 1000, PLAIN);
    measure("engines", "leastload", 1, 100, 1000, PLAIN);
    measure("engines", "leastload", 1, 1000, 10000, PLAIN);
    e10k = measure("engines", "leastload", 1, 10000, 20000, PLAIN);
    flat("10 to 10,000 engines", e10, e10k);
    w1k = measure("waiting", "leastload", 1, 1000, 2000, PLAIN);
    w1m = measure("waiting", "leastload", 1, 1000, big, PLAIN);
    flat("1,000 to 1,000,000 waiting tasks", w1k, w1m);
    for (size_t i = 0; i < 5; i++)
        measure("idle", scheme[i], 1, 10000, 0, "{}");
    measure("hwm 0", "leastload", 0, 1000, 0, "{}");
    measure("priority", "leastload", 1, 1000, 20000,
            "{\"priority\": 3, \"retries\": 2}");
    measure("timeout", "leastload", 1, 1000, 20000, "{\"timeout\": 100}");
    memory("plain", PLAIN, big);
    memory("one dependency",
           "{\"after\": [\"97456ff1-e4409120c17d5d7876e003f8_20331_0\"]}", big);
    memory("two dependencies",
           "{\"after\": [\"97456ff1-e4409120c17d5d7876e003f8_20331_0\", "
           "\"97456ff1-e4409120c17d5d7876e003f8_20331_0\"]}",
           big);
    graph((uint32_t)big);
    return 0;
}
