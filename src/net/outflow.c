/* outflow.c - see outflow.h
 *
 * A message is one block: struct, pieces, bytes.  Its pieces are runs of copied
 * bytes (headers and small frames) and, between them, referenced frames.
 */
#include "net/outflow.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/mem.h"

/* From this size on a frame is referenced, which costs two more pieces. */
#define SHARE_MIN 4096
#define N_IOV 128

struct outmsg {
    struct outmsg *next;
    struct msg *owner; // of the referenced frames, or NULL
    size_t size, sent; // bytes
    size_t n_pieces;
    size_t at, skip;      // piece[at] is next, without 'skip' bytes
    struct iovec piece[]; // then the copied bytes
};

void
outflow_init(struct outflow *self)
{
    *self = (struct outflow){.tail = &self->head};
}

static void
drop_head(struct outflow *self)
{
    struct outmsg *o = self->head;

    self->head = o->next;
    if (!self->head)
        self->tail = &self->head;
    self->n_bytes -= o->size - o->sent;
    msg_unref(&o->owner);
    mem_free(o);
}

void
outflow_fini(struct outflow *self)
{
    while (self->head)
        drop_head(self);
}

static void
append(struct outflow *self, struct outmsg *o)
{
    *self->tail = o;
    self->tail = &o->next;
    self->n_bytes += o->size;
}

static struct outmsg *
outmsg_new(size_t n_pieces, size_t n_bytes, uint8_t **bytes)
{
    size_t head = sizeof(struct outmsg) + n_pieces * sizeof(struct iovec);
    struct outmsg *self = mem_alloc(head + n_bytes);

    if (!self)
        return NULL;
    memset(self, 0, sizeof(*self));
    *bytes = (uint8_t *)self + head;
    return self;
}

static void
add_piece(struct outmsg *self, const uint8_t *p, size_t n)
{
    // Only ever read: the cast takes nothing away.
    union {
        const uint8_t *in;
        void *out;
    } base = {p};

    self->piece[self->n_pieces++] =
        (struct iovec){.iov_base = base.out, .iov_len = n};
    self->size += n;
}

/* Frames of a prefix and a message as one sequence. */
struct sequence {
    const struct span *prefix;
    size_t n_prefix, n;
    const struct msg *m;
    uint32_t first;
};

static struct span
frame_at(const struct sequence *s, size_t i)
{
    return i < s->n_prefix ? s->prefix[i]
                           : s->m->frame[s->first + (i - s->n_prefix)];
}

static bool
is_shared(const struct sequence *s, size_t i)
{
    return i >= s->n_prefix && frame_at(s, i).n >= SHARE_MIN;
}

static void
fill(struct outmsg *self, const struct sequence *s, uint8_t *bytes)
{
    uint8_t *run = bytes;

    for (size_t i = 0; i < s->n; i++) {
        struct span f = frame_at(s, i);

        bytes += zmtp_put_header(bytes, i + 1 < s->n ? ZMTP_MORE : 0, f.n);
        if (is_shared(s, i)) {
            add_piece(self, run, (size_t)(bytes - run));
            add_piece(self, f.p, f.n);
            run = bytes;
        } else if (f.n) {
            memcpy(bytes, f.p, f.n);
            bytes += f.n;
        }
    }
    if (bytes > run)
        add_piece(self, run, (size_t)(bytes - run));
}

int
outflow_add(struct outflow *self, const struct span *prefix, size_t n_prefix,
            struct msg *m, uint32_t first)
{
    struct sequence s = {.prefix = prefix,
                         .n_prefix = n_prefix,
                         .n = n_prefix + (m && m->n > first ? m->n - first : 0),
                         .m = m,
                         .first = first};
    size_t n_bytes = 0, n_shared = 0;
    struct outmsg *o;
    uint8_t *bytes;

    for (size_t i = 0; i < s.n; i++) {
        size_t n = frame_at(&s, i).n;
        bool shared = is_shared(&s, i);

        n_bytes += ZMTP_HEADER_MAX + (shared ? 0 : n);
        n_shared += shared;
    }
    if (s.n == 0)
        return 0; // a message has at least one frame
    o = outmsg_new(2 * n_shared + 1, n_bytes, &bytes);
    if (!o)
        return RH_ENOMEM;
    fill(o, &s, bytes);
    if (n_shared)
        o->owner = msg_ref(m);
    append(self, o);
    return 0;
}

int
outflow_add_raw(struct outflow *self, struct span raw)
{
    uint8_t *bytes;
    struct outmsg *o = outmsg_new(1, raw.n, &bytes);

    if (!o)
        return RH_ENOMEM;
    memcpy(bytes, raw.p, raw.n);
    add_piece(o, bytes, raw.n);
    append(self, o);
    return 0;
}

/* ---- writing ---------------------------------------------------------- */

/* Pieces that are still to be written, of as many messages as fit. */
static size_t
gather(const struct outflow *self, struct iovec *iov)
{
    size_t n = 0;

    for (const struct outmsg *o = self->head; o && n < N_IOV; o = o->next)
        for (size_t i = o->at; i < o->n_pieces && n < N_IOV; i++) {
            size_t skip = i == o->at ? o->skip : 0;

            iov[n++] = (struct iovec){
                .iov_base = (uint8_t *)o->piece[i].iov_base + skip,
                .iov_len = o->piece[i].iov_len - skip,
            };
        }
    return n;
}

static void
advance(struct outflow *self, size_t n)
{
    while (n) {
        struct outmsg *o = self->head;
        size_t left = o->size - o->sent;

        if (n < left) {
            o->sent += n;
            self->n_bytes -= n;
            o->skip += n;
            while (o->skip >= o->piece[o->at].iov_len)
                o->skip -= o->piece[o->at++].iov_len;
            return;
        }
        n -= left;
        drop_head(self);
    }
}

int
outflow_write(struct outflow *self, int fd)
{
    struct iovec iov[N_IOV];

    while (self->head) {
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = gather(self, iov)};
        ssize_t n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n >= 0)
            advance(self, (size_t)n);
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return RH_EAGAIN;
        else if (errno != EINTR)
            return errno == ENOBUFS || errno == ENOMEM ? RH_EAGAIN : RH_ENET;
    }
    return 0;
}

void
outflow_rewind(struct outflow *self)
{
    if (!self->head)
        return;
    self->n_bytes += self->head->sent;
    self->head->sent = self->head->at = self->head->skip = 0;
}
