/* worker.h - one thread of the controller and how to wake and stop it
 *
 * Waking needs no memory and never blocks, so it works when nothing else does.
 */
#ifndef CONTROLLER_WORKER_H
#define CONTROLLER_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "roundhouse/error.h"

struct worker {
    pthread_t thread;
    int wake_fd; // readable after worker_wake
    atomic_bool stop;
    bool running;
};

int worker_init(struct worker *self, rh_error *err); // RH_EIO
void worker_fini(struct worker *self);               // stops it first
/* The thread starts with every signal blocked. */
int worker_start(struct worker *self, const char *name, void *(*run)(void *),
                 void *ctx, rh_error *err);
void worker_stop(struct worker *self);  // asks, waits; idempotent
void worker_wake(struct worker *self);  // any thread
void worker_woken(struct worker *self); // the thread itself: clear wake_fd

static inline bool
worker_stopping(struct worker *self)
{
    return atomic_load_explicit(&self->stop, memory_order_acquire);
}

#endif /* CONTROLLER_WORKER_H */
