/* place.c - which of the engines with room gets the task
 *
 * Two arrangements, by scheme.  A ladder for leastload (rank: load), lru and
 * pure (rank: always 0): buckets of engines in order of rank, and within a
 * bucket in order of arrival, so that the first seat is the answer and a
 * change of load is a step to a neighbour.  An array for the random schemes
 * and one's own, with Fenwick sums of the weights for "weighted".
 *
 * "Least recently used" counts from when an engine last came to its rank: with
 * equal loads the one that has been idle longest is first; a new engine goes
 * before all others.
 *
 * Nothing here allocates but place_reserve, which is called before an engine
 * is registered; so a decision cannot fail.
 */
#include "base/mem.h"
#include "sched/core.h"

#define DRAWS 32 // tries before a random pick among a part looks at all

static const char *const names[N_SCHEMES] = {
    [SCHEME_LEASTLOAD] = "leastload", [SCHEME_LRU] = "lru",
    [SCHEME_PURE] = "pure",           [SCHEME_RANDOM] = "plainrandom",
    [SCHEME_TWOBIN] = "twobin",       [SCHEME_WEIGHTED] = "weighted",
};

int
scheme_find(const char *name)
{
    for (int i = 0; i < N_SCHEMES; i++)
        if (names[i] && strcmp(names[i], name) == 0)
            return i;
    return -1;
}

bool
sched_scheme_known(const char *name)
{
    return name && scheme_find(name) >= 0;
}

/* ---- ladder ------------------------------------------------------------ */

static struct bucket *
bucket_at(struct list *link)
{
    return LIST_ENTRY(link, struct bucket, link);
}

/* Seat at 'rank', searching from 'near' (a bucket's link or the sentinel). */
static void
ladder_put(struct ladder *self, struct seat *seat, uint32_t rank,
           struct list *near, bool first)
{
    struct list *end = &self->buckets;
    struct bucket *b;

    while (near != end && bucket_at(near)->rank > rank)
        near = near->prev;
    while (near->next != end && bucket_at(near->next)->rank <= rank)
        near = near->next;
    if (near == end || bucket_at(near)->rank != rank) {
        // Never empty: there are as many buckets as engines.
        struct list *link = self->spare.next;

        list_remove(link);
        list_prepend(near, link);
        near = link;
        bucket_at(link)->rank = rank;
    }
    b = bucket_at(near);
    if (first)
        list_prepend(&b->seats, &seat->link);
    else
        list_append(&b->seats, &seat->link);
    seat->bucket = b;
    self->n++;
}

/* Returns where to search for the seat's next rank. */
static struct list *
ladder_take(struct ladder *self, struct seat *seat)
{
    struct bucket *b = seat->bucket;
    struct list *near = &b->link;

    list_remove(&seat->link);
    seat->bucket = NULL;
    self->n--;
    if (list_empty(&b->seats)) {
        near = near->prev;
        list_remove(&b->link);
        list_append(&self->spare, &b->link);
    }
    return near;
}

static void
ladder_init(struct ladder *self)
{
    *self = (struct ladder){0};
    list_init(&self->buckets);
    list_init(&self->spare);
}

static int
ladder_reserve(struct ladder *self)
{
    struct bucket *b = mem_alloc(sizeof(*b));

    if (!b)
        return RH_ENOMEM;
    list_init(&b->seats);
    list_append(&self->spare, &b->link);
    return 0;
}

static void
free_first(struct list *buckets)
{
    struct list *link = buckets->next;

    list_remove(link);
    mem_free(bucket_at(link));
}

static void
ladder_release(struct ladder *self)
{
    free_first(&self->spare);
}

static void
ladder_fini(struct ladder *self)
{
    while (!list_empty(&self->buckets))
        free_first(&self->buckets);
    while (!list_empty(&self->spare))
        free_first(&self->spare);
}

/* Bring a seat to where 'in' and 'rank' say; a 'used' one goes behind its
 * equals.
 */
static void
ladder_set(struct ladder *self, struct seat *seat, bool in, uint32_t rank,
           bool used)
{
    // Who gets room again had the highest load: search from there.
    struct list *near = self->buckets.prev;

    if (seat->bucket && in && seat->bucket->rank == rank && !used)
        return;
    if (seat->bucket)
        near = ladder_take(self, seat);
    if (in)
        ladder_put(self, seat, rank, near, false);
}

/* ---- array ------------------------------------------------------------- */

/* In proportion to 1 / (1e-6 + load), in integers so that sums stay exact. */
static uint64_t
weight_of(uint32_t load)
{
    const uint64_t one = 1U << 20;

    return load == 0 ? one * 1000000 : load < one ? one / load : 1;
}

static void
tree_add(struct place *self, size_t i, uint64_t by)
{
    for (i++; i <= self->cap; i += i & (~i + 1))
        self->tree[i] += by; // may wrap: 'by' may be a negative difference
}

/* The index at which the sums of weights exceed 'x'. */
static size_t
tree_find(const struct place *self, uint64_t x)
{
    size_t i = 0, step = 1;

    while (step * 2 <= self->cap)
        step *= 2;
    for (; step; step /= 2)
        if (i + step <= self->cap && self->tree[i + step] <= x) {
            i += step;
            x -= self->tree[i];
        }
    return i < self->n ? i : self->n - 1;
}

static void
set_weight(struct sched *s, struct engine *e, uint64_t weight)
{
    if (s->scheme == SCHEME_WEIGHTED && e->weight != weight) {
        tree_add(&s->place, e->at - 1, weight - e->weight);
        s->place.sum += weight - e->weight;
    }
    e->weight = weight;
}

static void
array_set(struct sched *s, struct engine *e, bool in)
{
    struct place *p = &s->place;

    if (in && !e->at) {
        p->v[p->n++] = e;
        e->at = p->n;
        e->weight = 0;
    }
    if (in) {
        set_weight(s, e, weight_of(e->load));
    } else if (e->at) {
        struct engine *last = p->v[p->n - 1];
        uint64_t weight = last->weight;
        size_t at = e->at;

        set_weight(s, e, 0);
        if (last != e) {
            set_weight(s, last, 0);
            last->at = at;
            p->v[at - 1] = last;
            set_weight(s, last, weight);
        }
        p->n--;
        e->at = 0;
    }
}

/* ---- what the others call ---------------------------------------------- */

static bool
by_ladder(const struct sched *s)
{
    return s->scheme == SCHEME_LEASTLOAD || s->scheme == SCHEME_LRU
           || s->scheme == SCHEME_PURE;
}

void
place_init(struct place *self)
{
    *self = (struct place){0};
    ladder_init(&self->room);
    ladder_init(&self->spare);
}

void
place_fini(struct place *self)
{
    ladder_fini(&self->room);
    ladder_fini(&self->spare);
    mem_free(self->v);
    mem_free(self->tree);
    mem_free(self->scratch);
    mem_free(self->loads);
}

/* The arrays grow one by one; 'cap' follows when all have grown. */
static int
grow_arrays(struct sched *s, size_t cap)
{
    struct place *p = &s->place;
    struct engine **v = mem_resize(p->v, cap, sizeof(struct engine *));
    struct engine **scratch;
    struct rh_scheme_engine *loads;
    uint64_t *tree;

    if (!v)
        return RH_ENOMEM;
    p->v = v;
    scratch = mem_resize(p->scratch, cap, sizeof(struct engine *));
    if (!scratch)
        return RH_ENOMEM;
    p->scratch = scratch;
    loads = mem_resize(p->loads, cap, sizeof(*loads));
    if (!loads)
        return RH_ENOMEM;
    p->loads = loads;
    tree = mem_zalloc(cap + 1, sizeof(*tree));
    if (!tree)
        return RH_ENOMEM;
    mem_free(p->tree);
    p->tree = tree;
    p->cap = cap;
    for (size_t i = 0; i < p->n; i++)
        if (s->scheme == SCHEME_WEIGHTED)
            tree_add(p, i, p->v[i]->weight);
    return 0;
}

int
place_reserve(struct sched *s)
{
    struct place *p = &s->place;

    if (s->n_live + 1 > p->cap && grow_arrays(s, p->cap ? p->cap * 2 : 16) < 0)
        return RH_ENOMEM;
    if (ladder_reserve(&p->room) < 0)
        return RH_ENOMEM;
    if (ladder_reserve(&p->spare) < 0) {
        ladder_release(&p->room);
        return RH_ENOMEM;
    }
    return 0;
}

void
place_release(struct sched *s)
{
    ladder_release(&s->place.room);
    ladder_release(&s->place.spare);
}

void
place_update(struct sched *s, struct engine *e, bool used)
{
    struct place *p = &s->place;
    bool in = engine_room(s, e);

    if (used)
        e->last_used = ++p->stamp;
    if (by_ladder(s)) {
        uint32_t rank = s->scheme == SCHEME_LEASTLOAD ? e->load : 0;

        ladder_set(&p->room, &e->room, in, rank, used);
        p->n = p->room.n;
    } else {
        array_set(s, e, in);
    }
}

void
place_new(struct sched *s, struct engine *e)
{
    struct place *p = &s->place;

    e->last_used = --p->new_stamp;
    if (by_ladder(s) && engine_room(s, e)) {
        uint32_t rank = s->scheme == SCHEME_LEASTLOAD ? e->load : 0;

        ladder_put(&p->room, &e->room, rank, &p->room.buckets, true);
        p->n = p->room.n;
    } else {
        place_update(s, e, false);
    }
}

void
place_spare(struct sched *s, struct engine *e, bool may)
{
    ladder_set(&s->place.spare, &e->spare, may, e->load, false);
}

struct engine *
place_pick_spare(const struct sched *s)
{
    const struct ladder *l = &s->place.spare;

    if (!l->n)
        return NULL;
    return LIST_ENTRY(bucket_at(l->buckets.next)->seats.next, struct engine,
                      spare.link);
}

/* ---- picking ----------------------------------------------------------- */

static bool
allowed(const struct limits *limits, const struct engine *e)
{
    return !limits || limits->any
           || serials_have(limits->serial, limits->n, e->serial)
                  != limits->exclude;
}

/* Longer unused first; with 'load', less loaded first. */
static bool
before(const struct engine *a, const struct engine *b, bool load)
{
    if (load && a->load != b->load)
        return a->load < b->load;
    return a->last_used < b->last_used;
}

static struct engine *
first_of(struct engine **v, size_t n, bool load)
{
    struct engine *best = v[0];

    for (size_t i = 1; i < n; i++)
        if (before(v[i], best, load))
            best = v[i];
    return best;
}

static size_t
below(struct sched *s, size_t n)
{
    return (size_t)(((sched_random(s) >> 32) * (uint64_t)n) >> 32);
}

static struct engine *
draw_weighted(struct sched *s, struct engine **v, size_t n)
{
    uint64_t sum = 0, x;

    for (size_t i = 0; i < n; i++)
        sum += weight_of(v[i]->load);
    x = sched_random(s) % (sum ? sum : 1);
    for (size_t i = 0; i < n; i++) {
        uint64_t weight = weight_of(v[i]->load);

        if (x < weight)
            return v[i];
        x -= weight;
    }
    return v[n - 1];
}

static struct engine *
pick_own(struct sched *s, struct engine **v, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        s->place.loads[i] = engine_for_scheme(v[i]);
    i = s->config.own->pick(s->config.own_state, s->place.loads, n,
                            sched_random(s));
    return v[i < n ? i : 0];
}

/* The scheme, applied to a list of engines that may all take the task. */
static struct engine *
pick_among(struct sched *s, struct engine **v, size_t n)
{
    struct engine *a, *b;

    switch (s->scheme) {
    case SCHEME_RANDOM:
        return v[below(s, n)];
    case SCHEME_TWOBIN:
        a = v[below(s, n)];
        b = v[below(s, n)];
        return before(a, b, false) ? a : b;
    case SCHEME_WEIGHTED:
        a = draw_weighted(s, v, n);
        b = draw_weighted(s, v, n);
        return b->load < a->load ? b : a;
    case SCHEME_OWN:
        return pick_own(s, v, n);
    default:
        return first_of(v, n, s->scheme == SCHEME_LEASTLOAD);
    }
}

static struct engine *
pick_ladder(struct ladder *self, const struct limits *limits)
{
    struct list *b, *i;

    for (b = self->buckets.next; b != &self->buckets; b = b->next) {
        struct list *seats = &LIST_ENTRY(b, struct bucket, link)->seats;

        for (i = seats->next; i != seats; i = i->next) {
            struct engine *e = LIST_ENTRY(i, struct engine, room.link);

            if (allowed(limits, e))
                return e;
        }
    }
    return NULL;
}

/* One draw among all engines with room; NULL if luck hits none allowed. */
static struct engine *
draw(struct sched *s, const struct limits *limits)
{
    const struct place *p = &s->place;

    for (int i = 0; i < DRAWS; i++) {
        size_t at =
            p->sum ? tree_find(p, sched_random(s) % p->sum) : below(s, p->n);

        if (allowed(limits, p->v[at]))
            return p->v[at];
    }
    return NULL;
}

static struct engine *
pick_array(struct sched *s, const struct limits *limits)
{
    struct engine *a = NULL, *b = NULL;
    size_t n = 0;

    if (s->scheme != SCHEME_OWN) {
        a = draw(s, limits);
        b = a && s->scheme != SCHEME_RANDOM ? draw(s, limits) : a;
    }
    if (a && b) {
        bool weighted = s->scheme == SCHEME_WEIGHTED;

        return (weighted ? b->load < a->load : before(b, a, false)) ? b : a;
    }
    for (size_t i = 0; i < s->place.n; i++)
        if (allowed(limits, s->place.v[i]))
            s->place.scratch[n++] = s->place.v[i];
    return n ? pick_among(s, s->place.scratch, n) : NULL;
}

struct engine *
place_pick(struct sched *s, const struct limits *limits)
{
    size_t n = 0;

    if (!s->place.n)
        return NULL;
    if (!limits || limits->any || limits->exclude)
        return by_ladder(s) ? pick_ladder(&s->place.room, limits)
                            : pick_array(s, limits);
    for (uint32_t i = 0; i < limits->n; i++) {
        struct engine *e = engine_of(s, limits->serial[i]);

        if (e && engine_room(s, e))
            s->place.scratch[n++] = e;
    }
    return n ? pick_among(s, s->place.scratch, n) : NULL;
}
