/* queue.c - the order of tasks, and fairness between clients
 *
 * Every task has a key, fixed when it is submitted: higher priority first,
 * then its tag.  Tags are those of start-time fair queueing: a client's tasks
 * of one priority get consecutive tags, beginning not before the tag that was
 * dispatched last.  So clients take turns, one client's tasks keep their
 * order, and a task that comes back (a retry) has its old place.
 *
 * Unrestricted tasks mostly become ready in the order of their keys: those
 * wait in a fifo per client and priority (a "flow"), and 'lanes' orders the
 * flows by their first task.  The others, released by a dependency or back
 * from an engine, wait in 'early'.
 */
#include "base/mem.h"
#include "sched/core.h"

#define TAG_BITS 50
#define MAX_IDLE 64 // clients kept although they have no tasks

/* ---- flows ------------------------------------------------------------- */

static void
client_free(struct client *c)
{
    while (c->flows) {
        struct flow *flow = c->flows;

        c->flows = flow->next;
        mem_free(flow);
    }
    mem_free(c);
}

static void
client_idle(struct sched *s, struct client *c)
{
    list_append(&s->idle_clients, &c->link);
    if (++s->n_idle_clients <= MAX_IDLE)
        return;
    c = LIST_ENTRY(s->idle_clients.next, struct client, link);
    list_remove(&c->link);
    s->n_idle_clients--;
    map_del(&s->clients, span_of(c->ident, c->n_ident));
    if (s->last_client == c)
        s->last_client = NULL;
    client_free(c);
}

static struct client *
client_get(struct sched *s, struct span ident)
{
    struct client *c = s->last_client;

    if (c && span_eq(span_of(c->ident, c->n_ident), ident))
        return c;
    c = map_get(&s->clients, ident);
    if (c)
        return s->last_client = c;
    c = mem_zalloc(1, sizeof(*c) + ident.n);
    if (!c)
        return NULL;
    c->n_ident = ident.n;
    if (ident.n)
        memcpy(c->ident, ident.p, ident.n);
    list_init(&c->link);
    if (map_put(&s->clients, span_of(c->ident, c->n_ident), c) < 0) {
        mem_free(c);
        return NULL;
    }
    client_idle(s, c);
    return s->last_client = c;
}

struct flow *
flow_get(struct sched *s, struct span ident, int priority)
{
    struct client *c = client_get(s, ident);
    struct flow *flow = c ? c->flows : NULL;

    while (flow && flow->priority != priority)
        flow = flow->next;
    if (flow || !c)
        return flow;
    flow = mem_zalloc(1, sizeof(*flow));
    if (!flow)
        return NULL;
    flow->client = c;
    flow->priority = priority;
    list_init(&flow->fifo);
    pnode_init(&flow->lane);
    flow->next = c->flows;
    c->flows = flow;
    return flow;
}

void
flow_ref(struct sched *s, struct flow *flow)
{
    flow->n_tasks++;
    if (flow->client->n_tasks++ == 0) {
        list_remove(&flow->client->link);
        s->n_idle_clients--;
    }
}

void
flow_unref(struct sched *s, struct flow *flow)
{
    flow->n_tasks--;
    if (--flow->client->n_tasks == 0)
        client_idle(s, flow->client);
}

void
clients_fini(struct sched *s)
{
    struct client *c;
    size_t i = 0;

    while ((c = map_next(&s->clients, &i)))
        client_free(c);
    map_fini(&s->clients);
}

/* ---- order ------------------------------------------------------------- */

static int64_t *
clock_of(struct sched *s, int priority)
{
    return &s->clock[priority + SCHED_PRIORITY_MAX];
}

int64_t
queue_key(struct sched *s, struct flow *flow)
{
    int64_t now = *clock_of(s, flow->priority);

    if (flow->tag < now)
        flow->tag = now;
    return -(int64_t)flow->priority * (INT64_C(1) << TAG_BITS) + flow->tag++;
}

void
queue_passed(struct sched *s, const struct task *t)
{
    int priority = t->flow->priority;
    int64_t *clock = clock_of(s, priority);
    int64_t tag = t->q.order.key + priority * (INT64_C(1) << TAG_BITS);

    if (tag > *clock)
        *clock = tag;
}

static struct task *
fifo_first(const struct flow *flow)
{
    return LIST_ENTRY(flow->fifo.next, struct task, q.line.link);
}

static void
lane_update(struct sched *s, struct flow *flow)
{
    if (pnode_in(&flow->lane))
        pheap_remove(&s->lanes, &flow->lane);
    if (list_empty(&flow->fifo))
        return;
    flow->lane.key = fifo_first(flow)->q.line.key;
    pheap_push(&s->lanes, &flow->lane);
}

void
queue_push(struct sched *s, struct task *t)
{
    struct flow *flow = t->flow;
    struct list *last = flow->fifo.prev;
    bool first = last == &flow->fifo;

    s->n_common++;
    if (!first
        && t->q.order.key
               < LIST_ENTRY(last, struct task, q.line.link)->q.line.key) {
        t->queued = Q_EARLY;
        pheap_push(&s->early, &t->q.order);
        return;
    }
    t->queued = Q_FIFO;
    list_append(&flow->fifo, &t->q.line.link);
    if (first)
        lane_update(s, flow);
}

void
queue_remove(struct sched *s, struct task *t)
{
    struct flow *flow = t->flow;
    bool first;

    switch (t->queued) {
    case Q_FIFO:
        first = flow->fifo.next == &t->q.line.link;
        list_remove(&t->q.line.link);
        if (first)
            lane_update(s, flow);
        s->n_common--;
        break;
    case Q_EARLY:
        pheap_remove(&s->early, &t->q.order);
        s->n_common--;
        break;
    case Q_SET:
        set_remove(s, t);
        break;
    default:
        break;
    }
    t->queued = Q_NONE;
}

/* Its first task goes next, and then the second. */
void
queue_look_ahead(const struct flow *flow)
{
    const struct list *first = flow->fifo.next;

    if (first == &flow->fifo || first->next == &flow->fifo)
        return;
    __builtin_prefetch(fifo_first(flow)->msg);
    task_prefetch(LIST_ENTRY(first->next, struct task, q.line.link));
}

struct task *
queue_first(const struct sched *s)
{
    struct pnode *lane = pheap_top(&s->lanes), *early = pheap_top(&s->early);

    if (early && (!lane || early->key <= lane->key))
        return PNODE_ENTRY(early, struct task, q.order);
    return lane ? fifo_first(PNODE_ENTRY(lane, struct flow, lane)) : NULL;
}

struct task *
queue_best(const struct sched *s, const struct engine *e)
{
    return set_best(s, e, queue_first(s));
}
