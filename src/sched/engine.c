/* engine.c - engines come, work and go
 *
 * An engine is live, or lost and in its grace time, or gone.  Its serial is
 * its name in restrictions and in the memory of finished tasks: serials are
 * never used again, so what refers to a gone engine is never wrong.
 */
#include <stdio.h>

#include "base/mem.h"
#include "sched/core.h"

struct engine *
engine_find(const struct sched *s, struct span uuid)
{
    return map_get(&s->engines, uuid);
}

void
engine_unref(struct engine *e)
{
    if (--e->refs)
        return;
    mem_free(e->reason);
    mem_free(e);
}

static void
timer_off(struct sched *s, struct engine *e)
{
    if (pnode_in(&e->timer))
        pheap_remove(&s->engine_timers, &e->timer);
}

static void
timer_at(struct sched *s, struct engine *e, int64_t at)
{
    timer_off(s, e);
    e->timer.key = at;
    pheap_push(&s->engine_timers, &e->timer);
}

static void
make_hungry(struct sched *s, struct engine *e)
{
    if (e->live && list_empty(&e->hungry))
        list_append(&s->hungry, &e->hungry);
}

void
engine_took(struct sched *s, struct engine *e)
{
    e->load++;
    place_update(s, e, true);
    prefetch_update(s, e);
}

void
engine_gave(struct sched *s, struct engine *e)
{
    e->load--;
    place_update(s, e, false);
    prefetch_update(s, e);
    make_hungry(s, e);
    if (e->live && !e->load)
        s->gone_idle = true;
}

void
engine_block(struct sched *s, struct engine *e)
{
    e->blocked = true;
    place_update(s, e, false);
    prefetch_update(s, e);
    timer_at(s, e, s->now + RETRY_MS);
}

/* ---- loss -------------------------------------------------------------- */

/* May it be tried on another engine?  Not on 'heir', a new engine with the dead
 * one's name: it may be the same process, and take it for a replay.
 */
static bool
second_chance(struct sched *s, struct task *t, const struct engine *heir,
              bool poison)
{
    return t->retries > 0 && !t->cancelled && !poison
           && s->scheme != SCHEME_PURE
           && meta_retry_on(t, SPAN_LIT("EngineError"), true)
           && (!heir || task_blacklist(t, heir->serial) >= 0);
}

/* "; not retried: ..." in 'out' if the task has killed too many engines. */
static bool
is_poison(const struct sched *s, const struct task *t, char *out, size_t cap)
{
    const struct extra *x = t->extra;
    uint32_t max = x && x->max_deaths >= 0 ? (uint32_t)x->max_deaths
                                           : s->config.max_deaths;
    int n;

    out[0] = '\0';
    if (!max || t->deaths < max)
        return false;
    if (t->retries <= 0)
        return true;
    n = snprintf(out, cap,
                 "; not retried: %u engines died running it, no more "
                 "than %u may (max_deaths):",
                 t->deaths, max);
    for (uint32_t i = 0; x && i < x->n_killed && n < (int)cap; i++)
        n += snprintf(out + n, cap - (size_t)n, "%s %d", i ? "," : "",
                      s->by_serial[x->killed[i]].id);
    return true;
}

static bool
has_live_target(const struct sched *s, const struct task *t)
{
    const struct extra *x = t->extra;

    if (!x || !x->target)
        return true;
    for (uint32_t i = 0; i < x->n_target; i++)
        if (engine_live(s, x->target[i]))
            return true;
    return false;
}

/* A task whose engine died.  Only the oldest one can be what killed it. */
static void
stranded(struct sched *s, struct task *t, const struct engine *heir)
{
    struct engine *e = t->engine;
    struct span id = task_id(t), uuid = e->peer.uuid;
    char stopped[200];
    bool poison;

    // With nowhere to go it fails as the others do: its engine is dead.
    if (t->unbegun && has_live_target(s, t)) {
        task_give_back(s, t);
        return;
    }
    if (e->running.next == &t->q.line.link)
        task_blame(t, e->serial);
    poison = is_poison(s, t, stopped, sizeof(stopped));
    if (second_chance(s, t, heir, poison)) {
        t->retries--;
        s->stats.retried++;
        task_off_engine(s, t);
        task_tried(t);
        if (t->extra && t->extra->retry_delay_ms)
            t->extra->retry_at = s->now + t->extra->retry_delay_ms;
        task_requeue(s, t);
        return;
    }
    task_died(s, t, "Engine b'%.*s' died while running task '%.*s'%s%s%s",
              (int)uuid.n, (const char *)uuid.p, (int)id.n, (const char *)id.p,
              e->reason ? ": " : "", e->reason ? e->reason : "", stopped);
}

/* The grace time is over. */
static void
expire(struct sched *s, struct engine *e, const struct engine *heir)
{
    e->refs++;
    while (!list_empty(&e->running))
        stranded(s, LIST_ENTRY(e->running.prev, struct task, q.line.link),
                 heir);
    if (!heir)
        map_del(&s->engines, e->peer.uuid);
    s->by_serial[e->serial].engine = NULL;
    timer_off(s, e);
    engine_unref(e); // the table's
    engine_unref(e);
}

static void
go_away(struct sched *s, struct engine *e)
{
    e->live = false;
    place_update(s, e, false);
    prefetch_lost(s, e);
    place_release(s);
    list_remove(&e->link);
    list_remove(&e->hungry);
    s->n_live--;
    s->engines_changed = s->now;
    set_engine_lost(s, e);
}

/* All that an engine has begun and not answered lies behind its last answer, so
 * with no more than BEGUN_SLOTS tasks there none of these can be missing in
 * what it noted.
 */
void
sched_on_engine_begun(struct sched *s, struct span uuid,
                      const struct begun *begun)
{
    struct engine *e = engine_find(s, uuid);

    if (!e || e->load > BEGUN_SLOTS)
        return;
    for (struct list *i = e->running.next; i != &e->running; i = i->next) {
        struct task *t = LIST_ENTRY(i, struct task, q.line.link);

        t->unbegun = !t->passed && !begun_has(begun, task_id(t));
    }
}

int
sched_on_engine_lost(struct sched *s, struct span uuid, struct span reason,
                     int64_t now, int64_t grace_ms)
{
    struct engine *e = engine_find(s, uuid);

    if (!e || !e->live)
        return RH_ENOENT;
    s->now = now;
    s->stats.deaths++;
    mem_free(e->reason);
    // Without memory the error says less, that is all.
    e->reason = reason.n ? mem_strndup((const char *)reason.p, reason.n) : NULL;
    go_away(s, e);
    if (grace_ms > 0 && e->load)
        timer_at(s, e, now + grace_ms);
    else
        expire(s, e, NULL);
    event_done(s);
    return 0;
}

/* ---- arrival ----------------------------------------------------------- */

static struct engine *
engine_new(struct span uuid, int id)
{
    struct engine *e = mem_zalloc(1, sizeof(*e) + uuid.n);

    if (!e)
        return NULL;
    memcpy(e->uuid, uuid.p, uuid.n);
    e->peer = (struct sched_peer){.uuid = {e->uuid, uuid.n}, .id = id};
    e->refs = 1;
    list_init(&e->hungry);
    list_init(&e->stuffed);
    list_init(&e->running);
    list_init(&e->sets);
    pnode_init(&e->timer);
    pnode_init(&e->overdue);
    return e;
}

/* Under its name and with a serial, or RH_ENOMEM and neither. */
static int
enter(struct sched *s, struct engine *e)
{
    if (grow((void **)&s->by_serial, &s->cap_serials, s->n_serials + 1,
             sizeof(*s->by_serial))
            < 0
        || map_put(&s->engines, e->peer.uuid, e) < 0)
        return RH_ENOMEM;
    e->serial = (uint32_t)s->n_serials++;
    s->by_serial[e->serial] = (struct serial_slot){e, e->peer.id};
    return 0;
}

/* Room for it is reserved. */
static void
go_live(struct sched *s, struct engine *e, uint32_t capabilities)
{
    timer_off(s, e);
    e->live = true;
    e->blocked = false;
    e->peer.capabilities = capabilities;
    e->pace_us = s->pace_us;
    list_append(&s->engine_list, &e->link);
    s->n_live++;
    s->engines_changed = s->now;
    place_new(s, e);
    prefetch_update(s, e);
    make_hungry(s, e);
}

int
sched_on_engine(struct sched *s, struct span uuid, int id,
                uint32_t capabilities, int64_t now, rh_error *err)
{
    struct engine *e, *old;

    if (!uuid.n || uuid.n > SCHED_UUID_MAX)
        return rh_fail(err, RH_ELIMIT,
                       "engine %d: its name has %zu bytes, not 1 to %d", id,
                       uuid.n, SCHED_UUID_MAX);
    s->now = now;
    old = engine_find(s, uuid);
    if (old && old->live)
        return rh_fail(err, RH_EEXIST,
                       "engine %.*s is registered already, as %d", (int)uuid.n,
                       (const char *)uuid.p, old->peer.id);
    e = engine_new(uuid, id);
    if (!e || place_reserve(s) < 0) {
        mem_free(e);
        return rh_fail(err, RH_ENOMEM, "registering engine %d", id);
    }
    if (enter(s, e) < 0) {
        place_release(s);
        mem_free(e);
        return rh_fail(err, RH_ENOMEM, "registering engine %d", id);
    }
    go_live(s, e, capabilities);
    if (old) // 'e' has its name now
        expire(s, old, e);
    event_done(s);
    return 0;
}

/* ---- timers ------------------------------------------------------------ */

/* Its timer has come. */
void
engine_due(struct sched *s, struct engine *e)
{
    timer_off(s, e);
    if (!e->live) {
        expire(s, e, NULL);
        return;
    }
    e->blocked = false;
    place_update(s, e, false);
    prefetch_update(s, e);
    make_hungry(s, e);
}

void
engines_fini(struct sched *s)
{
    struct engine *e;
    size_t i = 0;

    while ((e = map_next(&s->engines, &i)))
        engine_unref(e);
    map_fini(&s->engines);
    mem_free(s->by_serial);
}
