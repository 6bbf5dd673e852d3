/* pheap.h - intrusive pairing heap, smallest key first
 *
 * Unlike base/heap.h it needs no memory of its own, so that moving a task from
 * one queue to another cannot fail half way.  Push and top are O(1), pop and
 * remove O(log n) amortized.
 *
 * Invariants: a node's key is not below its parent's; 'prev' is the left
 * sibling, or the parent of a first child, NULL for the root, and the node
 * itself while it is in no heap.
 */
#ifndef SCHED_PHEAP_H
#define SCHED_PHEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pnode {
    int64_t key; // the caller's while in no heap, else fixed
    struct pnode *prev, *next, *child;
};

struct pheap {
    struct pnode *root;
};

#define PNODE_ENTRY(node, type, member) \
    ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void
pnode_init(struct pnode *self)
{
    self->prev = self;
    self->next = self->child = NULL;
}

static inline bool
pnode_in(const struct pnode *self)
{
    return self->prev != self;
}

static inline struct pnode *
pheap_top(const struct pheap *self)
{
    return self->root;
}

void pheap_push(struct pheap *self, struct pnode *node);   // by node->key
void pheap_remove(struct pheap *self, struct pnode *node); // must be inside
/* Walk all nodes in no order: start with pheap_top, NULL at the end. */
struct pnode *pheap_walk(struct pnode *node);

#endif /* SCHED_PHEAP_H */
