/* shm_segment.c - files that are mapped
 *
 * Who maps a file holds a shared lock on it (flock), and it is the mapping
 * that holds the lock: the descriptor is closed at once, and the kernel lets
 * go when the last mapping ends, however the process does.
 *
 * Only processes of this user get here, who could do this one any harm they
 * liked; so a file that is cut short while it is mapped is not defended
 * against, but sizes, owner and kind are checked when it is opened.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/shm_private.h"

#define LOCK_TRIES 1000 // milliseconds

static struct segment *
segment_of(struct msg *base)
{
    return (struct segment *)(void *)base;
}

static void
unmap(struct segment *seg)
{
    union {
        const uint8_t *in;
        void *out;
    } data = {seg->frame.p};

    if (!seg->frame.p)
        return;
    if (seg->in_heap)
        mem_free(data.out);
    else
        munmap(data.out, seg->frame.n);
}

static void
segment_destroy(struct msg *base)
{
    struct segment *seg = segment_of(base);
    struct shm *shm = seg->shm;

    // In a child of fork the mutex may be held for ever.
    if (seg->name[0] && getpid() == shm->pid) {
        pthread_mutex_lock(&shm->lock);
        list_remove(&seg->node);
        pthread_mutex_unlock(&shm->lock);
        // Before the lock goes: a file without names and locks is free.
        if (shm->is_host)
            unlinkat(shm->in, seg->name, 0);
    }
    unmap(seg);
    mem_free(seg);
    shm_unref(shm);
}

static int
lock_shared(int fd)
{
    const struct timespec pause = {.tv_nsec = 1000 * 1000};

    // The owner looks whether it is free; that takes him microseconds.
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_SH | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -1;
        nanosleep(&pause, NULL);
    }
    return -1;
}

/* When there are too many mappings for one more. */
static int
read_all(struct segment *seg, int fd, size_t size)
{
    uint8_t *p = mem_alloc(size);
    size_t at = 0;

    while (p && at < size) {
        ssize_t n = pread(fd, p + at, size - at, (off_t)at);

        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            mem_free(p);
            p = NULL;
        }
        at += n > 0 ? (size_t)n : 0;
    }
    if (!p)
        return RH_ENOMEM;
    seg->in_heap = true;
    seg->frame = span_of(p, size);
    return 0;
}

static int
check(int fd, const struct ticket *t, rh_error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid())
        return rh_fail(err, RH_EPROTO, "shared memory %s is not a file of ours",
                       t->name);
    if ((uint64_t)st.st_size < t->size)
        return rh_fail(err, RH_EPROTO,
                       "shared memory %s has %lld bytes, not the %llu of its "
                       "ticket",
                       t->name, (long long)st.st_size,
                       (unsigned long long)t->size);
    if (lock_shared(fd) < 0)
        return rh_fail(err, RH_EPROTO, "shared memory %s is locked", t->name);
    return 0;
}

static int
map(struct segment *seg, int fd, const struct ticket *t, rh_error *err)
{
    size_t size = (size_t)t->size;
    int rc = check(fd, t, err);
    void *p;

    if (rc < 0)
        return rc;
    p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED)
        seg->frame = span_of(p, size);
    else if (read_all(seg, fd, size) < 0)
        return rh_fail(err, RH_ENOMEM, "mapping %zu bytes of shared memory",
                       size);
    return 0;
}

int
segment_open(struct shm *self, int at, const struct ticket *ticket,
             struct segment **out, rh_error *err)
{
    struct segment *seg = mem_zalloc(1, sizeof(*seg));
    int fd, rc;

    if (!seg)
        return rh_fail(err, RH_ENOMEM, "mapping shared memory");
    fd = openat(at, ticket->name,
                O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    rc = fd < 0 ? rh_fail(err, RH_ENOENT, "shared memory %s is gone: %s",
                          ticket->name, strerror(errno))
                : map(seg, fd, ticket, err);
    if (fd >= 0)
        close(fd);
    if (rc < 0) {
        mem_free(seg);
        return rc;
    }
    seg->base = (struct msg){
        .n = 1,
        .i_delim = MSG_NO_DELIM,
        .frame = &seg->frame,
        .destroy = segment_destroy,
    };
    atomic_init(&seg->base.refs, 1);
    atomic_fetch_add(&self->refs, 1);
    seg->shm = self;
    list_init(&seg->node);
    *out = seg;
    return 0;
}

void
segment_publish(struct segment *seg, const char *name)
{
    memcpy(seg->name, name, strlen(name) + 1);
    pthread_mutex_lock(&seg->shm->lock);
    list_prepend(&seg->shm->live, &seg->node);
    pthread_mutex_unlock(&seg->shm->lock);
}

struct segment *
segment_find(struct shm *self, struct span bytes)
{
    for (struct list *i = self->live.next; i != &self->live; i = i->next) {
        struct segment *seg = LIST_ENTRY(i, struct segment, node);

        if (seg->frame.p == bytes.p && seg->frame.n == bytes.n)
            return seg;
    }
    return NULL;
}
