/* shm_dir.c - directories, mailboxes, and who is alive
 *
 *     /dev/shm/roundhouse-<uid>-<token>/     made and locked by the controller
 *         in/                                its mailbox
 *         to-<peer>/                         a peer's, made and locked by it
 *
 * Liveness is a shared lock (flock) on the directory, which the kernel gives
 * up for a process that ends, however it does; no process id is ever looked
 * at.  Whoever gets the exclusive lock knows that the owner is gone.  What is
 * younger than DEAD_MIN_US is left alone, because between making a directory
 * and locking it there is a moment.
 *
 * A message that was sent to the controller outlives its sender: its file has
 * a name in 'in', and is removed only if the sender is gone and the controller
 * has not taken it for ORPHAN_MIN_US.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "net/shm_private.h"
#include "wire/scan.h"

#define ROOT "/dev/shm"
#define PREFIX "roundhouse-%u-"
#define DEAD_MIN_US 2000000
#define ORPHAN_MIN_US 60000000

typedef void on_entry(void *ctx, int at, const char *name);

// ---------------------------------------------------------------------------
// Directories

/* One of ours that nobody else can look into. */
static int
open_dir(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd >= 0
        && (fstat(fd, &st) < 0 || st.st_uid != geteuid()
            || (st.st_mode & 077))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int
open_root(void)
{
    int fd = open(ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct statfs fs;

    if (fd >= 0 && (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int
make_dir(int at, const char *name)
{
    if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
        return -1;
    return open_dir(at, name);
}

/* As its owner; false if somebody has just removed it. */
static bool
lock_dir(int fd)
{
    struct stat st;

    return flock(fd, LOCK_SH | LOCK_NB) == 0 && fstat(fd, &st) == 0
           && st.st_nlink > 0;
}

static void
for_each(int fd, on_entry *fn, void *ctx)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *entry;

    if (!dir) {
        if (copy >= 0)
            close(copy);
        return;
    }
    while ((entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(ctx, fd, entry->d_name);
    closedir(dir);
}

static int64_t
age_us(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return 0;
    return clock_wall_us()
           - ((int64_t)st.st_ctim.tv_sec * 1000000 + st.st_ctim.tv_nsec / 1000);
}

static void
remove_file(void *ctx, int at, const char *name)
{
    (void)ctx;
    (void)unlinkat(at, name, 0);
}

static void
remove_any(void *ctx, int at, const char *name)
{
    int fd = open_dir(at, name);

    (void)ctx;
    if (fd < 0) {
        (void)unlinkat(at, name, 0);
        return;
    }
    for_each(fd, remove_file, NULL);
    close(fd);
    (void)unlinkat(at, name, AT_REMOVEDIR);
}

/* With all that is in it, two levels deep. */
static void
remove_tree(int at, const char *name)
{
    int fd = open_dir(at, name);

    if (fd < 0)
        return;
    for_each(fd, remove_any, NULL);
    close(fd);
    (void)unlinkat(at, name, AT_REMOVEDIR);
}

// ---------------------------------------------------------------------------
// Who is alive

/* Through a descriptor that holds no lock itself. */
static bool
is_locked(int fd)
{
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return true;
    flock(fd, LOCK_UN);
    return false;
}

bool
shm_is_alive(const struct shm *self)
{
    return !atomic_load(&self->closed)
           && (self->is_host || is_locked(self->dir));
}

static void
remove_if_dead(int at, const char *name, int64_t min_us)
{
    int fd = open_dir(at, name);
    bool dead = fd >= 0 && age_us(fd) >= min_us && !is_locked(fd);

    if (fd >= 0)
        close(fd);
    if (dead)
        remove_tree(at, name);
}

static void
sweep_mailbox(void *ctx, int at, const char *name)
{
    const struct shm *self = ctx;

    if (strncmp(name, "to-", 3) == 0)
        remove_if_dead(at, name, self->dead_min_us);
}

/* "<peer>.<serial>", sent to the controller. */
static void
sweep_orphan(void *ctx, int at, const char *name)
{
    const struct shm *self = ctx;
    const char *dot = strrchr(name, '.');
    char box[SHM_NAME_SIZE];
    int fd;

    snprintf(box, sizeof(box), "to-%.*s",
             dot ? (int)(dot - name) : SHM_PEER_MAX, name);
    if (faccessat(self->dir, box, F_OK, 0) == 0)
        return;
    fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    if (age_us(fd) >= self->orphan_min_us && !is_locked(fd))
        (void)unlinkat(at, name, 0);
    close(fd);
}

void
shm_sweep(struct shm *self)
{
    if (!self)
        return;
    for_each(self->dir, sweep_mailbox, self);
    for_each(self->in, sweep_orphan, self);
}

static void
sweep_host(void *ctx, int at, const char *name)
{
    const char *prefix = ctx;

    if (strncmp(name, prefix, strlen(prefix)) == 0)
        remove_if_dead(at, name, DEAD_MIN_US);
}

static void
sweep_hosts(int root)
{
    char prefix[40];

    snprintf(prefix, sizeof(prefix), PREFIX, (unsigned)geteuid());
    for_each(root, sweep_host, prefix);
}

// ---------------------------------------------------------------------------
// Life

static void
dir_name(const struct shm *self, char *out, size_t cap)
{
    int n = snprintf(out, cap, PREFIX, (unsigned)geteuid());

    snprintf(out + n, cap - (size_t)n, "%s", self->token);
}

static struct shm *
shm_new(void)
{
    struct shm *self = mem_zalloc(1, sizeof(*self));

    if (!self)
        return NULL;
    atomic_init(&self->refs, 1);
    atomic_init(&self->closed, false);
    self->pid = getpid();
    self->dir = self->in = self->own = -1;
    self->dead_min_us = DEAD_MIN_US;
    self->orphan_min_us = ORPHAN_MIN_US;
    pthread_mutex_init(&self->lock, NULL);
    list_init(&self->live);
    list_init(&self->kept);
    return self;
}

void
shm_unref(struct shm *self)
{
    const int fds[] = {self->dir, self->in, self->own};

    if (atomic_fetch_sub(&self->refs, 1) != 1)
        return;
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pthread_mutex_destroy(&self->lock);
    mem_free(self);
}

static int
random_token(char out[SHM_TOKEN_SIZE])
{
    uint8_t raw[(SHM_TOKEN_SIZE - 1) / 2];

    if (random_bytes(raw, sizeof(raw)) < 0)
        return RH_EIO;
    for (size_t i = 0; i < sizeof(raw); i++)
        snprintf(out + 2 * i, 3, "%02x", raw[i]);
    return 0;
}

int
shm_host(struct shm **out, rh_error *err)
{
    struct shm *self = shm_new();
    int root = open_root();
    char name[80];

    if (self && root >= 0 && random_token(self->token) == 0) {
        self->is_host = true;
        sweep_hosts(root);
        dir_name(self, name, sizeof(name));
        self->dir = make_dir(root, name);
        if (self->dir >= 0 && lock_dir(self->dir))
            self->in = make_dir(self->dir, "in");
    }
    if (root >= 0)
        close(root);
    if (self && self->in >= 0) {
        *out = self;
        return 0;
    }
    shm_leave(&self);
    return rh_fail(err, RH_EIO, "no directory for shared memory in %s: %s",
                   ROOT, strerror(errno));
}

void
shm_offer(const struct shm *self, struct buf *out)
{
    if (self)
        buf_add_fmt(out, ", \"shm\": {\"token\": \"%s\"}", self->token);
}

/* 32 digits, or false. */
static bool
read_offer(struct shm *self, struct span extensions)
{
    struct scan_field outer[] = {{.key = "version"}, {.key = "shm"}};
    struct scan_field inner[] = {{.key = "token"}};
    int64_t version;
    struct span hex;

    if (scan_object(extensions, outer, 2, NULL) < 0
        || scan_int(outer[0].value, &version) < 0 || version != 1
        || scan_object(outer[1].value, inner, 1, NULL) < 0)
        return false;
    hex = inner[0].value;
    if (hex.n != SHM_TOKEN_SIZE + 1) // with its quotes
        return false;
    memcpy(self->token, hex.p + 1, SHM_TOKEN_SIZE - 1);
    return strspn(self->token, "0123456789abcdef") == SHM_TOKEN_SIZE - 1;
}

static bool
enter(struct shm *self, int root)
{
    char name[SHM_NAME_SIZE];

    dir_name(self, name, sizeof(name));
    self->dir = open_dir(root, name);
    if (self->dir < 0 || !is_locked(self->dir))
        return false;
    self->in = open_dir(self->dir, "in");
    snprintf(name, sizeof(name), "to-%s", self->peer);
    self->own = make_dir(self->dir, name);
    return self->in >= 0 && self->own >= 0 && lock_dir(self->own);
}

int
shm_join(struct shm **out, struct span extensions, struct span name,
         rh_error *err)
{
    struct shm *self = shm_new();
    int root = -1;
    bool ok;

    if (!self)
        return rh_fail(err, RH_ENOMEM, "joining shared memory");
    ok = shm_name_is_valid(name, SHM_PEER_MAX) && read_offer(self, extensions)
         && (root = open_root()) >= 0;
    if (ok)
        memcpy(self->peer, name.p, name.n);
    ok = ok && enter(self, root);
    if (root >= 0)
        close(root);
    if (ok) {
        *out = self;
        return 0;
    }
    shm_leave(&self);
    return rh_fail(err, RH_ENOENT, "no shared memory with the controller");
}

static void
remove_own(struct shm *self, int root)
{
    char name[SHM_NAME_SIZE];

    // Clients that were given the same session share a mailbox.
    if (!self->is_host && self->own >= 0) {
        flock(self->own, LOCK_UN);
        snprintf(name, sizeof(name), "to-%s", self->peer);
        if (!is_locked(self->own)) {
            for_each(self->own, remove_file, NULL);
            (void)unlinkat(self->dir, name, AT_REMOVEDIR);
        }
    }
    if (self->is_host || (self->dir >= 0 && !is_locked(self->dir))) {
        dir_name(self, name, sizeof(name));
        remove_tree(root, name);
    }
}

void
shm_close(struct shm *self)
{
    int root;

    if (!self || atomic_exchange(&self->closed, true) || getpid() != self->pid)
        return;
    pool_drop_all(self);
    root = open_root();
    if (root >= 0) {
        remove_own(self, root);
        close(root);
    }
}

void
shm_leave(struct shm **self_p)
{
    struct shm *self = *self_p;

    *self_p = NULL;
    if (!self)
        return;
    shm_close(self);
    shm_unref(self);
}
