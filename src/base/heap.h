/* heap.h - intrusive binary min-heap of deadlines
 *
 * Embed a heap_node; 'at' orders the heap.  Removing from the middle is
 * O(log n) because a node knows its place.
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    int64_t at;
    size_t i; // place + 1; 0: not in a heap
};

struct heap {
    struct heap_node **v;
    size_t n, cap;
};

void heap_init(struct heap *self);
void heap_fini(struct heap *self); // the nodes are the caller's
/* RH_ENOMEM.  A node that is inside already only gets its new deadline, which
 * cannot fail.  A new node must be zeroed.
 */
int heap_push(struct heap *self, struct heap_node *node, int64_t at);
void heap_remove(struct heap *self, struct heap_node *node); // no-op if absent
struct heap_node *heap_top(const struct heap *self);         // NULL: empty

#endif /* BASE_HEAP_H */
