/* db.c - db_request and history_request: questions to the database */
#include <jansson.h>

#include "hub/private.h"

/* ---- db_request ------------------------------------------------------- */

struct rows {
    struct reply *rep;
    struct buf records, lens, result_lens;
    uint32_t fields;
    struct fault *fault;
};

/* RECORD_ALL without keys; buffers only if they are named. */
static int
fields_of(const json_t *keys, uint32_t *fields, struct fault *fault)
{
    const bool many = json_is_array(keys);
    const size_t n = many ? json_array_size(keys) : json_is_string(keys);

    if (keys && !many && !json_is_string(keys) && !json_is_null(keys))
        return fault_set(fault, RH_EINVAL, "TypeError",
                         "keys must be null or a list of field names");
    *fields = n ? RECORD_BIT(MSG_ID) : RECORD_ALL;
    for (size_t i = 0; i < n; i++) {
        const json_t *key = many ? json_array_get(keys, i) : keys;
        const char *name = json_is_string(key) ? json_string_value(key) : "?";
        const int field = record_field_of(span_str(name));

        if (field < 0)
            return fault_key(fault, RH_EINVAL, "%s", name);
        *fields |= UINT32_C(1) << field;
    }
    return 0;
}

static bool
wants(const struct rows *rows, uint32_t bit)
{
    return rows->fields != RECORD_ALL && (rows->fields & bit);
}

static int
add_buffers(struct rows *rows, struct buf *lens, struct msg *m)
{
    buf_add_fmt(lens, "%s%u", lens->n ? ", " : "", m ? msg_n_buffers(m) : 0);
    if (m && reply_add_buffers(rows->rep, m) < 0)
        return request_no_memory(rows->fault);
    return 0;
}

static int
add_row(void *ctx, const struct record *r)
{
    struct rows *rows = ctx;
    int rc = 0;

    if (rows->records.n > 0)
        buf_add_str(&rows->records, ", ");
    record_add_json(&rows->records, r, rows->fields);
    if (wants(rows, RECORD_BIT(BUFFERS)))
        rc = add_buffers(rows, &rows->lens, r->request);
    if (rc == 0 && wants(rows, RECORD_BIT(RESULT_BUFFERS)))
        rc = add_buffers(rows, &rows->result_lens, r->result);
    return rc;
}

static void
add_lens(struct buf *out, const char *key, const struct rows *rows,
         uint32_t bit, const struct buf *lens)
{
    buf_add_fmt(out, ", \"%s\": ", key);
    if (!wants(rows, bit)) {
        buf_add_str(out, "null");
        return;
    }
    buf_add_char(out, '[');
    buf_add_span(out, buf_span(lens));
    buf_add_char(out, ']');
}

static void
add_rows(struct buf *out, const struct rows *rows)
{
    buf_add_str(out, ", \"records\": [");
    buf_add_span(out, buf_span(&rows->records));
    buf_add_char(out, ']');
    add_lens(out, "buffer_lens", rows, RECORD_BIT(BUFFERS), &rows->lens);
    add_lens(out, "result_buffer_lens", rows, RECORD_BIT(RESULT_BUFFERS),
             &rows->result_lens);
    if (rows->records.failed || rows->lens.failed || rows->result_lens.failed)
        out->failed = true;
}

int
hub_on_db(struct hub *self, const struct request *req, struct reply *rep,
          struct fault *fault)
{
    struct rows rows = {.rep = rep, .fault = fault};
    struct scan_field text = {.key = "query"};
    struct query *query = NULL;
    int rc =
        fields_of(json_object_get(req->content, "keys"), &rows.fields, fault);

    if (rc < 0)
        return rc;
    (void)scan_object(msg_part(req->m, MSG_CONTENT), &text, 1, NULL);
    rc = query_parse(&query, text.value, fault);
    if (rc == 0)
        rc = self->store->ops->find(self->store, query,
                                    rows.fields == RECORD_ALL
                                        ? RECORD_ALL & ~RECORD_ALL_BUFFERS
                                        : rows.fields,
                                    add_row, &rows, fault);
    if (rc >= 0)
        add_rows(&rep->content, &rows);
    query_free(&query);
    buf_fini(&rows.records);
    buf_fini(&rows.lens);
    buf_fini(&rows.result_lens);
    return rc;
}

/* ---- history_request -------------------------------------------------- */

struct listing {
    struct buf *out;
    const char *comma;
};

static int
add_id(void *ctx, struct span msg_id)
{
    struct listing *l = ctx;

    buf_add_str(l->out, l->comma);
    buf_add_json_str(l->out, msg_id);
    l->comma = ", ";
    return 0;
}

int
hub_on_history(struct hub *self, const struct request *req, struct reply *rep,
               struct fault *fault)
{
    struct listing listing = {&rep->content, ""};
    int rc;

    (void)req;
    buf_add_str(&rep->content, ", \"history\": [");
    rc = self->store->ops->history(self->store, add_id, &listing, fault);
    buf_add_char(&rep->content, ']');
    return rc;
}
