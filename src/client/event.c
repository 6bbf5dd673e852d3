/* event.c - news for the one thread that collects them, and driving for it
 *
 * News of a request are bits in the request, which is queued at most once, so
 * telling them cannot fail and their number is bounded by that of requests.
 * Other events are records; their number is bounded here.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "client/client.h"

#define EVENTS_MAX 16384
/* While threads wait one after the other, the runner keeps out of their way
 * for as long as this, unless somebody asked for events.
 */
#define QUIET_US 10000

/* ---- what the ledger tells ------------------------------------------- */

static void
tell(struct rh_client *self, struct rh_request *req, unsigned bits)
{
    req->news |= bits;
    if (list_empty(&req->ready)) {
        request_ref(req);
        list_append(&self->ready, &req->ready);
    }
    client_wake_runner(self);
}

static void
on_settled(void *ctx, struct rh_request *req, unsigned bits)
{
    struct rh_client *self = ctx;
    struct list *next;

    for (struct list *i = req->waits.next; i != &req->waits; i = next) {
        struct waiter *w = LIST_ENTRY(i, struct wait_node, link)->waiter;

        next = i->next;
        if ((request_state(req) & w->bits) != w->bits)
            continue;
        list_remove(i);
        if (w->missing && --w->missing == 0)
            client_wake_waiter(self, w);
    }
    if (req->watched)
        tell(self, req, bits);
}

static void
on_output(void *ctx, struct rh_request *req)
{
    if (req->watch & WATCH_OUTPUT)
        tell(ctx, req, WATCH_OUTPUT);
}

static void
add_event(struct rh_client *self, enum event_kind kind, int id,
          const char *uuid, struct msg *m)
{
    struct event *event;

    if (self->n_events >= EVENTS_MAX
        || (kind == EVENT_STRAY && !self->had_runner))
        return;
    event = mem_zalloc(1, sizeof(*event));
    if (!event)
        return; // the engines themselves are known, only the news is lost
    event->kind = kind;
    event->id = id;
    memcpy(event->uuid, uuid, strlen(uuid) + 1); // at most 255 bytes
    event->msg = m ? msg_ref(m) : NULL;
    list_append(&self->events, &event->link);
    self->n_events++;
    client_wake_runner(self);
}

static void
on_engine(void *ctx, const struct engine *engine, bool joined)
{
    struct rh_client *self = ctx;

    atomic_store(&self->engines_version, self->ledger.version);
    for (struct list *i = self->waiters.next; i != &self->waiters;
         i = i->next) {
        struct waiter *w = LIST_ENTRY(i, struct waiter, link);

        if (w->for_engines) {
            w->missing = 0;
            client_wake_waiter(self, w);
        }
    }
    add_event(self, joined ? EVENT_JOINED : EVENT_LEFT, engine->id,
              engine->uuid, NULL);
}

static void
on_stray(void *ctx, struct msg *m)
{
    add_event(ctx, EVENT_STRAY, -1, "", m);
}

static void
on_shutdown(void *ctx)
{
    add_event(ctx, EVENT_SHUTDOWN, -1, "", NULL);
}

const struct ledger_port client_port = {
    .settled = on_settled,
    .output = on_output,
    .engine = on_engine,
    .stray = on_stray,
    .shutdown = on_shutdown,
};

/* ---- watching --------------------------------------------------------- */

int
client_watch(struct rh_request *req, unsigned bits, rh_error *err)
{
    struct rh_client *self = req->client;
    int rc = client_check(self, err);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&self->lock);
    if (atomic_load(&self->closed)) {
        rc = rh_fail(err, RH_ECLOSED, "the client is closed");
    } else {
        if (!req->watched) {
            request_group(req)->handles++;
            rc = 1;
            if (self->n_watched++ == 0)
                client_wake_runner(self);
        }
        req->watched = true;
        req->watch |= bits;
        if (request_state(req) & (bits & RH_DONE ? RH_DONE : RH_OUTPUT_DONE))
            tell(self, req, request_state(req));
    }
    pthread_mutex_unlock(&self->lock);
    return rc;
}

int
client_unwatch(struct rh_request *req, unsigned bits)
{
    struct rh_client *self = req->client;
    bool over = false;

    if (client_check(self, NULL) < 0)
        return 0;
    pthread_mutex_lock(&self->lock);
    req->watch &= ~bits;
    if (req->watched && !req->watch && list_empty(&req->ready)) {
        over = true;
        req->watched = false;
        self->n_watched--;
        client_drop_handle(req);
    }
    pthread_mutex_unlock(&self->lock);
    return over;
}

/* ---- collecting ------------------------------------------------------- */

/* The event of one queued request; false: nothing anybody asked for. */
static bool
take_news(struct rh_request *req, struct event *out)
{
    unsigned state = request_state(req);

    *out = (struct event){.kind = EVENT_REQUEST, .req = req};
    out->bits = (req->news | (state & RH_DONE)) & req->watch;
    req->news = 0;
    if (!req->watched)
        return false;
    if (state & RH_DONE)
        req->watch &= ~RH_DONE;
    if (state & RH_OUTPUT_DONE)
        req->watch &= ~WATCH_OUTPUT;
    if (!req->watch) {
        out->last = true;
        req->watched = false;
        req->client->n_watched--;
        client_drop_handle(req);
    }
    return out->bits || out->last;
}

static size_t
collect(struct rh_client *self, struct event *out, size_t cap)
{
    size_t n = 0;

    while (n < cap && !list_empty(&self->ready)) {
        struct rh_request *req =
            LIST_ENTRY(self->ready.next, struct rh_request, ready);

        list_remove(&req->ready);
        if (take_news(req, &out[n]))
            n++;
        else
            request_unref(&req);
    }
    while (n < cap && !list_empty(&self->events)) {
        struct event *event = LIST_ENTRY(self->events.next, struct event, link);

        list_remove(&event->link);
        self->n_events--;
        out[n++] = *event;
        mem_free(event);
    }
    return n;
}

void
event_fini(struct event *self)
{
    msg_unref(&self->msg);
    request_unref(&self->req);
}

void
client_free_events(struct rh_client *self)
{
    while (!list_empty(&self->events)) {
        struct event *event = LIST_ENTRY(self->events.next, struct event, link);

        list_remove(&event->link);
        event_fini(event);
        mem_free(event);
    }
    self->n_events = 0;
}

/* ---- the runner ------------------------------------------------------- */

/* Until when waiting threads want the sockets for themselves: 0 not at all,
 * INT64_MAX until the last of them says so.
 */
static int64_t
quiet_until(const struct rh_client *self, int64_t now_us)
{
    if (!list_empty(&self->waiters)) {
        const struct waiter *oldest =
            LIST_ENTRY(self->waiters.next, struct waiter, link);

        return now_us - oldest->since_us > QUIET_US ? INT64_MAX
                                                    : now_us + QUIET_US;
    }
    if (now_us - self->last_wait_us < QUIET_US && !self->n_watched)
        return self->last_wait_us + QUIET_US;
    return 0;
}

static void
park(struct rh_client *self, int64_t until_us)
{
    struct timespec ts = {until_us / 1000000, until_us % 1000000 * 1000};

    self->runner_parked = true;
    self->runner_deep = until_us == INT64_MAX;
    if (until_us == INT64_MAX)
        pthread_cond_wait(&self->runner_cond, &self->lock);
    else
        pthread_cond_timedwait(&self->runner_cond, &self->lock, &ts);
    self->runner_parked = self->runner_deep = false;
}

/* Send what a burst holds back; until when more of it may be. */
static int64_t
end_burst(struct rh_client *self, int64_t now_us, int64_t until_us)
{
    if (!self->burst)
        return until_us;
    client_flush(self);
    self->burst = now_us - self->last_send_us <= BURST_US;
    return self->burst && now_us + BURST_US < until_us ? now_us + BURST_US
                                                       : until_us;
}

/* Receive, or keep out of the way. */
static int
run_once(struct rh_client *self, int64_t until_us)
{
    int64_t now_us = clock_mono_us();
    int64_t quiet_us = quiet_until(self, now_us);

    if (quiet_us) {
        until_us = end_burst(self, now_us, until_us);
        park(self, quiet_us < until_us ? quiet_us : until_us);
        return 0;
    }
    client_catch_up(self);
    if (!list_empty(&self->ready) || !list_empty(&self->events)
        || atomic_load(&self->woken))
        return 0;
    // ORDER: catching up may have asked the hub something.
    until_us = end_burst(self, self->now.mono_us, until_us);
    return client_poll(self, self->runner_fd, &self->runner_polling, until_us);
}

int
client_events(struct rh_client *self, struct event *out, size_t cap,
              int timeout_ms, rh_error *err)
{
    int rc = client_check(self, err);
    bool looked = false;
    int64_t until_us;
    size_t n = 0;

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&self->lock);
    self->had_runner = self->runner_here = true;
    until_us = timeout_ms < 0 ? INT64_MAX
                              : clock_mono_us() + timeout_ms * (int64_t)1000;
    while (rc == 0) {
        n = collect(self, out, cap);
        if (n || atomic_exchange(&self->woken, false))
            break;
        if (atomic_load(&self->closed))
            rc = rh_fail(err, RH_ECLOSED, "the client is closed");
        else if (looked && clock_mono_us() >= until_us)
            break;
        else
            rc = run_once(self, until_us);
        looked = true;
    }
    // Nobody knows how long the caller is away: nothing may wait for him.
    if (self->burst && !atomic_load(&self->closed))
        client_flush(self);
    self->runner_here = self->burst = false;
    pthread_mutex_unlock(&self->lock);
    return rc < 0 ? rc : (int)n;
}
