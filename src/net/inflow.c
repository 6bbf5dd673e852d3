/* inflow.c - see inflow.h */
#include "net/inflow.h"

#include "base/mem.h"
#include "wire/msg_build.h"

#define FRAMES_KEEP 1024 // places for frames that outlive their message

void
inflow_init(struct inflow *self, uint32_t max_frames, int64_t max_size)
{
    memset(self, 0, sizeof(*self));
    self->max_frames = max_frames;
    self->max_size = max_size;
}

static void
forget_frames(struct inflow *self)
{
    for (size_t i = 1; i <= self->n; i++)
        msg_unref(&self->owner[i]);
    self->n = 0;
    if (self->cap > FRAMES_KEEP) {
        mem_free(self->frame);
        mem_free(self->owner);
        self->frame = NULL;
        self->owner = NULL;
        self->cap = 0;
    }
}

void
inflow_reset(struct inflow *self)
{
    forget_frames(self);
    msg_unref(&self->bulk);
    buf_fini(&self->rest);
    self->greeted = self->ready = self->skipping = false;
}

void
inflow_fini(struct inflow *self)
{
    inflow_reset(self);
    mem_free(self->frame);
    mem_free(self->owner);
}

uint8_t *
inflow_room(struct inflow *self, uint8_t *scratch, size_t *n)
{
    if (self->bulk) {
        *n = self->bulk_left;
        return self->bulk_at;
    }
    // Never full: what rests is less than a header and INFLOW_BULK.
    if (self->rest.n)
        memcpy(scratch, self->rest.p, self->rest.n);
    *n = INFLOW_SCRATCH - self->rest.n;
    return scratch + self->rest.n;
}

/* ---- the message that has begun --------------------------------------- */

static int
grow(struct inflow *self)
{
    size_t cap = self->cap ? 2 * self->cap : 16;
    struct span *frame = mem_resize(self->frame, cap, sizeof(*frame));
    struct msg **owner;

    if (!frame)
        return RH_ENOMEM;
    self->frame = frame;
    owner = mem_resize(self->owner, cap, sizeof(struct msg *));
    if (!owner)
        return RH_ENOMEM;
    self->owner = owner;
    self->cap = cap;
    return 0;
}

/* Give up the message, and ignore what is still to come of it. */
static void
drop(struct inflow *self, int code, bool more, const struct inflow_port *port)
{
    forget_frames(self);
    self->skipping = more;
    port->dropped(port->ctx, code);
}

/* One frame; takes over the reference to 'owner'. */
static void
add_frame(struct inflow *self, struct span frame, struct msg *owner, bool more,
          const struct inflow_port *port)
{
    if (self->skipping) {
        self->skipping = more;
        msg_unref(&owner);
        return;
    }
    if (self->n == self->max_frames
        || (self->n + 1 >= self->cap && grow(self) < 0)) {
        msg_unref(&owner);
        drop(self, self->n == self->max_frames ? RH_ELIMIT : RH_ENOMEM, more,
             port);
        return;
    }
    self->frame[++self->n] = frame;
    self->owner[self->n] = owner;
    if (more)
        return;
    port->message(port->ctx, self->frame, self->owner, self->n);
    forget_frames(self);
}

/* The scratch area is going to be used again: save the frames in it. */
static void
save_frames(struct inflow *self, const struct inflow_port *port)
{
    size_t first = self->n + 1, n;
    struct msg *saved;

    // Those in scratch are the last ones: all before were saved or bulk.
    while (first > 1 && !self->owner[first - 1])
        first--;
    n = self->n + 1 - first;
    if (n == 0)
        return;
    saved = msg_new(self->frame + first, n);
    if (!saved) {
        drop(self, RH_ENOMEM, true, port);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        self->frame[first + i] = saved->frame[i];
        self->owner[first + i] = msg_ref(saved);
    }
    msg_unref(&saved);
}

/* ---- large frames ----------------------------------------------------- */

static int
begin_bulk(struct inflow *self, const struct zmtp_frame *f, const uint8_t *p,
           size_t n, rh_error *err)
{
    struct msg *m = f->size < SIZE_MAX / 4
                        ? msg_build(1, 0, (size_t)f->size, &self->bulk_at)
                        : NULL;

    if (!m)
        return rh_fail(err, RH_ENOMEM, "no memory for a frame of %llu bytes",
                       (unsigned long long)f->size);
    m->frame[0] = span_of(self->bulk_at, (size_t)f->size);
    memcpy(self->bulk_at, p, n);
    self->bulk = m;
    self->bulk_at += n;
    self->bulk_left = (size_t)f->size - n;
    self->bulk_more = f->flags & ZMTP_MORE;
    return 0;
}

static void
take_bulk(struct inflow *self, size_t n, const struct inflow_port *port)
{
    struct msg *bulk = self->bulk;

    self->bulk_at += n;
    self->bulk_left -= n;
    if (self->bulk_left)
        return;
    self->bulk = NULL;
    add_frame(self, bulk->frame[0], bulk, self->bulk_more, port);
}

/* ---- frames ----------------------------------------------------------- */

static int
take_command(struct inflow *self, struct span body,
             const struct inflow_port *port, rh_error *err)
{
    struct span context;
    int rc = 0;

    if (!self->ready) {
        rc = port->ready(port->ctx, body, err);
        self->ready = rc == 0;
    } else if (zmtp_is_ping(body, &context)) {
        port->ping(port->ctx, context);
    }
    return rc;
}

/* The next frame at p, of which '*used' bytes were taken: all, the beginning of
 * a large one, or none and RH_EAGAIN because more has to come.
 */
static int
next_frame(struct inflow *self, const uint8_t *p, size_t n,
           const struct inflow_port *port, size_t *used, rh_error *err)
{
    struct zmtp_frame f;
    int rc = zmtp_get_header(p, n, &f, err);

    *used = 0;
    if (rc < 0)
        return rc;
    if (!self->ready && !(f.flags & ZMTP_COMMAND))
        return rh_fail(err, RH_EPROTO, "it sends messages before READY");
    if (self->max_size && f.size > (uint64_t)self->max_size)
        return rh_fail(err, RH_ELIMIT, "frame of %llu bytes, allowed %lld",
                       (unsigned long long)f.size, (long long)self->max_size);
    p += f.n_header;
    n -= f.n_header;
    if (f.size > n && f.size > INFLOW_BULK) {
        *used = f.n_header + n;
        return begin_bulk(self, &f, p, n, err);
    }
    if (f.size > n)
        return RH_EAGAIN;
    *used = f.n_header + (size_t)f.size;
    if (f.flags & ZMTP_COMMAND)
        return take_command(self, span_of(p, (size_t)f.size), port, err);
    add_frame(self, span_of(p, (size_t)f.size), NULL, f.flags & ZMTP_MORE,
              port);
    return 0;
}

static int
take_frames(struct inflow *self, const uint8_t *p, size_t n,
            const struct inflow_port *port, rh_error *err)
{
    size_t used;
    int rc = 0;

    if (!self->greeted) {
        rc = zmtp_check_greeting(p, n, err);
        if (rc == 0) {
            self->greeted = true;
            p += ZMTP_GREETING;
            n -= ZMTP_GREETING;
        }
    }
    while (rc == 0 && n) {
        rc = next_frame(self, p, n, port, &used, err);
        p += used;
        n -= used;
    }
    if (rc < 0 && rc != RH_EAGAIN)
        return rc;
    save_frames(self, port);
    if (n == 0) {
        buf_fini(&self->rest);
        return 0;
    }
    // 'p' is not inside 'rest', but in scratch.
    buf_clear(&self->rest);
    buf_add(&self->rest, p, n);
    return self->rest.failed
               ? rh_fail(err, RH_ENOMEM, "no memory for half a frame")
               : 0;
}

int
inflow_take(struct inflow *self, uint8_t *scratch, size_t n,
            const struct inflow_port *port, rh_error *err)
{
    if (self->bulk) {
        take_bulk(self, n, port);
        return 0;
    }
    return take_frames(self, scratch, self->rest.n + n, port, err);
}
