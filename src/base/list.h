/* list.h - intrusive doubly linked list with a sentinel */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

#define LIST_ENTRY(node, type, member) \
    ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void
list_init(struct list *self)
{
    self->prev = self->next = self;
}

static inline bool
list_empty(const struct list *self)
{
    return self->next == self;
}

static inline void
list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->prev = node->next = node;
}

static inline void
list_append(struct list *self, struct list *node)
{
    node->prev = self->prev;
    node->next = self;
    self->prev->next = node;
    self->prev = node;
}

static inline void
list_prepend(struct list *self, struct list *node)
{
    list_append(self->next, node);
}

#endif /* BASE_LIST_H */
