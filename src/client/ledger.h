/* ledger.h - which requests are open, which engines there are
 *
 * Pure: no sockets, no lock, no clock.  Messages come in checked and parsed
 * (signature, shape); time is passed in; what happened goes out through the
 * port.  Whatever arrives in whatever order, every request that was added is
 * settled exactly once.
 */
#ifndef CLIENT_LEDGER_H
#define CLIENT_LEDGER_H

#include "base/map.h"
#include "client/request.h"

struct moment {
    int64_t mono_us; // deadlines
    int64_t wall_us; // dates
};

struct engine {
    int id;
    bool leaving;        // unregistered, its last replies may be on the way
    int64_t gone_at_us;  // when its pending requests fail
    struct list pending; // requests by on_engine
    struct list link;    // among those leaving
    size_t uuid_n;
    char uuid[]; // terminated
};

struct ledger_port {
    /* 'bits' of the request's state were just set. */
    void (*settled)(void *ctx, struct rh_request *req, unsigned bits);
    /* Output arrived. */
    void (*output)(void *ctx, struct rh_request *req);
    /* An engine came or went. */
    void (*engine)(void *ctx, const struct engine *engine, bool joined);
    /* A message of our session for no request that is open. */
    void (*stray)(void *ctx, struct msg *m);
    /* The controller said goodbye. */
    void (*shutdown)(void *ctx);
};

struct ledger {
    const struct ledger_port *port;
    void *ctx;
    struct span session; // borrowed
    struct map pending;  // by msg_id; every entry is a reference
    struct map by_uuid;
    struct engine **engine; // by id, strictly increasing
    size_t n_engines, cap_engines;
    struct list leaving;    // by gone_at_us
    int64_t shutdown_at_us; // everything fails then; 0: no goodbye yet
    uint64_t version;       // of the engines
    uint64_t serial;        // of the last request
    uint64_t n_unclaimed, n_late, n_malformed, n_lost;
};

/* Between an engine's leaving and the failure of its requests: a reply that
 * it sent before it left travels on another connection.
 */
#define LEAVE_GRACE_US 25000
/* The same for a controller that says goodbye. */
#define SHUTDOWN_GRACE_US 2000000

void ledger_init(struct ledger *self, struct span session,
                 const struct ledger_port *port, void *ctx);
/* Every request must be settled (ledger_fail_all). */
void ledger_fini(struct ledger *self);

/* Take a new request (and its parts).  0: send it.  1: it has failed already,
 * its engine is not registered: do not send.  RH_EEXIST, RH_ENOMEM: nothing
 * changed.
 */
int ledger_add(struct ledger *self, struct rh_request *req, struct moment now,
               rh_error *err);
/* Take it out again, as if it had never been added. */
void ledger_retract(struct ledger *self, struct rh_request *req);
/* Nobody wants the result any more. */
void ledger_abandon(struct ledger *self, struct rh_request *req);

/* What arrived.  0, or a code and a text that is for a log only: RH_ENOENT (no
 * such request), RH_EEXIST (it was settled before), RH_EPROTO, RH_ENOMEM.
 */
int ledger_reply(struct ledger *self, struct msg *m, struct moment now,
                 rh_error *err);
int ledger_output(struct ledger *self, struct msg *m, struct moment now,
                  rh_error *err);
int ledger_notify(struct ledger *self, struct msg *m, struct moment now,
                  rh_error *err);
/* A reply was signed by one of us but cannot be read, except for its parent
 * header: that is an answer, too.
 */
void ledger_unreadable(struct ledger *self, struct span parent,
                       struct moment now);
/* The hub's first answer: {"engines": {"0": uuid, ...}}. */
int ledger_connected(struct ledger *self, struct span content, rh_error *err);
/* The same after notifications may have been missed: changes are news. */
int ledger_resync(struct ledger *self, struct span content, struct moment now,
                  rh_error *err);

/* Give up waiting for output of a request that has its reply. */
void ledger_end_output(struct ledger *self, struct rh_request *req);
void ledger_fail(struct ledger *self, struct rh_request *req, enum failure why,
                 int engine_id, struct moment now);
/* Of one channel, those up to 'serial'. */
void ledger_fail_channel(struct ledger *self, enum rh_channel channel,
                         uint64_t serial, struct moment now);
void ledger_fail_all(struct ledger *self, enum failure why, struct moment now);

/* Do what is due; when to call again, or INT64_MAX. */
int64_t ledger_tick(struct ledger *self, struct moment now);

struct engine *ledger_engine(const struct ledger *self, struct span uuid);
/* Abort if an invariant is broken; for tests. */
void ledger_check(const struct ledger *self);

#endif /* CLIENT_LEDGER_H */
