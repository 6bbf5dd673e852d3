/* shm_pool.c - the sender's files
 *
 * Most of the cost of a large buffer is the kernel's making of fresh pages, so
 * files are used again: a file whose only name is its own, and that nobody
 * holds a lock on, is on its way to nobody and mapped by nobody.  That is
 * looked at with the exclusive lock in hand, as only holders of a lock and the
 * owner give a file more names.
 *
 * A new file is written by pwrite, which says when there is no room; only a
 * file whose pages exist is written through a mapping.  So a full /dev/shm is
 * an error code and never a SIGBUS.
 *
 * After KEEP_US without use a file loses its own name, and then lives as long
 * as those who use it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/shm_private.h"

#define KEEP_US 10000000
#define KEPT_MAX 2048  // as many as a hub may keep in its records, and more
#define TRIES 8        // files looked at per buffer
#define WASTE_MAX 4    // times the size that is needed
#define RESERVE_PART 4 // this part of /dev/shm stays free

struct kept {
    struct list node;
    size_t size;
    uint8_t *map; // of all of it, once it is used again
    int64_t used_us;
    char name[32];
};

static uint64_t
next_serial(struct shm *self)
{
    uint64_t serial;

    pthread_mutex_lock(&self->lock);
    serial = self->serial++;
    pthread_mutex_unlock(&self->lock);
    return serial;
}

static void
kept_drop(struct shm *self, struct kept *file)
{
    if (file->map)
        munmap(file->map, file->size);
    (void)unlinkat(self->own, file->name, 0);
    mem_free(file);
}

void
pool_drop_all(struct shm *self)
{
    pthread_mutex_lock(&self->lock);
    while (!list_empty(&self->kept)) {
        struct kept *file = LIST_ENTRY(self->kept.next, struct kept, node);

        list_remove(&file->node);
        kept_drop(self, file);
    }
    self->n_kept = 0;
    pthread_mutex_unlock(&self->lock);
}

int64_t
shm_trim(struct shm *self, int64_t now_us)
{
    int64_t due = INT64_MAX;

    if (!self)
        return due;
    pthread_mutex_lock(&self->lock);
    while (!list_empty(&self->kept)) {
        struct kept *file = LIST_ENTRY(self->kept.next, struct kept, node);

        due = file->used_us + KEEP_US;
        if (due > now_us && self->n_kept <= KEPT_MAX)
            break;
        list_remove(&file->node);
        self->n_kept--;
        kept_drop(self, file);
        due = INT64_MAX;
    }
    pthread_mutex_unlock(&self->lock);
    return due;
}

// ---------------------------------------------------------------------------
// Filling

static bool
is_free(const struct shm *self, const struct kept *file)
{
    int fd = openat(self->own, file->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    bool found;

    if (fd < 0)
        return false;
    found = flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0
            && st.st_nlink == 1;
    close(fd); // and the lock
    return found;
}

/* Lock held. */
static struct kept *
find_free(const struct shm *self, size_t n)
{
    struct list *i = self->kept.next;

    for (int k = 0; k < TRIES && i != &self->kept; i = i->next) {
        struct kept *file = LIST_ENTRY(i, struct kept, node);

        if (file->size < n || file->size / WASTE_MAX > n)
            continue;
        if (is_free(self, file))
            return file;
        k++;
    }
    return NULL;
}

/* One that can be used again leaves the list; NULL if there is none. */
static struct kept *
claim(struct shm *self, size_t n)
{
    struct kept *file;

    pthread_mutex_lock(&self->lock);
    file = find_free(self, n);
    if (file) {
        list_remove(&file->node);
        self->n_kept--;
    }
    pthread_mutex_unlock(&self->lock);
    return file;
}

static int
refill(const struct shm *self, struct kept *file, struct span bytes)
{
    if (!file->map) {
        int fd = openat(self->own, file->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        void *p = fd < 0 ? MAP_FAILED
                         : mmap(NULL, file->size, PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_POPULATE, fd, 0);

        if (fd >= 0)
            close(fd);
        if (p == MAP_FAILED)
            return RH_ENOMEM;
        file->map = p;
    }
    memcpy(file->map, bytes.p, bytes.n);
    return 0;
}

static bool
has_room(int fd, size_t n)
{
    struct rlimit limit;
    struct statvfs fs;
    uint64_t free_bytes, all;

    // Beyond this limit write() would raise SIGXFSZ.
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY
        && limit.rlim_cur < n)
        return false;
    if (fstatvfs(fd, &fs) < 0)
        return false;
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    all = (uint64_t)fs.f_blocks * fs.f_frsize;
    return free_bytes > all / RESERVE_PART
           && free_bytes - all / RESERVE_PART > n;
}

static int
write_all(int fd, struct span bytes)
{
    size_t at = 0;

    while (at < bytes.n) {
        ssize_t n = pwrite(fd, bytes.p + at, bytes.n - at, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return RH_EIO;
        at += (size_t)n;
    }
    return 0;
}

static struct kept *
create(struct shm *self, struct span bytes)
{
    struct kept *file = mem_zalloc(1, sizeof(*file));
    int fd, rc;

    if (!file)
        return NULL;
    snprintf(file->name, sizeof(file->name), "s%" PRIu64, next_serial(self));
    file->size = bytes.n;
    fd = openat(self->own, file->name,
                O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        mem_free(file);
        return NULL;
    }
    rc = has_room(fd, bytes.n) ? write_all(fd, bytes) : RH_EAGAIN;
    close(fd);
    if (rc < 0) {
        kept_drop(self, file);
        return NULL;
    }
    return file;
}

/* A file with these bytes that nobody else can get at yet. */
static struct kept *
fill(struct shm *self, struct span bytes)
{
    struct kept *file;

    (void)shm_trim(self, clock_mono_us());
    file = claim(self, bytes.n);
    if (file && refill(self, file, bytes) < 0) {
        kept_drop(self, file);
        file = NULL;
    }
    return file ? file : create(self, bytes);
}

static void
keep(struct shm *self, struct kept *file)
{
    file->used_us = clock_mono_us();
    pthread_mutex_lock(&self->lock);
    list_append(&self->kept, &file->node);
    self->n_kept++;
    pthread_mutex_unlock(&self->lock);
}

// ---------------------------------------------------------------------------
// Sending

/* Give the controller a name for the file 'from'. */
static int
address(struct shm *self, const char *from, struct ticket *ticket)
{
    snprintf(ticket->name, sizeof(ticket->name), "%s.%" PRIu64, self->peer,
             next_serial(self));
    return linkat(self->own, from, self->in, ticket->name, 0) < 0 ? RH_EIO : 0;
}

static int
put_shared(struct shm *self, struct span bytes, struct ticket *ticket)
{
    struct segment *seg;
    char name[SHM_NAME_SIZE] = "";

    pthread_mutex_lock(&self->lock);
    seg = segment_find(self, bytes);
    if (seg)
        memcpy(name, seg->name, sizeof(name));
    pthread_mutex_unlock(&self->lock);
    return name[0] ? address(self, name, ticket) : RH_ENOENT;
}

static int
put_copy(struct shm *self, struct span bytes, struct ticket *ticket)
{
    struct kept *file = fill(self, bytes);
    int rc;

    if (!file)
        return RH_EAGAIN;
    rc = address(self, file->name, ticket);
    keep(self, file);
    return rc;
}

void
shm_put(struct shm *self, struct span *buffer, struct msg **owner, size_t n,
        struct buf *tickets)
{
    size_t n_large = 0;

    for (size_t i = 0; i < n; i++)
        n_large += buffer[i].n >= SHM_MIN;
    // Reserved at once: spans will point into it.
    if (!self || !n_large || n_large > SIZE_MAX / SHM_TICKET_SIZE
        || buf_reserve(tickets, n_large * SHM_TICKET_SIZE) < 0
        || !shm_is_alive(self))
        return;
    for (size_t i = 0; i < n; i++) {
        struct ticket ticket = {.size = buffer[i].n};
        uint8_t raw[SHM_TICKET_SIZE];

        if (buffer[i].n < SHM_MIN
            || (put_shared(self, buffer[i], &ticket) < 0
                && put_copy(self, buffer[i], &ticket) < 0))
            continue;
        ticket_write(self, &ticket, raw);
        buffer[i] = span_of(tickets->p + tickets->n, sizeof(raw));
        buf_add(tickets, raw, sizeof(raw));
        msg_unref(&owner[i]);
    }
}

void
shm_put_back(struct shm *self, const struct buf *tickets)
{
    struct ticket ticket;

    for (size_t at = 0; self && at < tickets->n; at += SHM_TICKET_SIZE)
        if (ticket_read(self, span_of(tickets->p + at, SHM_TICKET_SIZE),
                        &ticket))
            (void)unlinkat(self->in, ticket.name, 0);
}

struct msg *
shm_share(struct shm *self, struct span bytes)
{
    struct ticket ticket = {.size = bytes.n};
    struct segment *seg = NULL;
    struct kept *file;

    if (!self || bytes.n < SHM_MIN || !shm_is_alive(self)
        || !(file = fill(self, bytes)))
        return NULL;
    snprintf(ticket.name, sizeof(ticket.name), "%s", file->name);
    if (segment_open(self, self->own, &ticket, &seg, NULL) == 0)
        segment_publish(seg, file->name);
    keep(self, file);
    return seg ? &seg->base : NULL;
}
