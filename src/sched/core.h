/* core.h - the state inside a scheduler; for src/sched and its tests only
 *
 * A task is in exactly one state, and the state says where it is linked:
 *
 *   DEPS     its edges hang on unfinished tasks
 *   READY    in its flow's fifo, in 'early', or in the heap of its set
 *   DELAYED  nowhere but in 'timers'
 *   RUNNING  in its engine's 'running', oldest first
 *   OVER     outcome decided and remembered; in 'finishing' until those that
 *            depend on it are told, then in 'answering' until it is answered
 *
 * How the files divide the work (each declares its part below):
 *   sched.c events · meta.c metadata · task.c lifecycle · graph.c dependencies
 *   queue.c order of tasks · set.c restricted tasks · place.c choice of engine
 *   engine.c engines · prefetch.c tasks beyond hwm · explain.c · check.c
 */
#ifndef SCHED_CORE_H
#define SCHED_CORE_H

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "sched/done.h"
#include "sched/ids.h"
#include "sched/pheap.h"
#include "sched/pool.h"
#include "sched/sched.h"

#define RETRY_MS 20 // after the port refused something
#define NEVER INT64_MAX
#define ASK_MAX 64        // ids in one withdraw
#define ID_MAX UINT16_MAX // bytes in a msg_id
#define KILLED_MAX 8      // engines that an error names
#define N_PRIORITIES (2 * SCHED_PRIORITY_MAX + 1)

/* ---- tasks ------------------------------------------------------------- */

// clang-format off
#define TASK_STATES(X)                      \
    X(TASK_DEPS,    "waiting_dependencies") \
    X(TASK_READY,   "waiting_engine")       \
    X(TASK_DELAYED, "delayed")              \
    X(TASK_RUNNING, "running")              \
    X(TASK_OVER,    "finished")
// clang-format on

enum task_state {
#define X(name, text) name,
    TASK_STATES(X)
#undef X
};

enum queued { Q_NONE, Q_FIFO, Q_EARLY, Q_SET };

/* 'waiter' waits for the task whose 'dependents' list this is in. */
struct edge {
    struct edge *next, **prev;
    struct task *waiter;
};

/* One of after and follow. */
struct dep {
    uint32_t n_left; // edges, as long as it is not met
    uint8_t all, success, failure;
    uint8_t used; // given and not empty
};

/* Edges 0..n_after-1 are after's, the others follow's; those that have been
 * decided are unlinked (prev NULL).
 */
struct deps {
    struct dep after, follow;
    uint32_t n_after, n_edge;
    uint32_t n_ran;
    uint32_t *ran; // serials of engines where follow tasks ended as wanted
    struct edge edge[];
};

/* What few tasks have. */
struct extra {
    uint32_t *target; // serials, ascending; NULL: any engine
    uint32_t *black;  // serials, ascending: engines that shall not have it
    uint32_t n_target, n_black, cap_black;
    uint32_t killed[KILLED_MAX]; // serials of engines that died on it
    uint32_t n_killed;
    bool same_engine;
    int32_t max_deaths;   // < 0: as configured
    struct span retry_on; // JSON in the request; n == 0: any error
    int64_t retry_delay_ms;
    int64_t retry_at;
};

struct task {
    struct id_node node;
    struct msg *msg;
    struct flow *flow;
    union {
        struct pnode order; // key: place in the order of tasks, see queue.c
        struct {
            int64_t key;
            struct list link;
        } line;
    } q;
    union {
        struct pnode timer;
        struct {               // OVER: the answer
            struct msg *reply; // to relay; NULL: made from the rest
            const char *ename;
            char *text;      // NULL: no memory for it
            uint32_t serial; // of the engine it ended on; 0: none
            bool ok;
        } last;
    } u;
    union {
        struct set *set;       // READY and Q_SET
        struct engine *engine; // RUNNING; OVER: named in the answer
    };
    struct deps *deps;
    struct extra *extra;
    struct edge *dependents;
    int64_t since;      // put into the queue, or RUNNING: dispatched
    int64_t timeout_ms; // 0: none
    uint32_t id_at;     // msg_id within the header frame
    int32_t retries;
    uint16_t id_n;
    uint8_t state, queued, status, deaths, tries;
    uint8_t cancelled : 1, asked : 1, ahead : 1;
    uint8_t passed : 1;  // its engine has answered later ones
    uint8_t unbegun : 1; // its engine is dead, and had not begun it
};

/* ---- clients ----------------------------------------------------------- */

/* The tasks of one client with one priority. */
struct flow {
    struct client *client;
    struct flow *next; // of this client
    int priority;
    int64_t tag;       // of its next task, see queue.c
    struct list fifo;  // READY, unrestricted, in order
    struct pnode lane; // in 'lanes' while fifo is not empty; key of its head
    size_t n_tasks;
};

struct client {
    struct list link; // in idle_clients while n_tasks is 0
    struct flow *flows;
    size_t n_tasks;
    size_t n_ident;
    uint8_t ident[];
};

/* ---- engines ----------------------------------------------------------- */

/* Engines ordered by rank, in order of arrival among equals; see place.c. */
struct bucket {
    struct list link; // in ladder
    struct list seats;
    uint32_t rank;
};

struct seat {
    struct list link;
    struct bucket *bucket; // NULL: not seated
};

struct ladder {
    struct list buckets; // ascending, none empty
    struct list spare;   // as many buckets as engines, in all
    size_t n;            // seats taken
};

struct engine {
    struct list link;    // in engines, in order of registration
    struct list hungry;  // in hungry, if it may have got room
    struct list stuffed; // in stuffed, if it has more than hwm tasks
    struct list running;
    struct list sets; // struct member: restricted tasks that may run here
    uint32_t serial, refs;
    struct sched_peer peer;
    bool live, blocked, asked;
    uint32_t load;
    int64_t last_used;
    struct seat room, spare; // in place.room, place.spare
    size_t at;               // in place.v, + 1
    uint64_t weight;         // in place.tree
    struct pnode timer;      // in engine_timers: end of grace, or of blocked
    struct pnode overdue;    // in overdue
    char *reason;            // of its loss
    // What prefetch.c knows about the pace of its tasks.
    int64_t last_reply, busy_ms;
    uint32_t n_timed;
    int64_t pace_us; // per task; < 0: unknown
    uint8_t uuid[];
};

enum scheme {
    SCHEME_LEASTLOAD,
    SCHEME_LRU,
    SCHEME_PURE,
    SCHEME_RANDOM,
    SCHEME_TWOBIN,
    SCHEME_WEIGHTED,
    SCHEME_OWN,
    N_SCHEMES
};

/* Engines that have room for a task, arranged for the scheme. */
struct place {
    struct ladder room;  // leastload, lru, pure
    struct engine **v;   // the others
    uint64_t *tree;      // weighted: Fenwick sums of weights of v
    uint64_t sum;        // of all these
    size_t n;            // engines with room, in either form
    struct ladder spare; // engines without, that may prefetch; by load
    struct engine **scratch;
    struct rh_scheme_engine *loads;
    size_t cap;        // of v, tree (+ 1), scratch, loads
    int64_t stamp;     // counts up with use
    int64_t new_stamp; // counts down with new engines
};

/* ---- sets: tasks that may run on some engines only --------------------- */

struct member {
    struct list link; // in engine->sets
    struct set *set;
    struct engine *engine; // NULL: not live
};

/* Waiting tasks with the same restriction.  Lives while tasks wait in it and
 * a little longer.
 */
struct set {
    struct id_node node;
    struct list idle;     // in idle_sets while nothing waits
    struct list fresh;    // in fresh_sets if a task came in this event
    struct heap_node top; // in 'excluding' (exclude only): key of the first
    struct pheap waiting;
    size_t n_waiting;
    bool exclude; // engines named here may not, all others may
    uint32_t n, n_live;
    uint32_t *serial;       // ascending
    struct member member[]; // include only
};

/* ---- the whole --------------------------------------------------------- */

struct serial_slot {
    struct engine *engine; // NULL: gone
    int id;
};

struct sched {
    struct sched_config config;
    struct sched_port port;
    enum scheme scheme;
    int64_t now, armed;
    uint64_t hash_key[2], random;

    struct pool tasks;
    struct ids live; // tasks that are not OVER
    struct done done;
    struct map clients;
    struct client *last_client;
    struct list idle_clients;
    size_t n_idle_clients;

    int64_t clock[N_PRIORITIES]; // tag of the task dispatched last, or more
    struct pheap lanes, early;
    size_t n_common; // tasks in fifos and early

    struct ids sets;
    struct heap excluding;
    struct list idle_sets, fresh_sets;
    size_t n_idle_sets;
    size_t n_in_sets; // tasks

    struct map engines; // live and in grace
    struct list engine_list;
    struct serial_slot *by_serial;
    size_t n_serials, cap_serials; // serial 0 is not used
    size_t n_live;
    int64_t engines_changed;
    struct place place;
    struct list hungry, stuffed;

    struct pheap timers; // tasks
    struct pheap engine_timers, overdue;
    struct list finishing, answering;
    int64_t answer_at;

    int64_t pace_us; // of all engines, see prefetch.c; < 0: unknown
    bool gone_idle;  // an engine became idle in this event

    uint8_t plain[256]; // metadata seen last that asks for nothing
    size_t n_plain;
    uint32_t *serials; // room for set_limits; grows, and is kept
    size_t cap_limits;
    char tried[256]; // how the last try of the current task ended

    struct sched_stats stats; // only the totals and counters by state
};

static inline struct span
task_id(const struct task *t)
{
    return (struct span){msg_part(t->msg, MSG_HEADER).p + t->id_at, t->id_n};
}

static inline bool
task_waits(const struct task *t)
{
    return t->state == TASK_DEPS || t->state == TASK_READY
           || t->state == TASK_DELAYED;
}

/* With a million tasks every one that is looked at is a cache miss; so who
 * knows which comes next says so before doing something else.
 */
static inline void
task_prefetch(const struct task *t)
{
    for (size_t at = 0; at < sizeof(*t); at += 63)
        __builtin_prefetch((const char *)t + at);
}

/* It comes back from an engine for another try. */
static inline void
task_tried(struct task *t)
{
    if (t->tries < UINT8_MAX)
        t->tries++;
}

static inline struct engine *
engine_of(const struct sched *s, uint32_t serial)
{
    return serial < s->n_serials ? s->by_serial[serial].engine : NULL;
}

static inline struct rh_scheme_engine
engine_for_scheme(const struct engine *e)
{
    return (struct rh_scheme_engine){
        .uuid = (const char *)e->peer.uuid.p,
        .n_uuid = e->peer.uuid.n,
        .id = e->peer.id,
        .load = e->load,
        .last_used = e->last_used,
    };
}

static inline bool
engine_live(const struct sched *s, uint32_t serial)
{
    const struct engine *e = engine_of(s, serial);

    return e && e->live;
}

static inline bool
engine_room(const struct sched *s, const struct engine *e)
{
    return e->live && !e->blocked
           && (s->config.hwm == 0 || e->load < s->config.hwm);
}

uint64_t sched_random(struct sched *s);
bool serials_have(const uint32_t *v, size_t n, uint32_t serial);
void serials_add(uint32_t *v, uint32_t *n, uint32_t serial); // room is there
/* At least 'n' of them in *v, or RH_ENOMEM with nothing changed. */
int grow(void **v, size_t *cap, size_t n, size_t size);

struct dep_spec {
    struct span ids; // JSON array or string
    bool all, success, failure;
};

/* meta.c - what the request's metadata asks for */
struct wish {
    const char *ename; // not NULL: the request is invalid
    char text[400];
};
/* Fill in a new task's options and dependencies.  What is wrong is told in
 * 'wish'; RH_ENOMEM.
 */
int meta_read(struct sched *s, struct task *t, int *priority,
              struct wish *wish);
void meta_deps(const struct task *t, struct dep_spec *after,
               struct dep_spec *follow); // of a request that was read before
int wish_fail(struct wish *wish, const char *ename, const char *fmt, ...)
    __attribute__((format(printf, 3, 4))); // returns 0
/* Does 'retry_on' name this error?  'loss': the engine died. */
bool meta_retry_on(const struct task *t, struct span ename, bool loss);

/* task.c */
int task_new(struct sched *s, struct msg *m, struct span id,
             const uint64_t h[2], struct task **out, struct wish *wish);
void task_free(struct sched *s, struct task *t);
/* Find the place of a task that is in none: DEPS, READY or on an engine; or
 * find that there is none, and fail it.
 */
void task_route(struct sched *s, struct task *t);
void task_requeue(struct sched *s, struct task *t); // after it ran
/* It comes back from an engine that has not begun it, as if never sent. */
void task_give_back(struct sched *s, struct task *t);
void task_arm(struct sched *s, struct task *t);
void task_due(struct sched *s, struct task *t); // its timer has come
/* How many live engines may run a READY task. */
size_t task_candidates(const struct sched *s, const struct task *t);
/* The end of a task, with one of four answers: the engine's, an error made
 * here, that of an engine that died, "aborted".  It is taken from wherever it
 * is.  None of them can fail.
 */
void task_end(struct sched *s, struct task *t, bool ok, struct msg *reply);
void task_fail(struct sched *s, struct task *t, const char *ename,
               const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void task_died(struct sched *s, struct task *t, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void task_abort(struct sched *s, struct task *t);
int task_dispatch(struct sched *s, struct task *t, struct engine *e);
void task_off_engine(struct sched *s, struct task *t); // RUNNING: take it off
int task_blacklist(struct task *t, uint32_t serial);   // RH_ENOMEM
void task_blame(struct task *t, uint32_t serial);      // for an engine's death
void task_answer_all(struct sched *s);
void task_counted(struct sched *s, enum task_state state, int by); // in stats

/* sched.c: the end of every event: dispatch, answer, set the alarm */
void event_done(struct sched *s);

/* graph.c */
/* The next id of a list: 1; 0 at the end; RH_EPROTO, RH_ENOMEM.  *at starts at
 * 0; *id may be in 'scratch', until the next call.
 */
int graph_next_id(struct span ids, size_t *at, struct buf *scratch,
                  struct span *id);
int graph_build(struct sched *s, struct task *t, const struct dep_spec *after,
                const struct dep_spec *follow, struct wish *wish);
void graph_link(struct task *t);   // commit what graph_build found
void graph_drop(struct task *t);   // unlink and free
void graph_forget(struct task *t); // free, when no edge matters any more
bool graph_ready(const struct task *t);
void graph_release(struct sched *s, struct task *t, bool ok, uint32_t serial);

/* queue.c */
struct flow *flow_get(struct sched *s, struct span ident, int priority);
void flow_ref(struct sched *s, struct flow *flow);
void flow_unref(struct sched *s, struct flow *flow);
void clients_fini(struct sched *s);
int64_t queue_key(struct sched *s, struct flow *flow);
void queue_push(struct sched *s, struct task *t);         // READY, unrestricted
void queue_remove(struct sched *s, struct task *t);       // from any queue
void queue_passed(struct sched *s, const struct task *t); // dispatched
void queue_look_ahead(const struct flow *flow);
struct task *queue_first(const struct sched *s); // unrestricted; NULL
struct task *queue_best(const struct sched *s, const struct engine *e);

/* set.c */
struct limits {
    bool any;     // no restriction
    bool exclude; // serials are those that may not
    uint32_t *serial;
    uint32_t n;
};
int set_limits(struct sched *s, const struct task *t, struct limits *out);
int set_push(struct sched *s, struct task *t, const struct limits *limits);
void set_remove(struct sched *s, struct task *t);
struct engine *set_only_engine(const struct set *self); // NULL: none or more
void set_limits_of(const struct set *self, struct limits *out);
struct task *set_first(const struct set *self); // NULL: empty
struct task *set_best(const struct sched *s, const struct engine *e,
                      struct task *best);
void set_engine_lost(struct sched *s, struct engine *e);
void sets_fini(struct sched *s);

/* place.c */
void place_init(struct place *self);
void place_fini(struct place *self);
int place_reserve(struct sched *s);  // for one more engine; RH_ENOMEM
void place_release(struct sched *s); // undo one place_reserve
void place_new(struct sched *s, struct engine *e); // to the head of the line
void place_update(struct sched *s, struct engine *e, bool used);
void place_spare(struct sched *s, struct engine *e, bool may);
struct engine *place_pick(struct sched *s, const struct limits *limits);
struct engine *place_pick_spare(const struct sched *s); // NULL: none
int scheme_find(const char *name);                      // -1: unknown

/* engine.c */
void engine_took(struct sched *s, struct engine *e);
void engine_gave(struct sched *s, struct engine *e);
void engine_block(struct sched *s, struct engine *e);
void engine_due(struct sched *s, struct engine *e);
void engine_unref(struct engine *e);
void engines_fini(struct sched *s);
struct engine *engine_find(const struct sched *s, struct span uuid);

/* prefetch.c */
void prefetch_update(struct sched *s, struct engine *e);
void prefetch_timed(struct sched *s, struct engine *e, int64_t sent);
void prefetch_feed(struct sched *s, struct engine *e);
void prefetch_common(struct sched *s);
void prefetch_due(struct sched *s, struct engine *e);
void prefetch_balance(struct sched *s);
void prefetch_lost(struct sched *s, struct engine *e);
int prefetch_ask(struct sched *s, struct engine *e, uint32_t keep,
                 const struct task *only);
bool prefetch_allows(const struct sched *s, const struct engine *e);

#endif /* SCHED_CORE_H */
