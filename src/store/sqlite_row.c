/* sqlite_row.c - between records and rows of the task table
 *
 * Rows may be upstream's, or written by hand: what is no JSON object or no list
 * of buffers counts as null, and the rest of the row is still good.
 */
#include "store/sqlite_row.h"

#include "base/isodate.h"
#include "base/mem.h"
#include "store/bufs.h"
#include "store/private.h"
#include "store/sqlite_where.h"
#include "wire/scan.h"

#define MAX_BLOB ((size_t)400 << 20) // SQLite's rows hold 10^9 bytes

/* ---- to a row --------------------------------------------------------- */

/* Values with more than 2 GiB do not fit into SQLite and are refused by it. */
static int
bind_text(sqlite3_stmt *stmt, enum record_field field, struct span s)
{
    if (!s.p)
        return SQLITE_OK;
    return sqlite3_bind_text64(stmt, (int)field + 1, (const char *)s.p, s.n,
                               SQLITE_STATIC, SQLITE_UTF8);
}

static int
bind_date(sqlite3_stmt *stmt, enum record_field field, int64_t us)
{
    char text[SQLITE_DATE_SIZE];

    if (us == RECORD_NO_DATE)
        return SQLITE_OK;
    sqlite_date(us, text);
    return sqlite3_bind_text(stmt, (int)field + 1, text, -1, SQLITE_TRANSIENT);
}

/* A JSON string as its text, anything else as JSON. */
static int
bind_json(sqlite3_stmt *stmt, enum record_field field, struct span raw)
{
    struct buf scratch = {0};
    struct span s;
    int rc;

    if (scan_is_null(raw))
        return SQLITE_OK;
    if (raw.p[0] != '"')
        return bind_text(stmt, field, raw);
    rc = scan_string(raw, &scratch, &s);
    if (rc == 0)
        rc = sqlite3_bind_text64(stmt, (int)field + 1,
                                 s.n ? (const char *)s.p : "", s.n,
                                 SQLITE_TRANSIENT, SQLITE_UTF8);
    else
        rc = rc == RH_ENOMEM ? SQLITE_NOMEM : SQLITE_OK;
    buf_fini(&scratch);
    return rc;
}

static size_t
size_of_buffers(const struct msg *m)
{
    size_t n = 0;

    for (uint32_t i = 0; i < msg_n_buffers(m) && n <= MAX_BLOB; i++)
        n += msg_buffer(m, i).n;
    return n;
}

static int
bind_buffers(sqlite3_stmt *stmt, enum record_field field, const struct msg *m)
{
    struct buf pickle = {0};
    int rc = SQLITE_OK;

    // Too large for a row: the record is worth more than its payload.
    if (!m || size_of_buffers(m) > MAX_BLOB)
        return SQLITE_OK;
    bufs_pack(&pickle, m);
    if (pickle.failed)
        rc = SQLITE_NOMEM;
    else if (pickle.n > 0)
        rc = sqlite3_bind_blob64(stmt, (int)field + 1, pickle.p, pickle.n,
                                 SQLITE_TRANSIENT);
    buf_fini(&pickle);
    return rc;
}

int
sqlite_row_bind(sqlite3_stmt *stmt, const struct record *r,
                enum record_field field)
{
    struct buf scratch = {0};
    int rc;

    switch (record_field_kind[field]) {
    case RECORD_KIND_DATE:
        return bind_date(stmt, field, record_date(r, field));
    case RECORD_KIND_BUFFERS:
        return bind_buffers(stmt, field,
                            field == RECORD_BUFFERS ? r->request : r->result);
    case RECORD_KIND_TEXT:
        rc = bind_text(stmt, field, record_text(r, field, &scratch));
        buf_fini(&scratch); // headers' strings have no escapes
        return rc;
    default:
        if (field == RECORD_EXECUTE_INPUT || field == RECORD_LABEL)
            return bind_json(stmt, field, record_raw(r, field));
        return bind_text(stmt, field, record_raw(r, field));
    }
}

/* ---- from a row ------------------------------------------------------- */

struct span
sqlite_column(sqlite3_stmt *stmt, enum record_field field)
{
    const void *p;

    if (sqlite3_column_type(stmt, (int)field) == SQLITE_NULL)
        return SPAN_NONE;
    p = sqlite3_column_blob(stmt, (int)field);
    // An empty value has no address, but it is not null.
    return p ? span_of(p, (size_t)sqlite3_column_bytes(stmt, (int)field))
             : SPAN_LIT("");
}

static int64_t
column_date(sqlite3_stmt *stmt, enum record_field field)
{
    const struct span s = sqlite_column(stmt, field);
    int64_t us;

    return s.p && isodate_parse(s, &us) == 0 ? us : RECORD_NO_DATE;
}

static struct span
column_object(sqlite3_stmt *stmt, enum record_field field)
{
    const struct span s = sqlite_column(stmt, field);

    return s.p && scan_object(s, NULL, 0, NULL) == 0 ? s : SPAN_NONE;
}

/* The message whose header, metadata, content and buffers are in the row;
 * *out is NULL if neither header nor content is there.
 */
static int
column_msg(sqlite3_stmt *stmt, enum record_field header,
           enum record_field metadata, enum record_field content,
           enum record_field buffers, struct msg **out)
{
    struct span *frame, *buffer, part[3];
    size_t n;
    int rc;

    *out = NULL;
    part[0] = sqlite_column(stmt, header);
    part[1] = sqlite_column(stmt, metadata);
    part[2] = sqlite_column(stmt, content);
    if (!part[0].p && !part[2].p)
        return 0;
    rc = bufs_unpack(sqlite_column(stmt, buffers), &buffer, &n);
    if (rc == RH_ENOMEM)
        return rc;
    if (rc < 0) // written by who knows what: the rest is still good
        n = 0;
    frame = mem_zalloc(MSG_BUFFER0 + n, sizeof(*frame));
    if (frame) {
        frame[0] = SPAN_LIT(MSG_DELIM);
        frame[MSG_PARENT] = SPAN_LIT("{}");
        frame[MSG_HEADER] = part[0].p ? part[0] : SPAN_LIT("{}");
        frame[MSG_METADATA] = part[1].p ? part[1] : SPAN_LIT("{}");
        frame[MSG_CONTENT] = part[2].p ? part[2] : SPAN_LIT("{}");
        for (size_t i = 0; i < n; i++)
            frame[MSG_BUFFER0 + i] = buffer[i];
        *out = msg_new(frame, MSG_BUFFER0 + n);
    }
    mem_free(frame);
    mem_free(buffer);
    if (!*out)
        return RH_ENOMEM;
    (*out)->i_delim = 0;
    return 0;
}

void
sqlite_row_fini(struct sqlite_row *row)
{
    msg_unref(&row->record.request);
    msg_unref(&row->record.result);
    buf_fini(&row->input);
}

int
sqlite_row_read(struct sqlite_row *row, sqlite3_stmt *stmt)
{
    struct record *r = &row->record;
    struct span input = sqlite_column(stmt, RECORD_EXECUTE_INPUT);
    int rc;

    record_init(r);
    r->msg_id = sqlite_column(stmt, RECORD_MSG_ID);
    r->submitted_us = column_date(stmt, RECORD_SUBMITTED);
    r->started_us = column_date(stmt, RECORD_STARTED);
    r->completed_us = column_date(stmt, RECORD_COMPLETED);
    r->received_us = column_date(stmt, RECORD_RECEIVED);
    r->engine_uuid = sqlite_column(stmt, RECORD_ENGINE_UUID);
    r->resubmitted = sqlite_column(stmt, RECORD_RESUBMITTED);
    r->queue = sqlite_column(stmt, RECORD_QUEUE);
    r->execute_result = column_object(stmt, RECORD_EXECUTE_RESULT);
    r->error = column_object(stmt, RECORD_ERROR);
    r->out = sqlite_column(stmt, RECORD_STDOUT);
    r->err = sqlite_column(stmt, RECORD_STDERR);
    if (input.p)
        buf_add_json_str(&row->input, input);
    r->execute_input = buf_span(&row->input);
    rc = column_msg(stmt, RECORD_HEADER, RECORD_METADATA, RECORD_CONTENT,
                    RECORD_BUFFERS, &r->request);
    if (rc == 0)
        rc = column_msg(stmt, RECORD_RESULT_HEADER, RECORD_RESULT_METADATA,
                        RECORD_RESULT_CONTENT, RECORD_RESULT_BUFFERS,
                        &r->result);
    return row->input.failed ? RH_ENOMEM : rc;
}
