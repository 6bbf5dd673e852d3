/* net.h - sockets; the only folder that includes <zmq.h>
 *
 * Large frames are shared by reference: a relay sends them on without copying.
 * A socket belongs to one thread, unless a lock of the caller's says otherwise.
 *
 * DEALER and ROUTER without CURVE are our own and live in the calls of their
 * owner: they connect, read and write when he polls or receives.  The others
 * are libzmq's.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <stdbool.h>

#include "wire/msg.h"

enum net_type { NET_ROUTER, NET_DEALER, NET_PUB, NET_XPUB, NET_SUB };
enum { NET_IN = 1, NET_OUT = 2 };

struct net_curve {
    bool server;
    char public_key[41], secret_key[41], server_key[41]; // Z85
};

/* Where the wire does not speak JSON: messages sent are packed as 'pack' says;
 * what is received is verified, unpacked as 'unpack' says, and signed again as
 * JSON.
 */
struct net_codec {
    const char *pack, *unpack;
    struct span key;
    const char *scheme;
};

struct net_options {
    struct span identity;          // n == 0: anonymous
    const struct net_curve *curve; // NULL: plain
    const struct net_codec *codec; // NULL: JSON, or no messages of ours
    int linger_ms;                 // -1: for ever
    int64_t max_msg_size;          // bytes per frame; 0: no limit
    uint32_t max_frames;           // per message; 0: NET_FRAMES_MAX
    bool mandatory; // ROUTER: say RH_ENOENT for an unconnected peer
    bool corked;    // what is sent may wait for net_flush
};

#define NET_FRAMES_MAX 262144

struct net_ctx;
struct net_sock;

int net_ctx_new(struct net_ctx **out, rh_error *err);
void net_ctx_free(struct net_ctx **self_p); // every socket must be closed

int net_open(struct net_sock **out, struct net_ctx *ctx, enum net_type type,
             const struct net_options *options, rh_error *err);
void net_close(struct net_sock **self_p);
/* How long closing may go on sending in the background; -1: for ever. */
void net_set_linger(struct net_sock *self, int linger_ms);
/* 'url' may end in ":0" or ":*": *port gets what the system chose. */
int net_bind(struct net_sock *self, const char *url, int *port, rh_error *err);
int net_connect(struct net_sock *self, const char *url, rh_error *err);
int net_subscribe(struct net_sock *self, struct span prefix, rh_error *err);
int net_set_verbose(struct net_sock *self); // XPUB: report every subscription

/* Next whole message, not parsed; RH_EAGAIN (without a text) if none waits.
 * One with more than 'max_frames' frames is read, dropped and reported as
 * RH_ELIMIT; RH_ENOMEM may drop one as well, and so do the failures of a
 * translation.
 */
int net_recv(struct net_sock *self, struct msg **out, rh_error *err);
/* Was one message dropped?  Otherwise the socket does not work any more. */
static inline bool
net_dropped(int rc)
{
    return rc == RH_ELIMIT || rc == RH_ENOMEM || rc == RH_EPROTO
           || rc == RH_EAUTH;
}

/* Send 'n_prefix' frames (copied), then m's frames from 'first' on (shared).
 * Never blocks: RH_EAGAIN (without a text) if there is no peer to queue it
 * for.  'm' may be NULL.  All or nothing: a failure has sent no frame.  A
 * ROUTER drops what is for a peer that is not connected; a mandatory one sends
 * nothing and says RH_ENOENT (without a text).
 */
int net_send(struct net_sock *self, const struct span *prefix, size_t n_prefix,
             struct msg *m, uint32_t first, rh_error *err);

/* Write what a corked socket holds back, and what could not be written before;
 * polling and closing do so as well.  False: a DEALER has something left.
 */
bool net_flush(struct net_sock *self);

/* Look, and say which of NET_IN | NET_OUT are true now. */
int net_events(struct net_sock *self);
/* A message is here that no descriptor tells of (any more). */
bool net_queued(struct net_sock *self);
int net_fd(struct net_sock *self); // to wait for; check net_events after
/* False: the descriptor is edge-triggered, and every call on the socket may use
 * up its signal.
 */
bool net_is_level(struct net_sock *self);

/* Hear of the socket's connections from now on (before net_connect); the
 * descriptor is edge-triggered: read until NET_SAME.
 */
enum net_change { NET_SAME, NET_UP, NET_LOST };
int net_monitor(struct net_sock *self, struct net_ctx *ctx, rh_error *err);
int net_monitor_fd(const struct net_sock *self);
enum net_change net_monitor_read(struct net_sock *self);

struct net_pollitem {
    struct net_sock *sock; // or NULL and
    int fd;
    int events, revents; // NET_IN | NET_OUT
};
/* Number of ready items, 0 on timeout (-1: none), RH_EINTR, RH_ENET.  Sockets
 * without events are kept going: they connect, write and fill their queue.
 */
int net_poll(struct net_pollitem *item, size_t n, int timeout_ms);

int net_curve_keypair(char public_key[41], char secret_key[41], rh_error *err);
int net_curve_public(char public_key[41], const char secret_key[41],
                     rh_error *err);
bool net_has_curve(void);

#endif /* NET_NET_H */
