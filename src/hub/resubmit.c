/* resubmit.c - resubmit_request: run a recorded task again
 *
 * The request is sent as it was, under a new id and date, through the task
 * scheduler, whatever way it took the first time.  The header keeps the
 * client's session, so that its output reaches that client; the reply comes
 * to this hub, which drops it: the result is fetched with result_request.
 * Upstream loses the metadata (dependencies, targets, retries, label) on this
 * way; here it stays.
 */
#include <jansson.h>

#include "base/isodate.h"
#include "base/mem.h"
#include "hub/private.h"

struct copy {
    struct span old_id; // borrowed from the request
    struct msg *original;
    struct msg *again;
    bool broadcast;
    char new_id[MSG_ID_SIZE];
};

static int
take_original(void *ctx, const struct record *r)
{
    struct copy *c = ctx;

    c->broadcast = span_is(r->queue, "broadcast");
    if (r->request)
        c->original = msg_ref(r->request);
    return 0;
}

static void
copies_free(struct copy *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        msg_unref(&v[i].original);
        msg_unref(&v[i].again);
    }
    mem_free(v);
}

/* Fetch every original, or say which are missing, as Python prints a list. */
static int
fetch(struct hub *self, struct copy *v, size_t n, struct fault *fault)
{
    struct buf missing = {0};
    size_t n_missing = 0;
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = self->store->ops->get(
            self->store, v[i].old_id,
            RECORD_BIT(HEADER) | RECORD_BIT(METADATA) | RECORD_BIT(CONTENT)
                | RECORD_BIT(BUFFERS) | RECORD_BIT(QUEUE),
            take_original, &v[i], fault);
        if (rc == RH_ENOENT || (rc == 0 && !v[i].original)) {
            buf_add_str(&missing, n_missing++ ? ", " : "[");
            fault_repr(&missing, v[i].old_id);
            rc = 0;
        }
    }
    if (rc == 0 && n_missing > 0) {
        buf_add_str(&missing, "]");
        buf_add_char(&missing, '\0');
        rc = missing.failed ? request_no_memory(fault)
                            : fault_key(fault, RH_ENOENT, "No such msg(s): %s",
                                        (const char *)missing.p);
    }
    buf_fini(&missing);
    return rc;
}

static int
append_json(const char *text, size_t n, void *out)
{
    buf_add(out, text, n);
    return 0;
}

/* The old header with another id and date. */
static int
renew_header(struct buf *out, struct span header, const char *id,
             int64_t wall_us, rh_error *err)
{
    char date[ISODATE_SIZE];
    json_t *tree;
    int rc = content_parse(&tree, header, err);

    if (rc < 0)
        return rc;
    isodate_format(wall_us, date);
    if (json_object_set_new(tree, "msg_id", json_string(id)) < 0
        || json_object_set_new(tree, "date", json_string(date)) < 0
        || json_dump_callback(tree, append_json, out, 0) < 0 || out->failed)
        rc = rh_fail(err, RH_ENOMEM, "out of memory renewing a header");
    json_decref(tree);
    return rc;
}

/* The targets of a broadcast are no targets of a task. */
static struct span
metadata_of(const struct copy *c)
{
    return c->broadcast ? SPAN_LIT("{}") : SPAN_NONE;
}

static int
prepare(struct hub *self, struct copy *c, int64_t wall_us, struct fault *fault)
{
    struct scan_field f = {.key = "is_coalescing"};
    struct buf header = {0};
    rh_error err = {0};
    bool coalescing;
    int rc;

    if (c->broadcast
        && scan_object(msg_part(c->original, MSG_METADATA), &f, 1, NULL) == 0
        && scan_bool(f.value, &coalescing) == 0 && coalescing)
        return fault_set(fault, RH_EINVAL, "ValueError",
                         "%.*s is a coalescing broadcast, which one engine "
                         "alone cannot repeat: send it again from a view",
                         (int)(c->old_id.n < 128 ? c->old_id.n : 128),
                         (const char *)c->old_id.p);
    sender_next_id(&self->sender, c->new_id);
    rc = renew_header(&header, msg_part(c->original, MSG_HEADER), c->new_id,
                      wall_us, &err);
    if (rc == 0)
        rc = recompose(&self->sender, c->original, NULL, 0, buf_span(&header),
                       metadata_of(c), &c->again, &err);
    buf_fini(&header);
    if (rc < 0)
        return fault_set(fault, rc,
                         rc == RH_ENOMEM ? "MemoryError" : "RuntimeError", "%s",
                         err.text);
    return 0;
}

static void
save(struct hub *self, struct span msg_id, const struct record *change)
{
    rh_error err = {0};

    if (self->store->ops->put(self->store, msg_id, change, &err) < 0)
        hub_log(self, LOG_ERROR, "database: resubmission not recorded: %s",
                err.text);
}

static int
submit(struct hub *self, const struct copy *c, int64_t wall_us,
       struct fault *fault)
{
    const struct span new_id = span_str(c->new_id);
    struct task *t = hub_task_new(self, new_id, 1);
    struct record change;
    rh_error err = {0};
    int rc;

    if (!t)
        return request_no_memory(fault);
    rc = self->port.submit_task(self->port.ctx, c->again, &err);
    if (rc < 0) {
        hub_task_free(self, t);
        return fault_set(fault, rc, "RuntimeError",
                         "'%.*s' could not be sent to the scheduler: %s",
                         (int)(c->old_id.n < 128 ? c->old_id.n : 128),
                         (const char *)c->old_id.p, err.text);
    }
    record_init(&change);
    change.request = c->again;
    change.submitted_us = wall_us;
    change.queue = SPAN_LIT("task");
    save(self, new_id, &change);
    record_init(&change);
    change.resubmitted = new_id;
    save(self, c->old_id, &change);
    return 0;
}

static int
resubmit(struct hub *self, const struct request *req, struct copy *v, size_t n,
         struct reply *rep, struct fault *fault)
{
    int rc = fetch(self, v, n, fault);

    for (size_t i = 0; i < n && rc == 0; i++)
        rc = prepare(self, &v[i], req->wall_us, fault);
    // What was sent before one failed runs all the same; its old record tells.
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = submit(self, &v[i], req->wall_us, fault);
    if (rc < 0)
        return rc;
    buf_add_str(&rep->content, ", \"resubmitted\": {");
    for (size_t i = 0; i < n; i++) {
        buf_add_str(&rep->content, i ? ", " : "");
        buf_add_json_str(&rep->content, v[i].old_id);
        buf_add_str(&rep->content, ": ");
        buf_add_json_str(&rep->content, span_str(v[i].new_id));
    }
    buf_add_char(&rep->content, '}');
    return 0;
}

int
hub_on_resubmit(struct hub *self, const struct request *req, struct reply *rep,
                struct fault *fault)
{
    struct copy *v;
    struct span *id;
    size_t n;
    int rc = content_ids(req, "msg_ids", true, &id, &n, fault);

    rep->hub_error = rc < 0; // a question that makes no sense
    if (rc < 0)
        return rc;
    v = mem_zalloc(n + 1, sizeof(*v));
    if (!v) {
        mem_free(id);
        return request_no_memory(fault);
    }
    for (size_t i = 0; i < n; i++)
        v[i].old_id = id[i];
    rc = resubmit(self, req, v, n, rep, fault);
    copies_free(v, n);
    mem_free(id);
    return rc;
}
