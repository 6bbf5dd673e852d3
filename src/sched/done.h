/* done.h - the last so many finished tasks: hash, outcome, engine
 *
 * What a dependency on a finished task needs to know, 32 bytes each.  Beyond
 * 'window' ids the oldest is forgotten; the same happens early when there is
 * no memory to remember more.
 */
#ifndef SCHED_DONE_H
#define SCHED_DONE_H

#include <stdbool.h>

#include "sched/ids.h"

struct done_entry {
    struct id_node node;
    uint32_t engine; // serial; 0: ran nowhere
    bool used, ok;
};

struct done {
    struct ids ids;
    struct done_entry **chunk;
    size_t window;
    size_t next; // where the next one goes
};

int done_init(struct done *self, size_t window); // RH_ENOMEM
void done_fini(struct done *self);
const struct done_entry *done_get(const struct done *self,
                                  const uint64_t h[2]); // NULL: unknown
void done_add(struct done *self, const uint64_t h[2], bool ok,
              uint32_t engine);

#endif /* SCHED_DONE_H */
