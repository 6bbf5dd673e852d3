/* sqlite.c - the task database in a file ("SQLiteDB")
 *
 * Upstream's table, column by column, so that tools made for the one read the
 * other (upstream itself refuses existing tables under newer SQLite):
 *
 *   text       msg_id (key), client_uuid, engine_uuid, resubmitted, queue,
 *              execute_input (the code), execute_result and error (JSON),
 *              stdout, stderr, label
 *   dict text  header, metadata, content and result_* (JSON)
 *   bufs blob  buffers, result_buffers (bufs.h)
 *   timestamp  submitted, started, completed, received (ISO 8601, +00:00)
 *
 * A table of another form is left alone and <table>_1, _2, ... used.  There is
 * no column for display_data; it is not kept.
 *
 * A put only goes to a memory store in front of the file.  Every two seconds
 * (or when that is large, or somebody looks) it is written down: so one row is
 * rewritten once however many pieces of output came, the file is locked for
 * moments only, and a full or busy disk costs nothing but another try.
 *
 * The WHERE clause only narrows a search; query.c decides, so that every
 * operator means the same on every backend.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <strings.h>

#include "base/isodate.h"
#include "base/map.h"
#include "base/mem.h"
#include "store/private.h"
#include "store/query.h"
#include "store/sqlite_row.h"
#include "store/sqlite_where.h"
#include "wire/scan.h"

#define COMMIT_MS 2000
#define MANY 2048                      // waiting puts that are worth writing
#define MUCH ((uint64_t)32 << 20)      // and bytes
#define TOO_MUCH ((uint64_t)512 << 20) // waiting bytes that refuse more

struct sqlite {
    struct store store;
    struct store *waiting; // what is not in the file yet
    size_t n_puts;         // in 'waiting', more or less
    uint64_t n_bytes;
    sqlite3 *db;
    sqlite3_stmt *put, *get, *get_light, *drop, *begin, *commit;
    char *table;       // quoted
    int64_t commit_at; // 0: nothing to commit
    bool dirty;
};

static const char *const column_type[N_COLUMNS] = {
    [RECORD_MSG_ID] = "text",
    [RECORD_HEADER] = "dict text",
    [RECORD_METADATA] = "dict text",
    [RECORD_CONTENT] = "dict text",
    [RECORD_BUFFERS] = "bufs blob",
    [RECORD_SUBMITTED] = "timestamp",
    [RECORD_CLIENT_UUID] = "text",
    [RECORD_ENGINE_UUID] = "text",
    [RECORD_STARTED] = "timestamp",
    [RECORD_COMPLETED] = "timestamp",
    [RECORD_RESUBMITTED] = "text",
    [RECORD_RECEIVED] = "timestamp",
    [RECORD_RESULT_HEADER] = "dict text",
    [RECORD_RESULT_METADATA] = "dict text",
    [RECORD_RESULT_CONTENT] = "dict text",
    [RECORD_RESULT_BUFFERS] = "bufs blob",
    [RECORD_QUEUE] = "text",
    [RECORD_EXECUTE_INPUT] = "text",
    [RECORD_EXECUTE_RESULT] = "text",
    [RECORD_ERROR] = "text",
    [RECORD_STDOUT] = "text",
    [RECORD_STDERR] = "text",
    [RECORD_LABEL] = "text",
};

static struct sqlite *
sqlite(struct store *store)
{
    return (struct sqlite *)(void *)store;
}

static int
failed(const struct sqlite *self, const char *doing, rh_error *err)
{
    const int code = sqlite3_errcode(self->db);

    return rh_fail(err, code == SQLITE_NOMEM ? RH_ENOMEM : RH_EIO,
                   "SQLite, %s: %s", doing, sqlite3_errmsg(self->db));
}

static int
fault_of(int rc, const rh_error *err, struct fault *fault)
{
    return fault_set(fault, rc,
                     rc == RH_ENOMEM ? "MemoryError" : "OperationalError", "%s",
                     err->text);
}

/* Runs a statement that gives no rows, and makes it ready for the next time.
 */
static int
run(struct sqlite *self, sqlite3_stmt *stmt, const char *doing, rh_error *err)
{
    const int rc = sqlite3_step(stmt);
    const int result = rc == SQLITE_DONE ? 0 : failed(self, doing, err);

    (void)sqlite3_reset(stmt);
    (void)sqlite3_clear_bindings(stmt);
    return result;
}

/* ---- writing ---------------------------------------------------------- */

static int
begin(struct sqlite *self, rh_error *err)
{
    int rc;

    // A failure may have ended the transaction already.
    if (!sqlite3_get_autocommit(self->db))
        return 0;
    rc = run(self, self->begin, "beginning", err);
    if (rc == 0)
        self->commit_at = INT64_MIN; // now the file is locked: commit soon
    return rc;
}

static int
write_row(struct sqlite *self, const struct record *r, rh_error *err)
{
    int rc = begin(self, err);

    if (rc < 0)
        return rc;
    for (int i = 0; i < N_COLUMNS; i++) {
        rc = sqlite_row_bind(self->put, r, (enum record_field)i);
        if (rc == SQLITE_OK)
            continue;
        (void)sqlite3_clear_bindings(self->put);
        return rh_fail(err, rc == SQLITE_NOMEM ? RH_ENOMEM : RH_EIO,
                       "SQLite, %s of task %.*s: %s", record_field_name[i],
                       (int)(r->msg_id.n < 96 ? r->msg_id.n : 96),
                       (const char *)r->msg_id.p, sqlite3_errstr(rc));
    }
    return run(self, self->put, "recording a task", err);
}

/* ---- what is not written yet ------------------------------------------ */

struct writer {
    struct sqlite *self;
    rh_error *err;
    int rc;
    char id[2048]; // of the record written, to forget it
    size_t n;
};

static int
write_one(void *ctx, const struct record *r)
{
    struct writer *w = ctx;

    w->rc = write_row(w->self, r, w->err);
    w->n = r->msg_id.n;
    if (w->n <= sizeof(w->id))
        memcpy(w->id, r->msg_id.p, w->n);
    return RH_EINTR; // one at a time, because it is dropped next
}

/* Move everything that waits into the file's transaction.  Each record leaves
 * the front as soon as it is in, so that a failure repeats nothing.
 */
static int
flush(struct sqlite *self, rh_error *err)
{
    const struct store_ops *ops = self->waiting->ops;
    struct query *all = NULL;
    int rc;

    if (self->n_puts == 0)
        return 0;
    if (query_parse(&all, SPAN_NONE, NULL) < 0)
        return rh_fail(err, RH_ENOMEM, "out of memory writing records");
    rc = begin(self, err);
    while (rc == 0) {
        struct writer w = {.self = self, .err = err};

        rc = ops->find(self->waiting, all, RECORD_ALL, write_one, &w, NULL);
        if (rc == 0)
            break; // nothing left
        rc = rc == RH_EINTR ? w.rc : rc;
        if (rc == 0)
            (void)ops->drop_id(self->waiting, span_of(w.id, w.n), NULL);
    }
    query_free(&all);
    if (rc == 0) {
        self->n_puts = 0;
        self->n_bytes = 0;
    }
    return rc;
}

static uint64_t
size_of_change(const struct record *c)
{
    const struct msg *part[] = {c->request, c->result};
    uint64_t n = 512 + c->out.n + c->err.n + c->execute_result.n + c->error.n;

    for (int k = 0; k < 2; k++)
        for (uint32_t i = 0; part[k] && i < part[k]->n; i++)
            n += part[k]->frame[i].n;
    return n;
}

static int
put(struct store *store, struct span msg_id, const struct record *change,
    rh_error *err)
{
    struct sqlite *self = sqlite(store);
    int rc;

    if (msg_id.n > sizeof(((struct writer *)NULL)->id))
        return rh_fail(err, RH_ELIMIT, "message id of %zu bytes", msg_id.n);
    // A failure here shows again in tick, which reports it.
    if (self->n_puts >= MANY || self->n_bytes >= MUCH)
        (void)flush(self, NULL);
    if (self->n_bytes >= TOO_MUCH)
        return rh_fail(err, RH_ELIMIT,
                       "%llu MiB wait for a task database that cannot be "
                       "written; this record is not kept",
                       (unsigned long long)(self->n_bytes >> 20));
    rc = self->waiting->ops->put(self->waiting, msg_id, change, err);
    if (rc < 0)
        return rc;
    self->n_puts++;
    self->n_bytes += size_of_change(change);
    self->dirty = true;
    return 0;
}

/* ---- reading ---------------------------------------------------------- */

/* The next row that 'query' (if any) accepts goes to 'fn'.  1: there may be
 * more, 0: there are none.
 */
static int
next_row(struct sqlite *self, sqlite3_stmt *stmt, const struct query *query,
         record_fn *fn, void *ctx, rh_error *err)
{
    struct sqlite_row row = {0};
    int rc = sqlite3_step(stmt);

    if (rc == SQLITE_DONE)
        return 0;
    if (rc != SQLITE_ROW)
        return failed(self, "reading a task", err);
    rc = sqlite_row_read(&row, stmt);
    if (rc == 0)
        rc = query ? query_match(query, &row.record) : 1;
    if (rc == RH_ENOMEM)
        (void)rh_fail(err, rc, "out of memory for a task's record");
    if (rc > 0)
        rc = fn(ctx, &row.record);
    sqlite_row_fini(&row);
    return rc < 0 ? rc : 1;
}

/* 1: found, 0: not there. */
static int
read_one(struct sqlite *self, struct span msg_id, uint32_t fields,
         const struct query *query, record_fn *fn, void *ctx, rh_error *err)
{
    sqlite3_stmt *stmt =
        fields & RECORD_ALL_BUFFERS ? self->get : self->get_light;
    int rc =
        sqlite3_bind_text64(stmt, 1, msg_id.n ? (const char *)msg_id.p : "",
                            msg_id.n, SQLITE_STATIC, SQLITE_UTF8);

    rc = rc == SQLITE_OK ? next_row(self, stmt, query, fn, ctx, err)
                         : failed(self, "asking for a task", err);
    (void)sqlite3_reset(stmt);
    (void)sqlite3_clear_bindings(stmt);
    return rc;
}

/* 'fn' has said why itself, if it was 'fn' that failed. */
static int
complain(int rc, const rh_error *err, struct fault *fault)
{
    return rc < 0 && err->text[0] ? fault_of(rc, err, fault) : rc;
}

static int
get(struct store *store, struct span msg_id, uint32_t fields, record_fn *fn,
    void *ctx, struct fault *fault)
{
    struct sqlite *self = sqlite(store);
    rh_error err = {0};
    int rc = flush(self, &err);

    if (rc == 0)
        rc = read_one(self, msg_id, fields, NULL, fn, ctx, &err);
    if (rc < 0)
        return complain(rc, &err, fault);
    if (rc == 0)
        return fault_key(fault, RH_ENOENT, "No such msg: '%.*s'",
                         (int)(msg_id.n < 128 ? msg_id.n : 128),
                         (const char *)msg_id.p);
    return 0;
}

static void
add_columns(struct buf *out, bool light)
{
    for (int i = 0; i < N_COLUMNS; i++) {
        const char *name = record_field_name[i];

        if (light && record_field_kind[i] == RECORD_KIND_BUFFERS)
            name = "NULL";
        buf_add_fmt(out, "%s%s", i ? ", " : "", name);
    }
}

static int
prepare(struct sqlite *self, struct buf *sql, sqlite3_stmt **out, rh_error *err)
{
    int rc;

    buf_add_char(sql, '\0');
    if (sql->failed)
        return rh_fail(err, RH_ENOMEM, "out of memory for a statement");
    rc = sqlite3_prepare_v3(self->db, (const char *)sql->p, -1,
                            SQLITE_PREPARE_PERSISTENT, out, NULL);
    buf_clear(sql);
    return rc == SQLITE_OK ? 0 : failed(self, "preparing a statement", err);
}

static int
search(struct sqlite *self, const struct query *query, uint32_t fields,
       record_fn *fn, void *ctx, rh_error *err)
{
    struct buf sql = {0};
    struct sqlite_where where = {0};
    sqlite3_stmt *stmt = NULL;
    int rc;

    buf_add_str(&sql, "SELECT ");
    add_columns(&sql, !(fields & RECORD_ALL_BUFFERS)
                          && !(query_fields(query) & RECORD_ALL_BUFFERS));
    buf_add_fmt(&sql, " FROM %s", self->table);
    sqlite_where_make(&where, query, &sql);
    buf_add_str(&sql, " ORDER BY rowid");
    rc = prepare(self, &sql, &stmt, err);
    if (rc == 0 && sqlite_where_bind(&where, stmt) != SQLITE_OK)
        rc = failed(self, "searching", err);
    if (rc == 0)
        do
            rc = next_row(self, stmt, query, fn, ctx, err);
        while (rc > 0);
    (void)sqlite3_finalize(stmt);
    buf_fini(&sql);
    return rc;
}

static int
search_ids(struct sqlite *self, const struct query *query, const json_t *ids,
           uint32_t fields, record_fn *fn, void *ctx, rh_error *err)
{
    const size_t n = json_is_array(ids) ? json_array_size(ids) : 1;
    struct map seen = {0};
    int rc = map_reserve(&seen, n);

    if (rc < 0)
        return rh_fail(err, rc, "out of memory for %zu message ids", n);
    for (size_t i = 0; i < n && rc >= 0; i++) {
        const json_t *id = json_is_array(ids) ? json_array_get(ids, i) : ids;
        struct span s = span_of(json_string_value(id), json_string_length(id));

        if (!json_is_string(id) || map_get(&seen, s))
            continue;
        rc = map_put(&seen, s, &seen); // reserved: cannot fail
        if (rc == 0)
            rc = read_one(self, s, fields | query_fields(query), query, fn, ctx,
                          err);
    }
    map_fini(&seen);
    return rc;
}

static int
find(struct store *store, const struct query *query, uint32_t fields,
     record_fn *fn, void *ctx, struct fault *fault)
{
    struct sqlite *self = sqlite(store);
    const json_t *ids = query_ids(query);
    rh_error err = {0};
    int rc = flush(self, &err);

    if (rc == 0 && ids)
        rc = search_ids(self, query, ids, fields, fn, ctx, &err);
    else if (rc == 0)
        rc = search(self, query, fields, fn, ctx, &err);
    return rc < 0 ? complain(rc, &err, fault) : 0;
}

static int
history(struct store *store, id_fn *fn, void *ctx, struct fault *fault)
{
    struct sqlite *self = sqlite(store);
    struct buf sql = {0};
    sqlite3_stmt *stmt = NULL;
    rh_error err = {0};
    int rc = flush(self, &err), step = SQLITE_DONE;

    buf_add_fmt(&sql,
                "SELECT msg_id FROM %s WHERE submitted IS NOT NULL "
                "ORDER BY submitted, rowid",
                self->table);
    if (rc == 0)
        rc = prepare(self, &sql, &stmt, &err);
    while (rc >= 0 && (step = sqlite3_step(stmt)) == SQLITE_ROW)
        rc = fn(ctx, sqlite_column(stmt, RECORD_MSG_ID));
    if (rc >= 0 && step != SQLITE_DONE)
        rc = failed(self, "reading the history", &err);
    (void)sqlite3_finalize(stmt);
    buf_fini(&sql);
    return complain(rc, &err, fault);
}

/* ---- dropping --------------------------------------------------------- */

static int
drop_row(struct sqlite *self, struct span msg_id, rh_error *err)
{
    int rc = flush(self, err);

    if (rc == 0)
        rc = begin(self, err);
    if (rc < 0)
        return rc;
    self->dirty = true;
    if (sqlite3_bind_text64(self->drop, 1,
                            msg_id.n ? (const char *)msg_id.p : "", msg_id.n,
                            SQLITE_STATIC, SQLITE_UTF8)
        != SQLITE_OK)
        return failed(self, "dropping a task", err);
    rc = run(self, self->drop, "dropping a task", err);
    return rc < 0 ? rc : sqlite3_changes(self->db) > 0;
}

static int
drop_id(struct store *store, struct span msg_id, struct fault *fault)
{
    rh_error err = {0};
    const int rc = drop_row(sqlite(store), msg_id, &err);

    return complain(rc, &err, fault);
}

static int
collect(void *ctx, const struct record *r)
{
    struct buf *ids = ctx;
    const uint64_t n = r->msg_id.n;

    buf_add(ids, &n, sizeof(n));
    buf_add_span(ids, r->msg_id);
    return ids->failed ? RH_ENOMEM : 0;
}

/* First who, then away with them: a search must not see its own deletions. */
static int
drop(struct store *store, const struct query *query, struct fault *fault)
{
    struct sqlite *self = sqlite(store);
    struct buf ids = {0};
    rh_error err = {0};
    int rc = find(store, query, 0, collect, &ids, fault), dropped = 0;

    if (rc == RH_ENOMEM)
        rc = rh_fail(&err, rc, "out of memory for what is to be dropped");
    for (size_t at = 0; at < ids.n && rc >= 0;) {
        uint64_t n;

        memcpy(&n, ids.p + at, sizeof(n));
        at += sizeof(n);
        rc = drop_row(self, span_of(ids.p + at, (size_t)n), &err);
        at += (size_t)n;
        dropped += rc > 0;
    }
    buf_fini(&ids);
    return rc < 0 ? complain(rc, &err, fault) : dropped;
}

/* ---- life ------------------------------------------------------------- */

static int
commit(struct sqlite *self, rh_error *err)
{
    int rc = flush(self, err);

    if (rc == 0 && !sqlite3_get_autocommit(self->db))
        rc = run(self, self->commit, "committing", err);
    if (rc == 0)
        self->dirty = false;
    return rc;
}

static int64_t
tick(struct store *store, int64_t now, rh_error *err)
{
    struct sqlite *self = sqlite(store);

    if (!self->dirty)
        return INT64_MAX;
    if (self->commit_at == 0) {
        self->commit_at = now + COMMIT_MS;
    } else if (now >= self->commit_at) {
        // Busy or full: everything stays for the next try.
        self->commit_at = commit(self, err) < 0 ? now + COMMIT_MS : 0;
    }
    return self->commit_at ? self->commit_at : INT64_MAX;
}

static void
close_sqlite(struct store *store)
{
    struct sqlite *self = sqlite(store);

    if (self->commit)
        (void)commit(self, NULL);
    store_close(&self->waiting);
    (void)sqlite3_finalize(self->put);
    (void)sqlite3_finalize(self->get);
    (void)sqlite3_finalize(self->get_light);
    (void)sqlite3_finalize(self->drop);
    (void)sqlite3_finalize(self->begin);
    (void)sqlite3_finalize(self->commit);
    (void)sqlite3_close(self->db);
    mem_free(self->table);
    mem_free(self);
}

static const struct store_ops sqlite_ops = {
    .name = "SQLiteDB",
    .put = put,
    .get = get,
    .find = find,
    .drop = drop,
    .drop_id = drop_id,
    .history = history,
    .tick = tick,
    .close = close_sqlite,
};

/* 1: there is no such table, 0: it has our columns, -1: it has others. */
static int
look_at_table(struct sqlite *self, rh_error *err)
{
    struct buf sql = {0};
    sqlite3_stmt *stmt = NULL;
    int n = 0, verdict = 0, rc, step = SQLITE_DONE;

    buf_add_fmt(&sql, "PRAGMA table_info(%s)", self->table);
    rc = prepare(self, &sql, &stmt, err);
    buf_fini(&sql);
    while (rc == 0 && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(stmt, 1);
        const char *type = (const char *)sqlite3_column_text(stmt, 2);

        if (n >= N_COLUMNS || !name || !type
            || strcmp(name, record_field_name[n]) != 0
            || strcasecmp(type, column_type[n]) != 0) // newer SQLite: "TEXT"
            verdict = -1;
        n++;
    }
    if (rc == 0 && step != SQLITE_DONE)
        rc = failed(self, "looking for the table", err);
    (void)sqlite3_finalize(stmt);
    if (rc < 0)
        return rc - 1; // below the verdicts
    return n == 0 ? 1 : n < N_COLUMNS ? -1 : verdict;
}

/* SQL's form of a name: in double quotes, which are doubled inside. */
static char *
quoted(const char *table, int i)
{
    struct buf out = {0};
    char *copy = NULL;

    buf_add_char(&out, '"');
    for (const char *c = table; *c; c++) {
        if (*c == '"')
            buf_add_char(&out, '"');
        buf_add_char(&out, *c);
    }
    if (i > 0)
        buf_add_fmt(&out, "_%d", i);
    buf_add_char(&out, '"');
    if (!out.failed)
        copy = mem_strndup((const char *)out.p, out.n);
    buf_fini(&out);
    return copy;
}

static int
create_table(struct sqlite *self, rh_error *err)
{
    struct buf sql = {0};
    sqlite3_stmt *stmt = NULL;
    int rc;

    buf_add_fmt(&sql, "CREATE TABLE %s (", self->table);
    for (int i = 0; i < N_COLUMNS; i++)
        buf_add_fmt(&sql, "%s%s %s%s", i ? ", " : "", record_field_name[i],
                    column_type[i], i == RECORD_MSG_ID ? " PRIMARY KEY" : "");
    buf_add_char(&sql, ')');
    rc = prepare(self, &sql, &stmt, err);
    if (rc == 0)
        rc = run(self, stmt, "creating the table", err);
    (void)sqlite3_finalize(stmt);
    buf_fini(&sql);
    return rc;
}

/* The table, or the first <table>_N that is ours or free. */
static int
open_table(struct sqlite *self, const char *table, rh_error *err)
{
    for (int i = 0; i < 1000; i++) {
        int verdict;

        mem_free(self->table);
        self->table = quoted(table, i);
        if (!self->table)
            return rh_fail(err, RH_ENOMEM, "out of memory for a table's name");
        verdict = look_at_table(self, err);
        if (verdict < -1)
            return verdict + 1;
        if (verdict >= 0)
            return verdict ? create_table(self, err) : 0;
    }
    return rh_fail(err, RH_EEXIST,
                   "SQLite: '%.64s' and a thousand tables after it have other "
                   "columns than tasks have; choose another SQLiteDB.table",
                   table);
}

/* What is given replaces what is there; output is appended. */
static int
prepare_put(struct sqlite *self, rh_error *err)
{
    struct buf sql = {0};
    int rc;

    buf_add_fmt(&sql, "INSERT INTO %s (", self->table);
    add_columns(&sql, false);
    buf_add_str(&sql, ") VALUES (");
    for (int i = 0; i < N_COLUMNS; i++)
        buf_add_str(&sql, i ? ", ?" : "?");
    buf_add_str(&sql, ") ON CONFLICT(msg_id) DO UPDATE SET ");
    for (int i = RECORD_MSG_ID + 1; i < N_COLUMNS; i++) {
        const char *c = record_field_name[i];

        if (i == RECORD_STDOUT || i == RECORD_STDERR)
            buf_add_fmt(&sql, ", %s = coalesce(%s, '') || excluded.%s", c, c,
                        c);
        else
            buf_add_fmt(&sql, "%s%s = coalesce(excluded.%s, %s)",
                        i > RECORD_MSG_ID + 1 ? ", " : "", c, c, c);
    }
    rc = prepare(self, &sql, &self->put, err);
    buf_fini(&sql);
    return rc;
}

static int
prepare_all(struct sqlite *self, rh_error *err)
{
    struct buf sql = {0};
    int rc = prepare_put(self, err);

    for (int light = 0; light < 2 && rc == 0; light++) {
        buf_add_str(&sql, "SELECT ");
        add_columns(&sql, light);
        buf_add_fmt(&sql, " FROM %s WHERE msg_id = ?", self->table);
        rc = prepare(self, &sql, light ? &self->get_light : &self->get, err);
    }
    buf_add_fmt(&sql, "DELETE FROM %s WHERE msg_id = ?", self->table);
    if (rc == 0)
        rc = prepare(self, &sql, &self->drop, err);
    buf_clear(&sql);
    buf_add_str(&sql, "BEGIN IMMEDIATE");
    if (rc == 0)
        rc = prepare(self, &sql, &self->begin, err);
    buf_clear(&sql);
    buf_add_str(&sql, "COMMIT");
    if (rc == 0)
        rc = prepare(self, &sql, &self->commit, err);
    buf_fini(&sql);
    return rc;
}

static const struct memory_limits no_limits = {
    .max_bytes = UINT64_MAX,
    .max_records = SIZE_MAX,
    .max_output = SIZE_MAX / 4,
};

int
sqlite_open(struct store **out, const char *path, const char *table,
            rh_error *err)
{
    struct sqlite *self = mem_zalloc(1, sizeof(*self));
    struct store *store;
    int rc;

    if (!self)
        return rh_fail(err, RH_ENOMEM, "opening %s", path);
    self->store.ops = &sqlite_ops;
    store = &self->store;
    rc = memory_open(&self->waiting, &no_limits, err);
    if (rc < 0) {
        close_sqlite(store);
        return rc;
    }
    rc = sqlite3_open_v2(path, &self->db,
                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (rc != SQLITE_OK) {
        rc = rh_fail(err, rc == SQLITE_NOMEM ? RH_ENOMEM : RH_EIO,
                     "cannot open the task database %s: %s", path,
                     self->db ? sqlite3_errmsg(self->db) : "out of memory");
        close_sqlite(store);
        return rc;
    }
    // Others may look into the file; nobody here waits long for them.
    (void)sqlite3_busy_timeout(self->db, 250);
    rc = open_table(self, table, err);
    if (rc == 0)
        rc = prepare_all(self, err);
    if (rc < 0) {
        close_sqlite(store);
        return rc;
    }
    *out = store;
    return 0;
}
