/* hubd.h - the hub thread: registration, queries, the record of what ran */
#ifndef CONTROLLER_HUBD_H
#define CONTROLLER_HUBD_H

#include "base/channel.h"
#include "base/list.h"
#include "base/map.h"
#include "controller/complain.h"
#include "controller/feed.h"
#include "controller/lifeline.h"
#include "controller/relay.h"
#include "controller/taskd.h"
#include "controller/worker.h"
#include "hub/hub.h"
#include "net/net.h"
#include "store/store.h"

struct hubd {
    struct worker worker;
    struct backlog backlog;          // backlog.hub: this thread's inbox; owned
    struct net_sock *query, *notify; // ROUTER, PUB; owned
    struct relay *relay;             // borrowed
    struct taskd *task;              // borrowed
    struct channel *heart;           // borrowed; its inbox
    const struct shm *shm;           // borrowed; NULL: none to offer
    struct lifeline *lifeline;       // owned; NULL: engines have none
    struct session *session;         // owned
    struct store *store;             // owned
    char *engines_path;              // owned; engines<cluster>.json
    int quit_fd;                     // borrowed eventfd: end the controller

    struct hub *core;
    struct map members; // engines registered or pending, by uuid
    uint64_t seq;       // engine events so far
    int64_t grace_ms;   // of the next ENGINE_DOWN
    struct list outbox; // replies and notifications that wait, in order
    struct buf engines; // new text for engines_path
    bool engines_dirty;
    int64_t quit_at;  // INT64_MAX: not asked to
    int64_t drain_at; // next look into the inbox while traffic flows; 0: idle
    void **batch;     // taken from the inbox: [batch_i, batch_n) are left
    size_t batch_i, batch_n;
    int64_t now, wall_us;
    const struct msg *asked; // the query in hand
    const char *scheme;      // of signatures; borrowed
    struct complain complain;
};

struct hubd_parts { // all taken over, also on failure
    struct net_sock *query, *notify;
    struct lifeline *lifeline;
    struct session *session;
    struct store *store;
    char *engines_path;
    const char *scheme; // stays the caller's
};

int hubd_init(struct hubd *self, rh_error *err);
/* Only take the parts over: for hubd_fini, when nothing can be started. */
void hubd_adopt(struct hubd *self, struct hubd_parts *parts);
/* The lifeline's port; to be made before hubd_start. */
struct lifeline_port hubd_lifeline_port(struct hubd *self);
/* 'config' is completed with session and store.  'restore': JSON of an earlier
 * controller's engines, or empty.
 */
int hubd_start(struct hubd *self, struct hubd_parts *parts,
               struct hub_config *config, struct span restore, rh_error *err);
void hubd_fini(struct hubd *self);

/* hubd_port.c: what the hub core may do to the world. */
extern const struct hub_port hubd_port; // without its ctx
/* Send what waited for the other threads; true if something still waits. */
bool hubd_flush(struct hubd *self);
void hubd_save_engines(struct hubd *self);
/* What was seen of an engine's end, and what is known of its process.  Returns
 * 'seen', or 'out'.
 */
const char *hubd_autopsy(struct hubd *self, struct span uuid, const char *seen,
                         char *out, size_t cap);
void hubd_forget_all(struct hubd *self); // members and outbox

#endif /* CONTROLLER_HUBD_H */
