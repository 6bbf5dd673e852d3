/* msg.c - one multipart message
 *
 * A message made here is a single block of memory:
 *
 *     struct built | frame[n] | owner[max_owners] | bytes
 *
 * so that it costs one malloc and one free however many frames it has.
 */
#include "wire/msg.h"

#include "base/mem.h"
#include "wire/msg_build.h"
#include "wire/session.h"

/* Identities are at most 255 bytes in ZeroMQ; topics are a little longer.  The
 * dicts hold source code and database records, not payload.
 */
const struct msg_limits msg_limits_default = {
    .max_idents = 32,
    .max_buffers = 1u << 16,
    .max_ident = 1024,
    .max_dict = 256u << 20,
};

static const char *const part_name[] = {
    "delimiter", "signature", "header", "parent header", "metadata", "content"};

struct built {
    struct msg m;
    size_t n_owners;
    struct msg **owner;
};

static void
destroy_built(struct msg *m)
{
    struct built *self = (struct built *)(void *)m;

    for (size_t i = 0; i < self->n_owners; i++)
        msg_unref(&self->owner[i]);
    mem_free(self);
}

struct msg *
msg_build(size_t n, size_t max_owners, size_t n_bytes, uint8_t **bytes)
{
    const size_t limit = SIZE_MAX / 4;
    size_t frames_at = sizeof(struct built), owners_at, bytes_at;
    struct built *self;

    if (n > UINT32_MAX - 1 || n > limit / sizeof(struct span)
        || max_owners > limit / sizeof(struct msg *)
        || n_bytes > limit - frames_at)
        return NULL;
    owners_at = frames_at + n * sizeof(struct span);
    bytes_at = owners_at + max_owners * sizeof(struct msg *);
    self = mem_alloc(bytes_at + n_bytes);
    if (!self)
        return NULL;
    atomic_init(&self->m.refs, 1);
    self->m.n = (uint32_t)n;
    self->m.i_delim = MSG_NO_DELIM;
    self->m.frame = (struct span *)(void *)((char *)self + frames_at);
    self->m.destroy = destroy_built;
    self->n_owners = 0;
    self->owner = (struct msg **)(void *)((char *)self + owners_at);
    for (size_t i = 0; i < n; i++)
        self->m.frame[i] = SPAN_NONE;
    *bytes = (uint8_t *)self + bytes_at;
    return &self->m;
}

void
msg_own(struct msg *m, struct msg *owner)
{
    struct built *self = (struct built *)(void *)m;

    if (self->n_owners && self->owner[self->n_owners - 1] == owner)
        return;
    self->owner[self->n_owners++] = msg_ref(owner);
}

struct msg *
msg_new(const struct span *frame, size_t n)
{
    return msg_gather(frame, NULL, n);
}

struct msg *
msg_gather(const struct span *frame, struct msg *const *owner, size_t n)
{
    size_t n_bytes = 0, n_owners = 0;
    struct msg *self;
    uint8_t *p;

    for (size_t i = 0; i < n; i++) {
        if (owner && owner[i])
            n_owners++;
        else if (frame[i].n > SIZE_MAX / 4 - n_bytes)
            return NULL;
        else
            n_bytes += frame[i].n;
    }
    self = msg_build(n, n_owners, n_bytes, &p);
    if (!self)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (owner && owner[i]) {
            self->frame[i] = frame[i];
            msg_own(self, owner[i]);
        } else {
            self->frame[i] = msg_put(&p, frame[i]);
        }
    }
    return self;
}

struct msg *
msg_ref(struct msg *self)
{
    atomic_fetch_add_explicit(&self->refs, 1, memory_order_relaxed);
    return self;
}

void
msg_unref(struct msg **self_p)
{
    struct msg *self = *self_p;

    *self_p = NULL;
    // Release what this thread did; acquire what the others did before dying.
    if (self
        && atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel) == 1)
        self->destroy(self);
}

static bool
is_delim(struct span s)
{
    return s.n == sizeof(MSG_DELIM) - 1
           && memcmp(s.p, MSG_DELIM, sizeof(MSG_DELIM) - 1) == 0;
}

/* Index of the delimiter, or a negative code. */
static int64_t
find_delim(const struct msg *self, const struct msg_limits *limits,
           rh_error *err)
{
    for (uint32_t i = 0; i < self->n; i++) {
        if (is_delim(self->frame[i]))
            return i;
        if (i == limits->max_idents)
            return rh_fail(err, RH_ELIMIT, "more than %u routing frames", i);
        if (self->frame[i].n > limits->max_ident)
            return rh_fail(err, RH_ELIMIT,
                           "routing frame %u: %zu bytes, limit %zu", i,
                           self->frame[i].n, limits->max_ident);
    }
    return rh_fail(err, RH_EPROTO, "no delimiter in %u frames", self->n);
}

int
msg_parse(struct msg *self, const struct msg_limits *limits, rh_error *err)
{
    int64_t delim = find_delim(self, limits, err);
    uint32_t after;

    if (delim < 0)
        return (int)delim;
    after = self->n - (uint32_t)delim - 1; // delim < n: cannot wrap
    if (after < MSG_CONTENT)
        return rh_fail(err, RH_EPROTO, "no %s frame: only %u after the %s",
                       part_name[after + 1], after, part_name[0]);
    if (after - MSG_CONTENT > limits->max_buffers)
        return rh_fail(err, RH_ELIMIT, "%u buffers, limit %u",
                       after - MSG_CONTENT, limits->max_buffers);
    if (self->frame[delim + MSG_SIGNATURE].n > SESSION_HEX_MAX)
        return rh_fail(err, RH_ELIMIT, "signature: %zu bytes, limit %d",
                       self->frame[delim + MSG_SIGNATURE].n, SESSION_HEX_MAX);
    for (int i = MSG_HEADER; i <= MSG_CONTENT; i++)
        if (self->frame[delim + i].n > limits->max_dict)
            return rh_fail(err, RH_ELIMIT, "%s: %zu bytes, limit %zu",
                           part_name[i], self->frame[delim + i].n,
                           limits->max_dict);
    self->i_delim = (uint32_t)delim;
    return 0;
}
