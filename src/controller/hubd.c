/* hubd.c - the hub thread's loop
 *
 * The inbox takes a note for every message of the controller.  Waking up for
 * each would take the processor from those who do the work, so while traffic
 * flows the thread looks only every DRAIN_MS; and before every query, so that
 * answers are up to date.
 */
#include "controller/hubd.h"

#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "controller/note.h"

#define DRAIN_MS 2
#define DRAIN_MAX 512 // notes before lifelines and queries have a turn
#define QUERY_MAX 16  // queries before the inbox has a turn

/* How long replies of a lost engine may still be on their way through our own
 * sockets.
 */
#define GRACE_MS 50
#define GRACE_KILLED_MS 10

static void
lose_engine(struct hubd *self, struct span uuid, const char *why,
            int64_t grace_ms)
{
    self->grace_ms = grace_ms;
    hub_on_engine_lost(self->core, uuid, why, self->now, self->wall_us);
    self->grace_ms = GRACE_MS;
}

static void
on_lifeline_lost(void *ctx, struct span uuid, const char *why, bool orderly)
{
    char text[300];

    if (!orderly) // else it has answered for all it had
        why = hubd_autopsy(ctx, uuid, why, text, sizeof(text));
    lose_engine(ctx, uuid, why, orderly ? GRACE_MS : GRACE_KILLED_MS);
}

struct lifeline_port
hubd_lifeline_port(struct hubd *self)
{
    return (struct lifeline_port){.ctx = self, .lost = on_lifeline_lost};
}

// ---------------------------------------------------------------------------
// The inbox

static void
on_heart_stopped(struct hubd *self, struct span uuid)
{
    char text[300];

    lose_engine(self, uuid,
                hubd_autopsy(self, uuid, "its heart stopped beating", text,
                             sizeof(text)),
                0);
}

static void
take_note(struct hubd *self, struct note *note)
{
    switch (note->kind) {
    case NOTE_TRAFFIC:
        hub_on_traffic(self->core, (enum hub_kind)note->hub_kind, note->m,
                       self->now, self->wall_us);
        feed_done(&self->backlog, note->bytes);
        break;
    case NOTE_ASSIGNED:
        hub_on_assigned(self->core, note->text, note->uuid);
        break;
    case NOTE_HEART_STARTED:
        hub_on_heart(self->core, note->uuid, self->now, self->wall_us);
        break;
    case NOTE_HEART_STOPPED:
        on_heart_stopped(self, note->uuid);
        break;
    case NOTE_ANSWER:
        hubd_port.reply(self, note->m);
        break;
    case NOTE_EXPECT:
    case NOTE_BEATING:
    case NOTE_FORGET:
    case NOTE_ENGINE_UP:
    case NOTE_ENGINE_DOWN:
    case NOTE_SUBMIT:
    case NOTE_WITHDRAW:
    case NOTE_WITHDRAWN:
    case NOTE_ASK:
    case NOTE_ABORT:
        break; // never sent here
    }
    note_free(&note);
}

/* The rest of the batch in hand, at most 'max' notes of it. */
static void
drain_batch(struct hubd *self, size_t max)
{
    for (size_t n = 0; n < max && self->batch_i < self->batch_n
                       && !worker_stopping(&self->worker);
         n++)
        take_note(self, self->batch[self->batch_i++]);
}

/* False: nothing was there. */
static bool
next_batch(struct hubd *self)
{
    if (self->batch_i < self->batch_n)
        return true;
    self->batch_i = 0;
    self->batch_n = channel_take(self->backlog.hub, &self->batch);
    return self->batch_n > 0;
}

/* Everything that is there by now.  What comes meanwhile has to wait, or a
 * flood would keep us here.
 */
static void
drain_all(struct hubd *self)
{
    drain_batch(self, SIZE_MAX);
    if (next_batch(self))
        drain_batch(self, SIZE_MAX);
}

// ---------------------------------------------------------------------------
// Queries

static bool
take_queries(struct hubd *self)
{
    for (int i = 0; i < QUERY_MAX; i++) {
        struct msg *m = NULL;
        rh_error err;
        int rc = net_recv(self->query, &m, &err);

        if (rc == RH_EAGAIN || rc == RH_ECLOSED)
            return false;
        if (rc < 0) {
            complain(&self->complain, self->now, "query dropped: %s", err.text);
            continue;
        }
        // What the asker has seen happen must be in the answer.
        drain_all(self);
        self->asked = m;
        hub_on_request(self->core, m, self->now, self->wall_us);
        self->asked = NULL;
        msg_unref(&m);
    }
    return true;
}

// ---------------------------------------------------------------------------
// The loop

static int
time_left(const struct hubd *self, int64_t due)
{
    if (self->quit_at < due)
        due = self->quit_at;
    if (self->drain_at && self->drain_at < due)
        due = self->drain_at;
    if (due == INT64_MAX)
        return -1;
    if (due <= self->now)
        return 0;
    return due - self->now < 3600000 ? (int)(due - self->now) : 3600000;
}

static void
work(struct hubd *self)
{
    if (self->batch_i == self->batch_n && self->drain_at > self->now)
        return;
    if (!next_batch(self)) {
        self->drain_at = 0; // sleep until the inbox wakes us
        return;
    }
    drain_batch(self, DRAIN_MAX);
    self->drain_at =
        self->batch_i < self->batch_n ? self->now : self->now + DRAIN_MS;
}

static int64_t
earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One round; returns when the next thing is due. */
static int64_t
serve(struct hubd *self, struct net_pollitem *item)
{
    int64_t due = INT64_MAX;

    if (item[2].revents)
        worker_woken(&self->worker);
    if (self->lifeline)
        due = lifeline_handle(self->lifeline, self->now);
    if (item[0].revents && take_queries(self))
        due = self->now;
    if (self->drain_at || item[3].revents)
        work(self);
    (void)hubd_flush(self);
    due = earlier(due, hub_tick(self->core, self->now, self->wall_us));
    hubd_save_engines(self);
    if (self->now >= self->quit_at) {
        (void)!eventfd_write(self->quit_fd, 1);
        self->quit_at = INT64_MAX;
    }
    return due;
}

static void *
run(void *ctx)
{
    struct hubd *self = ctx;
    struct net_pollitem item[] = {
        {.sock = self->query, .events = NET_IN},
        {.fd = -1, .events = NET_IN}, // a negative descriptor is ignored
        {.fd = self->worker.wake_fd, .events = NET_IN},
        {.fd = channel_fd(self->backlog.hub), .events = NET_IN},
    };
    int64_t due = 0;

    if (self->lifeline)
        item[1].fd = lifeline_fd(self->lifeline);
    while (!worker_stopping(&self->worker)) {
        size_t n = self->drain_at ? 3 : 4; // the inbox only while idle

        item[3].revents = 0;
        if (net_poll(item, n, time_left(self, due)) < 0)
            continue;
        self->now = clock_mono_ms();
        self->wall_us = clock_wall_us();
        due = serve(self, item);
    }
    (void)hubd_flush(self);
    return NULL;
}

// ---------------------------------------------------------------------------
// Life

int
hubd_init(struct hubd *self, rh_error *err)
{
    int rc;

    memset(self, 0, sizeof(*self));
    atomic_init(&self->backlog.bytes, 0);
    map_init(&self->members);
    list_init(&self->outbox);
    buf_init(&self->engines);
    self->quit_at = INT64_MAX;
    self->grace_ms = GRACE_MS;
    self->complain = (struct complain){.topic = "hub"};
    rc = worker_init(&self->worker, err);
    if (rc == 0 && (rc = channel_new(&self->backlog.hub)) < 0)
        rh_fail(err, rc, "creating a channel: %s", rh_code_text(rc));
    return rc;
}

void
hubd_adopt(struct hubd *self, struct hubd_parts *parts)
{
    self->query = parts->query;
    self->notify = parts->notify;
    self->lifeline = parts->lifeline;
    self->session = parts->session;
    self->store = parts->store;
    self->engines_path = parts->engines_path;
    self->scheme = parts->scheme;
    *parts = (struct hubd_parts){0};
}

int
hubd_start(struct hubd *self, struct hubd_parts *parts,
           struct hub_config *config, struct span restore, rh_error *err)
{
    struct hub_port port = hubd_port;
    int rc;

    hubd_adopt(self, parts);
    self->now = clock_mono_ms();
    self->wall_us = clock_wall_us();
    config->session = self->session;
    config->store = self->store;
    port.ctx = self;
    rc = hub_new(&self->core, config, &port, err);
    if (rc == 0 && restore.n)
        rc = hub_restore_engines(self->core, restore, err);
    if (rc == 0)
        rc = worker_start(&self->worker, "hub", run, self, err);
    return rc;
}

void
hubd_fini(struct hubd *self)
{
    worker_fini(&self->worker);
    hubd_save_engines(self);
    while (self->batch_i < self->batch_n)
        note_drop(self->batch[self->batch_i++]);
    hub_free(&self->core);
    store_close(&self->store);
    lifeline_free(&self->lifeline);
    hubd_forget_all(self);
    session_free(&self->session);
    net_close(&self->query);
    net_close(&self->notify);
    channel_free(&self->backlog.hub, note_drop);
    buf_fini(&self->engines);
    mem_free(self->engines_path);
}
