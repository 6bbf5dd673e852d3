/* signals.h - SIGINT and SIGTERM of an engine's process
 *
 * SIGINT interrupts user code and is ignored between jobs, so that Ctrl-C in
 * a terminal full of engines does not end them; SIGTERM asks for a clean end.
 * Handlers the user installs win until the next job boundary for SIGINT.
 */
#ifndef ENGINE_SIGNALS_H
#define ENGINE_SIGNALS_H

#include <stdbool.h>

#include "base/span.h"
#include "engine/interp.h"

/* 'term_fd' is an eventfd that SIGTERM makes readable. */
int signals_install(const struct interp *interp, int term_fd, rh_error *err);
void signals_restore(void); // as they were before
/* The user code of job number 'job' begins, or 0: it has ended.  Called by the
 * thread that runs it.
 */
void signals_running(unsigned long job);
/* Interrupt the code of this job, now or as soon as it begins, and never that
 * of another.  Any thread.
 */
void signals_interrupt_job(unsigned long job);
/* For an interpreter that has just dropped what interrupts of older jobs left
 * behind, before it runs any code of this one: was that for this one?
 */
bool signals_wanted(void);
/* Make this thread's system calls fail and the running code stop. */
void signals_interrupt_main(void);
/* Raise in this process, as kill(getpid(), sig) does.  RH_EINVAL. */
int signals_raise(int sig);
/* "SIGINT", "INT" or "2" to 2; RH_EINVAL if it is none. */
int signals_number(struct span name);

#endif /* ENGINE_SIGNALS_H */
