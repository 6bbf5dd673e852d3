/* submit.c - from a submission to a signed message on its way
 *
 * Composing and signing happen under the sender's own lock, so that threads
 * that submit do not wait for one that receives.  The request enters the
 * ledger before the message is sent: a reply can never be faster.
 */
#include <sched.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/client.h"
#include "wire/scan.h"
#include "wire/translate.h"

#define N_STACK 16
#define SENT_SLICE_MS 5

/* ---- buffers that are not copied -------------------------------------- */

/* How many buffers of a request are still in use. */
struct tracker {
    atomic_uint refs;
    atomic_size_t n;
};

void
tracker_unref(struct tracker **self_p)
{
    struct tracker *self = *self_p;

    *self_p = NULL;
    if (self && atomic_fetch_sub(&self->refs, 1) == 1)
        mem_free(self);
}

/* Owns a caller's buffer, in the form in which messages own each other. */
struct holder {
    struct msg base;
    struct rh_buffer buffer;
    struct tracker *tracker;
};

static void
holder_destroy(struct msg *base)
{
    struct holder *self = (struct holder *)base;

    self->buffer.release(self->buffer.arg);
    if (self->tracker)
        atomic_fetch_sub(&self->tracker->n, 1);
    tracker_unref(&self->tracker);
    mem_free(self);
}

static struct msg *
holder_new(const struct rh_buffer *buffer, struct tracker *tracker)
{
    struct holder *self = mem_zalloc(1, sizeof(*self));

    if (!self)
        return NULL;
    atomic_init(&self->base.refs, 1);
    self->base.i_delim = MSG_NO_DELIM;
    self->base.destroy = holder_destroy;
    self->buffer = *buffer;
    if (tracker) {
        self->tracker = tracker;
        atomic_fetch_add(&tracker->refs, 1);
        atomic_fetch_add(&tracker->n, 1);
    }
    return &self->base;
}

int
rh_request_sent(const rh_request *self)
{
    return !self->tracker || atomic_load(&self->tracker->n) == 0;
}

/* Sending needs somebody who drives the connections: that is us, in slices,
 * since nobody tells waiting threads of buffers that have left.
 */
int
rh_request_wait_sent(rh_request *self, int timeout_ms)
{
    int64_t end_us = clock_mono_us() + timeout_ms * (int64_t)1000;

    while (!rh_request_sent(self)) {
        int64_t left_ms = (end_us - clock_mono_us()) / 1000;
        int rc;

        if (timeout_ms >= 0 && left_ms <= 0)
            return RH_ETIMEDOUT;
        if (timeout_ms < 0 || left_ms > SENT_SLICE_MS)
            left_ms = SENT_SLICE_MS;
        rc = rh_client_wait(self->client, &self, 1, 1, RH_DONE, (int)left_ms,
                            NULL);
        if (rc < 0 && rc != RH_ETIMEDOUT)
            return rh_request_sent(self) ? 0 : rc;
        if (rc == 0 && !rh_request_sent(self))
            sched_yield(); // answered already: the last frame is being let go
    }
    return 0;
}

/* The buffers of one submission as compose() wants them. */
struct cargo {
    struct span *span, stack_span[N_STACK];
    struct msg **owner, *stack_owner[N_STACK];
    size_t n;
};

static void
cargo_fini(struct cargo *self)
{
    for (size_t i = 0; i < self->n; i++)
        msg_unref(&self->owner[i]);
    if (self->span != self->stack_span)
        mem_free(self->span);
    if (self->owner != self->stack_owner)
        mem_free(self->owner);
}

/* Takes over the duty to release, buffer by buffer; those from *n_taken on
 * are still the caller's when it fails.
 */
static int
cargo_init(struct cargo *self, const struct rh_buffer *buffer, size_t n,
           struct tracker *tracker, size_t *n_taken)
{
    bool small = n <= N_STACK;

    self->n = 0;
    self->span = small ? self->stack_span : mem_zalloc(n, sizeof(*self->span));
    self->owner =
        small ? self->stack_owner : mem_zalloc(n, sizeof(struct msg *));
    *n_taken = 0;
    if (!self->span || !self->owner)
        return RH_ENOMEM;
    for (; self->n < n; self->n++, (*n_taken)++) {
        size_t i = self->n;

        self->span[i] = span_of(buffer[i].p, buffer[i].n);
        self->owner[i] = NULL;
        if (buffer[i].release
            && !(self->owner[i] = holder_new(&buffer[i], tracker)))
            return RH_ENOMEM;
    }
    return 0;
}

static void
release_rest(const struct rh_buffer *buffer, size_t n, size_t n_taken)
{
    for (size_t i = n_taken; i < n; i++)
        if (buffer[i].release)
            buffer[i].release(buffer[i].arg);
}

/* ---- checking --------------------------------------------------------- */

static int
check_submission(const struct rh_submission *what, rh_error *err)
{
    bool direct = what->channel == RH_MUX || what->channel == RH_CONTROL;

    if ((unsigned)what->channel > RH_QUERY)
        return rh_fail(err, RH_EINVAL, "channel %d does not exist",
                       (int)what->channel);
    if (!what->msg_type || !*what->msg_type)
        return rh_fail(err, RH_EINVAL, "a request needs a msg_type");
    if (direct && (!what->target || !*what->target))
        return rh_fail(err, RH_EINVAL,
                       "%s on this channel needs an engine's uuid",
                       what->msg_type);
    if (!direct && what->target)
        return rh_fail(err, RH_EINVAL,
                       "%s goes to no single engine on this channel",
                       what->msg_type);
    if (what->target && strlen(what->target) > 255)
        return rh_fail(err, RH_EINVAL, "engine uuid of %zu bytes",
                       strlen(what->target));
    if (what->msg_id && strlen(what->msg_id) >= MSG_ID_SIZE)
        return rh_fail(err, RH_EINVAL, "message id of %zu bytes, allowed %d",
                       strlen(what->msg_id), MSG_ID_SIZE - 1);
    return 0;
}

/* Two JSON values at most: [uuid, id] or "uuid". */
static int
read_target(struct span raw, struct buf *scratch, struct span *uuid)
{
    struct span first = raw;
    size_t pos = 0;

    if (raw.n && raw.p[0] == '[' && scan_next(raw, &pos, &first) != 1)
        return RH_EINVAL;
    return scan_string(first, scratch, uuid);
}

static int
add_part(struct rh_request *leader, struct span uuid, rh_error *err)
{
    char id[MSG_ID_SIZE + 256], name[256];

    if (uuid.n == 0 || uuid.n >= sizeof(name))
        return rh_fail(err, RH_EINVAL, "engine uuid of %zu bytes", uuid.n);
    memcpy(name, uuid.p, uuid.n);
    name[uuid.n] = '\0';
    snprintf(id, sizeof(id), "%s_%s", leader->msg_id, name);
    if (request_add_part(leader, id, name) < 0)
        return rh_fail(err, RH_ENOMEM, "broadcasting '%s'", leader->msg_id);
    return 0;
}

/* A part for every pair in the metadata's targets. */
static int
add_targets(struct rh_request *leader, struct span metadata, rh_error *err)
{
    struct scan_field f = {.key = "targets"};
    struct span raw, uuid;
    size_t pos = 0;
    int rc = 0, more;

    if (scan_object(metadata, &f, 1, NULL) < 0 || !f.value.n)
        return rh_fail(err, RH_EINVAL, "a broadcast's metadata needs targets");
    while (rc == 0 && (more = scan_next(f.value, &pos, &raw)) != 0) {
        struct buf scratch = {0};

        if (more < 0 || read_target(raw, &scratch, &uuid) < 0)
            rc = rh_fail(err, RH_EINVAL,
                         "a broadcast's targets are pairs of uuid and id");
        else
            rc = add_part(leader, uuid, err);
        buf_fini(&scratch);
    }
    return rc;
}

static int
add_parts(struct rh_request *leader, const struct rh_submission *what,
          rh_error *err)
{
    if (!what->n_expect || leader->coalescing)
        return add_targets(leader, span_of(what->metadata.p, what->metadata.n),
                           err);
    for (size_t i = 0; i < what->n_expect; i++)
        if (request_add_part(leader, what->expect[i].msg_id,
                             what->expect[i].uuid)
            < 0)
            return rh_fail(err, RH_ENOMEM, "broadcasting '%s'", leader->msg_id);
    return 0;
}

/* ---- sending ---------------------------------------------------------- */

/* Engines of ours leave out busy and idle around a call that prints nothing,
 * and say so in the reply; other engines do not look at the key.
 */
static struct span
ask_for_quiet(struct buf *out, const struct rh_submission *what)
{
    struct span given = span_of(what->metadata.p, what->metadata.n);
    size_t i = 1; // of what follows the brace
    // Replies that are combined cannot say it for each engine.
    bool is_call = strcmp(what->msg_type, "apply_request") == 0
                   && !(what->flags & RH_COALESCING);

    if (!is_call || (given.n && given.p[0] != '{'))
        return given;
    buf_clear(out);
    buf_add_str(out, "{\"roundhouse\": {\"quiet\": true}");
    while (i < given.n && given.p[i] <= ' ')
        i++;
    if (i < given.n && given.p[i] != '}') {
        buf_add_str(out, ", ");
        buf_add(out, given.p + 1, given.n - 1);
    } else {
        buf_add_char(out, '}');
    }
    return out->failed ? given : buf_span(out);
}

static int
compose_submission(struct rh_client *self, const struct rh_submission *what,
                   const struct cargo *cargo, char id[MSG_ID_SIZE],
                   int64_t now_us, struct msg **out, rh_error *err)
{
    struct span ident = span_str(what->target);
    struct draft draft = {
        .ident = &ident,
        .n_ident = what->target ? 1 : 0,
        .msg_type = what->msg_type,
        .msg_id = id,
        .content = span_of(what->content.p, what->content.n),
        .buffer = cargo->span,
        .owner = cargo->owner,
        .n_buffers = cargo->n,
        .wall_us = now_us,
    };
    int rc;

    pthread_mutex_lock(&self->send_lock);
    draft.metadata = ask_for_quiet(&self->metadata, what);
    if (what->msg_id)
        memcpy(id, what->msg_id, strlen(what->msg_id) + 1);
    else
        sender_next_id(&self->sender, id);
    rc = compose(&self->sender, &draft, out, err);
    pthread_mutex_unlock(&self->send_lock);
    return rc;
}

/* '*m' as the cluster packs it. */
static int
pack(struct rh_client *self, struct msg **m, rh_error *err)
{
    struct msg *packed = NULL;
    int rc;

    if (!self->packs)
        return 0;
    pthread_mutex_lock(&self->send_lock);
    rc = translate_out(self->conn.pack, self->signer, *m, &packed, err);
    pthread_mutex_unlock(&self->send_lock);
    if (rc == 0) {
        msg_unref(m);
        *m = packed;
    }
    return rc;
}

static int
send_locked(struct rh_client *self, struct rh_request *req, struct msg *m,
            rh_error *err)
{
    enum link i = (enum link)req->channel;
    struct moment now;
    int rc;

    if (atomic_load(&self->closed))
        return rh_fail(err, RH_ECLOSED, "the client is closed");
    now = (struct moment){self->now.mono_us, req->submitted_us};
    rc = ledger_add(&self->ledger, req, now, err);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (self->link[i].gave_up) {
        ledger_fail(&self->ledger, req, FAIL_LOST, -1, now);
        return 0;
    }
    rc = net_send(self->link[i].sock, NULL, 0, m, 0, err);
    if (rc < 0) {
        ledger_retract(&self->ledger, req);
        return rc == RH_EAGAIN
                   ? rh_fail(err, RH_ENET, "no connection to send on")
                   : rc;
    }
    if (!net_is_level(self->link[i].sock))
        self->link[i].dirty = true;
    client_hurry(self, self->link[i].sock);
    return 0;
}

static int
send_request(struct rh_client *self, const struct rh_submission *what,
             struct rh_request *req, struct msg *m, rh_error *err)
{
    int rc = 0;

    if (what->channel == RH_BROADCAST)
        rc = add_parts(req, what, err);
    if (rc == 0) {
        req->handles = 1;
        pthread_mutex_lock(&self->lock);
        rc = send_locked(self, req, m, err);
        if (rc == 0 && self->n_polling
            && self->link[(enum link)req->channel].dirty)
            client_catch_up(self);
        pthread_mutex_unlock(&self->lock);
    }
    return rc;
}

static int
submit(struct rh_client *self, const struct rh_submission *what,
       const struct cargo *cargo, struct tracker **tracker,
       struct rh_request **out, rh_error *err)
{
    char id[MSG_ID_SIZE];
    struct request_spec spec = {
        .channel = what->channel,
        .msg_id = id,
        .target = what->target ? what->target : "",
        .msg_type = what->msg_type,
        .now_us = clock_wall_us(),
        .coalescing =
            what->channel == RH_BROADCAST && (what->flags & RH_COALESCING),
    };
    struct rh_request *req;
    struct msg *m = NULL;
    int rc = compose_submission(self, what, cargo, id, spec.now_us, &m, err);

    if (rc < 0)
        return rc;
    spec.header = msg_part(m, MSG_HEADER);
    req = request_new(&spec);
    if (!req) {
        msg_unref(&m);
        return rh_fail(err, RH_ENOMEM, "submitting '%s'", id);
    }
    req->client = client_ref(self);
    req->tracker = *tracker;
    *tracker = NULL;
    rc = pack(self, &m, err);
    if (rc == 0)
        rc = send_request(self, what, req, m, err);
    msg_unref(&m);
    if (rc < 0)
        request_unref(&req);
    else
        *out = req;
    return rc;
}

int
rh_client_submit(rh_client *self, const rh_submission *what, rh_request **out,
                 rh_error *err)
{
    struct tracker *tracker = NULL;
    struct cargo cargo = {0};
    struct buf tickets = {0};
    size_t n_taken = 0;
    int rc = client_check(self, err);

    if (rc == 0)
        rc = check_submission(what, err);
    if (rc == 0 && (what->flags & RH_TRACK)
        && !(tracker = mem_zalloc(1, sizeof(*tracker))))
        rc = rh_fail(err, RH_ENOMEM, "submitting a request");
    if (tracker)
        atomic_init(&tracker->refs, 1);
    if (rc == 0) {
        rc = cargo_init(&cargo, what->buffer, what->n_buffers, tracker,
                        &n_taken);
        if (rc == 0) {
            if (what->channel != RH_QUERY && what->channel != RH_CONTROL)
                shm_put(self->shm, cargo.span, cargo.owner, cargo.n, &tickets);
            rc = submit(self, what, &cargo, &tracker, out, err);
            if (rc < 0)
                shm_put_back(self->shm, &tickets);
        } else {
            rh_fail(err, rc, "submitting %zu buffers", what->n_buffers);
        }
        cargo_fini(&cargo);
        buf_fini(&tickets);
    }
    release_rest(what->buffer, what->n_buffers, n_taken);
    tracker_unref(&tracker);
    return rc;
}

struct rh_request *
client_ask(struct rh_client *self, const char *msg_type)
{
    const struct rh_submission what = {.channel = RH_QUERY,
                                       .msg_type = msg_type};
    const struct cargo cargo = {0};
    char id[MSG_ID_SIZE];
    struct request_spec spec = {.channel = RH_QUERY,
                                .msg_id = id,
                                .target = "",
                                .msg_type = msg_type,
                                .now_us = self->now.wall_us};
    struct rh_request *req = NULL;
    struct msg *m = NULL;

    if (compose_submission(self, &what, &cargo, id, spec.now_us, &m, NULL) == 0)
        req = request_new(&spec);
    if (req) {
        req->client = client_ref(self);
        req->handles = 1;
        if (pack(self, &m, NULL) < 0 || send_locked(self, req, m, NULL) < 0)
            request_unref(&req);
    }
    msg_unref(&m);
    return req;
}

void
client_next_id(struct rh_client *self, char *out)
{
    pthread_mutex_lock(&self->send_lock);
    sender_next_id(&self->sender, out);
    pthread_mutex_unlock(&self->send_lock);
}

bool
client_is_busy(struct rh_client *self)
{
    if (pthread_mutex_trylock(&self->lock) != 0)
        return true;
    pthread_mutex_unlock(&self->lock);
    if (pthread_mutex_trylock(&self->send_lock) != 0)
        return true;
    pthread_mutex_unlock(&self->send_lock);
    return false;
}

/* ---- conveniences ----------------------------------------------------- */

int
rh_client_execute(rh_client *self, const char *uuid, const char *code,
                  unsigned flags, rh_request **out, rh_error *err)
{
    struct rh_submission what = {
        .channel = uuid ? RH_MUX : RH_TASK,
        .target = uuid,
        .msg_type = "execute_request",
    };
    struct buf content = {0};
    int rc;

    buf_add_str(&content, "{\"code\": ");
    buf_add_json_str(&content, span_str(code));
    buf_add_fmt(&content, ", \"silent\": %s, \"user_expressions\": {}}",
                flags & RH_SILENT ? "true" : "false");
    what.content = (struct rh_bytes){content.p, content.n};
    rc = content.failed ? rh_fail(err, RH_ENOMEM, "executing %zu bytes of code",
                                  strlen(code))
                        : rh_client_submit(self, &what, out, err);
    buf_fini(&content);
    return rc;
}

int
rh_client_apply(rh_client *self, const char *uuid, const rh_buffer *buffer,
                size_t n_buffers, rh_request **out, rh_error *err)
{
    struct rh_submission what = {
        .channel = uuid ? RH_MUX : RH_TASK,
        .target = uuid,
        .msg_type = "apply_request",
        .buffer = buffer,
        .n_buffers = n_buffers,
    };

    return rh_client_submit(self, &what, out, err);
}
