/* worker.c - see worker.h */
#include "controller/worker.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int
worker_init(struct worker *self, rh_error *err)
{
    memset(self, 0, sizeof(*self));
    atomic_init(&self->stop, false);
    self->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->wake_fd < 0)
        return rh_fail(err, RH_EIO, "creating an event descriptor: %s",
                       strerror(errno));
    return 0;
}

void
worker_fini(struct worker *self)
{
    worker_stop(self);
    if (self->wake_fd > 0)
        close(self->wake_fd);
    self->wake_fd = 0;
}

int
worker_start(struct worker *self, const char *name, void *(*run)(void *),
             void *ctx, rh_error *err)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&self->thread, NULL, run, ctx);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return rh_fail(err, RH_EIO, "starting the %s thread: %s", name,
                       strerror(rc));
    self->running = true;
    pthread_setname_np(self->thread, name);
    return 0;
}

void
worker_stop(struct worker *self)
{
    if (!self->running)
        return;
    atomic_store_explicit(&self->stop, true, memory_order_release);
    worker_wake(self);
    pthread_join(self->thread, NULL);
    self->running = false;
}

void
worker_wake(struct worker *self)
{
    // Only a full counter refuses, and that is readable already.
    (void)!eventfd_write(self->wake_fd, 1);
}

void
worker_woken(struct worker *self)
{
    eventfd_t n;

    (void)!eventfd_read(self->wake_fd, &n);
}
