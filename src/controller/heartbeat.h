/* heartbeat.h - the heart thread: pings, pongs, and who stopped answering */
#ifndef CONTROLLER_HEARTBEAT_H
#define CONTROLLER_HEARTBEAT_H

#include "base/channel.h"
#include "controller/complain.h"
#include "controller/worker.h"
#include "hub/heart.h"
#include "net/net.h"

struct heartbeat {
    struct worker worker;
    struct heart *core;
    struct net_sock *ping, *pong; // XPUB, ROUTER; owned
    struct channel *inbox;        // owned; EXPECT, BEATING, FORGET
    struct channel *hub;          // borrowed; HEART_*
    bool debug;                   // log every pong
    bool asked;                   // a subscriber is new: ping soon
    int64_t last_ping;            // ms
    struct complain complain;
};

/* Before heartbeat_start: what other threads need to reach this one. */
int heartbeat_init(struct heartbeat *self, rh_error *err);
/* Takes the sockets, also on failure. */
int heartbeat_start(struct heartbeat *self, struct net_sock **ping,
                    struct net_sock **pong, struct channel *hub,
                    const struct heart_config *config, bool debug,
                    rh_error *err);
void heartbeat_fini(struct heartbeat *self); // stops the thread

#endif /* CONTROLLER_HEARTBEAT_H */
