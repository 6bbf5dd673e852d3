/* ledger.c - requests: added, settled, forgotten
 *
 * All completion goes through settle(): it sets state bits, tells the port
 * once, rolls parts up into their leader, and takes what is complete out of
 * the map.  Whoever calls it holds a reference of his own, because the map's
 * may be the last one.
 *
 * How a broadcast is completed:
 *   - plain: each part by its own reply; the leader when all parts are.
 *   - coalescing: the leader by the combined reply, which is addressed to any
 *     one of the parts; the parts exist for their output and their engines.
 *   - an answer to the leader of a plain one (a refusal of the whole) counts
 *     for every part that is still open.
 */
#include "client/ledger.h"

#include <stdlib.h>

#include "base/mem.h"
#include "client/roster.h"
#include "wire/scan.h"

void
ledger_init(struct ledger *self, struct span session,
            const struct ledger_port *port, void *ctx)
{
    *self = (struct ledger){.port = port, .ctx = ctx, .session = session};
    list_init(&self->leaving);
}

void
ledger_fini(struct ledger *self)
{
    roster_fini(self);
    map_fini(&self->pending);
}

/* ---- settling --------------------------------------------------------- */

static void
forget(struct ledger *self, struct rh_request *req)
{
    if (!req->pending)
        return;
    req->pending = false;
    list_remove(&req->on_engine);
    map_del(&self->pending, span_str(req->msg_id));
    request_unref(&req);
}

static void settle(struct ledger *self, struct rh_request *req, unsigned bits);

static void
roll_up(struct ledger *self, struct rh_request *leader, unsigned bits)
{
    if (bits & RH_DONE)
        leader->n_open--;
    if (bits & RH_OUTPUT_DONE)
        leader->n_loud--;
    if (!leader->coalescing && leader->n_open == 0)
        settle(self, leader, RH_DONE);
    if (leader->n_loud == 0 && (request_state(leader) & RH_DONE))
        settle(self, leader, RH_OUTPUT_DONE);
}

static void
settle(struct ledger *self, struct rh_request *req, unsigned bits)
{
    unsigned was = request_state(req);

    bits &= ~was;
    if (!bits)
        return;
    atomic_fetch_or_explicit(&req->state, bits, memory_order_release);
    self->port->settled(self->ctx, req, bits);
    if (req->leader)
        roll_up(self, req->leader, bits);
    if ((was | bits) == RH_SETTLED)
        forget(self, req);
}

static void
settle_parts(struct ledger *self, struct rh_request *leader, unsigned bits)
{
    for (size_t i = 0; i < leader->n_parts; i++)
        settle(self, leader->part[i], bits);
}

static void
settle_failed(struct ledger *self, struct rh_request *req, enum failure why,
              int engine_id, int64_t wall_us)
{
    if (!(request_state(req) & RH_DONE)) {
        req->failure = why;
        req->engine_id = engine_id;
        req->status = RH_STATUS_ERROR;
        req->received_us = wall_us;
    }
    settle(self, req, RH_SETTLED);
}

/* Without a reply.  A part fails alone, unless replies were to be combined:
 * then the combined one will never come.
 */
void
ledger_fail(struct ledger *self, struct rh_request *req, enum failure why,
            int engine_id, struct moment now)
{
    struct rh_request *hold = request_ref(req), *leader = req->leader;

    if (leader && leader->coalescing && !(request_state(leader) & RH_DONE))
        req = leader;
    if (req->coalescing)
        settle_failed(self, req, why, engine_id, now.wall_us);
    for (size_t i = 0; i < req->n_parts; i++)
        if (req->coalescing)
            settle(self, req->part[i], RH_SETTLED);
        else
            settle_failed(self, req->part[i], why, engine_id, now.wall_us);
    settle_failed(self, req, why, engine_id, now.wall_us);
    request_unref(&hold);
}

void
ledger_fail_all(struct ledger *self, enum failure why, struct moment now)
{
    struct rh_request *req;

    // Deleting moves a later entry into the slot, so the walk looks at the
    // slot again; what moved across the table's end is left to the next round.
    while (self->pending.n)
        for (size_t i = 0; (req = map_next(&self->pending, &i)); i--)
            ledger_fail(self, req, why, -1, now);
}

void
ledger_fail_channel(struct ledger *self, enum rh_channel channel,
                    uint64_t serial, struct moment now)
{
    struct rh_request *req;
    size_t n;

    do { // see ledger_fail_all
        n = self->pending.n;
        for (size_t i = 0; (req = map_next(&self->pending, &i));)
            if (req->channel == channel
                && request_group(req)->serial <= serial) {
                ledger_fail(self, req, FAIL_LOST, -1, now);
                i--;
            }
    } while (self->pending.n < n);
}

void
ledger_end_output(struct ledger *self, struct rh_request *req)
{
    struct rh_request *hold = request_ref(req);

    if (request_state(req) & RH_DONE) {
        settle_parts(self, req, RH_OUTPUT_DONE);
        settle(self, req, RH_OUTPUT_DONE);
    }
    request_unref(&hold);
}

/* ---- adding ----------------------------------------------------------- */

static int
check_ids(const struct ledger *self, const struct rh_request *req,
          rh_error *err)
{
    const char *id = req->msg_id;

    if (map_get(&self->pending, span_str(id)))
        return rh_fail(err, RH_EEXIST, "message id '%s' is in use", id);
    for (size_t i = 0; i < req->n_parts; i++) {
        id = req->part[i]->msg_id;
        if (map_get(&self->pending, span_str(id))
            || strcmp(id, req->msg_id) == 0)
            return rh_fail(err, RH_EEXIST, "message id '%s' is in use", id);
    }
    return 0;
}

/* Cannot fail after map_reserve.  False: the target is not registered. */
static bool
enter(struct ledger *self, struct rh_request *req)
{
    struct engine *engine = NULL;

    map_put(&self->pending, span_str(req->msg_id), req);
    req->pending = true;
    request_ref(req);
    if (!*req->target)
        return true;
    engine = ledger_engine(self, span_str(req->target));
    if (!engine || engine->leaving)
        return false;
    list_append(&engine->pending, &req->on_engine);
    return true;
}

int
ledger_add(struct ledger *self, struct rh_request *req, struct moment now,
           rh_error *err)
{
    struct rh_request *hold;
    bool sendable;
    int rc = check_ids(self, req, err);

    if (rc < 0)
        return rc;
    if (map_reserve(&self->pending, req->n_parts + 1) < 0)
        return rh_fail(err, RH_ENOMEM, "adding request '%s'", req->msg_id);
    hold = request_ref(req);
    req->serial = ++self->serial;
    sendable = enter(self, req);
    if (!sendable)
        ledger_fail(self, req, FAIL_NO_ENGINE, -1, now);
    for (size_t i = 0; i < req->n_parts; i++) {
        struct rh_request *part = req->part[i];

        if (request_state(part) == RH_SETTLED)
            continue; // the whole has failed
        if (map_get(&self->pending, span_str(part->msg_id))) {
            // Named twice: the second can never be told from the first.
            settle_failed(self, part, FAIL_BAD_REPLY, -1, now.wall_us);
        } else if (!enter(self, part)) {
            ledger_fail(self, part, FAIL_NO_ENGINE, -1, now);
        }
    }
    if (req->n_parts && request_state(req) == RH_SETTLED)
        sendable = false;
    if (req->one_way && sendable) {
        req->status = RH_STATUS_OK;
        settle(self, req, RH_SETTLED);
    } else if (!req->has_output) {
        settle_parts(self, req, RH_OUTPUT_DONE);
        if (!req->n_parts)
            settle(self, req, RH_OUTPUT_DONE);
    }
    request_unref(&hold);
    return sendable ? 0 : 1;
}

static void
drop(struct ledger *self, struct rh_request *req)
{
    struct rh_request *hold = request_ref(req);

    for (size_t i = 0; i < req->n_parts; i++)
        forget(self, req->part[i]);
    forget(self, req);
    request_unref(&hold);
}

void
ledger_retract(struct ledger *self, struct rh_request *req)
{
    drop(self, request_group(req));
}

void
ledger_abandon(struct ledger *self, struct rh_request *req)
{
    drop(self, request_group(req));
}

/* ---- what arrives ----------------------------------------------------- */

/* msg_id of the request that a message answers; n == 0: it names none. */
static int
scan_parent(struct span parent, struct span *msg_id, struct span *session,
            struct buf *scratch, rh_error *err)
{
    struct scan_field f[] = {{.key = "msg_id"}, {.key = "session"}};
    int rc = scan_object(parent, f, 2, err);

    *msg_id = *session = SPAN_NONE;
    if (rc < 0)
        return rc;
    if (f[0].value.n && scan_string(f[0].value, scratch, msg_id) < 0)
        return rh_fail(err, RH_EPROTO, "parent msg_id is not a string");
    if (f[1].value.n && scan_string(f[1].value, scratch, session) < 0)
        return rh_fail(err, RH_EPROTO, "parent session is not a string");
    return 0;
}

/* The status in a reply's content, and whether output may still come: not
 * after an abort, nor after an error that no engine made (no engine_info).
 */
static int
read_status(struct span content, enum rh_status *status, bool *mute)
{
    struct scan_field f[] = {{.key = "status"}, {.key = "engine_info"}};

    *mute = false;
    *status = RH_STATUS_OK;
    if (scan_object(content, f, 2, NULL) < 0)
        return RH_EPROTO;
    if (f[0].value.n == 0 || span_is(f[0].value, "\"ok\""))
        return 0; // replies of plain Jupyter kinds may have no status
    *status = RH_STATUS_ERROR;
    if (span_is(f[0].value, "\"aborted\"")) {
        *status = RH_STATUS_ABORTED;
        *mute = true;
    } else {
        struct span info = f[1].value;
        size_t i = 1;

        while (i < info.n && info.p[i] <= 0x20)
            i++;
        *mute = scan_is_null(info)
                || (info.n && info.p[0] == '{' && info.p[i] == '}');
    }
    return 0;
}

/* The engine published nothing for this call, not even busy and idle. */
static bool
is_quiet(struct span metadata)
{
    struct scan_field ours = {.key = "roundhouse"}, quiet = {.key = "quiet"};
    bool yes = false;

    return scan_object(metadata, &ours, 1, NULL) == 0 && ours.value.n
           && scan_object(ours.value, &quiet, 1, NULL) == 0 && quiet.value.n
           && scan_bool(quiet.value, &yes) == 0 && yes;
}

static void
take_reply(struct rh_request *req, struct msg *m, enum rh_status status,
           int64_t wall_us)
{
    req->reply = msg_ref(m);
    req->status = status;
    req->received_us = wall_us;
}

/* The reply of a whole: to each part that is open, or for them all. */
static void
settle_whole(struct ledger *self, struct rh_request *req, struct msg *m,
             enum rh_status status, bool mute, int64_t wall_us)
{
    for (size_t i = 0; i < req->n_parts && !req->coalescing; i++) {
        struct rh_request *part = req->part[i];

        if (!(request_state(part) & RH_DONE)) {
            take_reply(part, m, status, wall_us);
            settle(self, part, mute ? RH_SETTLED : RH_DONE);
        }
    }
    if (req->coalescing || !req->n_parts) {
        take_reply(req, m, status, wall_us);
        settle(self, req, RH_DONE);
        settle_parts(self, req, mute ? RH_SETTLED : RH_DONE);
    }
    // A broadcast that knows no parts will not hear them being idle.
    if (!req->n_parts
        && (mute || (req->channel == RH_BROADCAST && !req->leader)))
        settle(self, req, RH_OUTPUT_DONE);
}

int
ledger_reply(struct ledger *self, struct msg *m, struct moment now,
             rh_error *err)
{
    struct buf scratch = {0};
    struct span msg_id, session;
    struct rh_request *req = NULL, *hold;
    enum rh_status status;
    bool mute;
    int rc =
        scan_parent(msg_part(m, MSG_PARENT), &msg_id, &session, &scratch, err);

    if (rc == 0)
        req = map_get(&self->pending, msg_id);
    buf_fini(&scratch);
    if (rc < 0 || !req) {
        self->n_malformed += rc < 0;
        self->n_unclaimed += rc == 0;
        return rc < 0 ? rc : rh_fail(err, RH_ENOENT, "reply to no request");
    }
    if (req->leader && req->leader->coalescing)
        req = req->leader;
    if (request_state(req) & RH_DONE) {
        self->n_late++;
        return rh_fail(err, RH_EEXIST, "second reply to '%s'", req->msg_id);
    }
    hold = request_ref(req);
    if (read_status(msg_part(m, MSG_CONTENT), &status, &mute) < 0) {
        self->n_malformed++;
        ledger_fail(self, req, FAIL_BAD_REPLY, -1, now);
    } else {
        mute = mute || is_quiet(msg_part(m, MSG_METADATA));
        settle_whole(self, req, m, status, mute, now.wall_us);
    }
    request_unref(&hold);
    return 0;
}

void
ledger_unreadable(struct ledger *self, struct span parent, struct moment now)
{
    struct buf scratch = {0};
    struct span msg_id, session;
    struct rh_request *req = NULL;

    if (scan_parent(parent, &msg_id, &session, &scratch, NULL) == 0)
        req = map_get(&self->pending, msg_id);
    buf_fini(&scratch);
    self->n_malformed++;
    if (req)
        ledger_fail(self, req, FAIL_BAD_REPLY, -1, now);
}

static void
on_status(struct ledger *self, struct rh_request *req, const struct msg *m)
{
    struct rh_request *hold = request_ref(req);
    struct scan_field f = {.key = "execution_state"};

    if (scan_object(msg_part(m, MSG_CONTENT), &f, 1, NULL) < 0)
        f.value = SPAN_NONE;
    if (span_is(f.value, "\"busy\""))
        atomic_store(&req->begun, true);
    else if (span_is(f.value, "\"idle\"") && !req->n_parts)
        settle(self, req, RH_OUTPUT_DONE);
    request_unref(&hold);
}

/* 'req' NULL: nobody's. */
static int
keep_output(struct ledger *self, struct rh_request *req, struct msg *m,
            rh_error *err)
{
    if (req && req->leader && req->leader->coalescing)
        req = req->leader;
    if (!req) {
        self->port->stray(self->ctx, m);
        return 0;
    }
    if (request_add_output(req, m) < 0) {
        self->n_lost++;
        return rh_fail(err, RH_ENOMEM, "output of '%s' is lost", req->msg_id);
    }
    self->port->output(self->ctx, req);
    return 0;
}

int
ledger_output(struct ledger *self, struct msg *m, struct moment now,
              rh_error *err)
{
    struct scan_field type = {.key = "msg_type"};
    struct buf scratch = {0};
    struct span msg_id, session;
    struct rh_request *req;
    int rc =
        scan_parent(msg_part(m, MSG_PARENT), &msg_id, &session, &scratch, err);

    (void)now;
    if (rc == 0)
        rc = scan_object(msg_part(m, MSG_HEADER), &type, 1, err);
    if (rc < 0) {
        self->n_malformed++;
    } else if (span_eq(session, self->session)) {
        req = map_get(&self->pending, msg_id);
        if (!span_is(type.value, "\"status\""))
            rc = keep_output(self,
                             type.value.n > 6
                                     && memcmp(type.value.p, "\"comm_", 6) == 0
                                 ? NULL
                                 : req,
                             m, err);
        else if (req)
            on_status(self, req, m);
    }
    buf_fini(&scratch);
    return rc;
}

/* ---- checking --------------------------------------------------------- */

void
ledger_check(const struct ledger *self)
{
    struct rh_request *req;

    for (size_t i = 0; (req = map_next(&self->pending, &i));) {
        size_t n_open = 0, n_loud = 0;

        if (!req->pending || request_state(req) == RH_SETTLED)
            abort();
        for (size_t k = 0; k < req->n_parts; k++) {
            n_open += !(request_state(req->part[k]) & RH_DONE);
            n_loud += !(request_state(req->part[k]) & RH_OUTPUT_DONE);
        }
        if (n_open != req->n_open || n_loud != req->n_loud)
            abort();
    }
    for (size_t i = 0; i < self->n_engines; i++)
        if (ledger_engine(self, span_str(self->engine[i]->uuid))
                != self->engine[i]
            || (i && self->engine[i - 1]->id >= self->engine[i]->id))
            abort();
}
