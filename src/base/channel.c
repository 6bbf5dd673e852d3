/* channel.c - two arrays, swapped under a mutex, and an eventfd
 *
 * Producers fill 'in'; the consumer owns 'out'.  channel_take clears the
 * eventfd before it swaps: a push that comes between the two rings again, so a
 * wake-up may be needless but is never lost.
 */
#include "base/channel.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "roundhouse/error.h"

#define KEEP_CAP 8192 // what a burst grew beyond this is given back

struct lane {
    void **v;
    size_t n, cap;
};

struct channel {
    pthread_mutex_t lock; // guards 'in'
    struct lane in;
    struct lane out; // the consumer's
    int fd;
};

int
channel_new(struct channel **out)
{
    struct channel *self = mem_zalloc(1, sizeof(*self));

    if (!self)
        return RH_ENOMEM;
    self->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->fd < 0) {
        mem_free(self);
        return RH_EIO;
    }
    pthread_mutex_init(&self->lock, NULL);
    *out = self;
    return 0;
}

void
channel_free(struct channel **self_p, void (*drop)(void *entry))
{
    struct channel *self = *self_p;

    if (!self)
        return;
    *self_p = NULL;
    for (size_t i = 0; drop && i < self->in.n; i++)
        drop(self->in.v[i]);
    mem_free(self->in.v);
    mem_free(self->out.v);
    close(self->fd);
    pthread_mutex_destroy(&self->lock);
    mem_free(self);
}

int
channel_fd(const struct channel *self)
{
    return self->fd;
}

static int
append(struct lane *lane, void *entry)
{
    if (lane->n == lane->cap) {
        size_t cap = lane->cap ? lane->cap * 2 : 64;
        void **v = mem_resize(lane->v, cap, sizeof(*v));

        if (!v)
            return RH_ENOMEM;
        lane->v = v;
        lane->cap = cap;
    }
    lane->v[lane->n++] = entry;
    return 0;
}

static void
ring(int fd)
{
    uint64_t one = 1;

    // EAGAIN means the counter is full, that is: readable anyway.
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

int
channel_push(struct channel *self, void *entry)
{
    int rc, fd = self->fd;
    size_t n;

    pthread_mutex_lock(&self->lock);
    rc = append(&self->in, entry);
    n = self->in.n;
    pthread_mutex_unlock(&self->lock);
    // Outside the lock, or the woken consumer would at once wait for us.
    if (rc == 0 && n == 1)
        ring(fd);
    return rc;
}

size_t
channel_take(struct channel *self, void ***out)
{
    struct lane swap = self->out;
    uint64_t count;

    if (swap.cap > KEEP_CAP) {
        mem_free(swap.v);
        swap = (struct lane){0};
    }
    swap.n = 0;
    while (read(self->fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&self->lock);
    self->out = self->in;
    self->in = swap;
    pthread_mutex_unlock(&self->lock);
    *out = self->out.v;
    return self->out.n;
}

size_t
channel_size(struct channel *self)
{
    size_t n;

    pthread_mutex_lock(&self->lock);
    n = self->in.n;
    pthread_mutex_unlock(&self->lock);
    return n;
}
