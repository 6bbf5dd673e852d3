/* done.h - the last so many finished tasks: hash, outcome, engine
 *
 * What a dependency on a finished task needs to know.  Beyond 'window' tasks
 * the oldest is forgotten; the same happens early when there is no memory to
 * remember more.  Adding cannot fail otherwise.
 */
#ifndef SCHED_DONE_H
#define SCHED_DONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DONE_WINDOW_MAX (UINT32_C(1) << 30)

struct done_entry {
    uint64_t h[2];
    uint32_t engine; // serial; 0: ran nowhere
    bool used, ok;
};

struct done_slot {
    uint32_t tag; // low bits of h[0]
    uint32_t at;  // place in the ring + 1; 0: free
};

struct done {
    struct done_entry **chunk; // the ring
    struct done_slot *slot;    // open addressing, home is tag & (cap - 1)
    size_t window, cap;
    size_t n;    // used entries
    size_t next; // where the next one goes
};

int done_init(struct done *self, size_t window); // RH_ENOMEM
void done_fini(struct done *self);
const struct done_entry *done_get(const struct done *self,
                                  const uint64_t h[2]); // NULL: unknown
/* The lines that done_get, or done_add, will need. */
void done_prefetch(const struct done *self, const uint64_t h[2]);
void done_add(struct done *self, const uint64_t h[2], bool ok, uint32_t engine);

#endif /* SCHED_DONE_H */
