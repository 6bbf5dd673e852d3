/* ids.h - names by their 128-bit keyed hash
 *
 * The scheduler looks up every name once per message, and remembers a million
 * finished ones; so it keeps 16 bytes of hash instead of the name.  Nobody who
 * does not know the key can make two names meet, and by chance they never do.
 *
 * A linear hash table of intrusive chains: it grows and shrinks by one bucket
 * per insertion, so that no message pays for rehashing a million, and when
 * there is no memory to grow it just gets slower: adding cannot fail.
 */
#ifndef SCHED_IDS_H
#define SCHED_IDS_H

#include <stdint.h>

#include "base/span.h"

struct id_node {
    uint64_t h[2];
    struct id_node *next;
};

struct ids {
    struct id_node **bucket;
    size_t n;        // nodes
    size_t n_bucket; // in use
    size_t cap;      // allocated
    size_t base;     // the power of two in (n_bucket / 2, n_bucket]
};

void id_hash(const uint64_t key[2], struct span name, uint64_t h[2]);

int ids_init(struct ids *self);  // RH_ENOMEM
void ids_fini(struct ids *self); // frees the table, not the nodes
struct id_node *ids_get(const struct ids *self, const uint64_t h[2]);
void ids_add(struct ids *self, struct id_node *node); // not present yet
void ids_del(struct ids *self, struct id_node *node); // must be inside
/* All nodes in any order: *at starts at 0, 'node' at NULL. */
struct id_node *ids_next(const struct ids *self, size_t *at,
                         struct id_node *node);

#endif /* SCHED_IDS_H */
