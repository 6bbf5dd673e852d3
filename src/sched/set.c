/* set.c - tasks that may run on some engines only
 *
 * Waiting tasks with the same restriction share a set: either the engines that
 * may (targets, follow, less the blacklist) or, for tasks with nothing but a
 * blacklist, those that may not.  A freed engine looks at the first task of
 * each set it is a member of, and at the excluding sets in the order of their
 * first tasks, only as far as these come before what it has found already.  So
 * unrestricted tasks pay nothing for restricted ones.
 *
 * Invariants: a member is in its engine's list iff the engine is live; a set
 * in which nothing waits is in idle_sets, of which few are kept.
 */
#include "base/mem.h"
#include "sched/core.h"

#define MAX_IDLE 32

/* ---- what a task may run on -------------------------------------------- */

static bool
passes(const struct sched *s, const struct task *t, uint32_t serial,
       const struct deps *follow)
{
    const struct extra *x = t->extra;

    return engine_live(s, serial)
           && !(x && serials_have(x->black, x->n_black, serial))
           && !(follow && !serials_have(follow->ran, follow->n_ran, serial));
}

int
set_limits(struct sched *s, const struct task *t, struct limits *out)
{
    const struct extra *x = t->extra;
    const struct deps *follow =
        t->deps && t->deps->follow.used ? t->deps : NULL;
    const uint32_t *from = NULL;
    size_t n = 0;

    *out = (struct limits){.any = true};
    if (x && x->target) {
        from = x->target;
        n = x->n_target;
    } else if (follow) {
        from = follow->ran;
        n = follow->n_ran;
        follow = NULL; // it is the list itself
    } else if (x && x->n_black) {
        from = x->black;
        n = x->n_black;
        out->exclude = true;
    } else {
        return 0;
    }
    if (grow((void **)&s->serials, &s->cap_limits, n, sizeof(*from)) < 0)
        return RH_ENOMEM;
    out->serial = s->serials;
    out->any = false;
    for (size_t i = 0; i < n; i++)
        if (out->exclude ? engine_live(s, from[i])
                         : passes(s, t, from[i], follow))
            out->serial[out->n++] = from[i];
    if (out->exclude && !out->n)
        out->any = true; // all it should keep away from are gone
    return 0;
}

/* ---- sets -------------------------------------------------------------- */

static void
set_free(struct sched *s, struct set *self)
{
    ids_del(&s->sets, &self->node);
    list_remove(&self->idle);
    list_remove(&self->fresh);
    if (self->exclude)
        heap_remove(&s->excluding, &self->top);
    else
        for (uint32_t i = 0; i < self->n; i++)
            list_remove(&self->member[i].link);
    mem_free(self);
}

static void
set_idle(struct sched *s, struct set *self)
{
    list_append(&s->idle_sets, &self->idle);
    if (++s->n_idle_sets <= MAX_IDLE)
        return;
    s->n_idle_sets--;
    set_free(s, LIST_ENTRY(s->idle_sets.next, struct set, idle));
}

static struct set *
set_new(struct sched *s, const struct limits *limits, const uint64_t h[2])
{
    size_t members = limits->exclude ? 0 : limits->n * sizeof(struct member);
    size_t serials = limits->n * sizeof(uint32_t);
    struct set *self = mem_zalloc(1, sizeof(*self) + members + serials);

    if (!self)
        return NULL;
    self->node = (struct id_node){.h = {h[0], h[1]}};
    list_init(&self->idle);
    list_init(&self->fresh);
    self->exclude = limits->exclude;
    self->n = limits->n;
    self->serial = (uint32_t *)(void *)((char *)self->member + members);
    memcpy(self->serial, limits->serial, serials);
    if (ids_reserve(&s->sets) < 0
        || (self->exclude && heap_push(&s->excluding, &self->top, NEVER) < 0)) {
        mem_free(self);
        return NULL;
    }
    for (uint32_t i = 0; !self->exclude && i < self->n; i++) {
        struct engine *e = engine_of(s, self->serial[i]);

        self->member[i] = (struct member){.set = self, .engine = e};
        list_init(&self->member[i].link);
        if (!e)
            continue; // only live ones are listed, so there is one
        list_append(&e->sets, &self->member[i].link);
        self->n_live++;
    }
    ids_add(&s->sets, &self->node);
    set_idle(s, self);
    return self;
}

static struct set *
set_get(struct sched *s, const struct limits *limits)
{
    struct id_node *node;
    uint64_t h[2];

    id_hash(s->hash_key, span_of(limits->serial, limits->n * sizeof(uint32_t)),
            h);
    h[1] ^= limits->exclude;
    node = ids_get(&s->sets, h);
    return node ? (struct set *)(void *)node : set_new(s, limits, h);
}

void
set_limits_of(const struct set *self, struct limits *out)
{
    *out = (struct limits){
        .exclude = self->exclude,
        .serial = self->serial,
        .n = self->n,
    };
}

struct engine *
set_only_engine(const struct set *self)
{
    for (uint32_t i = 0; !self->exclude && self->n_live == 1; i++)
        if (self->member[i].engine)
            return self->member[i].engine;
    return NULL;
}

struct task *
set_first(const struct set *self)
{
    struct pnode *top = pheap_top(&self->waiting);

    return top ? PNODE_ENTRY(top, struct task, q.order) : NULL;
}

/* Cannot fail: the heap has held this node since the set was made. */
static void
top_update(struct sched *s, struct set *self)
{
    struct pnode *top = pheap_top(&self->waiting);

    if (self->exclude)
        (void)heap_push(&s->excluding, &self->top, top ? top->key : NEVER);
}

int
set_push(struct sched *s, struct task *t, const struct limits *limits)
{
    struct set *self = set_get(s, limits);

    if (!self)
        return RH_ENOMEM;
    if (self->n_waiting++ == 0) {
        list_remove(&self->idle);
        s->n_idle_sets--;
    }
    if (list_empty(&self->fresh))
        list_append(&s->fresh_sets, &self->fresh);
    s->n_in_sets++;
    t->set = self;
    t->queued = Q_SET;
    pheap_push(&self->waiting, &t->q.order);
    top_update(s, self);
    return 0;
}

void
set_remove(struct sched *s, struct task *t)
{
    struct set *self = t->set;

    pheap_remove(&self->waiting, &t->q.order);
    t->set = NULL;
    s->n_in_sets--;
    top_update(s, self);
    if (--self->n_waiting == 0)
        set_idle(s, self);
}

/* ---- what an engine may run -------------------------------------------- */

static struct task *
sooner(struct task *a, struct task *b)
{
    return a && b ? (b->q.order.key < a->q.order.key ? b : a) : a ? a : b;
}

/* Look at the excluding sets from number 'i' of the heap down, leaving out
 * whatever comes after 'best'.
 */
static struct task *
best_excluding(const struct sched *s, size_t i, const struct engine *e,
               struct task *best)
{
    const struct heap_node *node;
    const struct set *set;

    if (i >= s->excluding.n)
        return best;
    node = s->excluding.v[i];
    if (node->at == NEVER || (best && best->q.order.key < node->at))
        return best;
    set = LIST_ENTRY(s->excluding.v[i], struct set, top);
    if (!serials_have(set->serial, set->n, e->serial))
        return sooner(best, set_first(set)); // all below come later
    best = best_excluding(s, 2 * i + 1, e, best);
    return best_excluding(s, 2 * i + 2, e, best);
}

struct task *
set_best(const struct sched *s, const struct engine *e, struct task *best)
{
    if (!s->n_in_sets)
        return best;
    for (struct list *i = e->sets.next; i != &e->sets; i = i->next)
        best = sooner(best, set_first(LIST_ENTRY(i, struct member, link)->set));
    return best_excluding(s, 0, e, best);
}

void
set_engine_lost(struct sched *s, struct engine *e)
{
    while (!list_empty(&e->sets)) {
        struct member *m = LIST_ENTRY(e->sets.next, struct member, link);
        struct set *self = m->set;
        struct task *t;

        list_remove(&m->link);
        m->engine = NULL;
        if (--self->n_live)
            continue;
        // Routed again, its tasks find that they have nowhere to go.
        while (self->n_waiting && (t = set_first(self))) {
            bool last = self->n_waiting == 1;

            queue_remove(s, t);
            task_route(s, t);
            if (last)
                break; // 'self' is idle, and may be gone
        }
    }
}

void
sets_fini(struct sched *s)
{
    struct id_node *node;
    size_t at = 0;

    while ((node = ids_next(&s->sets, &at)))
        mem_free(node);
    ids_fini(&s->sets);
    heap_fini(&s->excluding);
}
