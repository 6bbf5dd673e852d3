/* wait.c - threads that wait for requests or engines
 *
 * A waiter leaves a node at every request it waits for; whoever completes the
 * request counts it down.  So waiting for any k of n requests costs n once,
 * and completing one costs the number of threads that wait for it.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "client/client.h"

#define N_STACK 16
#define LOOK_EVERY_US 1000000 // for output that will not come
#define SILENCE_US 10000000   // output that is later than this is lost

static int64_t
deadline(int64_t now_us, int timeout_ms)
{
    return timeout_ms < 0 ? INT64_MAX : now_us + timeout_ms * (int64_t)1000;
}

/* Sleep until woken or 'until_us'. */
static void
follow(struct rh_client *self, struct waiter *w, int64_t until_us)
{
    struct timespec ts = {until_us / 1000000, until_us % 1000000 * 1000};

    if (until_us == INT64_MAX)
        pthread_cond_wait(&w->cond, &self->lock);
    else
        pthread_cond_timedwait(&w->cond, &self->lock, &ts);
}

/* The end of output is one message on a connection that may have come up too
 * late for it.  When the reply is here and nobody has published anything for a
 * long time, it is not coming.
 */
static void
end_silence(struct rh_client *self, const struct waiter *w)
{
    if (self->now.mono_us - self->last_output_us < SILENCE_US)
        return;
    for (size_t i = 0; i < w->n; i++) {
        struct rh_request *req = w->req[i];

        if (request_state(req) == RH_DONE
            && self->now.wall_us - req->received_us > SILENCE_US)
            ledger_end_output(&self->ledger, req);
    }
}

static void
arrive(struct rh_client *self, struct waiter *w)
{
    pthread_cond_init(&w->cond, &self->mono);
    w->since_us = clock_mono_us();
    list_append(&self->waiters, &w->link);
}

static void
depart(struct rh_client *self, struct waiter *w)
{
    list_remove(&w->link);
    pthread_cond_destroy(&w->cond);
    self->last_wait_us = clock_mono_us();
    if (self->driver == w)
        self->driver = NULL;
    if (!list_empty(&self->waiters)) {
        if (!self->driver)
            client_wake_waiter(
                self, LIST_ENTRY(self->waiters.next, struct waiter, link));
    } else if (self->runner_deep || self->n_watched) {
        client_wake_runner(self);
    }
}

/* With the lock held and 'w' listed, until nothing is missing. */
static int
await(struct rh_client *self, struct waiter *w, int64_t until_us)
{
    bool looked = false;
    int rc = 0;

    while (w->missing && rc == 0) {
        int64_t slice_us = until_us;

        if (atomic_load(&self->closed))
            return RH_ECLOSED;
        if (!self->driver)
            self->driver = w;
        if (self->driver == w)
            client_catch_up(self);
        if (w->bits & RH_OUTPUT_DONE) {
            end_silence(self, w);
            if (slice_us - LOOK_EVERY_US > self->now.mono_us)
                slice_us = self->now.mono_us + LOOK_EVERY_US;
        }
        if (!w->missing)
            break;
        if (looked && clock_mono_us() >= until_us)
            return RH_ETIMEDOUT;
        if (self->driver == w)
            rc = client_poll(self, self->waiter_fd, &w->polling, slice_us);
        else
            follow(self, w, slice_us);
        looked = true;
    }
    return w->missing ? rc : 0;
}

int
rh_client_wait(rh_client *self, rh_request *const *request, size_t n,
               size_t count, unsigned bits, int timeout_ms, rh_error *err)
{
    struct wait_node stack[N_STACK], *node = stack;
    struct waiter w = {.bits = bits ? bits : RH_DONE, .req = request, .n = n};
    size_t n_ready = 0;
    int rc = client_check(self, err);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < n; i++) {
        if (!request[i] || request[i]->client != self)
            return rh_fail(err, RH_EINVAL,
                           "request %zu of %zu belongs to another client", i,
                           n);
        n_ready += (request_state(request[i]) & w.bits) == w.bits;
    }
    if (count > n)
        count = n;
    if (n_ready >= count)
        return 0;
    if (n > N_STACK && !(node = mem_zalloc(n, sizeof(*node))))
        return rh_fail(err, RH_ENOMEM, "waiting for %zu requests", n);

    pthread_mutex_lock(&self->lock);
    n_ready = 0;
    for (size_t i = 0; i < n; i++) {
        node[i].waiter = &w;
        list_init(&node[i].link);
        if ((request_state(request[i]) & w.bits) == w.bits)
            n_ready++;
        else
            list_append(&request[i]->waits, &node[i].link);
    }
    w.missing = n_ready < count ? count - n_ready : 0;
    arrive(self, &w);
    rc = await(self, &w, deadline(w.since_us, timeout_ms));
    for (size_t i = 0; i < n; i++)
        list_remove(&node[i].link);
    depart(self, &w);
    pthread_mutex_unlock(&self->lock);
    if (node != stack)
        mem_free(node);
    if (rc == RH_ECLOSED)
        return rh_fail(err, rc, "the client was closed");
    return rc;
}

int
rh_client_wait_engines(rh_client *self, uint64_t version, int timeout_ms,
                       rh_error *err)
{
    struct waiter w = {.for_engines = true, .missing = 1};
    int rc = client_check(self, err);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&self->lock);
    if (self->ledger.version != version)
        w.missing = 0;
    arrive(self, &w);
    rc = await(self, &w, deadline(w.since_us, timeout_ms));
    depart(self, &w);
    pthread_mutex_unlock(&self->lock);
    if (rc == RH_ECLOSED)
        return rh_fail(err, rc, "the client was closed");
    return rc;
}

int
rh_client_flush(rh_client *self, rh_error *err)
{
    int rc = client_check(self, err);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&self->lock);
    if (atomic_load(&self->closed)) {
        rc = rh_fail(err, RH_ECLOSED, "the client is closed");
    } else {
        for (int i = 0; i < N_LINKS; i++)
            self->link[i].dirty = true;
        self->link_news = true;
        client_catch_up(self);
    }
    pthread_mutex_unlock(&self->lock);
    return rc;
}
