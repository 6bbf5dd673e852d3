/* private.h - what the files of net/ share; nobody else includes it */
#ifndef NET_PRIVATE_H
#define NET_PRIVATE_H

#include <zmq.h>

#include "net/net.h"

/* Frames on their way in or out.  zmq_msg_t must not be copied as bytes, so
 * growing moves them one by one; 'v' holds only initialised messages below
 * the count its user keeps.
 */
struct stage {
    zmq_msg_t *v;
    size_t cap;
};

struct net_ctx {
    void *zmq;
};

struct net_sock {
    void *zmq;
    void *monitor; // PAIR that gets the events, or NULL
    struct stage in, out;
    uint32_t max_frames;
};

/* Room for 'want' messages, of which the first 'n' are in use.  RH_ENOMEM. */
int stage_grow(struct stage *self, size_t n, size_t want);

/* Take the frames out of 'raw': a message with one reference.  NULL: out of
 * memory, 'raw' unchanged.
 */
struct msg *net_msg_new(zmq_msg_t *raw, size_t n);

/* Make '*out' a frame with the content of m's frame i; bytes are shared when
 * that is cheaper than a copy.  '*out' is initialised on success only.
 */
int net_msg_share(struct msg *m, uint32_t i, zmq_msg_t *out);
/* Before the first net_msg_share of a message. */
void net_msg_prepare(struct msg *m);

void net_monitor_close(struct net_sock *self);

/* Fail with ZeroMQ's text for the current errno. */
int net_fail(rh_error *err, const char *what, const char *object);

#endif /* NET_PRIVATE_H */
