/* begun.h - which requests a process has begun, in memory that outlives it
 *
 * An engine notes each task before it begins it, in a page of a memfd; a
 * controller on the same host maps the page as well.  When the engine is dead,
 * the page says which of the tasks that it never answered it had not begun.
 * A note costs no system call.
 *
 * The page is a ring of hashes.  Finding one that is not there would take
 * BEGUN_SLOTS later ones to push it out; a collision makes a task look begun,
 * which is the safe side.
 */
#ifndef BASE_BEGUN_H
#define BASE_BEGUN_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/span.h"

#define BEGUN_SLOTS 512

struct begun;

/* The writer's end.  NULL: this system has no memfd, or no memory. */
struct begun *begun_new(void);
int begun_fd(const struct begun *self);
void begun_note(struct begun *self, struct span id); // NULL-safe

/* The page of a process on this host that says it has one at that descriptor.
 * NULL: there is none that could be trusted never to shrink.
 */
struct begun *begun_of(pid_t pid, int fd);
bool begun_has(const struct begun *self, struct span id);

void begun_free(struct begun **self_p); // NULL-safe

#endif /* BASE_BEGUN_H */
