/* pool.h - objects of one size, side by side
 *
 * Tasks come and go in about the same order.  So they are taken from chunks
 * from one end to the other, and a chunk that has become empty is used from its
 * start again: neighbours in time are neighbours in memory.  An object costs no
 * more than its size, and freeing one touches nothing but it and its chunk.
 */
#ifndef SCHED_POOL_H
#define SCHED_POOL_H

#include <stddef.h>

#include "base/list.h"

struct pool {
    size_t size;        // of an object
    struct list chunks; // that have room; the first is in use
    size_t n_empty;     // of these
};

void pool_init(struct pool *self, size_t size);
void pool_fini(struct pool *self);  // every object has been freed
void *pool_take(struct pool *self); // zeroed; NULL: out of memory
void pool_give(struct pool *self, void *object);

#endif /* SCHED_POOL_H */
