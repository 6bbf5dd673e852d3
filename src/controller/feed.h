/* feed.h - the hub's copy of the traffic
 *
 * The threads that relay put references to messages into the hub's channel and
 * never wait for it.  If the hub falls behind (a slow disk), what waits is
 * bounded: beyond the limit copies go without their buffers, so that the
 * records stay complete but for the payload.
 *
 * A copy is made before the message is sent on.  So whoever has seen an
 * effect of a message finds it in the hub, too.
 */
#ifndef CONTROLLER_FEED_H
#define CONTROLLER_FEED_H

#include <stdatomic.h>

#include "base/channel.h"
#include "controller/complain.h"
#include "hub/hub.h"

/* One for all threads. */
struct backlog {
    struct channel *hub;
    atomic_size_t bytes; // in copies that wait
    size_t limit;
};

/* One per thread. */
struct feed {
    struct backlog *backlog; // borrowed
    struct complain complain;
};

void feed_init(struct feed *self, struct backlog *backlog, const char *topic);
/* A parsed message; takes a reference. */
void feed_copy(struct feed *self, enum hub_kind kind, struct msg *m,
               int64_t now);
void feed_assigned(struct feed *self, struct span msg_id, struct span uuid,
                   int64_t now);
/* The hub has taken a copy of that size. */
void feed_done(struct backlog *self, size_t bytes);

/* [a, b, ...] becomes [b, a, ...]: from the order of arrival to the order of
 * sending.  Only before a message is shared; it still is sent from frame 2 on,
 * because frames 0 and 1 go as copies.
 */
static inline void
swap_route(struct msg *m)
{
    struct span first = m->frame[0];

    m->frame[0] = m->frame[1];
    m->frame[1] = first;
}

#endif /* CONTROLLER_FEED_H */
