/* relay_notes.c - news of engines, and what is due
 *
 * An engine that is gone stays on the roster for a grace time, as replies of
 * its may still be on their way.  Then everything it owes is answered for, and
 * only after that the hub tells the clients (relay->settled).
 */
#include <time.h>

#include "controller/note.h"
#include "controller/relay.h"

#define RETRY_MS 5

static void
answer_all(struct relay *self, enum lane lane, struct list *list,
           struct span text)
{
    while (!list_empty(list)) {
        struct held *held = LIST_ENTRY(list->next, struct held, node);

        relay_answer_fault(self, lane, held->m, text);
        held_free(&held);
    }
}

/* Its grace is over: answer for what it owes, and forget it. */
static void
forget(struct relay *self, struct peer *peer)
{
    struct buf text;

    buf_init(&text);
    buf_add_fmt(&text, "Engine %d died before it answered", peer->id);
    if (*peer->why)
        buf_add_fmt(&text, ": %s", peer->why);
    // Held control requests are among those that were never answered.
    answer_all(self, LANE_CONTROL, &peer->control, buf_span(&text));
    answer_all(self, LANE_MUX, &peer->held[LANE_MUX], buf_span(&text));
    broadcast_on_engine_lost(self->broadcast, peer_uuid(peer),
                             span_str(peer->why), self->wall_us);
    buf_fini(&text);
    roster_remove(&self->roster, &peer);
}

static void
on_up(struct relay *self, const struct note *note)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    struct peer *peer = roster_find(&self->roster, note->uuid);

    if (peer)
        forget(self, peer); // the same name again
    while (roster_add(&self->roster, note->uuid, note->engine, note->seq)
               == RH_ENOMEM
           && !worker_stopping(&self->worker))
        nanosleep(&pause, NULL);
}

static void
on_down(struct relay *self, const struct note *note)
{
    struct peer *peer = roster_find(&self->roster, note->uuid);

    if (peer)
        roster_leave(&self->roster, peer, note->text, note->seq,
                     self->now + note->grace_ms);
}

/* A control request of the task thread's, [uuid, TASKD_NAME, MSG].  If the
 * engine is gone there is no need for an answer: the scheduler knows.
 */
static void
on_withdraw(struct relay *self, struct msg *m)
{
    struct peer *peer = roster_find(&self->roster, m->frame[0]);

    if (peer && !peer->gone)
        relay_to_engine(self, peer, LANE_CONTROL, m);
}

static void
publish(struct relay *self)
{
    uint64_t settled = self->last_seq;

    // In order: what is not settled holds back what came after it.
    for (struct list *p = self->roster.leaving.next; p != &self->roster.leaving;
         p = p->next) {
        const struct peer *peer = LIST_ENTRY(p, struct peer, by_age);

        if (peer->seq <= settled)
            settled = peer->seq - 1;
    }
    if (atomic_load(&self->seen) == self->last_seq
        && atomic_load(&self->settled) == settled)
        return;
    atomic_store(&self->seen, self->last_seq);
    atomic_store(&self->settled, settled);
    worker_wake(self->hub);
}

void
relay_take_notes(struct relay *self)
{
    void **entry;
    size_t n = channel_take(self->inbox, &entry);

    for (size_t i = 0; i < n; i++) {
        struct note *note = entry[i];

        if (note->kind == NOTE_WITHDRAW)
            on_withdraw(self, note->m);
        else if (note->kind == NOTE_ENGINE_UP)
            on_up(self, note);
        else
            on_down(self, note);
        if (note->seq)
            self->last_seq = note->seq;
        note_free(&note);
    }
    if (n)
        publish(self);
}

int
relay_time_left(struct relay *self)
{
    int64_t due = INT64_MAX;

    if (!list_empty(&self->roster.waiting))
        due = self->now + RETRY_MS;
    for (struct list *p = self->roster.leaving.next; p != &self->roster.leaving;
         p = p->next) {
        int64_t at = LIST_ENTRY(p, struct peer, by_age)->forget_ms;

        if (at < due)
            due = at;
    }
    if (due == INT64_MAX)
        return -1;
    return due <= self->now ? 0 : (int)(due - self->now);
}

void
relay_do_due(struct relay *self)
{
    struct list *p = self->roster.leaving.next;

    if (!list_empty(&self->roster.waiting))
        relay_retry_held(self);
    if (p == &self->roster.leaving)
        return;
    while (p != &self->roster.leaving) {
        struct peer *peer = LIST_ENTRY(p, struct peer, by_age);

        p = p->next;
        if (self->now >= peer->forget_ms)
            forget(self, peer);
    }
    publish(self);
}
