/* net.c - net.h over its two kinds of sockets; waiting; CURVE keys
 *
 * Which kind a socket is, is decided in net_open and nowhere else.
 */
#include <errno.h>
#include <poll.h>
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

bool
net_flush(struct net_sock *self)
{
    return self->ops->flush(self);
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

/* What is so already, and no descriptor tells of. */
static int
find_queued(struct net_pollitem *item, size_t n)
{
    int n_ready = 0;

    for (size_t i = 0; i < n; i++) {
        item[i].revents = 0;
        if (!item[i].sock || !net_is_level(item[i].sock))
            continue;
        net_flush(item[i].sock);
        if (item[i].events & NET_OUT)
            item[i].revents = net_events(item[i].sock) & item[i].events;
        else if (item[i].events & NET_IN && net_queued(item[i].sock))
            item[i].revents = NET_IN;
        n_ready += item[i].revents != 0;
    }
    return n_ready;
}

/* Descriptors say that a socket has something to do, not what. */
static void
take_result(struct net_pollitem *item, bool in, bool out, bool exact)
{
    if (!item->sock || exact)
        item->revents = (in ? NET_IN : 0) | (out ? NET_OUT : 0);
    else if (in && !item->revents)
        item->revents = net_events(item->sock) & item->events;
}

static bool
is_direct(const struct net_pollitem *item)
{
    return item->sock && net_is_level(item->sock);
}

/* With a socket of libzmq among them. */
static int
look_with_zmq(struct net_pollitem *item, size_t n, int timeout_ms)
{
    zmq_pollitem_t stack[N_STACK], *v = stack;
    int rc;

    if (n > N_STACK && !(v = mem_zalloc(n, sizeof(*v))))
        return RH_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        bool direct = is_direct(&item[i]);

        v[i] = (zmq_pollitem_t){
            .socket = zmq_sock_handle(item[i].sock),
            .fd = direct ? net_fd(item[i].sock) : item[i].fd,
            .events =
                (short)((item[i].events & NET_IN || direct ? ZMQ_POLLIN : 0)
                        | (item[i].events & NET_OUT && !direct ? ZMQ_POLLOUT
                                                               : 0)),
        };
    }
    rc = zmq_poll(v, (int)n, timeout_ms);
    if (rc < 0)
        rc = zmq_errno() == EINTR    ? RH_EINTR
             : zmq_errno() == ENOMEM ? RH_ENOMEM
                                     : RH_ENET;
    for (size_t i = 0; rc >= 0 && i < n; i++)
        // A hung-up descriptor counts as readable: reading tells why.
        take_result(&item[i], v[i].revents & (ZMQ_POLLIN | ZMQ_POLLERR),
                    v[i].revents & ZMQ_POLLOUT, v[i].socket);
    if (v != stack)
        mem_free(v);
    return rc;
}

static int
look_without_zmq(struct net_pollitem *item, size_t n, int timeout_ms)
{
    struct pollfd stack[N_STACK], *v = stack;
    int rc;

    if (n > N_STACK && !(v = mem_zalloc(n, sizeof(*v))))
        return RH_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        bool direct = is_direct(&item[i]);

        v[i].fd = direct ? net_fd(item[i].sock) : item[i].fd;
        v[i].events =
            (short)((item[i].events & NET_IN || direct ? POLLIN : 0)
                    | (item[i].events & NET_OUT && !direct ? POLLOUT : 0));
    }
    rc = poll(v, n, timeout_ms);
    if (rc < 0)
        rc = errno == EINTR ? RH_EINTR : errno == ENOMEM ? RH_ENOMEM : RH_ENET;
    for (size_t i = 0; rc >= 0 && i < n; i++)
        take_result(&item[i], v[i].revents & ~POLLOUT, v[i].revents & POLLOUT,
                    false);
    if (v != stack)
        mem_free(v);
    return rc;
}

/* One look, at most 'timeout_ms' long; *quiet: nothing at all happened. */
static int
look(struct net_pollitem *item, size_t n, int timeout_ms, bool *quiet)
{
    bool with_zmq = false;
    int rc, n_ready = 0;

    if (find_queued(item, n))
        timeout_ms = 0;
    for (size_t i = 0; i < n; i++)
        with_zmq |= item[i].sock && !is_direct(&item[i]);
    rc = with_zmq ? look_with_zmq(item, n, timeout_ms)
                  : look_without_zmq(item, n, timeout_ms);
    *quiet = rc == 0;
    for (size_t i = 0; rc >= 0 && i < n; i++)
        n_ready += item[i].revents != 0;
    return rc < 0 ? rc : n_ready;
}

int
net_poll(struct net_pollitem *item, size_t n, int timeout_ms)
{
    int64_t end_ms = timeout_ms > 0 ? clock_mono_ms() + timeout_ms : 0;
    int rc, left_ms = timeout_ms;
    bool quiet;

    // A connection that came, or output that left, is nobody's event; but
    // peers that do nothing else must not keep us beyond our time.
    while ((rc = look(item, n, left_ms, &quiet)) == 0 && !quiet && left_ms)
        if (timeout_ms > 0) {
            int64_t now_ms = clock_mono_ms();

            left_ms = end_ms > now_ms ? (int)(end_ms - now_ms) : 0;
        }
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
