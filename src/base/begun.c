/* begun.c - see begun.h
 *
 * The descriptor is opened through /proc, so it needs no name in a file system,
 * and goes away with the last of the two.  The seals keep a peer from cutting
 * the file short under the reader, which would be a SIGBUS.
 */
#include "base/begun.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define NAME "roundhouse-begun"
#define SIZE (BEGUN_SLOTS * sizeof(uint64_t))

struct begun {
    _Atomic uint64_t *slot; // 0: free
    size_t next;
    int fd; // -1: the reader's end
};

static struct begun *
map_page(int fd, int protection)
{
    struct begun *self = mem_zalloc(1, sizeof(*self));
    void *page;

    if (!self)
        return NULL;
    page = mmap(NULL, SIZE, protection, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        mem_free(self);
        return NULL;
    }
    self->slot = page;
    self->fd = -1;
    return self;
}

struct begun *
begun_new(void)
{
    int fd = memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct begun *self = NULL;

    if (fd < 0)
        return NULL;
    if (ftruncate(fd, SIZE) == 0
        && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
               == 0)
        self = map_page(fd, PROT_READ | PROT_WRITE);
    if (self)
        self->fd = fd;
    else
        close(fd);
    return self;
}

int
begun_fd(const struct begun *self)
{
    return self->fd;
}

/* FNV-1a, eight bytes at a time; never 0. */
static uint64_t
hash(struct span id)
{
    const uint64_t prime = 0x100000001b3U;
    uint64_t h = 0xcbf29ce484222325U ^ id.n, word;
    size_t i = 0;

    for (; id.n - i >= 8; i += 8) {
        memcpy(&word, id.p + i, 8);
        h = (h ^ word) * prime;
        h ^= h >> 32;
    }
    for (; i < id.n; i++)
        h = (h ^ id.p[i]) * prime;
    h ^= h >> 32;
    return h ? h : 1;
}

void
begun_note(struct begun *self, struct span id)
{
    if (!self)
        return;
    // Before whatever the caller does next.
    atomic_store(&self->slot[self->next++ % BEGUN_SLOTS], hash(id));
}

struct begun *
begun_of(pid_t pid, int fd)
{
    char path[64], target[64];
    struct begun *self = NULL;
    struct stat st;
    ssize_t n;

    // Looked at before it is opened: opening some files does things.
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
    n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return NULL;
    target[n] = '\0';
    if (strncmp(target, "/memfd:" NAME, sizeof("/memfd:" NAME) - 1) != 0)
        return NULL;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && st.st_size == SIZE
        && (fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK))
        self = map_page(fd, PROT_READ);
    close(fd);
    return self;
}

bool
begun_has(const struct begun *self, struct span id)
{
    const uint64_t h = hash(id);

    for (size_t i = 0; i < BEGUN_SLOTS; i++)
        if (atomic_load_explicit(&self->slot[i], memory_order_relaxed) == h)
            return true;
    return false;
}

void
begun_free(struct begun **self_p)
{
    struct begun *self = *self_p;

    if (!self)
        return;
    (void)munmap((void *)(uintptr_t)self->slot, SIZE);
    if (self->fd >= 0)
        close(self->fd);
    mem_free(self);
    *self_p = NULL;
}
