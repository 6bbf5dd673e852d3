/* check.c - every invariant of a scheduler between two events
 *
 * Deliberately slow and simple: what the other files keep up to date is
 * counted again here from the bottom.
 */
#include <stdio.h>
#include <stdlib.h>

#include "sched/core.h"

#define CHECK(what)                                                    \
    do {                                                               \
        if (!(what)) {                                                 \
            fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, \
                    __LINE__, #what);                                  \
            abort();                                                   \
        }                                                              \
    } while (0)

struct tally {
    size_t by_state[TASK_OVER + 1];
    size_t edges, hanging; // as the waiters, and as the awaited see it
    size_t common, in_sets, armed;
};

static size_t
length(struct list *list)
{
    size_t n = 0;

    for (struct list *i = list->next; i != list; i = i->next) {
        CHECK(i->next->prev == i);
        n++;
    }
    return n;
}

static size_t
check_heap(const struct pheap *heap)
{
    size_t n = 0;

    for (struct pnode *i = pheap_top(heap); i; i = pheap_walk(i)) {
        struct pnode *before = i;

        n++;
        for (struct pnode *c = i->child; c; before = c, c = c->next) {
            CHECK(c->prev == before);
            CHECK(c->key >= i->key);
        }
    }
    return n;
}

/* ---- tasks ------------------------------------------------------------- */

static void
check_dep(const struct deps *self, const struct dep *d, uint32_t from,
          uint32_t to, struct tally *tally)
{
    uint32_t linked = 0;

    for (uint32_t i = from; i < to; i++)
        if (self->edge[i].prev) {
            CHECK(*self->edge[i].prev == &self->edge[i]);
            linked++;
        }
    CHECK(linked == d->n_left);
    tally->edges += linked;
}

static void
check_edges(const struct task *t, struct tally *tally)
{
    const struct deps *self = t->deps;

    for (struct edge *e = t->dependents; e; e = e->next) {
        const struct deps *theirs = e->waiter->deps;

        CHECK(e->waiter->state != TASK_OVER);
        CHECK(e >= theirs->edge && e < theirs->edge + theirs->n_edge);
        tally->hanging++;
    }
    if (!self)
        return;
    check_dep(self, &self->after, 0, self->n_after, tally);
    check_dep(self, &self->follow, self->n_after, self->n_edge, tally);
    CHECK(!self->follow.used || !self->follow.all || self->n_ran <= 1);
}

static bool
in_list(struct list *list, const struct list *node)
{
    struct list *i = list->next;

    while (i != list && i != node)
        i = i->next;
    return i == node;
}

/* A READY task is queued where its restrictions say, and has to wait. */
static void
check_ready(struct sched *s, struct task *t, struct tally *tally)
{
    struct limits limits;

    CHECK(graph_ready(t));
    CHECK(set_limits(s, t, &limits) == 0);
    if (t->queued != Q_SET) {
        CHECK(limits.any);
        CHECK(t->queued == Q_FIFO || t->queued == Q_EARLY);
        CHECK(s->place.n == 0);
        tally->common++;
        return;
    }
    CHECK(pheap_top(&t->set->waiting)->key <= t->q.order.key);
    tally->in_sets++;
    for (struct list *i = s->engine_list.next; i != &s->engine_list;
         i = i->next) {
        struct engine *e = LIST_ENTRY(i, struct engine, link);
        bool may = limits.any
                   || serials_have(limits.serial, limits.n, e->serial)
                          != limits.exclude;
        bool set = serials_have(t->set->serial, t->set->n, e->serial)
                   != t->set->exclude;

        CHECK(may == set);
        CHECK(!may || !engine_room(s, e));
    }
}

static void
check_timer(const struct sched *s, const struct task *t, struct tally *tally)
{
    bool armed = pnode_in(&t->u.timer);

    CHECK(t->state != TASK_RUNNING || !armed);
    if (t->state == TASK_RUNNING)
        return;
    tally->armed += armed;
    if (t->timeout_ms)
        CHECK(armed && t->u.timer.key <= t->since + t->timeout_ms);
    if (t->state == TASK_DELAYED)
        CHECK(armed && t->u.timer.key <= t->extra->retry_at);
    if (t->state == TASK_READY && s->config.nowhere_ms)
        CHECK(armed && t->u.timer.key <= s->now + s->config.nowhere_ms);
}

static void
check_task(struct sched *s, struct task *t, struct tally *tally)
{
    CHECK(t->state < TASK_OVER);
    tally->by_state[t->state]++;
    check_edges(t, tally);
    check_timer(s, t, tally);
    switch ((enum task_state)t->state) {
    case TASK_DEPS:
        CHECK(!graph_ready(t)
              || (!t->deps->follow.all && t->deps->follow.n_left));
        CHECK(t->queued == Q_NONE);
        break;
    case TASK_READY:
        check_ready(s, t, tally);
        break;
    case TASK_RUNNING:
        CHECK(t->queued == Q_NONE);
        CHECK(in_list(&t->engine->running, &t->q.line.link));
        break;
    default:
        CHECK(t->queued == Q_NONE);
        break;
    }
    CHECK((t->state == TASK_RUNNING || t->queued == Q_SET)
          == (t->engine != NULL));
}

/* ---- engines ----------------------------------------------------------- */

static void
check_ladder(const struct sched *s, struct ladder *l)
{
    int64_t rank = -1;
    size_t seats = 0;

    for (struct list *i = l->buckets.next; i != &l->buckets; i = i->next) {
        struct bucket *b = LIST_ENTRY(i, struct bucket, link);

        CHECK(b->rank > rank);
        rank = b->rank;
        CHECK(!list_empty(&b->seats));
        seats += length(&b->seats);
    }
    CHECK(seats == l->n);
    CHECK(length(&l->buckets) + length(&l->spare) == s->n_live);
}

static bool
has_place(const struct sched *s, const struct engine *e)
{
    if (s->scheme <= SCHEME_PURE)
        return e->room.bucket
               && (s->scheme != SCHEME_LEASTLOAD
                   || e->room.bucket->rank == e->load);
    return e->at && s->place.v[e->at - 1] == e;
}

static void
check_engine(const struct sched *s, struct engine *e, size_t *running)
{
    uint32_t asked = 0;

    CHECK(engine_find(s, e->peer.uuid) == e);
    CHECK(engine_of(s, e->serial) == e);
    CHECK(length(&e->running) == e->load);
    *running += e->load;
    for (struct list *i = e->running.next; i != &e->running; i = i->next) {
        const struct task *t = LIST_ENTRY(i, struct task, q.line.link);

        CHECK(t->state == TASK_RUNNING && t->engine == e);
        asked += t->asked;
    }
    CHECK(!asked || e->asked);
    CHECK(list_empty(&e->hungry));
    CHECK(has_place(s, e) == engine_room(s, e));
    CHECK((e->spare.bucket != NULL) == prefetch_allows(s, e));
    CHECK(!e->spare.bucket || e->spare.bucket->rank == e->load);
    CHECK(list_empty(&e->stuffed)
          != (e->live && s->config.hwm && e->load > s->config.hwm));
    if (!list_empty(&e->stuffed))
        CHECK(e->asked || pnode_in(&e->overdue));
    CHECK(!e->blocked || pnode_in(&e->timer));
    CHECK(e->live || list_empty(&e->sets));
}

static void
check_weights(const struct sched *s)
{
    const struct place *p = &s->place;
    uint64_t sum = 0;

    for (size_t n = 1; s->scheme == SCHEME_WEIGHTED && n <= p->n; n++) {
        uint64_t prefix = 0;

        sum += p->v[n - 1]->weight;
        for (size_t i = n; i; i -= i & (~i + 1))
            prefix += p->tree[i];
        CHECK(prefix == sum);
    }
    CHECK(p->sum == sum);
}

static void
check_engines(struct sched *s)
{
    size_t live = 0, running = 0, i = 0;
    struct engine *e;

    while ((e = map_next(&s->engines, &i))) {
        live += e->live;
        check_engine(s, e, &running);
    }
    CHECK(live == s->n_live && length(&s->engine_list) == live);
    CHECK(running == s->stats.n_running);
    check_ladder(s, &s->place.room);
    check_ladder(s, &s->place.spare);
    CHECK(s->place.n <= live);
    check_weights(s);
    CHECK(list_empty(&s->hungry) && list_empty(&s->fresh_sets));
    check_heap(&s->engine_timers);
    check_heap(&s->overdue);
}

/* ---- queues ------------------------------------------------------------ */

static void
check_sets(struct sched *s, size_t in_sets)
{
    struct id_node *node;
    size_t at = 0, waiting = 0, idle = 0, exclude = 0;

    while ((node = ids_next(&s->sets, &at))) {
        const struct set *set = (const struct set *)(const void *)node;
        uint32_t live = 0;

        CHECK(check_heap(&set->waiting) == set->n_waiting);
        CHECK(list_empty(&set->idle) == (set->n_waiting > 0));
        waiting += set->n_waiting;
        idle += !set->n_waiting;
        exclude += set->exclude;
        if (set->exclude)
            CHECK(set->top.at
                  == (set->n_waiting ? pheap_top(&set->waiting)->key : NEVER));
        for (uint32_t i = 0; !set->exclude && i < set->n; i++) {
            CHECK(set->member[i].engine == NULL
                  || set->member[i].engine == engine_of(s, set->serial[i]));
            live += set->member[i].engine != NULL;
        }
        CHECK(set->exclude || live == set->n_live);
        CHECK(set->exclude || !set->n_waiting || live);
    }
    CHECK(waiting == in_sets && s->n_in_sets == in_sets);
    CHECK(idle == s->n_idle_sets && length(&s->idle_sets) == idle);
    CHECK(s->excluding.n == exclude);
}

static void
check_flows(struct sched *s)
{
    size_t at = 0, common = check_heap(&s->early), lanes = 0;
    const struct client *c;

    while ((c = map_next(&s->clients, &at))) {
        size_t n = 0;

        for (struct flow *f = c->flows; f; f = f->next) {
            int64_t key = INT64_MIN;

            n += f->n_tasks;
            CHECK(pnode_in(&f->lane) == !list_empty(&f->fifo));
            lanes += pnode_in(&f->lane);
            for (struct list *i = f->fifo.next; i != &f->fifo; i = i->next) {
                struct task *t = LIST_ENTRY(i, struct task, q.line.link);

                CHECK(t->queued == Q_FIFO && t->flow == f);
                CHECK(t->q.line.key > key);
                CHECK(key != INT64_MIN || t->q.line.key == f->lane.key);
                key = t->q.line.key;
                common++;
            }
        }
        CHECK(n == c->n_tasks);
        CHECK(list_empty(&c->link) == (c->n_tasks > 0));
    }
    CHECK(common == s->n_common);
    CHECK(check_heap(&s->lanes) == lanes);
    CHECK(length(&s->idle_clients) == s->n_idle_clients);
}

void
sched_check(struct sched *s)
{
    struct tally tally = {{0}, 0, 0, 0, 0, 0};
    struct id_node *node;
    size_t at = 0, n = 0;

    while ((node = ids_next(&s->live, &at))) {
        check_task(s, (struct task *)(void *)node, &tally);
        n++;
    }
    CHECK(n == s->live.n);
    CHECK(tally.by_state[TASK_DEPS] == s->stats.n_waiting_deps);
    CHECK(tally.by_state[TASK_READY] == s->stats.n_waiting_room);
    CHECK(tally.by_state[TASK_DELAYED] == s->stats.n_delayed);
    CHECK(tally.by_state[TASK_RUNNING] == s->stats.n_running);
    CHECK(tally.edges == tally.hanging);
    CHECK(tally.common == s->n_common);
    CHECK(check_heap(&s->timers) == tally.armed);
    CHECK(list_empty(&s->finishing));
    CHECK(length(&s->answering) == s->stats.n_answering);
    CHECK(s->done.n <= s->done.window);
    check_engines(s);
    check_sets(s, tally.in_sets);
    check_flows(s);
}
