/* poll.c - waiting for sockets, and CURVE keys */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "net/private.h"

#define N_STACK 16

int
net_events(struct net_sock *self)
{
    int events = 0;
    size_t n = sizeof(events);

    while (zmq_getsockopt(self->zmq, ZMQ_EVENTS, &events, &n) < 0)
        if (zmq_errno() != EINTR)
            return 0;
    return (events & ZMQ_POLLIN ? NET_IN : 0)
           | (events & ZMQ_POLLOUT ? NET_OUT : 0);
}

int
net_fd(struct net_sock *self)
{
    int fd = -1;
    size_t n = sizeof(fd);

    if (zmq_getsockopt(self->zmq, ZMQ_FD, &fd, &n) < 0)
        return RH_ENET;
    return fd;
}

int
net_poll(struct net_pollitem *item, size_t n, int timeout_ms)
{
    zmq_pollitem_t stack[N_STACK], *v = stack;
    int rc;

    if (n > N_STACK && !(v = mem_zalloc(n, sizeof(*v))))
        return RH_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        short events = (short)((item[i].events & NET_IN ? ZMQ_POLLIN : 0)
                               | (item[i].events & NET_OUT ? ZMQ_POLLOUT : 0));

        v[i] = (zmq_pollitem_t){
            .socket = item[i].sock ? item[i].sock->zmq : NULL,
            .fd = item[i].sock ? 0 : item[i].fd,
            .events = events,
        };
    }
    rc = zmq_poll(v, (int)n, timeout_ms);
    if (rc < 0)
        rc = zmq_errno() == EINTR    ? RH_EINTR
             : zmq_errno() == ENOMEM ? RH_ENOMEM
                                     : RH_ENET;
    else
        for (size_t i = 0; i < n; i++)
            // A hung-up descriptor counts as readable: reading tells why.
            item[i].revents =
                (v[i].revents & (ZMQ_POLLIN | ZMQ_POLLERR) ? NET_IN : 0)
                | (v[i].revents & ZMQ_POLLOUT ? NET_OUT : 0);
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
