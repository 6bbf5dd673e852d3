/* done.c - a ring of entries, and a table of 8-byte slots that leads into it
 *
 * With a million entries nearly every access is a cache miss, so a lookup that
 * finds nothing, an insertion and a removal touch one line of the table each;
 * the ring is written in order.  The ring grows in chunks and nothing in it
 * moves; the table doubles, which is sequential because slots are in the order
 * of their homes.
 *
 * Invariants: every used entry has one slot; between a slot and its home no
 * slot is free; n <= cap / 4 * 3.
 */
#include "sched/done.h"

#include "base/mem.h"
#include "roundhouse/error.h"

#define CHUNK 4096
#define MIN_SLOTS 256 // a power of two

int
done_init(struct done *self, size_t window)
{
    if (window > DONE_WINDOW_MAX)
        window = DONE_WINDOW_MAX;
    *self = (struct done){.window = window, .cap = MIN_SLOTS};
    self->chunk = mem_zalloc(window / CHUNK + 1, sizeof(struct done_entry *));
    self->slot = mem_zalloc(MIN_SLOTS, sizeof(*self->slot));
    if (self->chunk && self->slot)
        return 0;
    done_fini(self);
    return RH_ENOMEM;
}

void
done_fini(struct done *self)
{
    for (size_t i = 0; self->chunk && i <= self->window / CHUNK; i++)
        mem_free(self->chunk[i]);
    mem_free(self->chunk);
    mem_free(self->slot);
    *self = (struct done){0};
}

static struct done_entry *
entry_at(const struct done *self, size_t i)
{
    return &self->chunk[i / CHUNK][i % CHUNK];
}

/* The slot of 'h', or the free slot where it belongs. */
static size_t
find(const struct done *self, const uint64_t h[2])
{
    size_t mask = self->cap - 1, i = (uint32_t)h[0] & mask;

    for (; self->slot[i].at; i = (i + 1) & mask) {
        const struct done_entry *e;

        if (self->slot[i].tag != (uint32_t)h[0])
            continue;
        e = entry_at(self, self->slot[i].at - 1);
        if (e->h[0] == h[0] && e->h[1] == h[1])
            break;
    }
    return i;
}

void
done_prefetch(const struct done *self, const uint64_t h[2])
{
    const struct done_entry *chunk = self->chunk[self->next / CHUNK];

    __builtin_prefetch(&self->slot[(uint32_t)h[0] & (self->cap - 1)]);
    // The entry that is the next to go.
    if (self->next < self->window && chunk && chunk[self->next % CHUNK].used)
        __builtin_prefetch(&self->slot[(uint32_t)chunk[self->next % CHUNK].h[0]
                                       & (self->cap - 1)]);
}

const struct done_entry *
done_get(const struct done *self, const uint64_t h[2])
{
    size_t i = find(self, h);

    return self->slot[i].at ? entry_at(self, self->slot[i].at - 1) : NULL;
}

/* Close the gap at 'i': move back whatever probed past it. */
static void
remove_slot(struct done *self, size_t i)
{
    size_t mask = self->cap - 1;

    for (size_t j = (i + 1) & mask; self->slot[j].at; j = (j + 1) & mask)
        if (((j - self->slot[j].tag) & mask) >= ((j - i) & mask)) {
            self->slot[i] = self->slot[j];
            i = j;
        }
    self->slot[i] = (struct done_slot){0, 0};
}

static int
double_slots(struct done *self)
{
    size_t cap = self->cap * 2, mask = cap - 1;
    struct done_slot *slot = mem_zalloc_huge(cap, sizeof(*slot));

    if (!slot)
        return RH_ENOMEM;
    for (size_t i = 0; i < self->cap; i++) {
        size_t to = self->slot[i].tag & mask;

        if (!self->slot[i].at)
            continue;
        while (slot[to].at)
            to = (to + 1) & mask;
        slot[to] = self->slot[i];
    }
    mem_free(self->slot);
    self->slot = slot;
    self->cap = cap;
    return 0;
}

/* Is there memory for an entry at 'i'? */
static bool
has_room(struct done *self, size_t i)
{
    struct done_entry **chunk = &self->chunk[i / CHUNK];

    if (!*chunk)
        *chunk = mem_zalloc(CHUNK, sizeof(**chunk));
    if (!*chunk)
        return false;
    return entry_at(self, i)->used || self->n < self->cap / 4 * 3
           || double_slots(self) == 0;
}

void
done_add(struct done *self, const uint64_t h[2], bool ok, uint32_t engine)
{
    struct done_entry *e;
    size_t i;

    if (self->next >= self->window)
        self->next = 0;
    if (!self->window)
        return;
    if (!has_room(self, self->next)) {
        self->next = 0; // forget the oldest early, or this one
        if (!has_room(self, 0))
            return;
    }
    e = entry_at(self, self->next);
    if (e->used)
        remove_slot(self, find(self, e->h));
    else
        self->n++;
    *e = (struct done_entry){{h[0], h[1]}, engine, true, ok};
    i = find(self, h);
    self->slot[i] =
        (struct done_slot){(uint32_t)h[0], (uint32_t)self->next + 1};
    self->next++;
}
