/* explain.c - where a task is and why, in JSON; and the scheduler's counters
 *
 * Somebody asks rarely and one task at a time, so nothing is kept for this:
 * what is told is looked up, and every search has a bound.
 */
#include <inttypes.h>
#include <stdio.h>

#include "sched/core.h"

#define LISTED 100        // ids, or engines, that are spelled out
#define COUNTED_MAX 10000 // tasks that are counted

/* ---- what holds it up -------------------------------------------------- */

struct text {
    struct buf *json;
    struct buf buf; // the sentence
    const char *comma;
};

/* [ids of unfinished tasks]; returns how many there are. */
static size_t
add_unfinished(struct sched *s, struct span ids, struct text *out, size_t n)
{
    struct buf scratch = {0};
    struct span id;
    size_t at = 0;
    uint64_t h[2];

    while (graph_next_id(ids, &at, &scratch, &id) > 0) {
        id_hash(s->hash_key, id, h);
        if (!ids_get(&s->live, h) || n++ >= LISTED)
            continue;
        buf_add_str(out->json, out->comma);
        buf_add_json_str(out->json, id);
        out->comma = ", ";
    }
    buf_fini(&scratch);
    return n;
}

static size_t
add_waiting_for(struct sched *s, const struct task *t, struct text *out)
{
    struct dep_spec after, follow;
    size_t n = 0;

    buf_add_str(out->json, ", \"waiting_for\": [");
    out->comma = "";
    if (t && t->state == TASK_DEPS) {
        meta_deps(t, &after, &follow);
        n = add_unfinished(s, after.ids, out, n);
        n = add_unfinished(s, follow.ids, out, n);
    }
    buf_add_char(out->json, ']');
    return n;
}

/* Why 'e' cannot have the task, or NULL. */
static const char *
obstacle(const struct sched *s, const struct task *t, const struct engine *e,
         char *text, size_t cap)
{
    const struct extra *x = t->extra;

    if (x && serials_have(x->black, x->n_black, e->serial))
        return "it had the task before";
    if (x && x->target && !serials_have(x->target, x->n_target, e->serial))
        return "it is not one of the task's targets";
    if (t->state != TASK_READY)
        return NULL;
    if (t->deps && t->deps->follow.used
        && !serials_have(t->deps->ran, t->deps->n_ran, e->serial))
        return "the tasks to be followed did not run there";
    if (e->blocked)
        return "nothing can be sent to it at the moment";
    if (engine_room(s, e))
        return NULL;
    snprintf(text, cap,
             "it is busy: %" PRIu32 " unfinished tasks, hwm %" PRIu32, e->load,
             s->config.hwm);
    return text;
}

static void
add_excluded(const struct sched *s, const struct task *t, struct text *out)
{
    bool any = t && (t->state == TASK_READY || (task_waits(t) && t->extra));
    char text[80];
    size_t n = 0;

    buf_add_str(out->json, ", \"excluded\": [");
    for (struct list *i = s->engine_list.next;
         any && i != &s->engine_list && n < LISTED; i = i->next) {
        const struct engine *e = LIST_ENTRY(i, struct engine, link);
        const char *why = obstacle(s, t, e, text, sizeof(text));

        if (!why)
            continue;
        buf_add_fmt(out->json, "%s{\"engine\": %d, \"why\": ", n++ ? ", " : "",
                    e->peer.id);
        buf_add_json_str(out->json, span_str(why));
        buf_add_char(out->json, '}');
    }
    buf_add_char(out->json, ']');
}

/* ---- how many come before it ------------------------------------------- */

static size_t
before_in_heap(const struct pheap *heap, int64_t key, size_t n)
{
    struct pnode *node = pheap_top(heap);

    for (size_t i = 0; node && i < COUNTED_MAX; i++, node = pheap_walk(node))
        n += node->key < key;
    return n < COUNTED_MAX ? n : COUNTED_MAX;
}

static size_t
before_in_lanes(const struct sched *s, int64_t key, size_t n)
{
    struct pnode *lane = pheap_top(&s->lanes);

    for (; lane; lane = pheap_walk(lane)) {
        const struct list *fifo = &PNODE_ENTRY(lane, struct flow, lane)->fifo;

        for (struct list *i = fifo->next; i != fifo && n < COUNTED_MAX;
             i = i->next) {
            if (LIST_ENTRY(i, struct task, q.line.link)->q.line.key >= key)
                break;
            n++;
        }
    }
    return n;
}

static size_t
count_before(const struct sched *s, const struct task *t)
{
    size_t n = 0;

    if (t->state == TASK_RUNNING)
        for (struct list *i = t->q.line.link.prev;
             i != &t->engine->running && n < COUNTED_MAX; i = i->prev)
            n++;
    if (t->state != TASK_READY)
        return n;
    n = before_in_lanes(s, t->q.order.key, n);
    n = before_in_heap(&s->early, t->q.order.key, n);
    if (t->queued == Q_SET)
        n = before_in_heap(&t->set->waiting, t->q.order.key, n);
    return n;
}

/* ---- sentences --------------------------------------------------------- */

static double
seconds(int64_t ms)
{
    return (double)ms / 1000;
}

static void
tell_waiting(const struct sched *s, const struct task *t, size_t n_deps,
             struct buf *out)
{
    if (t->state == TASK_DELAYED)
        buf_add_fmt(out, "it failed, and is tried again in %.3f s",
                    seconds(t->extra->retry_at - s->now));
    else
        buf_add_fmt(out, "it waits for %zu task%s to finish", n_deps,
                    n_deps == 1 ? "" : "s");
}

static void
tell_queued(const struct sched *s, const struct task *t, size_t behind,
            struct buf *out)
{
    size_t n = task_candidates(s, t);

    if (!s->n_live)
        buf_add_str(out, "no engine is registered");
    else if (!n)
        buf_add_fmt(out, "none of the %zu registered engines may run it",
                    s->n_live);
    else
        buf_add_fmt(out,
                    "it waits for an engine: %zu of %zu may run it, and have "
                    "no room",
                    n, s->n_live);
    if (behind)
        buf_add_fmt(out, "; %s%zu task%s before it in the queue",
                    behind == COUNTED_MAX ? "more than " : "", behind,
                    behind == 1 ? " is" : "s are");
}

static void
tell_running(const struct sched *s, const struct task *t, size_t behind,
             struct buf *out)
{
    const struct engine *e = t->engine;

    buf_add_fmt(out, "it was sent to engine %d %.3f s ago", e->peer.id,
                seconds(s->now - t->since));
    if (!e->live)
        buf_add_str(out, ", which is lost; it is given up at the end of the "
                         "grace time");
    else if (t->cancelled)
        buf_add_str(out,
                    " and cancelled since, but the engine has not replied");
    else if (t->asked)
        buf_add_str(out, ", which is asked to give it back unstarted");
    else if (behind)
        buf_add_fmt(out, ", where %zu other%s before it", behind,
                    behind == 1 ? " is" : "s are");
}

static void
tell_live(const struct sched *s, const struct task *t, size_t n_deps,
          size_t behind, struct buf *out)
{
    switch (t->state) {
    case TASK_READY:
        tell_queued(s, t, behind, out);
        break;
    case TASK_RUNNING:
        tell_running(s, t, behind, out);
        break;
    default:
        tell_waiting(s, t, n_deps, out);
        break;
    }
    if (task_waits(t) && t->timeout_ms)
        buf_add_fmt(out, "; its timeout is in %.3f s",
                    seconds(t->since + t->timeout_ms - s->now));
    if (t->tries)
        buf_add_fmt(out,
                    "; it was tried %u time%s before, and %" PRId32
                    " retries are left",
                    t->tries, t->tries == 1 ? "" : "s", t->retries);
}

static void
tell_past(const struct sched *s, const struct done_entry *past, struct buf *out)
{
    buf_add_str(out, past->ok ? "it succeeded" : "it failed or was aborted");
    if (past->engine)
        buf_add_fmt(out, " on engine %d%s", s->by_serial[past->engine].id,
                    engine_live(s, past->engine) ? "" : ", which is gone");
}

/* ---- the whole --------------------------------------------------------- */

static const char *
state_of(const struct task *t, const struct done_entry *past)
{
    if (!t)
        return past ? "finished" : "unknown";
    if (t->state == TASK_RUNNING)
        return "running";
    return t->state == TASK_READY ? "queued" : "waiting";
}

static void
add_engine(const struct sched *s, const struct task *t,
           const struct done_entry *past, struct buf *json)
{
    buf_add_str(json, ", \"engine\": ");
    if (t && t->state == TASK_RUNNING)
        buf_add_fmt(json, "%d", t->engine->peer.id);
    else if (past && past->engine)
        buf_add_fmt(json, "%d", s->by_serial[past->engine].id);
    else
        buf_add_str(json, "null");
}

int
sched_explain(struct sched *s, struct span msg_id, int64_t now,
              struct buf *json)
{
    const struct done_entry *past = NULL;
    const struct task *t;
    struct text out = {.json = json};
    size_t n_deps, behind;
    uint64_t h[2];

    s->now = now;
    id_hash(s->hash_key, msg_id, h);
    t = (const struct task *)(const void *)ids_get(&s->live, h);
    if (!t)
        past = done_get(&s->done, h);
    buf_add_fmt(json, "{\"state\": \"%s\"", state_of(t, past));
    add_engine(s, t, past, json);
    n_deps = add_waiting_for(s, t, &out);
    add_excluded(s, t, &out);
    behind = t ? count_before(s, t) : 0;
    buf_add_fmt(json, ", \"behind\": %zu, \"tries\": %u, \"text\": ", behind,
                t ? t->tries : 0);
    if (t)
        tell_live(s, t, n_deps, behind, &out.buf);
    else if (past)
        tell_past(s, past, &out.buf);
    else
        buf_add_fmt(&out.buf,
                    "no such task was submitted to this scheduler (direct "
                    "calls are not tasks), or more than %zu have finished "
                    "since",
                    s->config.window);
    buf_add_json_str(json, buf_span(&out.buf));
    buf_add_char(json, '}');
    json->failed |= out.buf.failed;
    buf_fini(&out.buf);
    return json->failed ? RH_ENOMEM : 0;
}

void
sched_get_stats(const struct sched *s, struct sched_stats *out)
{
    *out = s->stats;
    out->n_engines = s->n_live;
    for (struct list *i = s->engine_list.next; i != &s->engine_list;
         i = i->next)
        out->n_idle += !LIST_ENTRY(i, struct engine, link)->load;
    out->n_unassigned =
        out->n_waiting_deps + out->n_waiting_room + out->n_delayed;
    out->n_remembered = s->done.n;
    out->n_clients = s->clients.n - s->n_idle_clients;
}

size_t
sched_get_loads(const struct sched *s, struct rh_scheme_engine *out, size_t cap)
{
    size_t n = 0;

    for (struct list *i = s->engine_list.next; i != &s->engine_list && n < cap;
         i = i->next) {
        const struct engine *e = LIST_ENTRY(i, struct engine, link);

        out[n++] = engine_for_scheme(e);
    }
    return s->n_live;
}
