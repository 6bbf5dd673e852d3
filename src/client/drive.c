/* drive.c - receiving, and the threads that wait
 *
 * See client.h for who polls when.  Everything here runs with the client's
 * lock held; client_poll gives it up while it sleeps.
 */
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/client.h"
#include "wire/pack.h"
#include "wire/translate.h"

#define DRAIN_MAX 512 // messages of one link before others may run
#define REPORT_EVERY_US 60000000

/* ---- waking ----------------------------------------------------------- */

static void
poke(int fd)
{
    uint64_t one = 1;

    // Fails only when the counter is full, and then it is readable anyway.
    if (write(fd, &one, sizeof(one)) < 0)
        return;
}

void
client_wake_waiter(struct rh_client *self, struct waiter *w)
{
    if (w->polling)
        poke(self->waiter_fd);
    else
        pthread_cond_signal(&w->cond);
}

void
client_wake_runner(struct rh_client *self)
{
    if (self->runner_polling)
        poke(self->runner_fd);
    else if (self->runner_parked)
        pthread_cond_signal(&self->runner_cond);
}

void
client_wake_all(struct rh_client *self)
{
    for (struct list *i = self->waiters.next; i != &self->waiters; i = i->next)
        client_wake_waiter(self, LIST_ENTRY(i, struct waiter, link));
    client_wake_runner(self);
}

void
client_wake(struct rh_client *self)
{
    atomic_store(&self->woken, true);
    poke(self->runner_fd);
}

/* ---- sending ---------------------------------------------------------- */

void
client_flush(struct rh_client *self)
{
    for (enum link i = 0; i <= LINK_QUERY; i++)
        net_flush(self->link[i].sock);
}

/* A system call a request is what a loop of submissions spends most of its
 * time on.  So a request that follows another at once waits for company, until
 * somebody waits for an answer, there is enough, or the runner comes by.
 */
void
client_hurry(struct rh_client *self, struct net_sock *sock)
{
    int64_t now_us = clock_mono_us();
    bool alone = now_us - self->last_send_us > BURST_US;

    self->last_send_us = now_us;
    if (alone || !self->runner_here || !list_empty(&self->waiters)) {
        net_flush(sock);
    } else if (!self->burst) {
        self->burst = true;
        client_wake_runner(self);
    }
}

/* ---- receiving -------------------------------------------------------- */

/* Dropped messages are counted; the log hears of them once in a while. */
static void
report(struct rh_client *self, int rc, const rh_error *err)
{
    if (rc == RH_ENOENT || rc == RH_EEXIST)
        return; // replies that nobody waits for any more are normal
    self->n_invalid++;
    self->last_invalid = rc;
    if (self->now.mono_us < self->report_at_us)
        return;
    log_warn("client %s: dropped %llu messages, the last because: %s",
             self->sender.session,
             (unsigned long long)(self->n_invalid - self->n_reported),
             err->text);
    self->n_reported = self->n_invalid;
    self->report_at_us = self->now.mono_us + REPORT_EVERY_US;
}

/* The published messages of all clients pass here.  One that does not even
 * hold our session's name cannot be ours, which is known without checking its
 * signature.
 */
static bool
may_be_ours(const struct rh_client *self, const struct msg *m)
{
    struct span parent = msg_part(m, MSG_PARENT);

    return memmem(parent.p, parent.n, self->ledger.session.p,
                  self->ledger.session.n)
           != NULL;
}

static int
enter(struct rh_client *self, enum link i, struct msg *m, rh_error *err)
{
    switch (i) {
    case LINK_IOPUB:
        return ledger_output(&self->ledger, m, self->now, err);
    case LINK_NOTIFICATION:
        return ledger_notify(&self->ledger, m, self->now, err);
    default:
        return ledger_reply(&self->ledger, m, self->now, err);
    }
}

/* A reply that cannot be read answers its request all the same. */
static void
settle_unread(struct rh_client *self, enum link i, const struct msg *m)
{
    struct span raw = msg_part(m, MSG_PARENT);
    struct buf parent = {0};

    if (i > LINK_QUERY)
        return;
    if (!self->unpacks)
        ledger_unreadable(&self->ledger, raw, self->now);
    else if (pack_decode(self->conn.unpack, raw, &parent, NULL) == 0)
        ledger_unreadable(&self->ledger, buf_span(&parent), self->now);
    buf_fini(&parent);
}

/* With its buffers, and as JSON. */
static int
decode(struct rh_client *self, enum link i, struct msg **m, struct msg **json,
       rh_error *err)
{
    int lost = shm_take(self->shm, NULL, m, err), rc = lost;

    if (rc == 0 && self->unpacks)
        rc = translate_in(self->conn.unpack, NULL, *m, json, err);
    if (lost < 0 || (rc < 0 && rc != RH_ENOMEM))
        settle_unread(self, i, *m);
    return rc;
}

static void
take(struct rh_client *self, enum link i, struct msg **m)
{
    struct msg *json = NULL;
    rh_error err = {0};
    int rc = msg_parse(*m, &msg_limits_default, &err);

    if (i == LINK_IOPUB) {
        self->last_output_us = self->now.mono_us;
        if (rc == 0 && !may_be_ours(self, *m))
            return;
    }
    if (rc == 0)
        rc = session_admit(self->checker, *m, &err);
    if (rc == 0)
        rc = decode(self, i, m, &json, &err);
    if (rc == 0)
        rc = enter(self, i, json ? json : *m, &err);
    if (rc < 0)
        report(self, rc, &err);
    msg_unref(&json);
}

static void
drain_link(struct rh_client *self, enum link i)
{
    struct link_state *link = &self->link[i];

    for (int n = 0; n < DRAIN_MAX; n++) {
        struct msg *m = NULL;
        rh_error err = {0};
        int rc = net_recv(link->sock, &m, &err);

        if (rc == RH_EAGAIN) {
            link->dirty = false;
            return;
        }
        if (rc < 0)
            report(self, rc, &err);
        else
            take(self, i, &m);
        msg_unref(&m);
    }
}

static void
set_now(struct rh_client *self)
{
    self->now.mono_us = clock_mono_us();
    self->now.wall_us = clock_wall_us();
}

void
client_drain(struct rh_client *self)
{
    if (atomic_load(&self->closed))
        return;
    set_now(self);
    for (enum link i = 0; i < N_LINKS; i++)
        if (self->link[i].dirty && (i != LINK_NOTIFICATION || self->met))
            drain_link(self, i);
}

static bool
any_dirty(const struct rh_client *self)
{
    for (enum link i = 0; i < N_LINKS; i++)
        if (self->link[i].dirty && (i != LINK_NOTIFICATION || self->met))
            return true;
    return false;
}

/* Sleep in ppoll without the lock; its result and errno. */
static int
sleep_on(struct rh_client *self, struct pollfd *fds, nfds_t n, bool *polling,
         int64_t left_us)
{
    struct timespec ts = {left_us / 1000000, left_us % 1000000 * 1000};
    int rc, e;

    *polling = true;
    self->n_polling++;
    pthread_mutex_unlock(&self->lock);
    rc = ppoll(fds, n, left_us == INT64_MAX ? NULL : &ts, NULL);
    e = errno;
    pthread_mutex_lock(&self->lock);
    self->n_polling--;
    *polling = false;
    if (atomic_load(&self->closed) && self->n_polling == 0)
        pthread_cond_broadcast(&self->no_poll);
    errno = e;
    return rc;
}

void
client_catch_up(struct rh_client *self)
{
    int64_t due_us;

    if (atomic_load(&self->closed))
        return;
    client_drain(self);
    client_flush(self);
    self->due_us = INT64_MAX;
    client_check_links(self);
    due_us = ledger_tick(&self->ledger, self->now);
    if (due_us < self->due_us)
        self->due_us = due_us;
    due_us = shm_trim(self->shm, self->now.mono_us);
    if (due_us < self->due_us)
        self->due_us = due_us;
}

int
client_poll(struct rh_client *self, int fd, bool *polling, int64_t until_us)
{
    struct pollfd fds[N_LINKS + 2];
    uint64_t count;

    if (any_dirty(self)) { // a long drain: let others have the lock
        pthread_mutex_unlock(&self->lock);
        pthread_mutex_lock(&self->lock);
        client_catch_up(self);
        return 0;
    }
    for (int i = 0; i < N_LINKS; i++)
        fds[i] = (struct pollfd){
            .fd = i == LINK_NOTIFICATION && !self->met ? -1 : self->link[i].fd,
            .events = POLLIN};
    fds[N_LINKS] = (struct pollfd){.fd = fd, .events = POLLIN};
    fds[N_LINKS + 1] = (struct pollfd){.fd = self->watch_fd, .events = POLLIN};
    if (self->due_us < until_us)
        until_us = self->due_us;
    if (until_us != INT64_MAX)
        until_us -= until_us > self->now.mono_us ? self->now.mono_us : until_us;
    if (sleep_on(self, fds, N_LINKS + 2, polling, until_us) < 0)
        return errno == EINTR ? RH_EINTR : 0;
    if (fds[N_LINKS].revents && read(fd, &count, sizeof(count)) < 0)
        count = 0; // another thread was faster: it was one poke all the same
    for (int i = 0; i < N_LINKS; i++)
        if (fds[i].revents)
            self->link[i].dirty = true;
    self->link_news = fds[N_LINKS + 1].revents != 0;
    client_catch_up(self);
    return 0;
}
