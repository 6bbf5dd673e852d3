/* zmq_monitor.c - hear of connections that come up and break
 *
 * ZeroMQ reconnects silently.  But what was sent on a connection that broke
 * may be lost, and a ROUTER at the other end knows us by another name after
 * it: whoever waits for an answer has to be told.
 */
#include <errno.h>
#include <stdio.h>

#include "net/zmq_sock.h"

int
zmq_sock_monitor(struct net_sock *sock, struct net_ctx *ctx, rh_error *err)
{
    struct zmq_sock *self = zmq_sock_of(sock);
    char address[64];
    int zero = 0;

    snprintf(address, sizeof(address), "inproc://monitor-%p", (void *)self);
    if (zmq_socket_monitor(self->zmq, address,
                           ZMQ_EVENT_HANDSHAKE_SUCCEEDED
                               | ZMQ_EVENT_DISCONNECTED)
        < 0)
        return net_fail(err, "monitoring", "a socket");
    self->monitor = zmq_socket(ctx->zmq, ZMQ_PAIR);
    // The other end is ZeroMQ's own thread, which must never have to wait.
    if (!self->monitor
        || zmq_setsockopt(self->monitor, ZMQ_RCVHWM, &zero, sizeof(zero)) < 0
        || zmq_setsockopt(self->monitor, ZMQ_LINGER, &zero, sizeof(zero)) < 0
        || zmq_connect(self->monitor, address) < 0) {
        net_fail(err, "monitoring", "a socket");
        zmq_sock_monitor_close(self);
        return err ? err->code : RH_ENET;
    }
    return 0;
}

/* ORDER: ZeroMQ stops sending events before there is nobody to take them. */
void
zmq_sock_monitor_close(struct zmq_sock *self)
{
    zmq_socket_monitor(self->zmq, NULL, 0);
    if (self->monitor)
        zmq_close(self->monitor);
    self->monitor = NULL;
}

int
zmq_sock_monitor_fd(const struct net_sock *sock)
{
    const struct zmq_sock *self = (const struct zmq_sock *)(const void *)sock;
    int fd = -1;
    size_t n = sizeof(fd);

    if (!self->monitor || zmq_getsockopt(self->monitor, ZMQ_FD, &fd, &n) < 0)
        return RH_ENET;
    return fd;
}

/* One event: a frame of number and value, and a frame that names the peer. */
static int
read_event(void *monitor)
{
    zmq_msg_t raw;
    uint16_t event = 0;
    int rc, more;

    zmq_msg_init(&raw);
    do
        rc = zmq_msg_recv(&raw, monitor, ZMQ_DONTWAIT);
    while (rc < 0 && zmq_errno() == EINTR);
    if (rc >= (int)sizeof(event))
        memcpy(&event, zmq_msg_data(&raw), sizeof(event));
    for (more = rc >= 0 && zmq_msg_more(&raw); more; more = zmq_msg_more(&raw))
        if (zmq_msg_recv(&raw, monitor, ZMQ_DONTWAIT) < 0)
            break;
    zmq_msg_close(&raw);
    return rc < 0 ? 0 : event;
}

enum net_change
zmq_sock_monitor_read(struct net_sock *sock)
{
    struct zmq_sock *self = zmq_sock_of(sock);
    int event;

    while (self->monitor && (event = read_event(self->monitor)) != 0) {
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
            return NET_UP;
        if (event == ZMQ_EVENT_DISCONNECTED)
            return NET_LOST;
    }
    return NET_SAME;
}
