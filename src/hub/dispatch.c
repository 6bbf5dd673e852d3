/* dispatch.c - one request, one answer
 *
 * Handlers are rows of a table.  They fill in a reply or a fault and never
 * send; what they return is turned into exactly one message here, so that no
 * path through a handler can answer twice or not at all.  A request that waits
 * (watch.c) comes here again.
 */
#include <jansson.h>

#include "base/mem.h"
#include "hub/private.h"

enum { NO_PARENT = 1, FAULT_OWN = 2 };

struct route {
    const char *request;
    const char *reply; // NULL: this request gets no answer
    unsigned flags;
    handler *fn;
    void (*after)(struct hub *self, const struct request *req);
};

/* docs/protocol/hub.md.  NO_PARENT: the reply's parent header is empty.
 * FAULT_OWN: errors come as this reply, not as hub_error.
 */
static void after_shutdown(struct hub *self, const struct request *req);

// clang-format off
static const struct route routes[] = {
    { "become_dask_request",  "become_dask_reply", 0, hub_on_become_dask, NULL },
    { "connection_request",   "connection_reply",  0, hub_on_connection, NULL },
    { "db_request",           "db_reply",      FAULT_OWN, hub_on_db, NULL },
    { "history_request",      "history_reply", FAULT_OWN, hub_on_history, NULL },
    { "load_request",         "load_reply",        0, hub_on_load, NULL },
    { "purge_request",        "purge_reply",   FAULT_OWN, hub_on_purge, NULL },
    { "queue_request",        "queue_reply",       0, hub_on_queue, NULL },
    { "registration_request", "registration_reply",
      NO_PARENT | FAULT_OWN, hub_on_registration, NULL },
    { "resubmit_request",     "resubmit_reply", FAULT_OWN, hub_on_resubmit, NULL },
    { "result_request",       "result_reply",  FAULT_OWN, hub_on_result, NULL },
    { "shutdown_request",     "shutdown_reply",    0, hub_on_shutdown,
      after_shutdown },
    { "stop_distributed_request", "stop_distributed_reply", 0,
      hub_on_stop_distributed, NULL },
    { "task_cancel_request", "task_cancel_reply", FAULT_OWN,
      hub_on_task_request, NULL },
    { "task_explain_request", "task_explain_reply", FAULT_OWN,
      hub_on_task_request, NULL },
    { "unregistration_request", NULL,              0, hub_on_unregistration, NULL },
};
// clang-format on

static const struct route *
route_of(struct span msg_type)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        if (span_is(msg_type, routes[i].request))
            return &routes[i];
    return NULL;
}

int
request_no_memory(struct fault *fault)
{
    return fault_set(fault, RH_ENOMEM, "MemoryError",
                     "the hub is out of memory for this request");
}

/* ---- replies ---------------------------------------------------------- */

int
reply_add_buffers(struct reply *rep, struct msg *m)
{
    const size_t n = msg_n_buffers(m), need = rep->n_buffers + n;
    size_t cap = rep->cap_buffers;

    if (need > cap) {
        struct span *buffer;
        struct msg **owner;

        cap = cap > need / 2 ? 2 * cap : need;
        buffer = mem_resize(rep->buffer, cap, sizeof(*buffer));
        if (!buffer)
            return RH_ENOMEM;
        rep->buffer = buffer;
        owner = mem_resize(rep->owner, cap, sizeof(struct msg *));
        if (!owner)
            return RH_ENOMEM;
        rep->owner = owner;
        rep->cap_buffers = cap;
    }
    for (uint32_t i = 0; i < n; i++) {
        rep->buffer[rep->n_buffers] = msg_buffer(m, i);
        rep->owner[rep->n_buffers++] = msg_ref(m);
    }
    return 0;
}

static void
reply_clear(struct reply *rep)
{
    buf_clear(&rep->content);
    for (size_t i = 0; i < rep->n_buffers; i++)
        msg_unref(&rep->owner[i]);
    rep->n_buffers = 0;
}

static void
reply_fini(struct reply *rep)
{
    reply_clear(rep);
    buf_fini(&rep->content);
    mem_free(rep->buffer);
    mem_free(rep->owner);
}

void
add_error_fields(struct buf *out, const char *where, const struct fault *fault)
{
    struct buf last = {0};

    buf_add_str(out, "{\"status\": \"error\", \"traceback\": ["
                     "\"Traceback (most recent call last):\\n\", ");
    buf_add_fmt(&last, "  File \"<hub>\", in %s\n", where);
    buf_add_json_str(out, buf_span(&last));
    buf_add_str(out, ", ");
    buf_clear(&last);
    buf_add_fmt(&last, "%s: %s\n", fault->ename, fault->evalue);
    buf_add_json_str(out, buf_span(&last));
    buf_add_str(out, "], \"ename\": ");
    buf_add_json_str(out, span_str(fault->ename));
    buf_add_str(out, ", \"evalue\": ");
    buf_add_json_str(out, span_str(fault->evalue));
    buf_add_str(out, ", \"engine_info\": {}}");
    if (last.failed)
        out->failed = true;
    buf_fini(&last);
}

static int
send_reply(struct hub *self, const struct request *req, const char *msg_type,
           bool parent, struct reply *rep, rh_error *err)
{
    const struct draft draft = {
        .ident = req->m->frame,
        .n_ident = req->m->i_delim,
        .msg_type = msg_type,
        .parent = parent ? msg_part(req->m, MSG_HEADER) : SPAN_NONE,
        .content = buf_span(&rep->content),
        .buffer = rep->buffer,
        .owner = rep->owner,
        .n_buffers = rep->n_buffers,
        .wall_us = req->wall_us,
    };
    struct msg *m = NULL;
    int rc;

    if (rep->content.failed)
        return rh_fail(err, RH_ENOMEM, "content of a %s", msg_type);
    rc = compose(&self->sender, &draft, &m, err);
    if (rc < 0)
        return rc;
    self->port.reply(self->port.ctx, m);
    msg_unref(&m);
    return 0;
}

static const struct fault no_memory = {
    .ename = "MemoryError",
    .evalue = "the hub is out of memory for this reply",
};

/* The one place that answers. */
static void
answer(struct hub *self, const struct request *req, const struct route *route,
       struct reply *rep, const struct fault *fault)
{
    const bool own =
        route && (!fault || ((route->flags & FAULT_OWN) && !rep->hub_error));
    const char *msg_type = own ? route->reply : "hub_error";
    const bool parent = !(own && (route->flags & NO_PARENT));
    const char *where = route ? route->request : "dispatch";
    rh_error err = {0};

    if (fault) {
        reply_clear(rep);
        add_error_fields(&rep->content, where, fault);
    }
    if (send_reply(self, req, msg_type, parent, rep, &err) == 0)
        return;
    // What the reply held may be what was missing: free it and say so.
    reply_fini(rep);
    *rep = (struct reply){0};
    add_error_fields(&rep->content, where, &no_memory);
    if (send_reply(self, req, msg_type, parent, rep, &err) < 0)
        hub_log(self, LOG_ERROR, "%s not answered: %s", where, err.text);
}

void
hub_notify(struct hub *self, const char *msg_type, struct span parent,
           struct span content, int64_t wall_us)
{
    const struct draft draft = {
        .msg_type = msg_type,
        .parent = parent,
        .content = content,
        .wall_us = wall_us,
    };
    struct msg *m = NULL;
    rh_error err = {0};

    if (compose(&self->sender, &draft, &m, &err) < 0) {
        hub_log(self, LOG_ERROR, "%s not published: %s", msg_type, err.text);
        return;
    }
    self->port.notify(self->port.ctx, m);
    msg_unref(&m);
}

/* ---- requests --------------------------------------------------------- */

static int
bad_type(const struct request *req, struct fault *fault)
{
    struct buf quoted = {0};

    fault_repr(&quoted, req->header.msg_type);
    buf_add_char(&quoted, '\0');
    fault_key(fault, RH_EINVAL, "Bad Message Type: %s",
              quoted.failed ? "?" : (const char *)quoted.p);
    buf_fini(&quoted);
    return RH_EINVAL;
}

static int
run(struct hub *self, const struct route *route, struct request *req,
    struct reply *rep, struct fault *fault)
{
    json_t *content = NULL;
    rh_error err = {0};
    int rc;

    if (!route)
        return bad_type(req, fault);
    rc = content_parse(&content, msg_part(req->m, MSG_CONTENT), &err);
    rep->hub_error = rc < 0;
    if (rc == RH_ENOMEM)
        return request_no_memory(fault);
    if (rc < 0)
        return fault_set(fault, rc, "ValueError", "%s", err.text);
    req->content = content;
    buf_add_str(&rep->content, "{\"status\": \"ok\"");
    rc = route->fn(self, req, rep, fault);
    buf_add_char(&rep->content, '}');
    json_decref(content);
    req->content = NULL;
    if (rc < 0 && !fault->ename) // no handler forgets, but nobody shall wait
        fault_set(fault, rc, "RuntimeError", "%s", rh_code_text(rc));
    return rc;
}

static int
admit(struct hub *self, struct request *req, rh_error *err)
{
    int rc = msg_parse(req->m, &self->limits, err);

    if (rc == 0 && req->m->i_delim == 0)
        rc = rh_fail(err, RH_EPROTO, "nobody to answer: no routing frame");
    if (rc == 0)
        rc = session_admit(self->session, req->m, err);
    if (rc == 0)
        rc = scan_header(msg_part(req->m, MSG_HEADER), &req->header, err);
    return rc;
}

/* Peers say hello with these two: the time to say what may not work. */
static void
check_version(struct hub *self, const struct request *req)
{
    const struct span version = req->header.version,
                      type = req->header.msg_type;
    char shown[40];

    if ((version.n > 1 && version.p[0] == '5' && version.p[1] == '.')
        || !(span_is(type, "connection_request")
             || span_is(type, "registration_request")))
        return;
    hub_log(
        self, LOG_WARN,
        "a peer speaks version %s of the message protocol, "
        "not " PROTOCOL_VERSION "; some of its messages may not be understood",
        version.n ? log_escape(version, shown, sizeof(shown)) : "4 or older");
}

static void
serve(struct hub *self, struct request *req)
{
    const struct route *route = route_of(req->header.msg_type);
    struct reply rep = {0};
    struct fault fault = {0};
    const int rc = run(self, route, req, &rep, &fault);

    check_version(self, req);
    if (rc < 0)
        hub_log(
            self, LOG_WARN, "%.*s refused: %s: %s",
            (int)(req->header.msg_type.n < 64 ? req->header.msg_type.n : 64),
            (const char *)req->header.msg_type.p, fault.ename, fault.evalue);
    if ((!route || route->reply) && !rep.kept)
        answer(self, req, route, &rep, rc < 0 ? &fault : NULL);
    reply_fini(&rep);
    if (rc >= 0 && route->after)
        route->after(self, req);
}

void
hub_on_request(struct hub *self, struct msg *m, int64_t now, int64_t wall_us)
{
    struct request req = {.m = m, .now = now, .wall_us = wall_us};
    rh_error err = {0};

    if (admit(self, &req, &err) < 0)
        hub_log(self, LOG_WARN, "request dropped: %s", err.text);
    else
        serve(self, &req);
}

void
hub_serve_again(struct hub *self, struct msg *m, bool final, int64_t now,
                int64_t wall_us)
{
    struct request req = {
        .m = m,
        .now = now,
        .wall_us = wall_us,
        .final = final,
    };
    rh_error err = {0};

    // It was admitted when it came, so this cannot fail but for memory.
    if (scan_header(msg_part(m, MSG_HEADER), &req.header, &err) < 0)
        hub_log(self, LOG_ERROR, "request not answered: %s", err.text);
    else
        serve(self, &req);
}

static void
after_shutdown(struct hub *self, const struct request *req)
{
    hub_notify(self, "shutdown_notification", msg_part(req->m, MSG_HEADER),
               SPAN_LIT("{\"status\": \"ok\"}"), req->wall_us);
    self->port.shutdown(self->port.ctx);
}
