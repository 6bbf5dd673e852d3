/* log.c - one event a line, written whole
 *
 * A line is put together first and handed to the kernel in one write, so lines
 * of threads and of processes that share a file do not mix.  Nothing that goes
 * wrong with the target (full disk, closed pipe) may disturb the caller: the
 * line is lost, counted, and the loss is noted as soon as writing works again.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "roundhouse/error.h"

#define LINE_MAX_BYTES 4096

static atomic_int min_level = LOG_INFO;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
// What the lock guards:
static char log_name[64] = "roundhouse";
static int log_fd = STDERR_FILENO;
static bool is_file;       // log_fd is ours: log_to_file opened it
static unsigned long lost; // lines since the last one that went through
static bool torn;          // the target ends in the middle of a line

void
log_setup(const char *name, enum log_level level)
{
    pthread_mutex_lock(&lock);
    snprintf(log_name, sizeof(log_name), "%s", name);
    pthread_mutex_unlock(&lock);
    atomic_store_explicit(&min_level, (int)level, memory_order_relaxed);
}

enum log_level
log_level(void)
{
    return (enum log_level)atomic_load_explicit(&min_level,
                                                memory_order_relaxed);
}

int
log_to_file(const char *path)
{
    int old, fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0)
        return RH_EIO;
    pthread_mutex_lock(&lock);
    old = is_file ? log_fd : -1;
    log_fd = fd;
    is_file = true;
    lost = 0;
    torn = false;
    pthread_mutex_unlock(&lock);
    if (old >= 0)
        close(old);
    return 0;
}

void
log_to_fd(int fd)
{
    pthread_mutex_lock(&lock);
    if (!is_file)
        log_fd = fd;
    pthread_mutex_unlock(&lock);
}

/* write(2) that neither gives up halfway nor raises SIGPIPE.  Returns how
 * much went out.
 */
static size_t
write_all(int fd, const char *p, size_t n)
{
    size_t done = 0;

    while (done < n) {
        ssize_t rc = write(fd, p + done, n - done);

        if (rc < 0 && errno == EINTR)
            continue;
        if (rc <= 0)
            break;
        done += (size_t)rc;
    }
    return done;
}

static size_t
write_quietly(int fd, const char *p, size_t n)
{
    const struct timespec at_once = {0, 0};
    sigset_t pipe_only, old, pending;
    size_t done;

    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &old);
    errno = 0;
    done = write_all(fd, p, n);
    if (done < n && errno == EPIPE && !sigismember(&pending, SIGPIPE))
        sigtimedwait(&pipe_only, NULL, &at_once); // ours: swallow it
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return done;
}

/* "2026-11-20 22:56:05.030 [name] " */
static size_t
put_prefix(char *out, size_t cap, int64_t wall_us)
{
    time_t s = (time_t)(wall_us / 1000000);
    char date[32] = "";
    struct tm tm;
    int n;

    if (localtime_r(&s, &tm))
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
    n = snprintf(out, cap, "%s.%03d [%s] ", date, (int)(wall_us / 1000 % 1000),
                 log_name);
    return n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1;
}

/* Called with the lock held. */
static void
emit(const char *line, size_t n)
{
    size_t done;

    if (lost || torn) {
        char note[96];
        int m = snprintf(note, sizeof(note),
                         "%s(%lu lines of log lost: write error)\n",
                         torn ? "\n" : "", lost);

        done = write_quietly(log_fd, note, (size_t)m);
        if (done < (size_t)m) {
            torn = torn || done > 0;
            lost++;
            return;
        }
        lost = 0;
        torn = false;
    }
    done = write_quietly(log_fd, line, n);
    if (done < n) {
        torn = done > 0;
        lost++;
    }
}

void
log_write(enum log_level level, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    int saved = errno, got;
    size_t n, start;
    va_list ap;

    if (level < log_level())
        return;
    pthread_mutex_lock(&lock);
    start = n = put_prefix(line, sizeof(line), clock_wall_us());
    va_start(ap, fmt);
    got = vsnprintf(line + n, sizeof(line) - n, fmt, ap);
    va_end(ap);
    if (got > 0)
        n += (size_t)got;
    if (n > sizeof(line) - 1) {
        n = sizeof(line) - 1;
        memset(line + n - 3, '.', 3);
    }
    for (size_t i = start; i < n; i++)
        if ((uint8_t)line[i] < 0x20 || line[i] == 0x7F)
            line[i] = ' '; // one event a line, whatever the text holds
    line[n++] = '\n';
    emit(line, n);
    pthread_mutex_unlock(&lock);
    errno = saved;
}

const char *
log_escape(struct span s, char *out, size_t cap)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0, fits = 0; // fits: longest prefix that leaves room for "..."

    if (cap == 0)
        return out;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        bool plain = c >= 0x20 && c < 0x7F && c != '\\';
        size_t need = plain ? 1 : c == '\\' ? 2 : 4;

        if (need > cap - 1 - n) {
            size_t dots = cap - 1 < 3 ? cap - 1 : 3;

            memcpy(out + fits, "...", dots);
            n = fits + dots;
            break;
        }
        out[n++] = plain ? (char)c : '\\';
        if (c == '\\') {
            out[n++] = '\\';
        } else if (!plain) {
            out[n++] = 'x';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        }
        if (n + 3 <= cap - 1)
            fits = n;
    }
    out[n] = '\0';
    return out;
}
