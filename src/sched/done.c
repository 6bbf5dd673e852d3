/* done.c - a ring in chunks, so that growing moves nothing */
#include "sched/done.h"

#include "base/mem.h"
#include "roundhouse/error.h"

#define CHUNK 4096

int
done_init(struct done *self, size_t window)
{
    *self = (struct done){.window = window};
    self->chunk = mem_zalloc(window / CHUNK + 1, sizeof(*self->chunk));
    if (!self->chunk)
        return RH_ENOMEM;
    if (ids_init(&self->ids) < 0) {
        mem_free(self->chunk);
        self->chunk = NULL;
        return RH_ENOMEM;
    }
    return 0;
}

void
done_fini(struct done *self)
{
    if (self->chunk)
        for (size_t i = 0; i <= self->window / CHUNK; i++)
            mem_free(self->chunk[i]);
    mem_free(self->chunk);
    ids_fini(&self->ids);
    *self = (struct done){0};
}

const struct done_entry *
done_get(const struct done *self, const uint64_t h[2])
{
    return (const struct done_entry *)(const void *)ids_get(&self->ids, h);
}

/* The place for the next entry, NULL if there is none at all. */
static struct done_entry *
advance(struct done *self)
{
    struct done_entry **chunk;

    if (self->next >= self->window)
        self->next = 0;
    chunk = &self->chunk[self->next / CHUNK];
    if (!*chunk)
        *chunk = mem_zalloc(CHUNK, sizeof(**chunk));
    if (!*chunk) {
        self->next = 0; // no memory: forget the oldest early
        chunk = &self->chunk[0];
    }
    return *chunk ? &(*chunk)[self->next++ % CHUNK] : NULL;
}

void
done_add(struct done *self, const uint64_t h[2], bool ok, uint32_t engine)
{
    struct done_entry *e = self->window ? advance(self) : NULL;

    if (!e)
        return;
    if (e->used)
        ids_del(&self->ids, &e->node);
    *e = (struct done_entry){
        .node = {.h = {h[0], h[1]}},
        .engine = engine,
        .used = true,
        .ok = ok,
    };
    ids_add(&self->ids, &e->node);
}
