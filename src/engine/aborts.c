/* aborts.c - a set with an age order
 *
 * Invariant: the list from oldest to newest and the map hold the same entries.
 */
#include "engine/aborts.h"

#include "base/mem.h"

struct abort_entry {
    struct abort_entry *older, *newer;
    size_t n;
    uint8_t id[];
};

void
aborts_init(struct aborts *self)
{
    *self = (struct aborts){.oldest = NULL};
    map_init(&self->by_id);
}

static void
drop(struct aborts *self, struct abort_entry *entry)
{
    if (entry->older)
        entry->older->newer = entry->newer;
    else
        self->oldest = entry->newer;
    if (entry->newer)
        entry->newer->older = entry->older;
    else
        self->newest = entry->older;
    map_del(&self->by_id, span_of(entry->id, entry->n));
    mem_free(entry);
}

void
aborts_fini(struct aborts *self)
{
    while (self->oldest)
        drop(self, self->oldest);
    map_fini(&self->by_id);
}

int
aborts_add(struct aborts *self, struct span msg_id)
{
    struct abort_entry *entry;

    if (map_get(&self->by_id, msg_id))
        return 0;
    entry = mem_alloc(sizeof(*entry) + msg_id.n);
    if (!entry)
        return RH_ENOMEM;
    *entry = (struct abort_entry){.older = self->newest, .n = msg_id.n};
    if (msg_id.n)
        memcpy(entry->id, msg_id.p, msg_id.n);
    if (map_put(&self->by_id, span_of(entry->id, entry->n), entry) < 0) {
        mem_free(entry);
        return RH_ENOMEM;
    }
    if (self->newest)
        self->newest->newer = entry;
    else
        self->oldest = entry;
    self->newest = entry;
    if (self->by_id.n > ABORTS_MAX)
        drop(self, self->oldest);
    return 0;
}

bool
aborts_take(struct aborts *self, struct span msg_id)
{
    struct abort_entry *entry = map_get(&self->by_id, msg_id);

    if (!entry)
        return false;
    drop(self, entry);
    return true;
}
