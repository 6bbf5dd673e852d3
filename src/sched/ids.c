/* ids.c - SipHash-2-4 with 128 bits of result, and the linear hash table
 *
 * Invariants: every node is in the chain of home(h); min_buckets <= n_bucket
 * <= cap; base <= n_bucket < 2 * base.
 */
#include "sched/ids.h"

#include "base/mem.h"
#include "roundhouse/error.h"

#define MIN_BUCKETS 64 // a power of two

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
        .bucket = mem_zalloc(MIN_BUCKETS, sizeof(struct id_node *)),
        .n_bucket = MIN_BUCKETS,
        .cap = MIN_BUCKETS,
        .base = MIN_BUCKETS,
    };
    return self->bucket ? 0 : RH_ENOMEM;
}

void
ids_fini(struct ids *self)
{
    mem_free(self->bucket);
    *self = (struct ids){0};
}

static inline size_t
home(const struct ids *self, uint64_t h)
{
    size_t i = (size_t)h & (2 * self->base - 1);

    return i < self->n_bucket ? i : i - self->base;
}

struct id_node *
ids_get(const struct ids *self, const uint64_t h[2])
{
    struct id_node *node = self->bucket[home(self, h[0])];

    while (node && (node->h[0] != h[0] || node->h[1] != h[1]))
        node = node->next;
    return node;
}

static void
resize(struct ids *self, size_t cap)
{
    struct id_node **p =
        mem_resize(self->bucket, cap, sizeof(struct id_node *));

    if (p) {
        self->bucket = p;
        self->cap = cap;
    }
}

/* Add the bucket n_bucket and move into it what belongs there. */
static void
split(struct ids *self)
{
    size_t to = self->n_bucket;
    struct id_node **from;

    if (to == self->cap)
        resize(self, self->cap * 2);
    if (to == self->cap)
        return; // no memory: longer chains
    from = &self->bucket[to - self->base];
    self->bucket[to] = NULL;
    while (*from) {
        struct id_node *node = *from;

        if (((size_t)node->h[0] & (2 * self->base - 1)) != to) {
            from = &node->next;
            continue;
        }
        *from = node->next;
        node->next = self->bucket[to];
        self->bucket[to] = node;
    }
    if (++self->n_bucket == 2 * self->base)
        self->base *= 2;
}

/* Give the last bucket's nodes back to the one it was split from. */
static void
merge(struct ids *self)
{
    struct id_node **end, *last = self->bucket[--self->n_bucket];

    if (self->n_bucket < self->base)
        self->base /= 2;
    end = &self->bucket[self->n_bucket - self->base];
    while (*end)
        end = &(*end)->next;
    *end = last;
    if (self->n_bucket < self->cap / 4)
        resize(self, self->cap / 2);
}

void
ids_add(struct ids *self, struct id_node *node)
{
    struct id_node **at = &self->bucket[home(self, node->h[0])];

    node->next = *at;
    *at = node;
    if (++self->n > self->n_bucket)
        split(self);
}

void
ids_del(struct ids *self, struct id_node *node)
{
    struct id_node **at = &self->bucket[home(self, node->h[0])];

    while (*at != node)
        at = &(*at)->next;
    *at = node->next;
    node->next = NULL;
    self->n--;
    // Four at a time, or the table would never become a quarter full again.
    for (int i = 0;
         i < 4 && self->n < self->n_bucket / 4 && self->n_bucket > MIN_BUCKETS;
         i++)
        merge(self);
}

struct id_node *
ids_next(const struct ids *self, size_t *at, struct id_node *node)
{
    if (node && node->next)
        return node->next;
    while (*at < self->n_bucket) {
        node = self->bucket[(*at)++];
        if (node)
            return node;
    }
    return NULL;
}
