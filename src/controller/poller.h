/* poller.h - wait for a dozen sockets at the price of those in use
 *
 * net_poll asks every socket twice, with a system call each.  Here the
 * sockets' descriptors are in an epoll set, and only those are asked that woke
 * us or have been used since.  The latter matters: what was sent in a round
 * goes out before the next wait, messages may be here already, and using a
 * socket of libzmq may swallow the very signal that announces one.  So after
 * every send and receive a socket has to be touched (poller_touch).
 */
#ifndef CONTROLLER_POLLER_H
#define CONTROLLER_POLLER_H

#include <stdbool.h>
#include <stddef.h>

#include "net/net.h"

#define POLLER_MAX 80

struct poller {
    int epoll_fd;
    size_t n;
    struct {
        struct net_sock *sock; // NULL: a plain descriptor
        bool touched;          // ask it before sleeping
        bool ready;
    } slot[POLLER_MAX];
};

int poller_init(struct poller *self, rh_error *err);
void poller_fini(struct poller *self);

/* Slots are numbered in the order they are added.  RH_EIO, RH_ELIMIT. */
int poller_add(struct poller *self, struct net_sock *sock, int fd,
               rh_error *err);

/* Sets 'ready' of every slot; waits only if none is.  -1: for ever. */
void poller_wait(struct poller *self, int timeout_ms);

static inline bool
poller_ready(const struct poller *self, size_t i)
{
    return self->slot[i].ready;
}

static inline void
poller_touch(struct poller *self, const struct net_sock *sock)
{
    for (size_t i = 0; i < self->n; i++)
        if (self->slot[i].sock == sock)
            self->slot[i].touched = true;
}

#endif /* CONTROLLER_POLLER_H */
