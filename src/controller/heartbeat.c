/* heartbeat.c - see heartbeat.h
 *
 * A new subscriber is pinged at once, so that an engine is admitted in
 * milliseconds instead of periods; but not more often than every EXTRA_MS, as
 * every ping goes to every engine.
 */
#include "controller/heartbeat.h"

#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "controller/note.h"

#define EXTRA_MS 10
#define BATCH 256 // messages from one socket before the others have a turn

static void
tell_hub(struct heartbeat *self, enum note_kind kind, struct span uuid)
{
    note_push_sure(self->hub, kind, uuid, SPAN_NONE, NULL);
}

static void
on_started(void *ctx, struct span uuid)
{
    tell_hub(ctx, NOTE_HEART_STARTED, uuid);
}

static void
on_stopped(void *ctx, struct span uuid)
{
    tell_hub(ctx, NOTE_HEART_STOPPED, uuid);
}

static void
expect(struct heartbeat *self, const struct note *note)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

    // It may be listening already: then no subscription will tell us.
    self->asked = true;
    while (heart_expect(self->core, note->uuid, note->kind == NOTE_BEATING)
               == RH_ENOMEM
           && !worker_stopping(&self->worker))
        nanosleep(&pause, NULL);
}

static void
take_notes(struct heartbeat *self)
{
    void **entry;
    size_t n = channel_take(self->inbox, &entry);

    for (size_t i = 0; i < n; i++) {
        struct note *note = entry[i];

        if (note->kind == NOTE_FORGET)
            heart_forget(self->core, note->uuid);
        else
            expect(self, note);
        note_free(&note);
    }
}

static void
send_ping(struct heartbeat *self, int64_t now)
{
    struct span text = heart_text(self->core);

    // Nobody listening, or no memory: the next ping is not far.
    (void)net_send(self->ping, &text, 1, NULL, 0, NULL);
    self->last_ping = now;
    self->asked = false;
}

static bool
take_subscriptions(struct heartbeat *self)
{
    struct msg *m;

    for (int i = 0; i < BATCH; i++) {
        int rc = net_recv(self->ping, &m, NULL);

        if (rc == RH_EAGAIN)
            return false;
        if (rc < 0)
            continue;
        // 1 and the topic: a subscription; 0: its end.
        if (m->n == 1 && m->frame[0].n >= 1 && m->frame[0].p[0] == 1)
            self->asked = true;
        msg_unref(&m);
    }
    return true;
}

static void
take_pong(struct heartbeat *self, const struct msg *m, int64_t now)
{
    char uuid[80], text[80];
    int rc;

    if (m->n < 2)
        return;
    rc = heart_pong(self->core, m->frame[0], m->frame[1]);
    log_escape(m->frame[0], uuid, sizeof(uuid));
    log_escape(m->frame[1], text, sizeof(text));
    if (rc == RH_EPROTO)
        complain_quietly(&self->complain, now,
                         "engine %s answered an old ping: %s", uuid, text);
    else if (rc == RH_ENOENT)
        complain_quietly(&self->complain, now,
                         "a pong of %s, which is not registered", uuid);
    else if (self->debug)
        log_debug("heartbeat: engine %s answered %s", uuid, text);
}

static bool
take_pongs(struct heartbeat *self, int64_t now)
{
    struct msg *m;

    for (int i = 0; i < BATCH; i++) {
        int rc = net_recv(self->pong, &m, NULL);

        if (rc == RH_EAGAIN)
            return false;
        if (rc < 0)
            continue;
        take_pong(self, m, now);
        msg_unref(&m);
    }
    return true;
}

static int
time_left(const struct heartbeat *self, int64_t now)
{
    int64_t due = heart_due(self->core);

    if (self->asked && self->last_ping + EXTRA_MS < due)
        due = self->last_ping + EXTRA_MS;
    return due <= now ? 0 : (int)(due - now < 60000 ? due - now : 60000);
}

static void *
run(void *ctx)
{
    struct heartbeat *self = ctx;
    struct net_pollitem item[] = {
        {.sock = self->pong, .events = NET_IN},
        {.sock = self->ping, .events = NET_IN},
        {.fd = channel_fd(self->inbox), .events = NET_IN},
        {.fd = self->worker.wake_fd, .events = NET_IN},
    };
    bool more = false;

    while (!worker_stopping(&self->worker)) {
        int64_t now = clock_mono_ms();

        (void)net_poll(item, 4, more ? 0 : time_left(self, now));
        now = clock_mono_ms();
        // Notes first: an engine is announced before it can answer.
        take_notes(self);
        more = take_pongs(self, now);
        more |= take_subscriptions(self);
        if (now >= heart_due(self->core)) {
            heart_tick(self->core, now);
            send_ping(self, now);
        } else if (self->asked && now >= self->last_ping + EXTRA_MS) {
            send_ping(self, now);
        }
    }
    return NULL;
}

int
heartbeat_init(struct heartbeat *self, rh_error *err)
{
    int rc;

    memset(self, 0, sizeof(*self));
    rc = worker_init(&self->worker, err);
    if (rc == 0 && (rc = channel_new(&self->inbox)) < 0)
        rh_fail(err, rc, "creating a channel: %s", rh_code_text(rc));
    return rc;
}

int
heartbeat_start(struct heartbeat *self, struct net_sock **ping,
                struct net_sock **pong, struct channel *hub,
                const struct heart_config *config, bool debug, rh_error *err)
{
    const struct heart_port port = {
        .ctx = self,
        .started = on_started,
        .stopped = on_stopped,
    };
    int rc;

    self->ping = *ping;
    self->pong = *pong;
    *ping = *pong = NULL;
    self->hub = hub;
    self->debug = debug;
    self->complain = (struct complain){.topic = "heartbeat"};
    rc = heart_new(&self->core, config, &port, clock_mono_ms(), err);
    if (rc == 0)
        rc = worker_start(&self->worker, "heart", run, self, err);
    return rc;
}

void
heartbeat_fini(struct heartbeat *self)
{
    worker_fini(&self->worker);
    heart_free(&self->core);
    net_close(&self->ping);
    net_close(&self->pong);
    channel_free(&self->inbox, note_drop);
}
