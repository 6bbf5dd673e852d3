/* error.h - the one list of error codes, and a place to say what went wrong
 *
 * Fallible functions return >= 0 for success and a negative RH_E* otherwise.
 * Those a person will have to debug take an rh_error as well, which carries
 * one sentence naming the object and the number involved.
 */
#ifndef ROUNDHOUSE_ERROR_H
#define ROUNDHOUSE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#define RH_API __attribute__((visibility("default")))

// clang-format off
/*     name          value  Python exception      default text             */
#define RH_ERR_MAP(X)                                                       \
    X(RH_ENOMEM,       -1,  "MemoryError",        "out of memory")          \
    X(RH_EINVAL,       -2,  "ValueError",         "invalid argument")       \
    X(RH_EPROTO,       -3,  "ProtocolError",      "malformed message")      \
    X(RH_EAUTH,        -4,  "AuthError",          "bad signature")          \
    X(RH_EREPLAY,      -5,  "AuthError",          "signature seen before")  \
    X(RH_ELIMIT,       -6,  "ProtocolError",      "limit exceeded")         \
    X(RH_EEXIST,       -7,  "FileExistsError",    "already exists")         \
    X(RH_ENOENT,       -8,  "LookupError",        "no such object")         \
    X(RH_ETIMEDOUT,    -9,  "TimeoutError",       "timed out")              \
    X(RH_EAGAIN,      -10,  "BlockingIOError",    "would block")            \
    X(RH_EIO,         -11,  "OSError",            "input/output error")     \
    X(RH_ENET,        -12,  "ConnectionError",    "network error")          \
    X(RH_ECLOSED,     -13,  "RuntimeError",       "closed")                 \
    X(RH_ESTATE,      -14,  "RuntimeError",       "not possible now")       \
    X(RH_EINTR,       -15,  "InterruptedError",   "interrupted")
// clang-format on

enum rh_code {
    RH_OK = 0,
#define X(name, value, exception, text) name = (value),
    RH_ERR_MAP(X)
#undef X
};

typedef struct rh_error {
    int code;
    char text[320];
} rh_error;

/* Name ("RH_EPROTO"), default text and Python exception of a code; never NULL.
 */
RH_API const char *rh_code_name(int code);
RH_API const char *rh_code_text(int code);
RH_API const char *rh_code_exception(int code);

/* Record a failure and return 'code', so a failing path is one statement:
 *     return rh_fail(err, RH_EPROTO, "frame %zu: bad size", i);
 * 'err' may be NULL.  Longer texts are cut.
 */
RH_API int rh_fail(rh_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* Static analysis of one file cannot know that the code comes back. */
#define rh_fail(err, code, ...) (rh_fail((err), (code), __VA_ARGS__), (code))
#endif

#ifdef __cplusplus
}
#endif

#endif /* ROUNDHOUSE_ERROR_H */
