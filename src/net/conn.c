/* conn.c - one connection of a direct socket, from handshake to end
 *
 *     IDLE -> CONNECTING -> GREETING -> UP -> IDLE     (outgoing)
 *                           GREETING -> UP -> freed    (accepted)
 *
 * A connection in CONNECTING or GREETING, and an outgoing one in IDLE, has a
 * time limit in sock->due.  Messages are written in UP only.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/direct.h"

#define RETRY_MS 100       // between two tries to connect
#define HANDSHAKE_MS 30000 // patience with a peer that says nothing
#define READS_MAX 16       // in a row, before others have their turn

struct conn *
conn_new(struct direct *sock)
{
    struct conn *self = mem_zalloc(1, sizeof(*self));

    if (!self)
        return NULL;
    self->source = (struct source){SOURCE_CONN, -1};
    self->sock = sock;
    list_init(&self->dirty);
    list_init(&self->due);
    inflow_init(&self->in, sock->max_frames, sock->max_size);
    outflow_init(&self->out);
    list_append(&sock->conns, &self->link);
    return self;
}

static struct span
name_of(const struct conn *self)
{
    return span_of(self->name, self->n_name);
}

static void
hang_up(struct conn *self)
{
    struct direct *sock = self->sock;

    if (self->source.fd >= 0) {
        // A forked child may hold it too: closing alone would not remove it
        // or tell the peer.
        epoll_ctl(sock->epoll_fd, EPOLL_CTL_DEL, self->source.fd, NULL);
        shutdown(self->source.fd, SHUT_RDWR);
        close(self->source.fd);
        self->source.fd = -1;
    }
    if (self->n_name && map_get(&sock->names, name_of(self)) == self)
        map_del(&sock->names, name_of(self));
}

void
conn_free(struct conn *self)
{
    hang_up(self);
    list_remove(&self->link);
    list_remove(&self->dirty);
    list_remove(&self->due);
    inflow_fini(&self->in);
    outflow_fini(&self->out);
    mem_free(self);
}

/* Of one socket all waits for the same thing are equally long, and one that
 * connects has a single connection: appending keeps the order.
 */
static void
expect(struct conn *self, int64_t ms)
{
    struct direct *sock = self->sock;

    self->due_ms = clock_mono_ms() + ms;
    list_remove(&self->due);
    list_append(&sock->due, &self->due);
    if (sock->due.next == &self->due)
        direct_set_timer(sock);
}

static void
expect_nothing(struct conn *self)
{
    bool was_first = self->sock->due.next == &self->due;

    list_remove(&self->due);
    if (was_first)
        direct_set_timer(self->sock);
}

/* The connection is over: forget it, or try again in a while. */
static void
conn_end(struct conn *self)
{
    bool was_up = self->phase == CONN_UP;

    if (!self->outgoing) {
        conn_free(self);
        return;
    }
    hang_up(self);
    self->phase = CONN_IDLE;
    self->wants_out = false;
    inflow_reset(&self->in);
    outflow_rewind(&self->out);
    list_remove(&self->dirty);
    expect(self, RETRY_MS);
    if (was_up)
        direct_tell_change(self->sock, false);
}

/* Strangers may knock a thousand times a second; one line is enough. */
static void
complain(struct conn *self, const char *why)
{
    struct address peer = {.n = sizeof(peer.any)};
    char host[64] = "a local process", port[16] = "";

    if (!direct_may_complain(self->sock))
        return;
    if (getpeername(self->source.fd, &peer.sa, &peer.n) == 0
        && peer.sa.sa_family != AF_UNIX)
        getnameinfo(&peer.sa, peer.n, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    log_warn("closed the connection with %s%s%s: %s", host, *port ? ":" : "",
             port, why);
}

// ---------------------------------------------------------------------------
// Out

static void
watch(struct conn *self, bool out)
{
    struct epoll_event event = {.events = EPOLLIN | (out ? EPOLLOUT : 0u),
                                .data.ptr = &self->source};

    if (self->wants_out == out)
        return;
    self->wants_out = out;
    epoll_ctl(self->sock->epoll_fd, EPOLL_CTL_MOD, self->source.fd, &event);
}

void
conn_write(struct conn *self)
{
    list_remove(&self->dirty);
    if (self->phase != CONN_UP)
        return;
    // If it is broken, reading will find out.
    watch(self, outflow_write(&self->out, self->source.fd) == RH_EAGAIN);
}

/* Our half of the handshake fits into any socket's buffer. */
static int
send_hello(struct conn *self)
{
    const struct direct *sock = self->sock;
    struct buf hello;
    ssize_t n = -1;

    buf_init(&hello);
    buf_add(&hello, zmtp_greeting, ZMTP_GREETING);
    zmtp_add_ready(&hello, sock->type,
                   span_of(sock->identity, sock->n_identity));
    if (!hello.failed)
        n = send(self->source.fd, hello.p, hello.n,
                 MSG_DONTWAIT | MSG_NOSIGNAL);
    n = n == (ssize_t)hello.n ? 0 : RH_ENET;
    buf_fini(&hello);
    return (int)n;
}

// ---------------------------------------------------------------------------
// In

/* A name for a peer that has none; as libzmq makes them. */
static void
make_name(struct conn *self)
{
    do {
        uint32_t number = self->sock->next_name++;

        self->name[0] = 0;
        memcpy(self->name + 1, &number, sizeof(number));
        self->n_name = 1 + sizeof(number);
    } while (map_get(&self->sock->names, name_of(self)));
}

static int
enter_name(struct conn *self, struct span name, rh_error *err)
{
    struct direct *sock = self->sock;

    if (name.n == 0) {
        make_name(self);
    } else if (map_get(&sock->names, name)) {
        char text[64];

        return rh_fail(err, RH_EEXIST, "another peer is connected as '%s'",
                       log_escape(name, text, sizeof(text)));
    } else {
        memcpy(self->name, name.p, name.n);
        self->n_name = (uint8_t)name.n;
    }
    if (map_put(&sock->names, name_of(self), self) < 0)
        return rh_fail(err, RH_ENOMEM, "no memory for the name of a peer");
    return 0;
}

static int
on_ready(void *ctx, struct span body, rh_error *err)
{
    struct conn *self = ctx;
    struct span name;
    int rc = zmtp_read_ready(body, self->sock->type, &name, err);

    if (rc == 0 && self->sock->type == NET_ROUTER)
        rc = enter_name(self, name, err);
    if (rc < 0)
        return rc;
    self->phase = CONN_UP;
    expect_nothing(self);
    if (self->outgoing)
        direct_tell_change(self->sock, true);
    conn_write(self);
    return 0;
}

/* A ROUTER's messages begin with the name of who sent them. */
static void
on_message(void *ctx, struct span *frame, struct msg **owner, size_t n)
{
    struct conn *self = ctx;
    bool named = self->sock->type == NET_ROUTER;
    struct msg *m;

    frame[0] = name_of(self);
    owner[0] = NULL;
    m = named ? msg_gather(frame, owner, n + 1)
              : msg_gather(frame + 1, owner + 1, n);
    if (!m || direct_push(self->sock, m) < 0) {
        msg_unref(&m);
        self->sock->dropped = RH_ENOMEM;
    }
}

static void
on_dropped(void *ctx, int code)
{
    struct conn *self = ctx;

    self->sock->dropped = code;
}

static void
on_ping(void *ctx, struct span context)
{
    struct conn *self = ctx;
    uint8_t header[ZMTP_HEADER_MAX];
    struct buf pong;

    // A peer that does not read would fill our memory with answers.  When it
    // reads again, what waits tells it as well that we are alive.
    if (self->wants_out)
        return;
    buf_init(&pong);
    buf_add(&pong, header,
            zmtp_put_header(header, ZMTP_COMMAND, 5 + context.n));
    buf_add_str(&pong, "\4PONG");
    buf_add_span(&pong, context);
    // Without memory there is no answer: as if it had been lost.
    if (!pong.failed && outflow_add_raw(&self->out, buf_span(&pong)) == 0)
        conn_write(self);
    buf_fini(&pong);
}

/* Take what is there.  A failure ends the connection; with a text if it is
 * worth telling.
 */
static int
conn_read(struct conn *self, rh_error *err)
{
    const struct inflow_port port = {self, on_ready, on_message, on_dropped,
                                     on_ping};

    for (int i = 0; i < READS_MAX; i++) {
        size_t room;
        uint8_t *at = inflow_room(&self->in, self->sock->scratch, &room);
        ssize_t n = recv(self->source.fd, at, room, MSG_DONTWAIT);
        int rc;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 0;
        err->text[0] = '\0';
        if (n <= 0)
            return RH_ENET;
        rc = inflow_take(&self->in, self->sock->scratch, (size_t)n, &port, err);
        if (rc < 0)
            return rc;
        if ((size_t)n < room)
            return 0;
    }
    return 0;
}

// ---------------------------------------------------------------------------
// Phases

static int
enlist(struct conn *self, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = &self->source};

    return epoll_ctl(self->sock->epoll_fd, EPOLL_CTL_ADD, self->source.fd,
                     &event);
}

static void
set_options(int fd, bool local)
{
    int on = 1;

    if (local)
        return;
    // Cannot fail on a TCP socket; without them it only works less well.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static int
start_connect_to(struct conn *self, const struct address *to)
{
    self->source.fd =
        socket(to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (self->source.fd < 0)
        return RH_ENET;
    set_options(self->source.fd, to->sa.sa_family == AF_UNIX);
    if (connect(self->source.fd, &to->sa, to->n) == 0 || errno == EINPROGRESS)
        return 0;
    close(self->source.fd);
    self->source.fd = -1;
    return RH_ENET;
}

static int
start_connect(struct conn *self)
{
    struct address to, local;
    int rc = url_resolve(self->sock->url, false, &to, NULL);

    if (rc < 0)
        return rc;
    // Whether it is there is known at once.
    if (!local_address(self->sock->local, url_port(&to), &local)
        || start_connect_to(self, &local) < 0)
        rc = start_connect_to(self, &to);
    if (rc < 0)
        return rc;
    // A connection that is there already is writable, too.
    self->wants_out = true;
    return enlist(self, EPOLLIN | EPOLLOUT);
}

void
conn_connect(struct conn *self)
{
    self->phase = CONN_CONNECTING;
    if (start_connect(self) < 0)
        conn_end(self);
    else
        expect(self, HANDSHAKE_MS);
}

void
conn_accept(struct direct *sock, int fd)
{
    struct conn *self = conn_new(sock);
    struct address local = {.n = sizeof(local.any)};

    if (!self) {
        close(fd);
        return;
    }
    self->source.fd = fd;
    self->phase = CONN_GREETING;
    set_options(fd, getsockname(fd, &local.sa, &local.n) < 0
                        || local.sa.sa_family == AF_UNIX);
    if (enlist(self, EPOLLIN) < 0 || send_hello(self) < 0)
        conn_end(self);
    else
        expect(self, HANDSHAKE_MS);
}

/* The system has connected us, or has given up. */
static int
on_connected(struct conn *self)
{
    int e = 0;
    socklen_t n = sizeof(e);

    if (getsockopt(self->source.fd, SOL_SOCKET, SO_ERROR, &e, &n) < 0 || e
        || url_is_itself(self->source.fd))
        return RH_ENET;
    self->phase = CONN_GREETING;
    watch(self, false);
    return send_hello(self);
}

void
conn_on_events(struct conn *self, uint32_t events)
{
    rh_error err = {.text = ""};
    int rc = 0;

    if (self->phase == CONN_CONNECTING)
        rc = on_connected(self);
    else if (events & EPOLLOUT)
        conn_write(self);
    if (rc == 0 && events & ~(uint32_t)EPOLLOUT)
        rc = conn_read(self, &err);
    if (rc == 0)
        return;
    if (*err.text)
        complain(self, err.text);
    conn_end(self);
}

void
conn_on_time(struct conn *self)
{
    if (self->phase == CONN_IDLE) {
        list_remove(&self->due);
        conn_connect(self);
        return;
    }
    if (self->phase == CONN_GREETING)
        complain(self, "no handshake within 30 s");
    list_remove(&self->due);
    conn_end(self);
}
