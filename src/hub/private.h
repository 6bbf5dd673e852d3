/* private.h - the hub's state, shared by its verbs
 *
 * An engine is PENDING from its request to its first pong, then UP, then DEAD;
 * dead ones stay for queue_request, the oldest forgotten first.
 *
 * A task is one request that somebody may ask about.  It is UNASSIGNED (at the
 * scheduler), PENDING (on an engine) or DONE.  Its links put it into the lists
 * of the engines it concerns: one, but for coalescing broadcasts.
 */
#ifndef HUB_PRIVATE_H
#define HUB_PRIVATE_H

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "hub/hub.h"
#include "wire/compose.h"
#include "wire/scan.h"

#define MAX_DEAD 1024 // engines kept for queue_request
#define MAX_UUID 255  // a ZeroMQ identity
#define MAX_MSG_ID 1024
#define MAX_ENGINE_ID (1 << 30)
#define STRAND_RETRY_MS 1000 // after failing to record for want of memory
#define DEAF_MS 10000 // after its hello a client may miss notifications so long
#define REPEAT_MS 1000 // then they are sent once more

enum engine_state { ENGINE_PENDING, ENGINE_UP, ENGINE_DEAD };

/* Which of an engine's lists a link is in. */
enum shelf { SHELF_QUEUE, SHELF_TASKS, SHELF_COMPLETED, N_SHELVES, SHELF_NONE };

struct engine {
    int id;
    enum engine_state state;
    bool stranded;    // dead, and its time for late replies is over
    struct list dead; // in hub->dead
    struct list shelf[N_SHELVES];
    size_t n_shelf[N_SHELVES];
    uint64_t n_completed; // ever; the shelf only holds ids remembered
    struct heap_node due; // pending: expiry; up: notice; dead: stranding
    int64_t since;
    size_t n_uuid;
    char uuid[];
};

static inline struct span
engine_uuid(const struct engine *e)
{
    return span_of(e->uuid, e->n_uuid);
}

enum task_state { TASK_UNASSIGNED, TASK_PENDING, TASK_DONE };

struct task;

struct link {
    struct list node; // in engine->shelf[shelf]
    struct engine *engine;
    struct task *task;
    enum shelf shelf;
};

struct task {
    struct list node; // hub->unassigned, ->pending or ->done
    enum task_state state;
    bool stranded;    // DONE for lack of its engine: a real reply still counts
    bool output_done; // nothing more is printed: idle, or never ran
    struct list watches; // requests that wait for it
    size_t n_link;
    struct link *link; // behind msg_id
    size_t n_msg_id;
    char msg_id[];
};

static inline struct span
task_id(const struct task *t)
{
    return span_of(t->msg_id, t->n_msg_id);
}

/* What a request waits for: that a task is done, or that the output of one
 * that is done is here, which takes another way than its reply.
 */
enum watch_kind { WATCH_RESULT, WATCH_OUTPUT, N_WATCH_KINDS };

struct hub {
    struct hub_port port;
    int64_t deaf_until; // there are clients that may miss notifications
    struct session *session;
    struct store *store;
    struct sender sender;
    struct msg_limits limits;
    int hb_period_ms;
    int64_t registration_timeout_ms, stranded_delay_ms;
    struct buf connection_info;
    size_t max_engines, max_finished;

    struct map by_uuid;     // all engines
    struct engine **engine; // all engines, ids rise
    size_t n_engine, cap_engine;
    size_t n_pending, n_up, n_dead;
    struct list dead; // longest dead first
    struct heap due;
    int next_id;

    struct map tasks;
    struct list unassigned, pending, done; // done: oldest first
    size_t n_unassigned, n_pending_task, n_done;

    struct list watches[N_WATCH_KINDS]; // requests that wait, oldest first
    struct list ripe; // those among them that need not wait any more
    size_t n_watches, n_watched_bytes;
};

void hub_log(const struct hub *self, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- engines.c -------------------------------------------------------- */

struct engine *engine_by_id(const struct hub *self, int64_t id);
struct engine *engine_by_uuid(const struct hub *self, struct span uuid);

/* Make a PENDING engine.  'asked': a wanted id, or negative. */
int engine_register(struct hub *self, struct span uuid, int64_t asked,
                    int64_t now, int64_t wall_us, struct engine **out,
                    struct fault *fault);
void engine_admit(struct hub *self, struct engine *e, int64_t now,
                  int64_t wall_us);
/* Unregister; a pending one is freed, a live one becomes DEAD. */
void engine_lose(struct hub *self, struct engine *e, const char *why,
                 int64_t now, int64_t wall_us);
/* Record EngineError for what it still has in its queue. */
void engine_strand(struct hub *self, struct engine *e, int64_t now,
                   int64_t wall_us);
void hub_engine_due(struct hub *self, struct engine *e, int64_t now,
                    int64_t wall_us);
void engines_free(struct hub *self);

/* ---- tasks.c ---------------------------------------------------------- */

struct task *task_get(const struct hub *self, struct span msg_id);
/* A new task with room for 'n_link' engines; with none yet it is UNASSIGNED.
 * NULL: out of memory.
 */
struct task *hub_task_new(struct hub *self, struct span msg_id, size_t n_link);
/* Put link 'i' on an engine's shelf (QUEUE or TASKS); the task is PENDING. */
void task_put(struct hub *self, struct task *t, size_t i, struct engine *e,
              enum shelf shelf);
/* DONE.  Its links move to their engines' COMPLETED if 'counted', else leave
 * them.  May free the tasks that finished longest ago, but not 't'.
 */
void task_finish(struct hub *self, struct task *t, bool counted);
void hub_task_free(struct hub *self, struct task *t);
void link_move(struct link *link, struct engine *e, enum shelf shelf);

/* ---- dispatch.c ------------------------------------------------------- */

struct json_t;

struct request {
    struct msg *m;
    struct header_view header;
    const struct json_t *content; // always an object
    int64_t now, wall_us;
    bool final; // it has waited long enough: answer now
};

/* What a handler answers; it never sends.  'content' is the inside of a JSON
 * object after {"status": "ok": handlers append ", \"key\": value".
 */
struct reply {
    struct buf content;
    struct span *buffer;
    struct msg **owner; // referenced
    size_t n_buffers, cap_buffers;
    bool hub_error; // a fault comes as hub_error whatever the row says
    bool kept;      // not here: watch_keep or the scheduler has the request
};

int reply_add_buffers(struct reply *rep, struct msg *m); // RH_ENOMEM
/* Everything that may go wrong ends here: RH_ENOMEM with a MemoryError. */
int request_no_memory(struct fault *fault);

/* Compose and publish; failing is logged. */
void hub_notify(struct hub *self, const char *msg_type, struct span parent,
                struct span content, int64_t wall_us);
/* {"status": "error", ...} */
void add_error_fields(struct buf *out, const char *where,
                      const struct fault *fault);

typedef int handler(struct hub *self, const struct request *req,
                    struct reply *rep, struct fault *fault);

handler hub_on_become_dask, hub_on_connection, hub_on_db, hub_on_history,
    hub_on_load, hub_on_purge, hub_on_queue, hub_on_registration,
    hub_on_resubmit, hub_on_result, hub_on_shutdown, hub_on_stop_distributed,
    hub_on_task_request, hub_on_unregistration;

/* What watch.c has kept, as if it had come now. */
void hub_serve_again(struct hub *self, struct msg *m, bool final, int64_t now,
                     int64_t wall_us);

/* ---- watch.c ---------------------------------------------------------- */

/* Keep a request until a task is done, or its output if it is done already.
 * False: it has waited long enough, or there is no room; it has to be answered
 * now.
 */
bool watch_keep(struct hub *self, const struct request *req, struct task *t);
/* Something happened to the task: hub_tick serves who waited for it. */
void watch_wake(struct hub *self, struct task *t);
/* Serve what is ripe; returns when the next one gives up. */
int64_t watch_tick(struct hub *self, int64_t now, int64_t wall_us);
void watches_free(struct hub *self);
size_t watches_count(const struct list *list);

/* ---- content.c: arguments of requests ---------------------------------- */

/* Any JSON object.  RH_ENOMEM, RH_EPROTO. */
int content_parse(struct json_t **out, struct span json, rh_error *err);
/* Message ids of content[key], a list of strings or one string: each once, in
 * byte order, which is Python's.  Borrowed from the request; *out is freed with
 * mem_free.  A missing key is a KeyError if 'required', else no ids.
 */
int content_ids(const struct request *req, const char *key, bool required,
                struct span **out, size_t *n, struct fault *fault);
/* Python's truth of a value that may be missing. */
bool content_flag(const struct request *req, const char *key);

#endif /* HUB_PRIVATE_H */
