/* roster.c - see roster.h */
#include "controller/roster.h"

#include <stdio.h>

#include "base/mem.h"

void
roster_init(struct roster *self)
{
    map_init(&self->by_uuid);
    list_init(&self->all);
    list_init(&self->waiting);
    list_init(&self->leaving);
}

void
roster_fini(struct roster *self)
{
    struct list *const lists[] = {&self->all, &self->leaving};

    for (size_t i = 0; i < 2; i++)
        while (!list_empty(lists[i])) {
            struct peer *peer = LIST_ENTRY(lists[i]->next, struct peer, by_age);

            roster_remove(self, &peer);
        }
    map_fini(&self->by_uuid);
}

struct peer *
roster_find(const struct roster *self, struct span uuid)
{
    return map_get(&self->by_uuid, uuid);
}

int
roster_add(struct roster *self, struct span uuid, int id, uint64_t seq)
{
    struct peer *peer = mem_zalloc(1, sizeof(*peer) + uuid.n);

    if (!peer)
        return RH_ENOMEM;
    peer->id = id;
    peer->seq = seq;
    for (size_t i = 0; i < N_LANES; i++)
        list_init(&peer->held[i]);
    list_init(&peer->control);
    list_init(&peer->by_held);
    peer->n = uuid.n;
    if (uuid.n)
        memcpy(peer->uuid, uuid.p, uuid.n);
    if (map_put(&self->by_uuid, peer_uuid(peer), peer) < 0) {
        mem_free(peer);
        return RH_ENOMEM;
    }
    list_append(&self->all, &peer->by_age);
    return 0;
}

void
roster_leave(struct roster *self, struct peer *peer, struct span why,
             uint64_t seq, int64_t forget_ms)
{
    if (peer->gone)
        return;
    peer->gone = true;
    peer->seq = seq;
    peer->forget_ms = forget_ms;
    snprintf(peer->why, sizeof(peer->why), "%.*s",
             (int)(why.n < 150 ? why.n : 150),
             why.n ? (const char *)why.p : "");
    list_remove(&peer->by_age);
    list_append(&self->leaving, &peer->by_age);
}

void
held_free(struct held **self_p)
{
    struct held *self = *self_p;

    if (!self)
        return;
    list_remove(&self->node);
    msg_unref(&self->m);
    mem_free(self);
    *self_p = NULL;
}

static void
drop_all(struct list *list)
{
    while (!list_empty(list)) {
        struct held *held = LIST_ENTRY(list->next, struct held, node);

        held_free(&held);
    }
}

void
roster_remove(struct roster *self, struct peer **peer_p)
{
    struct peer *peer = *peer_p;

    if (!peer)
        return;
    for (size_t i = 0; i < N_LANES; i++)
        drop_all(&peer->held[i]);
    drop_all(&peer->control);
    list_remove(&peer->by_held);
    list_remove(&peer->by_age);
    map_del(&self->by_uuid, peer_uuid(peer));
    mem_free(peer);
    *peer_p = NULL;
}

static struct held *
held_new(struct msg *m, int64_t give_up_ms)
{
    struct held *held = mem_zalloc(1, sizeof(*held));

    if (!held)
        return NULL;
    list_init(&held->node);
    held->m = msg_ref(m);
    held->give_up_ms = give_up_ms;
    return held;
}

int
roster_hold(struct roster *self, struct peer *peer, enum lane lane,
            struct msg *m, int64_t give_up_ms)
{
    struct held *held = held_new(m, give_up_ms);

    if (!held)
        return RH_ENOMEM;
    list_append(&peer->held[lane], &held->node);
    if (list_empty(&peer->by_held))
        list_append(&self->waiting, &peer->by_held);
    return 0;
}

void
roster_sent(struct peer *peer)
{
    for (size_t i = 0; i < N_LANES; i++)
        if (!list_empty(&peer->held[i]))
            return;
    list_remove(&peer->by_held);
}

void
roster_track(struct peer *peer, struct msg *m, struct span msg_id)
{
    struct held *held;

    if (peer->n_control >= CONTROL_TRACKED_MAX || !(held = held_new(m, 0)))
        return;
    held->msg_id = msg_id;
    list_append(&peer->control, &held->node);
    peer->n_control++;
}

static void
untrack(struct peer *peer, struct span msg_id, const struct msg *m)
{
    for (struct list *p = peer->control.next; p != &peer->control;
         p = p->next) {
        struct held *held = LIST_ENTRY(p, struct held, node);

        if (m ? held->m == m : span_eq(held->msg_id, msg_id)) {
            held_free(&held);
            peer->n_control--;
            return;
        }
    }
}

void
roster_untrack(struct peer *peer, struct span msg_id)
{
    untrack(peer, msg_id, NULL);
}

void
roster_untrack_msg(struct peer *peer, const struct msg *m)
{
    untrack(peer, SPAN_NONE, m);
}
