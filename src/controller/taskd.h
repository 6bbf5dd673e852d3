/* taskd.h - the task thread: the scheduler core bound to its sockets */
#ifndef CONTROLLER_TASKD_H
#define CONTROLLER_TASKD_H

#include "base/channel.h"
#include "controller/complain.h"
#include "controller/feed.h"
#include "controller/poller.h"
#include "controller/worker.h"
#include "net/net.h"
#include "net/shm.h"
#include "sched/sched.h"
#include "wire/compose.h"
#include "wire/session.h"

/* The client name of requests that the task thread has the relay send: ROUTERs
 * make up names of 5 bytes, and only those may begin with 0.
 */
#define TASKD_NAME SPAN_LIT("\0task-scheduler")

struct taskd {
    struct worker worker;
    struct net_sock *client, *engine; // ROUTERs; owned
    struct channel *inbox;            // owned; see note.h
    struct worker *hub;               // borrowed; woken when 'seen' moves
    struct channel *relay;            // borrowed; it talks to the engines
    atomic_ullong seen;               // engine events known here

    struct poller poller;
    struct sched *sched;
    struct shm *shm;         // borrowed, or NULL
    struct session *session; // owned
    const char *scheme;      // of signatures; borrowed
    struct sender sender;
    struct feed feed;
    struct msg *stuck; // no memory to take it: next round again
    int64_t due;       // sched_on_tick
    int64_t now, wall_us;
    struct complain complain;
};

/* taskd_requests.c: ASK, to be answered with ANSWER; and ABORT. */
void taskd_on_ask(struct taskd *self, struct msg *m);
void taskd_on_abort(struct taskd *self, struct msg *m);

int taskd_init(struct taskd *self, rh_error *err);
/* Takes the session and the sockets, also on failure. */
int taskd_start(struct taskd *self, struct net_sock **client,
                struct net_sock **engine, struct session **session,
                const char *scheme, const char *username,
                const struct sched_config *config, struct backlog *backlog,
                struct worker *hub, struct channel *relay, rh_error *err);
void taskd_fini(struct taskd *self);

#endif /* CONTROLLER_TASKD_H */
