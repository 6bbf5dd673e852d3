/* status.c - queue_request and load_request: how busy is everybody */
#include <jansson.h>

#include "base/mem.h"
#include "hub/private.h"

/* ---- which engines are meant ------------------------------------------ */

struct targets {
    struct engine **v;
    size_t n;
};

static bool
has_work(const struct engine *e)
{
    return e->n_shelf[SHELF_QUEUE] > 0 || e->n_shelf[SHELF_TASKS] > 0;
}

/* Everybody that lives, and the dead whose work is not settled yet. */
static void
everybody(const struct hub *self, struct targets *out)
{
    for (size_t i = 0; i < self->n_engine; i++) {
        struct engine *e = self->engine[i];

        if (e->state == ENGINE_UP || (e->state == ENGINE_DEAD && has_work(e)))
            out->v[out->n++] = e;
    }
}

/* By id or uuid; the dead count, if they are asked for by name. */
static struct engine *
named(const struct hub *self, const json_t *t)
{
    struct engine *e = NULL;

    if (json_is_integer(t))
        e = engine_by_id(self, json_integer_value(t));
    else if (json_is_string(t))
        e = engine_by_uuid(
            self, span_of(json_string_value(t), json_string_length(t)));
    return e && e->state != ENGINE_PENDING ? e : NULL;
}

static int
append_json(const char *text, size_t n, void *out)
{
    buf_add(out, text, n);
    return 0;
}

/* As Python prints the list: [99, 'abc']. */
static void
add_bad(struct buf *bad, const json_t *t)
{
    buf_add_str(bad, bad->n ? ", " : "[");
    if (json_is_string(t))
        fault_repr(bad, span_of(json_string_value(t), json_string_length(t)));
    else if (json_dump_callback(t, append_json, bad, JSON_ENCODE_ANY) < 0)
        bad->failed = true;
}

static int
select_targets(const struct hub *self, const json_t *list, struct targets *out,
               struct fault *fault)
{
    const bool many = json_is_array(list);
    const size_t n = many ? json_array_size(list) : 1;
    struct buf bad = {0};
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        const json_t *t = many ? json_array_get(list, i) : list;
        struct engine *e = named(self, t);

        if (e)
            out->v[out->n++] = e;
        else
            add_bad(&bad, t);
    }
    if (out->n < n) {
        buf_add_str(&bad, "]");
        buf_add_char(&bad, '\0');
        rc = bad.failed ? request_no_memory(fault)
                        : fault_set(fault, RH_ENOENT, "IndexError",
                                    "No Such Engine: %s", (const char *)bad.p);
    } else if (n == 0) {
        rc = fault_set(fault, RH_ENOENT, "IndexError", "No Engines Registered");
    }
    buf_fini(&bad);
    return rc;
}

/* Engines of content.targets; free out->v. */
static int
targets_of(const struct hub *self, const struct request *req,
           struct targets *out, struct fault *fault)
{
    const json_t *list = json_object_get(req->content, "targets");
    const size_t asked = json_array_size(list) + 1;
    int rc = 0;

    *out = (struct targets){0};
    if (!list)
        return fault_key(fault, RH_EINVAL, "targets");
    out->v = mem_zalloc((asked > self->n_engine ? asked : self->n_engine) + 1,
                        sizeof(struct engine *));
    if (!out->v)
        return request_no_memory(fault);
    if (json_is_null(list))
        everybody(self, out);
    else
        rc = select_targets(self, list, out, fault);
    if (rc < 0)
        mem_free(out->v);
    return rc;
}

/* ---- replies ---------------------------------------------------------- */

static void
add_ids(struct buf *out, const struct list *shelf)
{
    const char *comma = "";

    buf_add_char(out, '[');
    for (const struct list *l = shelf->next; l != shelf; l = l->next) {
        const struct link *link =
            LIST_ENTRY((uintptr_t)l, const struct link, node);

        buf_add_str(out, comma);
        buf_add_json_str(out, task_id(link->task));
        comma = ", ";
    }
    buf_add_char(out, ']');
}

static void
add_engine(struct buf *out, const struct engine *e, bool verbose)
{
    buf_add_fmt(out, ", \"%d\": {\"queue\": ", e->id);
    if (!verbose) {
        buf_add_fmt(out, "%zu, \"completed\": %llu, \"tasks\": %zu}",
                    e->n_shelf[SHELF_QUEUE], (unsigned long long)e->n_completed,
                    e->n_shelf[SHELF_TASKS]);
        return;
    }
    add_ids(out, &e->shelf[SHELF_QUEUE]);
    buf_add_str(out, ", \"completed\": ");
    add_ids(out, &e->shelf[SHELF_COMPLETED]);
    buf_add_str(out, ", \"tasks\": ");
    add_ids(out, &e->shelf[SHELF_TASKS]);
    buf_add_char(out, '}');
}

static void
add_unassigned(struct buf *out, const struct hub *self, bool verbose)
{
    const char *comma = "";

    buf_add_str(out, ", \"unassigned\": ");
    if (!verbose) {
        buf_add_fmt(out, "%zu", self->n_unassigned);
        return;
    }
    buf_add_char(out, '[');
    for (const struct list *l = self->unassigned.next; l != &self->unassigned;
         l = l->next) {
        buf_add_str(out, comma);
        buf_add_json_str(
            out, task_id(LIST_ENTRY((uintptr_t)l, const struct task, node)));
        comma = ", ";
    }
    buf_add_char(out, ']');
}

int
hub_on_queue(struct hub *self, const struct request *req, struct reply *rep,
             struct fault *fault)
{
    const bool verbose = content_flag(req, "verbose");
    struct targets targets;
    const int rc = targets_of(self, req, &targets, fault);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < targets.n; i++)
        add_engine(&rep->content, targets.v[i], verbose);
    add_unassigned(&rep->content, self, verbose);
    mem_free(targets.v);
    return 0;
}

int
hub_on_load(struct hub *self, const struct request *req, struct reply *rep,
            struct fault *fault)
{
    struct targets targets;
    const int rc = targets_of(self, req, &targets, fault);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < targets.n; i++) {
        const struct engine *e = targets.v[i];

        buf_add_fmt(&rep->content, ", \"%d\": %zu", e->id,
                    e->n_shelf[SHELF_QUEUE] + e->n_shelf[SHELF_TASKS]);
    }
    mem_free(targets.v);
    return 0;
}
