/* map.h - hash table from byte strings to pointers
 *
 * Keys are borrowed: they normally live inside the value, and must not change
 * or move while the entry exists.  Open addressing, power-of-two capacity,
 * keyed hash (per-process random seed: keys come from the network).
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/span.h"

struct map_slot {
    struct span key;
    void *value; // NULL: free slot
    uint32_t hash;
};

struct map {
    struct map_slot *slot;
    size_t n, cap;
};

void map_init(struct map *self); // same as zeroing it
void map_fini(struct map *self); // frees the table, not the values
void *map_get(const struct map *self, struct span key); // NULL: absent
int map_reserve(struct map *self,
                size_t more); // then that many puts cannot fail
int map_put(struct map *self, struct span key,
            void *value);                         // replaces; RH_ENOMEM
void *map_del(struct map *self, struct span key); // the value, or NULL
/* Iterate in any order: for (size_t i = 0; (v = map_next(m, &i));)
 * The table must not change meanwhile.
 */
void *map_next(const struct map *self, size_t *i);

#endif /* BASE_MAP_H */
