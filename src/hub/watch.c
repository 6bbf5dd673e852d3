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
 * Every watch is in hub->watches, oldest first, and besides that on a task
 * that is not done or in hub->ripe.  What is ripe is served by hub_tick.
 */
#include "base/mem.h"
#include "hub/private.h"

#define MAX_WATCHES 16384
#define MAX_WATCHED_BYTES ((size_t)64 << 20)

struct watch {
    struct list node; // on a task, or in hub->ripe
    struct list age;  // in hub->watches
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
    const size_t n = size_of(req->m);
    struct watch *w;

    if (req->final || self->n_watches == MAX_WATCHES
        || n > MAX_WATCHED_BYTES - self->n_watched_bytes
        || !(w = mem_zalloc(1, sizeof(*w))))
        return false;
    w->m = msg_ref(req->m);
    w->n_bytes = n;
    w->until = req->now + WATCH_MS;
    list_append(&t->watches, &w->node);
    list_append(&self->watches, &w->age);
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

int64_t
watch_tick(struct hub *self, int64_t now, int64_t wall_us)
{
    while (!list_empty(&self->ripe))
        serve(self, LIST_ENTRY(self->ripe.next, struct watch, node), false, now,
              wall_us);
    while (!list_empty(&self->watches)) {
        struct watch *w = LIST_ENTRY(self->watches.next, struct watch, age);

        if (w->until > now)
            return w->until;
        serve(self, w, true, now, wall_us);
    }
    return INT64_MAX;
}

void
watches_free(struct hub *self)
{
    while (!list_empty(&self->watches)) {
        struct msg *m =
            take(self, LIST_ENTRY(self->watches.next, struct watch, age));

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
