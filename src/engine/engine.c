/* engine.c - building an engine up and taking it down
 *
 * engine_run() is a straight line; each step that fails leads to the same
 * teardown, which copes with whatever exists.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "engine/lifeline.h"
#include "engine/private.h"
#include "engine/signals.h"

#define EXIT_NOT_REGISTERED 255
#define EXIT_INTERRUPTED 130

static int
open_sessions(struct engine *self, rh_error *err)
{
    const struct connfile *c = &self->config->conn;
    const char *user = self->config->username;
    struct span key = span_str(c->key);
    int rc;

    if (!user[0])
        user = "engine";
    rc = session_new(&self->signer, key, c->signature_scheme, err);
    if (rc == 0)
        rc = session_new(&self->verifier, key, c->signature_scheme, err);
    if (rc == 0)
        rc = session_new(&self->control_session, key, c->signature_scheme, err);
    if (rc == 0)
        rc = sender_init(&self->sender, self->signer, self->uuid, user, err);
    if (rc == 0)
        rc = sender_init(&self->control_sender, self->control_session,
                         self->uuid, user, err);
    if (rc == 0)
        rc = iopub_init(&self->iopub, key, c->signature_scheme, self->uuid,
                        user, err);
    self->iopub.limit = self->config->output_limit;
    self->sender.counter = SENDER_SHELL;
    self->control_sender.counter = SENDER_CONTROL;
    self->iopub.sender.counter = SENDER_IOPUB;
    return rc;
}

static int
open_curve(struct engine *self, rh_error *err)
{
    const struct engine_config *c = self->config;

    if (!c->conn.curve_serverkey[0])
        return 0;
    self->use_curve = true;
    snprintf(self->curve.server_key, sizeof(self->curve.server_key), "%.40s",
             c->conn.curve_serverkey);
    if (!c->curve_secret[0])
        return net_curve_keypair(self->curve.public_key, self->curve.secret_key,
                                 err);
    memcpy(self->curve.secret_key, c->curve_secret,
           sizeof(self->curve.secret_key));
    memcpy(self->curve.public_key, c->curve_public,
           sizeof(self->curve.public_key));
    if (self->curve.public_key[0])
        return 0;
    return net_curve_public(self->curve.public_key, self->curve.secret_key,
                            err);
}

static int
open_events(struct engine *self, rh_error *err)
{
    int rc = channel_new(&self->to_main);

    if (rc == 0)
        rc = channel_new(&self->to_control);
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->term_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rc < 0 || self->wake_fd < 0 || self->term_fd < 0)
        return rh_fail(err, RH_EIO, "no event descriptors: %s",
                       strerror(errno));
    return 0;
}

static int
open_engine(struct engine *self, rh_error *err)
{
    int rc = 0;

    if (self->config->uuid[0])
        snprintf(self->uuid, sizeof(self->uuid), "%s", self->config->uuid);
    else
        rc = uuid_new(self->uuid);
    if (rc < 0)
        return rh_fail(err, rc, "no random bytes for a name");
    rc = open_events(self, err);
    if (rc == 0)
        rc = open_sessions(self, err);
    if (rc == 0)
        rc = open_curve(self, err);
    if (rc == 0)
        rc = net_ctx_new(&self->net, err);
    if (rc == 0)
        rc = registration_connect(self, err);
    return rc;
}

/* Nothing waits for a controller that is gone. */
static void
stop_lingering(struct engine *self)
{
    struct net_sock *const sock[] = {
        self->registration, self->control,    self->ping,
        self->pong,         self->iopub.sock,
    };

    for (size_t i = 0; i < N_SHELL; i++)
        if (self->shell[i])
            net_set_linger(self->shell[i], 0);
    for (size_t i = 0; i < sizeof(sock) / sizeof(sock[0]); i++)
        if (sock[i])
            net_set_linger(sock[i], 0);
}

static void
close_engine(struct engine *self)
{
    if (self->alone)
        stop_lingering(self);
    while (!list_empty(&self->backlog)) {
        struct queued *q = LIST_ENTRY(self->backlog.next, struct queued, node);

        list_remove(&q->node);
        msg_unref(&q->job.msg);
        mem_free(q);
    }
    lifeline_close(&self->lifeline, NULL);
    begun_free(&self->begun);
    msg_unref(&self->shutdown);
    for (size_t i = 0; i < N_SHELL; i++)
        net_close(&self->shell[i]);
    net_close(&self->registration);
    net_close(&self->control);
    net_close(&self->ping);
    net_close(&self->pong);
    capture_fini(&self->capture);
    iopub_fini(&self->iopub);
    net_ctx_free(&self->net); // waits for what is on its way
    shm_leave(&self->shm);
    channel_free(&self->to_main, errand_free);
    channel_free(&self->to_control, errand_free);
    sender_fini(&self->sender);
    sender_fini(&self->control_sender);
    session_free(&self->signer);
    session_free(&self->verifier);
    session_free(&self->control_session);
    buf_fini(&self->metadata);
    buf_fini(&self->content);
    buf_fini(&self->tickets);
    aborts_fini(&self->aborts);
    if (self->wake_fd >= 0)
        close(self->wake_fd);
    if (self->term_fd >= 0)
        close(self->term_fd);
    pthread_mutex_destroy(&self->shell_lock);
    pthread_mutex_destroy(&self->abort_lock);
    mem_free(self);
}

static int
serve(struct engine *self)
{
    char name[64];
    rh_error err = {.code = 0};
    int rc;

    iopub_set_id(&self->iopub, self->id);
    snprintf(name, sizeof(name), "IPEngine.%" PRId64, self->id);
    log_setup(name, log_level());
    log_info("Completed registration with id %" PRId64, self->id);
    rc = signals_install(self->interp, self->term_fd, &err);
    if (rc == 0)
        rc = control_start(self, &err);
    if (rc < 0) {
        log_error("%s", err.text);
        return EXIT_NOT_REGISTERED;
    }
    iopub_status(&self->iopub, "starting");
    rc = self->interp->start(self->interp->ctx, self, &err);
    if (rc == 0 && self->config->capture)
        rc = capture_begin(&self->capture, self->iopub.wake_fd, &err);
    if (rc == 0) {
        shell_serve(self);
    } else {
        log_error("starting: %s", err.text);
        self->exit_code = 1;
    }
    self->interp->stop(self->interp->ctx);
    control_join(self);
    return self->exit_code;
}

int
engine_run(const struct engine_config *config, const struct interp *interp)
{
    struct engine *self = mem_zalloc(1, sizeof(*self));
    rh_error err = {.code = 0};
    int rc;

    if (!self) {
        log_error("no memory for an engine");
        return EXIT_NOT_REGISTERED;
    }
    self->config = config;
    self->interp = interp;
    self->wake_fd = self->term_fd = self->lifeline = -1;
    self->iopub.wake_fd = -1;
    list_init(&self->backlog);
    aborts_init(&self->aborts);
    pthread_mutex_init(&self->shell_lock, NULL);
    pthread_mutex_init(&self->abort_lock, NULL);
    self->begun = begun_new();
    rc = capture_init(&self->capture, &err);
    if (rc == 0)
        rc = open_engine(self, &err);
    if (rc == 0)
        rc = registration_run(self, &err);
    if (rc == 0) {
        rc = serve(self);
    } else {
        log_error("Registration failed: %s", err.text);
        rc = rc == RH_EINTR ? EXIT_INTERRUPTED : EXIT_NOT_REGISTERED;
    }
    close_engine(self);
    signals_restore();
    return rc;
}

const char *
engine_uuid(const struct engine *self)
{
    return self->uuid;
}

int64_t
engine_id(const struct engine *self)
{
    return self->id;
}

int
engine_write(struct engine *self, enum engine_stream stream, struct span text,
             bool try_only, size_t *done)
{
    return iopub_write(&self->iopub, stream, text, try_only, done);
}

void
engine_pause(void)
{
    const struct timespec some = {0, 2000000};

    nanosleep(&some, NULL);
}

void
engine_flush(struct engine *self)
{
    iopub_flush(&self->iopub);
}

int
engine_publish(struct engine *self, const struct engine_publication *pub,
               rh_error *err)
{
    return iopub_publish_now(&self->iopub, pub, err);
}

void
engine_wake(struct engine *self)
{
    const uint64_t one = 1;

    if (write(self->wake_fd, &one, sizeof(one)) < 0)
        log_debug("the main thread has been woken already");
}
