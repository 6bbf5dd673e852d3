/* feed.c - see feed.h */
#include "controller/feed.h"

#include "controller/note.h"

#define NOTE_COST 1024 // bytes a waiting copy counts besides its frames

void
feed_init(struct feed *self, struct backlog *backlog, const char *topic)
{
    *self = (struct feed){.backlog = backlog, .complain = {.topic = topic}};
}

/* The message without its buffers, which are not signed: it stays valid. */
static struct msg *
without_buffers(const struct msg *m)
{
    struct msg *slim = msg_new(m->frame, m->n - msg_n_buffers(m));

    if (slim && msg_parse(slim, &msg_limits_default, NULL) < 0)
        msg_unref(&slim);
    return slim;
}

static size_t
size_of(const struct msg *m)
{
    size_t n = NOTE_COST;

    for (uint32_t i = 0; i < m->n; i++)
        n += m->frame[i].n;
    return n;
}

void
feed_copy(struct feed *self, enum hub_kind kind, struct msg *m, int64_t now)
{
    struct backlog *backlog = self->backlog;
    struct note *note = note_new(NOTE_TRAFFIC, SPAN_NONE, SPAN_NONE);
    size_t bytes = size_of(m);

    if (note && atomic_load(&backlog->bytes) + bytes > backlog->limit
        && msg_n_buffers(m)) {
        complain(&self->complain, now,
                 "the hub is %zu MiB behind: recording a message without its "
                 "%zu bytes of data",
                 atomic_load(&backlog->bytes) >> 20, bytes);
        note->m = without_buffers(m);
        bytes = NOTE_COST;
    } else if (note) {
        note->m = msg_ref(m);
    }
    if (note && note->m) {
        note->hub_kind = (int)kind;
        note->bytes = bytes;
        atomic_fetch_add(&backlog->bytes, bytes);
        if (note_push(backlog->hub, &note) == 0)
            return;
        atomic_fetch_sub(&backlog->bytes, bytes);
    }
    note_free(&note);
    complain(&self->complain, now,
             "out of memory: a message is not recorded by the hub");
}

void
feed_assigned(struct feed *self, struct span msg_id, struct span uuid,
              int64_t now)
{
    struct note *note = note_new(NOTE_ASSIGNED, uuid, msg_id);

    if (note && note_push(self->backlog->hub, &note) == 0)
        return;
    note_free(&note);
    complain(&self->complain, now,
             "out of memory: the hub does not learn where a task runs");
}

void
feed_done(struct backlog *self, size_t bytes)
{
    atomic_fetch_sub(&self->bytes, bytes);
}
