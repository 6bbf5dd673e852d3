/* relay.c - the loop, and the four relays
 *
 * Order: control goes first in every round, then replies, then requests; of
 * each socket at most BATCH messages, so that no flood starves the rest.
 *
 * The relays do not check signatures: who receives does, and the hub checks
 * its copies.  What is looked into is checked first (broadcasts, control
 * replies, requests that are answered here).
 */
#include "controller/relay.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "controller/note.h"
#include "wire/scan.h"

#define BATCH 64

static const char *const lane_name[] = {"control", "mux", "broadcast"};

// ---------------------------------------------------------------------------
// Requests

static void
answer_stranger(struct relay *self, enum lane lane, struct msg *m,
                const struct peer *peer)
{
    char uuid[260], text[700];

    log_escape(m->frame[0], uuid, sizeof(uuid));
    if (peer)
        snprintf(text, sizeof(text), "Engine %d (%s) is gone: %s", peer->id,
                 uuid, *peer->why ? peer->why : "unregistered");
    else
        snprintf(text, sizeof(text),
                 "Engine %s is not registered: it has stopped, or never was",
                 uuid);
    relay_answer_fault(self, lane, m, span_str(text));
}

/* Control requests are rare and few engines answer late: remember them, so
 * that they can be answered for if the engine is lost.  What is to be aborted
 * may not have left the scheduler yet.
 */
static void
track_control(struct relay *self, struct peer *peer, struct msg *m)
{
    struct header_view header;

    if (session_verify(self->session, m, NULL) == 0
        && scan_header(msg_part(m, MSG_HEADER), &header, NULL) == 0) {
        roster_track(peer, m, header.msg_id);
        if (span_is(header.msg_type, "abort_request"))
            (void)note_push_msg(self->task, NOTE_ABORT, m);
    }
}

/* [client, uuid, ...] */
static void
on_request(struct relay *self, enum lane lane, struct msg *m)
{
    struct peer *peer;

    if (m->i_delim < 2) {
        complain(&self->complain, self->now,
                 "%s request without an engine's name dropped",
                 lane_name[lane]);
        return;
    }
    swap_route(m);
    peer = roster_find(&self->roster, m->frame[0]);
    if (!peer || peer->gone) {
        answer_stranger(self, lane, m, peer);
        return;
    }
    if (lane == LANE_MUX)
        feed_copy(&self->feed, HUB_IN, m, self->now);
    else
        track_control(self, peer, m);
    relay_to_engine(self, peer, lane, m);
}

static void
on_control_request(struct relay *self, struct msg *m)
{
    on_request(self, LANE_CONTROL, m);
}

static void
on_mux_request(struct relay *self, struct msg *m)
{
    on_request(self, LANE_MUX, m);
}

static void
complain_of(struct relay *self, const char *what, const struct msg *m, int rc,
            const rh_error *err)
{
    complain_refusal(&self->complain, self->now, what, m, rc, err,
                     self->scheme);
}

static void
on_broadcast_request(struct relay *self, struct msg *m)
{
    rh_error err;
    int rc = broadcast_on_request(self->broadcast, m, self->wall_us, &err);

    if (rc < 0)
        complain_of(self, "broadcast dropped", m, rc, &err);
}

// ---------------------------------------------------------------------------
// Replies: [uuid, client, ...]

static bool
has_route(struct relay *self, enum lane lane, const struct msg *m)
{
    if (m->i_delim >= 2)
        return true;
    complain(&self->complain, self->now, "%s reply without a route dropped",
             lane_name[lane]);
    return false;
}

static void
on_mux_reply(struct relay *self, struct msg *m)
{
    if (!has_route(self, LANE_MUX, m))
        return;
    swap_route(m);
    feed_copy(&self->feed, HUB_OUT, m, self->now);
    relay_to_client(self, LANE_MUX, m, 2, 2);
}

static void
on_control_reply(struct relay *self, struct msg *m)
{
    struct header_view parent;
    struct peer *peer;

    if (!has_route(self, LANE_CONTROL, m))
        return;
    peer = roster_find(&self->roster, m->frame[0]);
    if (!peer) {
        // Its requests have been answered for: this would be a second answer.
        complain_quietly(&self->complain, self->now,
                         "control reply of an engine that is not registered");
        return;
    }
    if (peer->n_control && session_verify(self->session, m, NULL) == 0
        && scan_header(msg_part(m, MSG_PARENT), &parent, NULL) == 0)
        roster_untrack(peer, parent.msg_id);
    swap_route(m);
    relay_to_client(self, LANE_CONTROL, m, 2, 2);
}

static void
on_broadcast_reply(struct relay *self, struct msg *m)
{
    rh_error err;
    int rc = broadcast_on_reply(self->broadcast, m, self->wall_us, &err);

    if (rc < 0)
        complain_of(self, "broadcast reply dropped", m, rc, &err);
}

/* [topic, MSG].  The hub has no use for what has no topic (the welcome of a
 * newer kernel).  It needs idle to know that output is complete; calls that
 * print nothing do not say it.
 */
static void
on_output(struct relay *self, struct msg *m)
{
    if (m->i_delim >= 1)
        feed_copy(&self->feed, HUB_IOPUB, m, self->now);
    (void)net_send(self->sock.iopub_out, NULL, 0, m, 0, NULL);
}

// ---------------------------------------------------------------------------
// The port of the broadcast core

static bool
is_alive(void *ctx, struct span uuid)
{
    const struct relay *self = ctx;
    const struct peer *peer = roster_find(&self->roster, uuid);

    return peer && !peer->gone;
}

static void
to_engine(void *ctx, struct span uuid, int id, struct msg *m)
{
    struct relay *self = ctx;
    struct peer *peer = roster_find(&self->roster, uuid);

    (void)id; // the client's word; the roster knows the engine's port
    if (peer)
        relay_to_engine(self, peer, LANE_BROADCAST, m);
}

static void
to_client(void *ctx, struct msg *m)
{
    relay_to_client(ctx, LANE_BROADCAST, m, 1, m->i_delim);
}

static void
copy(void *ctx, enum hub_kind kind, struct msg *m)
{
    struct relay *self = ctx;

    feed_copy(&self->feed, kind, m, self->now);
}

// ---------------------------------------------------------------------------
// The loop

typedef void on_msg_fn(struct relay *self, struct msg *m);

struct source {
    struct net_sock *sock;
    on_msg_fn *fn;
};

/* True if there may be more. */
static bool
drain(struct relay *self, const struct source *source)
{
    poller_touch(&self->poller, source->sock);
    for (int i = 0; i < BATCH; i++) {
        struct msg *m = NULL;
        rh_error err;
        int rc = net_recv(source->sock, &m, &err);

        if (rc == RH_EAGAIN)
            return false;
        if (rc == 0)
            rc = msg_parse(m, &msg_limits_default, &err);
        if (rc == 0 && shm_take(self->shm, self->session, &m, &err) < 0)
            complain(&self->complain, self->now, "passed on as it is: %s",
                     err.text);
        if (rc == 0)
            source->fn(self, m);
        else
            complain(&self->complain, self->now, "message dropped: %s",
                     err.text);
        msg_unref(&m);
        if (rc == RH_ECLOSED)
            return false;
    }
    return true;
}

/* The sockets in the order of their turns. */
static size_t
list_sources(const struct relay *self, struct source *v)
{
    const struct relay_sockets *s = &self->sock;
    size_t n = 0;

    v[n++] = (struct source){s->client[LANE_CONTROL], on_control_request};
    v[n++] = (struct source){s->engine[LANE_CONTROL], on_control_reply};
    v[n++] = (struct source){s->engine[LANE_MUX], on_mux_reply};
    v[n++] = (struct source){s->client[LANE_MUX], on_mux_request};
    for (size_t i = 0; i < s->n_leaves; i++)
        v[n++] = (struct source){s->leaf[i], on_broadcast_reply};
    v[n++] = (struct source){s->client[LANE_BROADCAST], on_broadcast_request};
    v[n++] = (struct source){s->iopub_in, on_output};
    return n;
}

static void *
run(void *ctx)
{
    struct relay *self = ctx;
    struct source source[RELAY_SOURCES];
    size_t n = list_sources(self, source);
    bool more = false;

    while (!worker_stopping(&self->worker)) {
        poller_wait(&self->poller, more ? 0 : relay_time_left(self));
        self->now = clock_mono_ms();
        self->wall_us = clock_wall_us();
        if (poller_ready(&self->poller, n))
            relay_take_notes(self);
        more = false;
        for (size_t i = 0; i < n; i++)
            if (poller_ready(&self->poller, i))
                more |= drain(self, &source[i]);
        relay_do_due(self);
    }
    return NULL;
}

/* Slots as list_sources has them, then the inbox, then the wake-up. */
static int
fill_poller(struct relay *self, rh_error *err)
{
    struct source source[RELAY_SOURCES];
    size_t n = list_sources(self, source);
    int rc = poller_init(&self->poller, err);

    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = poller_add(&self->poller, source[i].sock, -1, err);
    if (rc == 0)
        rc = poller_add(&self->poller, NULL, channel_fd(self->inbox), err);
    if (rc == 0)
        rc = poller_add(&self->poller, NULL, self->worker.wake_fd, err);
    return rc;
}

// ---------------------------------------------------------------------------
// Life

int
relay_init(struct relay *self, rh_error *err)
{
    int rc;

    memset(self, 0, sizeof(*self));
    atomic_init(&self->seen, 0);
    atomic_init(&self->settled, 0);
    roster_init(&self->roster);
    rc = worker_init(&self->worker, err);
    if (rc == 0 && (rc = channel_new(&self->inbox)) < 0)
        rh_fail(err, rc, "creating a channel: %s", rh_code_text(rc));
    return rc;
}

int
relay_start(struct relay *self, struct relay_sockets *sock,
            struct session **session, const char *scheme, const char *username,
            struct backlog *backlog, struct worker *hub, struct channel *task,
            rh_error *err)
{
    const struct broadcast_port port = {
        .ctx = self,
        .alive = is_alive,
        .to_engine = to_engine,
        .to_client = to_client,
        .copy = copy,
    };
    int rc;

    self->sock = *sock;
    memset(sock, 0, sizeof(*sock));
    self->session = *session;
    *session = NULL;
    self->scheme = scheme;
    self->hub = hub;
    self->task = task;
    self->complain = (struct complain){.topic = "relay"};
    feed_init(&self->feed, backlog, "relay");
    rc = sender_init(&self->sender, self->session, NULL, username, err);
    if (rc == 0)
        rc = broadcast_new(&self->broadcast, self->session, &self->sender,
                           &port, err);
    if (rc == 0)
        rc = fill_poller(self, err);
    if (rc == 0)
        rc = worker_start(&self->worker, "relay", run, self, err);
    return rc;
}

void
relay_close_sockets(struct relay_sockets *sock)
{
    for (size_t i = 0; i < N_LANES; i++)
        net_close(&sock->client[i]);
    for (size_t i = 0; i <= LANE_MUX; i++)
        net_close(&sock->engine[i]);
    for (size_t i = 0; i < CONN_BROADCAST_MAX; i++)
        net_close(&sock->leaf[i]);
    net_close(&sock->iopub_in);
    net_close(&sock->iopub_out);
}

void
relay_fini(struct relay *self)
{
    worker_fini(&self->worker);
    broadcast_free(&self->broadcast);
    roster_fini(&self->roster);
    sender_fini(&self->sender);
    session_free(&self->session);
    poller_fini(&self->poller);
    relay_close_sockets(&self->sock);
    channel_free(&self->inbox, note_drop);
}
