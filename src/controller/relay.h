/* relay.h - the relay thread: mux, control, broadcast and iopub
 *
 * It moves frames between clients and engines and decides nothing but whether
 * an engine is registered.
 */
#ifndef CONTROLLER_RELAY_H
#define CONTROLLER_RELAY_H

#include "base/channel.h"
#include "controller/broadcast.h"
#include "controller/complain.h"
#include "controller/feed.h"
#include "controller/poller.h"
#include "controller/roster.h"
#include "controller/worker.h"
#include "net/net.h"
#include "net/shm.h"
#include "wire/compose.h"
#include "wire/connfile.h"
#include "wire/session.h"

struct relay_sockets {
    struct net_sock *client[N_LANES];
    struct net_sock *engine[LANE_MUX + 1]; // control, mux
    struct net_sock *leaf[CONN_BROADCAST_MAX];
    size_t n_leaves;
    struct net_sock *iopub_in, *iopub_out;
};

#define RELAY_SOURCES (N_LANES + LANE_MUX + 1 + CONN_BROADCAST_MAX + 1)

struct relay {
    struct worker worker;
    struct relay_sockets sock; // owned
    struct channel *inbox;     // owned; ENGINE_*, WITHDRAW
    struct channel *task;      // borrowed; WITHDRAWN
    struct worker *hub;        // borrowed; woken when 'seen' or 'settled' move
    atomic_ullong seen;        // engine events known here
    atomic_ullong settled;     // and done with: nothing is owed any more

    struct poller poller;
    struct shm *shm;         // borrowed, or NULL
    struct session *session; // owned
    const char *scheme;      // of signatures; borrowed
    struct sender sender;
    struct feed feed;
    struct broadcast *broadcast;
    struct roster roster;
    uint64_t last_seq;
    int64_t now, wall_us; // of the current round
    struct complain complain;
};

/* Before relay_start: what other threads need to reach this one. */
int relay_init(struct relay *self, rh_error *err);
/* Takes the session and the sockets, also on failure. */
int relay_start(struct relay *self, struct relay_sockets *sock,
                struct session **session, const char *scheme,
                const char *username, struct backlog *backlog,
                struct worker *hub, struct channel *task, rh_error *err);
void relay_fini(struct relay *self);
void relay_close_sockets(struct relay_sockets *sock);

/* relay_notes.c: news from the hub, and what is due. */
void relay_take_notes(struct relay *self);
int relay_time_left(struct relay *self); // ms, -1: nothing is due
void relay_do_due(struct relay *self);

/* relay_send.c */
void relay_to_engine(struct relay *self, struct peer *peer, enum lane lane,
                     struct msg *m);
/* m's first 'n_prefix' frames as copies, then the rest from 'first' on. */
void relay_to_client(struct relay *self, enum lane lane, struct msg *m,
                     size_t n_prefix, uint32_t first);
void relay_retry_held(struct relay *self);
void relay_answer_fault(struct relay *self, enum lane lane, struct msg *m,
                        struct span text);

#endif /* CONTROLLER_RELAY_H */
