/* local.h - what the controller knows of an engine's process, if it is on the
 * same host
 *
 * The engine says so in its registration (docs/protocol/extensions.md).  Of one
 * that is elsewhere, or says nothing, nothing is known.
 */
#ifndef CONTROLLER_LOCAL_H
#define CONTROLLER_LOCAL_H

#include "base/begun.h"
#include "base/process.h"

struct local {
    struct process process; // pid 0: unknown
    struct begun *begun;    // owned; or NULL
    int64_t oom_kills;      // when it came; -1: unknown
};

/* 'asked': the value of "roundhouse" in a registration_request.  What was known
 * before is forgotten.
 */
void local_meet(struct local *self, struct span asked);
void local_forget(struct local *self);

/* Is the process dead for certain?  Then also: "its process was killed by
 * signal 9 (SIGKILL)".  Else what else can be told, or ''.
 */
bool local_is_dead(const struct local *self, char *why, size_t cap);

#endif /* CONTROLLER_LOCAL_H */
