/* explain.c - what the scheduler knows about a task, in JSON; and its counters
 */
#include <inttypes.h>

#include "sched/core.h"

#define LISTED 10 // ids of a dependency that are spelled out

static const char *const state_name[] = {
#define X(name, text) [name] = (text),
    TASK_STATES(X)
#undef X
};

static void
add_key(struct buf *json, const char *key, struct span value)
{
    buf_add_fmt(json, ", \"%s\": ", key);
    buf_add_json_str(json, value);
}

static void
add_engine(struct buf *json, const struct sched_peer *peer)
{
    buf_add_fmt(json, ", \"engine_id\": %d", peer->id);
    add_key(json, "engine", peer->uuid);
}

/* ", key: [unfinished ids]" and how many there are. */
static void
add_unfinished(struct sched *s, struct span ids, const char *key,
               struct buf *json)
{
    struct buf scratch = {0};
    struct span id;
    size_t at = 0, n = 0;
    uint64_t h[2];

    buf_add_fmt(json, ", \"%s\": [", key);
    while (graph_next_id(ids, &at, &scratch, &id) > 0) {
        id_hash(s->hash_key, id, h);
        if (!ids_get(&s->live, h) || n++ >= LISTED)
            continue;
        buf_add_str(json, n > 1 ? ", " : "");
        buf_add_json_str(json, id);
    }
    buf_add_fmt(json, "], \"n_%s\": %zu", key, n);
    buf_fini(&scratch);
}

static void
explain_deps(struct sched *s, const struct task *t, struct buf *json)
{
    struct dep_spec after, follow;

    add_key(json, "why", SPAN_LIT("tasks it depends on have not finished"));
    meta_deps(t, &after, &follow);
    add_unfinished(s, after.ids, "after", json);
    add_unfinished(s, follow.ids, "follow", json);
}

static void
explain_ready(const struct sched *s, const struct task *t, struct buf *json)
{
    size_t n = task_candidates(s, t);

    add_key(json, "why",
            span_str(n ? "the engines that may run it are busy"
                     : t->queued != Q_SET ? "no engine is registered"
                                          : "no registered engine may run it"));
    buf_add_fmt(json, ", \"n_engines\": %zu, \"n_allowed\": %zu", s->n_live, n);
    buf_add_fmt(json, ", \"restricted\": %s",
                t->queued == Q_SET ? "true" : "false");
    buf_add_fmt(json, ", \"n_tried\": %u", t->extra ? t->extra->n_black : 0);
    buf_add_fmt(json, ", \"n_queued\": %zu",
                t->queued == Q_SET ? t->set->n_waiting : s->n_common);
}

static void
explain_running(const struct sched *s, const struct task *t, struct buf *json)
{
    const struct engine *e = t->engine;
    const char *why = "it was sent to an engine, which has not replied";

    if (!e->live)
        why = "its engine is lost; it is given up when the grace time ends";
    else if (t->cancelled)
        why = "it is cancelled, but its engine has not replied";
    else if (t->asked)
        why = "its engine is asked to give it back unstarted";
    else if (e->running.next != &t->q.line.link)
        why = "it waits on an engine behind other tasks";
    add_key(json, "why", span_str(why));
    add_engine(json, &e->peer);
    buf_add_fmt(json, ", \"running_ms\": %" PRId64, s->now - t->since);
}

static void
explain_live(struct sched *s, const struct task *t, struct buf *json)
{
    add_key(json, "state", span_str(state_name[t->state]));
    switch ((enum task_state)t->state) {
    case TASK_DEPS:
        explain_deps(s, t, json);
        break;
    case TASK_READY:
        explain_ready(s, t, json);
        break;
    case TASK_DELAYED:
        add_key(json, "why",
                SPAN_LIT("it failed and waits for its retry "
                         "delay"));
        buf_add_fmt(json, ", \"retry_in_ms\": %" PRId64,
                    t->extra->retry_at - s->now);
        break;
    default:
        explain_running(s, t, json);
        break;
    }
    if (t->state != TASK_RUNNING)
        buf_add_fmt(json, ", \"waiting_ms\": %" PRId64, s->now - t->since);
    if (t->state != TASK_RUNNING && t->timeout_ms)
        buf_add_fmt(json, ", \"timeout_in_ms\": %" PRId64,
                    t->since + t->timeout_ms - s->now);
    buf_add_fmt(json, ", \"priority\": %d, \"retries\": %d, \"deaths\": %u",
                t->flow->priority, (int)t->retries, t->deaths);
}

static void
explain_past(const struct sched *s, const struct done_entry *past,
             struct buf *json)
{
    add_key(json, "state", span_str(state_name[TASK_OVER]));
    add_key(json, "why",
            span_str(past->ok ? "it succeeded" : "it failed or was aborted"));
    buf_add_fmt(json, ", \"ok\": %s", past->ok ? "true" : "false");
    if (past->engine)
        buf_add_fmt(json, ", \"engine_id\": %d, \"engine_alive\": %s",
                    s->by_serial[past->engine].id,
                    engine_live(s, past->engine) ? "true" : "false");
}

int
sched_explain(struct sched *s, struct span msg_id, int64_t now,
              struct buf *json)
{
    const struct done_entry *past = NULL;
    const struct task *t;
    uint64_t h[2];

    id_hash(s->hash_key, msg_id, h);
    t = (const struct task *)(const void *)ids_get(&s->live, h);
    if (!t)
        past = done_get(&s->done, h);
    if (!t && !past)
        return RH_ENOENT;
    s->now = now;
    buf_add_str(json, "{\"msg_id\": ");
    buf_add_json_str(json, msg_id);
    if (t)
        explain_live(s, t, json);
    else
        explain_past(s, past, json);
    buf_add_char(json, '}');
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
sched_get_loads(const struct sched *s, struct sched_load *out, size_t cap)
{
    size_t n = 0;

    for (struct list *i = s->engine_list.next; i != &s->engine_list && n < cap;
         i = i->next) {
        const struct engine *e = LIST_ENTRY(i, struct engine, link);

        out[n++] = (struct sched_load){
            .uuid = e->peer.uuid,
            .id = e->peer.id,
            .load = e->load,
            .last_used = e->last_used,
        };
    }
    return s->n_live;
}
