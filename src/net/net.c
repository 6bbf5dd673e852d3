/* net.c - net.h over its two kinds of sockets; waiting; CURVE keys
 *
 * Which kind a socket is, is decided in net_open and nowhere else.
 */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/zmq_sock.h"

#define N_STACK 16

int
net_ctx_new(struct net_ctx **out, rh_error *err)
{
    struct net_ctx *self = mem_zalloc(1, sizeof(*self));

    if (!self)
        return rh_fail(err, RH_ENOMEM, "creating a network context");
    self->zmq = zmq_ctx_new();
    if (!self->zmq) {
        mem_free(self);
        return net_fail(err, "creating", "a network context");
    }
    *out = self;
    return 0;
}

void
net_ctx_free(struct net_ctx **self_p)
{
    struct net_ctx *self = *self_p;

    if (!self)
        return;
    while (zmq_ctx_term(self->zmq) < 0 && zmq_errno() == EINTR)
        ;
    mem_free(self);
    *self_p = NULL;
}

int
net_open(struct net_sock **out, struct net_ctx *ctx, enum net_type type,
         const struct net_options *options, rh_error *err)
{
    struct net_options o = *options;
    bool direct = (type == NET_DEALER || type == NET_ROUTER) && !o.curve;
    struct codec *codec = NULL;
    int rc = o.codec ? codec_new(&codec, o.codec, err) : 0;

    if (o.max_frames == 0 || o.max_frames > NET_FRAMES_MAX)
        o.max_frames = NET_FRAMES_MAX;
    if (rc == 0)
        rc = direct ? direct_open(out, type, &o, err)
                    : zmq_sock_open(out, ctx, type, &o, err);
    if (rc == 0)
        (*out)->codec = codec;
    else
        codec_free(&codec);
    return rc;
}

void
net_close(struct net_sock **self_p)
{
    if (!*self_p)
        return;
    codec_free(&(*self_p)->codec);
    (*self_p)->ops->close(*self_p);
    *self_p = NULL;
}

void
net_set_linger(struct net_sock *self, int linger_ms)
{
    self->ops->set_linger(self, linger_ms);
}

int
net_bind(struct net_sock *self, const char *url, int *port, rh_error *err)
{
    return self->ops->bind(self, url, port, err);
}

int
net_connect(struct net_sock *self, const char *url, rh_error *err)
{
    return self->ops->connect(self, url, err);
}

int
net_subscribe(struct net_sock *self, struct span prefix, rh_error *err)
{
    void *zmq = zmq_sock_handle(self);

    if (!zmq)
        return rh_fail(err, RH_EINVAL, "only a SUB socket can subscribe");
    if (zmq_setsockopt(zmq, ZMQ_SUBSCRIBE, prefix.n ? prefix.p : NULL, prefix.n)
        < 0)
        return net_fail(err, "subscribing", "a socket");
    return 0;
}

int
net_set_verbose(struct net_sock *self)
{
    void *zmq = zmq_sock_handle(self);
    int one = 1;

    return zmq && zmq_setsockopt(zmq, ZMQ_XPUB_VERBOSE, &one, sizeof(one)) == 0
               ? 0
               : RH_EINVAL;
}

int
net_recv(struct net_sock *self, struct msg **out, rh_error *err)
{
    struct msg *m = NULL;
    int rc = self->ops->recv(self, &m, err);

    if (rc == 0 && self->codec)
        rc = codec_in(self->codec, &m, err);
    if (rc == 0)
        *out = m;
    else
        msg_unref(&m);
    return rc;
}

int
net_send(struct net_sock *self, const struct span *prefix, size_t n_prefix,
         struct msg *m, uint32_t first, rh_error *err)
{
    struct msg *packed = NULL;
    int rc;

    if (!self->codec || !m || m->i_delim == MSG_NO_DELIM)
        return self->ops->send(self, prefix, n_prefix, m, first, err);
    rc = codec_out(self->codec, m, &packed, err);
    if (rc == 0)
        rc = self->ops->send(self, prefix, n_prefix, packed, first, err);
    msg_unref(&packed);
    return rc;
}

void
net_flush(struct net_sock *self)
{
    self->ops->flush(self);
}

bool
net_queued(struct net_sock *self)
{
    return self->ops->queued(self);
}

int
net_events(struct net_sock *self)
{
    return self->ops->events(self);
}

int
net_fd(struct net_sock *self)
{
    return self->ops->fd(self);
}

bool
net_is_level(struct net_sock *self)
{
    return !zmq_sock_handle(self);
}

int
net_monitor(struct net_sock *self, struct net_ctx *ctx, rh_error *err)
{
    return self->ops->monitor(self, ctx, err);
}

int
net_monitor_fd(const struct net_sock *self)
{
    return self->ops->monitor_fd(self);
}

enum net_change
net_monitor_read(struct net_sock *self)
{
    return self->ops->monitor_read(self);
}

/* Messages that are here already, which no descriptor tells of. */
static int
find_queued(struct net_pollitem *item, size_t n)
{
    int n_ready = 0;

    for (size_t i = 0; i < n; i++) {
        item[i].revents = 0;
        if (!item[i].sock || !net_is_level(item[i].sock))
            continue;
        net_flush(item[i].sock);
        if (item[i].events & NET_IN && net_queued(item[i].sock)) {
            item[i].revents = NET_IN;
            n_ready++;
        }
    }
    return n_ready;
}

static zmq_pollitem_t
zmq_item(const struct net_pollitem *item)
{
    void *zmq = zmq_sock_handle(item->sock);
    bool direct = item->sock && !zmq;
    short events = (short)((item->events & NET_IN ? ZMQ_POLLIN : 0)
                           | (item->events & NET_OUT ? ZMQ_POLLOUT : 0));

    return (zmq_pollitem_t){
        .socket = zmq,
        .fd = direct       ? net_fd(item->sock)
              : item->sock ? 0
                           : item->fd,
        .events = direct ? ZMQ_POLLIN : events,
    };
}

/* Descriptors say that a socket has something to do, not what. */
static bool
take_result(struct net_pollitem *item, const zmq_pollitem_t *got)
{
    // A hung-up descriptor counts as readable: reading tells why.
    item->revents |= (got->revents & (ZMQ_POLLIN | ZMQ_POLLERR) ? NET_IN : 0)
                     | (got->revents & ZMQ_POLLOUT ? NET_OUT : 0);
    if (item->revents && item->sock && !got->socket)
        item->revents = net_events(item->sock) & item->events;
    return item->revents;
}

/* One look, at most 'timeout_ms' long; *quiet: nothing at all happened. */
static int
look(struct net_pollitem *item, zmq_pollitem_t *v, size_t n, int timeout_ms,
     bool *quiet)
{
    int rc = zmq_poll(v, (int)n, find_queued(item, n) ? 0 : timeout_ms);
    int n_ready = 0;

    *quiet = rc == 0;
    if (rc < 0)
        return zmq_errno() == EINTR    ? RH_EINTR
               : zmq_errno() == ENOMEM ? RH_ENOMEM
                                       : RH_ENET;
    for (size_t i = 0; i < n; i++)
        n_ready += take_result(&item[i], &v[i]);
    return n_ready;
}

int
net_poll(struct net_pollitem *item, size_t n, int timeout_ms)
{
    zmq_pollitem_t stack[N_STACK], *v = stack;
    int64_t end_ms = timeout_ms > 0 ? clock_mono_ms() + timeout_ms : 0;
    int rc, left_ms = timeout_ms;
    bool quiet;

    if (n > N_STACK && !(v = mem_zalloc(n, sizeof(*v))))
        return RH_ENOMEM;
    for (size_t i = 0; i < n; i++)
        v[i] = zmq_item(&item[i]);
    // A connection that came, or output that left, is nobody's event.
    while ((rc = look(item, v, n, left_ms, &quiet)) == 0 && !quiet)
        if (timeout_ms > 0) {
            int64_t now_ms = clock_mono_ms();

            left_ms = end_ms > now_ms ? (int)(end_ms - now_ms) : 0;
        }
    if (v != stack)
        mem_free(v);
    return rc;
}

int
net_curve_keypair(char public_key[41], char secret_key[41], rh_error *err)
{
    if (zmq_curve_keypair(public_key, secret_key) < 0)
        return net_fail(err, "making", "a CURVE key pair");
    return 0;
}

int
net_curve_public(char public_key[41], const char secret_key[41], rh_error *err)
{
    if (zmq_curve_public(public_key, secret_key) < 0)
        return net_fail(err, "deriving", "a CURVE public key");
    return 0;
}

bool
net_has_curve(void)
{
    return zmq_has("curve");
}
