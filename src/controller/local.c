/* local.c - see local.h */
#include "controller/local.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "wire/scan.h"

static bool
is_this_host(struct span raw)
{
    char host[PROCESS_HOST_SIZE];
    struct buf scratch = {0};
    struct span said;
    bool same;

    process_host(host);
    same = host[0] && scan_string(raw, &scratch, &said) == 0
           && span_is(said, host);
    buf_fini(&scratch);
    return same;
}

void
local_meet(struct local *self, struct span asked)
{
    struct scan_field f[] = {{.key = "host"}, {.key = "pid"}, {.key = "begun"}};
    int64_t pid, fd;

    local_forget(self);
    if (!asked.n || scan_object(asked, f, 3, NULL) < 0 || !f[0].value.n
        || !is_this_host(f[0].value) || scan_int(f[1].value, &pid) < 0
        || pid <= 0 || pid > INT32_MAX
        || process_find(&self->process, (pid_t)pid) < 0)
        return;
    self->oom_kills = process_oom_kills();
    if (scan_int(f[2].value, &fd) == 0 && fd >= 0 && fd <= INT32_MAX)
        self->begun = begun_of((pid_t)pid, (int)fd);
}

void
local_forget(struct local *self)
{
    begun_free(&self->begun);
    process_forget(&self->process);
}

bool
local_is_dead(const struct local *self, char *why, size_t cap)
{
    enum process_state state;
    int64_t oom;
    char end[80];
    int status;

    why[0] = '\0';
    if (!self->process.pid)
        return false;
    state = process_look(&self->process, &status);
    if (state != PROCESS_ENDED) {
        snprintf(why, cap, "its process %d %s", (int)self->process.pid,
                 state == PROCESS_STOPPED ? "is stopped" : "still runs");
        return false;
    }
    process_epitaph(status, end, sizeof(end));
    snprintf(why, cap, "its process %s", end);
    // The kernel's killer does not say whom it has killed, but how.
    oom = process_oom_kills();
    if (self->oom_kills >= 0 && oom > self->oom_kills
        && (status < 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)))
        snprintf(why, cap,
                 "its process %s; since it came the kernel has killed %" PRId64
                 " on this host for want of memory",
                 end, oom - self->oom_kills);
    return true;
}
