/* pool.c - see pool.h
 *
 * A chunk is aligned to its size, so an object's address leads to it.
 *
 * Under AddressSanitizer every object is allocated by itself, so that one that
 * is used after its end is found.
 */
#include "sched/pool.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

#define CHUNK ((size_t)64 << 10)
#define MAX_EMPTY 2 // that are kept

struct chunk {
    struct list link;
    void *free;     // objects given back, each pointing to the next
    size_t n_used;  // objects in use
    size_t n_fresh; // objects that have ever been in use
};

#define HEAD ((sizeof(struct chunk) + 63) / 64 * 64)

void
pool_init(struct pool *self, size_t size)
{
    *self = (struct pool){.size = (size + 15) / 16 * 16};
    list_init(&self->chunks);
}

static struct chunk *
first_of(const struct pool *self)
{
    return LIST_ENTRY(self->chunks.next, struct chunk, link);
}

void
pool_fini(struct pool *self)
{
    while (self->chunks.next && !list_empty(&self->chunks)) {
        struct chunk *c = first_of(self);

        list_remove(&c->link);
        mem_free(c);
    }
}

#ifdef __SANITIZE_ADDRESS__

void *
pool_take(struct pool *self)
{
    return mem_zalloc(1, self->size);
}

void
pool_give(struct pool *self, void *object)
{
    (void)self;
    mem_free(object);
}

#else

static struct chunk *
add_chunk(struct pool *self)
{
    struct chunk *c = mem_alloc_aligned(CHUNK, CHUNK);

    if (!c)
        return NULL;
    *c = (struct chunk){.n_used = 0};
    list_append(&self->chunks, &c->link);
    self->n_empty++;
    return c;
}

void *
pool_take(struct pool *self)
{
    struct chunk *c =
        list_empty(&self->chunks) ? add_chunk(self) : first_of(self);
    size_t cap = (CHUNK - HEAD) / self->size;
    void *object;

    if (!c)
        return NULL;
    object = c->free;
    if (object)
        memcpy(&c->free, object, sizeof(c->free));
    else
        object = (char *)c + HEAD + c->n_fresh++ * self->size;
    self->n_empty -= c->n_used++ == 0;
    if (c->n_used == cap)
        list_remove(&c->link);
    return memset(object, 0, self->size);
}

void
pool_give(struct pool *self, void *object)
{
    size_t within = (uintptr_t)object & (CHUNK - 1);
    struct chunk *c = (struct chunk *)(void *)((char *)object - within);

    if (c->n_used == (CHUNK - HEAD) / self->size)
        list_append(&self->chunks, &c->link);
    memcpy(object, &c->free, sizeof(c->free));
    c->free = object;
    if (--c->n_used)
        return;
    c->free = NULL;
    c->n_fresh = 0;
    if (self->n_empty == MAX_EMPTY) {
        list_remove(&c->link);
        mem_free(c);
    } else {
        self->n_empty++;
    }
}

#endif
