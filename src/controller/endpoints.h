/* endpoints.h - every socket the controller binds, and their ports
 *
 * All are bound before any thread starts and before the connection files are
 * written: who reads a file finds everything listening.
 */
#ifndef CONTROLLER_ENDPOINTS_H
#define CONTROLLER_ENDPOINTS_H

#include "controller/options.h"
#include "controller/relay.h"
#include "net/net.h"
#include "wire/connfile.h"

struct endpoints {
    struct net_sock *query, *notify;
    struct net_sock *hb_ping, *hb_pong;
    struct net_sock *task_client, *task_engine;
    struct relay_sockets relay;
    int lifeline_port;              // from the pools; 0: any
    struct connfile client, engine; // interface, ports, broadcast
};

struct endpoint_options {
    const struct settings *settings;
    const char *client_ip, *engine_ip;
    const char *client_transport, *engine_transport;
    const struct net_curve *curve; // NULL: plain
    const struct net_codec *codec;
    /* Ports of an earlier run, to be used and nothing else; or NULL. */
    const struct connfile *reuse_client, *reuse_engine;
};

/* RH_ENET names the channel, the address and the reason. */
int endpoints_bind(struct endpoints *self, struct net_ctx *ctx,
                   const struct endpoint_options *options, rh_error *err);
void endpoints_close(struct endpoints *self); // those nobody has taken
/* When all are closed: ZeroMQ leaves the socket files of ipc behind. */
void endpoints_remove_ipc(const struct endpoints *self);

#endif /* CONTROLLER_ENDPOINTS_H */
