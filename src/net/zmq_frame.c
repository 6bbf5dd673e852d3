/* zmq_frame.c - messages whose bytes live in ZeroMQ's buffers
 *
 * A received message is one allocation: struct msg, the zmq_msg_t of every
 * frame, the spans.  Small frames live inside their zmq_msg_t, so spans are
 * taken only after the frames have reached their final place.
 *
 * zmq_msg_copy marks its *source* as shared on first use, which two threads
 * must not do at once.  So the marking is done for all frames together under
 * one lock before the first share; from then on the source is only read and
 * counts are atomic.
 */
#include <errno.h>
#include <pthread.h>

#include "base/mem.h"
#include "net/zmq_sock.h"

/* Below this, a copy is cheaper than a reference count and a callback. */
#define SHARE_MIN 8192

struct net_msg {
    struct msg base;
    atomic_bool prepared; // frames are marked as shared
    zmq_msg_t raw[];      // then the spans
};

static pthread_mutex_t prepare_lock = PTHREAD_MUTEX_INITIALIZER;

static void
net_msg_destroy(struct msg *base)
{
    struct net_msg *self = (struct net_msg *)base;

    for (uint32_t i = 0; i < base->n; i++)
        zmq_msg_close(&self->raw[i]);
    mem_free(self);
}

struct msg *
net_msg_new(zmq_msg_t *raw, size_t n)
{
    // n is at most NET_FRAMES_MAX: the product cannot overflow.
    size_t size =
        sizeof(struct net_msg) + n * (sizeof(zmq_msg_t) + sizeof(struct span));
    struct net_msg *self = mem_alloc(size);

    if (!self)
        return NULL;
    atomic_init(&self->base.refs, 1);
    atomic_init(&self->prepared, false);
    self->base.n = (uint32_t)n;
    self->base.i_delim = MSG_NO_DELIM;
    self->base.frame = (struct span *)(void *)&self->raw[n];
    self->base.destroy = net_msg_destroy;
    for (size_t i = 0; i < n; i++) {
        zmq_msg_init(&self->raw[i]);
        zmq_msg_move(&self->raw[i], &raw[i]);
        self->base.frame[i] =
            span_of(zmq_msg_data(&self->raw[i]), zmq_msg_size(&self->raw[i]));
    }
    return &self->base;
}

void
net_msg_prepare(struct msg *m)
{
    struct net_msg *self = (struct net_msg *)m;
    zmq_msg_t other;

    if (m->destroy != net_msg_destroy
        || atomic_load_explicit(&self->prepared, memory_order_acquire))
        return;
    pthread_mutex_lock(&prepare_lock);
    if (!atomic_load_explicit(&self->prepared, memory_order_relaxed)) {
        for (uint32_t i = 0; i < m->n; i++) {
            zmq_msg_init(&other);
            zmq_msg_copy(&other, &self->raw[i]);
            zmq_msg_close(&other);
        }
        atomic_store_explicit(&self->prepared, true, memory_order_release);
    }
    pthread_mutex_unlock(&prepare_lock);
}

static void
unref(void *data, void *hint)
{
    struct msg *m = hint;

    (void)data;
    msg_unref(&m);
}

int
net_msg_share(struct msg *m, uint32_t i, zmq_msg_t *out)
{
    struct span f = m->frame[i];

    if (m->destroy == net_msg_destroy) {
        zmq_msg_init(out);
        zmq_msg_copy(out, &((struct net_msg *)m)->raw[i]);
        return 0;
    }
    if (f.n >= SHARE_MIN) {
        // ZeroMQ only reads the bytes: the cast takes nothing away.
        union {
            const uint8_t *in;
            void *out;
        } data = {f.p};

        if (zmq_msg_init_data(out, data.out, f.n, unref, m) < 0)
            return RH_ENOMEM;
        msg_ref(m);
        return 0;
    }
    if (zmq_msg_init_size(out, f.n) < 0)
        return RH_ENOMEM;
    if (f.n)
        memcpy(zmq_msg_data(out), f.p, f.n);
    return 0;
}
