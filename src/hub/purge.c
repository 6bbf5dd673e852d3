/* purge.c - purge_request: forget records
 *
 * Everything is checked before anything is dropped.  Only the database is
 * purged: counts of finished tasks stay what they are.
 */
#include <jansson.h>

#include "base/mem.h"
#include "hub/private.h"

/* Drop all finished records, or those of one engine. */
static int
drop_finished(struct hub *self, const struct engine *e, struct fault *fault)
{
    struct buf text = {0};
    struct query *query = NULL;
    int rc;

    buf_add_str(&text, "{\"completed\": {\"$ne\": null}");
    if (e) {
        buf_add_str(&text, ", \"engine_uuid\": ");
        buf_add_json_str(&text, engine_uuid(e));
    }
    buf_add_char(&text, '}');
    rc = text.failed ? request_no_memory(fault)
                     : query_parse(&query, buf_span(&text), fault);
    if (rc == 0)
        rc = self->store->ops->drop(self->store, query, fault);
    query_free(&query);
    buf_fini(&text);
    return rc;
}

static int
check_ids(const struct hub *self, const struct span *id, size_t n,
          struct fault *fault)
{
    struct buf quoted = {0};
    size_t i = 0;

    for (; i < n; i++) {
        const struct task *t = task_get(self, id[i]);

        if (t && t->state != TASK_DONE)
            break;
    }
    if (i == n)
        return 0;
    fault_repr(&quoted, id[i]);
    buf_add_char(&quoted, '\0');
    fault_set(fault, RH_ESTATE, "IndexError", "msg pending: %s",
              quoted.failed ? "?" : (const char *)quoted.p);
    buf_fini(&quoted);
    return RH_ESTATE;
}

static int
engine_at(const struct hub *self, const json_t *id, struct engine **out,
          struct fault *fault)
{
    struct engine *e =
        json_is_integer(id) ? engine_by_id(self, json_integer_value(id)) : NULL;

    if (!json_is_integer(id))
        return fault_set(fault, RH_EINVAL, "TypeError",
                         "engine_ids must be a list of numbers");
    if (!e || e->state != ENGINE_UP)
        return fault_set(fault, RH_ENOENT, "IndexError", "No such engine: %lld",
                         (long long)json_integer_value(id));
    *out = e;
    return 0;
}

static int
purge(struct hub *self, const struct span *id, size_t n, const json_t *engines,
      struct fault *fault)
{
    struct engine *e = NULL;
    int rc = check_ids(self, id, n, fault);

    for (size_t i = 0; i < json_array_size(engines) && rc == 0; i++)
        rc = engine_at(self, json_array_get(engines, i), &e, fault);
    // Nothing but the database itself can refuse from here on.
    for (size_t i = 0; i < n && rc >= 0; i++)
        rc = self->store->ops->drop_id(self->store, id[i], fault);
    for (size_t i = 0; i < json_array_size(engines) && rc >= 0; i++) {
        rc = engine_at(self, json_array_get(engines, i), &e, fault);
        if (rc == 0)
            rc = drop_finished(self, e, fault);
    }
    return rc;
}

int
hub_on_purge(struct hub *self, const struct request *req, struct reply *rep,
             struct fault *fault)
{
    const json_t *ids = json_object_get(req->content, "msg_ids");
    const json_t *engines = json_object_get(req->content, "engine_ids");
    struct span *id;
    size_t n;
    int rc;

    if (json_is_string(ids)
        && span_is(span_of(json_string_value(ids), json_string_length(ids)),
                   "all"))
        return drop_finished(self, NULL, fault);
    if (engines && !json_is_array(engines) && !json_is_null(engines))
        return fault_set(fault, RH_EINVAL, "TypeError",
                         "engine_ids must be a list of numbers");
    rc = content_ids(req, "msg_ids", false, &id, &n, fault);
    rep->hub_error = rc < 0; // a question that makes no sense
    if (rc < 0)
        return rc;
    rc = purge(self, id, n, engines, fault);
    mem_free(id);
    return rc;
}
