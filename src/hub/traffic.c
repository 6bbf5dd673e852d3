/* traffic.c - what the hub learns from copies of the traffic
 *
 * The path of every message, so: one signature check, one pass over each dict
 * that matters, no trees.  What is kept is the message itself, by reference;
 * queries make JSON of it.
 *
 * Traffic of one kind arrives in order, but output, which takes another way,
 * may come before its request.  Nothing here ever answers or forwards.
 */
#include "base/isodate.h"
#include "base/mem.h"
#include "hub/private.h"

struct event {
    enum hub_kind kind;
    struct msg *m;
    struct header_view header;
    int64_t now, wall_us;
};

typedef void intake(struct hub *self, const struct event *ev);

static struct span
ident(const struct event *ev, uint32_t i)
{
    return ev->m->frame[i];
}

/* What a log line can show of an id. */
static int
shown(struct span s)
{
    return (int)(s.n < 96 ? s.n : 96);
}

static void
save(struct hub *self, struct span msg_id, const struct record *change)
{
    rh_error err = {0};

    if (self->store->ops->put(self->store, msg_id, change, &err) < 0)
        hub_log(self, LOG_ERROR, "database: task %.*s not recorded: %s",
                shown(msg_id), (const char *)msg_id.p, err.text);
}

static int64_t
date_or(struct span text, int64_t otherwise)
{
    int64_t us;

    return isodate_parse(text, &us) < 0 ? otherwise : us;
}

/* ---- requests --------------------------------------------------------- */

static bool
is_known(struct hub *self, const struct event *ev)
{
    const struct task *t = task_get(self, ev->header.msg_id);

    // Our own resubmissions are known before the scheduler reports them.
    if (t && t->state != TASK_UNASSIGNED)
        hub_log(self, LOG_WARN, "message id %.*s was used before",
                shown(ev->header.msg_id), (const char *)ev->header.msg_id.p);
    return t != NULL;
}

static void
record_request(struct hub *self, const struct event *ev, struct span queue,
               struct span engine)
{
    struct record change;

    record_init(&change);
    change.request = ev->m;
    change.submitted_us = date_or(ev->header.date, ev->wall_us);
    change.queue = queue;
    change.engine_uuid = engine;
    save(self, ev->header.msg_id, &change);
}

static struct task *
new_task(struct hub *self, const struct event *ev, size_t n_link)
{
    struct task *t = hub_task_new(self, ev->header.msg_id, n_link);

    if (!t)
        hub_log(self, LOG_ERROR, "out of memory: task %.*s is not followed",
                shown(ev->header.msg_id), (const char *)ev->header.msg_id.p);
    return t;
}

/* A request for one engine: mux, or one engine's share of a broadcast. */
static void
request_for(struct hub *self, const struct event *ev, struct span queue)
{
    const struct span uuid = ident(ev, 0);
    struct engine *e = engine_by_uuid(self, uuid);
    struct task *t;

    if (!e || e->state == ENGINE_PENDING) {
        hub_log(self, LOG_WARN, "request %.*s for an unknown engine %.*s",
                shown(ev->header.msg_id), (const char *)ev->header.msg_id.p,
                shown(uuid), (const char *)uuid.p);
        return;
    }
    if (is_known(self, ev) || !(t = new_task(self, ev, 1)))
        return;
    task_put(self, t, 0, e, SHELF_QUEUE);
    record_request(self, ev, queue, uuid);
    if (e->stranded)
        engine_strand(self, e, ev->now, ev->wall_us);
}

static void
on_in(struct hub *self, const struct event *ev)
{
    request_for(self, ev, SPAN_LIT("mux"));
}

static void
on_intask(struct hub *self, const struct event *ev)
{
    if (is_known(self, ev) || !new_task(self, ev, 1))
        return;
    record_request(self, ev, SPAN_LIT("task"), SPAN_NONE);
}

/* The engine named by one element of metadata.targets: [U, id] or U. */
static struct engine *
target(const struct hub *self, struct span raw)
{
    struct buf scratch = {0};
    struct engine *e = NULL;
    struct span uuid = raw;
    size_t pos = 0;

    if (raw.n > 0 && raw.p[0] == '[' && scan_next(raw, &pos, &uuid) != 1)
        return NULL;
    if (scan_string(uuid, &scratch, &uuid) == 0)
        e = engine_by_uuid(self, uuid);
    buf_fini(&scratch);
    return e && e->state != ENGINE_PENDING ? e : NULL;
}

/* One record for all engines, because one reply comes for all. */
static void
on_coalescing(struct hub *self, const struct event *ev)
{
    struct scan_field targets = {.key = "targets"};
    struct span raw;
    size_t pos = 0, n = 0;
    struct task *t;

    if (is_known(self, ev)
        || scan_object(msg_part(ev->m, MSG_METADATA), &targets, 1, NULL) < 0)
        return;
    while (targets.value.n > 0 && n < self->n_engine
           && scan_next(targets.value, &pos, &raw) == 1)
        n++;
    t = new_task(self, ev, n);
    if (!t)
        return;
    pos = 0;
    for (size_t i = 0; i < n; i++) {
        struct engine *e;

        if (scan_next(targets.value, &pos, &raw) != 1)
            break;
        e = target(self, raw);
        if (e)
            task_put(self, t, i, e, SHELF_QUEUE);
    }
    record_request(self, ev, SPAN_LIT("broadcast"), SPAN_NONE);
    for (size_t i = 0; i < n && t->state == TASK_PENDING; i++)
        if (t->link[i].engine && t->link[i].engine->stranded)
            engine_strand(self, t->link[i].engine, ev->now, ev->wall_us);
}

static void
on_inbcast(struct hub *self, const struct event *ev)
{
    if (ev->m->i_delim > 1)
        request_for(self, ev, SPAN_LIT("broadcast"));
    else
        on_coalescing(self, ev);
}

/* ---- destinations ----------------------------------------------------- */

void
hub_on_assigned(struct hub *self, struct span msg_id, struct span uuid)
{
    struct engine *e = engine_by_uuid(self, uuid);
    struct task *t = task_get(self, msg_id);
    struct record change;

    if (!t || t->state == TASK_DONE || t->n_link != 1)
        return;
    if (e && e->state != ENGINE_PENDING)
        task_put(self, t, 0, e, SHELF_TASKS);
    t->output_done = false; // if it was tried before, that does not count
    record_init(&change);
    change.engine_uuid = uuid;
    save(self, msg_id, &change);
}

static void
on_tracktask(struct hub *self, const struct event *ev)
{
    struct scan_field f[] = {{.key = "msg_id"}, {.key = "engine_id"}};
    struct buf scratch[2] = {{0}, {0}};
    struct span id, uuid;

    if (scan_object(msg_part(ev->m, MSG_CONTENT), f, 2, NULL) == 0
        && scan_string(f[0].value, &scratch[0], &id) == 0
        && scan_string(f[1].value, &scratch[1], &uuid) == 0)
        hub_on_assigned(self, id, uuid);
    else
        hub_log(self, LOG_WARN,
                "task_destination without 'msg_id' and 'engine_id'");
    buf_fini(&scratch[0]);
    buf_fini(&scratch[1]);
}

/* ---- replies ---------------------------------------------------------- */

/* What the bookkeeping needs of a reply. */
struct verdict {
    struct span msg_id; // of the request
    struct span engine; // uuid, or empty
    int64_t started_us;
    bool mute; // nothing was printed, and no idle comes
};

/* A string of the metadata; empty if it is none.  Uuids, ids and dates need
 * no escapes, so one that has them is not looked at.
 */
static struct span
plain(struct span raw)
{
    struct buf scratch = {0};
    struct span s;

    if (scan_string(raw, &scratch, &s) < 0 || scratch.n > 0)
        s = SPAN_NONE;
    buf_fini(&scratch);
    return s;
}

static int
read_reply(const struct event *ev, struct verdict *v, rh_error *err)
{
    struct header_view parent;
    struct scan_field f[] = {
        {.key = "engine"},        {.key = "started"},
        {.key = "is_coalescing"}, {.key = "original_msg_id"},
        {.key = "roundhouse"},    {.key = "status"}};
    struct scan_field ours = {.key = "quiet"};
    bool coalescing = false, quiet = false;
    int rc = scan_header(msg_part(ev->m, MSG_PARENT), &parent, err);

    if (rc == 0)
        rc = scan_object(msg_part(ev->m, MSG_METADATA), f, 6, err);
    if (rc < 0)
        return rc;
    v->msg_id = parent.msg_id;
    v->engine = plain(f[0].value);
    v->started_us = date_or(plain(f[1].value), RECORD_NO_DATE);
    v->mute =
        span_is(plain(f[5].value), "aborted")
        || (f[4].value.n > 0 && scan_object(f[4].value, &ours, 1, NULL) == 0
            && scan_bool(ours.value, &quiet) == 0 && quiet);
    // The coalesced reply has the last engine's parent: "<id>_<U>".
    if (ev->kind == HUB_OUTBCAST && scan_bool(f[2].value, &coalescing) == 0
        && coalescing && plain(f[3].value).n > 0)
        v->msg_id = plain(f[3].value);
    return 0;
}

static int
note_record(void *ctx, const struct record *record)
{
    *(bool *)ctx = record_is_unfinished(record);
    return 0;
}

/* A task of an earlier controller, whose record outlived it. */
static bool
is_inherited(struct hub *self, struct span msg_id)
{
    bool unfinished = false;

    (void)self->store->ops->get(self->store, msg_id,
                                RECORD_BIT(HEADER) | RECORD_BIT(COMPLETED),
                                note_record, &unfinished, NULL);
    return unfinished;
}

static void
record_reply(struct hub *self, const struct event *ev, const struct verdict *v)
{
    struct record change;

    record_init(&change);
    change.result = ev->m;
    change.started_us = v->started_us;
    change.completed_us = date_or(ev->header.date, ev->wall_us);
    change.received_us = ev->wall_us;
    if (v->engine.n > 0)
        change.engine_uuid = v->engine;
    save(self, v->msg_id, &change);
}

static void
on_reply(struct hub *self, const struct event *ev)
{
    struct verdict v;
    rh_error err = {0};
    struct engine *e;
    struct task *t;
    bool counted;

    if (read_reply(ev, &v, &err) < 0) {
        hub_log(self, LOG_WARN, "reply dropped: %s", err.text);
        return;
    }
    t = task_get(self, v.msg_id);
    if (t ? t->state == TASK_DONE && !t->stranded
          : !is_inherited(self, v.msg_id)) {
        hub_log(self, LOG_DEBUG, "a reply nobody waits for, to %.*s",
                shown(v.msg_id), (const char *)v.msg_id.p);
        return;
    }
    record_reply(self, ev, &v);
    if (!t)
        return;
    // The scheduler answers for dead engines and hopeless tasks; that is no
    // engine's work.
    counted = ev->kind != HUB_OUTTASK
              || (v.engine.n > 0 && span_eq(v.engine, ev->header.session));
    e = engine_by_uuid(self, v.engine);
    if (counted && ev->kind == HUB_OUTTASK && e && t->n_link > 0
        && e->state != ENGINE_PENDING)
        link_move(&t->link[0], e, SHELF_COMPLETED);
    t->stranded = false;
    // The shares of a coalescing broadcast are not told apart.
    if (v.mute || t->n_link != 1)
        t->output_done = true;
    task_finish(self, t, counted);
}

/* ---- output ----------------------------------------------------------- */

static void
take_stream(struct record *change, struct span content, struct buf *scratch)
{
    struct scan_field f[] = {{.key = "name"}, {.key = "text"}};
    struct span name;

    if (scan_object(content, f, 2, NULL) < 0)
        return;
    name = plain(f[0].value);
    if (span_is(name, "stdout"))
        (void)scan_string(f[1].value, scratch, &change->out);
    else if (span_is(name, "stderr"))
        (void)scan_string(f[1].value, scratch, &change->err);
}

static void
take_input(struct record *change, struct span content, struct buf *scratch)
{
    struct scan_field f = {.key = "code"};

    (void)scratch;
    if (scan_object(content, &f, 1, NULL) == 0 && f.value.n > 0)
        change->execute_input = f.value;
}

static void
take_result(struct record *change, struct span content, struct buf *scratch)
{
    (void)scratch;
    if (scan_object(content, NULL, 0, NULL) == 0)
        change->execute_result = content;
}

static void
take_display(struct record *change, struct span content, struct buf *scratch)
{
    (void)scratch;
    if (scan_object(content, NULL, 0, NULL) == 0)
        change->display_data = content;
}

static void
take_error(struct record *change, struct span content, struct buf *scratch)
{
    (void)scratch;
    if (scan_object(content, NULL, 0, NULL) == 0)
        change->error = content;
}

/* Output that is recorded.  Everything else on iopub (data_message, comm_open,
 * clear_output, ...) is legal and not the hub's business.
 */
// clang-format off
static const struct {
    const char *msg_type;
    void (*take)(struct record *change, struct span content,
                 struct buf *scratch);
} outputs[] = {
    { "stream",         take_stream },
    { "execute_input",  take_input },
    { "execute_result", take_result },
    { "display_data",   take_display },
    { "error",          take_error },
};
// clang-format on

/* Output of a coalescing broadcast names the engine's share, "<id>_<U>", but
 * the record is that of <id>.
 */
static struct span
recorded_id(const struct hub *self, const struct event *ev, struct span msg_id)
{
    const struct span uuid = ev->header.session;
    struct span whole = msg_id;

    if (uuid.n == 0 || msg_id.n <= uuid.n + 1 || task_get(self, msg_id))
        return msg_id;
    whole.n -= uuid.n + 1;
    if (whole.p[whole.n] != '_'
        || !span_eq(span_of(whole.p + whole.n + 1, uuid.n), uuid))
        return msg_id;
    return task_get(self, whole) ? whole : msg_id;
}

/* An engine that has gone idle has published all of a task's output. */
static void
take_status(struct hub *self, const struct event *ev)
{
    struct scan_field state = {.key = "execution_state"};
    struct header_view parent;
    struct task *t;

    if (scan_object(msg_part(ev->m, MSG_CONTENT), &state, 1, NULL) < 0
        || !span_is(plain(state.value), "idle")
        || scan_header(msg_part(ev->m, MSG_PARENT), &parent, NULL) < 0)
        return;
    t = task_get(self, parent.msg_id);
    if (!t)
        return;
    t->output_done = true;
    if (t->state == TASK_DONE)
        watch_wake(self, t);
}

static void
record_output(struct hub *self, const struct event *ev)
{
    struct buf scratch = {0};
    struct header_view parent;
    struct record change;
    const struct task *t;
    struct span id;
    size_t i = 0;
    const size_t n = sizeof(outputs) / sizeof(outputs[0]);

    while (i < n && !span_is(ev->header.msg_type, outputs[i].msg_type))
        i++;
    // Without a parent it belongs to no task.
    if (i == n || scan_header(msg_part(ev->m, MSG_PARENT), &parent, NULL) < 0
        || parent.msg_id.n > MAX_MSG_ID)
        return;
    record_init(&change);
    outputs[i].take(&change, msg_part(ev->m, MSG_CONTENT), &scratch);
    id = recorded_id(self, ev, parent.msg_id);
    t = task_get(self, id);
    // What was evicted or purged must not come back by halves.
    change.late = t && t->state == TASK_DONE;
    if (change.out.n || change.err.n || change.execute_input.n
        || change.execute_result.n || change.display_data.n || change.error.n)
        save(self, id, &change);
    buf_fini(&scratch);
}

static void
on_iopub(struct hub *self, const struct event *ev)
{
    struct engine *e;

    if (span_is(ev->header.msg_type, "status")) {
        take_status(self, ev);
        return;
    }
    if (!span_is(ev->header.msg_type, "shutdown_reply")) {
        record_output(self, ev);
        return;
    }
    e = engine_by_uuid(self, ev->header.session);
    if (e)
        engine_lose(self, e, "it was shut down", ev->now, ev->wall_us);
}

/* ---- entry ------------------------------------------------------------ */

// clang-format off
static const struct {
    const char *name;
    uint32_t min_ident; // routing frames the handler looks at
    intake *fn;
} intakes[N_HUB_KINDS] = {
    [HUB_IN]        = { "in",        2, on_in },
    [HUB_OUT]       = { "out",       2, on_reply },
    [HUB_INTASK]    = { "intask",    1, on_intask },
    [HUB_TRACKTASK] = { "tracktask", 0, on_tracktask },
    [HUB_OUTTASK]   = { "outtask",   1, on_reply },
    [HUB_IOPUB]     = { "iopub",     1, on_iopub },
    [HUB_INBCAST]   = { "inbcast",   1, on_inbcast },
    [HUB_OUTBCAST]  = { "outbcast",  1, on_reply },
};
// clang-format on

static int
admit(struct hub *self, struct event *ev, rh_error *err)
{
    const uint32_t need = intakes[ev->kind].min_ident;
    int rc;

    if (ev->m->i_delim == MSG_NO_DELIM || ev->m->i_delim < need)
        return rh_fail(err, RH_EPROTO, "fewer than %u routing frames", need);
    rc = session_admit(self->session, ev->m, err);
    if (rc == 0)
        rc = scan_header(msg_part(ev->m, MSG_HEADER), &ev->header, err);
    if (rc == 0 && ev->header.msg_id.n > MAX_MSG_ID)
        rc = rh_fail(err, RH_ELIMIT, "message id of %zu bytes, at most %d",
                     ev->header.msg_id.n, MAX_MSG_ID);
    return rc;
}

void
hub_on_traffic(struct hub *self, enum hub_kind kind, struct msg *m, int64_t now,
               int64_t wall_us)
{
    struct event ev = {.kind = kind, .m = m, .now = now, .wall_us = wall_us};
    rh_error err = {0};

    if (admit(self, &ev, &err) < 0) {
        hub_log(self, LOG_WARN, "%s message dropped: %s", intakes[kind].name,
                err.text);
        return;
    }
    intakes[kind].fn(self, &ev);
}
