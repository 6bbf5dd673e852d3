/* ids.c - SipHash-2-4 with 128 bits of result, and the table
 *
 * Invariants: every node has one slot; between a slot and its home no slot is
 * free; n < cap.
 */
#include "sched/ids.h"

#include "base/mem.h"
#include "roundhouse/error.h"

#define MIN_SLOTS 256 // a power of two, and of four

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

static inline void
absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

static inline uint64_t
squeeze(uint64_t v[4])
{
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void
id_hash(const uint64_t key[2], struct span name, uint64_t h[2])
{
    uint64_t v[4] = {
        key[0] ^ 0x736f6d6570736575U, key[1] ^ 0x646f72616e646f6dU ^ 0xee,
        key[0] ^ 0x6c7967656e657261U, key[1] ^ 0x7465646279746573U};
    uint64_t word, last = (uint64_t)name.n << 56;
    size_t i = 0;

    for (; name.n - i >= 8; i += 8) {
        memcpy(&word, name.p + i, 8);
        absorb(v, word);
    }
    for (unsigned shift = 0; i < name.n; i++, shift += 8)
        last |= (uint64_t)name.p[i] << shift;
    absorb(v, last);
    v[2] ^= 0xee;
    h[0] = squeeze(v);
    v[1] ^= 0xdd;
    h[1] = squeeze(v);
}

int
ids_init(struct ids *self)
{
    *self = (struct ids){
        .slot = mem_zalloc(MIN_SLOTS, sizeof(struct id_slot)),
    };
    if (!self->slot)
        return RH_ENOMEM;
    self->cap = MIN_SLOTS;
    return 0;
}

void
ids_fini(struct ids *self)
{
    mem_free(self->slot);
    *self = (struct ids){0};
}

struct id_node *
ids_get(const struct ids *self, const uint64_t h[2])
{
    size_t mask = self->cap - 1, i = h[0] & mask;

    for (; self->slot[i].node; i = (i + 1) & mask)
        if (self->slot[i].h0 == h[0] && self->slot[i].node->h[1] == h[1])
            return self->slot[i].node;
    return NULL;
}

/* In the order of homes, so both tables are walked from start to end. */
static int
resize(struct ids *self, size_t cap)
{
    struct id_slot *slot = mem_zalloc_huge(cap, sizeof(*slot));

    if (!slot)
        return RH_ENOMEM;
    for (size_t i = 0; i < self->cap; i++) {
        size_t to = self->slot[i].h0 & (cap - 1);

        if (!self->slot[i].node)
            continue;
        while (slot[to].node)
            to = (to + 1) & (cap - 1);
        slot[to] = self->slot[i];
    }
    mem_free(self->slot);
    self->slot = slot;
    self->cap = cap;
    return 0;
}

int
ids_reserve(struct ids *self)
{
    // Without memory to grow it gets slower; one slot must stay free.
    if (self->n < self->cap / 4 * 3 || resize(self, self->cap * 2) == 0
        || self->n < self->cap - 1)
        return 0;
    return RH_ENOMEM;
}

void
ids_add(struct ids *self, struct id_node *node)
{
    size_t mask = self->cap - 1, i = node->h[0] & mask;

    while (self->slot[i].node)
        i = (i + 1) & mask;
    self->slot[i] = (struct id_slot){node->h[0], node};
    self->n++;
}

void
ids_del(struct ids *self, struct id_node *node)
{
    size_t mask = self->cap - 1, i = node->h[0] & mask;

    while (self->slot[i].node != node)
        i = (i + 1) & mask;
    // Close the gap: move back whatever probed past it.
    for (size_t j = (i + 1) & mask; self->slot[j].node; j = (j + 1) & mask)
        if (((j - self->slot[j].h0) & mask) >= ((j - i) & mask)) {
            self->slot[i] = self->slot[j];
            i = j;
        }
    self->slot[i] = (struct id_slot){0, NULL};
    self->n--;
    if (self->cap > MIN_SLOTS && self->n < self->cap / 16)
        (void)resize(self, self->cap / 4); // else it stays large
}

struct id_node *
ids_next(const struct ids *self, size_t *at)
{
    while (*at < self->cap) {
        struct id_node *node = self->slot[(*at)++].node;

        if (node)
            return node;
    }
    return NULL;
}
