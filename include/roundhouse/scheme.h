/* scheme.h - a task scheduling scheme of one's own
 *
 * A scheme decides which engine gets a task.  Write one as a shared object that
 * exports a struct rh_scheme named rh_scheme, and name its file to the
 * controller:
 *
 *     cc -shared -fPIC -o fastest.so fastest.c
 *     ipcontroller --TaskScheduler.scheme_library=./fastest.so
 *
 * examples/c/scheme.c is one to begin with.
 */
#ifndef ROUNDHOUSE_SCHEME_H
#define ROUNDHOUSE_SCHEME_H

#include <stddef.h>
#include <stdint.h>

#define RH_SCHEME_VERSION 1

/* One engine as a scheme sees it; valid during the call. */
struct rh_scheme_engine {
    const char *uuid; // n_uuid bytes, without a NUL
    size_t n_uuid;
    int id;
    uint32_t load;     // tasks sent and not answered
    int64_t last_used; // order of last use; smaller: longer ago
};

struct rh_scheme {
    uint32_t version; // RH_SCHEME_VERSION
    const char *name; // for logs
    /* Called once, before all others; what it returns is 'state' in these.  May
     * be NULL.
     */
    void *(*open)(void);
    /* Given n >= 1 engines that have room and may take the task, in no
     * particular order, returns the index of the one that shall.  An index
     * >= n counts as 0.  'random' is a fresh 64-bit random number.
     *
     * It is called for every task, always by the same thread, and everything
     * waits for it: it must not block.
     */
    size_t (*pick)(void *state, const struct rh_scheme_engine *engine, size_t n,
                   uint64_t random);
    void (*close)(void *state); // called last; may be NULL
};

#endif /* ROUNDHOUSE_SCHEME_H */
