/* pheap.c - pairing heap: melds in two passes, without recursion */
#include "sched/pheap.h"

/* Of two roots the one with the smaller key becomes the parent. */
static struct pnode *
meld(struct pnode *a, struct pnode *b)
{
    if (!a || !b)
        return a ? a : b;
    if (b->key < a->key) {
        struct pnode *swap = a;

        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (b->next)
        b->next->prev = b;
    a->child = b;
    return a;
}

/* One heap of a run of siblings: meld them in pairs from the left, then the
 * pairs from the right; this is what makes removal logarithmic.
 */
static struct pnode *
meld_siblings(struct pnode *node)
{
    struct pnode *pairs = NULL, *root = NULL;

    while (node) {
        struct pnode *a = node, *b = node->next;

        node = b ? b->next : NULL;
        a->next = NULL;
        if (b)
            b->next = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct pnode *a = pairs;

        pairs = a->next;
        a->next = NULL;
        root = meld(root, a);
    }
    if (root)
        root->prev = NULL;
    return root;
}

void
pheap_push(struct pheap *self, struct pnode *node)
{
    node->next = node->child = NULL;
    self->root = meld(self->root, node);
    self->root->prev = NULL;
}

void
pheap_remove(struct pheap *self, struct pnode *node)
{
    struct pnode *below = meld_siblings(node->child);

    if (node == self->root) {
        self->root = below;
    } else {
        if (node->prev->child == node)
            node->prev->child = node->next;
        else
            node->prev->next = node->next;
        if (node->next)
            node->next->prev = node->prev;
        self->root = meld(self->root, below);
        self->root->prev = NULL;
    }
    pnode_init(node);
}

struct pnode *
pheap_walk(struct pnode *node)
{
    if (node->child)
        return node->child;
    while (node && !node->next) {
        struct pnode *parent = node->prev;

        while (parent && parent->child != node) {
            node = parent;
            parent = node->prev;
        }
        node = parent;
    }
    return node ? node->next : NULL;
}
