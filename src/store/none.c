/* none.c - the store that keeps nothing ("NoDB")
 *
 * For clusters whose clients keep their own results: the hub then holds ids
 * only.  Reads say so instead of pretending that nothing ever ran.
 */
#include "base/mem.h"
#include "store/store.h"

static int
no_data(struct fault *fault)
{
    return fault_set(fault, RH_ESTATE, "NoData",
                     "NoDB backend doesn't store any data. ");
}

static int
put(struct store *self, struct span msg_id, const struct record *change,
    rh_error *err)
{
    (void)self;
    (void)msg_id;
    (void)change;
    (void)err;
    return 0;
}

static int
get(struct store *self, struct span msg_id, uint32_t fields, record_fn *fn,
    void *ctx, struct fault *fault)
{
    (void)self;
    (void)msg_id;
    (void)fields;
    (void)fn;
    (void)ctx;
    return no_data(fault);
}

static int
find(struct store *self, const struct query *query, uint32_t fields,
     record_fn *fn, void *ctx, struct fault *fault)
{
    (void)self;
    (void)query;
    (void)fields;
    (void)fn;
    (void)ctx;
    return no_data(fault);
}

static int
drop(struct store *self, const struct query *query, struct fault *fault)
{
    (void)self;
    (void)query;
    (void)fault;
    return 0;
}

static int
drop_id(struct store *self, struct span msg_id, struct fault *fault)
{
    (void)self;
    (void)msg_id;
    (void)fault;
    return 0;
}

static int
history(struct store *self, id_fn *fn, void *ctx, struct fault *fault)
{
    (void)self;
    (void)fn;
    (void)ctx;
    return no_data(fault);
}

static void
close_none(struct store *self)
{
    mem_free(self);
}

static const struct store_ops none_ops = {
    .name = "NoDB",
    .put = put,
    .get = get,
    .find = find,
    .drop = drop,
    .drop_id = drop_id,
    .history = history,
    .close = close_none,
};

int
none_open(struct store **out, rh_error *err)
{
    struct store *self = mem_zalloc(1, sizeof(*self));

    if (!self)
        return rh_fail(err, RH_ENOMEM, "opening the NoDB store");
    self->ops = &none_ops;
    *out = self;
    return 0;
}
