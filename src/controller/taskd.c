/* taskd.c - see taskd.h
 *
 * Messages are verified before the scheduler sees them.  What the hub shall
 * know is put into its channel before anything is sent, so that whoever has a
 * result in hand finds it in the hub as well.
 *
 * Tasks of the hub's own (resubmitted ones) come through the channel; they
 * have a client name that no socket can have, and their replies end here.
 */
#include "controller/taskd.h"

#include <time.h>

#include "base/clock.h"
#include "base/isodate.h"
#include "base/log.h"
#include "base/mem.h"
#include "controller/fault_reply.h"
#include "controller/note.h"
#include "wire/scan.h"
#include "wire/scan.h"

#define BATCH 128
#define STUCK_MS 50

/* Names that ROUTERs make up are 5 bytes, and only those may begin with 0. */
static const uint8_t hub_name[] = {0, 'h', 'u', 'b'};

static struct span
hub_client(void)
{
    return span_of(hub_name, sizeof(hub_name));
}

// ---------------------------------------------------------------------------
// The scheduler's port

static int
dispatch(void *ctx, const struct sched_peer *engine, struct msg *request)
{
    struct taskd *self = ctx;

    poller_touch(&self->poller, self->engine);
    return shm_send(self->shm, engine->uuid, self->engine, &engine->uuid, 1,
                    request, 0, NULL);
}

static int
relay(void *ctx, struct span client, struct span uuid, struct msg *reply,
      struct msg *request)
{
    const struct span prefix[] = {client, uuid};
    struct taskd *self = ctx;

    (void)request;
    // Asked again after a failure, it is swapped already.
    if (span_eq(reply->frame[0], uuid))
        swap_route(reply);
    feed_copy(&self->feed, HUB_OUTTASK, reply, self->now);
    if (span_eq(client, hub_client()))
        return 0;
    poller_touch(&self->poller, self->client);
    return shm_send(self->shm, SPAN_NONE, self->client, prefix, 2, reply, 2,
                    NULL);
}

static void
answer_metadata(struct buf *out, const struct sched_answer *answer,
                int64_t wall_us)
{
    char date[ISODATE_SIZE];

    if (!answer->engine)
        return;
    isodate_format(wall_us, date);
    buf_add_str(out, "{\"status\": \"error\", \"engine\": ");
    buf_add_json_str(out, answer->engine->uuid);
    buf_add_fmt(out, ", \"date\": \"%s\"}", date);
}

static int
compose_answer(struct taskd *self, const struct sched_answer *answer,
               struct msg **out)
{
    const struct span ident[] = {
        answer->client, answer->engine ? answer->engine->uuid : SPAN_NONE};
    struct buf metadata, content;
    int rc = RH_ENOMEM;

    buf_init(&metadata);
    buf_init(&content);
    answer_metadata(&metadata, answer, self->wall_us);
    if (answer->status == SCHED_ABORTED)
        buf_add_str(&content, "{\"status\": \"aborted\"}");
    else
        fault_content(&content, answer->ename, span_str(answer->evalue));
    if (!metadata.failed && !content.failed)
        rc = compose(&self->sender,
                     &(struct draft){
                         .ident = ident,
                         .n_ident = answer->engine ? 2 : 1,
                         .msg_type = "apply_reply",
                         .parent = msg_part(answer->request, MSG_HEADER),
                         .metadata = buf_span(&metadata),
                         .content = buf_span(&content),
                         .wall_us = self->wall_us,
                     },
                     out, NULL);
    buf_fini(&metadata);
    buf_fini(&content);
    return rc;
}

static int
answer(void *ctx, const struct sched_answer *what)
{
    struct taskd *self = ctx;
    struct msg *m;
    int rc = compose_answer(self, what, &m);

    if (rc < 0)
        return rc;
    feed_copy(&self->feed, HUB_OUTTASK, m, self->now);
    poller_touch(&self->poller, self->client);
    if (!span_eq(what->client, hub_client()))
        rc = net_send(self->client, NULL, 0, m, 0, NULL);
    msg_unref(&m);
    return rc;
}

static void
tracked(void *ctx, struct span msg_id, const struct sched_peer *engine)
{
    struct taskd *self = ctx;

    feed_assigned(&self->feed, msg_id, engine->uuid, self->now);
}

/* As a control request, which the engine answers while user code runs. */
static int
withdraw(void *ctx, const struct sched_peer *engine, const struct span *msg_id,
         size_t n)
{
    const struct span ident[] = {engine->uuid, TASKD_NAME};
    struct taskd *self = ctx;
    struct buf content;
    struct msg *m;
    int rc = RH_ENOMEM;

    buf_init(&content);
    buf_add_str(&content, "{\"msg_ids\": [");
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_add_str(&content, ", ");
        buf_add_json_str(&content, msg_id[i]);
    }
    buf_add_str(&content, "]}");
    if (!content.failed)
        rc = compose(&self->sender,
                     &(struct draft){
                         .ident = ident,
                         .n_ident = 2,
                         .msg_type = "withdraw_request",
                         .content = buf_span(&content),
                         .wall_us = self->wall_us,
                     },
                     &m, NULL);
    buf_fini(&content);
    if (rc < 0)
        return rc;
    rc = note_push_msg(self->relay, NOTE_WITHDRAW, m);
    msg_unref(&m);
    return rc;
}

static void
wake_at(void *ctx, int64_t ms)
{
    struct taskd *self = ctx;

    self->due = ms;
}

// ---------------------------------------------------------------------------
// What comes in

static void
complain_of(struct taskd *self, const char *what, const struct msg *m, int rc,
            const rh_error *err)
{
    complain_refusal(&self->complain, self->now, what, m, rc, err,
                     self->scheme);
}

/* A task that was let in; without memory for it, it waits in 'stuck'. */
static void
submit(struct taskd *self, struct msg *m)
{
    rh_error err;
    int rc = sched_on_submit(self->sched, m, self->now, &err);

    if (rc == RH_ENOMEM && !self->stuck)
        self->stuck = msg_ref(m);
    else if (rc < 0)
        complain_of(self, "task dropped", m, rc, &err);
}

/* A task that no engine could read would never be answered there. */
static bool
refuse_nonsense(struct taskd *self, struct msg *m)
{
    struct header_view header;
    struct msg *reply;
    rh_error why;

    if (scan_object(msg_part(m, MSG_PARENT), NULL, 0, &why) == 0
        && scan_object(msg_part(m, MSG_CONTENT), NULL, 0, &why) == 0)
        return false;
    complain(&self->complain, self->now, "task refused: %s", why.text);
    if (scan_header(msg_part(m, MSG_HEADER), &header, NULL) == 0
        && fault_reply_new(&self->sender,
                           &(struct fault_reply){
                               .ident = m->frame,
                               .n_ident = 1,
                               .msg_type = header.msg_type,
                               .parent = msg_part(m, MSG_HEADER),
                               .ename = "ValueError",
                               .evalue = span_str(why.text),
                               .wall_us = self->wall_us,
                           },
                           &reply, NULL)
               == 0) {
        poller_touch(&self->poller, self->client);
        (void)net_send(self->client, NULL, 0, reply, 0, NULL);
        msg_unref(&reply);
    }
    return true;
}

/* [client, MSG] */
static void
on_request(struct taskd *self, struct msg *m)
{
    rh_error err;
    int rc = m->i_delim < 1 ? rh_fail(&err, RH_EPROTO, "no sender")
                            : session_admit(self->session, m, &err);

    if (rc < 0) {
        complain_of(self, "task dropped", m, rc, &err);
        return;
    }
    if (refuse_nonsense(self, m))
        return;
    feed_copy(&self->feed, HUB_INTASK, m, self->now);
    submit(self, m);
}

/* [uuid, client, MSG] */
static void
on_reply(struct taskd *self, struct msg *m)
{
    rh_error err;
    int rc = m->i_delim < 2 ? rh_fail(&err, RH_EPROTO, "no route")
                            : session_verify(self->session, m, &err);

    if (rc == 0)
        rc = sched_on_reply(self->sched, m, self->now, &err);
    if (rc < 0)
        complain_of(self, "task reply dropped", m, rc, &err);
}

/* A task of the hub: without routing frames. */
static void
on_hub_task(struct taskd *self, struct msg *m)
{
    struct span *frame = mem_zalloc(m->n + 1, sizeof(*frame));
    struct msg **owner = mem_zalloc(m->n + 1, sizeof(struct msg *));
    struct msg *routed = NULL;

    if (frame && owner) {
        frame[0] = hub_client();
        for (uint32_t i = m->i_delim; i < m->n; i++) {
            frame[1 + i - m->i_delim] = m->frame[i];
            owner[1 + i - m->i_delim] = m;
        }
        routed = msg_gather(frame, owner, 1 + m->n - m->i_delim);
    }
    if (routed && msg_parse(routed, &msg_limits_default, NULL) == 0)
        on_request(self, routed);
    else
        log_error("out of memory: a resubmitted task is lost");
    msg_unref(&routed);
    mem_free(frame);
    mem_free(owner);
}

/* The answer to withdraw(), [name, uuid, MSG]: what the engine gave back, or an
 * error, and then it was nothing.
 */
static void
on_withdrawn(struct taskd *self, struct msg *m)
{
    struct scan_field ids = {.key = "msg_ids"};
    struct span item, *id = NULL;
    size_t n = 0, pos = 0;
    rh_error err;
    int rc = session_verify(self->session, m, &err);

    if (rc == 0)
        rc = scan_object(msg_part(m, MSG_CONTENT), &ids, 1, &err);
    if (rc < 0) {
        complain_of(self, "withdrawal dropped", m, rc, &err);
        return;
    }
    // Each id takes at least its quotes and a comma.
    while (!(id = mem_zalloc(ids.value.n / 3 + 1, sizeof(*id))))
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    while (ids.value.n && scan_next(ids.value, &pos, &item) == 1)
        if (item.n >= 2 && item.p[0] == '"')
            id[n++] = span_of(item.p + 1, item.n - 2);
    rc = sched_on_withdrawn(self->sched, m->frame[1], id, n, self->now, &err);
    if (rc < 0)
        complain_of(self, "withdrawal dropped", m, rc, &err);
    mem_free(id);
}

static void
on_engine_up(struct taskd *self, const struct note *note)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    rh_error err;
    int rc;

    while ((rc = sched_on_engine(self->sched, note->uuid, note->engine,
                                 note->capabilities, self->now, &err))
               == RH_ENOMEM
           && !worker_stopping(&self->worker))
        nanosleep(&pause, NULL);
    if (rc < 0)
        log_error("task: engine %d: %s", note->engine, err.text);
}

static void
on_engine_down(struct taskd *self, const struct note *note)
{
    if (note->begun)
        sched_on_engine_begun(self->sched, note->uuid, note->begun);
    (void)sched_on_engine_lost(self->sched, note->uuid, note->text, self->now,
                               note->grace_ms);
}

static void
take_notes(struct taskd *self)
{
    void **entry;
    size_t n = channel_take(self->inbox, &entry);
    uint64_t seen = 0;

    for (size_t i = 0; i < n; i++) {
        struct note *note = entry[i];

        if (note->kind == NOTE_SUBMIT) {
            on_hub_task(self, note->m);
        } else if (note->kind == NOTE_WITHDRAWN) {
            on_withdrawn(self, note->m);
        } else if (note->kind == NOTE_ASK) {
            taskd_on_ask(self, note->m);
        } else if (note->kind == NOTE_ABORT) {
            taskd_on_abort(self, note->m);
        } else {
            if (note->kind == NOTE_ENGINE_UP)
                on_engine_up(self, note);
            else
                on_engine_down(self, note);
            seen = note->seq;
        }
        note_free(&note);
    }
    if (seen) {
        atomic_store(&self->seen, seen);
        worker_wake(self->hub);
    }
}

// ---------------------------------------------------------------------------
// The loop

typedef void on_msg_fn(struct taskd *self, struct msg *m);

/* True if there may be more. */
static bool
drain(struct taskd *self, struct net_sock *sock, on_msg_fn *fn)
{
    poller_touch(&self->poller, sock);
    for (int i = 0; i < BATCH; i++) {
        struct msg *m = NULL;
        rh_error err;
        int rc;

        if (self->stuck)
            return false; // no memory: leave the rest where it is
        rc = net_recv(sock, &m, &err);
        if (rc == RH_EAGAIN)
            return false;
        if (rc == 0)
            rc = msg_parse(m, &msg_limits_default, &err);
        if (rc == 0 && shm_take(self->shm, self->session, &m, &err) < 0)
            complain(&self->complain, self->now, "passed on as it is: %s",
                     err.text);
        if (rc == 0)
            fn(self, m);
        else
            complain(&self->complain, self->now, "message dropped: %s",
                     err.text);
        msg_unref(&m);
        if (rc == RH_ECLOSED)
            return false;
    }
    return true;
}

static void
retry_stuck(struct taskd *self)
{
    struct msg *m = self->stuck;

    if (!m)
        return;
    self->stuck = NULL;
    submit(self, m);
    msg_unref(&m);
}

static int
time_left(const struct taskd *self)
{
    int64_t left = self->due == INT64_MAX ? INT64_MAX : self->due - self->now;

    if (left == INT64_MAX)
        return -1;
    return left <= 0 ? 0 : (int)(left < 3600000 ? left : 3600000);
}

enum slot { SLOT_ENGINE, SLOT_CLIENT, SLOT_INBOX };

static void *
run(void *ctx)
{
    struct taskd *self = ctx;
    bool more = false;

    while (!worker_stopping(&self->worker)) {
        const struct timespec pause = {.tv_nsec = STUCK_MS * 1000 * 1000};

        // Without memory for a task, more of them are not even looked at.
        if (self->stuck)
            nanosleep(&pause, NULL);
        poller_wait(&self->poller, more ? 0 : time_left(self));
        self->now = clock_mono_ms();
        self->wall_us = clock_wall_us();
        if (poller_ready(&self->poller, SLOT_INBOX))
            take_notes(self);
        retry_stuck(self);
        // Replies first: they make room for requests.
        more = poller_ready(&self->poller, SLOT_ENGINE)
               && drain(self, self->engine, on_reply);
        more |= poller_ready(&self->poller, SLOT_CLIENT)
                && drain(self, self->client, on_request);
        if (self->now >= self->due) {
            self->due = INT64_MAX; // the scheduler says when again
            sched_on_tick(self->sched, self->now);
        }
    }
    return NULL;
}

static int
fill_poller(struct taskd *self, rh_error *err)
{
    int rc = poller_init(&self->poller, err);

    if (rc == 0)
        rc = poller_add(&self->poller, self->engine, -1, err);
    if (rc == 0)
        rc = poller_add(&self->poller, self->client, -1, err);
    if (rc == 0)
        rc = poller_add(&self->poller, NULL, channel_fd(self->inbox), err);
    if (rc == 0)
        rc = poller_add(&self->poller, NULL, self->worker.wake_fd, err);
    return rc;
}

// ---------------------------------------------------------------------------
// Life

int
taskd_init(struct taskd *self, rh_error *err)
{
    int rc;

    memset(self, 0, sizeof(*self));
    atomic_init(&self->seen, 0);
    self->due = INT64_MAX;
    rc = worker_init(&self->worker, err);
    if (rc == 0 && (rc = channel_new(&self->inbox)) < 0)
        rh_fail(err, rc, "creating a channel: %s", rh_code_text(rc));
    return rc;
}

int
taskd_start(struct taskd *self, struct net_sock **client,
            struct net_sock **engine, struct session **session,
            const char *scheme, const char *username,
            const struct sched_config *config, struct backlog *backlog,
            struct worker *hub, struct channel *relay_inbox, rh_error *err)
{
    const struct sched_port port = {
        .ctx = self,
        .dispatch = dispatch,
        .relay = relay,
        .answer = answer,
        .tracked = tracked,
        .withdraw = withdraw,
        .wake_at = wake_at,
    };
    int rc;

    self->client = *client;
    self->engine = *engine;
    *client = *engine = NULL;
    self->session = *session;
    *session = NULL;
    self->scheme = scheme;
    self->hub = hub;
    self->relay = relay_inbox;
    self->now = clock_mono_ms();
    self->complain = (struct complain){.topic = "task"};
    feed_init(&self->feed, backlog, "task");
    rc = sender_init(&self->sender, self->session, NULL, username, err);
    if (rc == 0)
        rc = sched_new(&self->sched, config, &port, err);
    if (rc == 0)
        rc = fill_poller(self, err);
    if (rc == 0)
        rc = worker_start(&self->worker, "task", run, self, err);
    return rc;
}

void
taskd_fini(struct taskd *self)
{
    worker_fini(&self->worker);
    sched_free(&self->sched);
    msg_unref(&self->stuck);
    sender_fini(&self->sender);
    session_free(&self->session);
    poller_fini(&self->poller);
    net_close(&self->client);
    net_close(&self->engine);
    channel_free(&self->inbox, note_drop);
}
