/* tasks.c - which message is where
 *
 * One entry per request that somebody may ask about, found by message id.
 * Every entry is in exactly one of the hub's three lists, and every link in at
 * most one shelf of one engine, so counts cannot drift apart from what they
 * count, however often a task is retried.
 */
#include <assert.h>

#include "base/mem.h"
#include "hub/private.h"

struct task *
task_get(const struct hub *self, struct span msg_id)
{
    return map_get(&self->tasks, msg_id);
}

void
link_move(struct link *link, struct engine *e, enum shelf shelf)
{
    if (link->shelf != SHELF_NONE) {
        link->engine->n_shelf[link->shelf]--;
        list_remove(&link->node);
    }
    link->engine = e;
    link->shelf = e ? shelf : SHELF_NONE;
    if (link->shelf == SHELF_NONE)
        return;
    e->n_shelf[shelf]++;
    list_append(&e->shelf[shelf], &link->node);
    if (shelf == SHELF_COMPLETED)
        e->n_completed++;
}

static size_t *
count_of(struct hub *self, enum task_state state)
{
    return state == TASK_UNASSIGNED ? &self->n_unassigned
           : state == TASK_PENDING  ? &self->n_pending_task
                                    : &self->n_done;
}

static struct list *
list_of(struct hub *self, enum task_state state)
{
    return state == TASK_UNASSIGNED ? &self->unassigned
           : state == TASK_PENDING  ? &self->pending
                                    : &self->done;
}

static void
set_state(struct hub *self, struct task *t, enum task_state state)
{
    list_remove(&t->node);
    --*count_of(self, t->state);
    t->state = state;
    ++*count_of(self, state);
    list_append(list_of(self, state), &t->node);
}

struct task *
hub_task_new(struct hub *self, struct span msg_id, size_t n_link)
{
    // One block: struct, id, and the links at the next aligned place.
    const size_t align = _Alignof(struct link);
    const size_t at =
        (sizeof(struct task) + msg_id.n + align - 1) / align * align;
    struct task *t = mem_zalloc(1, at + n_link * sizeof(struct link));

    if (!t)
        return NULL;
    t->n_msg_id = msg_id.n;
    memcpy(t->msg_id, msg_id.p, msg_id.n);
    if (map_put(&self->tasks, task_id(t), t) < 0) {
        mem_free(t);
        return NULL;
    }
    list_init(&t->watches);
    t->n_link = n_link;
    t->link = (struct link *)(void *)((char *)t + at);
    for (size_t i = 0; i < n_link; i++) {
        list_init(&t->link[i].node);
        t->link[i].task = t;
        t->link[i].shelf = SHELF_NONE;
    }
    t->state = TASK_UNASSIGNED;
    self->n_unassigned++;
    list_append(&self->unassigned, &t->node);
    return t;
}

void
task_put(struct hub *self, struct task *t, size_t i, struct engine *e,
         enum shelf shelf)
{
    assert(i < t->n_link && t->state != TASK_DONE);
    link_move(&t->link[i], e, shelf);
    if (t->state == TASK_UNASSIGNED)
        set_state(self, t, TASK_PENDING);
}

void
hub_task_free(struct hub *self, struct task *t)
{
    watch_wake(self, t);
    for (size_t i = 0; i < t->n_link; i++)
        link_move(&t->link[i], NULL, SHELF_NONE);
    list_remove(&t->node);
    --*count_of(self, t->state);
    (void)map_del(&self->tasks, task_id(t));
    mem_free(t);
}

void
task_finish(struct hub *self, struct task *t, bool counted)
{
    for (size_t i = 0; i < t->n_link; i++) {
        struct link *link = &t->link[i];

        if (link->shelf == SHELF_COMPLETED)
            continue;
        link_move(link, counted ? link->engine : NULL, SHELF_COMPLETED);
    }
    if (!counted) // no engine worked on it, or none that is left
        t->output_done = true;
    // Again at the end of the list if it was done before (a late reply).
    set_state(self, t, TASK_DONE);
    watch_wake(self, t);
    while (self->n_done > self->max_finished && self->n_done > 1)
        hub_task_free(self, LIST_ENTRY(self->done.next, struct task, node));
}
