/* zmq_sock.c - sockets of libzmq: sending and receiving
 *
 * Both directions pass a staging array that belongs to the socket, so that a
 * message is either taken or sent as a whole: everything that may fail
 * (memory) happens before the first frame is handed to ZeroMQ.
 *
 * Queues are unbounded on purpose (HWM 0, as upstream): back pressure in a
 * ROUTER would mean silently dropped replies.  Limits live in the cores, which
 * can refuse with an answer.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "net/zmq_sock.h"

#define STAGE_KEEP 1024 // frames

int
net_fail(rh_error *err, const char *what, const char *object)
{
    int e = zmq_errno();
    int code = e == ENOMEM                   ? RH_ENOMEM
               : e == ETERM || e == ENOTSOCK ? RH_ECLOSED
               : e == EINTR                  ? RH_EINTR
               : e == EINVAL                 ? RH_EINVAL
                                             : RH_ENET;

    return rh_fail(err, code, "%s %s: %s", what, object, zmq_strerror(e));
}

static int
set_int(struct zmq_sock *self, int option, int value)
{
    return zmq_setsockopt(self->zmq, option, &value, sizeof(value));
}

static int
set_key(struct zmq_sock *self, int option, const char *key, const char *name,
        rh_error *err)
{
    if (strnlen(key, 41) != 40)
        return rh_fail(err, RH_EINVAL,
                       "CURVE %s key is %zu characters long, not 40", name,
                       strnlen(key, 41));
    if (zmq_setsockopt(self->zmq, option, key, 41) < 0)
        return rh_fail(err, RH_EINVAL, "CURVE %s key is not usable: %s", name,
                       zmq_has("curve") ? zmq_strerror(zmq_errno())
                                        : "libzmq was built without CURVE");
    return 0;
}

static int
set_curve(struct zmq_sock *self, const struct net_curve *curve, rh_error *err)
{
    int rc;

    if (curve->server) {
        if (set_int(self, ZMQ_CURVE_SERVER, 1) < 0)
            return net_fail(err, "switching on", "CURVE");
        return set_key(self, ZMQ_CURVE_SECRETKEY, curve->secret_key, "secret",
                       err);
    }
    rc = set_key(self, ZMQ_CURVE_SERVERKEY, curve->server_key, "server", err);
    if (rc == 0)
        rc = set_key(self, ZMQ_CURVE_PUBLICKEY, curve->public_key, "public",
                     err);
    if (rc == 0)
        rc = set_key(self, ZMQ_CURVE_SECRETKEY, curve->secret_key, "secret",
                     err);
    return rc;
}

static int
set_options(struct zmq_sock *self, const struct net_options *options,
            rh_error *err)
{
    struct span id = options->identity;
    int64_t max = options->max_msg_size > 0 ? options->max_msg_size : -1;

    if (set_int(self, ZMQ_SNDHWM, 0) < 0 || set_int(self, ZMQ_RCVHWM, 0) < 0
        || set_int(self, ZMQ_LINGER, options->linger_ms) < 0
        || zmq_setsockopt(self->zmq, ZMQ_MAXMSGSIZE, &max, sizeof(max)) < 0)
        return net_fail(err, "setting options of", "a socket");
    if (id.n && zmq_setsockopt(self->zmq, ZMQ_ROUTING_ID, id.p, id.n) < 0)
        return rh_fail(err, RH_EINVAL,
                       "identity of %zu bytes: ZeroMQ takes 1 to 255", id.n);
    if (options->mandatory && set_int(self, ZMQ_ROUTER_MANDATORY, 1) < 0)
        return net_fail(err, "making a socket", "mandatory");
    if (options->curve)
        return set_curve(self, options->curve, err);
    return 0;
}

static void
zmq_sock_close(struct net_sock *sock)
{
    struct zmq_sock *self = zmq_sock_of(sock);

    if (self->monitor)
        zmq_sock_monitor_close(self);
    if (self->zmq)
        zmq_close(self->zmq);
    mem_free(self->in.v);
    mem_free(self->out.v);
    mem_free(self);
}

static void
zmq_sock_set_linger(struct net_sock *sock, int linger_ms)
{
    set_int(zmq_sock_of(sock), ZMQ_LINGER, linger_ms); // any int is valid
}

static bool
resolves(const char *host, int family)
{
    struct addrinfo hint = {.ai_family = family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;

    if (getaddrinfo(host, NULL, &hint, &found) != 0)
        return false;
    freeaddrinfo(found);
    return true;
}

/* ZeroMQ looks for IPv6 addresses first once IPv6 is on, and then misses a
 * "localhost" that listens on IPv4 only.  So it is switched on only where
 * nothing else will do.
 */
static bool
needs_ipv6(const char *url)
{
    char host[256];
    const char *p = strncmp(url, "tcp://", 6) == 0 ? url + 6 : NULL;
    const char *colon = p ? strrchr(p, ':') : NULL;
    size_t n = colon ? (size_t)(colon - p) : 0;

    if (n == 0 || n >= sizeof(host))
        return false;
    if (*p == '[')
        return true;
    memcpy(host, p, n);
    host[n] = '\0';
    if (strspn(host, "0123456789.*") == n || resolves(host, AF_INET))
        return false;
    return resolves(host, AF_INET6);
}

static int
zmq_sock_bind(struct net_sock *sock, const char *url, int *port, rh_error *err)
{
    struct zmq_sock *self = zmq_sock_of(sock);
    char endpoint[1024] = "";
    size_t n = sizeof(endpoint);
    const char *colon;

    if (set_int(self, ZMQ_IPV6, needs_ipv6(url)) < 0
        || zmq_bind(self->zmq, url) < 0)
        return net_fail(err, "binding", url);
    if (!port)
        return 0;
    *port = 0;
    if (strncmp(url, "tcp://", 6) != 0)
        return 0;
    if (zmq_getsockopt(self->zmq, ZMQ_LAST_ENDPOINT, endpoint, &n) < 0)
        return net_fail(err, "asking for the port of", url);
    colon = strrchr(endpoint, ':');
    *port = colon ? (int)strtol(colon + 1, NULL, 10) : 0;
    return 0;
}

static int
zmq_sock_connect(struct net_sock *sock, const char *url, rh_error *err)
{
    struct zmq_sock *self = zmq_sock_of(sock);

    if (set_int(self, ZMQ_IPV6, needs_ipv6(url)) < 0
        || zmq_connect(self->zmq, url) < 0)
        return net_fail(err, "connecting to", url);
    return 0;
}

/* Room for 'want' messages, of which the first 'n' are in use. */
static int
stage_grow(struct stage *self, size_t n, size_t want)
{
    size_t cap = self->cap ? self->cap : 16;
    zmq_msg_t *v;

    if (want <= self->cap)
        return 0;
    while (cap < want)
        cap *= 2;
    v = mem_zalloc(cap, sizeof(*v));
    if (!v)
        return RH_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        zmq_msg_init(&v[i]);
        zmq_msg_move(&v[i], &self->v[i]);
        zmq_msg_close(&self->v[i]);
    }
    mem_free(self->v);
    self->v = v;
    self->cap = cap;
    return 0;
}

/* Also gives back the memory that one very long message needed. */
static void
close_all(struct stage *self, size_t n)
{
    for (size_t i = 0; i < n; i++)
        zmq_msg_close(&self->v[i]);
    if (self->cap > STAGE_KEEP) {
        mem_free(self->v);
        *self = (struct stage){NULL, 0};
    }
}

/* One frame, however often a signal interrupts. */
static int
recv_frame(struct zmq_sock *self, zmq_msg_t *raw)
{
    int rc;

    do
        rc = zmq_msg_recv(raw, self->zmq, ZMQ_DONTWAIT);
    while (rc < 0 && zmq_errno() == EINTR);
    return rc;
}

/* Read the rest of a message that nobody will get. */
static void
skip_message(struct zmq_sock *self)
{
    zmq_msg_t raw;
    bool more = true;

    zmq_msg_init(&raw);
    while (more && recv_frame(self, &raw) >= 0)
        more = zmq_msg_more(&raw);
    zmq_msg_close(&raw);
}

/* The frames of one message into self->in; their number or a failure, with
 * nothing left behind.
 */
static int
recv_frames(struct zmq_sock *self, rh_error *err)
{
    uint32_t n = 0;
    bool more = true;

    while (more) {
        if (n == self->max_frames || stage_grow(&self->in, n, n + 1) < 0) {
            if (n)
                skip_message(self);
            close_all(&self->in, n);
            return n == self->max_frames
                       ? rh_fail(err, RH_ELIMIT,
                                 "dropped a message of more than %u frames", n)
                       : rh_fail(err, RH_ENOMEM, "receiving a message");
        }
        zmq_msg_init(&self->in.v[n]);
        if (recv_frame(self, &self->in.v[n]) < 0) {
            int e = zmq_errno();

            close_all(&self->in, n + 1);
            if (e == EAGAIN && n == 0)
                return RH_EAGAIN;
            errno = e;
            return net_fail(err, "receiving", "a message");
        }
        more = zmq_msg_more(&self->in.v[n]);
        n++;
    }
    return (int)n;
}

static int
zmq_sock_recv(struct net_sock *sock, struct msg **out, rh_error *err)
{
    struct zmq_sock *self = zmq_sock_of(sock);
    int n = recv_frames(self, err);
    struct msg *m;

    if (n < 0)
        return n;
    m = net_msg_new(self->in.v, (size_t)n);
    close_all(&self->in, (size_t)n);
    if (!m)
        return rh_fail(err, RH_ENOMEM, "receiving a message of %d frames", n);
    *out = m;
    return 0;
}

static int
stage_message(struct zmq_sock *self, const struct span *prefix, size_t n_prefix,
              struct msg *m, uint32_t first, size_t *n)
{
    size_t n_frames = m && m->n > first ? m->n - first : 0;

    *n = 0;
    if (stage_grow(&self->out, 0, n_prefix + n_frames) < 0)
        return RH_ENOMEM;
    for (size_t i = 0; i < n_prefix; i++, (*n)++) {
        zmq_msg_t *raw = &self->out.v[*n];

        if (zmq_msg_init_size(raw, prefix[i].n) < 0)
            return RH_ENOMEM;
        if (prefix[i].n)
            memcpy(zmq_msg_data(raw), prefix[i].p, prefix[i].n);
    }
    if (n_frames)
        net_msg_prepare(m);
    for (size_t i = 0; i < n_frames; i++, (*n)++)
        if (net_msg_share(m, first + (uint32_t)i, &self->out.v[*n]) < 0)
            return RH_ENOMEM;
    return 0;
}

static int
zmq_sock_send(struct net_sock *sock, const struct span *prefix, size_t n_prefix,
              struct msg *m, uint32_t first, rh_error *err)
{
    struct zmq_sock *self = zmq_sock_of(sock);
    size_t n;
    int rc = stage_message(self, prefix, n_prefix, m, first, &n);

    if (rc < 0) {
        close_all(&self->out, n);
        return rh_fail(err, rc, "sending a message");
    }
    for (size_t i = 0; i < n; i++) {
        int flags = i + 1 < n ? ZMQ_DONTWAIT | ZMQ_SNDMORE : ZMQ_DONTWAIT;

        do
            rc = zmq_msg_send(&self->out.v[i], self->zmq, flags);
        while (rc < 0 && zmq_errno() == EINTR);
        if (rc < 0) {
            int e = zmq_errno();

            // Only the first frame can be refused while the context lives.
            close_all(&self->out, n);
            if (e == EAGAIN || e == EHOSTUNREACH)
                return e == EAGAIN ? RH_EAGAIN : RH_ENOENT;
            errno = e;
            return net_fail(err, "sending", "a message");
        }
    }
    close_all(&self->out, n);
    return 0;
}

// ---------------------------------------------------------------------------
// Events

static int
zmq_sock_events(struct net_sock *sock)
{
    struct zmq_sock *self = zmq_sock_of(sock);
    int events = 0;
    size_t n = sizeof(events);

    while (zmq_getsockopt(self->zmq, ZMQ_EVENTS, &events, &n) < 0)
        if (zmq_errno() != EINTR)
            return 0;
    return (events & ZMQ_POLLIN ? NET_IN : 0)
           | (events & ZMQ_POLLOUT ? NET_OUT : 0);
}

static bool
zmq_sock_queued(struct net_sock *sock)
{
    return zmq_sock_events(sock) & NET_IN;
}

static bool
zmq_sock_flush(struct net_sock *sock)
{
    (void)sock; // libzmq sends at once, in the background
    return true;
}

static int
zmq_sock_fd(struct net_sock *sock)
{
    struct zmq_sock *self = zmq_sock_of(sock);
    int fd = -1;
    size_t n = sizeof(fd);

    if (zmq_getsockopt(self->zmq, ZMQ_FD, &fd, &n) < 0)
        return RH_ENET;
    return fd;
}

// ---------------------------------------------------------------------------
// Life

static const struct net_ops zmq_ops = {
    .close = zmq_sock_close,
    .set_linger = zmq_sock_set_linger,
    .bind = zmq_sock_bind,
    .connect = zmq_sock_connect,
    .recv = zmq_sock_recv,
    .send = zmq_sock_send,
    .flush = zmq_sock_flush,
    .queued = zmq_sock_queued,
    .events = zmq_sock_events,
    .fd = zmq_sock_fd,
    .monitor = zmq_sock_monitor,
    .monitor_fd = zmq_sock_monitor_fd,
    .monitor_read = zmq_sock_monitor_read,
};

void *
zmq_sock_handle(struct net_sock *sock)
{
    return sock && sock->ops == &zmq_ops ? zmq_sock_of(sock)->zmq : NULL;
}

int
zmq_sock_open(struct net_sock **out, struct net_ctx *ctx, enum net_type type,
              const struct net_options *options, rh_error *err)
{
    static const int types[] = {
        [NET_ROUTER] = ZMQ_ROUTER, [NET_DEALER] = ZMQ_DEALER,
        [NET_PUB] = ZMQ_PUB,       [NET_XPUB] = ZMQ_XPUB,
        [NET_SUB] = ZMQ_SUB,
    };
    struct zmq_sock *self = mem_zalloc(1, sizeof(*self));
    int rc;

    if (!self)
        return rh_fail(err, RH_ENOMEM, "opening a socket");
    self->base.ops = &zmq_ops;
    self->max_frames = options->max_frames;
    self->zmq = zmq_socket(ctx->zmq, types[type]);
    rc = self->zmq ? set_options(self, options, err)
                   : net_fail(err, "opening", "a socket");
    if (rc < 0)
        zmq_sock_close(&self->base);
    else
        *out = &self->base;
    return rc;
}
