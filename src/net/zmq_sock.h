/* zmq_sock.h - what the files around libzmq share; no others include <zmq.h>
 *
 * (But net.c: for contexts and for polling a mixture of sockets.)
 */
#ifndef NET_ZMQ_SOCK_H
#define NET_ZMQ_SOCK_H

#include <zmq.h>

#include "net/private.h"

/* Frames on their way in or out.  zmq_msg_t must not be copied as bytes, so
 * growing moves them one by one; 'v' holds only initialised messages below
 * the count its user keeps.
 */
struct stage {
    zmq_msg_t *v;
    size_t cap;
};

struct zmq_sock {
    struct net_sock base;
    void *zmq;
    void *monitor; // PAIR that gets the events, or NULL
    struct stage in, out;
    uint32_t max_frames;
};

static inline struct zmq_sock *
zmq_sock_of(struct net_sock *sock)
{
    return (struct zmq_sock *)(void *)sock;
}

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

int zmq_sock_monitor(struct net_sock *sock, struct net_ctx *ctx, rh_error *err);
int zmq_sock_monitor_fd(const struct net_sock *sock);
enum net_change zmq_sock_monitor_read(struct net_sock *sock);
void zmq_sock_monitor_close(struct zmq_sock *self);

/* Fail with ZeroMQ's text for the current errno. */
int net_fail(rh_error *err, const char *what, const char *object);

#endif /* NET_ZMQ_SOCK_H */
