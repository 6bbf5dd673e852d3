/* control.c - the thread that answers while user code runs
 *
 * It owns the control and heartbeat sockets and never needs the interpreter:
 * an engine that computes for an hour still answers aborts, signals and pings,
 * and its output flows.  The one request it cannot do itself, clear, is handed
 * to the main thread and answered when that is done.
 *
 * Ending: begin_stop() asks the main thread to leave and interrupts running
 * code, again and again, until the deadline; then the process is ended the
 * hard way.  Either way the hub is told.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/lifeline.h"
#include "engine/private.h"
#include "engine/reply.h"
#include "engine/signals.h"

#define NAG_MS 500
#define STALLED_MS 1      // between attempts to write replies
#define STUCK_MS 5        // between attempts while the controller is far behind
#define KILL_FLUSH_MS 100 // for ZeroMQ to send what it has before a hard end

/* What a handler makes of a control request. */
struct verdict {
    const char *reply;  // message type
    struct buf content; // empty: {"status": "ok"}
    bool no_metadata;
    bool deferred; // somebody else answers
    int raise;     // signal to raise once the reply is sent; 0: none
    bool stop;
};

typedef void control_fn(struct engine *self, struct msg *m, struct span content,
                        struct verdict *v);

void
errand_free(void *errand)
{
    struct errand *e = errand;

    msg_unref(&e->msg);
    mem_free(e);
}

static void
fail(struct engine *self, struct verdict *v, const char *ename,
     const char *evalue)
{
    const struct reply_facts facts = {
        .uuid = self->uuid,
        .id = self->id,
        .method = "control",
    };

    buf_clear(&v->content);
    reply_error(&v->content, &facts, ename, evalue);
}

/* Handlers */

/* What an abort is to do with the job if it runs already. */
struct stop {
    bool interrupt;
    int64_t kill_ms;   // until the process ends with it; INT64_MAX: never
    struct span found; // its id as it was given; empty: none of them runs
};

static int
add_abort(struct engine *self, struct span raw, struct stop *stop)
{
    struct buf scratch = {.p = NULL};
    struct span id;
    int rc = scan_string(raw, &scratch, &id);

    if (rc == 0) {
        pthread_mutex_lock(&self->abort_lock);
        rc = aborts_add(&self->aborts, id);
        if (stop->interrupt && id.n && span_eq(id, self->running)) {
            stop->found = raw;
            signals_interrupt_job(self->job);
            if (stop->kill_ms != INT64_MAX) {
                self->doomed = self->job;
                self->doom_at = clock_mono_ms() + stop->kill_ms;
            }
        }
        pthread_mutex_unlock(&self->abort_lock);
    }
    buf_fini(&scratch);
    return rc;
}

/* An extension: {"interrupt": true, "kill_ms": 5000}, the latter optional. */
static int
read_stop(struct span raw, struct stop *stop)
{
    struct scan_field f[] = {{.key = "interrupt"}, {.key = "kill_ms"}};
    int rc;

    *stop = (struct stop){.kill_ms = INT64_MAX};
    if (scan_is_null(raw))
        return 0;
    rc = scan_object(raw, f, 2, NULL);
    if (rc == 0 && !scan_is_null(f[0].value))
        rc = scan_bool(f[0].value, &stop->interrupt);
    if (rc == 0 && !scan_is_null(f[1].value)) {
        rc = scan_int(f[1].value, &stop->kill_ms);
        if (rc == 0 && (stop->kill_ms < 0 || stop->kill_ms > INT32_MAX))
            rc = RH_EPROTO;
    }
    return rc;
}

static void
add_stopped(struct buf *out, struct span found)
{
    buf_add_str(out, "{\"status\": \"ok\", \"roundhouse\": {\"interrupted\": ");
    buf_add_span(out, found.n ? found : SPAN_LIT("null"));
    buf_add_str(out, "}}");
}

static void
on_abort(struct engine *self, struct msg *m, struct span content,
         struct verdict *v)
{
    struct scan_field f[] = {{.key = "msg_ids"}, {.key = "roundhouse"}};
    struct span item, ids;
    struct stop stop;
    size_t pos = 0, n = 0;
    int rc;

    (void)m;
    rc = scan_object(content, f, 2, NULL);
    ids = f[0].value;
    if (rc == 0)
        rc = read_stop(f[1].value, &stop);
    if (rc == 0 && !scan_is_null(ids)) {
        if (ids.p[0] == '"') {
            rc = add_abort(self, ids, &stop);
            n = 1;
        } else {
            int more;

            while ((more = scan_next(ids, &pos, &item)) == 1 && rc == 0) {
                rc = add_abort(self, item, &stop);
                n++;
            }
            rc = rc < 0 ? rc : more;
        }
    }
    if (rc == RH_ENOMEM)
        fail(self, v, "MemoryError", "no memory to remember the ids");
    else if (rc < 0)
        fail(self, v, "TypeError",
             "msg_ids has to be a list of ids, one id, or null; roundhouse an "
             "object with interrupt (bool) and kill_ms (0 or more)");
    else if (n == 0)
        shell_abort_waiting(self, NULL);
    else if (stop.interrupt)
        add_stopped(&v->content, stop.found);
}

static void
on_clear(struct engine *self, struct msg *m, struct span content,
         struct verdict *v)
{
    struct errand *e = mem_zalloc(1, sizeof(*e));

    (void)content;
    if (e)
        e->msg = msg_ref(m);
    if (!e || channel_push(self->to_main, e) < 0) {
        if (e)
            errand_free(e);
        fail(self, v, "MemoryError", "no memory to clear the namespace");
        return;
    }
    v->deferred = true;
}

static void
on_signal(struct engine *self, struct msg *m, struct span content,
          struct verdict *v)
{
    struct scan_field field = {.key = "sig"};
    struct buf scratch = {.p = NULL};
    struct span text = SPAN_NONE;
    char shown[64], evalue[128];
    int sig = RH_EINVAL;

    (void)m;
    v->no_metadata = true;
    (void)scan_object(content, &field, 1, NULL);
    if (field.value.n && field.value.p[0] == '"') {
        if (scan_string(field.value, &scratch, &text) == 0)
            sig = signals_number(text);
    } else if (field.value.n) {
        sig = signals_number(text = field.value);
    }
    if (sig < 0) {
        snprintf(evalue, sizeof(evalue), "no such signal: '%s'",
                 log_escape(text, shown, sizeof(shown)));
        fail(self, v, "ValueError", evalue);
    } else {
        log_info("signal %d requested", sig);
        v->raise = sig;
    }
    buf_fini(&scratch);
}

static void
on_interrupt(struct engine *self, struct msg *m, struct span content,
             struct verdict *v)
{
    (void)self;
    (void)m;
    (void)content;
    v->raise = SIGINT;
}

static void
on_kernel_info(struct engine *self, struct msg *m, struct span content,
               struct verdict *v)
{
    (void)m;
    (void)content;
    buf_add_fmt(&v->content, "{%s, \"status\": \"ok\"}",
                self->interp->kernel_info);
}

static void
add_shutdown(const struct engine *self, struct buf *out)
{
    buf_add_fmt(out, "{\"status\": \"ok\", \"restart\": %s}",
                self->restart ? "true" : "false");
}

static void
on_shutdown(struct engine *self, struct msg *m, struct span content,
            struct verdict *v)
{
    struct scan_field field = {.key = "restart"};

    (void)scan_object(content, &field, 1, NULL);
    (void)scan_bool(field.value, &self->restart);
    add_shutdown(self, &v->content);
    v->stop = true;
    if (!self->shutdown)
        self->shutdown = msg_ref(m);
}

/* An extension: the scheduler takes back tasks that another engine could
 * start sooner.
 */
static void
on_withdraw(struct engine *self, struct msg *m, struct span content,
            struct verdict *v)
{
    struct scan_field ids = {.key = "msg_ids"};

    (void)m;
    if (buf_reserve(&v->content, 2 * content.n + 64) < 0) {
        fail(self, v, "MemoryError", "no memory to give tasks back");
        return;
    }
    buf_add_str(&v->content, "{\"status\": \"ok\", \"msg_ids\": [");
    if (scan_object(content, &ids, 1, NULL) == 0 && ids.value.n)
        shell_withdraw(self, ids.value, &v->content);
    buf_add_str(&v->content, "]}");
}

/* What may be asked, and the type of its reply. */
// clang-format off
static const struct route {
    const char *request, *reply;
    control_fn *fn;
} routes[] = {
    { "abort_request",       "abort_reply",       on_abort },
    { "clear_request",       "clear_reply",       on_clear },
    { "interrupt_request",   "interrupt_reply",   on_interrupt },
    { "kernel_info_request", "kernel_info_reply", on_kernel_info },
    { "shutdown_request",    "shutdown_reply",    on_shutdown },
    { "withdraw_request",    "withdraw_reply",    on_withdraw },
    // Upstream answers with this type, whatever it meant to say.
    { "signal_request",      "_request",          on_signal },
};
// clang-format on

/* Answering */

static int
try_reply(struct engine *self, const struct msg *request,
          const struct verdict *v)
{
    struct msg *m = NULL;
    rh_error err = {.code = 0};
    int rc = v->content.failed
                 ? rh_fail(&err, RH_ENOMEM, "no memory for the reply")
                 : 0;

    if (rc == 0)
        rc = compose(
            &self->control_sender,
            &(struct draft){
                .ident = request->frame,
                .n_ident = request->i_delim,
                .msg_type = v->reply,
                .parent = msg_part(request, MSG_HEADER),
                .metadata =
                    v->no_metadata ? SPAN_NONE : span_str(self->iopub.metadata),
                .content = v->content.n ? buf_span(&v->content)
                                        : SPAN_LIT("{\"status\": \"ok\"}"),
                .wall_us = clock_wall_us(),
            },
            &m, &err);
    if (rc == 0)
        rc = net_send(self->control, NULL, 0, m, 0, &err);
    msg_unref(&m);
    if (rc < 0)
        log_error("sending a %s: %s", v->reply, err.text);
    return rc;
}

/* Somebody waits for it: without memory, so do we. */
static void
send_reply(struct engine *self, const struct msg *request,
           const struct verdict *v)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

    while (try_reply(self, request, v) == RH_ENOMEM && !v->content.failed)
        nanosleep(&pause, NULL);
}

/* Leave this thread's time slice to ZeroMQ. */
static void
pause_ms(int ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static void begin_stop(struct engine *self, const char *reason);

/* The signals that leave no time for anything after them. */
static bool
is_deadly(int sig)
{
    return sig == SIGKILL || sig == SIGSTOP || sig == SIGABRT || sig == SIGSEGV
           || sig == SIGBUS || sig == SIGILL || sig == SIGFPE || sig == SIGQUIT;
}

static void
act(struct engine *self, const struct verdict *v)
{
    if (v->raise) {
        if (is_deadly(v->raise)) {
            iopub_flush(&self->iopub);
            pause_ms(KILL_FLUSH_MS); // or the reply never leaves
        }
        if (signals_raise(v->raise) < 0)
            log_warn("signal %d could not be raised", v->raise);
    }
    if (v->stop)
        begin_stop(self, "shutdown requested");
}

static const struct route *
find_route(struct span msg_type)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        if (span_is(msg_type, routes[i].request))
            return &routes[i];
    return NULL;
}

static void
dispatch(struct engine *self, struct msg *m, const struct header_view *header)
{
    const struct route *route = find_route(header->msg_type);
    struct verdict v = {.reply = NULL};
    char type[64];

    if (!route) {
        log_warn("no such control request: '%s'",
                 log_escape(header->msg_type, type, sizeof(type)));
        return;
    }
    v.reply = route->reply;
    (void)iopub_status_for(&self->iopub, "busy", m);
    route->fn(self, m, msg_part(m, MSG_CONTENT), &v);
    if (!v.deferred) {
        send_reply(self, m, &v);
        (void)iopub_status_for(&self->iopub, "idle", m);
    }
    act(self, &v);
    buf_fini(&v.content);
}

static void
handle(struct engine *self, struct msg *m)
{
    struct header_view header;
    rh_error err = {.code = 0};
    int rc = msg_parse(m, &msg_limits_default, &err);

    if (rc == 0)
        rc = session_admit(self->control_session, m, &err);
    if (rc == 0)
        rc = scan_header(msg_part(m, MSG_HEADER), &header, &err);
    if (rc == 0)
        dispatch(self, m, &header);
    else
        log_warn("dropped a control message of %u frames: %s", m->n, err.text);
}

static void
take_control(struct engine *self)
{
    struct msg *m = NULL;
    rh_error err = {.code = 0};
    int rc;

    while ((rc = net_recv(self->control, &m, &err)) != RH_EAGAIN) {
        if (rc == 0) {
            handle(self, m);
            msg_unref(&m);
            continue;
        }
        log_warn("dropped a control message: %s", err.text);
        if (!net_dropped(rc))
            return;
    }
}

/* What the main thread has done for us. */
static void
take_errands(struct engine *self)
{
    void **entry;
    size_t n = channel_take(self->to_control, &entry);

    for (size_t i = 0; i < n; i++) {
        struct errand *e = entry[i];
        struct verdict v = {.reply = "clear_reply"};

        if (e->rc < 0)
            fail(self, &v, rh_code_exception(e->rc), e->err.text);
        send_reply(self, e->msg, &v);
        (void)iopub_status_for(&self->iopub, "idle", e->msg);
        buf_fini(&v.content);
        errand_free(e);
    }
}

static void
take_pings(struct engine *self)
{
    struct msg *m = NULL;

    while (net_recv(self->ping, &m, NULL) == 0) {
        pulse_ping(&self->pulse);
        (void)net_send(self->pong, NULL, 0, m, 0, NULL);
        msg_unref(&m);
    }
}

/* Ending */

static void
wake_main(struct engine *self)
{
    const uint64_t one = 1;

    if (write(self->wake_fd, &one, sizeof(one)) < 0)
        log_debug("the main thread has been woken already");
}

static void
begin_stop(struct engine *self, const char *reason)
{
    int serving = PHASE_SERVING;
    int64_t now = clock_mono_ms();

    if (!atomic_compare_exchange_strong(&self->phase, &serving, PHASE_STOPPING))
        return;
    log_info("stopping: %s", reason);
    snprintf(self->reason, sizeof(self->reason), "%s", reason);
    self->deadline = now + self->config->grace_ms;
    self->nag_at = now + NAG_MS;
    wake_main(self);
    signals_interrupt_main();
}

/* The hub takes this as the end of the engine, so it comes after the last
 * reply.
 */
static void
publish_shutdown(struct engine *self)
{
    struct buf content = {.p = NULL};
    rh_error err = {.code = 0};

    if (!self->shutdown)
        return;
    add_shutdown(self, &content);
    if (content.failed
        || iopub_publish(&self->iopub,
                         &(struct engine_publication){
                             .kind = "shutdown",
                             .msg_type = "shutdown_reply",
                             .metadata = SPAN_LIT("{}"),
                             .content = buf_span(&content),
                         },
                         msg_part(self->shutdown, MSG_HEADER), &err)
               < 0)
        log_warn("the shutdown was not published: %s", err.text);
    buf_fini(&content);
}

/* Tell everybody, and let go of the lifeline. */
static void
say_goodbye(struct engine *self)
{
    struct buf content = {.p = NULL};
    struct msg *m = NULL;
    rh_error err = {.code = 0};
    int rc;

    publish_shutdown(self);
    buf_add_fmt(&content, "{\"id\": %" PRId64, self->id);
    if (*self->reason) {
        buf_add_str(&content, ", \"roundhouse\": {\"exit\": ");
        buf_add_json_str(&content, span_str(self->reason));
        buf_add_char(&content, '}');
    }
    buf_add_char(&content, '}');
    rc = compose(&self->control_sender,
                 &(struct draft){
                     .msg_type = "unregistration_request",
                     .content = buf_span(&content),
                     .wall_us = clock_wall_us(),
                 },
                 &m, &err);
    if (rc == 0 && content.failed)
        rc = rh_fail(&err, RH_ENOMEM, "no memory for the reason");
    buf_fini(&content);
    if (rc == 0)
        rc = net_send(self->registration, NULL, 0, m, 0, &err);
    msg_unref(&m);
    if (rc < 0)
        log_warn("the hub was not told of the end: %s", err.text);
    self->alone = lifeline_is_broken(self->lifeline);
    lifeline_close(&self->lifeline, self->reason);
}

/* User code does not listen: nothing is left but to end the process. */
static void
end_process(struct engine *self)
{
    log_warn("running code did not stop in time: ending the process");
    iopub_flush(&self->iopub);
    say_goodbye(self);
    pause_ms(KILL_FLUSH_MS);
    _exit(self->exit_code);
}

/* A cancelled job had its time: it has ended, or the engine does. */
static void
end_doomed(struct engine *self)
{
    self->doom_at = INT64_MAX;
    // Held to the end, or the job could end and another begin.
    pthread_mutex_lock(&self->abort_lock);
    if (self->running.n && self->job == self->doomed) {
        snprintf(self->reason, sizeof(self->reason),
                 "a cancelled call did not stop");
        end_process(self);
    }
    pthread_mutex_unlock(&self->abort_lock);
}

static void
check_times(struct engine *self, int64_t now)
{
    if (now >= self->pulse.due && pulse_check(&self->pulse, now)) {
        log_error("no heartbeat of the controller in %d checks of %" PRId64
                  " ms: giving up",
                  self->pulse.misses, self->pulse.interval);
        begin_stop(self, "heartbeat lost");
    }
    if (now >= self->deadline)
        end_process(self);
    if (now >= self->doom_at)
        end_doomed(self);
    if (self->deadline != INT64_MAX && now >= self->nag_at) {
        signals_interrupt_main();
        self->nag_at = now + NAG_MS;
    }
    // Heartbeats bring us here often enough.
    (void)shm_trim(self->shm, now * 1000);
}

static int
until(int64_t now, const int64_t *at, size_t n)
{
    int64_t first = INT64_MAX;

    for (size_t i = 0; i < n; i++)
        first = at[i] < first ? at[i] : first;
    if (first == INT64_MAX)
        return -1;
    if (first <= now)
        return 0;
    return first - now > INT32_MAX ? INT32_MAX : (int)(first - now);
}

static void
clear_event(int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0)
        log_debug("an event was cleared already");
}

static void *
control_main(void *arg)
{
    struct engine *self = arg;
    enum { CONTROL, PING, PONG, ERRANDS, OUTPUT, TERM, PIPE1, PIPE2, N };
    struct net_pollitem item[N] = {
        [CONTROL] = {.sock = self->control, .events = NET_IN},
        [PING] = {.sock = self->ping, .events = NET_IN},
        [PONG] = {.sock = self->pong}, // only ever sends
        [ERRANDS] = {.fd = channel_fd(self->to_control), .events = NET_IN},
        [OUTPUT] = {.fd = self->iopub.wake_fd, .events = NET_IN},
        [TERM] = {.fd = self->term_fd, .events = NET_IN},
        [PIPE1] = {.fd = self->capture.pipe[0].read_fd, .events = NET_IN},
        [PIPE2] = {.fd = self->capture.pipe[1].read_fd, .events = NET_IN},
    };
    int64_t flush_at = INT64_MAX;

    while (atomic_load(&self->phase) != PHASE_DONE) {
        int64_t now = clock_mono_ms();
        int64_t at[] = {flush_at, self->pulse.due, self->deadline,
                        self->deadline == INT64_MAX ? INT64_MAX : self->nag_at,
                        self->doom_at};

        bool stuck = capture_is_stuck(&self->capture);

        at[0] = atomic_load(&self->stalled) ? now + STALLED_MS
                : stuck                     ? now + STUCK_MS
                                            : at[0];
        (void)net_poll(item, stuck ? PIPE1 : N,
                       until(now, at, sizeof(at) / sizeof(at[0])));
        if (atomic_load(&self->stalled))
            shell_drive_output(self);
        if (item[PING].revents)
            take_pings(self);
        if (item[CONTROL].revents)
            take_control(self);
        if (item[ERRANDS].revents)
            take_errands(self);
        if (item[TERM].revents) {
            clear_event(self->term_fd);
            begin_stop(self, "SIGTERM");
        }
        capture_last_words(&self->capture, &self->iopub);
        capture_pump(&self->capture, &self->iopub, false);
        now = clock_mono_ms();
        if (item[OUTPUT].revents)
            clear_event(self->iopub.wake_fd);
        if (item[OUTPUT].revents || now >= flush_at)
            flush_at = iopub_tick(&self->iopub, now);
        check_times(self, now);
    }
    take_errands(self);
    say_goodbye(self);
    return NULL;
}

int
control_start(struct engine *self, rh_error *err)
{
    sigset_t all, old;
    int rc;

    pulse_init(&self->pulse, self->hb_period_ms, self->config->max_misses,
               clock_mono_ms());
    self->deadline = self->nag_at = self->doom_at = INT64_MAX;
    // Signals are the main thread's: user code has to notice them.
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&self->control_thread, NULL, control_main, self);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return rh_fail(err, RH_ENOMEM, "starting the control thread: error %d",
                       rc);
    return 0;
}

void
control_poke(struct engine *self)
{
    const uint64_t one = 1;

    // Any descriptor it polls will do.
    if (write(self->iopub.wake_fd, &one, sizeof(one)) < 0)
        log_debug("the control thread has been woken already");
}

void
control_join(struct engine *self)
{
    atomic_store(&self->phase, PHASE_DONE);
    control_poke(self);
    pthread_join(self->control_thread, NULL);
}
