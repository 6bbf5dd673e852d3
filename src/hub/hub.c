/* hub.c - making, ticking and checking the hub */
#include "hub/hub.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "hub/private.h"

void
hub_log(const struct hub *self, enum log_level level, const char *fmt, ...)
{
    char text[512], printable[512];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    if ((size_t)n >= sizeof(text))
        n = sizeof(text) - 1;
    self->port.log(
        self->port.ctx, level,
        log_escape(span_of(text, (size_t)n), printable, sizeof(printable)));
}

static void
set_defaults(struct hub *self, const struct hub_config *c)
{
    self->session = c->session;
    self->store = c->store;
    self->limits = c->limits ? *c->limits : msg_limits_default;
    self->hb_period_ms = c->hb_period_ms ? c->hb_period_ms : 3000;
    self->registration_timeout_ms = c->registration_timeout_ms;
    if (self->registration_timeout_ms == 0) {
        const int64_t ten = 10 * (int64_t)self->hb_period_ms;

        self->registration_timeout_ms = ten > 30000 ? ten : 30000;
    }
    self->stranded_delay_ms =
        c->stranded_delay_ms ? c->stranded_delay_ms : 1000;
    self->max_engines = c->max_engines ? c->max_engines : 65536;
    self->max_finished = c->max_finished ? c->max_finished : 65536;
}

int
hub_new(struct hub **out, const struct hub_config *config,
        const struct hub_port *port, rh_error *err)
{
    struct hub *self = mem_zalloc(1, sizeof(*self));
    int rc;

    if (!self)
        return rh_fail(err, RH_ENOMEM, "starting the hub");
    self->port = *port;
    set_defaults(self, config);
    list_init(&self->dead);
    list_init(&self->unassigned);
    list_init(&self->pending);
    list_init(&self->done);
    for (int kind = 0; kind < N_WATCH_KINDS; kind++)
        list_init(&self->watches[kind]);
    list_init(&self->ripe);
    heap_init(&self->due);
    rc = sender_init(&self->sender, config->session, config->session_id,
                     config->username ? config->username : "roundhouse", err);
    buf_add_span(&self->connection_info, config->connection_info);
    if (rc == 0 && self->connection_info.failed)
        rc = rh_fail(err, RH_ENOMEM, "starting the hub");
    if (rc == 0 && config->connection_info.n > 0
        && scan_object(config->connection_info, NULL, 0, err) < 0)
        rc = rh_fail(err, RH_EINVAL,
                     "the hub's connection_info is no JSON object");
    if (rc < 0) {
        hub_free(&self);
        return rc;
    }
    *out = self;
    return 0;
}

void
hub_free(struct hub **self_p)
{
    struct hub *self = *self_p;
    struct list *lists[3];

    *self_p = NULL;
    if (!self)
        return;
    watches_free(self);
    lists[0] = &self->unassigned;
    lists[1] = &self->pending;
    lists[2] = &self->done;
    for (int i = 0; i < 3; i++)
        while (!list_empty(lists[i]))
            hub_task_free(self, LIST_ENTRY(lists[i]->next, struct task, node));
    engines_free(self);
    map_fini(&self->by_uuid);
    map_fini(&self->tasks);
    heap_fini(&self->due);
    buf_fini(&self->connection_info);
    sender_fini(&self->sender);
    mem_free(self);
}

void
hub_on_heart(struct hub *self, struct span uuid, int64_t now, int64_t wall_us)
{
    struct engine *e = engine_by_uuid(self, uuid);

    if (e && e->state == ENGINE_PENDING)
        engine_admit(self, e, now, wall_us);
}

void
hub_on_engine_lost(struct hub *self, struct span uuid, const char *why,
                   int64_t now, int64_t wall_us)
{
    struct engine *e = engine_by_uuid(self, uuid);

    if (e)
        engine_lose(self, e, why, now, wall_us);
}

int64_t
hub_tick(struct hub *self, int64_t now, int64_t wall_us)
{
    const struct store_ops *ops = self->store->ops;
    const struct heap_node *top;
    int64_t next;

    while ((top = heap_top(&self->due)) && top->at <= now)
        hub_engine_due(self, LIST_ENTRY((uintptr_t)top, struct engine, due),
                       now, wall_us);
    next = watch_tick(self, now, wall_us);
    if (top && top->at < next)
        next = top->at;
    if (ops->tick) {
        rh_error err = {0};
        const int64_t store = ops->tick(self->store, now, &err);

        if (err.text[0])
            hub_log(self, LOG_ERROR, "database: %s", err.text);
        next = store < next ? store : next;
    }
    return next;
}

size_t
hub_n_engines(const struct hub *self)
{
    return self->n_up;
}

struct span
hub_engine_uuid(const struct hub *self, int id)
{
    const struct engine *e = engine_by_id(self, id);

    return e && e->state == ENGINE_UP ? engine_uuid(e) : SPAN_NONE;
}

/* ---- invariants ------------------------------------------------------- */

// Also in builds without assert: whoever calls hub_check wants to know.
#define must(claim) ((claim) ? (void)0 : broken(#claim, __LINE__))

static void
broken(const char *claim, int line)
{
    (void)fprintf(stderr, "hub.c:%d: does not hold: %s\n", line, claim);
    abort();
}

static void
check_link(const struct link *link)
{
    const struct task *t = link->task;

    must(link >= t->link && link < t->link + t->n_link);
    must(link->shelf == SHELF_COMPLETED ? t->state == TASK_DONE
                                        : t->state == TASK_PENDING);
}

static size_t
check_engine(const struct hub *self, size_t i)
{
    const struct engine *e = self->engine[i];
    size_t n_links = 0;

    must(i == 0 || self->engine[i - 1]->id < e->id);
    must(e->id >= 0 && e->id < self->next_id);
    must(engine_by_uuid(self, engine_uuid(e)) == e);
    must(e->state == ENGINE_PENDING ? e->due.i > 0 : true);
    must(e->state == ENGINE_UP ? !e->stranded : true);
    // A dead engine is stranded or will be: nobody waits for ever.
    must(e->state == ENGINE_DEAD ? e->stranded || e->due.i > 0 : true);
    for (int s = 0; s < N_SHELVES; s++) {
        size_t n = 0;

        for (const struct list *l = e->shelf[s].next; l != &e->shelf[s];
             l = l->next) {
            const struct link *link =
                LIST_ENTRY((uintptr_t)l, const struct link, node);

            must(link->engine == e && (int)link->shelf == s);
            check_link(link);
            n++;
        }
        must(n == e->n_shelf[s]);
        n_links += n;
    }
    must(e->n_completed >= e->n_shelf[SHELF_COMPLETED]);
    must(!e->stranded || e->n_shelf[SHELF_QUEUE] == 0);
    return n_links;
}

static size_t
check_tasks(const struct hub *self, const struct list *list,
            enum task_state state, size_t *n_links, size_t *n_watches)
{
    size_t n = 0;

    for (const struct list *l = list->next; l != list; l = l->next) {
        const struct task *t =
            LIST_ENTRY((uintptr_t)l, const struct task, node);

        must(t->state == state);
        must(task_get(self, task_id(t)) == t);
        must(!t->stranded || state == TASK_DONE);
        must(state != TASK_DONE || !t->output_done || list_empty(&t->watches));
        *n_watches += watches_count(&t->watches);
        for (size_t i = 0; i < t->n_link; i++)
            *n_links += t->link[i].shelf != SHELF_NONE;
        n++;
    }
    return n;
}

void
hub_check(const struct hub *self)
{
    size_t in_engines = 0, in_tasks = 0, n_state[3] = {0};
    size_t n_watches = watches_count(&self->ripe);

    for (size_t i = 0; i < self->n_engine; i++) {
        in_engines += check_engine(self, i);
        n_state[self->engine[i]->state]++;
    }
    must(n_state[ENGINE_PENDING] == self->n_pending);
    must(n_state[ENGINE_UP] == self->n_up);
    must(n_state[ENGINE_DEAD] == self->n_dead);
    must(self->by_uuid.n == self->n_engine);
    must(check_tasks(self, &self->unassigned, TASK_UNASSIGNED, &in_tasks,
                     &n_watches)
         == self->n_unassigned);
    must(check_tasks(self, &self->pending, TASK_PENDING, &in_tasks, &n_watches)
         == self->n_pending_task);
    must(check_tasks(self, &self->done, TASK_DONE, &in_tasks, &n_watches)
         == self->n_done);
    must(n_watches == self->n_watches);
    must(watches_count(&self->watches[WATCH_RESULT])
             + watches_count(&self->watches[WATCH_OUTPUT])
         == self->n_watches);
    must(self->tasks.n
         == self->n_unassigned + self->n_pending_task + self->n_done);
    must(in_engines == in_tasks);
    must(self->n_done <= self->max_finished || self->n_done == 1);
    if (self->store->ops->check)
        self->store->ops->check(self->store);
}
