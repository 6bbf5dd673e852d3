/* lifeline.c - TCP by hand, because ZeroMQ hides the death of a peer */
#include "engine/lifeline.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "wire/scan.h"

#define TOKEN_MAX 128

/* The connection a forked child has to let go of. */
static atomic_int held = -1;

static void
in_child(void)
{
    int fd = atomic_exchange(&held, -1);

    if (fd >= 0)
        close(fd);
}

static void
register_fork(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

int
lifeline_offer(struct span offer, int *port, char *token)
{
    struct scan_field outer[] = {{.key = "version"}, {.key = "lifeline"}};
    struct scan_field inner[] = {{.key = "port"}, {.key = "token"}};
    int64_t version = 0, value = 0;
    struct buf scratch = {.p = NULL};
    struct span hex = SPAN_NONE;
    bool ok;

    if (offer.n == 0 || scan_is_null(offer))
        return RH_ENOENT;
    if (scan_object(offer, outer, 2, NULL) < 0)
        return RH_EPROTO;
    if (scan_is_null(outer[1].value))
        return RH_ENOENT;
    if (scan_int(outer[0].value, &version) < 0 || version != 1)
        return RH_ENOENT; // a later agreement than ours
    ok = scan_object(outer[1].value, inner, 2, NULL) == 0
         && scan_int(inner[0].value, &value) == 0 && value > 0 && value < 65536
         && scan_string(inner[1].value, &scratch, &hex) == 0 && hex.n > 0
         && hex.n <= TOKEN_MAX;
    for (size_t i = 0; ok && i < hex.n; i++)
        ok = isxdigit(hex.p[i]);
    if (ok) {
        memcpy(token, hex.p, hex.n);
        token[hex.n] = '\0';
        *port = (int)value;
    }
    buf_fini(&scratch);
    return ok ? 0 : RH_EPROTO;
}

/* The host part of tcp://host:port, without the brackets of IPv6. */
static int
host_of(const char *url, char *out, size_t cap)
{
    const char *p = strncmp(url, "tcp://", 6) == 0 ? url + 6 : NULL;
    const char *end = p ? strrchr(p, ':') : NULL;

    if (!end)
        return RH_EINVAL;
    if (*p == '[' && end > p && end[-1] == ']') {
        p++;
        end--;
    }
    if (end == p || (size_t)(end - p) >= cap)
        return RH_EINVAL;
    memcpy(out, p, (size_t)(end - p));
    out[end - p] = '\0';
    return 0;
}

static int
finish_connect(int fd, int timeout_ms)
{
    struct pollfd item = {.fd = fd, .events = POLLOUT};
    int e = 0, rc;
    socklen_t n = sizeof(e);

    do
        rc = poll(&item, 1, timeout_ms);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) < 0)
        return errno;
    return e;
}

/* A connected descriptor, or -1 with errno. */
static int
connect_one(const struct addrinfo *a, int timeout_ms)
{
    int one = 1, e = 0;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    a->ai_protocol);

    if (fd < 0)
        return -1;
    // Finds out about a controller whose host has vanished; best effort.
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
        e = errno == EINPROGRESS ? finish_connect(fd, timeout_ms) : errno;
    if (e) {
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static int
connect_to(const char *host, int port, int timeout_ms, rh_error *err)
{
    struct addrinfo hint = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char service[16];
    int fd = -1, rc;

    snprintf(service, sizeof(service), "%d", port);
    rc = getaddrinfo(host, service, &hint, &list);
    if (rc != 0)
        return rh_fail(err, RH_ENET, "lifeline to %s: %s", host,
                       gai_strerror(rc));
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = connect_one(a, timeout_ms);
    if (fd < 0)
        rc = rh_fail(err, RH_ENET, "lifeline to %s port %d: %s", host, port,
                     strerror(errno));
    freeaddrinfo(list);
    return fd < 0 ? rc : fd;
}

int
lifeline_open(const char *url, int port, const char *token, const char *uuid,
              int timeout_ms, rh_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char host[512], line[512];
    int fd, n;

    n = snprintf(line, sizeof(line), "RHLIFE1 %s %s\n", uuid, token);
    if (n < 0 || (size_t)n >= sizeof(line) || host_of(url, host, sizeof(host)))
        return rh_fail(err, RH_EINVAL, "no lifeline over %s", url);
    fd = connect_to(host, port, timeout_ms, err);
    if (fd < 0)
        return fd;
    // The socket's buffer is empty: a line fits or nothing works.
    if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n) {
        close(fd);
        return rh_fail(err, RH_ENET, "lifeline to %s port %d: cannot send",
                       host, port);
    }
    pthread_once(&once, register_fork);
    atomic_store(&held, fd);
    return fd;
}

bool
lifeline_is_broken(int fd)
{
    char byte; // the controller sends none
    ssize_t n = fd < 0 ? 1 : recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    return n == 0 || (n < 0 && errno == ECONNRESET);
}

void
lifeline_close(int *fd, const char *reason)
{
    char line[256];
    int n;

    if (*fd < 0)
        return;
    if (reason) {
        n = snprintf(line, sizeof(line), "EXIT %s\n", reason);
        // The close alone says as much.
        if (n > 0 && (size_t)n < sizeof(line)
            && send(*fd, line, (size_t)n, MSG_NOSIGNAL) < 0)
            log_debug("no last words to the controller: %s", reason);
    }
    atomic_store(&held, -1);
    close(*fd);
    *fd = -1;
}
