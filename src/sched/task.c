/* task.c - the life of a task, from its submission to its answer
 *
 * A task is created whole or not at all.  From then on nothing that happens to
 * it needs memory, except a longer blacklist and a new set of engines; if there
 * is none for those, the task is answered with MemoryError.  Once its outcome
 * is decided a task is OVER, and stays in 'answering' until the port has taken
 * the answer: so every task is answered, and none twice.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "sched/core.h"

#define TEXT_MAX 1024 // of an error; longer ones are cut

/* ---- creation ---------------------------------------------------------- */

static struct task *
allocate(struct sched *s, struct msg *m, struct span id, const uint64_t h[2])
{
    struct task *t = pool_take(&s->tasks);

    if (!t)
        return NULL;
    t->node.h[0] = h[0];
    t->node.h[1] = h[1];
    t->msg = msg_ref(m);
    t->id_at = (uint32_t)(id.p - msg_part(m, MSG_HEADER).p);
    t->id_n = (uint16_t)id.n;
    pnode_init(&t->u.timer);
    return t;
}

static void
release(struct sched *s, struct task *t)
{
    if (t->extra) {
        mem_free(t->extra->target);
        mem_free(t->extra->black);
        mem_free(t->extra);
    }
    msg_unref(&t->msg);
    pool_give(&s->tasks, t);
}

int
task_new(struct sched *s, struct msg *m, struct span id, const uint64_t h[2],
         struct task **out, struct wish *wish)
{
    struct task *t = allocate(s, m, id, h);
    int rc, priority;

    if (!t)
        return RH_ENOMEM;
    rc = meta_read(s, t, &priority, wish);
    if (rc >= 0)
        rc = ids_reserve(&s->live);
    if (rc >= 0)
        t->flow = flow_get(s, m->frame[0], priority);
    if (!t->flow) {
        graph_drop(t); // its edges are not linked yet
        release(s, t);
        return RH_ENOMEM;
    }
    // Nothing below can fail.
    flow_ref(s, t->flow);
    t->q.order.key = queue_key(s, t->flow);
    t->since = s->now;
    ids_add(&s->live, &t->node);
    graph_link(t);
    task_counted(s, t->state, 1);
    s->stats.submitted++;
    *out = t;
    return 0;
}

void
task_free(struct sched *s, struct task *t)
{
    if (t->state == TASK_OVER) {
        msg_unref(&t->u.last.reply);
        mem_free(t->u.last.text);
        if (t->engine)
            engine_unref(t->engine);
    }
    graph_drop(t);
    flow_unref(s, t->flow);
    release(s, t);
}

/* ---- states ------------------------------------------------------------ */

void
task_counted(struct sched *s, enum task_state state, int by)
{
    size_t *const count[] = {
        [TASK_DEPS] = &s->stats.n_waiting_deps,
        [TASK_READY] = &s->stats.n_waiting_room,
        [TASK_DELAYED] = &s->stats.n_delayed,
        [TASK_RUNNING] = &s->stats.n_running,
        [TASK_OVER] = &s->stats.n_answering,
    };

    *count[state] += (size_t)by;
}

static void
set_state(struct sched *s, struct task *t, enum task_state state)
{
    task_counted(s, t->state, -1);
    t->state = state & 0xff;
    task_counted(s, t->state, 1);
}

static void
disarm(struct sched *s, struct task *t)
{
    if (pnode_in(&t->u.timer))
        pheap_remove(&s->timers, &t->u.timer);
}

static void
arm_at(struct sched *s, struct task *t, int64_t at)
{
    if (pnode_in(&t->u.timer) && t->u.timer.key == at)
        return;
    disarm(s, t);
    if (at == NEVER)
        return;
    t->u.timer.key = at;
    pheap_push(&s->timers, &t->u.timer);
}

/* When a waiting task must be looked at; one that is READY may have nowhere to
 * go since 'nowhere'.
 */
static void
arm(struct sched *s, struct task *t, int64_t nowhere)
{
    int64_t at = NEVER;

    if (t->timeout_ms)
        at = t->since + t->timeout_ms;
    if (t->state == TASK_DELAYED && t->extra->retry_at < at)
        at = t->extra->retry_at;
    if (t->state == TASK_READY && s->config.nowhere_ms
        && nowhere + s->config.nowhere_ms < at)
        at = nowhere + s->config.nowhere_ms;
    arm_at(s, t, at);
}

void
task_arm(struct sched *s, struct task *t)
{
    arm(s, t, s->now);
}

/* ---- placing ----------------------------------------------------------- */

static uint32_t
count_live(const struct sched *s, const uint32_t *v, uint32_t n)
{
    uint32_t live = 0;

    for (uint32_t i = 0; i < n; i++)
        live += engine_live(s, v[i]);
    return live;
}

/* No engine is left that may run it. */
static void
no_engine(struct sched *s, struct task *t)
{
    const struct extra *x = t->extra;
    struct span id = task_id(t);
    char text[300];

    if (t->deps && t->deps->follow.used && !t->deps->follow.all
        && t->deps->follow.n_left) {
        set_state(s, t, TASK_DEPS); // one of the others may end elsewhere
        task_arm(s, t);
        return;
    }
    if (x && x->target)
        snprintf(text, sizeof(text),
                 "of its %u known target engines %u are alive, and none of "
                 "these may run it (it was tried on %u engines%s); give other "
                 "targets",
                 x->n_target, count_live(s, x->target, x->n_target), x->n_black,
                 t->deps && t->deps->follow.used ? ", and it must follow others"
                                                 : "");
    else
        snprintf(text, sizeof(text),
                 "the engines it must follow others to are gone or have been "
                 "tried (%u)",
                 x ? x->n_black : 0);
    task_fail(s, t, "ImpossibleDependency", "task %.*s cannot run: %s%s",
              (int)id.n, (const char *)id.p, text, s->tried);
    s->stats.impossible++;
}

static void
no_memory(struct sched *s, struct task *t, const struct limits *limits)
{
    struct engine *e = limits ? place_pick(s, limits) : NULL;

    if (e && task_dispatch(s, t, e) >= 0)
        return; // it need not wait
    task_fail(s, t, "MemoryError",
              "the scheduler has no memory to queue the task; submit it again "
              "when fewer are waiting (now %zu)",
              s->live.n);
}

void
task_route(struct sched *s, struct task *t)
{
    struct limits limits;

    if (!graph_ready(t)) {
        set_state(s, t, TASK_DEPS);
        task_arm(s, t);
        return;
    }
    if (set_limits(s, t, &limits) < 0) {
        no_memory(s, t, NULL);
        return;
    }
    if (!limits.any && !limits.exclude && !limits.n) {
        no_engine(s, t);
        return;
    }
    set_state(s, t, TASK_READY);
    if (limits.any) {
        queue_push(s, t);
        task_arm(s, t);
        return;
    }
    if (set_push(s, t, &limits) < 0)
        no_memory(s, t, &limits);
    else
        task_arm(s, t);
}

void
task_requeue(struct sched *s, struct task *t)
{
    t->since = s->now;
    if (t->extra && t->extra->retry_at > s->now) {
        set_state(s, t, TASK_DELAYED);
        task_arm(s, t);
    } else {
        task_route(s, t);
    }
}

void
task_give_back(struct sched *s, struct task *t)
{
    s->stats.given_back++;
    if (t->cancelled) {
        task_abort(s, t);
        return;
    }
    task_off_engine(s, t);
    task_requeue(s, t);
}

int
task_dispatch(struct sched *s, struct task *t, struct engine *e)
{
    int rc = s->port.dispatch(s->port.ctx, &e->peer, t->msg);

    if (rc < 0) {
        engine_block(s, e);
        return rc;
    }
    queue_remove(s, t);
    queue_look_ahead(t->flow);
    disarm(s, t);
    queue_passed(s, t);
    set_state(s, t, TASK_RUNNING);
    t->engine = e;
    t->since = s->now;
    t->ahead = s->config.hwm && e->load >= s->config.hwm;
    t->passed = t->unbegun = 0;
    s->stats.prefetched += t->ahead;
    s->stats.dispatched++;
    list_append(&e->running, &t->q.line.link);
    engine_took(s, e);
    if (s->port.tracked && s->scheme != SCHEME_PURE)
        s->port.tracked(s->port.ctx, task_id(t), &e->peer);
    return 0;
}

void
task_off_engine(struct sched *s, struct task *t)
{
    struct engine *e = t->engine;

    list_remove(&t->q.line.link);
    t->engine = NULL;
    t->asked = 0;
    engine_gave(s, e);
}

/* ---- timers ------------------------------------------------------------ */

size_t
task_candidates(const struct sched *s, const struct task *t)
{
    const struct set *set = t->set;

    if (t->queued != Q_SET)
        return s->n_live;
    return set->exclude ? s->n_live - count_live(s, set->serial, set->n)
                        : set->n_live;
}

static void
time_out(struct sched *s, struct task *t)
{
    struct span id = task_id(t);

    s->stats.timeouts++;
    task_fail(s, t, "TaskTimeout",
              "task %.*s waited %.3f s for %s without being started; its "
              "timeout is %.3f s%s",
              (int)id.n, (const char *)id.p, (double)(s->now - t->since) / 1000,
              t->state == TASK_DEPS      ? "the tasks it depends on"
              : t->state == TASK_DELAYED ? "its retry delay"
                                         : "an engine",
              (double)t->timeout_ms / 1000,
              t->extra && t->extra->n_black ? " (it was tried before)" : "");
}

static void
nowhere_to_run(struct sched *s, struct task *t)
{
    struct span id = task_id(t);

    s->stats.timeouts++;
    task_fail(s, t, "TaskTimeout",
              "task %.*s could run nowhere for %.3f s: %zu engines are "
              "registered, and it was tried on %u of them; start an engine, or "
              "raise the limit (TaskScheduler.nowhere_timeout) to wait longer",
              (int)id.n, (const char *)id.p,
              (double)s->config.nowhere_ms / 1000, s->n_live,
              t->extra ? t->extra->n_black : 0);
}

void
task_due(struct sched *s, struct task *t)
{
    if (t->timeout_ms && t->since + t->timeout_ms <= s->now)
        time_out(s, t);
    else if (t->state == TASK_DELAYED && t->extra->retry_at <= s->now)
        task_route(s, t);
    else if (t->state != TASK_READY || task_candidates(s, t))
        task_arm(s, t);
    else if (s->engines_changed + s->config.nowhere_ms <= s->now)
        nowhere_to_run(s, t);
    else
        arm(s, t, s->engines_changed);
}

/* ---- the end ----------------------------------------------------------- */

/* Take the task from wherever it is, remember its outcome and let those that
 * depend on it know, later, by event_done.
 */
static void
over(struct sched *s, struct task *t, bool ok, uint32_t serial)
{
    if (t->state == TASK_RUNNING && t->engine)
        task_off_engine(s, t);
    queue_remove(s, t);
    disarm(s, t);
    graph_drop(t);
    ids_del(&s->live, &t->node);
    done_add(&s->done, t->node.h, ok, serial);
    set_state(s, t, TASK_OVER);
    memset(&t->u, 0, sizeof(t->u));
    t->u.last.serial = serial;
    t->u.last.ok = ok;
    t->status = SCHED_ERROR;
    list_append(&s->finishing, &t->q.line.link);
    if (ok)
        s->stats.completed++;
    else
        s->stats.failed++;
}

void
task_end(struct sched *s, struct task *t, bool ok, struct msg *reply)
{
    over(s, t, ok, t->engine->serial);
    t->u.last.reply = msg_ref(reply);
}

__attribute__((format(printf, 3, 0))) static void
set_text(struct task *t, const char *ename, const char *fmt, va_list args)
{
    char text[TEXT_MAX];

    t->u.last.ename = ename;
    vsnprintf(text, sizeof(text), fmt, args);
    t->u.last.text = mem_strdup(text);
}

void
task_fail(struct sched *s, struct task *t, const char *ename, const char *fmt,
          ...)
{
    va_list args;

    over(s, t, false, 0);
    va_start(args, fmt);
    set_text(t, ename, fmt, args);
    va_end(args);
}

void
task_died(struct sched *s, struct task *t, const char *fmt, ...)
{
    struct engine *e = t->engine;
    va_list args;

    over(s, t, false, e->serial);
    t->engine = e;
    e->refs++;
    va_start(args, fmt);
    set_text(t, "EngineError", fmt, args);
    va_end(args);
}

void
task_abort(struct sched *s, struct task *t)
{
    over(s, t, false, 0);
    t->status = SCHED_ABORTED;
    s->stats.failed--;
    s->stats.aborted++;
}

/* ---- answers ----------------------------------------------------------- */

static int
answer(struct sched *s, struct task *t)
{
    struct sched_answer a = {
        .client = t->msg->frame[0],
        .request = t->msg,
        .msg_id = task_id(t),
        .status = (enum sched_status)t->status,
        .ename = t->u.last.ename ? t->u.last.ename : "",
        .evalue = t->u.last.text ? t->u.last.text : "",
        .engine = t->engine ? &t->engine->peer : NULL,
    };
    struct msg *reply = t->u.last.reply;

    if (reply)
        return s->port.relay(s->port.ctx, a.client, reply->frame[0], reply,
                             t->msg);
    if (a.ename[0] && !t->u.last.text)
        a.evalue = "(the scheduler had no memory to say more)";
    return s->port.answer(s->port.ctx, &a);
}

void
task_answer_all(struct sched *s)
{
    while (!list_empty(&s->answering)) {
        struct list *first = s->answering.next;
        struct task *t = LIST_ENTRY(first, struct task, q.line.link);

        list_remove(first);
        if (answer(s, t) < 0) {
            // Another one goes first next time, should it be this one's fault.
            list_append(&s->answering, first);
            s->answer_at = s->now + RETRY_MS;
            return;
        }
        task_counted(s, TASK_OVER, -1);
        task_free(s, t);
    }
    s->answer_at = NEVER;
}
