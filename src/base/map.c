/* map.c - open addressing with linear probing and a keyed hash
 *
 * Deletion shifts the following run back instead of leaving tombstones, so a
 * table that lives for months with steady turnover never slows down.  The hash
 * is SipHash-1-3 with a random key: peers choose the keys, and must not be
 * able to choose the collisions.
 *
 * Invariants: cap is 0 or a power of two; n <= 3/4 cap; between an entry's
 * home slot and its slot there is no free slot.
 */
#include "base/map.h"

#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "roundhouse/error.h"

#define MIN_CAP 8

static uint64_t seed[2];
static pthread_once_t seeded = PTHREAD_ONCE_INIT;

static void
make_seed(void)
{
    if (random_bytes(seed, sizeof(seed)) < 0) {
        // No entropy is no reason to stop; addresses are random as well.
        seed[0] = (uint64_t)clock_wall_us() ^ (uint64_t)(uintptr_t)&seed;
        seed[1] = (uint64_t)clock_mono_us() ^ (uint64_t)getpid() << 32;
    }
}

static inline uint64_t
rotl(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline void
sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] = rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] = rotl(v[2], 32);
}

static uint32_t
hash(struct span key)
{
    uint64_t v[4] = {
        seed[0] ^ 0x736f6d6570736575U, seed[1] ^ 0x646f72616e646f6dU,
        seed[0] ^ 0x6c7967656e657261U, seed[1] ^ 0x7465646279746573U};
    uint64_t word, last = (uint64_t)key.n << 56;
    size_t i = 0;

    for (; key.n - i >= 8; i += 8) {
        memcpy(&word, key.p + i, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    for (unsigned shift = 0; i < key.n; i++, shift += 8)
        last |= (uint64_t)key.p[i] << shift;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    word = v[0] ^ v[1] ^ v[2] ^ v[3];
    return (uint32_t)(word ^ word >> 32);
}

void
map_init(struct map *self)
{
    *self = (struct map){0};
}

void
map_fini(struct map *self)
{
    mem_free(self->slot);
    map_init(self);
}

/* The slot that holds 'key', or the free slot where it belongs. */
static struct map_slot *
lookup(const struct map *self, struct span key, uint32_t h)
{
    size_t mask = self->cap - 1;
    size_t i = h & mask;

    while (self->slot[i].value
           && (self->slot[i].hash != h || !span_eq(self->slot[i].key, key)))
        i = (i + 1) & mask;
    return &self->slot[i];
}

void *
map_get(const struct map *self, struct span key)
{
    return self->n ? lookup(self, key, hash(key))->value : NULL;
}

static int
rehash(struct map *self, size_t cap)
{
    struct map next = {mem_zalloc(cap, sizeof(struct map_slot)), self->n, cap};

    if (!next.slot)
        return RH_ENOMEM;
    for (size_t i = 0; i < self->cap; i++)
        if (self->slot[i].value)
            *lookup(&next, self->slot[i].key, self->slot[i].hash) =
                self->slot[i];
    mem_free(self->slot);
    *self = next;
    return 0;
}

int
map_reserve(struct map *self, size_t more)
{
    size_t cap = self->cap ? self->cap : MIN_CAP;

    if (more > SIZE_MAX / 4 - self->n) // n is below SIZE_MAX / 4 for ever
        return RH_ENOMEM;
    while (cap / 4 * 3 < self->n + more)
        cap *= 2;
    return cap == self->cap ? 0 : rehash(self, cap);
}

int
map_put(struct map *self, struct span key, void *value)
{
    struct map_slot *slot;
    uint32_t h;

    if (!value)
        return RH_EINVAL;
    pthread_once(&seeded, make_seed);
    h = hash(key);
    if (self->n) { // replacing needs no room
        slot = lookup(self, key, h);
        if (slot->value) {
            slot->key = key; // the old key may die with the old value
            slot->value = value;
            return 0;
        }
    }
    if (map_reserve(self, 1) < 0)
        return RH_ENOMEM;
    *lookup(self, key, h) = (struct map_slot){key, value, h};
    self->n++;
    return 0;
}

/* Close the gap at 'i': move back whatever probed past it. */
static void
close_gap(struct map *self, size_t i)
{
    size_t mask = self->cap - 1;

    for (size_t j = (i + 1) & mask; self->slot[j].value; j = (j + 1) & mask) {
        size_t home = self->slot[j].hash & mask;

        if (((j - home) & mask) >= ((j - i) & mask)) {
            self->slot[i] = self->slot[j];
            i = j;
        }
    }
    self->slot[i] = (struct map_slot){0};
}

void *
map_del(struct map *self, struct span key)
{
    struct map_slot *slot;
    void *value;

    if (!self->n)
        return NULL;
    slot = lookup(self, key, hash(key));
    value = slot->value;
    if (value) {
        close_gap(self, (size_t)(slot - self->slot));
        self->n--;
    }
    return value;
}

void *
map_next(const struct map *self, size_t *i)
{
    while (*i < self->cap) {
        void *value = self->slot[(*i)++].value;

        if (value)
            return value;
    }
    return NULL;
}
