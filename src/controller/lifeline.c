/* lifeline.c - see lifeline.h
 *
 * A connection is a stranger (in 'strangers', oldest first, with a deadline)
 * until its line names an expected engine with the right token; then it
 * belongs to that engine.  Every failure closes the stranger and nothing else.
 */
#include "controller/lifeline.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/uuid.h"

#define HELLO "RHLIFE1 "
#define EVENTS 64

struct expected;

struct conn {
    struct list node; // in strangers, or alone
    int fd;
    int64_t deadline;
    struct expected *engine; // NULL: a stranger
    size_t n;
    char line[LIFELINE_LINE_MAX];
    char why[160]; // from EXIT
};

struct expected {
    struct conn *conn; // NULL: not yet, or not any more
    char token[LIFELINE_TOKEN_SIZE];
    size_t n;
    char uuid[];
};

struct lifeline {
    struct lifeline_port port;
    int listen_fd, epoll_fd, tcp_port;
    struct map engines; // struct expected by uuid
    struct list strangers;
    size_t n_strangers;
};

// ---------------------------------------------------------------------------
// Life

static int
listen_on(const char *host, int port, rh_error *err)
{
    bool any = strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0;
    struct addrinfo hint = {
        .ai_family = any ? AF_INET : AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE,
    };
    struct addrinfo *found = NULL;
    char service[16];
    int fd = -1, rc, one = 1;

    snprintf(service, sizeof(service), "%d", port);
    rc = getaddrinfo(any ? NULL : host, service, &hint, &found);
    if (rc != 0)
        return rh_fail(err, RH_ENET, "%.128s: %s", host, gai_strerror(rc));
    for (const struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    0);
        if (fd >= 0) {
            (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
            if (bind(fd, a->ai_addr, a->ai_addrlen) < 0
                || listen(fd, SOMAXCONN) < 0) {
                rc = errno;
                close(fd);
                fd = -1;
                errno = rc;
            }
        }
    }
    rc = errno;
    freeaddrinfo(found);
    if (fd < 0)
        return rh_fail(err, RH_ENET, "listening on %.128s port %d: %s", host,
                       port, strerror(rc));
    return fd;
}

static int
port_of(int fd)
{
    struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
    socklen_t n = sizeof(addr);
    in_port_t port = 0;

    if (getsockname(fd, (struct sockaddr *)&addr, &n) < 0)
        return 0;
    if (addr.ss_family == AF_INET)
        port = ((struct sockaddr_in *)&addr)->sin_port;
    else if (addr.ss_family == AF_INET6)
        port = ((struct sockaddr_in6 *)&addr)->sin6_port;
    return ntohs(port);
}

static int
watch(const struct lifeline *self, int fd, void *ptr)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP,
                                .data.ptr = ptr};

    return epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

int
lifeline_new(struct lifeline **out, const struct lifeline_port *port,
             const char *host, int *tcp_port, rh_error *err)
{
    struct lifeline *self = mem_zalloc(1, sizeof(*self));
    int rc;

    if (!self)
        return rh_fail(err, RH_ENOMEM, "out of memory");
    self->port = *port;
    map_init(&self->engines);
    list_init(&self->strangers);
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    self->listen_fd = rc = listen_on(host, *tcp_port, err);
    if (rc >= 0 && (self->epoll_fd < 0 || watch(self, rc, NULL) < 0))
        rc = rh_fail(err, RH_EIO, "epoll: %s", strerror(errno));
    if (rc < 0) {
        lifeline_free(&self);
        return rc;
    }
    *tcp_port = self->tcp_port = port_of(self->listen_fd);
    *out = self;
    return 0;
}

static void
close_conn(struct lifeline *self, struct conn *conn)
{
    if (conn->engine)
        conn->engine->conn = NULL;
    else
        self->n_strangers--;
    list_remove(&conn->node);
    close(conn->fd); // leaves the epoll set by itself
    mem_free(conn);
}

void
lifeline_free(struct lifeline **self_p)
{
    struct lifeline *self = *self_p;
    struct expected *e;

    if (!self)
        return;
    while (!list_empty(&self->strangers))
        close_conn(self, LIST_ENTRY(self->strangers.next, struct conn, node));
    for (size_t i = 0; (e = map_next(&self->engines, &i));) {
        if (e->conn)
            close_conn(self, e->conn);
        mem_free(e);
    }
    map_fini(&self->engines);
    if (self->listen_fd >= 0)
        close(self->listen_fd);
    if (self->epoll_fd >= 0)
        close(self->epoll_fd);
    mem_free(self);
    *self_p = NULL;
}

int
lifeline_fd(const struct lifeline *self)
{
    return self->epoll_fd;
}

int
lifeline_tcp_port(const struct lifeline *self)
{
    return self->tcp_port;
}

// ---------------------------------------------------------------------------
// Engines

static struct span
uuid_of(const struct expected *e)
{
    return span_of(e->uuid, e->n);
}

int
lifeline_expect(struct lifeline *self, struct span uuid,
                char token[LIFELINE_TOKEN_SIZE])
{
    struct expected *e = map_get(&self->engines, uuid);
    uint8_t secret[(LIFELINE_TOKEN_SIZE - 1) / 2];

    if (random_bytes(secret, sizeof(secret)) < 0)
        return RH_EIO;
    if (!e) {
        e = mem_zalloc(1, sizeof(*e) + uuid.n);
        if (!e)
            return RH_ENOMEM;
        e->n = uuid.n;
        if (uuid.n)
            memcpy(e->uuid, uuid.p, uuid.n);
        if (map_put(&self->engines, uuid_of(e), e) < 0) {
            mem_free(e);
            return RH_ENOMEM;
        }
    }
    for (size_t i = 0; i < sizeof(secret); i++)
        snprintf(e->token + 2 * i, 3, "%02x", secret[i]);
    memcpy(token, e->token, LIFELINE_TOKEN_SIZE);
    return 0;
}

void
lifeline_forget(struct lifeline *self, struct span uuid)
{
    struct expected *e = map_del(&self->engines, uuid);

    if (!e)
        return;
    if (e->conn)
        close_conn(self, e->conn);
    mem_free(e);
}

// ---------------------------------------------------------------------------
// Connections

static void
take_connections(struct lifeline *self, int64_t now)
{
    for (int i = 0; i < LIFELINE_STRANGERS; i++) {
        int fd =
            accept4(self->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct conn *conn;

        if (fd < 0)
            return;
        // The oldest stranger has had the most time: it makes room.
        if (self->n_strangers == LIFELINE_STRANGERS)
            close_conn(self,
                       LIST_ENTRY(self->strangers.next, struct conn, node));
        conn = mem_zalloc(1, sizeof(*conn));
        if (!conn || watch(self, fd, conn) < 0) {
            mem_free(conn);
            close(fd);
            return;
        }
        conn->fd = fd;
        conn->deadline = now + LIFELINE_HELLO_MS;
        list_append(&self->strangers, &conn->node);
        self->n_strangers++;
    }
}

/* In constant time. */
static bool
same_token(const char *a, const char *b)
{
    unsigned diff = 0;

    for (size_t i = 0; i < LIFELINE_TOKEN_SIZE - 1; i++)
        diff |= (unsigned)(a[i] ^ b[i]);
    return diff == 0;
}

/* "RHLIFE1 <uuid> <token>" */
static int
hello(struct lifeline *self, struct conn *conn, const char *line, size_t n)
{
    const size_t n_hello = sizeof(HELLO) - 1, n_token = LIFELINE_TOKEN_SIZE - 1;
    struct expected *e;

    if (n <= n_hello + 1 + n_token || memcmp(line, HELLO, n_hello) != 0
        || line[n - n_token - 1] != ' ')
        return RH_EPROTO;
    e = map_get(&self->engines,
                span_of(line + n_hello, n - n_token - 1 - n_hello));
    if (!e || !same_token(e->token, line + n - n_token))
        return RH_EAUTH;
    if (e->conn) // it reconnected: the older one means nothing any more
        close_conn(self, e->conn);
    conn->engine = e;
    e->conn = conn;
    list_remove(&conn->node);
    self->n_strangers--;
    return 0;
}

static void
farewell(struct conn *conn, const char *line, size_t n)
{
    const char word[] = "EXIT ";
    size_t skip = sizeof(word) - 1;

    if (n < skip || memcmp(line, word, skip) != 0)
        return; // something newer than us: ignore it
    log_escape(span_of(line + skip, n - skip), conn->why, sizeof(conn->why));
    if (!*conn->why)
        snprintf(conn->why, sizeof(conn->why), "no reason given");
}

/* Whole lines at the start of the buffer.  Negative: close it. */
static int
take_lines(struct lifeline *self, struct conn *conn)
{
    char *end;

    while ((end = memchr(conn->line, '\n', conn->n))) {
        size_t n = (size_t)(end - conn->line);

        if (conn->engine) {
            farewell(conn, conn->line, n);
        } else {
            int rc = hello(self, conn, conn->line, n);

            if (rc < 0)
                return rc;
        }
        conn->n -= n + 1;
        memmove(conn->line, end + 1, conn->n);
    }
    if (conn->n < sizeof(conn->line))
        return 0;
    conn->n = 0;
    return conn->engine ? 0 : RH_ELIMIT; // a long line of a friend: skip it
}

static void
lose(struct lifeline *self, struct conn *conn, int error)
{
    struct expected *e = conn->engine;
    char why[200], uuid[LIFELINE_LINE_MAX];
    size_t n = e ? e->n : 0;
    bool orderly = *conn->why != '\0';

    // The listener may forget the engine while it still needs the name; it
    // fits, as it came in one line.
    if (n)
        memcpy(uuid, e->uuid, n);
    if (orderly)
        snprintf(why, sizeof(why), "it exited (%s)", conn->why);
    else if (error && error != ECONNRESET)
        snprintf(why, sizeof(why), "its link is lost (%s)", strerror(error));
    else
        snprintf(why, sizeof(why), "%s", LIFELINE_ENDED);
    close_conn(self, conn);
    if (e)
        self->port.lost(self->port.ctx, span_of(uuid, n), why, orderly);
}

static void
read_conn(struct lifeline *self, struct conn *conn)
{
    for (int i = 0; i < 8; i++) {
        ssize_t n =
            read(conn->fd, conn->line + conn->n, sizeof(conn->line) - conn->n);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            lose(self, conn, n < 0 ? errno : 0);
            return;
        }
        conn->n += (size_t)n;
        if (take_lines(self, conn) < 0) {
            close_conn(self, conn); // a stranger
            return;
        }
    }
}

static int64_t
drop_late(struct lifeline *self, int64_t now)
{
    while (!list_empty(&self->strangers)) {
        struct conn *conn = LIST_ENTRY(self->strangers.next, struct conn, node);

        if (now < conn->deadline)
            return conn->deadline;
        close_conn(self, conn);
    }
    return INT64_MAX;
}

int64_t
lifeline_handle(struct lifeline *self, int64_t now)
{
    struct epoll_event event;

    // One at a time: handling one may close others.
    for (int i = 0; i < EVENTS; i++) {
        if (epoll_wait(self->epoll_fd, &event, 1, 0) <= 0)
            break;
        if (event.data.ptr)
            read_conn(self, event.data.ptr);
        else
            take_connections(self, now);
    }
    return drop_late(self, now);
}
