/* watch.c - requests for results that wait for them
 *
 * A client may ask for the result of a task that still runs and leave it to
 * the hub to answer when there is something to tell; otherwise it would have
 * to ask ten times a second.  Such a request is kept on the task it waits for.
 * When the task is done, or the time is over, it is served again from the
 * start, as if it had come now: so there is one way to answer, and the answer
 * says what is true then.  One request waits for one task at a time, for the
 * others of its ids after that.
 *
 * Every watch is in one of hub->watches, oldest first, and besides that on a
 * task, which is not done or whose output is not, or in hub->ripe.  What is
 * ripe is served by hub_tick.
 */
#include "base/mem.h"
#include "hub/private.h"

#define MAX_WATCHES 16384
#define MAX_WATCHED_BYTES ((size_t)64 << 20)

// How long a request waits for one task at most.
static const int64_t patience_ms[N_WATCH_KINDS] = {
    [WATCH_RESULT] = 30000,
    [WATCH_OUTPUT] = 1000, // its engine may be gone
};

struct watch {
    struct list node; // on a task, or in hub->ripe
    struct list age;  // in hub->watches[kind]
    struct msg *m;
    size_t n_bytes;
    int64_t until;
};

static size_t
size_of(const struct msg *m)
{
    size_t n = 0;

    for (uint32_t i = 0; i < m->n; i++)
        n += m->frame[i].n;
    return n;
}

bool
watch_keep(struct hub *self, const struct request *req, struct task *t)
{
    const enum watch_kind kind =
        t->state == TASK_DONE ? WATCH_OUTPUT : WATCH_RESULT;
    const size_t n = size_of(req->m);
    struct watch *w;

    if (req->final || self->n_watches == MAX_WATCHES
        || n > MAX_WATCHED_BYTES - self->n_watched_bytes
        || !(w = mem_zalloc(1, sizeof(*w))))
        return false;
    w->m = msg_ref(req->m);
    w->n_bytes = n;
    w->until = req->now + patience_ms[kind];
    list_append(&t->watches, &w->node);
    list_append(&self->watches[kind], &w->age);
    self->n_watches++;
    self->n_watched_bytes += n;
    return true;
}

void
watch_wake(struct hub *self, struct task *t)
{
    while (!list_empty(&t->watches)) {
        struct list *node = t->watches.next;

        list_remove(node);
        list_append(&self->ripe, node);
    }
}

/* Out of all books; the caller gets its message. */
static struct msg *
take(struct hub *self, struct watch *w)
{
    struct msg *m = w->m;

    list_remove(&w->node);
    list_remove(&w->age);
    self->n_watches--;
    self->n_watched_bytes -= w->n_bytes;
    mem_free(w);
    return m;
}

static void
serve(struct hub *self, struct watch *w, bool final, int64_t now,
      int64_t wall_us)
{
    struct msg *m = take(self, w);

    hub_serve_again(self, m, final, now, wall_us);
    msg_unref(&m);
}

/* Serve those of one kind whose time is over; returns the next one's. */
static int64_t
give_up(struct hub *self, enum watch_kind kind, int64_t now, int64_t wall_us)
{
    struct list *list = &self->watches[kind];

    while (!list_empty(list)) {
        struct watch *w = LIST_ENTRY(list->next, struct watch, age);

        if (w->until > now)
            return w->until;
        serve(self, w, true, now, wall_us);
    }
    return INT64_MAX;
}

int64_t
watch_tick(struct hub *self, int64_t now, int64_t wall_us)
{
    int64_t result, output;

    while (!list_empty(&self->ripe))
        serve(self, LIST_ENTRY(self->ripe.next, struct watch, node), false, now,
              wall_us);
    result = give_up(self, WATCH_RESULT, now, wall_us);
    output = give_up(self, WATCH_OUTPUT, now, wall_us);
    return result < output ? result : output;
}

void
watches_free(struct hub *self)
{
    for (int kind = 0; kind < N_WATCH_KINDS; kind++)
        while (!list_empty(&self->watches[kind])) {
            struct msg *m = take(
                self, LIST_ENTRY(self->watches[kind].next, struct watch, age));

            msg_unref(&m);
        }
}

size_t
watches_count(const struct list *list)
{
    size_t n = 0;

    for (const struct list *l = list->next; l != list; l = l->next)
        n++;
    return n;
}
