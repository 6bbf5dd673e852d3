/* prefetch.c - short tasks are sent to an engine before it asks
 *
 * With hwm=1 an engine is idle from its reply until the next task arrives: for
 * a task of 10 us that is ten times its work.  An engine that can give tasks
 * back (SCHED_PREFETCH) may therefore hold up to prefetch_max tasks beyond hwm,
 * as long as the wait behind them is expected to stay below prefetch_us.
 *
 *   1. Only a task that no engine with room could take is sent ahead, and only
 *      if it may run on any engine, or on this one alone.
 *   2. The expected wait is the engine's load times its pace: the mean time
 *      between its replies while it is busy; a new engine begins with the
 *      mean of all.  After the very first reply half a millisecond is added.
 *   3. Tasks sent ahead come back (port withdraw, sched_on_withdrawn) when the
 *      engine has been silent for overdue_ms; when it turns out slower than
 *      expected by a factor of two; and half of them when another engine has
 *      gone idle, nothing waits, and it pays.
 *   4. A task is queued again only when the engine says that it did not and
 *      will not start it.  Until then it is on that engine: its reply counts,
 *      and it dies with it.
 *   5. One request at a time per engine, and none is sent ahead meanwhile.
 */
#include "sched/core.h"

bool
prefetch_allows(const struct sched *s, const struct engine *e)
{
    uint32_t hwm = s->config.hwm;
    int64_t us = e->pace_us;

    return e->live && !e->blocked && !e->asked && us >= 0
           && (e->peer.capabilities & SCHED_PREFETCH) && s->port.withdraw && hwm
           && e->load >= hwm && e->load - hwm < s->config.prefetch_max
           && us * (int64_t)e->load <= s->config.prefetch_us;
}

static bool
stuffed(const struct sched *s, const struct engine *e)
{
    return e->live && s->config.hwm && e->load > s->config.hwm;
}

static void
overdue_at(struct sched *s, struct engine *e, int64_t at)
{
    e->overdue.key = at;
    pheap_push(&s->overdue, &e->overdue);
}

void
prefetch_update(struct sched *s, struct engine *e)
{
    bool is = stuffed(s, e);

    place_spare(s, e, prefetch_allows(s, e));
    if (is && list_empty(&e->stuffed))
        list_append(&s->stuffed, &e->stuffed);
    else if (!is)
        list_remove(&e->stuffed);
    if (is && !e->asked && !pnode_in(&e->overdue))
        overdue_at(s, e, s->now + s->config.overdue_ms);
}

void
prefetch_lost(struct sched *s, struct engine *e)
{
    place_spare(s, e, false);
    list_remove(&e->stuffed);
    if (pnode_in(&e->overdue))
        pheap_remove(&s->overdue, &e->overdue);
}

/* ---- pace -------------------------------------------------------------- */

/* 'now' has only milliseconds, so the mean is over at least 16 replies; but a
 * long task counts at once.
 */
void
prefetch_timed(struct sched *s, struct engine *e, int64_t sent)
{
    int64_t from = e->last_reply > sent ? e->last_reply : sent;
    int64_t took = s->now - from, us;

    e->last_reply = s->now;
    e->busy_ms += took;
    e->n_timed++;
    if (e->pace_us < 0)
        e->pace_us = took * 1000 + 500;
    else if (took * 1000 >= 2000 && took * 1000 > e->pace_us)
        e->pace_us += (took * 1000 - e->pace_us) / 2;
    if (e->n_timed >= 16) {
        us = e->busy_ms * 1000 / e->n_timed;
        e->pace_us = (e->pace_us + us) / 2;
        e->busy_ms = 0;
        e->n_timed = 0;
    }
    s->pace_us = s->pace_us < 0 ? e->pace_us
                                : s->pace_us + (e->pace_us - s->pace_us) / 8;
    if (stuffed(s, e) && !e->asked) {
        uint32_t ahead = e->load - s->config.hwm;

        if (e->pace_us * ahead > 2 * s->config.prefetch_us)
            prefetch_ask(s, e,
                         s->config.hwm
                             + (uint32_t)(s->config.prefetch_us / e->pace_us),
                         NULL);
    }
    prefetch_update(s, e);
}

/* ---- sending ahead ----------------------------------------------------- */

/* The first task that may be sent ahead to 'e'. */
static struct task *
best_for(const struct sched *s, const struct engine *e)
{
    struct task *best = s->place.n ? NULL : queue_first(s);

    if (!s->n_in_sets)
        return best;
    for (struct list *i = e->sets.next; i != &e->sets; i = i->next) {
        const struct set *set = LIST_ENTRY(i, struct member, link)->set;
        struct task *t = set->n_live == 1 ? set_first(set) : NULL;

        if (t && (!best || t->q.order.key < best->q.order.key))
            best = t;
    }
    return best;
}

void
prefetch_feed(struct sched *s, struct engine *e)
{
    struct task *t;

    while (prefetch_allows(s, e) && (t = best_for(s, e)))
        task_dispatch(s, t, e);
}

void
prefetch_common(struct sched *s)
{
    struct engine *e;

    while (s->n_common && !s->place.n && (e = place_pick_spare(s)))
        task_dispatch(s, queue_first(s), e);
}

/* ---- taking back ------------------------------------------------------- */

/* Ask for what was sent ahead beyond the first 'keep', latest first, or for
 * one task only.
 */
int
prefetch_ask(struct sched *s, struct engine *e, uint32_t keep,
             const struct task *only)
{
    struct span id[ASK_MAX];
    struct task *asked[ASK_MAX];
    struct list *i = e->running.prev;
    size_t n = 0;
    int rc;

    for (uint32_t left = e->load; left > keep && n < ASK_MAX; left--) {
        struct task *t = LIST_ENTRY(i, struct task, q.line.link);

        i = i->prev;
        if (only && t != only)
            continue;
        asked[n] = t;
        id[n++] = task_id(t);
    }
    if (!n)
        return 0;
    rc = s->port.withdraw(s->port.ctx, &e->peer, id, n);
    if (rc < 0)
        return rc;
    for (size_t k = 0; k < n; k++)
        asked[k]->asked = 1;
    s->stats.withdrawn += n;
    e->asked = true;
    if (pnode_in(&e->overdue))
        pheap_remove(&s->overdue, &e->overdue);
    prefetch_update(s, e);
    return 0;
}

/* Its 'overdue' has come. */
void
prefetch_due(struct sched *s, struct engine *e)
{
    const struct task *t;
    int64_t quiet;

    pheap_remove(&s->overdue, &e->overdue);
    if (!stuffed(s, e) || e->asked)
        return;
    t = LIST_ENTRY(e->running.next, struct task, q.line.link);
    quiet = e->last_reply > t->since ? e->last_reply : t->since;
    if (s->now - quiet < s->config.overdue_ms) {
        overdue_at(s, e, quiet + s->config.overdue_ms);
        return;
    }
    // What it does now takes long: expect as much of the next.
    if (e->pace_us < (s->now - quiet) * 1000)
        e->pace_us = (s->now - quiet) * 1000;
    if (prefetch_ask(s, e, s->config.hwm, NULL) < 0)
        overdue_at(s, e, s->now + RETRY_MS);
    prefetch_update(s, e);
}

void
prefetch_balance(struct sched *s)
{
    struct engine *e;
    uint32_t ahead;

    if (!s->gone_idle || s->n_common || !s->place.n || list_empty(&s->stuffed))
        return;
    e = LIST_ENTRY(s->stuffed.next, struct engine, stuffed);
    list_remove(&e->stuffed);
    list_append(&s->stuffed, &e->stuffed); // another one next time
    ahead = e->load - s->config.hwm;
    if (!e->asked && e->pace_us * ahead >= s->config.prefetch_us / 2)
        prefetch_ask(s, e, s->config.hwm + ahead / 2, NULL);
}

/* One task named by the engine: it must be one we asked for. */
static void
take_back(struct sched *s, struct engine *e, struct span id)
{
    struct task *t;
    uint64_t h[2];

    id_hash(s->hash_key, id, h);
    t = (struct task *)(void *)ids_get(&s->live, h);
    if (!t || t->state != TASK_RUNNING || t->engine != e || !t->asked)
        return;
    task_give_back(s, t);
}

int
sched_on_withdrawn(struct sched *s, struct span uuid, const struct span *msg_id,
                   size_t n, int64_t now, rh_error *err)
{
    struct engine *e = engine_find(s, uuid);

    if (!e)
        return rh_fail(err, RH_ENOENT,
                       "engine %.*s gave back %zu tasks, but "
                       "is not known",
                       (int)uuid.n, (const char *)uuid.p, n);
    if (!e->asked)
        return rh_fail(err, RH_ESTATE,
                       "engine %d gave back %zu tasks, but was "
                       "not asked to",
                       e->peer.id, n);
    s->now = now;
    for (size_t i = 0; i < n; i++)
        take_back(s, e, msg_id[i]);
    for (struct list *i = e->running.next; i != &e->running; i = i->next)
        LIST_ENTRY(i, struct task, q.line.link)->asked = 0;
    e->asked = false;
    prefetch_update(s, e);
    event_done(s);
    return 0;
}
