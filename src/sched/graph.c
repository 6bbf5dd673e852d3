/* graph.c - tasks that wait for other tasks
 *
 * A task that depends on unfinished ones hangs an edge on each of them, and
 * counts.  When one of those finishes, its edges are taken off one by one; so a
 * waiting task is touched once per task it waits for, and never searched for.
 *
 * 'after' is met when n_left is 0.  'follow' also collects in 'ran' the
 * engines where its tasks ended as wanted: with all=true there may be only one,
 * with all=false any of them will do.
 */
#include <stdio.h>

#include "base/mem.h"
#include "sched/core.h"
#include "wire/scan.h"

/* ---- one dependency, one finished task --------------------------------- */

bool
serials_have(const uint32_t *v, size_t n, uint32_t serial)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (v[mid] == serial)
            return true;
        if (v[mid] < serial)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

static bool
any_live(const struct sched *s, const struct deps *self)
{
    for (uint32_t i = 0; i < self->n_ran; i++)
        if (engine_live(s, self->ran[i]))
            return true;
    return false;
}

/* Why a dependency cannot be met any more. */
enum verdict {
    POSSIBLE,
    UNWANTED,  // one finished in the wrong way, and all are needed
    ALL_WRONG, // all have finished in the wrong way
    NOWHERE,   // follow: it ended without having run
    APART,     // follow: they ran on more than one engine
    GONE       // follow: the engines where they ran are gone
};

static enum verdict
take_after(struct dep *d, bool wanted)
{
    if (d->all && !wanted)
        return UNWANTED;
    d->n_left--;
    if (!d->all && wanted)
        d->n_left = 0;
    else if (!d->all && !d->n_left)
        return ALL_WRONG;
    return POSSIBLE;
}

static enum verdict
take_follow(struct sched *s, struct deps *self, bool wanted, uint32_t serial)
{
    struct dep *d = &self->follow;

    if (wanted && serial)
        // Room is there: one per follow id, or two with all=true.
        serials_add(self->ran, &self->n_ran, serial);
    d->n_left--;
    if (!d->all) {
        if (d->n_left || any_live(s, self))
            return POSSIBLE;
        return self->n_ran ? GONE : ALL_WRONG;
    }
    if (!wanted)
        return UNWANTED;
    if (!serial)
        return NOWHERE;
    if (self->n_ran > 1)
        return APART;
    return engine_live(s, serial) ? POSSIBLE : GONE;
}

static enum verdict
take(struct sched *s, struct deps *self, bool follow, bool ok, uint32_t serial)
{
    struct dep *d = follow ? &self->follow : &self->after;
    bool wanted = ok ? d->success : d->failure;

    return follow ? take_follow(s, self, wanted, serial)
                  : take_after(d, wanted);
}

/* One sentence about the last task taken into account. */
static const char *
explain(const struct sched *s, const struct deps *self, enum verdict v,
        struct span id, bool ok, uint32_t serial, char *text, size_t cap)
{
    int n = (int)(id.n < 128 ? id.n : 128), engine;
    const char *p = (const char *)id.p;

    switch (v) {
    case UNWANTED:
        snprintf(text, cap, "it needs %.*s to %s, and that %s", n, p,
                 ok ? "fail" : "succeed", ok ? "succeeded" : "failed");
        break;
    case ALL_WRONG:
        snprintf(text, cap,
                 "it needs one of several tasks to end as wanted, and the last "
                 "of them, %.*s, %s",
                 n, p, ok ? "succeeded" : "failed");
        break;
    case NOWHERE:
        snprintf(text, cap,
                 "it must follow %.*s, which ended without having run on any "
                 "engine",
                 n, p);
        break;
    case APART:
        snprintf(text, cap,
                 "it must follow tasks that ran on more than one engine: "
                 "engines %d and %d, the last of them %.*s; use all=False to "
                 "follow any of them",
                 s->by_serial[self->ran[0]].id, s->by_serial[self->ran[1]].id,
                 n, p);
        break;
    default:
        engine = serial < s->n_serials ? s->by_serial[serial].id : -1;
        snprintf(text, cap,
                 "it must follow %.*s, and engine %d, where that ran, is gone",
                 n, p, engine);
        break;
    }
    return text;
}

/* ---- edges ------------------------------------------------------------- */

static void
unlink_edge(struct edge *e)
{
    if (!e->prev)
        return;
    *e->prev = e->next;
    if (e->next)
        e->next->prev = e->prev;
    e->prev = NULL;
    e->next = NULL;
}

static void
unlink_range(struct deps *self, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        unlink_edge(&self->edge[i]);
}

void
graph_link(struct task *t)
{
    struct deps *self = t->deps;

    for (uint32_t i = 0; self && i < self->n_edge; i++) {
        struct edge *e = &self->edge[i];
        struct edge **list = &e->waiter->dependents; // see add_id

        e->waiter = t;
        e->next = *list;
        e->prev = list;
        if (e->next)
            e->next->prev = &e->next;
        *list = e;
    }
}

void
graph_forget(struct task *t)
{
    if (t->deps)
        mem_free(t->deps->ran);
    mem_free(t->deps);
    t->deps = NULL;
}

void
graph_drop(struct task *t)
{
    if (t->deps)
        unlink_range(t->deps, 0, t->deps->n_edge);
    graph_forget(t);
}

bool
graph_ready(const struct task *t)
{
    const struct deps *self = t->deps;

    if (!self)
        return true;
    if (self->after.used && self->after.n_left)
        return false;
    if (!self->follow.used)
        return true;
    return self->follow.all ? !self->follow.n_left : self->n_ran > 0;
}

/* The task that 'e' hung on is over. */
static void
notify(struct sched *s, struct edge *e, const struct task *t, bool ok,
       uint32_t serial)
{
    struct task *w = e->waiter;
    struct deps *self = w->deps;
    bool follow = (size_t)(e - self->edge) >= self->n_after;
    enum verdict v = take(s, self, follow, ok, serial);
    char text[400];

    if (!follow && !self->after.n_left)
        unlink_range(self, 0, self->n_after);
    if (w->state == TASK_RUNNING || w->state == TASK_DELAYED)
        return; // it counts when the task is placed again
    if (v != POSSIBLE) {
        explain(s, self, v, task_id(t), ok, serial, text, sizeof(text));
        task_fail(s, w, "ImpossibleDependency", "task %.*s cannot run: %s",
                  (int)task_id(w).n, (const char *)task_id(w).p, text);
        s->stats.impossible++;
    } else if (graph_ready(w) && (w->state == TASK_DEPS || follow)) {
        queue_remove(s, w); // another engine may be possible now
        task_route(s, w);
    }
}

void
graph_release(struct sched *s, struct task *t, bool ok, uint32_t serial)
{
    struct edge *e;

    while ((e = t->dependents)) {
        unlink_edge(e);
        notify(s, e, t, ok, serial);
    }
}

/* ---- a new task's dependencies ----------------------------------------- */

struct build {
    struct sched *s;
    struct task *t;
    struct deps *deps;
    struct wish *wish;
    struct buf scratch; // ids that needed decoding
};

int
graph_next_id(struct span ids, size_t *at, struct buf *scratch, struct span *id)
{
    struct span raw = ids;
    int rc = 1;

    if (!ids.n)
        return 0;
    if (ids.p[0] != '"')
        rc = scan_next(ids, at, &raw);
    else if ((*at)++)
        rc = 0;
    if (rc <= 0)
        return rc;
    buf_clear(scratch);
    rc = scan_string(raw, scratch, id);
    if (scratch->failed)
        return RH_ENOMEM;
    return rc < 0 ? rc : 1;
}

static int
count_ids(struct build *b, const struct dep_spec *spec, uint32_t *n)
{
    struct span id;
    size_t at = 0;
    int rc;

    *n = 0;
    while ((rc = graph_next_id(spec->ids, &at, &b->scratch, &id)) > 0)
        if (++*n > UINT32_MAX / 4)
            return RH_EPROTO;
    return rc;
}

static void
unknown(struct build *b, struct span id)
{
    struct span own = task_id(b->t);
    int n = (int)(id.n < 128 ? id.n : 128);

    if (span_eq(id, own))
        wish_fail(b->wish, "InvalidDependency", "task %.*s depends on itself",
                  n, (const char *)id.p);
    else
        wish_fail(b->wish, "InvalidDependency",
                  "dependency %.*s is unknown: it was not submitted as a task "
                  "to this scheduler (direct calls are not tasks), or more "
                  "than %zu tasks have finished since it did",
                  n, (const char *)id.p, b->s->config.window);
}

/* Take one id into account: an edge, a finished task, or (false) unknown.
 * 'decided': the others of its list have settled the matter already.
 */
static bool
add_id(struct build *b, bool follow, bool decided, struct span id)
{
    const struct done_entry *past;
    struct id_node *live;
    enum verdict v = POSSIBLE;
    uint64_t h[2];
    char text[300];

    id_hash(b->s->hash_key, id, h);
    live = ids_get(&b->s->live, h);
    past = live ? NULL : done_get(&b->s->done, h);
    if (decided)
        return live || past;
    if (live) {
        // Until graph_link: the task it will hang on.
        b->deps->edge[b->deps->n_edge++].waiter = (void *)live;
    } else if (past) {
        v = take(b->s, b->deps, follow, past->ok, past->engine);
        if (v != POSSIBLE)
            wish_fail(b->wish, "ImpossibleDependency",
                      "task %.*s cannot run: "
                      "%s",
                      (int)task_id(b->t).n, (const char *)task_id(b->t).p,
                      explain(b->s, b->deps, v, id, past->ok, past->engine,
                              text, sizeof(text)));
    }
    return live || past;
}

static int
add_ids(struct build *b, const struct dep_spec *spec, bool follow)
{
    struct dep *d = follow ? &b->deps->follow : &b->deps->after;
    uint32_t first = b->deps->n_edge;
    bool met = false;
    struct span id;
    size_t at = 0;
    int rc;

    if (b->wish->ename)
        return 0;
    while ((rc = graph_next_id(spec->ids, &at, &b->scratch, &id)) > 0) {
        if (!add_id(b, follow, met || b->wish->ename, id)) {
            unknown(b, id);
            return 0;
        }
        met = d->used && !follow && !d->n_left && !b->wish->ename;
    }
    if (met)
        b->deps->n_edge = first;
    return rc;
}

static int
allocate(struct build *b, const struct dep_spec *after,
         const struct dep_spec *follow)
{
    uint32_t n_after, n_follow = 0;
    int rc = count_ids(b, after, &n_after);

    if (rc >= 0)
        rc = count_ids(b, follow, &n_follow);
    if (rc < 0 || n_after + n_follow == 0)
        return rc;
    b->deps = mem_zalloc(1, sizeof(*b->deps)
                                + (n_after + n_follow) * sizeof(struct edge));
    if (!b->deps)
        return RH_ENOMEM;
    if (n_follow) {
        b->deps->ran = mem_zalloc(follow->all ? 2 : n_follow, sizeof(uint32_t));
        if (!b->deps->ran)
            return RH_ENOMEM;
    }
    b->deps->after = (struct dep){n_after, after->all, after->success,
                                  after->failure, n_after > 0};
    b->deps->follow = (struct dep){n_follow, follow->all, follow->success,
                                   follow->failure, n_follow > 0};
    return 0;
}

/* Keep no more than is needed from now on. */
static void
commit(struct build *b)
{
    struct deps *self = b->deps, *less;

    if (!self->n_edge && !self->follow.used) {
        mem_free(self);
        return;
    }
    less =
        mem_resize(self, 1, sizeof(*self) + self->n_edge * sizeof(struct edge));
    b->t->deps = less ? less : self;
}

int
graph_build(struct sched *s, struct task *t, const struct dep_spec *after,
            const struct dep_spec *follow, struct wish *wish)
{
    struct build b = {.s = s, .t = t, .wish = wish};
    int rc = allocate(&b, after, follow);

    if (rc >= 0 && b.deps) {
        rc = add_ids(&b, after, false);
        b.deps->n_after = b.deps->n_edge;
        if (rc >= 0)
            rc = add_ids(&b, follow, true);
    }
    if (rc == RH_EPROTO || rc == RH_ELIMIT)
        rc = wish_fail(wish, "TypeError",
                       "after and follow must be lists of message ids");
    if (b.deps && (rc < 0 || wish->ename)) {
        mem_free(b.deps->ran);
        mem_free(b.deps);
    } else if (b.deps) {
        commit(&b);
    }
    buf_fini(&b.scratch);
    return rc;
}
