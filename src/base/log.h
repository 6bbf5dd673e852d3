/* log.h - one event a line on stderr or a file
 *
 * "2026-11-20 22:56:05.030 [IPController] text".  Text from the network is
 * escaped by the caller with log_escape.  Thread-safe.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/span.h"

enum log_level { LOG_DEBUG = 10, LOG_INFO = 20, LOG_WARN = 30, LOG_ERROR = 40 };

void log_setup(const char *name, enum log_level level);
int log_to_file(const char *path); // appends; RH_EIO with errno kept
/* Another descriptor in place of stderr; it stays the caller's.  A log file
 * goes on as it is.
 */
void log_to_fd(int fd);
enum log_level log_level(void);
void log_write(enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Printable copy of at most cap-1 characters, cut with "..."; returns out. */
const char *log_escape(struct span s, char *out, size_t cap);

#define log_debug(...)                         \
    do {                                       \
        if (log_level() <= LOG_DEBUG)          \
            log_write(LOG_DEBUG, __VA_ARGS__); \
    } while (0)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif /* BASE_LOG_H */
