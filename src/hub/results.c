/* results.c - result_request: what became of these messages
 *
 * Ids are answered once each and sorted, because clients read the buffers,
 * which carry no lengths, in that order.  Each record also tells how many
 * buffers are its own: the reply of a coalescing broadcast cannot be taken
 * apart without.
 */
#include <jansson.h>
#include <string.h>

#include "base/mem.h"
#include "hub/private.h"

/* What the client is ready to wait for: docs/protocol/extensions.md, section 6
 */
enum patience { NOTHING, OUTPUT, RESULT };

struct answer {
    struct reply *rep;
    struct buf pending, completed, records;
    bool status_only;
    enum patience patience;
    struct task *waits_for; // worth waiting for, by that
    struct span id;         // asked for just now
    bool done;              // the hub knows that it finished
    struct fault *fault;
};

static void
add_id(struct buf *list, struct span id)
{
    if (list->n > 0)
        buf_add_str(list, ", ");
    buf_add_json_str(list, id);
}

/* Clients index these without asking, so they are objects in any case. */
static void
add_dict(struct buf *out, const struct record *r, enum record_field field)
{
    const size_t start = out->n;

    buf_add_fmt(out, "\"%s\": ", record_field_name[field]);
    record_add_field(out, r, field);
    if (!out->failed && out->n >= start + 4
        && memcmp(out->p + out->n - 4, "null", 4) == 0) {
        out->n -= 4;
        buf_add_str(out, "{}");
    }
    buf_add_str(out, ", ");
}

static void
add_record(struct buf *out, const struct record *r)
{
    static const enum record_field io[] = {RECORD_EXECUTE_INPUT,
                                           RECORD_EXECUTE_RESULT, RECORD_ERROR,
                                           RECORD_STDOUT, RECORD_STDERR};
    const uint32_t n = r->result ? msg_n_buffers(r->result) : 0;

    buf_add_str(out, ", ");
    buf_add_json_str(out, r->msg_id);
    buf_add_str(out, ": {");
    add_dict(out, r, RECORD_HEADER);
    add_dict(out, r, RECORD_METADATA);
    add_dict(out, r, RECORD_RESULT_METADATA);
    add_dict(out, r, RECORD_RESULT_HEADER);
    add_dict(out, r, RECORD_RESULT_CONTENT);
    buf_add_str(out, "\"received\": ");
    record_add_field(out, r, RECORD_RECEIVED);
    buf_add_str(out, ", \"io\": {");
    for (size_t i = 0; i < sizeof(io) / sizeof(io[0]); i++) {
        buf_add_fmt(out, "%s\"%s\": ", i ? ", " : "", record_field_name[io[i]]);
        record_add_field(out, r, io[i]);
    }
    buf_add_fmt(out, "}, \"n_result_buffers\": %u}", n);
}

static int
take_record(void *ctx, const struct record *r)
{
    struct answer *a = ctx;
    const bool finished = r->completed_us != RECORD_NO_DATE;

    if (!finished && a->done)
        return fault_key(
            a->fault, RH_ENOENT, "The result of '%.*s' could not be recorded",
            (int)(a->id.n < 128 ? a->id.n : 128), (const char *)a->id.p);
    if (!finished && !r->request) // only output of it was ever seen
        return RH_ENOENT;
    if (!finished) {
        add_id(&a->pending, a->id);
        return 0;
    }
    add_id(&a->completed, a->id);
    if (a->status_only)
        return 0;
    add_record(&a->records, r);
    if (r->result && reply_add_buffers(a->rep, r->result) < 0)
        return request_no_memory(a->fault);
    return 0;
}

static int
ignore_record(void *ctx, const struct record *r)
{
    (void)ctx;
    (void)r;
    return 0;
}

static int
unknown(struct answer *a, int rc)
{
    if (rc == RH_ENOENT && a->done)
        a->rep->hub_error = true; // upstream's form: it broke on this
    if (rc != RH_ENOENT || a->done)
        return rc; // the store's own words
    return fault_key(a->fault, RH_ENOENT, "No such message: %.*s",
                     (int)(a->id.n < 200 ? a->id.n : 200),
                     (const char *)a->id.p);
}

/* One id: pending, completed, or a fault for the whole request. */
static int
look_up(struct hub *self, struct answer *a)
{
    struct task *t = task_get(self, a->id);
    const struct store_ops *ops = self->store->ops;
    int rc;

    a->done = t && t->state == TASK_DONE;
    if (a->done && !t->output_done && a->patience != NOTHING)
        a->waits_for = t;
    if (t && (a->status_only || !a->done)) {
        add_id(a->done ? &a->completed : &a->pending, a->id);
        if (!a->done && a->patience == RESULT)
            a->waits_for = t;
        if (a->status_only)
            return 0;
        // A database that keeps nothing says so now rather than later.
        rc = ops->get(self->store, a->id, 0, ignore_record, NULL, a->fault);
        return rc == RH_ESTATE ? rc : 0;
    }
    rc = ops->get(self->store, a->id,
                  a->status_only ? RECORD_BIT(HEADER) | RECORD_BIT(COMPLETED)
                                 : RECORD_ALL,
                  take_record, a, a->fault);
    // Without a database the hub knows what it knows, and no more.
    if (rc == RH_ESTATE && a->status_only)
        rc = RH_ENOENT;
    return rc < 0 ? unknown(a, rc) : 0;
}

static void
add_lists(struct buf *out, const struct answer *a)
{
    buf_add_str(out, ", \"pending\": [");
    buf_add_span(out, buf_span(&a->pending));
    buf_add_str(out, "], \"completed\": [");
    buf_add_span(out, buf_span(&a->completed));
    buf_add_char(out, ']');
    buf_add_span(out, buf_span(&a->records));
    if (a->pending.failed || a->completed.failed || a->records.failed)
        out->failed = true;
}

static enum patience
patience_of(const struct request *req)
{
    const json_t *ours = json_object_get(req->content, "roundhouse");
    const json_t *wait = json_object_get(ours, "wait");

    if (json_is_true(wait))
        return RESULT;
    return json_is_string(wait)
                   && strcmp(json_string_value(wait), "output") == 0
               ? OUTPUT
               : NOTHING;
}

int
hub_on_result(struct hub *self, const struct request *req, struct reply *rep,
              struct fault *fault)
{
    struct answer a = {
        .rep = rep,
        .status_only = content_flag(req, "status_only"),
        .patience = patience_of(req),
        .fault = fault,
    };
    struct span *id;
    size_t n;
    int rc = content_ids(req, "msg_ids", true, &id, &n, fault);

    rep->hub_error = rc < 0; // a question that makes no sense
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < n && rc == 0; i++) {
        a.id = id[i];
        rc = look_up(self, &a);
    }
    rep->kept = rc == 0 && a.waits_for && watch_keep(self, req, a.waits_for);
    if (rc == 0)
        add_lists(&rep->content, &a);
    if (rc == 0 && req->final)
        buf_add_str(&rep->content, ", \"roundhouse\": {\"waited\": true}");
    buf_fini(&a.pending);
    buf_fini(&a.completed);
    buf_fini(&a.records);
    mem_free(id);
    return rc;
}
