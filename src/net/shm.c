/* shm.c - messages with tickets: taking and passing on
 *
 * The controller maps what it takes and never reads it: to whoever has a
 * mailbox a file goes on as another name of itself, to everybody else as the
 * mapped bytes.  So the hub's records, retries and resubmitted tasks, remote
 * and foreign peers need to know nothing of all this.
 *
 * In the controller a file has a name in 'in' until its segment is destroyed,
 * from which further names are made; a receiver removes the name he was given
 * when he has opened it.
 */
#include "net/shm.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/shm_private.h"
#include "wire/scan.h"

/* A message being made from another one with some frames replaced. */
struct remake {
    struct span *frame;
    struct msg **owner;
};

static int
remake_init(struct remake *self, struct msg *m)
{
    self->frame = mem_zalloc(m->n, sizeof(*self->frame));
    self->owner = mem_zalloc(m->n, sizeof(struct msg *));
    if (!self->frame || !self->owner)
        return RH_ENOMEM;
    for (uint32_t i = 0; i < m->n; i++) {
        self->frame[i] = m->frame[i];
        self->owner[i] = m;
    }
    return 0;
}

static struct msg *
remake_finish(const struct remake *self, const struct msg *m)
{
    struct msg *out = msg_gather(self->frame, self->owner, m->n);

    if (out)
        out->i_delim = m->i_delim;
    return out;
}

static void
remake_fini(struct remake *self)
{
    mem_free(self->frame);
    mem_free(self->owner);
}

// ---------------------------------------------------------------------------
// Taking

static int
take_one(struct shm *self, const struct ticket *ticket, struct segment **out,
         rh_error *err)
{
    int at = self->is_host ? self->in : self->own;
    int rc = segment_open(self, at, ticket, out, err);

    if (rc == 0 && self->is_host)
        segment_publish(*out, ticket->name);
    if (rc == 0 && !self->is_host)
        (void)unlinkat(at, ticket->name, 0);
    return rc;
}

/* Segments are kept in 'taken', which is terminated by NULL. */
static int
take_all(struct shm *self, struct msg *m, struct remake *remake,
         struct msg **taken, rh_error *err)
{
    for (uint32_t i = m->i_delim + MSG_BUFFER0; i < m->n; i++) {
        struct segment *seg;
        struct ticket ticket;
        int rc;

        if (!ticket_read(self, m->frame[i], &ticket))
            continue;
        rc = take_one(self, &ticket, &seg, err);
        if (rc < 0)
            return rc;
        *taken++ = &seg->base;
        remake->frame[i] = seg->frame;
        remake->owner[i] = &seg->base;
    }
    return 0;
}

static int
take(struct shm *self, struct msg **m, rh_error *err)
{
    struct remake remake;
    struct msg **taken, *out = NULL;
    int rc;

    taken = mem_zalloc((size_t)msg_n_buffers(*m) + 1, sizeof(struct msg *));
    rc = remake_init(&remake, *m);
    if (rc == 0 && taken)
        rc = take_all(self, *m, &remake, taken, err);
    if (rc == 0 && taken)
        out = remake_finish(&remake, *m);
    if (rc == 0 && !out)
        rc = rh_fail(err, RH_ENOMEM, "taking a message with %u buffers",
                     msg_n_buffers(*m));
    for (size_t i = 0; taken && taken[i]; i++)
        msg_unref(&taken[i]);
    mem_free(taken);
    remake_fini(&remake);
    if (out) {
        msg_unref(m);
        *m = out;
    }
    return rc;
}

int
shm_take(struct shm *self, struct session *session, struct msg **m,
         rh_error *err)
{
    int rc = 0;

    if (!shm_has_tickets(self, *m))
        return 0;
    if (session)
        rc = session_verify(session, *m, err);
    return rc < 0 ? rc : take(self, m, err);
}

// ---------------------------------------------------------------------------
// Passing on

static bool
has_large(const struct msg *m)
{
    for (uint32_t i = m->i_delim + MSG_BUFFER0; i < m->n; i++)
        if (m->frame[i].n >= SHM_MIN)
            return true;
    return false;
}

static int
pass_one(struct shm *self, struct span peer, struct span bytes,
         uint8_t out[SHM_TICKET_SIZE])
{
    struct ticket ticket = {.size = bytes.n};
    char path[2 * SHM_NAME_SIZE];
    const struct segment *seg;
    int rc = RH_ENOENT;

    pthread_mutex_lock(&self->lock);
    seg = segment_find(self, bytes);
    if (seg) {
        snprintf(ticket.name, sizeof(ticket.name), "m%" PRIu64, self->serial++);
        snprintf(path, sizeof(path), "to-%.*s/%s", (int)peer.n,
                 (const char *)peer.p, ticket.name);
        if (linkat(self->in, seg->name, self->dir, path, 0) == 0)
            rc = 0;
    }
    pthread_mutex_unlock(&self->lock);
    if (rc == 0)
        ticket_write(self, &ticket, out);
    return rc;
}

/* What was passed is not needed any more. */
static void
recall(struct shm *self, struct span peer, const uint8_t *tickets, size_t n)
{
    char path[2 * SHM_NAME_SIZE];
    struct ticket ticket;

    for (size_t i = 0; i < n; i++)
        if (ticket_read(self,
                        span_of(tickets + i * SHM_TICKET_SIZE, SHM_TICKET_SIZE),
                        &ticket)) {
            snprintf(path, sizeof(path), "to-%.*s/%s", (int)peer.n,
                     (const char *)peer.p, ticket.name);
            (void)unlinkat(self->dir, path, 0);
        }
}

/* 'm' with tickets for 'peer', whose number is '*n'; NULL: as it is. */
static struct msg *
pass(struct shm *self, struct span peer, struct msg *m, uint8_t **tickets,
     size_t *n)
{
    uint8_t *v = mem_zalloc(msg_n_buffers(m), SHM_TICKET_SIZE);
    struct remake remake;
    struct msg *out = NULL;
    int rc = remake_init(&remake, m);

    *n = 0;
    for (uint32_t i = m->i_delim + MSG_BUFFER0; v && rc == 0 && i < m->n; i++) {
        uint8_t *raw = v + *n * SHM_TICKET_SIZE;

        if (m->frame[i].n < SHM_MIN
            || pass_one(self, peer, m->frame[i], raw) < 0)
            continue;
        remake.frame[i] = span_of(raw, SHM_TICKET_SIZE);
        remake.owner[i] = NULL;
        (*n)++;
    }
    if (*n && !(out = remake_finish(&remake, m)))
        recall(self, peer, v, *n);
    remake_fini(&remake);
    *tickets = v;
    return out;
}

int
shm_send(struct shm *self, struct span peer, struct net_sock *sock,
         const struct span *prefix, size_t n_prefix, struct msg *m,
         uint32_t first, rh_error *err)
{
    struct header_view parent = {.session = SPAN_NONE};
    uint8_t *tickets = NULL;
    struct msg *passed = NULL;
    size_t n = 0;
    int rc;

    if (self && has_large(m)) {
        if (!peer.n && scan_header(msg_part(m, MSG_PARENT), &parent, NULL) == 0)
            peer = parent.session;
        if (shm_name_is_valid(peer, SHM_PEER_MAX))
            passed = pass(self, peer, m, &tickets, &n);
    }
    rc = net_send(sock, prefix, n_prefix, passed ? passed : m, first, err);
    if (rc < 0 && passed)
        recall(self, peer, tickets, n);
    msg_unref(&passed);
    mem_free(tickets);
    return rc;
}
