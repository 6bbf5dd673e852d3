/* hub.h - which engines there are, what ran, and every query about it
 *
 * Pure: no sockets, no clock, no threads.  The caller passes 'now' (monotonic
 * ms) and 'wall_us' (UTC), and everything the hub does to the world goes
 * through the port.  Port functions must not call back into the hub.
 *
 * Messages are borrowed for the call; the hub takes its own references.
 */
#ifndef HUB_HUB_H
#define HUB_HUB_H

#include <stdint.h>

#include "base/buf.h"
#include "base/log.h"
#include "store/store.h"
#include "wire/msg.h"
#include "wire/session.h"

struct hub;

enum hub_engine_event {
    HUB_ENGINE_PENDING, // registered, its heart is awaited (before the reply)
    HUB_ENGINE_UP,      // usable from now on (before the notification)
    HUB_ENGINE_DOWN     // gone, or never came; 'why' is one plain phrase
};

enum hub_peer { HUB_CLIENT, HUB_ENGINE };

struct hub_port {
    void *ctx;
    /* Send on the query ROUTER; routing frames are in the message. */
    void (*reply)(void *ctx, struct msg *m);
    /* Publish on the notification PUB; no routing frames. */
    void (*notify)(void *ctx, struct msg *m);
    /* Send as a client of the hub's own on the task channel; no routing
     * frames.  What comes back on that socket is to be dropped.
     */
    int (*submit_task)(void *ctx, struct msg *m, rh_error *err);
    /* Pass on a request about tasks to the scheduler of this process, which
     * will answer it, once, through 'reply'.  May be NULL.
     */
    int (*ask_scheduler)(void *ctx, struct msg *m, rh_error *err);
    /* A client asked for it and has its answer: end the controller soon (a
     * second later, so that the last messages leave).
     */
    void (*shutdown)(void *ctx);
    /* Engine id -1 is never used.  'uuid' is borrowed. */
    void (*engine)(void *ctx, enum hub_engine_event event, int id,
                   struct span uuid, const char *why);
    /* The new text of engines<cluster>.json, at every change. */
    void (*save_engines)(void *ctx, struct span json);
    /* Append a JSON object to go into registration_reply or connection_reply
     * as "roundhouse", or nothing.  'asked' is the raw value of that key in
     * the request, empty if it has none; 'uuid' is empty for clients.  May be
     * NULL.
     */
    void (*offer)(void *ctx, enum hub_peer peer, int id, struct span uuid,
                  struct span asked, struct buf *out);
    void (*log)(void *ctx, enum log_level level, const char *text);
};

/* Zero means the default given here. */
struct hub_config {
    struct session *session;         // borrowed; the hub thread's own
    struct store *store;             // borrowed
    const char *username;            // "roundhouse"
    const char *session_id;          // NULL: random
    int hb_period_ms;                // told to engines; 3000
    int64_t registration_timeout_ms; // max(30 s, 10 periods)
    int64_t stranded_delay_ms;   // 1000: engine gone -> EngineError records;
                                 // a reply that comes later still counts
    struct span connection_info; // JSON object for registration_reply; copied
    size_t max_engines;          // 65536 registered or pending at once
    size_t max_finished;         // 65536 ids of finished tasks remembered
    const struct msg_limits *limits; // msg_limits_default
};

int hub_new(struct hub **out, const struct hub_config *config,
            const struct hub_port *port, rh_error *err);
void hub_free(struct hub **self_p); // sends nothing

/* A message from the query ROUTER, just as received (not parsed).  Answered
 * once, and at once unless it asks to wait (then by hub_tick), except
 * unregistration_request and messages that are malformed, unsigned or seen
 * before, which get nothing.
 */
void hub_on_request(struct hub *self, struct msg *m, int64_t now,
                    int64_t wall_us);

/* Copies of traffic, msg_parse'd by whoever relayed them.  'U' is an engine's
 * uuid, 'cid' a client's identity, MSG begins with the delimiter:
 *
 *   HUB_IN         U, cid, MSG     mux request, as routed
 *   HUB_OUT        cid, U, MSG     mux reply
 *   HUB_INTASK     cid, MSG        task as submitted
 *   HUB_TRACKTASK  any, MSG        task_destination (or use hub_on_assigned)
 *   HUB_OUTTASK    cid[, U], MSG   a task's final reply, also the scheduler's
 *   HUB_IOPUB      topic, MSG
 *   HUB_INBCAST    U, cid, MSG     one engine's share, with its own id
 *                                  "<id>_<U>", not coalescing; or
 *                  cid, MSG        a coalescing broadcast, once, as submitted
 *   HUB_OUTBCAST   cid, U, MSG     one engine's reply, not coalescing; or
 *                  cid, MSG        the coalesced reply, once
 *
 * Control traffic is not recorded.  The hub checks signature and replay
 * itself; what fails is logged and dropped.
 */
enum hub_kind {
    HUB_IN,
    HUB_OUT,
    HUB_INTASK,
    HUB_TRACKTASK,
    HUB_OUTTASK,
    HUB_IOPUB,
    HUB_INBCAST,
    HUB_OUTBCAST,
    N_HUB_KINDS
};
void hub_on_traffic(struct hub *self, enum hub_kind kind, struct msg *m,
                    int64_t now, int64_t wall_us);

/* The scheduler of this very process sent a task to an engine: the same as
 * HUB_TRACKTASK without composing and signing a message.
 */
void hub_on_assigned(struct hub *self, struct span msg_id, struct span uuid);

/* The first pong of an engine: admits it if it is pending.  Else ignored. */
void hub_on_heart(struct hub *self, struct span uuid, int64_t now,
                  int64_t wall_us);
/* Unregister, pending or not: its heart stopped, its lifeline closed, ...
 * 'why' is one plain phrase for logs ("its process ended").  Unknown: ignored.
 */
void hub_on_engine_lost(struct hub *self, struct span uuid, const char *why,
                        int64_t now, int64_t wall_us);

/* Do what is due; returns when to be called again (monotonic ms, INT64_MAX:
 * not until something else happens).  Cheap: call it after every batch.
 */
int64_t hub_tick(struct hub *self, int64_t now, int64_t wall_us);

/* {"engines": {"0": "<uuid>"}, "next_id": 1}, as in engines<cluster>.json. */
int hub_export_engines(const struct hub *self, struct buf *out);
/* Take over engines of an earlier controller as registered, before any other
 * event: HUB_ENGINE_UP for each, no notification.  RH_EPROTO, RH_ESTATE (the
 * hub knows engines already): nothing changed.
 */
int hub_restore_engines(struct hub *self, struct span json, rh_error *err);

size_t hub_n_engines(const struct hub *self);                // registered now
struct span hub_engine_uuid(const struct hub *self, int id); // empty: none

/* Assert every invariant; tests call it after each step. */
void hub_check(const struct hub *self);

#endif /* HUB_HUB_H */
