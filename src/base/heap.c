/* heap.c - binary min-heap in an array of node pointers
 *
 * heap_fini does not touch the nodes: their owner may have freed them.
 *
 * Invariants: v[i]->i == i + 1; v[(i - 1) / 2]->at <= v[i]->at.
 */
#include "base/heap.h"

#include "base/mem.h"
#include "roundhouse/error.h"

void
heap_init(struct heap *self)
{
    *self = (struct heap){0};
}

void
heap_fini(struct heap *self)
{
    mem_free(self->v);
    heap_init(self);
}

static void
place(struct heap *self, size_t i, struct heap_node *node)
{
    self->v[i] = node;
    node->i = i + 1;
}

/* Put 'node' into the hole at 'i', moving the hole up as far as it must. */
static void
sift_up(struct heap *self, size_t i, struct heap_node *node)
{
    while (i > 0 && self->v[(i - 1) / 2]->at > node->at) {
        place(self, i, self->v[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(self, i, node);
}

static void
sift_down(struct heap *self, size_t i, struct heap_node *node)
{
    for (size_t child; (child = 2 * i + 1) < self->n; i = child) {
        if (child + 1 < self->n && self->v[child + 1]->at < self->v[child]->at)
            child++;
        if (node->at <= self->v[child]->at)
            break;
        place(self, i, self->v[child]);
    }
    place(self, i, node);
}

/* 'node' belongs somewhere above or below the hole at 'i'. */
static void
settle(struct heap *self, size_t i, struct heap_node *node)
{
    if (i > 0 && self->v[(i - 1) / 2]->at > node->at)
        sift_up(self, i, node);
    else
        sift_down(self, i, node);
}

int
heap_push(struct heap *self, struct heap_node *node, int64_t at)
{
    if (node->i) { // already inside: a new deadline, which cannot fail
        node->at = at;
        settle(self, node->i - 1, node);
        return 0;
    }
    if (self->n == self->cap) {
        size_t cap = self->cap ? self->cap * 2 : 16;
        struct heap_node **v = mem_resize(self->v, cap, sizeof(void *));

        if (!v)
            return RH_ENOMEM;
        self->v = v;
        self->cap = cap;
    }
    node->at = at;
    sift_up(self, self->n++, node);
    return 0;
}

void
heap_remove(struct heap *self, struct heap_node *node)
{
    struct heap_node *last;
    size_t i;

    if (!node->i)
        return;
    i = node->i - 1;
    node->i = 0;
    last = self->v[--self->n];
    if (last != node)
        settle(self, i, last);
}

struct heap_node *
heap_top(const struct heap *self)
{
    return self->n ? self->v[0] : NULL;
}
