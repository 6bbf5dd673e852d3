/* private.h - what the files of net/ share; nobody else includes it
 *
 * Two kinds of sockets stand behind net.h: DEALER and ROUTER without CURVE are
 * our own (direct.c), everything else is libzmq's (zmq_*.c).
 */
#ifndef NET_PRIVATE_H
#define NET_PRIVATE_H

#include "net/net.h"

struct net_ctx {
    void *zmq;
};

struct net_sock {
    const struct net_ops *ops;
    struct codec *codec; // NULL: the wire speaks JSON
};

/* As net.h has the functions of these names. */
struct net_ops {
    void (*close)(struct net_sock *self);
    void (*set_linger)(struct net_sock *self, int linger_ms);
    int (*bind)(struct net_sock *self, const char *url, int *port,
                rh_error *err);
    int (*connect)(struct net_sock *self, const char *url, rh_error *err);
    int (*recv)(struct net_sock *self, struct msg **out, rh_error *err);
    int (*send)(struct net_sock *self, const struct span *prefix,
                size_t n_prefix, struct msg *m, uint32_t first, rh_error *err);
    bool (*flush)(struct net_sock *self);
    bool (*queued)(struct net_sock *self);
    int (*events)(struct net_sock *self);
    int (*fd)(struct net_sock *self);
    int (*monitor)(struct net_sock *self, struct net_ctx *ctx, rh_error *err);
    int (*monitor_fd)(const struct net_sock *self);
    enum net_change (*monitor_read)(struct net_sock *self);
};

/* codec.c; '*out' stays NULL where JSON is spoken. */
int codec_new(struct codec **out, const struct net_codec *what, rh_error *err);
void codec_free(struct codec **self_p);
/* Replace '*m' by what it says in JSON. */
int codec_in(struct codec *self, struct msg **m, rh_error *err);
/* '*out': 'm' as the wire wants it. */
int codec_out(struct codec *self, struct msg *m, struct msg **out,
              rh_error *err);

int direct_open(struct net_sock **out, enum net_type type,
                const struct net_options *options, rh_error *err);
int zmq_sock_open(struct net_sock **out, struct net_ctx *ctx,
                  enum net_type type, const struct net_options *options,
                  rh_error *err);
/* libzmq's own handle; NULL: the socket is not one of libzmq's. */
void *zmq_sock_handle(struct net_sock *sock);

#endif /* NET_PRIVATE_H */
