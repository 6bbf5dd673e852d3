/* iopub.c - publishing, and output on its way
 *
 * Text is bundled: it goes out when it is IOPUB_FLUSH_MS old, when the buffer
 * is full, before anything else is published, and before a reply.  Memory is
 * bounded twice: by the buffer, and by the bytes handed to ZeroMQ that it has
 * not sent yet (IN_FLIGHT_MAX): then writers are told to wait.  What one
 * request prints is bounded as well, because every client keeps it: after
 * 'limit' bytes there is a mark, and then nothing.
 *
 * The lock is held for the length of a memcpy or of one send, never while
 * waiting, and whoever holds it needs no other lock.
 */
#include "engine/iopub.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define IN_FLIGHT_MAX ((size_t)16 << 20)
#define KIND_MAX 64    // characters of a topic's last part
#define TICK_ON_MS 500 // keep ticking this long after the last output

/* A message that counts its bytes until ZeroMQ lets go of it.  Only frames
 * that are sent without a copy come back late enough to count.
 */
struct counted {
    struct msg base;
    struct msg *inner;
    struct tally *tally;
    size_t n;
};

static void
tally_unref(struct tally *tally)
{
    if (tally && atomic_fetch_sub(&tally->refs, 1) == 1)
        mem_free(tally);
}

static void
counted_destroy(struct msg *base)
{
    struct counted *self = (struct counted *)(void *)base;

    atomic_fetch_sub(&self->tally->in_flight, self->n);
    tally_unref(self->tally);
    msg_unref(&self->inner);
    mem_free(self);
}

/* Replace '*m' by a counted message; without memory it stays as it is. */
static void
count(struct iopub *self, struct msg **m, size_t n)
{
    struct counted *c = mem_alloc(sizeof(*c));

    if (!c)
        return;
    *c = (struct counted){
        .base = {.n = (*m)->n,
                 .i_delim = (*m)->i_delim,
                 .frame = (*m)->frame,
                 .destroy = counted_destroy},
        .inner = *m,
        .tally = self->tally,
        .n = n,
    };
    atomic_init(&c->base.refs, 1);
    atomic_fetch_add(&self->tally->refs, 1);
    atomic_fetch_add(&self->tally->in_flight, n);
    *m = &c->base;
}

static bool
is_behind(const struct iopub *self)
{
    return atomic_load(&self->tally->in_flight) > IN_FLIGHT_MAX;
}

int
iopub_init(struct iopub *self, struct span key, const char *scheme,
           const char *uuid, const char *username, rh_error *err)
{
    int rc;

    *self = (struct iopub){.wake_fd = -1};
    pthread_mutex_init(&self->lock, NULL);
    self->tally = mem_zalloc(1, sizeof(*self->tally));
    if (!self->tally)
        return rh_fail(err, RH_ENOMEM, "preparing iopub");
    atomic_init(&self->tally->in_flight, 0);
    atomic_init(&self->tally->refs, 1);
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->wake_fd < 0)
        return rh_fail(err, RH_EIO, "no event descriptor for iopub");
    if (output_init(&self->out) < 0)
        return rh_fail(err, RH_ENOMEM, "preparing iopub");
    snprintf(self->metadata, sizeof(self->metadata), "{\"engine\": \"%s\"}",
             uuid);
    iopub_set_id(self, -1);
    rc = session_new(&self->session, key, scheme, err);
    if (rc == 0)
        rc = sender_init(&self->sender, self->session, uuid, username, err);
    return rc;
}

void
iopub_fini(struct iopub *self)
{
    net_close(&self->sock);
    msg_unref(&self->request);
    output_fini(&self->out);
    buf_fini(&self->content);
    sender_fini(&self->sender);
    session_free(&self->session);
    if (self->wake_fd >= 0)
        close(self->wake_fd);
    tally_unref(self->tally);
    pthread_mutex_destroy(&self->lock);
    *self = (struct iopub){.wake_fd = -1};
}

void
iopub_set_id(struct iopub *self, int64_t id)
{
    int n = snprintf(self->topic, 32, "engine.%" PRId64 ".", id);

    self->n_topic = n > 0 ? (size_t)n : 0;
}

static struct span
parent_of(const struct msg *request)
{
    return request ? msg_part(request, MSG_HEADER) : SPAN_NONE;
}

/* Called with the lock held. */
static int
send_locked(struct iopub *self, const struct engine_publication *pub,
            struct span parent, size_t counts, rh_error *err)
{
    struct span ident = span_str(pub->topic);
    struct msg *m = NULL;
    int rc;

    if (!self->sock)
        return rh_fail(err, RH_ECLOSED, "iopub is closed");
    if (!pub->topic) {
        size_t n = strnlen(pub->kind, KIND_MAX);

        memcpy(self->topic + self->n_topic, pub->kind, n);
        ident = span_of(self->topic, self->n_topic + n);
    }
    rc = compose(&self->sender,
                 &(struct draft){
                     .ident = &ident,
                     .n_ident = 1,
                     .msg_type = pub->msg_type,
                     .parent = parent,
                     .metadata = pub->metadata.n ? pub->metadata
                                                 : span_str(self->metadata),
                     .content = pub->content,
                     .buffer = pub->buffer,
                     .owner = pub->owner,
                     .n_buffers = pub->n_buffers,
                     .wall_us = clock_wall_us(),
                 },
                 &m, err);
    if (rc < 0)
        return rc;
    self->spoken = true;
    if (counts)
        count(self, &m, counts);
    rc = net_send(self->sock, NULL, 0, m, 0, err);
    msg_unref(&m);
    return rc;
}

static int
send_run(struct iopub *self, uint32_t run)
{
    bool is_err = self->out.run[run].stream == ENGINE_STDERR;
    rh_error err;
    int rc;

    buf_clear(&self->content);
    buf_add_fmt(&self->content,
                "{\"name\": \"%s\", \"text\": ", is_err ? "stderr" : "stdout");
    buf_add_json_str(&self->content, output_text(&self->out, run));
    buf_add_char(&self->content, '}');
    if (self->content.failed)
        return RH_ENOMEM;
    rc = send_locked(self,
                     &(struct engine_publication){
                         .kind = is_err ? "stderr" : "stdout",
                         .msg_type = "stream",
                         .content = buf_span(&self->content),
                     },
                     parent_of(self->request), self->content.n, &err);
    if (rc < 0 && rc != RH_ENOMEM)
        log_error("output of %u bytes is lost: %s", self->out.run[run].n,
                  err.text);
    return rc == RH_ENOMEM ? rc : 0;
}

/* Publish what waits; stops at the first run there is no memory for. */
static void
flush_locked(struct iopub *self)
{
    uint32_t i = 0;

    while (i < self->out.n_runs && send_run(self, i) == 0)
        i++;
    output_drop(&self->out, i);
}

void
iopub_begin(struct iopub *self, struct msg *request)
{
    struct msg *old;

    pthread_mutex_lock(&self->lock);
    flush_locked(self);
    old = self->request;
    self->request = msg_ref(request);
    self->spoken = self->truncated = false;
    self->printed = 0;
    pthread_mutex_unlock(&self->lock);
    msg_unref(&old);
}

bool
iopub_spoken(struct iopub *self)
{
    bool spoken;

    pthread_mutex_lock(&self->lock);
    spoken = self->spoken || self->out.n;
    pthread_mutex_unlock(&self->lock);
    return spoken;
}

int
iopub_publish(struct iopub *self, const struct engine_publication *pub,
              struct span parent, rh_error *err)
{
    int rc;

    pthread_mutex_lock(&self->lock);
    flush_locked(self);
    rc = send_locked(self, pub, parent, 0, err);
    pthread_mutex_unlock(&self->lock);
    return rc;
}

int
iopub_publish_now(struct iopub *self, const struct engine_publication *pub,
                  rh_error *err)
{
    int rc;

    pthread_mutex_lock(&self->lock);
    flush_locked(self);
    rc = send_locked(self, pub, parent_of(self->request), 0, err);
    pthread_mutex_unlock(&self->lock);
    return rc;
}

static int
publish_state(struct iopub *self, const char *state, const struct msg *request)
{
    bool spoken;
    int rc;

    buf_clear(&self->content);
    buf_add_span(&self->content, SPAN_LIT("{\"execution_state\": \""));
    buf_add_str(&self->content, state);
    buf_add_span(&self->content, SPAN_LIT("\"}"));
    if (self->content.failed)
        return RH_ENOMEM;
    spoken = self->spoken;
    rc = send_locked(self,
                     &(struct engine_publication){
                         .kind = "status",
                         .msg_type = "status",
                         .content = buf_span(&self->content),
                     },
                     parent_of(request), 0, NULL);
    self->spoken = spoken;
    return rc;
}

int
iopub_status(struct iopub *self, const char *state)
{
    int rc;

    pthread_mutex_lock(&self->lock);
    flush_locked(self);
    rc = publish_state(self, state, self->request);
    pthread_mutex_unlock(&self->lock);
    return rc;
}

int
iopub_status_for(struct iopub *self, const char *state,
                 const struct msg *request)
{
    int rc;

    pthread_mutex_lock(&self->lock);
    rc = publish_state(self, state, request);
    pthread_mutex_unlock(&self->lock);
    return rc;
}

/* The buffer has its first bytes: see that somebody will look after them. */
static void
mark_dirty(struct iopub *self)
{
    const uint64_t one = 1;

    self->dirty_at = clock_mono_ms();
    self->busy_until = self->dirty_at + TICK_ON_MS;
    if (self->ticking)
        return;
    self->ticking = true;
    // Fails only when the counter is full: then it is readable anyway.
    if (write(self->wake_fd, &one, sizeof(one)) < 0)
        self->ticking = true;
}

/* The buffer is full.  RH_EAGAIN: it stays so for now. */
static int
make_room(struct iopub *self, bool try_only)
{
    if (try_only || is_behind(self))
        return RH_EAGAIN;
    flush_locked(self);
    // Still full: no memory to send it.
    return self->out.n_runs == OUTPUT_RUNS || self->out.n == OUTPUT_BYTES
               ? RH_EAGAIN
               : 0;
}

static int
add_text(struct iopub *self, enum engine_stream stream, struct span text,
         bool try_only, size_t *done)
{
    int rc = 0;

    while (rc == 0 && *done < text.n) {
        *done += output_add(&self->out, (int)stream,
                            span_of(text.p + *done, text.n - *done));
        if (*done < text.n)
            rc = make_room(self, try_only);
    }
    return rc;
}

/* Say, all or nothing, that the rest is missing. */
static int
add_mark(struct iopub *self, enum engine_stream stream, bool try_only)
{
    char mark[128];
    int n = snprintf(mark, sizeof(mark),
                     "\n[output truncated: this call printed more than %zu "
                     "bytes, the engine's output_limit]\n",
                     self->limit);
    int rc = 0;

    if (self->out.n + (size_t)n > OUTPUT_BYTES
        || self->out.n_runs == OUTPUT_RUNS)
        rc = make_room(self, try_only);
    if (rc == 0) {
        (void)output_add(&self->out, (int)stream, span_of(mark, (size_t)n));
        self->truncated = true;
    }
    return rc;
}

/* As iopub_write; the lock is held. */
static int
write_locked(struct iopub *self, enum engine_stream stream, struct span text,
             bool try_only, size_t *done)
{
    size_t n = text.n;
    int rc;

    if (self->truncated) {
        *done = text.n;
        return 0;
    }
    if (self->limit && n > self->limit - self->printed)
        n = output_cut(text, self->limit - self->printed);
    rc = add_text(self, stream, span_of(text.p, n), try_only, done);
    self->printed += *done;
    if (rc == 0 && n < text.n)
        rc = add_mark(self, stream, try_only);
    if (rc == 0)
        *done = text.n;
    return rc;
}

int
iopub_write(struct iopub *self, enum engine_stream stream, struct span text,
            bool try_only, size_t *done)
{
    size_t before;
    int rc;

    *done = 0;
    if (!try_only)
        pthread_mutex_lock(&self->lock);
    else if (pthread_mutex_trylock(&self->lock) != 0)
        return RH_EAGAIN;
    before = self->out.n;
    rc = write_locked(self, stream, text, try_only, done);
    // It was empty, or has been emptied on the way.
    if (self->out.n && (before == 0 || self->out.n < before + *done))
        mark_dirty(self);
    pthread_mutex_unlock(&self->lock);
    return rc;
}

void
iopub_flush(struct iopub *self)
{
    pthread_mutex_lock(&self->lock);
    flush_locked(self);
    pthread_mutex_unlock(&self->lock);
}

int64_t
iopub_tick(struct iopub *self, int64_t now)
{
    int64_t next = now + IOPUB_FLUSH_MS;

    // Somebody writes or sends at this moment: it will be as good later.
    if (pthread_mutex_trylock(&self->lock) != 0)
        return now + 1;
    if (self->out.n && now >= self->dirty_at + IOPUB_FLUSH_MS) {
        if (!is_behind(self))
            flush_locked(self);
    } else if (self->out.n) {
        next = self->dirty_at + IOPUB_FLUSH_MS;
    }
    self->ticking = self->out.n || now < self->busy_until;
    if (!self->ticking)
        next = INT64_MAX;
    pthread_mutex_unlock(&self->lock);
    return next;
}
