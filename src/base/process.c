/* process.c - see process.h
 *
 * All from /proc, which costs nothing until somebody dies.  Between the moment
 * its descriptors are closed and the moment its parent has taken note of it, a
 * process can be read but will never run again; its flags say so.  After that
 * only a pidfd knows how it ended.
 */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "roundhouse/error.h"

#define EXITING 0x4 // PF_EXITING in the kernel

/* Of linux/pidfd.h, newer than many systems' headers. */
struct pidfd_info {
    uint64_t mask, cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};
#define INFO_EXIT 8
#define GET_INFO _IOWR(0xFF, 11, struct pidfd_info)

/* The start of a small file, with a NUL; or -errno. */
static ssize_t
read_file(const char *path, char *out, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    ssize_t got = 1;

    if (fd < 0)
        return -errno;
    while (got > 0 && n < cap - 1) {
        got = read(fd, out + n, cap - 1 - n);
        n += got > 0 ? (size_t)got : 0;
    }
    out[n] = '\0';
    got = got < 0 ? -errno : (ssize_t)n;
    close(fd);
    return got;
}

void
process_host(char out[PROCESS_HOST_SIZE])
{
    char boot[40], space[32];
    ssize_t n = readlink("/proc/self/ns/pid", space, sizeof(space) - 1);

    out[0] = '\0';
    if (n <= 0
        || read_file("/proc/sys/kernel/random/boot_id", boot, sizeof(boot)) < 1)
        return;
    space[n] = '\0';
    boot[strcspn(boot, "\n")] = '\0';
    snprintf(out, PROCESS_HOST_SIZE, "%s %s", boot, space);
}

struct stat_line {
    char state;
    unsigned long flags;
    uint64_t start;
    long status; // -1: not shown to us
};

/* proc(5): fields are numbered from 1, and the 2nd may hold anything.
 * RH_ENOENT: there is no such process; RH_EIO: it could not be looked up.
 */
static int
read_stat(pid_t pid, struct stat_line *out)
{
    char path[32], text[1024], *at;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    n = read_file(path, text, sizeof(text));
    if (n < 0)
        return n == -ENOENT || n == -ESRCH ? RH_ENOENT : RH_EIO;
    at = strrchr(text, ')');
    *out = (struct stat_line){.status = -1};
    for (int field = 3; at && (at = strchr(at, ' ')); field++) {
        at++;
        if (field == 3)
            out->state = *at;
        else if (field == 9)
            out->flags = strtoul(at, NULL, 10);
        else if (field == 22)
            out->start = strtoull(at, NULL, 10);
        else if (field == 52)
            out->status = strtol(at, NULL, 10);
    }
    return out->start ? 0 : RH_EIO;
}

int
process_find(struct process *self, pid_t pid)
{
    struct stat_line line, same;

    *self = (struct process){.fd = -1};
    if (pid <= 0 || read_stat(pid, &line) < 0)
        return RH_ENOENT;
    *self = (struct process){
        .pid = pid,
        .start = line.start,
        .fd = (int)syscall(SYS_pidfd_open, pid, 0),
    };
    // It is that process's, unless there is another of its number by now.
    if (self->fd >= 0
        && (read_stat(pid, &same) < 0 || same.start != line.start)) {
        process_forget(self);
        return RH_ENOENT;
    }
    return 0;
}

void
process_forget(struct process *self)
{
    if (self->pid && self->fd >= 0)
        close(self->fd);
    *self = (struct process){.fd = -1};
}

/* The status of a process that its parent has asked for, or -1. */
static int
kept_status(const struct process *self)
{
    struct pidfd_info info = {.mask = INFO_EXIT};

    if (self->fd < 0 || ioctl(self->fd, GET_INFO, &info) < 0
        || !(info.mask & INFO_EXIT))
        return -1;
    return info.exit_code;
}

enum process_state
process_look(const struct process *self, int *status)
{
    struct stat_line line;
    int rc = read_stat(self->pid, &line);

    *status = -1;
    if (rc == RH_ENOENT || (rc == 0 && line.start != self->start)) {
        *status = kept_status(self);
        return PROCESS_ENDED;
    }
    if (rc < 0)
        return PROCESS_RUNS; // as far as we know
    if (line.state == 'Z' || line.state == 'X' || (line.flags & EXITING)) {
        *status = (int)line.status;
        return PROCESS_ENDED;
    }
    return line.state == 'T' ? PROCESS_STOPPED : PROCESS_RUNS;
}

void
process_epitaph(int status, char *out, size_t cap)
{
    if (status >= 0 && WIFSIGNALED(status)) {
        const char *name = sigabbrev_np(WTERMSIG(status));

        snprintf(out, cap, "was killed by signal %d (SIG%s)", WTERMSIG(status),
                 name ? name : "?");
    } else if (status > 0 && WIFEXITED(status)) {
        snprintf(out, cap, "ended with exit code %d", WEXITSTATUS(status));
    } else {
        snprintf(out, cap, "ended");
    }
}

int64_t
process_oom_kills(void)
{
    char text[16384], *at;

    if (read_file("/proc/vmstat", text, sizeof(text)) < 0
        || !(at = strstr(text, "\noom_kill ")))
        return -1;
    return strtoll(at + sizeof("\noom_kill ") - 1, NULL, 10);
}
