/* poller.c - see poller.h */
#include "controller/poller.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

int
poller_init(struct poller *self, rh_error *err)
{
    memset(self, 0, sizeof(*self));
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll_fd < 0)
        return rh_fail(err, RH_EIO, "epoll: %s", strerror(errno));
    return 0;
}

void
poller_fini(struct poller *self)
{
    if (self->epoll_fd > 0)
        close(self->epoll_fd);
    self->epoll_fd = 0;
}

int
poller_add(struct poller *self, struct net_sock *sock, int fd, rh_error *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = self->n};

    if (self->n == POLLER_MAX)
        return rh_fail(err, RH_ELIMIT, "more than %d sockets in one thread",
                       POLLER_MAX);
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, sock ? net_fd(sock) : fd,
                  &event)
        < 0)
        return rh_fail(err, RH_EIO, "epoll: %s", strerror(errno));
    self->slot[self->n].sock = sock;
    self->slot[self->n].touched = sock != NULL;
    self->n++;
    return 0;
}

static bool
has_input(struct net_sock *sock)
{
    return net_events(sock) & NET_IN;
}

void
poller_wait(struct poller *self, int timeout_ms)
{
    struct epoll_event event[POLLER_MAX];
    int n;

    for (size_t i = 0; i < self->n; i++) {
        struct net_sock *sock = self->slot[i].sock;

        self->slot[i].ready = self->slot[i].touched && net_queued(sock);
        if (self->slot[i].touched)
            net_flush(sock);
        self->slot[i].touched = false;
        if (self->slot[i].ready)
            timeout_ms = 0;
    }
    n = epoll_wait(self->epoll_fd, event, POLLER_MAX, timeout_ms);
    for (int i = 0; i < n; i++) {
        size_t k = (size_t)event[i].data.u64;

        // A signal may only say that a peer came or went.
        if (!self->slot[k].ready)
            self->slot[k].ready =
                !self->slot[k].sock || has_input(self->slot[k].sock);
    }
}
