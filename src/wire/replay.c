/* replay.c - a ring of digests and a hash index into it
 *
 * An index slot is 0 (free) or (fingerprint << 17 | place + 1): 17 bits hold
 * places up to REPLAY_MAX, and 15 fingerprint bits spare nearly every look at
 * the ring, which would miss the cache.  Linear probing at a load of at most
 * one half; forgetting closes gaps by shifting, as in base/map.c.
 *
 * Both arrays double up to REPLAY_MAX, so a session that signs little is small.
 */
#include "wire/replay.h"

#include <string.h>

#include "base/mem.h"
#include "roundhouse/error.h"

#define MIN_CAP 256
#define PLACE_BITS 17
#define PLACE_MASK ((1u << PLACE_BITS) - 1)

void
replay_fini(struct replay *self)
{
    mem_free(self->ring);
    mem_free(self->index);
    *self = (struct replay){0};
}

static uint32_t
home_of(const struct replay *self, const uint8_t *digest)
{
    uint32_t h;

    memcpy(&h, digest, sizeof(h));
    return h & (self->cap * 2 - 1);
}

static uint32_t
entry_of(const uint8_t *digest, uint32_t place)
{
    uint32_t h;

    memcpy(&h, digest + sizeof(h), sizeof(h));
    return h << PLACE_BITS | (place + 1);
}

/* The slot that holds the digest, or the free one where it belongs. */
static uint32_t
lookup(const struct replay *self, const uint8_t *digest)
{
    uint32_t mask = self->cap * 2 - 1, want = entry_of(digest, 0);
    uint32_t i = home_of(self, digest), e;

    for (; (e = self->index[i]) != 0; i = (i + 1) & mask)
        if ((e & ~PLACE_MASK) == (want & ~PLACE_MASK)
            && memcmp(self->ring[(e & PLACE_MASK) - 1], digest, REPLAY_ENTRY)
                   == 0)
            break;
    return i;
}

static void
close_gap(struct replay *self, uint32_t i)
{
    uint32_t mask = self->cap * 2 - 1, e;

    for (uint32_t j = (i + 1) & mask; (e = self->index[j]) != 0;
         j = (j + 1) & mask) {
        uint32_t home = home_of(self, self->ring[(e & PLACE_MASK) - 1]);

        if (((j - home) & mask) >= ((j - i) & mask)) {
            self->index[i] = e;
            i = j;
        }
    }
    self->index[i] = 0;
}

static void
forget_oldest(struct replay *self, uint32_t n)
{
    for (; n > 0; n--) {
        uint32_t slot = lookup(self, self->ring[self->head]);

        if (self->index[slot]) // else it was forgotten before
            close_gap(self, slot);
        self->head = (self->head + 1) & (self->cap - 1);
        self->n--;
    }
}

/* Double.  Only reached before anything was forgotten, so head is 0. */
static int
grow(struct replay *self)
{
    struct replay next = {.cap = self->cap ? self->cap * 2 : MIN_CAP};

    next.ring = mem_zalloc(next.cap, REPLAY_ENTRY);
    next.index = mem_zalloc(next.cap * 2, sizeof(*next.index));
    if (!next.ring || !next.index) {
        replay_fini(&next);
        return RH_ENOMEM;
    }
    if (self->n)
        memcpy(next.ring, self->ring, (size_t)self->n * REPLAY_ENTRY);
    for (next.n = 0; next.n < self->n; next.n++)
        next.index[lookup(&next, next.ring[next.n])] =
            entry_of(next.ring[next.n], next.n);
    replay_fini(self);
    *self = next;
    return 0;
}

int
replay_add(struct replay *self, const uint8_t digest[REPLAY_ENTRY])
{
    uint32_t slot = 0, place;

    if (self->cap) {
        slot = lookup(self, digest);
        if (self->index[slot])
            return RH_EREPLAY;
    }
    if (self->n == self->cap) {
        if (self->cap == REPLAY_MAX)
            forget_oldest(self, REPLAY_MAX / 10);
        else if (grow(self) < 0)
            return RH_ENOMEM;
        slot = lookup(self, digest);
    }
    place = (self->head + self->n) & (self->cap - 1);
    memcpy(self->ring[place], digest, REPLAY_ENTRY);
    self->index[slot] = entry_of(digest, place);
    self->n++;
    return 0;
}

void
replay_forget(struct replay *self, const uint8_t digest[REPLAY_ENTRY])
{
    uint32_t slot = self->cap ? lookup(self, digest) : 0, place;

    if (!self->cap || !self->index[slot])
        return;
    place = (self->index[slot] & PLACE_MASK) - 1;
    close_gap(self, slot);
    // Its place in the ring stays taken, by what no index slot leads to.
    memset(self->ring[place], 0, REPLAY_ENTRY);
}
