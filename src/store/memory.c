/* memory.c - the task database in memory ("DictDB")
 *
 * A hash of records by id, a list in the order they were made, and a second
 * list of those that nobody waits for, in the order they finished: eviction
 * takes from its head, so an unfinished task cannot be reached by it at all
 * and culling costs nothing per record kept.
 *
 * Small messages are copied, large ones referenced: a small frame may share a
 * receive buffer many times its size, and the budget should count what is
 * really held.
 *
 * Invariants (memory_check): every record is in the map and in 'all'; exactly
 * the records that are not unfinished tasks are in 'idle'; 'bytes' is their
 * sum.
 */
#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "store/query.h"

#define COPY_LIMIT 8192  // libzmq's receive buffer
#define RECORD_COST 512  // of an entry, its strings and its map slot
#define MAX_CULLED 16384 // hashes kept to tell "evicted" from "unknown"
#define INLINE_UUID 64   // an engine's uuid has 33 characters

/* What a record holds that is neither message nor output.  Engine and queue
 * are set for every task, so they cost no allocation as a rule.
 */
enum slot {
    SLOT_ENGINE,
    SLOT_RESUBMITTED,
    SLOT_QUEUE,
    SLOT_INPUT,
    SLOT_RESULT,
    SLOT_ERROR,
    SLOT_DISPLAY,
    N_SLOTS
};

struct entry {
    struct list all, idle; // idle: self-linked while not in it
    struct record record;
    struct span owned[N_SLOTS]; // freed with mem_free
    struct buf out, err;
    uint64_t bytes;
    uint64_t seen; // the query that looked at it last
    char engine[INLINE_UUID];
    char id[];
};

struct memory {
    struct store store;
    struct memory_limits limits;
    struct map by_id;
    struct list all, idle;
    uint64_t bytes;
    uint32_t *culled; // see remember_culled; NULL before the first
    uint64_t queries;
};

const struct memory_limits memory_limits_default = {
    .max_bytes = UINT64_C(1) << 30,
    .max_records = 1024,
    .cull_fraction = 0.1,
    .max_output = (size_t)16 << 20,
};

static struct memory *
memory(struct store *store)
{
    return (struct memory *)(void *)store;
}

/* ---- records ---------------------------------------------------------- */

static struct span *
slot_of(struct record *record, enum slot slot)
{
    switch (slot) {
    case SLOT_ENGINE:
        return &record->engine_uuid;
    case SLOT_RESUBMITTED:
        return &record->resubmitted;
    case SLOT_QUEUE:
        return &record->queue;
    case SLOT_INPUT:
        return &record->execute_input;
    case SLOT_RESULT:
        return &record->execute_result;
    case SLOT_ERROR:
        return &record->error;
    default:
        return &record->display_data;
    }
}

static void
free_span(struct span *s)
{
    mem_free((void *)(uintptr_t)s->p);
    *s = SPAN_NONE;
}

static uint64_t
size_of_msg(const struct msg *m)
{
    uint64_t n = 0;

    for (uint32_t i = 0; m && i < m->n; i++)
        n += m->frame[i].n;
    return n;
}

static uint64_t
size_of(const struct entry *e)
{
    uint64_t n = RECORD_COST + e->record.msg_id.n + e->out.cap + e->err.cap;

    for (int i = 0; i < N_SLOTS; i++)
        n += e->owned[i].n;
    return n + size_of_msg(e->record.request) + size_of_msg(e->record.result);
}

static void
entry_free(struct entry *e)
{
    for (int i = 0; i < N_SLOTS; i++)
        free_span(&e->owned[i]);
    msg_unref(&e->record.request);
    msg_unref(&e->record.result);
    buf_fini(&e->out);
    buf_fini(&e->err);
    mem_free(e);
}

static struct entry *
entry_new(struct span msg_id)
{
    struct entry *e = mem_zalloc(1, sizeof(*e) + msg_id.n);

    if (!e)
        return NULL;
    list_init(&e->all);
    list_init(&e->idle);
    record_init(&e->record);
    if (msg_id.n > 0)
        memcpy(e->id, msg_id.p, msg_id.n);
    e->record.msg_id = span_of(e->id, msg_id.n);
    return e;
}

static void
remove_entry(struct memory *self, struct entry *e)
{
    (void)map_del(&self->by_id, e->record.msg_id);
    list_remove(&e->all);
    list_remove(&e->idle);
    self->bytes -= e->bytes;
    entry_free(e);
}

/* ---- eviction --------------------------------------------------------- */

static uint32_t
fnv1a(struct span id)
{
    uint32_t h = 2166136261;

    for (size_t i = 0; i < id.n; i++)
        h = (h ^ id.p[i]) * 16777619;
    return h ? h : 1; // 0 is an empty place
}

/* A table of hashes where the newer overwrites the older: forgetting one, or
 * having no table at all, costs only the better of two error texts.
 */
static void
remember_culled(struct memory *self, struct span id)
{
    const uint32_t h = fnv1a(id);

    if (!self->culled)
        self->culled = mem_zalloc(MAX_CULLED, sizeof(*self->culled));
    if (self->culled)
        self->culled[h % MAX_CULLED] = h;
}

static bool
was_culled(const struct memory *self, struct span id)
{
    const uint32_t h = fnv1a(id);

    return self->culled && self->culled[h % MAX_CULLED] == h;
}

static void
forget_culled(struct memory *self, struct span id)
{
    if (was_culled(self, id))
        self->culled[fnv1a(id) % MAX_CULLED] = 0;
}

static bool
cull_one(struct memory *self)
{
    struct entry *e;

    if (list_empty(&self->idle))
        return false;
    e = LIST_ENTRY(self->idle.next, struct entry, idle);
    remember_culled(self, e->record.msg_id);
    remove_entry(self, e);
    return true;
}

static void
cull(struct memory *self)
{
    const double keep = 1 - self->limits.cull_fraction;

    if (self->by_id.n > self->limits.max_records) {
        size_t n = (size_t)((double)self->limits.max_records
                            * self->limits.cull_fraction);

        // At least back to the limit, however small the fraction.
        if (n < self->by_id.n - self->limits.max_records)
            n = self->by_id.n - self->limits.max_records;
        while (n-- > 0 && cull_one(self))
            ;
    }
    if (self->bytes > self->limits.max_bytes) {
        const double low = (double)self->limits.max_bytes * keep;

        while ((double)self->bytes > low && cull_one(self))
            ;
    }
}

/* ---- put -------------------------------------------------------------- */

/* Everything a change needs, acquired before anything is changed. */
struct staged {
    struct span slot[N_SLOTS];
    struct msg *request, *result;
};

static void
staged_fini(struct staged *s)
{
    for (int i = 0; i < N_SLOTS; i++)
        free_span(&s->slot[i]);
    msg_unref(&s->request);
    msg_unref(&s->result);
}

static int
keep(struct msg **out, struct msg *m)
{
    if (!m)
        return 0;
    if (size_of_msg(m) > COPY_LIMIT) {
        *out = msg_ref(m);
        return 0;
    }
    *out = msg_new(m->frame + m->i_delim, m->n - m->i_delim);
    if (!*out)
        return RH_ENOMEM;
    (*out)->i_delim = 0;
    return 0;
}

/* Queues have few names, and those live for ever. */
static struct span
well_known(struct span queue)
{
    static const char *const name[] = {"mux", "task", "broadcast"};

    for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++)
        if (span_is(queue, name[i]))
            return span_str(name[i]);
    return SPAN_NONE;
}

static bool
needs_copy(const struct entry *e, enum slot slot, struct span now,
           struct span then)
{
    if (!then.p || (now.p && span_eq(now, then)))
        return false;
    if (slot == SLOT_ENGINE)
        return then.n > sizeof(e->engine);
    return slot != SLOT_QUEUE || !well_known(then).p;
}

static int
stage(struct staged *s, struct entry *e, const struct record *change)
{
    struct record copy = *change;

    for (int i = 0; i < N_SLOTS; i++) {
        const enum slot slot = (enum slot)i;
        const struct span from = *slot_of(&copy, slot);

        if (!needs_copy(e, slot, *slot_of(&e->record, slot), from))
            continue;
        s->slot[i] = span_of(mem_dup(from.p, from.n), from.n);
        if (!s->slot[i].p)
            return RH_ENOMEM;
    }
    if (keep(&s->request, change->request) < 0
        || keep(&s->result, change->result) < 0)
        return RH_ENOMEM;
    return 0;
}

/* The last line of output that was cut. */
static const char truncated[] = "\n[output limit reached: the rest of this "
                                "task's output was not recorded]\n";

static int
reserve_output(const struct memory *self, struct buf *out, struct span more)
{
    if (more.n == 0 || out->n >= self->limits.max_output)
        return 0;
    if (buf_reserve(out, more.n + sizeof(truncated)) == 0)
        return 0;
    out->failed = false; // this put fails, later ones need not
    return RH_ENOMEM;
}

static void
append_output(const struct memory *self, struct buf *out, struct span more)
{
    const size_t max = self->limits.max_output;

    if (more.n == 0 || out->n >= max)
        return;
    if (more.n > max - out->n) {
        size_t n = max - out->n;

        while (n > 0 && (more.p[n] & 0xc0) == 0x80)
            n--; // not in the middle of a character
        buf_add(out, more.p, n);
        // Whatever is missing to the limit, so that this happens once.
        while (out->n < max)
            buf_add_char(out, '\n');
        buf_add_str(out, truncated);
        return;
    }
    buf_add_span(out, more);
}

static void
set_date(int64_t *date, int64_t change)
{
    if (change != RECORD_NO_DATE)
        *date = change;
}

static void
set_slot(struct entry *e, enum slot slot, struct span *copy, struct span value)
{
    struct span *at = slot_of(&e->record, slot);

    if (!value.p || (at->p && span_eq(*at, value)))
        return;
    free_span(&e->owned[slot]);
    if (copy->p) {
        *at = e->owned[slot] = *copy;
        *copy = SPAN_NONE;
    } else if (slot == SLOT_QUEUE) {
        *at = well_known(value);
    } else { // the engine, which fits
        memmove(e->engine, value.p, value.n);
        *at = span_of(e->engine, value.n);
    }
}

/* Cannot fail: everything was acquired. */
static void
apply(struct memory *self, struct entry *e, struct staged *s,
      const struct record *change)
{
    struct record *r = &e->record, copy = *change;

    for (int i = 0; i < N_SLOTS; i++)
        set_slot(e, (enum slot)i, &s->slot[i], *slot_of(&copy, (enum slot)i));
    if (s->request) {
        msg_unref(&r->request);
        r->request = s->request;
        s->request = NULL;
    }
    if (s->result) {
        msg_unref(&r->result);
        r->result = s->result;
        s->result = NULL;
    }
    set_date(&r->submitted_us, change->submitted_us);
    set_date(&r->started_us, change->started_us);
    set_date(&r->completed_us, change->completed_us);
    set_date(&r->received_us, change->received_us);
    append_output(self, &e->out, change->out);
    append_output(self, &e->err, change->err);
    r->out = buf_span(&e->out);
    r->err = buf_span(&e->err);
}

static void
account(struct memory *self, struct entry *e)
{
    const bool idle = !record_is_unfinished(&e->record);

    self->bytes -= e->bytes;
    e->bytes = size_of(e);
    self->bytes += e->bytes;
    if (!idle)
        list_remove(&e->idle);
    else if (list_empty(&e->idle))
        list_append(&self->idle, &e->idle);
}

static int
insert(struct memory *self, struct entry *e)
{
    if (map_put(&self->by_id, e->record.msg_id, e) < 0)
        return RH_ENOMEM;
    list_append(&self->all, &e->all);
    return 0;
}

static int
put(struct store *store, struct span msg_id, const struct record *change,
    rh_error *err)
{
    struct memory *self = memory(store);
    struct entry *e = map_get(&self->by_id, msg_id), *fresh = NULL;
    struct staged s = {0};

    if (!e && change->late)
        return 0;
    if (!e)
        e = fresh = entry_new(msg_id);
    if (!e || stage(&s, e, change) < 0
        || reserve_output(self, &e->out, change->out) < 0
        || reserve_output(self, &e->err, change->err) < 0
        || (fresh && insert(self, fresh) < 0)) {
        staged_fini(&s);
        if (fresh)
            entry_free(fresh);
        else if (e)
            account(self, e); // its output buffers may have grown
        return rh_fail(err, RH_ENOMEM, "recording task %.*s",
                       (int)(msg_id.n < 128 ? msg_id.n : 128),
                       (const char *)msg_id.p);
    }
    apply(self, e, &s, change);
    account(self, e);
    cull(self);
    return 0;
}

/* ---- reading ---------------------------------------------------------- */

static int
get(struct store *store, struct span msg_id, uint32_t fields, record_fn *fn,
    void *ctx, struct fault *fault)
{
    struct memory *self = memory(store);
    const struct entry *e = map_get(&self->by_id, msg_id);
    const int n = (int)(msg_id.n < 128 ? msg_id.n : 128);
    const char *id = (const char *)msg_id.p;

    (void)fields;
    if (e)
        return fn(ctx, &e->record);
    if (was_culled(self, msg_id))
        return fault_key(fault, RH_ENOENT,
                         "Record '%.*s' has been culled for size", n, id);
    return fault_key(fault, RH_ENOENT, "No such msg_id '%.*s'", n, id);
}

/* Calls 'fn' for the matches; it may drop the record it is given. */
typedef int entry_fn(struct memory *self, void *ctx, struct entry *e);

static int
offer(struct memory *self, const struct query *query, struct entry *e,
      entry_fn *fn, void *ctx)
{
    const int rc = query_match(query, &e->record);

    return rc <= 0 ? rc : fn(self, ctx, e);
}

/* Ids asked for by name are looked up, in the order of the question. */
static int
by_ids(struct memory *self, const struct query *query, const json_t *ids,
       entry_fn *fn, void *ctx)
{
    const size_t n = json_is_array(ids) ? json_array_size(ids) : 1;
    const uint64_t query_no = ++self->queries;

    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(ids) ? json_array_get(ids, i) : ids;
        struct entry *e;
        int rc;

        if (!json_is_string(id))
            continue;
        e = map_get(&self->by_id,
                    span_of(json_string_value(id), json_string_length(id)));
        if (!e || e->seen == query_no) // asked twice, answered once
            continue;
        e->seen = query_no;
        rc = offer(self, query, e, fn, ctx);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int
each_match(struct memory *self, const struct query *query, entry_fn *fn,
           void *ctx, struct fault *fault)
{
    const json_t *ids = query_ids(query);
    int rc = 0;

    if (ids) {
        rc = by_ids(self, query, ids, fn, ctx);
    } else {
        for (struct list *l = self->all.next, *next; l != &self->all && rc >= 0;
             l = next) {
            next = l->next;
            rc = offer(self, query, LIST_ENTRY(l, struct entry, all), fn, ctx);
        }
    }
    if (rc == RH_ENOMEM)
        return fault_set(fault, rc, "MemoryError",
                         "the hub is out of memory for this query");
    return rc;
}

struct reader {
    record_fn *fn;
    void *ctx;
};

static int
read_entry(struct memory *self, void *ctx, struct entry *e)
{
    const struct reader *r = ctx;

    (void)self;
    return r->fn(r->ctx, &e->record);
}

static int
find(struct store *store, const struct query *query, uint32_t fields,
     record_fn *fn, void *ctx, struct fault *fault)
{
    struct reader r = {fn, ctx};

    (void)fields;
    return each_match(memory(store), query, read_entry, &r, fault);
}

static int
drop_entry(struct memory *self, void *ctx, struct entry *e)
{
    ++*(int *)ctx;
    forget_culled(self, e->record.msg_id);
    remove_entry(self, e);
    return 0;
}

static int
drop(struct store *store, const struct query *query, struct fault *fault)
{
    int n = 0;
    const int rc = each_match(memory(store), query, drop_entry, &n, fault);

    return rc < 0 ? rc : n;
}

static int
drop_id(struct store *store, struct span msg_id, struct fault *fault)
{
    struct memory *self = memory(store);
    struct entry *e = map_get(&self->by_id, msg_id);

    (void)fault;
    forget_culled(self, msg_id);
    if (!e)
        return 0;
    remove_entry(self, e);
    return 1;
}

struct dated {
    int64_t us;
    size_t i; // keeps equal dates in the order of arrival
    struct span id;
};

static int
by_date(const void *a, const void *b)
{
    const struct dated *x = a, *y = b;

    if (x->us != y->us)
        return x->us < y->us ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

static int
history(struct store *store, id_fn *fn, void *ctx, struct fault *fault)
{
    struct memory *self = memory(store);
    struct dated *v = mem_zalloc(self->by_id.n + 1, sizeof(*v));
    size_t n = 0;
    int rc = 0;

    if (!v)
        return fault_set(fault, RH_ENOMEM, "MemoryError",
                         "the hub is out of memory for its history");
    for (struct list *l = self->all.next; l != &self->all; l = l->next) {
        const struct record *r = &LIST_ENTRY(l, struct entry, all)->record;

        if (r->submitted_us == RECORD_NO_DATE)
            continue;
        v[n] = (struct dated){r->submitted_us, n, r->msg_id};
        n++;
    }
    qsort(v, n, sizeof(*v), by_date);
    for (size_t i = 0; i < n && rc >= 0; i++)
        rc = fn(ctx, v[i].id);
    mem_free(v);
    return rc;
}

/* ---- life ------------------------------------------------------------- */

static void
close_memory(struct store *store)
{
    struct memory *self = memory(store);

    while (!list_empty(&self->all))
        remove_entry(self, LIST_ENTRY(self->all.next, struct entry, all));
    map_fini(&self->by_id);
    mem_free(self->culled);
    mem_free(self);
}

// Also in builds without assert: whoever calls it wants to know.
static void
check(bool claim)
{
    if (!claim)
        abort();
}

static void
memory_check(const struct store *store)
{
    const struct memory *self = (const struct memory *)(const void *)store;
    uint64_t bytes = 0;
    size_t n = 0, n_idle = 0;

    for (const struct list *l = self->all.next; l != &self->all; l = l->next) {
        const struct entry *e =
            LIST_ENTRY((uintptr_t)l, const struct entry, all);

        check(map_get(&self->by_id, e->record.msg_id) == e);
        check(list_empty(&e->idle) == record_is_unfinished(&e->record));
        check(e->bytes == size_of(e));
        bytes += e->bytes;
        n++;
    }
    for (const struct list *l = self->idle.next; l != &self->idle; l = l->next)
        n_idle++;
    check(n == self->by_id.n);
    check(n_idle <= n);
    check(bytes == self->bytes);
    // Only unfinished tasks may keep it above a limit.
    if (n_idle > 0) {
        check(n <= self->limits.max_records);
        check(bytes <= self->limits.max_bytes);
    }
}

static const struct store_ops memory_ops = {
    .name = "DictDB",
    .put = put,
    .get = get,
    .find = find,
    .drop = drop,
    .drop_id = drop_id,
    .history = history,
    .close = close_memory,
    .check = memory_check,
};

int
memory_open(struct store **out, const struct memory_limits *limits,
            rh_error *err)
{
    struct memory *self;

    if (!limits)
        limits = &memory_limits_default;
    if (!(limits->cull_fraction >= 0 && limits->cull_fraction <= 1))
        return rh_fail(err, RH_EINVAL,
                       "DictDB.cull_fraction is %g, but must be 0 to 1",
                       limits->cull_fraction);
    self = mem_zalloc(1, sizeof(*self));
    if (!self)
        return rh_fail(err, RH_ENOMEM, "opening the DictDB store");
    self->store.ops = &memory_ops;
    self->limits = *limits;
    list_init(&self->all);
    list_init(&self->idle);
    *out = &self->store;
    return 0;
}
