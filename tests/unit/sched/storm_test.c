/* storm_test.c - random events against a model that knows only the rules
 *
 * Each seed is one small world: engines come and die, tasks with random wishes
 * are submitted, answered, cancelled, given back; the port refuses and memory
 * runs out at random.  The model keeps what a bystander can see.  Every
 * dispatch and every answer is checked against it, sched_check runs after each
 * event, and at the end every submission has been answered exactly once.
 *
 * RH_STORM_SEEDS and RH_STORM_FIRST choose the seeds; a failure names its seed,
 * and with RH_STORM_TRACE set everything that happens is printed.
 */
#include "sched/core.h"
#include "world.h"

#define MAX_TASKS 80
#define MAX_ENGINES 24
#define EVENTS 130

enum outcome { UNDECIDED, OK, FAILED };

struct wanted {
    int n, id[4];
    bool all, success, failure;
};

struct mtask {
    struct msg *request, *reply;
    char id[16];
    bool accepted, cancelled, invalid, same, over, queued_again;
    int n_answers;
    enum outcome outcome;
    int ran;      // engine; -1: none
    int engine;   // on it now; -1: none
    bool unbegun; // ... which is dead, and has not begun it
    struct wanted after, follow;
    uint32_t targets; // bits of engines; 0: any
    bool has_targets;
    uint32_t refused; // bits of engines that shall not have it again
    int64_t queued_at, timeout_ms;
    int retries;
    const char *status; // of the last reply
};

struct mengine {
    char name[16];
    enum { UNBORN, ALIVE, GRACE, GONE } state;
    int64_t expires;
    uint32_t capabilities;
    int load;
    bool asked;
};

struct storm {
    struct world w; // only its clock and refusals
    struct sched_config config;
    uint64_t seed, random;
    struct mtask task[MAX_TASKS];
    struct mengine engine[MAX_ENGINES];
    int n_tasks, n_engines;
    int dispatched[4 * MAX_TASKS], n_dispatched; // in this event
    int impossible[MAX_TASKS], n_impossible;
    struct msg *submitting;
    bool refused_now;   // 'submitting' was answered without becoming a task
    bool unsure;        // an outcome is not known to anybody
    bool no_memory;     // allocations shall fail in this event
    bool had_no_memory; // ... or in one before
};

#define TRUE(what)                                                           \
    do {                                                                     \
        if (!(what))                                                         \
            fail_msg("seed %llu: %s (line %d)", (unsigned long long)w->seed, \
                     #what, __LINE__);                                       \
    } while (0)

static uint32_t
dice(struct storm *w, uint32_t n)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15U;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    return (uint32_t)((z ^ z >> 31) % n);
}

static bool trace;

#define TRACE(...)                      \
    do {                                \
        if (trace)                      \
            print_message(__VA_ARGS__); \
    } while (0)

/* From here to enough_memory() allocations fail, if this event is to see it. */
static void
short_memory(struct storm *w)
{
    if (w->no_memory)
        mem_fail_after(dice(w, 10));
}

static void
enough_memory(void)
{
    mem_fail_after(-1);
}

static int
find_task(struct storm *w, struct span id)
{
    int i = atoi((const char *)id.p + 1);

    TRUE(id.n > 1 && i >= 0 && i < w->n_tasks);
    TRUE(span_is(id, w->task[i].id));
    return i;
}

static int
find_engine(struct storm *w, struct span uuid)
{
    for (int i = 0; i < w->n_engines; i++)
        if (span_is(uuid, w->engine[i].name))
            return i;
    fail_msg("seed %llu: engine %.*s is unknown", (unsigned long long)w->seed,
             (int)uuid.n, (const char *)uuid.p);
    return -1;
}

static struct task *
inside(struct storm *w, const struct mtask *t)
{
    uint64_t h[2];

    id_hash(w->w.s->hash_key, span_str(t->id), h);
    return (struct task *)(void *)ids_get(&w->w.s->live, h);
}

/* How a task ended, also while its answer is held up by the port. */
static enum outcome
outcome_of(struct storm *w, const struct mtask *t, int *ran)
{
    const struct done_entry *e;
    uint64_t h[2];

    id_hash(w->w.s->hash_key, span_str(t->id), h);
    e = done_get(&w->w.s->done, h);
    *ran = t->ran;
    if (!e) {
        // It was not remembered, for lack of memory, if it is over at all.
        if (t->n_answers)
            return t->outcome;
        w->unsure = w->unsure || (t->accepted && !inside(w, t));
        return UNDECIDED;
    }
    TRUE(!t->n_answers || (t->outcome == OK) == e->ok);
    if (!e->engine)
        *ran = -1;
    return e->ok ? OK : FAILED;
}

/* ---- the rules, once more ---------------------------------------------- */

struct verdict {
    bool met, unreachable;
    uint32_t engines; // follow: where it may go, if met
};

static struct verdict
judge(struct storm *w, const struct wanted *d, bool follow)
{
    struct verdict v = {0};
    int good = 0, bad = 0, open = 0;

    for (int i = 0; i < d->n; i++) {
        int ran;
        enum outcome o = outcome_of(w, &w->task[d->id[i]], &ran);
        bool wanted = (o == OK && d->success) || (o == FAILED && d->failure);

        if (o == UNDECIDED)
            open++;
        else if (wanted && (!follow || ran >= 0))
            good++;
        else
            bad++;
        if (wanted && follow && ran >= 0)
            v.engines |= 1U << ran;
    }
    if (!d->n) {
        v.met = true;
        v.engines = ~0U;
    } else if (d->all) {
        v.met = good == d->n;
        v.unreachable = bad > 0 || (follow && (v.engines & (v.engines - 1)));
    } else {
        v.met = good > 0;
        v.unreachable = good == 0 && open == 0;
    }
    return v;
}

static uint32_t
alive(const struct storm *w)
{
    uint32_t bits = 0;

    for (int i = 0; i < w->n_engines; i++)
        if (w->engine[i].state == ALIVE)
            bits |= 1U << i;
    return bits;
}

static uint32_t
may_run_on(struct storm *w, const struct mtask *t, uint32_t follow)
{
    return (t->has_targets ? t->targets : ~0U) & follow & ~t->refused
           & alive(w);
}

static bool
open_follow(struct storm *w, const struct mtask *t)
{
    int ran;

    for (int i = 0; i < t->follow.n; i++)
        if (outcome_of(w, &w->task[t->follow.id[i]], &ran) == UNDECIDED)
            return true;
    return false;
}

/* Can it never run, as far as that is certain now? */
static bool
impossible(struct storm *w, const struct mtask *t)
{
    struct verdict after = judge(w, &t->after, false);
    struct verdict follow = judge(w, &t->follow, true);

    if (after.unreachable || follow.unreachable)
        return true;
    if (t->follow.n && !t->follow.all && open_follow(w, t))
        follow.engines = ~0U;
    if (t->follow.n && t->follow.all && !follow.engines)
        follow.engines = ~0U;
    if (!t->has_targets && !t->follow.n)
        return false;
    // A follow list restricts by name, as targets do; others wait for ever.
    if (!t->has_targets && follow.engines == ~0U)
        return false;
    return may_run_on(w, t, follow.engines) == 0;
}

/* ---- the port ---------------------------------------------------------- */

/* A task that was on an engine that died waits again, or did for a moment. */
static void
came_back(struct storm *w, struct mtask *t)
{
    struct mengine *old = &w->engine[t->engine];

    TRUE(old->state != ALIVE && old->expires <= w->w.now);
    TRUE(t->unbegun || t->retries-- > 0);
    t->unbegun = false;
    old->load--;
    t->engine = -1;
    t->queued_at = w->w.now;
}

static int
on_dispatch(void *ctx, const struct sched_peer *peer, struct msg *m)
{
    struct storm *w = ctx;
    int ei = find_engine(w, peer->uuid), ti = find_task(w, request_id(m));
    struct mengine *e = &w->engine[ei];
    struct mtask *t = &w->task[ti];
    uint32_t hwm = w->config.hwm;

    if (refuses(&w->w.refuse_dispatch))
        return RH_ENOMEM;
    TRACE("  dispatch %s %s\n", e->name, t->id);
    TRUE(t->request == m && !t->n_answers);
    TRUE(peer->id == ei && peer->capabilities == e->capabilities);
    TRUE(e->state == ALIVE);
    if (t->engine >= 0)
        came_back(w, t);
    TRUE(!t->cancelled || !t->queued_again);
    t->unbegun = false; // what it was on the engine before does not matter
    TRUE(!(t->refused & 1U << ei));
    TRUE(!t->has_targets || (t->targets & 1U << ei));
    if (hwm && e->load >= (int)hwm) {
        TRUE(e->capabilities & SCHED_PREFETCH);
        TRUE(!e->asked);
        TRUE(e->load < (int)(hwm + w->config.prefetch_max));
    }
    e->load++;
    t->engine = t->ran = ei;
    TRUE(w->n_dispatched < 4 * MAX_TASKS);
    w->dispatched[w->n_dispatched++] = ti;
    return 0;
}

static void
answered(struct storm *w, struct mtask *t, enum outcome outcome)
{
    TRUE(t->n_answers == 0);
    t->n_answers = 1;
    t->outcome = outcome;
}

static int
on_relay(void *ctx, struct span client, struct span uuid, struct msg *reply,
         struct msg *request)
{
    struct storm *w = ctx;
    struct mtask *t = &w->task[find_task(w, request_id(request))];

    if (refuses(&w->w.refuse_relay))
        return RH_ENOMEM;
    TRACE("  relay %s\n", t->id);
    TRUE(span_eq(client, t->request->frame[0]) && t->request == request);
    TRUE(t->reply == reply && t->engine < 0);
    TRUE(span_eq(uuid, reply->frame[0]));
    answered(w, t, strcmp(t->status, "ok") == 0 ? OK : FAILED);
    return 0;
}

/* What the scheduler made up itself must have a reason. */
static void
check_answer(struct storm *w, int ti, const struct sched_answer *a)
{
    struct mtask *t = &w->task[ti];

    if (a->status == SCHED_ABORTED) {
        TRUE(t->cancelled);
    } else if (strcmp(a->ename, "ImpossibleDependency") == 0) {
        w->impossible[w->n_impossible++] = ti;
    } else if (strcmp(a->ename, "TaskTimeout") == 0) {
        TRUE(t->timeout_ms || w->config.nowhere_ms);
        if (!w->config.nowhere_ms)
            TRUE(w->w.now >= t->queued_at + t->timeout_ms);
    } else if (strcmp(a->ename, "MemoryError") == 0) {
        TRUE(w->had_no_memory);
    } else if (strcmp(a->ename, "ProtocolError") == 0) {
        TRUE(strcmp(t->status, "none") == 0);
    } else if (strcmp(a->ename, "InvalidDependency") != 0) {
        TRUE(t->invalid || strcmp(a->ename, "QueueFull") == 0
             || strcmp(a->ename, "EngineError") == 0);
    }
}

static int
on_answer(void *ctx, const struct sched_answer *a)
{
    struct storm *w = ctx;
    int ti = find_task(w, a->msg_id);
    struct mtask *t = &w->task[ti];

    if (refuses(&w->w.refuse_answer))
        return RH_ENOMEM;
    if (t->request != a->request) { // an id used twice
        TRUE(a->request == w->submitting && !w->refused_now);
        TRUE(strcmp(a->ename, "ValueError") == 0);
        w->refused_now = true;
        return 0;
    }
    TRACE("  answer %s %s %s\n", t->id, a->ename, a->evalue);
    TRUE(span_eq(a->client, t->request->frame[0]));
    check_answer(w, ti, a);
    if (a->engine) {
        struct mengine *e = &w->engine[find_engine(w, a->engine->uuid)];

        TRUE(strcmp(a->ename, "EngineError") == 0);
        TRUE(e->state != ALIVE && e->expires <= w->w.now);
        TRUE(t->engine == e - w->engine);
        TRUE(!t->unbegun || t->has_targets); // all of them dead
        e->load--;
        t->engine = -1;
    } else if (t->engine >= 0) {
        came_back(w, t); // and then found nowhere to go
    }
    if (!a->engine)
        t->ran = -1;
    answered(w, t, FAILED);
    return 0;
}

static int
on_withdraw(void *ctx, const struct sched_peer *peer, const struct span *id,
            size_t n)
{
    struct storm *w = ctx;
    int ei = find_engine(w, peer->uuid);

    if (refuses(&w->w.refuse_withdraw))
        return RH_ENOMEM;
    TRUE(n > 0 && (peer->capabilities & SCHED_PREFETCH));
    TRUE(w->engine[ei].state == ALIVE && !w->engine[ei].asked);
    w->engine[ei].asked = true;
    for (size_t i = 0; i < n; i++)
        TRUE(w->task[find_task(w, id[i])].engine == ei);
    return 0;
}

/* ---- events ------------------------------------------------------------ */

static void
after_event(struct storm *w)
{
    for (int i = 0; i < w->n_tasks; i++) {
        const struct task *in = inside(w, &w->task[i]);

        if (in && task_waits(in) && w->task[i].engine >= 0)
            came_back(w, &w->task[i]);
    }
    for (int i = 0; i < w->n_dispatched; i++) {
        struct mtask *t = &w->task[w->dispatched[i]];
        struct verdict follow;

        w->unsure = false;
        follow = judge(w, &t->follow, true);
        TRUE((judge(w, &t->after, false).met && follow.met) || w->unsure);
        TRUE((follow.engines & 1U << t->ran) || w->unsure);
    }
    for (int i = 0; i < w->n_impossible; i++) {
        w->unsure = false;
        TRUE(impossible(w, &w->task[w->impossible[i]]) || w->unsure);
    }
    for (int i = 0; i < w->n_tasks; i++) {
        const struct task *in = inside(w, &w->task[i]);

        if (in && in->state == TASK_READY)
            TRUE(!impossible(w, &w->task[i]));
        if (in && in->state == TASK_DEPS)
            TRUE(!judge(w, &w->task[i].after, false).unreachable);
        if (in && task_waits(in) && w->task[i].timeout_ms)
            TRUE(w->w.now < w->task[i].queued_at + w->task[i].timeout_ms);
    }
    w->n_dispatched = w->n_impossible = 0;
    sched_check(w->w.s);
}

static void
tick(struct storm *w)
{
    w->w.wake = INT64_MAX;
    short_memory(w);
    sched_on_tick(w->w.s, w->w.now);
    enough_memory();
    after_event(w);
}

static void
pass(struct storm *w, int64_t ms)
{
    int64_t until = w->w.now + ms;

    while (w->w.wake <= until) {
        if (w->w.wake > w->w.now)
            w->w.now = w->w.wake;
        tick(w);
    }
    w->w.now = until;
}

static void
new_engine(struct storm *w)
{
    struct mengine *e = &w->engine[w->n_engines];
    int rc;

    if (w->n_engines == MAX_ENGINES)
        return;
    *e = (struct mengine){.state = ALIVE, .capabilities = dice(w, 4)};
    snprintf(e->name, sizeof(e->name), "E%d", w->n_engines);
    w->n_engines++;
    TRACE("%lld engine %s\n", (long long)w->w.now, e->name);
    short_memory(w);
    rc = sched_on_engine(w->w.s, span_str(e->name), w->n_engines - 1,
                         e->capabilities, w->w.now, NULL);
    enough_memory();
    if (rc < 0) {
        TRUE(rc == RH_ENOMEM && w->no_memory);
        e->state = GONE;
    }
}

static int
pick_engine(struct storm *w)
{
    return w->n_engines ? (int)dice(w, (uint32_t)w->n_engines) : -1;
}

/* Some of its tasks had been begun. */
static void
tell_begun(struct storm *w, int ei)
{
    struct begun *begun = begun_new();

    TRUE(begun);
    for (int i = 0; i < w->n_tasks; i++) {
        const struct task *in = inside(w, &w->task[i]);

        if (!in || w->task[i].engine != ei)
            continue;
        if (dice(w, 2))
            begun_note(begun, span_str(w->task[i].id));
        else
            w->task[i].unbegun = !in->passed;
    }
    sched_on_engine_begun(w->w.s, span_str(w->engine[ei].name), begun);
    begun_free(&begun);
}

static void
lose_engine(struct storm *w)
{
    int ei = pick_engine(w);
    int64_t grace = dice(w, 2) ? 0 : dice(w, 50);
    struct mengine *e;

    if (ei < 0)
        return;
    e = &w->engine[ei];
    if (e->state == ALIVE) {
        TRACE("%lld lost %s %lld\n", (long long)w->w.now, e->name,
              (long long)grace);
        e->state = GRACE;
        e->expires = w->w.now + (e->load ? grace : 0);
        if (dice(w, 2))
            tell_begun(w, ei);
        short_memory(w);
        TRUE(sched_on_engine_lost(w->w.s, span_str(e->name), SPAN_LIT("why"),
                                  w->w.now, grace)
             == 0);
        enough_memory();
    } else {
        TRUE(sched_on_engine_lost(w->w.s, span_str(e->name), SPAN_NONE,
                                  w->w.now, grace)
             == RH_ENOENT);
    }
}

static size_t
write_wanted(struct storm *w, struct wanted *d, const char *key, char *out,
             size_t cap)
{
    size_t at;

    *d = (struct wanted){.all = true, .success = true};
    if (!w->n_tasks || dice(w, 3))
        return 0;
    d->n = 1 + (int)dice(w, 4);
    d->all = dice(w, 3) > 0;
    d->success = dice(w, 5) > 0;
    d->failure = !d->success || dice(w, 3) == 0;
    at = (size_t)snprintf(out, cap,
                          "'%s': {'all': %s, 'success': %s, "
                          "'failure': %s, 'dependencies': [",
                          key, d->all ? "true" : "false",
                          d->success ? "true" : "false",
                          d->failure ? "true" : "false");
    for (int i = 0; i < d->n; i++) {
        // Recent ones are mostly unfinished, and rarely it is the task itself.
        int back = (int)dice(w, dice(w, 4) ? 8 : 80);

        d->id[i] = w->n_tasks - (dice(w, 60) ? 1 + back : 0);
        if (d->id[i] < 0)
            d->id[i] = 0;
        at += (size_t)snprintf(out + at, cap - at, "%s't%d'", i ? ", " : "",
                               d->id[i]);
    }
    return at + (size_t)snprintf(out + at, cap - at, "]}, ");
}

static size_t
write_targets(struct storm *w, struct mtask *t, char *out, size_t cap)
{
    size_t at = 0, n = 1 + dice(w, 3);

    if (!w->n_engines || dice(w, 4))
        return 0;
    t->has_targets = true;
    at += (size_t)snprintf(out, cap, "'targets': [");
    for (size_t i = 0; i < n; i++) {
        int ei = pick_engine(w);

        t->targets |= 1U << ei;
        at +=
            (size_t)snprintf(out + at, cap - at, "%s'E%d'", i ? ", " : "", ei);
    }
    return at + (size_t)snprintf(out + at, cap - at, "], ");
}

static void
write_metadata(struct storm *w, struct mtask *t, char *out, size_t cap)
{
    size_t at = (size_t)snprintf(out, cap, "{");

    at += write_wanted(w, &t->after, "after", out + at, cap - at);
    at += write_wanted(w, &t->follow, "follow", out + at, cap - at);
    at += write_targets(w, t, out + at, cap - at);
    if (dice(w, 3) == 0) {
        t->retries = (int)dice(w, 4);
        at +=
            (size_t)snprintf(out + at, cap - at, "'retries': %d, ", t->retries);
        t->same = dice(w, 4) == 0;
        if (t->same)
            at += (size_t)snprintf(out + at, cap - at,
                                   "'retry_same_engine': true, ");
        if (dice(w, 4) == 0)
            at += (size_t)snprintf(out + at, cap - at, "'retry_delay': 0.0%u, ",
                                   1 + dice(w, 9));
    }
    if (dice(w, 6) == 0) {
        t->timeout_ms = 1 + dice(w, 60);
        at += (size_t)snprintf(out + at, cap - at, "'timeout': %.3f, ",
                               (double)t->timeout_ms / 1000);
    }
    t->invalid = dice(w, 50) == 0;
    if (t->invalid)
        at += (size_t)snprintf(out + at, cap - at, "'retry_on': 3, ");
    snprintf(out + at, cap - at, "'priority': %d}",
             dice(w, 3) ? 0 : (int)dice(w, 5) - 2);
}

static void
submit_again(struct storm *w)
{
    static const char *const client[] = {"c", "d"};
    struct mtask *t = &w->task[dice(w, (uint32_t)w->n_tasks)];
    uint64_t h[2];
    int rc;

    id_hash(w->w.s->hash_key, span_str(t->id), h);
    if (!ids_get(&w->w.s->live, h) && !done_get(&w->w.s->done, h))
        return; // it never became a task: the id is free
    w->submitting = make_request(client[dice(w, 2)], t->id, "{}");
    w->refused_now = false;
    rc = sched_on_submit(w->w.s, w->submitting, w->w.now, NULL);
    TRUE(w->refused_now == (rc == 0) && (rc == 0 || rc == RH_ENOMEM));
    msg_unref(&w->submitting);
}

static void
submit(struct storm *w)
{
    static const char *const client[] = {"c", "d", "e"};
    struct mtask *t = &w->task[w->n_tasks];
    char metadata[1024];
    int rc;

    if (w->n_tasks && dice(w, 20) == 0) {
        submit_again(w);
        return;
    }
    if (w->n_tasks == MAX_TASKS)
        return;
    *t = (struct mtask){.ran = -1, .engine = -1, .queued_at = w->w.now};
    snprintf(t->id, sizeof(t->id), "t%d", w->n_tasks);
    write_metadata(w, t, metadata, sizeof(metadata));
    t->request = make_request(client[dice(w, 3)], t->id, metadata);
    w->n_tasks++;
    TRACE("%lld submit %s %s\n", (long long)w->w.now, t->id, metadata);
    short_memory(w);
    rc = sched_on_submit(w->w.s, t->request, w->w.now, NULL);
    enough_memory();
    t->accepted = rc == 0;
    TRUE(rc == 0 || rc == RH_ENOMEM);
    TRUE(rc == 0 || t->n_answers == 0);
}

/* The oldest task on an engine, mostly; -1: none. */
static int
pick_running(struct storm *w, int ei)
{
    int last = -1;

    for (int i = 0; i < w->n_tasks; i++) {
        if (w->task[i].engine != ei)
            continue;
        if (last < 0 || dice(w, 8) == 0)
            last = i;
    }
    return last;
}

static void
reply_with(struct storm *w, int ti, const char *status)
{
    struct mtask *t = &w->task[ti];
    struct mengine *e = &w->engine[t->engine];
    bool unmet = strcmp(status, "unmet") == 0;
    bool failed = strcmp(status, "error") == 0 || strcmp(status, "none") == 0;
    int rc;

    msg_unref(&t->reply);
    t->reply = make_reply(e->name, t->id, status);
    t->status = status;
    e->load--;
    t->queued_at = w->w.now;
    t->queued_again = true;
    if (unmet || !(t->same && (e->capabilities & SCHED_AGAIN)))
        if (unmet || failed)
            t->refused |= 1U << t->engine;
    if (failed && !t->cancelled && t->retries > 0)
        t->retries--;
    t->engine = -1;
    TRACE("%lld reply %s %s %s\n", (long long)w->w.now, e->name, t->id, status);
    short_memory(w);
    rc = sched_on_reply(w->w.s, t->reply, w->w.now, NULL);
    enough_memory();
    TRUE(rc == 0);
}

static void
reply(struct storm *w)
{
    static const char *const status[] = {"ok",    "ok",      "ok",   "error",
                                         "unmet", "aborted", "none", "error"};
    int ei = pick_engine(w);
    int ti = ei < 0 ? -1 : pick_running(w, ei);

    if (ti < 0
        || (w->engine[ei].state != ALIVE && w->engine[ei].expires <= w->w.now))
        return;
    reply_with(w, ti, status[dice(w, dice(w, 8) ? 6 : 8)]);
}

/* A reply that nobody is waiting for. */
static void
stray_reply(struct storm *w)
{
    int ei = pick_engine(w), ti;
    struct msg *m;

    if (ei < 0 || !w->n_tasks)
        return;
    ti = (int)dice(w, (uint32_t)w->n_tasks);
    if (w->task[ti].engine == ei)
        return;
    m = make_reply(w->engine[ei].name, w->task[ti].id, "ok");
    TRUE(sched_on_reply(w->w.s, m, w->w.now, NULL) < 0);
    msg_unref(&m);
}

static void
cancel_some(struct storm *w)
{
    struct span id[3];
    struct sched_cancelled was[3];
    int ti[3];
    size_t n = 1 + dice(w, 3);

    if (!w->n_tasks)
        return;
    for (size_t i = 0; i < n; i++) {
        ti[i] = (int)dice(w, (uint32_t)w->n_tasks);
        id[i] = span_str(w->task[ti[i]].id);
        TRACE("%lld cancel %s\n", (long long)w->w.now, w->task[ti[i]].id);
        w->task[ti[i]].cancelled = true;
        w->task[ti[i]].queued_again = false;
    }
    sched_cancel(w->w.s, id, n, was, w->w.now);
    for (size_t i = 0; i < n; i++)
        TRUE((was[i].was == SCHED_RUNNING) == (w->task[ti[i]].engine >= 0)
             || w->task[ti[i]].n_answers || was[i].was == SCHED_FINISHED);
}

/* An engine that was asked gives back some of what it was asked for. */
static void
give_back(struct storm *w)
{
    int ei = pick_engine(w);
    struct span id[MAX_TASKS];
    struct mengine *e;
    size_t n = 0;
    bool asked;
    int rc;

    if (ei < 0)
        return;
    e = &w->engine[ei];
    for (int i = 0; i < w->n_tasks; i++) {
        struct mtask *t = &w->task[i];
        const struct task *in = inside(w, t);

        if (t->engine != ei || !in || dice(w, 3) == 0)
            continue;
        id[n++] = span_str(t->id);
        if (!in->asked || !e->asked)
            continue; // named, but not asked for: it stays
        t->engine = -1;
        t->queued_at = w->w.now;
        e->load--;
    }
    if (e->state != ALIVE && e->expires <= w->w.now) {
        TRUE(n == 0);
        return;
    }
    asked = e->asked;
    e->asked = false;
    short_memory(w);
    rc = sched_on_withdrawn(w->w.s, span_str(e->name), id, n, w->w.now, NULL);
    enough_memory();
    TRUE((rc == 0) == asked || e->state != ALIVE);
}

static void
expire_engines(struct storm *w)
{
    for (int i = 0; i < w->n_engines; i++)
        if (w->engine[i].state == GRACE && w->engine[i].expires <= w->w.now)
            w->engine[i].state = GONE;
}

static void
one_event(struct storm *w)
{
    uint32_t what = dice(w, 100);

    w->no_memory = w->config.seed % 3 == 0 && dice(w, 4) == 0;
    w->had_no_memory = w->had_no_memory || w->no_memory;
    if (w->config.seed % 2 == 0 && dice(w, 5) == 0) {
        w->w.refuse_dispatch = (int)dice(w, 3);
        w->w.refuse_relay = (int)dice(w, 3);
        w->w.refuse_answer = (int)dice(w, 3);
        w->w.refuse_withdraw = (int)dice(w, 2);
    }
    if (what < 6)
        new_engine(w);
    else if (what < 9)
        lose_engine(w);
    else if (what < 42)
        submit(w);
    else if (what < 80)
        reply(w);
    else if (what < 83)
        stray_reply(w);
    else if (what < 88)
        give_back(w);
    else if (what < 90)
        cancel_some(w);
    else
        pass(w, dice(w, 12));
    after_event(w);
    expire_engines(w);
}

/* ---- one seed ---------------------------------------------------------- */

static void
choose_config(struct storm *w)
{
    static const char *const scheme[] = {
        "leastload", "leastload", "lru", "plainrandom", "twobin", "weighted"};
    static const uint32_t hwm[] = {1, 1, 1, 2, 3, 0};

    sched_config_init(&w->config);
    w->config.scheme = scheme[dice(w, 6)];
    w->config.hwm = hwm[dice(w, 6)];
    w->config.seed = w->seed;
    w->config.window = 10000;
    w->config.max_tasks = dice(w, 8) ? 0 : 20;
    w->config.max_deaths = dice(w, 4);
    w->config.nowhere_ms = dice(w, 4) ? 0 : 40;
    w->config.prefetch_max = dice(w, 6);
}

/* Engines answer all they have. */
static void
drain(struct storm *w)
{
    for (int round = 0, busy = 1; busy; round++) {
        TRUE(round < 1000);
        busy = 0;
        pass(w, 25);
        expire_engines(w);
        for (int i = 0; i < w->n_tasks; i++) {
            int ei = w->task[i].engine;

            busy += ei >= 0;
            if (ei < 0 || w->engine[ei].state != ALIVE)
                continue;
            reply_with(w, i, "ok");
            after_event(w);
        }
        for (int i = 0; i < w->n_engines; i++) {
            struct mengine *e = &w->engine[i];

            if (!e->asked || e->state != ALIVE)
                continue;
            e->asked = false;
            sched_on_withdrawn(w->w.s, span_str(e->name), NULL, 0, w->w.now,
                               NULL);
            after_event(w);
        }
    }
}

/* Let all that can end, end; then cancel what waits for engines to come, and
 * let those run that were waiting for such a failure.
 */
static void
calm_down(struct storm *w)
{
    w->no_memory = false;
    w->w.refuse_dispatch = w->w.refuse_relay = 0;
    w->w.refuse_answer = w->w.refuse_withdraw = 0;
    drain(w);
    for (int i = 0; i < w->n_tasks; i++) {
        struct span id = span_str(w->task[i].id);

        w->task[i].cancelled = true;
        w->task[i].queued_again = false;
        sched_cancel(w->w.s, &id, 1, NULL, w->w.now);
        after_event(w);
    }
    drain(w);
}

static void
check_end(struct storm *w)
{
    struct sched_stats st;

    sched_get_stats(w->w.s, &st);
    TRUE(st.n_unassigned == 0);
    TRUE(st.n_running == 0);
    TRUE(st.n_answering == 0);
    TRUE(st.n_clients == 0);
    TRUE(st.submitted == st.completed + st.failed + st.aborted);
    for (int i = 0; i < w->n_tasks; i++) {
        struct mtask *t = &w->task[i];

        TRUE(t->n_answers == t->accepted);
        TRUE(t->request->refs == 1);
        msg_unref(&t->request);
        TRUE(!t->reply || t->reply->refs == 1);
        msg_unref(&t->reply);
    }
}

static void
run_seed(uint64_t seed)
{
    struct storm *w = calloc(1, sizeof(*w));
    struct sched_port port;

    assert_non_null(w);
    w->seed = w->random = seed;
    w->w.wake = INT64_MAX;
    choose_config(w);
    port = world_port(&w->w);
    port.ctx = w;
    port.dispatch = on_dispatch;
    port.relay = on_relay;
    port.answer = on_answer;
    port.tracked = NULL;
    port.withdraw = on_withdraw;
    TRUE(sched_new(&w->w.s, &w->config, &port, NULL) == 0);
    for (int i = 0; i < EVENTS; i++)
        one_event(w);
    if (dice(w, 10)) {
        calm_down(w);
        check_end(w);
    } else { // freed in the middle: nothing may leak or be answered
        int before = 0, after = 0;

        for (int i = 0; i < w->n_tasks; i++)
            before += w->task[i].n_answers;
        sched_free(&w->w.s);
        for (int i = 0; i < w->n_tasks; i++) {
            after += w->task[i].n_answers;
            TRUE(w->task[i].request->refs == 1);
            msg_unref(&w->task[i].request);
            msg_unref(&w->task[i].reply);
        }
        TRUE(before == after);
    }
    sched_free(&w->w.s);
    free(w);
}

static uint64_t
from_env(const char *name, uint64_t standard)
{
    const char *value = getenv(name);

    return value ? strtoull(value, NULL, 10) : standard;
}

static void
test_storms(void **state)
{
    uint64_t first = from_env("RH_STORM_FIRST", 1);
    uint64_t n = from_env("RH_STORM_SEEDS", 3000);

    (void)state;
    trace = getenv("RH_STORM_TRACE") != NULL;
    for (uint64_t seed = first; seed < first + n; seed++)
        run_seed(seed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_storms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
