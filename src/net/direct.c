/* direct.c - DEALER and ROUTER sockets that are driven by their owner's thread
 *
 * libzmq moves every message through a thread of its own: two more wake-ups
 * and two more system calls each way.  Here the thread that wants a message
 * reads the connection itself, and what it sends in one round goes out in one
 * system call (docs/decisions/010-direct-sockets.md).
 *
 * A socket is an epoll set of listeners, connections and one timer; its
 * descriptor can be polled like any other, and is level-triggered.  Nothing
 * happens between two calls: the owner has to poll and receive.
 */
#include "net/direct.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/uuid.h"

#define PAUSE_MS 100     // without descriptors for new connections
#define CORK_MAX 32768   // bytes that may wait for net_flush
#define RING_KEEP 1024   // places for messages that outlive a burst
#define COMPLAIN_MS 1000 // between two log lines of a socket
#define BACKLOG 1024
#define N_EVENTS 64

static struct direct *
direct_of(struct net_sock *sock)
{
    return (struct direct *)(void *)sock;
}

// ---------------------------------------------------------------------------
// For conn.c

int
direct_push(struct direct *self, struct msg *m)
{
    if (self->ring_n == self->ring_cap) {
        size_t cap = self->ring_cap ? 2 * self->ring_cap : 64;
        struct msg **ring = mem_zalloc(cap, sizeof(struct msg *));

        if (!ring)
            return RH_ENOMEM;
        for (size_t i = 0; i < self->ring_n; i++)
            ring[i] = self->ring[(self->ring_at + i) % self->ring_cap];
        mem_free(self->ring);
        self->ring = ring;
        self->ring_at = 0;
        self->ring_cap = cap;
    }
    self->ring[(self->ring_at + self->ring_n++) % self->ring_cap] = m;
    return 0;
}

static struct msg *
pop(struct direct *self)
{
    struct msg *m = self->ring[self->ring_at];

    self->ring_at = (self->ring_at + 1) % self->ring_cap;
    self->ring_n--;
    if (self->ring_n == 0 && self->ring_cap > RING_KEEP) {
        mem_free(self->ring);
        self->ring = NULL;
        self->ring_at = self->ring_cap = 0;
    }
    return m;
}

void
direct_set_timer(struct direct *self)
{
    int64_t at_ms = self->paused ? self->pause_end_ms : INT64_MAX;
    struct itimerspec when = {.it_value = {0}}; // never

    if (!list_empty(&self->due)) {
        const struct conn *c = LIST_ENTRY(self->due.next, struct conn, due);

        at_ms = c->due_ms < at_ms ? c->due_ms : at_ms;
    }
    if (at_ms != INT64_MAX)
        when.it_value =
            (struct timespec){at_ms / 1000, at_ms % 1000 * 1000000 + 1};
    timerfd_settime(self->timer.fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void
direct_tell_change(struct direct *self, bool up)
{
    uint64_t one = 1;

    if (self->monitor_fd < 0)
        return;
    if (self->n_changes++ == 0)
        self->next_is_up = up;
    // Fails only when the counter is full, and then it is readable anyway.
    if (write(self->monitor_fd, &one, sizeof(one)) < 0)
        return;
}

bool
direct_may_complain(struct direct *self)
{
    int64_t now_ms = clock_mono_ms();

    if (now_ms < self->complain_at_ms)
        return false;
    self->complain_at_ms = now_ms + COMPLAIN_MS;
    return true;
}

// ---------------------------------------------------------------------------
// Events

static void
listen_again(struct direct *self, bool on)
{
    for (size_t i = 0; i < self->n_listeners; i++) {
        struct source *source = &self->listener[i].source;
        struct epoll_event event = {.events = on ? EPOLLIN : 0u,
                                    .data.ptr = source};

        // Changing an entry needs no memory: it cannot fail.
        epoll_ctl(self->epoll_fd, EPOLL_CTL_MOD, source->fd, &event);
    }
}

/* Out of descriptors: without a pause the listener would wake us for ever. */
static void
pause_listening(struct direct *self, const char *why)
{
    if (direct_may_complain(self))
        log_warn("cannot take a new connection: %s; trying again every %d ms",
                 why, PAUSE_MS);
    self->paused = true;
    self->pause_end_ms = clock_mono_ms() + PAUSE_MS;
    listen_again(self, false);
    direct_set_timer(self);
}

static void
accept_all(struct direct *self, const struct source *listener)
{
    for (int i = 0; i < N_EVENTS; i++) {
        int fd =
            accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            conn_accept(self, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM
            || errno == ENOBUFS)
            pause_listening(self, strerror(errno));
        return;
    }
}

static void
on_timer(struct direct *self)
{
    int64_t now_ms = clock_mono_ms();
    uint64_t count;

    if (read(self->timer.fd, &count, sizeof(count)) < 0)
        return;
    if (self->paused && self->pause_end_ms <= now_ms) {
        self->paused = false;
        listen_again(self, true);
    }
    while (!list_empty(&self->due)) {
        struct conn *c = LIST_ENTRY(self->due.next, struct conn, due);

        if (c->due_ms > now_ms)
            break;
        conn_on_time(c);
    }
    direct_set_timer(self);
}

/* The only connection of a DEALER that has nothing to do but read. */
static struct conn *
lone_reader(const struct direct *self)
{
    struct conn *c = LIST_ENTRY(self->conns.next, struct conn, link);

    return self->url && !list_empty(&self->conns) && c->phase == CONN_UP
                   && !c->wants_out
               ? c
               : NULL;
}

/* Read, write, accept, reconnect: all that can be done now. */
static void
serve(struct direct *self)
{
    struct epoll_event event[N_EVENTS];
    struct conn *lone = lone_reader(self);
    bool timer = false;
    int n;

    if (lone) { // as most are, most of the time
        conn_on_events(lone, EPOLLIN);
        return;
    }
    n = epoll_wait(self->epoll_fd, event, N_EVENTS, 0);

    for (int i = 0; i < n; i++) {
        struct source *source = event[i].data.ptr;

        switch (source->kind) {
        case SOURCE_LISTENER:
            accept_all(self, source);
            break;
        case SOURCE_CONN:
            conn_on_events((struct conn *)(void *)source, event[i].events);
            break;
        case SOURCE_TIMER:
            timer = true;
            break;
        }
    }
    // ORDER: it may free connections that the events above are about.
    if (timer)
        on_timer(self);
}

// ---------------------------------------------------------------------------
// Messages

static int
take(struct direct *self, struct msg **out, rh_error *err)
{
    int code = self->dropped;

    if (!code && self->ring_n) {
        *out = pop(self);
        return 0;
    }
    self->dropped = 0;
    if (code == RH_ELIMIT)
        return rh_fail(err, code, "dropped a message of more than %u frames",
                       self->max_frames);
    if (code < 0)
        return rh_fail(err, code, "receiving a message");
    return RH_EAGAIN;
}

/* What one look has brought, then RH_EAGAIN: if there is more, the descriptor
 * says so.
 */
static int
direct_recv(struct net_sock *sock, struct msg **out, rh_error *err)
{
    struct direct *self = direct_of(sock);
    int rc = take(self, out, err);

    if (rc == RH_EAGAIN && !self->served) {
        serve(self);
        rc = take(self, out, err);
        self->served = rc == 0;
    } else if (rc == RH_EAGAIN) {
        self->served = false;
    }
    return rc;
}

/* The connection for a message, and how many of its frames that took. */
static struct conn *
route(struct direct *self, const struct span *prefix, size_t n_prefix,
      const struct msg *m, uint32_t first)
{
    if (self->type == NET_ROUTER) {
        if (n_prefix)
            return map_get(&self->names, prefix[0]);
        return m && m->n > first ? map_get(&self->names, m->frame[first])
                                 : NULL;
    }
    for (struct list *i = self->conns.next; i != &self->conns; i = i->next) {
        struct conn *c = LIST_ENTRY(i, struct conn, link);

        if (c->outgoing || c->phase == CONN_UP)
            return c;
    }
    return NULL;
}

static int
direct_send(struct net_sock *sock, const struct span *prefix, size_t n_prefix,
            struct msg *m, uint32_t first, rh_error *err)
{
    struct direct *self = direct_of(sock);
    struct conn *c = route(self, prefix, n_prefix, m, first);
    int rc;

    if (!c && self->type == NET_ROUTER)
        return self->mandatory ? RH_ENOENT : 0;
    if (!c)
        return RH_EAGAIN;
    if (self->type == NET_ROUTER && n_prefix) {
        prefix++;
        n_prefix--;
    } else if (self->type == NET_ROUTER) {
        first++;
    }
    rc = outflow_add(&c->out, prefix, n_prefix, m, first);
    if (rc < 0)
        return rh_fail(err, rc, "sending a message");
    if (c->wants_out)
        return 0; // the kernel will say when
    if (!self->corked || c->out.n_bytes > CORK_MAX) {
        conn_write(c);
    } else if (list_empty(&c->dirty)) {
        list_append(&self->dirty, &c->dirty);
    }
    return 0;
}

static bool
direct_flush(struct net_sock *sock)
{
    struct direct *self = direct_of(sock);
    struct conn *c;

    while (!list_empty(&self->dirty))
        conn_write(LIST_ENTRY(self->dirty.next, struct conn, dirty));
    // A DEALER's only connection; those of a ROUTER are left to its events.
    c = self->type == NET_DEALER ? route(self, NULL, 0, NULL, 0) : NULL;
    if (!c || outflow_empty(&c->out))
        return true;
    conn_write(c);
    return outflow_empty(&c->out);
}

static bool
direct_queued(struct net_sock *sock)
{
    const struct direct *self = direct_of(sock);

    return self->ring_n || self->dropped;
}

static int
direct_events(struct net_sock *sock)
{
    struct direct *self = direct_of(sock);

    serve(self);
    return (direct_queued(sock) ? NET_IN : 0)
           | (self->type == NET_ROUTER || route(self, NULL, 0, NULL, 0)
                  ? NET_OUT
                  : 0);
}

static int
direct_fd(struct net_sock *sock)
{
    return direct_of(sock)->epoll_fd;
}

// ---------------------------------------------------------------------------
// Connections

static int
start_listening(struct direct *self, struct listener *l,
                const struct address *at)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &l->source};
    int on = 1;

    l->source.fd =
        socket(at->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->source.fd < 0)
        return -1;
    if (at->sa.sa_family == AF_UNIX && at->local.sun_path[0]) {
        unlink(at->local.sun_path); // left behind by a dead process
        l->path = mem_strdup(at->local.sun_path);
    } else if (at->sa.sa_family != AF_UNIX
               && setsockopt(l->source.fd, SOL_SOCKET, SO_REUSEADDR, &on,
                             sizeof(on))
                      < 0) {
        return -1;
    }
    if (bind(l->source.fd, &at->sa, at->n) < 0
        || listen(l->source.fd, BACKLOG) < 0)
        return -1;
    return epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, l->source.fd, &event);
}

static void
stop_listening(struct listener *l)
{
    if (l->source.fd >= 0)
        close(l->source.fd);
    if (l->path)
        unlink(l->path);
    mem_free(l->path);
    *l = (struct listener){{SOURCE_LISTENER, -1}, NULL};
}

static int
port_of(int fd)
{
    struct address at = {.n = sizeof(at.any)};

    return getsockname(fd, &at.sa, &at.n) < 0 ? 0 : (int)url_port(&at);
}

/* 0, or -1 with errno. */
static int
add_listener(struct direct *self, const struct address *at)
{
    struct listener *l = &self->listener[self->n_listeners];
    int e;

    if (self->n_listeners == N_LISTENERS) {
        errno = ENOSPC;
        return -1;
    }
    *l = (struct listener){{SOURCE_LISTENER, -1}, NULL};
    if (start_listening(self, l, at) == 0) {
        self->n_listeners++;
        return 0;
    }
    e = errno;
    stop_listening(l);
    errno = e;
    return -1;
}

static int
direct_bind(struct net_sock *sock, const char *url, int *port, rh_error *err)
{
    struct direct *self = direct_of(sock);
    struct address at;
    int got, rc = url_resolve(url, true, &at, err);

    if (rc < 0)
        return rc;
    if (self->url)
        return rh_fail(err, RH_ESTATE, "binding %s: connected to %s already",
                       url, self->url);
    if (add_listener(self, &at) < 0)
        return rh_fail(err, RH_ENET, "binding %s: %s", url, strerror(errno));
    got = port_of(self->listener[self->n_listeners - 1].source.fd);
    if (port)
        *port = got;
    // Peers that do not find it use TCP.
    if (local_address(self->local, (unsigned)got, &at)
        && add_listener(self, &at) < 0)
        log_debug("no local address for port %d: %s", got, strerror(errno));
    return 0;
}

static int
direct_connect(struct net_sock *sock, const char *url, rh_error *err)
{
    struct direct *self = direct_of(sock);
    struct address to;
    struct conn *c;
    int rc = url_resolve(url, false, &to, err);

    if (rc == RH_EINVAL)
        return rc;
    // A name that is not known yet may be later.
    if (self->url || self->n_listeners || self->type != NET_DEALER)
        return rh_fail(err, RH_ESTATE,
                       "connecting to %s: only a DEALER may, once, and if it "
                       "is not bound",
                       url);
    self->url = mem_strdup(url);
    c = self->url ? conn_new(self) : NULL;
    if (!c) {
        mem_free(self->url);
        self->url = NULL;
        return rh_fail(err, RH_ENOMEM, "connecting to %s", url);
    }
    c->outgoing = true;
    conn_connect(c);
    return 0;
}

static int
direct_monitor(struct net_sock *sock, struct net_ctx *ctx, rh_error *err)
{
    struct direct *self = direct_of(sock);

    (void)ctx;
    self->monitor_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->monitor_fd < 0)
        return rh_fail(err, RH_ENET, "monitoring a socket: %s",
                       strerror(errno));
    return 0;
}

static int
direct_monitor_fd(const struct net_sock *sock)
{
    return ((const struct direct *)(const void *)sock)->monitor_fd;
}

static enum net_change
direct_monitor_read(struct net_sock *sock)
{
    struct direct *self = direct_of(sock);
    uint64_t count;
    bool up = self->next_is_up;

    if (self->n_changes == 0) {
        if (self->monitor_fd >= 0
            && read(self->monitor_fd, &count, sizeof(count)) < 0)
            return NET_SAME; // was drained before
        return NET_SAME;
    }
    self->n_changes--;
    self->next_is_up = !up;
    return up ? NET_UP : NET_LOST;
}

// ---------------------------------------------------------------------------
// Life

static void
direct_set_linger(struct net_sock *sock, int linger_ms)
{
    direct_of(sock)->linger_ms = linger_ms;
}

static bool
has_output(struct direct *self)
{
    for (struct list *i = self->conns.next; i != &self->conns; i = i->next)
        if (!outflow_empty(&LIST_ENTRY(i, struct conn, link)->out))
            return true;
    return false;
}

/* Give what was sent a chance to leave. */
static void
linger(struct direct *self)
{
    int64_t end_ms = clock_mono_ms() + self->linger_ms;

    direct_flush(&self->base);
    while (has_output(self)) {
        struct pollfd fd = {.fd = self->epoll_fd, .events = POLLIN};
        int64_t left_ms = end_ms - clock_mono_ms();

        if (self->linger_ms >= 0 && left_ms <= 0)
            return;
        (void)poll(&fd, 1, self->linger_ms < 0 ? -1 : (int)left_ms);
        serve(self);
        while (self->ring_n) { // nobody will read them
            struct msg *m = pop(self);

            msg_unref(&m);
        }
    }
}

static void
direct_close(struct net_sock *sock)
{
    struct direct *self = direct_of(sock);

    if (self->epoll_fd >= 0)
        linger(self);
    while (!list_empty(&self->conns))
        conn_free(LIST_ENTRY(self->conns.next, struct conn, link));
    for (size_t i = 0; i < self->n_listeners; i++)
        stop_listening(&self->listener[i]);
    while (self->ring_n) {
        struct msg *m = pop(self);

        msg_unref(&m);
    }
    if (self->timer.fd >= 0)
        close(self->timer.fd);
    if (self->monitor_fd >= 0)
        close(self->monitor_fd);
    if (self->epoll_fd >= 0)
        close(self->epoll_fd);
    map_fini(&self->names);
    mem_free(self->ring);
    mem_free(self->scratch);
    mem_free(self->url);
    mem_free(self);
}

static int
open_descriptors(struct direct *self)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &self->timer};

    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    self->timer.fd =
        timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (self->epoll_fd < 0 || self->timer.fd < 0)
        return -1;
    return epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, self->timer.fd, &event);
}

static const struct net_ops direct_ops = {
    .close = direct_close,
    .set_linger = direct_set_linger,
    .bind = direct_bind,
    .connect = direct_connect,
    .recv = direct_recv,
    .send = direct_send,
    .flush = direct_flush,
    .queued = direct_queued,
    .events = direct_events,
    .fd = direct_fd,
    .monitor = direct_monitor,
    .monitor_fd = direct_monitor_fd,
    .monitor_read = direct_monitor_read,
};

int
direct_open(struct net_sock **out, enum net_type type,
            const struct net_options *options, rh_error *err)
{
    struct direct *self;
    int rc = 0;

    if (options->identity.n > 255)
        return rh_fail(err, RH_EINVAL,
                       "identity of %zu bytes: ZeroMQ takes 1 to 255",
                       options->identity.n);
    self = mem_zalloc(1, sizeof(*self));
    if (!self)
        return rh_fail(err, RH_ENOMEM, "opening a socket");
    self->base.ops = &direct_ops;
    self->type = type;
    self->mandatory = options->mandatory;
    self->corked = options->corked;
    self->linger_ms = options->linger_ms;
    self->max_size = options->max_msg_size;
    self->max_frames = options->max_frames;
    self->n_identity = (uint8_t)options->identity.n;
    if (self->n_identity)
        memcpy(self->identity, options->identity.p, self->n_identity);
    local_secret(options->codec, self->local);
    self->timer = (struct source){SOURCE_TIMER, -1};
    self->epoll_fd = self->monitor_fd = -1;
    list_init(&self->conns);
    list_init(&self->dirty);
    list_init(&self->due);
    self->scratch = mem_alloc(INFLOW_SCRATCH);
    if (!self->scratch)
        rc = rh_fail(err, RH_ENOMEM, "opening a socket");
    else if (random_bytes(&self->next_name, 4) < 0
             || open_descriptors(self) < 0)
        rc = rh_fail(err, RH_ENET, "opening a socket: %s", strerror(errno));
    if (rc < 0) {
        direct_close(&self->base);
        return rc;
    }
    *out = &self->base;
    return 0;
}
