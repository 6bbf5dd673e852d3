/* relay_send.c - to engines, and the answers for those that are not there */
#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "controller/fault_reply.h"
#include "controller/note.h"
#include "controller/relay.h"
#include "controller/taskd.h"
#include "wire/scan.h"

/* An engine is registered as soon as its heart beats; its other connections
 * may be a moment behind.  If they never come, requests must not wait for ever.
 */
#define CONNECT_MS 30000

static struct net_sock *
socket_of(const struct relay *self, const struct peer *peer, enum lane lane)
{
    if (lane != LANE_BROADCAST)
        return self->sock.engine[lane];
    return self->sock.leaf[(size_t)(unsigned)peer->id % self->sock.n_leaves];
}

/* [uuid, client, ...]: the first two go as copies, the rest is shared. */
static int
send_now(struct relay *self, const struct peer *peer, enum lane lane,
         struct msg *m)
{
    struct net_sock *sock = socket_of(self, peer, lane);

    poller_touch(&self->poller, sock);
    return shm_send(self->shm, m->frame[0], sock, m->frame, 2, m, 2, NULL);
}

void
relay_to_engine(struct relay *self, struct peer *peer, enum lane lane,
                struct msg *m)
{
    static const char no_memory[] = "out of memory in the controller";

    // Behind what is held already, or the order would change.
    if (list_empty(&peer->held[lane]) && send_now(self, peer, lane, m) == 0)
        return;
    if (roster_hold(&self->roster, peer, lane, m, self->now + CONNECT_MS) < 0) {
        if (lane == LANE_CONTROL)
            roster_untrack_msg(peer, m);
        relay_answer_fault(self, lane, m, SPAN_LIT(no_memory));
    }
}

void
relay_to_client(struct relay *self, enum lane lane, struct msg *m,
                size_t n_prefix, uint32_t first)
{
    rh_error err;
    int rc;

    if (lane == LANE_CONTROL && span_eq(m->frame[0], TASKD_NAME)) {
        while (note_push_msg(self->task, NOTE_WITHDRAWN, m) == RH_ENOMEM
               && !worker_stopping(&self->worker))
            nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
        return;
    }
    poller_touch(&self->poller, self->sock.client[lane]);
    rc = shm_send(self->shm, SPAN_NONE, self->sock.client[lane], m->frame,
                  n_prefix, m, first, &err);
    if (rc < 0)
        complain(&self->complain, self->now, "a reply is lost: %s",
                 rc == RH_EAGAIN ? "no room to queue it" : err.text);
}

static bool
retry_lane(struct relay *self, struct peer *peer, enum lane lane)
{
    struct list *list = &peer->held[lane];

    while (!list_empty(list)) {
        struct held *held = LIST_ENTRY(list->next, struct held, node);
        char text[400];

        if (send_now(self, peer, lane, held->m) == 0) {
            held_free(&held);
            continue;
        }
        if (self->now < held->give_up_ms)
            return false;
        snprintf(text, sizeof(text),
                 "Engine %d is registered, but has not connected to this "
                 "queue for %d s",
                 peer->id, CONNECT_MS / 1000);
        if (lane == LANE_CONTROL)
            roster_untrack_msg(peer, held->m);
        relay_answer_fault(self, lane, held->m, span_str(text));
        held_free(&held);
    }
    return true;
}

void
relay_retry_held(struct relay *self)
{
    struct list *p = self->roster.waiting.next;

    while (p != &self->roster.waiting) {
        struct peer *peer = LIST_ENTRY(p, struct peer, by_held);

        p = p->next;
        for (enum lane lane = 0; lane < N_LANES; lane++)
            (void)retry_lane(self, peer, lane);
        roster_sent(peer);
    }
}

/* 'm' is [uuid, client, ...] as routed. */
void
relay_answer_fault(struct relay *self, enum lane lane, struct msg *m,
                   struct span text)
{
    const struct span ident[] = {m->frame[1], m->frame[0]};
    struct header_view header = {.msg_id = SPAN_NONE};
    struct buf metadata;
    struct msg *reply = NULL;
    rh_error err;
    int rc;

    if (lane == LANE_BROADCAST) {
        broadcast_on_engine_lost(self->broadcast, m->frame[0], text,
                                 self->wall_us);
        return;
    }
    // Only who has the key is worth an answer.
    rc = session_verify(self->session, m, &err);
    if (rc < 0) {
        complain_refusal(&self->complain, self->now, "not answered", m, rc,
                         &err, self->scheme);
        return;
    }
    buf_init(&metadata);
    buf_add_str(&metadata, "{\"status\": \"error\", \"engine\": ");
    buf_add_json_str(&metadata, m->frame[0]);
    buf_add_char(&metadata, '}');
    rc = scan_header(msg_part(m, MSG_HEADER), &header, &err);
    if (rc == 0 && metadata.failed)
        rc = rh_fail(&err, RH_ENOMEM, "out of memory");
    if (rc == 0)
        rc = fault_reply_new(&self->sender,
                             &(struct fault_reply){
                                 .ident = ident,
                                 .n_ident = 2,
                                 .msg_type = header.msg_type,
                                 .parent = msg_part(m, MSG_HEADER),
                                 .metadata = buf_span(&metadata),
                                 .ename = "EngineError",
                                 .evalue = text,
                                 .wall_us = self->wall_us,
                             },
                             &reply, &err);
    buf_fini(&metadata);
    if (rc < 0 || !reply) {
        complain_quietly(&self->complain, self->now, "not answered: %s",
                         err.text);
        return;
    }
    relay_to_client(self, lane, reply, 0, 0);
    msg_unref(&reply);
}
