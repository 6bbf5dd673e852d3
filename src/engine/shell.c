/* shell.c - taking requests, running them, answering them
 *
 * The main thread's loop.  Every request whose header can be read ends in
 * answer() exactly once, except comm messages, which have no reply.  What
 * cannot be verified or read is dropped with a log line: there is nobody to
 * answer to.
 *
 * Requests normally go straight from a socket to user code.  The backlog holds
 * those that had to be looked at before their turn: to know what "everything
 * that waits" is at the moment of an abort.
 */
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/private.h"
#include "engine/reply.h"
#include "engine/signals.h"

#define CLEARING ULONG_MAX // job number of a clear, which is no job

static const char no_buffers[] =
    "the engine could not map the arguments from shared memory: see its log; "
    "ipcontroller --IPController.shared_memory=False does without";

static void
drop_message(struct msg *m, const rh_error *err)
{
    log_warn("dropped a message of %u frames: %s", m->n, err->text);
}

/* Verify and parse.  Takes the message: into '*out' or away. */
static int
admit(struct engine *self, struct msg *m, struct queued *out)
{
    rh_error err = {.code = 0};
    int rc = msg_parse(m, &msg_limits_default, &err);

    if (rc == 0)
        rc = session_admit(self->verifier, m, &err);
    if (rc == 0 && shm_take(self->shm, NULL, &m, &err) < 0) {
        out->incomplete = true; // it has to be answered all the same
        log_warn("a request is incomplete: %s", err.text);
    }
    if (rc == 0)
        rc = scan_header(msg_part(m, MSG_HEADER), &out->job.header, &err);
    if (rc < 0) {
        drop_message(m, &err);
        msg_unref(&m);
        return rc;
    }
    out->job.msg = m;
    return 0;
}

/* The next valid request of one socket, or RH_EAGAIN. */
static int
receive_from(struct engine *self, struct net_sock *sock, struct queued *out)
{
    for (;;) {
        struct msg *m = NULL;
        rh_error err = {.code = 0};
        int rc = sock ? net_recv(sock, &m, &err) : RH_EAGAIN;

        if (rc == RH_EAGAIN)
            return rc;
        if (net_dropped(rc)) {
            log_warn("dropped a request: %s", err.text);
            continue;
        }
        if (rc < 0) {
            log_error("receiving requests: %s", err.text);
            return RH_EAGAIN;
        }
        if (admit(self, m, out) == 0) {
            out->sock = self->last = sock;
            return 0;
        }
    }
}

/* The next one of any socket, in turns.  RH_EAGAIN: there is none, as far as
 * can be known without asking the system if not 'look'.
 */
static int
receive(struct engine *self, struct queued *out, bool look)
{
    for (size_t i = 0; i < N_SHELL; i++) {
        struct net_sock *sock = self->shell[self->next_shell];

        self->next_shell = (self->next_shell + 1) % N_SHELL;
        if (sock && (look || net_queued(sock))
            && receive_from(self, sock, out) == 0)
            return 0;
    }
    return RH_EAGAIN;
}

/* Everything that has arrived goes to the backlog.  Lock held. */
static void
drain(struct engine *self)
{
    for (;;) {
        struct queued *q = mem_zalloc(1, sizeof(*q));

        // Without memory it stays in the socket, and is not aborted.
        if (!q || receive(self, q, true) < 0) {
            mem_free(q);
            return;
        }
        list_append(&self->backlog, &q->node);
    }
}

/* Lock what waits, which takes no longer than a reply needs to be sent.  False:
 * the main thread has the lock because it sleeps, so nothing waits.
 */
static bool
lock_backlog(struct engine *self)
{
    while (pthread_mutex_trylock(&self->shell_lock) != 0) {
        if (atomic_load(&self->idle))
            return false;
        sched_yield();
    }
    return true;
}

void
shell_abort_waiting(struct engine *self, const char *msg_type)
{
    if (!lock_backlog(self))
        return;
    drain(self);
    for (struct list *n = self->backlog.next; n != &self->backlog;
         n = n->next) {
        struct queued *q = LIST_ENTRY(n, struct queued, node);

        if (!msg_type || span_is(q->job.header.msg_type, msg_type))
            q->abort = true;
    }
    pthread_mutex_unlock(&self->shell_lock);
}

static bool
names(struct span raw_ids, struct span msg_id)
{
    struct span item;
    size_t pos = 0;

    // Ids hold no escapes (scan_header), so the raw text can be compared.
    while (scan_next(raw_ids, &pos, &item) == 1)
        if (item.n == msg_id.n + 2 && item.p[0] == '"'
            && memcmp(item.p + 1, msg_id.p, msg_id.n) == 0)
            return true;
    return false;
}

void
shell_withdraw(struct engine *self, struct span raw_ids, struct buf *out)
{
    struct list *n;

    // What is given back must be said: make sure of the memory first.
    if (buf_reserve(out, 2 * raw_ids.n) < 0 || !lock_backlog(self))
        return;
    drain(self);
    n = self->backlog.next;
    while (n != &self->backlog) {
        struct queued *q = LIST_ENTRY(n, struct queued, node);
        struct span id = q->job.header.msg_id;

        n = n->next;
        if (q->sock != self->shell[SHELL_TASK] || !names(raw_ids, id))
            continue;
        if (out->p[out->n - 1] != '[')
            buf_add_str(out, ", ");
        buf_add_json_str(out, id);
        list_remove(&q->node);
        // It may come again.
        session_forget(self->verifier, q->job.msg);
        msg_unref(&q->job.msg);
        mem_free(q);
    }
    pthread_mutex_unlock(&self->shell_lock);
}

/* Fill '*out' with the next request, in order of arrival. */
static int
next(struct engine *self, struct queued *out)
{
    struct queued *q;

    *out = (struct queued){.abort = false};
    if (list_empty(&self->backlog)) {
        // Where the last one came from there is often another.
        int rc = receive(self, out, false);

        return rc == RH_EAGAIN ? receive_from(self, self->last, out) : rc;
    }
    q = LIST_ENTRY(self->backlog.next, struct queued, node);
    list_remove(&q->node);
    *out = *q;
    mem_free(q);
    return 0;
}

/* Replies */

/* Write what waits; what the system does not take now is the control thread's
 * to write while user code runs.  Lock held.
 */
static void
drive_output(struct engine *self)
{
    bool left = false;

    for (size_t i = 0; i < N_SHELL; i++)
        if (self->shell[i] && !net_flush(self->shell[i]))
            left = true;
    if (!atomic_exchange(&self->stalled, left) && left)
        control_poke(self);
}

void
shell_drive_output(struct engine *self)
{
    // Taken: the main thread sends or looks for work, and does it itself.
    if (pthread_mutex_trylock(&self->shell_lock) != 0)
        return;
    drive_output(self);
    pthread_mutex_unlock(&self->shell_lock);
}

static int
send_reply(struct engine *self, const struct queued *q, struct span metadata,
           struct span content, struct outcome *result)
{
    char type[128];
    struct msg *m = NULL;
    struct msg *request = q->job.msg;
    rh_error err = {.code = 0};
    int rc = reply_type(type, sizeof(type), q->job.header.msg_type);

    if (rc < 0)
        return rc;
    buf_clear(&self->tickets);
    if (result)
        shm_put(self->shm, result->buffer, result->owner, result->n_buffers,
                &self->tickets);
    rc = compose(&self->sender,
                 &(struct draft){
                     .ident = request->frame,
                     .n_ident = request->i_delim,
                     .msg_type = type,
                     .parent = msg_part(request, MSG_HEADER),
                     .metadata = metadata,
                     .content = content,
                     .buffer = result ? result->buffer : NULL,
                     .owner = result ? result->owner : NULL,
                     .n_buffers = result ? result->n_buffers : 0,
                     .wall_us = clock_wall_us(),
                 },
                 &m, &err);
    pthread_mutex_lock(&self->shell_lock);
    if (rc == 0)
        rc = net_send(q->sock, NULL, 0, m, 0, &err);
    drive_output(self);
    pthread_mutex_unlock(&self->shell_lock);
    msg_unref(&m);
    if (rc < 0) {
        shm_put_back(self->shm, &self->tickets);
        log_error("sending a reply: %s", err.text);
    }
    return rc;
}

/* A task that failed may be tried again here: the same request, signed once. */
static void
expect_again(struct engine *self, const struct queued *q)
{
    if (q->sock != self->shell[SHELL_TASK])
        return;
    pthread_mutex_lock(&self->shell_lock);
    session_forget(self->verifier, q->job.msg);
    pthread_mutex_unlock(&self->shell_lock);
}

/* The one place that answers a request. */
static void
answer(struct engine *self, const struct queued *q,
       const struct reply_facts *facts, struct outcome *result)
{
    static const struct outcome failed = {.status = OUTCOME_ERROR};
    struct span request_metadata = msg_part(q->job.msg, MSG_METADATA);
    bool is_ok = true;

    if (result->status == OUTCOME_ERROR)
        expect_again(self, q);
    buf_clear(&self->metadata);
    buf_clear(&self->content);
    reply_metadata(&self->metadata, facts, request_metadata, result);
    reply_content(&self->content, facts, result);
    is_ok = !self->metadata.failed && !self->content.failed
            && !result->content.failed;
    if (is_ok
        && send_reply(self, q, buf_span(&self->metadata),
                      buf_span(&self->content), result)
               == 0)
        return;
    // Too large or no memory: say so instead.
    buf_clear(&self->metadata);
    buf_clear(&self->content);
    reply_metadata(&self->metadata, facts, request_metadata, &failed);
    reply_error(&self->content, facts, "MemoryError",
                "the engine has no memory for the reply");
    if (self->metadata.failed || self->content.failed
        || send_reply(self, q, buf_span(&self->metadata),
                      buf_span(&self->content), NULL)
               < 0)
        log_error("no memory to answer a request, not even with an error");
}

/* Running */

/* A request's turn has come.  False: it was aborted.  In one step, so that
 * whoever wants to stop it finds it either waiting or running.
 */
static bool
begin_job(struct engine *self, const struct queued *q)
{
    struct span id = q->job.header.msg_id;
    bool aborted;

    pthread_mutex_lock(&self->abort_lock);
    aborted =
        (self->aborts.oldest && aborts_take(&self->aborts, id)) || q->abort;
    if (!aborted) {
        self->running = id;
        self->job++;
    }
    pthread_mutex_unlock(&self->abort_lock);
    return !aborted;
}

static void
end_job(struct engine *self)
{
    pthread_mutex_lock(&self->abort_lock);
    self->running = SPAN_NONE;
    pthread_mutex_unlock(&self->abort_lock);
}

/* An apply that failed is also published, once, as upstream has it. */
static void
publish_error(struct engine *self, const struct outcome *result)
{
    struct buf content = {.p = NULL};
    rh_error err = {.code = 0};

    buf_add_char(&content, '{');
    buf_add_span(&content, buf_span(&result->content));
    buf_add_char(&content, '}');
    if (content.failed
        || iopub_publish_now(&self->iopub,
                             &(struct engine_publication){
                                 .kind = "error",
                                 .msg_type = "error",
                                 .content = buf_span(&content),
                             },
                             &err)
               < 0)
        log_warn("an error was not published: %s", err.text);
    buf_fini(&content);
}

static void
run_apply(struct engine *self, const struct queued *q, struct outcome *result)
{
    rh_error err = {.code = 0};
    int rc;

    signals_running(self->job);
    rc = self->interp->apply(self->interp->ctx, &q->job, result, &err);
    signals_running(0);
    if (rc < 0)
        outcome_fail(result, rh_code_exception(rc), err.text);
    if (result->status == OUTCOME_ERROR)
        publish_error(self, result);
}

static void
run_other(struct engine *self, const struct queued *q, struct outcome *result)
{
    rh_error err = {.code = 0};
    char type[64];
    int rc;

    if (span_is(q->job.header.msg_type, "kernel_info_request")) {
        buf_add_str(&result->content, self->interp->kernel_info);
        return;
    }
    signals_running(self->job);
    rc = self->interp->request(self->interp->ctx, &q->job, result, &err);
    signals_running(0);
    if (rc == RH_ENOENT) {
        result->silent = true;
        log_warn("no such request: '%s'",
                 log_escape(q->job.header.msg_type, type, sizeof(type)));
    } else if (rc < 0) {
        outcome_fail(result, rh_code_exception(rc), err.text);
    }
}

/* Comm messages have no reply; all others are called requests. */
static bool
is_request(struct span type)
{
    static const struct span tail = {(const uint8_t *)"_request", 8};

    return type.n > tail.n
           && span_eq(span_of(type.p + type.n - tail.n, tail.n), tail);
}

static const char *
method_of(struct span msg_type)
{
    if (span_is(msg_type, "apply_request"))
        return "apply";
    return span_is(msg_type, "execute_request") ? "execute" : NULL;
}

/* One request from start to end. */
static void
run(struct engine *self, struct queued *q)
{
    struct outcome result = {.status = OUTCOME_OK};
    bool terse; // busy and idle only if there is output
    struct reply_facts facts = {
        .uuid = self->uuid,
        .id = self->id,
        .started_us = clock_wall_us(),
        .method = method_of(q->job.header.msg_type),
    };

    if (q->sock == self->shell[SHELL_TASK])
        begun_note(self->begun, q->job.header.msg_id);
    terse = facts.method && facts.method[0] == 'a'
            && reply_may_be_quiet(msg_part(q->job.msg, MSG_METADATA));
    iopub_begin(&self->iopub, q->job.msg);
    if (!terse)
        iopub_status(&self->iopub, "busy");
    if (!begin_job(self, q)) {
        // No idle: clients take the reply itself as the end of the output.
        result.status = OUTCOME_ABORTED;
        if (is_request(q->job.header.msg_type))
            answer(self, q, &facts, &result);
        msg_unref(&q->job.msg);
        return;
    }
    if (q->incomplete)
        outcome_fail(&result, "RuntimeError", no_buffers);
    else if (facts.method && facts.method[0] == 'a')
        run_apply(self, q, &result);
    else
        run_other(self, q, &result);
    end_job(self);
    capture_pump(&self->capture, &self->iopub, true);
    iopub_flush(&self->iopub);
    facts.quiet = terse && !iopub_spoken(&self->iopub);
    // Before the client can know of the failure and send more.
    if (result.abort_executes)
        shell_abort_waiting(self, "execute_request");
    if (!result.silent)
        answer(self, q, &facts, &result);
    if (!facts.quiet)
        iopub_status(&self->iopub, "idle");
    outcome_fini(&result);
    msg_unref(&q->job.msg);
}

/* Clear requests: the control thread took them, and will answer. */
static void
run_errands(struct engine *self)
{
    void **entry;
    size_t n = channel_take(self->to_main, &entry);

    for (size_t i = 0; i < n; i++) {
        struct errand *e = entry[i];

        signals_running(CLEARING);
        e->rc = self->interp->clear(self->interp->ctx, &e->err);
        signals_running(0);
        if (channel_push(self->to_control, e) < 0) {
            log_error("no memory to answer a clear request");
            errand_free(e);
        }
    }
}

/* Sleep until there may be something to do. */
static void
wait(struct engine *self)
{
    struct net_pollitem item[N_SHELL + 2];
    size_t n = 0;
    uint64_t count;

    for (size_t i = 0; i < N_SHELL; i++)
        if (self->shell[i])
            item[n++] =
                (struct net_pollitem){.sock = self->shell[i], .events = NET_IN};
    item[n++] = (struct net_pollitem){.fd = channel_fd(self->to_main),
                                      .events = NET_IN};
    item[n++] = (struct net_pollitem){.fd = self->wake_fd, .events = NET_IN};
    atomic_store(&self->stalled, false); // polling writes, too
    (void)net_poll(item, n, -1);
    drive_output(self);
    if (item[n - 1].revents && read(self->wake_fd, &count, sizeof(count)) < 0)
        log_debug("woken for nothing");
}

/* Nobody's request stays without an answer. */
static void
refuse_waiting(struct engine *self)
{
    struct queued q;
    int rc;

    do {
        pthread_mutex_lock(&self->shell_lock);
        drain(self);
        rc = next(self, &q);
        pthread_mutex_unlock(&self->shell_lock);
        q.abort = true;
        if (rc == 0)
            run(self, &q);
    } while (rc == 0);
}

void
shell_serve(struct engine *self)
{
    struct queued q;
    int rc;

    while (atomic_load(&self->phase) == PHASE_SERVING) {
        if (channel_size(self->to_main))
            run_errands(self);
        pthread_mutex_lock(&self->shell_lock);
        rc = next(self, &q);
        atomic_store(&self->idle, rc < 0);
        if (rc < 0 && self->interp->service(self->interp->ctx) == 0
            && atomic_load(&self->phase) == PHASE_SERVING)
            wait(self);
        atomic_store(&self->idle, false);
        pthread_mutex_unlock(&self->shell_lock);
        if (rc == 0)
            run(self, &q);
    }
    refuse_waiting(self);
}
