/* broadcast.h - one request to many engines, and their replies back
 *
 * Pure: no sockets, no clock.  A request names its targets in metadata.  Each
 * gets a copy under an id of its own, "<msg_id>_<uuid>", signed anew.  Without
 * coalescing every reply goes back as it is; with coalescing one reply follows
 * when all are there, its buffers in the order of the targets.  If one fails,
 * a coalesced broadcast has failed: that reply goes out at once, and those
 * that come later are dropped.
 *
 * Every target is answered for exactly once, also if it is unknown or dies.
 */
#ifndef CONTROLLER_BROADCAST_H
#define CONTROLLER_BROADCAST_H

#include <stdbool.h>
#include <stdint.h>

#include "hub/hub.h"
#include "wire/compose.h"
#include "wire/msg.h"
#include "wire/session.h"

struct broadcast;

struct broadcast_port {
    void *ctx;
    /* May this engine be given work? */
    bool (*alive)(void *ctx, struct span uuid);
    /* Send [uuid, client, delimiter, ...] to the engine 'uuid'. */
    void (*to_engine)(void *ctx, struct span uuid, int id, struct msg *m);
    /* Send [client, delimiter, ...] or, without the second frame,
     * [client, uuid, delimiter, ...].
     */
    void (*to_client)(void *ctx, struct msg *m);
    /* The hub's copy, always before the message itself is sent. */
    void (*copy)(void *ctx, enum hub_kind kind, struct msg *m);
};

#define BROADCAST_TARGETS_MAX 65536

int broadcast_new(struct broadcast **out, struct session *session,
                  struct sender *sender, const struct broadcast_port *port,
                  rh_error *err);
void broadcast_free(struct broadcast **self_p); // answers nothing

/* A parsed request [client, delimiter, ...].  RH_EAUTH, RH_EREPLAY, RH_EPROTO:
 * dropped without an answer, the text is for the log; RH_ENOMEM: dropped.
 */
int broadcast_on_request(struct broadcast *self, struct msg *m, int64_t wall_us,
                         rh_error *err);
/* A parsed reply [uuid, client, delimiter, ...].  RH_ENOENT: nobody waits for
 * it (a late one); others as above.
 */
int broadcast_on_reply(struct broadcast *self, struct msg *m, int64_t wall_us,
                       rh_error *err);
/* Answers for everything the engine still owes.  'why' may be empty. */
void broadcast_on_engine_lost(struct broadcast *self, struct span uuid,
                              struct span why, int64_t wall_us);

size_t broadcast_n_open(const struct broadcast *self); // unanswered targets

#endif /* CONTROLLER_BROADCAST_H */
