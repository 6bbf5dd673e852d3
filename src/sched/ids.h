/* ids.h - names by their 128-bit keyed hash
 *
 * The scheduler looks up every name once per message, and remembers a million
 * finished ones; so it keeps 16 bytes of hash instead of the name.  Nobody who
 * does not know the key can make two names meet, and by chance they never do.
 *
 * A table of slots with half of the hash in them: what is not there, and what
 * is added or removed, touches one cache line and no node.
 */
#ifndef SCHED_IDS_H
#define SCHED_IDS_H

#include <stdint.h>

#include "base/span.h"

struct id_node {
    uint64_t h[2];
};

struct id_slot {
    uint64_t h0;
    struct id_node *node; // NULL: free
};

struct ids {
    struct id_slot *slot; // open addressing, home is h0 & (cap - 1)
    size_t n, cap;        // cap is a power of two
};

void id_hash(const uint64_t key[2], struct span name, uint64_t h[2]);

int ids_init(struct ids *self);  // RH_ENOMEM
void ids_fini(struct ids *self); // frees the table, not the nodes
struct id_node *ids_get(const struct ids *self, const uint64_t h[2]);
/* Room for one more, so that the next ids_add cannot fail.  RH_ENOMEM. */
int ids_reserve(struct ids *self);
void ids_add(struct ids *self, struct id_node *node); // not present yet
void ids_del(struct ids *self, struct id_node *node); // must be inside
/* All nodes in any order: *at starts at 0, NULL at the end. */
struct id_node *ids_next(const struct ids *self, size_t *at);

/* The line that ids_get will need: worth saying before doing something else. */
static inline void
ids_prefetch(const struct ids *self, const uint64_t h[2])
{
    __builtin_prefetch(&self->slot[h[0] & (self->cap - 1)]);
}

#endif /* SCHED_IDS_H */
