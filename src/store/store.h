/* store.h - the task database, as the hub sees it
 *
 * A store keeps one record per message id.  The hub tells it what it learnt,
 * in whatever order things arrive (output may come before its request), with
 * one operation: put.  A record holds references to the request and the reply
 * as they came from the wire; JSON is made of them only when somebody asks.
 *
 * A backend is a table of functions.  Queries reach it parsed (query.h inside
 * this folder), so that one may walk its records and another write SQL.
 *
 * One thread owns a store.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "roundhouse/error.h"
#include "wire/msg.h"

/* A refusal in the words a client reads: the class name and str() of a Python
 * exception.
 */
struct fault {
    const char *ename; // static; NULL: nothing went wrong
    char evalue[320];
};

/* Fill in and return 'code', so that a failing path is one statement.  'fault'
 * may be NULL.  fault_key quotes the text as repr() does, because that is what
 * str(KeyError(text)) gives.
 */
int fault_set(struct fault *fault, int code, const char *ename, const char *fmt,
              ...) __attribute__((format(printf, 4, 5)));
int fault_key(struct fault *fault, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Append what Python's repr() gives for a str (or bytes, with 'b' put before
 * by the caller) of these bytes.
 */
void fault_repr(struct buf *out, struct span s);

/* The fields of a record in the order clients see them.
 *
 * TEXT: a string.  DICT: JSON as it came from the wire.  DATE: ISO 8601 on the
 * wire, microseconds here.  BUFFERS: frames, which never are part of JSON.
 * MAYBE: left out of full records while it is null.
 */
// clang-format off
#define RECORD_FIELD_MAP(X)                          \
    X(MSG_ID,          "msg_id",          TEXT)      \
    X(HEADER,          "header",          DICT)      \
    X(METADATA,        "metadata",        DICT)      \
    X(CONTENT,         "content",         DICT)      \
    X(BUFFERS,         "buffers",         BUFFERS)   \
    X(SUBMITTED,       "submitted",       DATE)      \
    X(CLIENT_UUID,     "client_uuid",     TEXT)      \
    X(ENGINE_UUID,     "engine_uuid",     TEXT)      \
    X(STARTED,         "started",         DATE)      \
    X(COMPLETED,       "completed",       DATE)      \
    X(RESUBMITTED,     "resubmitted",     TEXT)      \
    X(RECEIVED,        "received",        DATE)      \
    X(RESULT_HEADER,   "result_header",   DICT)      \
    X(RESULT_METADATA, "result_metadata", DICT)      \
    X(RESULT_CONTENT,  "result_content",  DICT)      \
    X(RESULT_BUFFERS,  "result_buffers",  BUFFERS)   \
    X(QUEUE,           "queue",           TEXT)      \
    X(EXECUTE_INPUT,   "execute_input",   DICT)      \
    X(EXECUTE_RESULT,  "execute_result",  DICT)      \
    X(ERROR,           "error",           DICT)      \
    X(STDOUT,          "stdout",          TEXT)      \
    X(STDERR,          "stderr",          TEXT)      \
    X(LABEL,           "label",           DICT)      \
    X(DISPLAY_DATA,    "display_data",    MAYBE)
// clang-format on

enum record_field {
#define X(name, text, kind) RECORD_##name,
    RECORD_FIELD_MAP(X)
#undef X
        N_RECORD_FIELDS
};

enum record_kind {
    RECORD_KIND_TEXT,
    RECORD_KIND_DICT,
    RECORD_KIND_DATE,
    RECORD_KIND_BUFFERS,
    RECORD_KIND_MAYBE
};

#define RECORD_BIT(field) (UINT32_C(1) << RECORD_##field)
#define RECORD_ALL ((UINT32_C(1) << N_RECORD_FIELDS) - 1)
#define RECORD_ALL_BUFFERS (RECORD_BIT(BUFFERS) | RECORD_BIT(RESULT_BUFFERS))

extern const char *const record_field_name[N_RECORD_FIELDS];
extern const enum record_kind record_field_kind[N_RECORD_FIELDS];
int record_field_of(struct span name); // RH_ENOENT: no such field

#define RECORD_NO_DATE INT64_MIN

/* One record, or what to change in one.  A zeroed record with record_init is
 * empty: NULL spans and messages and RECORD_NO_DATE are "null" when read and
 * "leave alone" when put.
 */
struct record {
    struct span msg_id;
    struct msg *request; // parsed: header, metadata, content, buffers; from
                         // them client_uuid and label
    struct msg *result;  // parsed: result_header ... result_buffers
    int64_t submitted_us, started_us, completed_us, received_us;
    struct span engine_uuid, resubmitted, queue;
    struct span execute_input, execute_result, error, display_data; // raw JSON
    struct span out, err; // stdout and stderr, UTF-8; a put appends them
    bool late; // a put for a task that is over: if there is no record of it any
               // more, none need be made
};

void record_init(struct record *self);
/* A finished record has a completion date; a record without request only
 * holds output.  Neither is anybody's unfinished task.
 */
bool record_is_unfinished(const struct record *self);
/* Append {"msg_id": ..., ...} with the fields of 'fields' that are no buffers.
 * msg_id is always there.  Frames that are no JSON object become null.
 */
void record_add_json(struct buf *out, const struct record *self,
                     uint32_t fields);
/* Append one field's JSON value; buffers give null. */
void record_add_field(struct buf *out, const struct record *self,
                      enum record_field field);

/* A parsed query.  Empty text or {} matches every record. */
struct query;
/* Fault: unknown operator (KeyError '$foo'), unknown field, bad argument. */
int query_parse(struct query **out, struct span json, struct fault *fault);
void query_free(struct query **self_p);

struct store;

/* Called once per record, in the order they were made.  The record and what it
 * points to is borrowed for the call (messages may be referenced).  Negative:
 * stop, and that is the result.
 */
typedef int record_fn(void *ctx, const struct record *record);
typedef int id_fn(void *ctx, struct span msg_id);

struct store_ops {
    const char *name; // "DictDB", as in option values
    /* Create or change the record of 'msg_id'.  Everything is copied or
     * referenced.  RH_ENOMEM, RH_EIO: nothing changed.
     */
    int (*put)(struct store *self, struct span msg_id,
               const struct record *change, rh_error *err);
    /* One record; NoData is RH_ESTATE.  RH_ENOENT with a KeyError that tells a
     * record evicted from one never seen.  'fields': what the caller will look
     * at.
     */
    int (*get)(struct store *self, struct span msg_id, uint32_t fields,
               record_fn *fn, void *ctx, struct fault *fault);
    int (*find)(struct store *self, const struct query *query, uint32_t fields,
                record_fn *fn, void *ctx, struct fault *fault);
    /* Drop every record that matches; returns how many. */
    int (*drop)(struct store *self, const struct query *query,
                struct fault *fault);
    int (*drop_id)(struct store *self, struct span msg_id,
                   struct fault *fault); // 0: was not there, 1: dropped
    /* Ids of all records with a submission date, oldest first. */
    int (*history)(struct store *self, id_fn *fn, void *ctx,
                   struct fault *fault);
    /* Do what is due (commits); returns when to be called again, monotonic ms,
     * INT64_MAX: never.  'err' tells what failed, which is tried again.  May be
     * NULL.
     */
    int64_t (*tick)(struct store *self, int64_t now, rh_error *err);
    void (*close)(struct store *self);
    void (*check)(const struct store *self); // asserts invariants; may be NULL
};

/* A backend's own struct begins with this. */
struct store {
    const struct store_ops *ops;
};

void store_close(struct store **self_p); // NULL-safe, clears *self_p

struct memory_limits {
    uint64_t max_bytes; // of all messages and output together
    size_t max_records;
    double cull_fraction; // of a limit, freed at once when it is exceeded
    size_t max_output;    // bytes of stdout, and of stderr, in one record
};
extern const struct memory_limits memory_limits_default;

/* "DictDB".  Evicts the records that finished longest ago; never a task that
 * is unfinished, even if that keeps it above a limit.
 */
int memory_open(struct store **out, const struct memory_limits *limits,
                rh_error *err);
/* "SQLiteDB": 'table' of the file 'path', both created if need be.  Commits are
 * up to ops->tick.  RH_EIO names the file and SQLite's reason.
 */
int sqlite_open(struct store **out, const char *path, const char *table,
                rh_error *err);
/* "NoDB": takes everything, keeps nothing, answers reads with NoData. */
int none_open(struct store **out, rh_error *err);

#endif /* STORE_STORE_H */
