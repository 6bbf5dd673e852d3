/* capture.c - two pipes
 *
 * A process that crashes writes its last words to descriptor 2 and is gone
 * before anybody has sent them.  So fatal signals wait a moment for the
 * control thread to do that, give descriptor 2 back, repeat the words there,
 * and then go the way they would have gone.
 */
#include "engine/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

static const int fatal[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};
#define N_FATAL (sizeof(fatal) / sizeof(fatal[0]))

#define LAST_WORDS_MS 200 // that a dying process waits
#define SEND_MS 20        // for ZeroMQ to send

enum { CRASH_NONE, CRASH_ASKED, CRASH_DONE };

/* For the handler, which gets no argument. */
static struct {
    struct capture *capture;
    int wake_fd;
    pid_t pid;
    struct sigaction old[N_FATAL];
} last_words;

static void
pause_ms(int ms)
{
    const struct timespec t = {0, (long)ms * 1000000};

    nanosleep(&t, NULL);
}

static bool
put(int fd, const void *p, size_t n)
{
    return n == 0 || write(fd, p, n) == (ssize_t)n;
}

static void
say_last_words(struct capture *self)
{
    const uint64_t one = 1;
    const int console = self->pipe[ENGINE_STDERR].console;
    char text[1024];
    ssize_t n = 0;

    atomic_store(&self->crash, CRASH_ASKED);
    if (put(last_words.wake_fd, &one, sizeof(one)))
        for (int ms = 0;
             ms < LAST_WORDS_MS && atomic_load(&self->crash) != CRASH_DONE;
             ms += 2)
            pause_ms(2);
    dup2(console, STDERR_FILENO);
    (void)put(console, self->recent, self->n_recent);
    do
        n = read(self->pipe[ENGINE_STDERR].read_fd, text, sizeof(text));
    while (n > 0 && put(console, text, (size_t)n));
}

static void
on_fatal(int sig)
{
    for (size_t i = 0; i < N_FATAL; i++)
        if (fatal[i] == sig)
            sigaction(sig, &last_words.old[i], NULL);
    if (last_words.capture && getpid() == last_words.pid)
        say_last_words(last_words.capture);
    raise(sig); // delivered when we return
}

static void
catch_fatal(struct capture *self, int wake_fd)
{
    struct sigaction action = {.sa_handler = on_fatal, .sa_flags = SA_ONSTACK};

    sigemptyset(&action.sa_mask);
    last_words.wake_fd = wake_fd;
    last_words.pid = getpid();
    last_words.capture = self;
    for (size_t i = 0; i < N_FATAL; i++)
        sigaction(fatal[i], &action, &last_words.old[i]);
}

static void
release_fatal(void)
{
    struct sigaction now;

    for (size_t i = 0; i < N_FATAL; i++)
        if (sigaction(fatal[i], NULL, &now) == 0 && now.sa_handler == on_fatal)
            sigaction(fatal[i], &last_words.old[i], NULL);
    last_words.capture = NULL;
}

int
capture_init(struct capture *self, rh_error *err)
{
    int rc = 0;

    *self = (struct capture){.active = false};
    pthread_mutex_init(&self->lock, NULL);
    for (int i = 0; i < 2; i++)
        self->pipe[i].read_fd = self->pipe[i].write_fd = self->pipe[i].console =
            -1;
    for (int i = 0; i < 2 && rc == 0; i++) {
        int fd[2];

        if (pipe2(fd, O_CLOEXEC) < 0) {
            rc =
                rh_fail(err, RH_EIO, "no pipe for output: %s", strerror(errno));
            break;
        }
        self->pipe[i].read_fd = fd[0];
        self->pipe[i].write_fd = fd[1];
        // Only the reading end: user code expects writes to block.
        if (fcntl(fd[0], F_SETFL, O_NONBLOCK) < 0)
            rc = rh_fail(err, RH_EIO, "setting up a pipe for output: %s",
                         strerror(errno));
    }
    return rc;
}

int
capture_begin(struct capture *self, int wake_fd, rh_error *err)
{
    for (int i = 0; i < 2; i++) {
        struct capture_pipe *p = &self->pipe[i];
        int fd = i == ENGINE_STDERR ? STDERR_FILENO : STDOUT_FILENO;

        // A process started without one may get /dev/null instead.
        p->console = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (p->console < 0)
            p->console = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (p->console < 0 || dup2(p->write_fd, fd) < 0)
            return rh_fail(err, RH_EIO, "capturing descriptor %d: %s", fd,
                           strerror(errno));
    }
    self->active = true;
    log_to_fd(self->pipe[ENGINE_STDERR].console);
    catch_fatal(self, wake_fd);
    return 0;
}

void
capture_fini(struct capture *self)
{
    if (self->active) {
        release_fatal();
        log_to_fd(STDERR_FILENO);
    }
    for (int i = 0; i < 2; i++) {
        struct capture_pipe *p = &self->pipe[i];
        int fd = i == ENGINE_STDERR ? STDERR_FILENO : STDOUT_FILENO;

        if (self->active && dup2(p->console, fd) < 0)
            log_debug("descriptor %d was not given back", fd);
        if (p->console >= 0)
            close(p->console);
        if (p->read_fd >= 0)
            close(p->read_fd);
        if (p->write_fd >= 0)
            close(p->write_fd);
    }
    pthread_mutex_destroy(&self->lock);
    self->active = false;
}

/* How many of n bytes can go out without cutting a character in two. */
static size_t
complete(const uint8_t *p, size_t n)
{
    size_t back = 0;

    while (back < 3 && back < n && (p[n - 1 - back] & 0xc0) == 0x80)
        back++;
    if (back == n || p[n - 1 - back] < 0xc0)
        return n;
    // A lead byte with 'back' followers: enough of them?
    return back + 1 >= (p[n - 1 - back] >= 0xf0   ? 4u
                        : p[n - 1 - back] >= 0xe0 ? 3u
                                                  : 2u)
               ? n
               : n - 1 - back;
}

static void
remember(struct capture *self, const uint8_t *p, size_t n)
{
    const size_t cap = sizeof(self->recent);
    size_t keep = n < cap ? cap - n : 0;

    if (n > cap) {
        p += n - cap;
        n = cap;
    }
    keep = keep < self->n_recent ? keep : self->n_recent;
    memmove(self->recent, self->recent + self->n_recent - keep, keep);
    memcpy(self->recent + keep, p, n);
    self->n_recent = keep + n;
}

/* One pipe.  False: nothing more to do now. */
static bool
pump_one(struct capture *self, int which, struct iopub *iopub, bool whole)
{
    struct capture_pipe *p = &self->pipe[which];
    ssize_t got = 0;
    size_t n, done;

    if (p->n < sizeof(p->held)) {
        got = read(p->read_fd, p->held + p->n, sizeof(p->held) - p->n);
        if (got > 0 && which == ENGINE_STDERR)
            remember(self, p->held + p->n, (size_t)got);
        p->n += got > 0 ? (size_t)got : 0;
    }
    n = whole && got <= 0 ? p->n : complete(p->held, p->n);
    if (n == 0)
        return got > 0;
    (void)iopub_write(iopub, (enum engine_stream)which, span_of(p->held, n),
                      false, &done);
    memmove(p->held, p->held + done, p->n - done);
    p->n -= done;
    return done == n && got > 0;
}

bool
capture_is_stuck(struct capture *self)
{
    bool stuck;

    pthread_mutex_lock(&self->lock);
    stuck = self->pipe[0].n || self->pipe[1].n;
    pthread_mutex_unlock(&self->lock);
    return stuck;
}

/* Is there anything to do although the pipes are empty? */
static bool
is_waiting(struct capture *self, bool whole)
{
    bool recent;

    if (capture_is_stuck(self))
        return true;
    pthread_mutex_lock(&self->lock);
    recent = self->n_recent > 0;
    pthread_mutex_unlock(&self->lock);
    return whole && recent;
}

void
capture_pump(struct capture *self, struct iopub *iopub, bool whole)
{
    struct pollfd item[2] = {
        {.fd = self->pipe[0].read_fd, .events = POLLIN},
        {.fd = self->pipe[1].read_fd, .events = POLLIN},
    };

    // Nearly always there is nothing: one system call to know.
    if (poll(item, 2, 0) <= 0 && !is_waiting(self, whole))
        return;
    pthread_mutex_lock(&self->lock);
    for (int i = 0; i < 2; i++)
        while (pump_one(self, i, iopub, whole))
            ;
    if (whole && atomic_load(&self->crash) == CRASH_NONE)
        self->n_recent = 0;
    pthread_mutex_unlock(&self->lock);
}

void
capture_last_words(struct capture *self, struct iopub *iopub)
{
    if (atomic_load(&self->crash) != CRASH_ASKED)
        return;
    capture_pump(self, iopub, true);
    iopub_flush(iopub);
    pause_ms(SEND_MS);
    atomic_store(&self->crash, CRASH_DONE);
}
