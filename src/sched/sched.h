/* sched.h - the task scheduler: which engine gets which task, and when
 *
 * Pure state: no sockets, no clock, no threads.  Messages come in parsed
 * (msg_parse) and verified (session), time comes in as 'now' (monotonic ms,
 * never running backwards), and everything that goes out goes through struct
 * sched_port.  One thread owns a scheduler.
 *
 * What it promises: every submission that sched_on_submit takes is answered
 * exactly once, by 'relay' (the engine's reply) or by 'answer' (made here);
 * no task is ever on two engines; nothing else is sent.
 *
 * The rules a user sees are in docs/guide/tasks-scheduler.md.
 */
#ifndef SCHED_SCHED_H
#define SCHED_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/begun.h"
#include "base/buf.h"
#include "base/span.h"
#include "roundhouse/error.h"
#include "roundhouse/scheme.h"
#include "wire/msg.h"

struct sched;

/* ---- configuration ---------------------------------------------------- */

#define SCHED_UUID_MAX 255     // bytes in an engine's name
#define SCHED_PRIORITY_MAX 100 // |priority|; values beyond count as this

struct sched_config {
    /* "leastload", "lru", "plainrandom", "twobin", "weighted", "pure" */
    const char *scheme;
    const struct rh_scheme *own; // not NULL: used instead; only its 'pick'
    void *own_state;             // for it
    uint32_t hwm;                // tasks per engine at a time; 0: no limit
    uint64_t seed;         // random choices and hash keys: pass random bits
    size_t window;         // finished task ids that are remembered
    size_t max_tasks;      // unfinished tasks held; 0: no limit
    uint32_t max_deaths;   // engines one task may outlive; 0: no limit
    int64_t nowhere_ms;    // a task no engine can run fails after; 0: waits
    uint32_t prefetch_max; // tasks beyond hwm per engine; 0: no prefetch
    int64_t prefetch_us;   // longest expected wait behind prefetched tasks
    int64_t overdue_ms;    // silence after which prefetched tasks come back
};

/* leastload, hwm 1, seed 1, window 1,000,000, max_tasks 0, max_deaths 3,
 * nowhere_ms 0, prefetch_max 32, prefetch_us 1000, overdue_ms 10.
 */
void sched_config_init(struct sched_config *config);

/* Is it the name of a built-in scheme? */
bool sched_scheme_known(const char *name);

/* ---- what the scheduler may do to the world ---------------------------- */

/* What an engine understands beyond the protocol; from its registration. */
enum sched_capability {
    /* It can give back tasks it has not started (port withdraw), and accepts
     * the same signed request again after it gave it back.
     */
    SCHED_PREFETCH = 1,
    /* It accepts the same signed request again after it answered it with an
     * error; without this 'retry_same_engine' has no effect there, because
     * the engine would take the message for a replay.
     */
    SCHED_AGAIN = 2
};

/* An engine, borrowed for the call. */
struct sched_peer {
    struct span uuid;
    int id;
    uint32_t capabilities;
};

enum sched_status { SCHED_ERROR, SCHED_ABORTED };

/* An answer made by the scheduler; everything is borrowed for the call.  It
 * becomes an apply_reply whose parent is the request's header:
 *   SCHED_ERROR    content {"status":"error", ename, evalue, traceback,
 *                  "engine_info":{}}
 *   SCHED_ABORTED  content {"status":"aborted"}
 * With 'engine' (an engine died): routing [client, uuid], metadata
 * {"status":"error","engine":uuid,"date":...}; without: [client], {}.
 */
struct sched_answer {
    struct span client; // ident
    struct msg *request;
    struct span msg_id; // of the request
    enum sched_status status;
    const char *ename, *evalue;      // UTF-8; "" when aborted
    const struct sched_peer *engine; // NULL: no engine is to blame
};

/* The functions must not call the scheduler.  A message is borrowed for the
 * call; msg_ref it to keep it.  A negative result means that nothing was sent
 * and the same will be asked again later (sched_on_tick); it is never taken as
 * the loss of an engine.
 */
struct sched_port {
    void *ctx;
    /* Send [engine->uuid, request's frames from the client ident on]. */
    int (*dispatch)(void *ctx, const struct sched_peer *engine,
                    struct msg *request);
    /* Send the final 'reply' (frames: uuid, client ident, delimiter...) to
     * 'client' as [client, uuid, ...].  Route by 'client', which comes from
     * the request, and not by the reply's frame 1, which the engine chose.
     */
    int (*relay)(void *ctx, struct span client, struct span uuid,
                 struct msg *reply, struct msg *request);
    int (*answer)(void *ctx, const struct sched_answer *answer);
    /* A task was dispatched: tell the hub (task_destination).  Not called by
     * scheme "pure".  May be NULL.
     */
    void (*tracked)(void *ctx, struct span msg_id,
                    const struct sched_peer *engine);
    /* Ask an engine with SCHED_PREFETCH to give back what it has not started
     * of these tasks; sched_on_withdrawn must follow unless the engine is
     * lost.  May be NULL (then there is no prefetch).
     */
    int (*withdraw)(void *ctx, const struct sched_peer *engine,
                    const struct span *msg_id, size_t n);
    /* Call sched_on_tick at 'ms' or as soon after as possible; replaces the
     * time given before.  INT64_MAX: nothing is due.
     */
    void (*wake_at)(void *ctx, int64_t ms);
};

/* Copies 'config' and 'port'.  RH_EINVAL names an unknown scheme, RH_ENOMEM. */
int sched_new(struct sched **out, const struct sched_config *config,
              const struct sched_port *port, rh_error *err);
/* NULL-safe.  Unfinished tasks are dropped without an answer. */
void sched_free(struct sched **self_p);

/* ---- events ------------------------------------------------------------ */

/* An engine may be given tasks from now on.  Tell the scheduler before any
 * client can learn of the engine: a task whose targets are all unknown fails
 * at once.  A name that was lost and is still in its grace time is a new
 * engine; the grace time of the old one ends now.  RH_EEXIST: present already;
 * RH_ELIMIT: name empty or longer than SCHED_UUID_MAX; RH_ENOMEM: nothing
 * changed.
 */
int sched_on_engine(struct sched *self, struct span uuid, int id,
                    uint32_t capabilities, int64_t now, rh_error *err);

/* An engine is dead, for certain, and this is what it had begun.  Tasks that it
 * had not begun will be queued again as if they had never been sent.  To be
 * told right before the engine is lost.
 */
void sched_on_engine_begun(struct sched *self, struct span uuid,
                           const struct begun *begun);

/* An engine is gone: it gets no more tasks, and 'grace_ms' later (0: at once)
 * those it still had are retried or answered with EngineError; replies that
 * come until then count.  'reason' (UTF-8, may be empty) is appended to the
 * error text: "killed by signal 9".  RH_ENOENT: unknown or lost before.
 */
int sched_on_engine_lost(struct sched *self, struct span uuid,
                         struct span reason, int64_t now, int64_t grace_ms);

/* A request [client ident, delimiter, ...].  Takes its own reference.
 * 0: taken; it was dispatched, waits, or has been answered (invalid metadata,
 * impossible dependencies, id in use, and so on, are answers).
 * RH_EPROTO: no ident or no usable header: there is nobody to answer; drop it.
 * RH_ENOMEM: not even the error could be answered, nothing changed: submit it
 * again later or drop it.
 */
int sched_on_submit(struct sched *self, struct msg *m, int64_t now,
                    rh_error *err);

/* A reply [engine uuid, client ident, delimiter, ...].  0: it counted.
 * RH_EPROTO: no two idents or unusable parent or metadata; RH_ENOENT: no such
 * unfinished task (a late reply); RH_ESTATE: the task is not on this engine.
 * With these the reply is dropped and the text is for the log.
 */
int sched_on_reply(struct sched *self, struct msg *m, int64_t now,
                   rh_error *err);

/* The answer to port withdraw: these tasks were not started and never will be
 * on that engine; those asked for and not named here stay there.  Ids that
 * were not asked for are ignored.  RH_ENOENT: no such engine; RH_ESTATE:
 * nothing was asked.
 */
int sched_on_withdrawn(struct sched *self, struct span uuid,
                       const struct span *msg_id, size_t n, int64_t now,
                       rh_error *err);

/* Time has come (wake_at).  Harmless at any other time. */
void sched_on_tick(struct sched *self, int64_t now);

/* ---- requests ---------------------------------------------------------- */

struct sched_cancelled {
    enum {
        SCHED_CANCELLED, // was waiting; answered "aborted"
        SCHED_RUNNING,   // on an engine: abort it there; it is not retried
        SCHED_FINISHED,
        SCHED_UNKNOWN
    } was;
    int engine; // SCHED_RUNNING: where
};

/* Answer waiting tasks with status aborted; for those that depend on them they
 * failed.  A task on an engine stays there, will not be retried, and is
 * answered "aborted" should the engine give it back unstarted.  out[i] (out
 * may be NULL) says what was found.  Returns how many were cancelled.
 */
size_t sched_cancel(struct sched *self, const struct span *msg_id, size_t n,
                    struct sched_cancelled *out, int64_t now);

/* Append one JSON object that says where a task is and why; its keys are in
 * docs/guide/tasks-scheduler.md.  RH_ENOMEM: json->failed.
 */
int sched_explain(struct sched *self, struct span msg_id, int64_t now,
                  struct buf *json);

struct sched_stats {
    size_t n_engines;      // that can be given tasks
    size_t n_idle;         // of these without any task
    size_t n_unassigned;   // tasks not on an engine: the next three
    size_t n_waiting_deps; // for other tasks
    size_t n_waiting_room; // for an engine
    size_t n_delayed;      // for their retry delay
    size_t n_running;      // on an engine
    size_t n_answering;    // finished, but the answer could not be sent yet
    size_t n_remembered;   // finished ids in the window
    size_t n_clients;      // with unfinished tasks
    uint64_t submitted, dispatched, completed, failed, aborted;
    uint64_t retried, unmet, deaths, timeouts, impossible, invalid;
    uint64_t dropped_replies, prefetched, withdrawn, given_back;
};
void sched_get_stats(const struct sched *self, struct sched_stats *out);

/* The first 'cap' engines, oldest first; returns how many there are. */
size_t sched_get_loads(const struct sched *self, struct rh_scheme_engine *out,
                       size_t cap);

/* Abort if an invariant is broken.  Walks everything: for tests. */
void sched_check(struct sched *self);

#endif /* SCHED_SCHED_H */
