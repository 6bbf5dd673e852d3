/* roster.h - the engines as the relay knows them
 *
 * The hub decides who is registered; the relay is told.  Per engine it keeps
 * what cannot be sent yet, because the engine's connection is not up, and the
 * control requests it has not answered, so that all of them can be answered
 * for when the engine is gone.  Pure state, one thread.
 */
#ifndef CONTROLLER_ROSTER_H
#define CONTROLLER_ROSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "wire/msg.h"

enum lane { LANE_CONTROL, LANE_MUX, LANE_BROADCAST, N_LANES };

/* A message [uuid, client, ...] on its way to an engine. */
struct held {
    struct list node;
    struct msg *m;
    struct span msg_id; // control requests: inside m; else empty
    int64_t give_up_ms; // if the connection is not there by then
};

struct peer {
    struct list by_age, by_held; // in the roster's lists
    int id;
    uint64_t seq;      // of the latest event about it
    bool gone;         // unregistered; late replies still count until
    int64_t forget_ms; // then
    char why[160];     // it is gone
    struct list held[N_LANES];
    struct list control; // sent and not answered
    size_t n_control;
    size_t n;
    char uuid[];
};

struct roster {
    struct map by_uuid;
    struct list all;     // by_age
    struct list waiting; // by_held: something is held
    struct list leaving; // by_age, instead of in all: gone, first is oldest
};

void roster_init(struct roster *self);
void roster_fini(struct roster *self); // drops what is held

struct peer *roster_find(const struct roster *self, struct span uuid);
static inline struct span
peer_uuid(const struct peer *self)
{
    return span_of(self->uuid, self->n);
}

/* RH_ENOMEM; the uuid must be absent. */
int roster_add(struct roster *self, struct span uuid, int id, uint64_t seq);
/* From now on gone; stays findable until roster_remove. */
void roster_leave(struct roster *self, struct peer *peer, struct span why,
                  uint64_t seq, int64_t forget_ms);
void roster_remove(struct roster *self, struct peer **peer_p);

/* Keep 'm' for later; takes a reference.  RH_ENOMEM. */
int roster_hold(struct roster *self, struct peer *peer, enum lane lane,
                struct msg *m, int64_t give_up_ms);
/* Nothing is held for this peer on any lane any more. */
void roster_sent(struct peer *peer);
void held_free(struct held **self_p); // unlinks it

#define CONTROL_TRACKED_MAX 4096

/* Remember a control request ('msg_id' inside m).  Beyond the maximum nothing
 * is remembered.
 */
void roster_track(struct peer *peer, struct msg *m, struct span msg_id);
void roster_untrack(struct peer *peer, struct span msg_id);
void roster_untrack_msg(struct peer *peer, const struct msg *m);

#endif /* CONTROLLER_ROSTER_H */
