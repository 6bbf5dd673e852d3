/* register.c - engines and clients say hello; engines say goodbye */
#include <stdio.h>
#include <jansson.h>

#include "hub/private.h"

/* A key of the request's content as it came. */
static struct span
raw_of(const struct request *req, const char *key)
{
    struct scan_field f = {.key = key};

    (void)scan_object(msg_part(req->m, MSG_CONTENT), &f, 1, NULL);
    return f.value;
}

static void
add_offer(struct hub *self, const struct request *req, struct reply *rep,
          enum hub_peer peer, int id, struct span uuid)
{
    struct buf offer = {0};

    if (!self->port.offer)
        return;
    self->port.offer(self->port.ctx, peer, id, uuid, raw_of(req, "roundhouse"),
                     &offer);
    // An offer is never needed, so half of one is better left out.
    if (!offer.failed && offer.n > 0
        && scan_object(buf_span(&offer), NULL, 0, NULL) == 0) {
        buf_add_str(&rep->content, ", \"roundhouse\": ");
        buf_add_span(&rep->content, buf_span(&offer));
    }
    buf_fini(&offer);
}

int
hub_on_connection(struct hub *self, const struct request *req,
                  struct reply *rep, struct fault *fault)
{
    const char *comma = "";

    (void)fault;
    // The client's subscription travels on another connection, and what is
    // published before it arrives is lost.
    self->deaf_until = req->now + DEAF_MS;
    buf_add_str(&rep->content, ", \"engines\": {");
    for (size_t i = 0; i < self->n_engine; i++) {
        const struct engine *e = self->engine[i];

        if (e->state != ENGINE_UP)
            continue;
        buf_add_fmt(&rep->content, "%s\"%d\": ", comma, e->id);
        buf_add_json_str(&rep->content, engine_uuid(e));
        comma = ", ";
    }
    buf_add_char(&rep->content, '}');
    add_offer(self, req, rep, HUB_CLIENT, -1, SPAN_NONE);
    return 0;
}

static int
check_uuid(const json_t *value, struct span *uuid, struct fault *fault)
{
    if (!value)
        return fault_key(fault, RH_EINVAL, "uuid");
    *uuid = span_of(json_string_value(value), json_string_length(value));
    if (!json_is_string(value) || uuid->n == 0 || uuid->n > MAX_UUID
        || memchr(uuid->p, '\0', uuid->n))
        return fault_set(fault, RH_EINVAL, "ValueError",
                         "an engine's uuid is a string of 1 to %d bytes, "
                         "because it is its ZeroMQ identity",
                         MAX_UUID);
    return 0;
}

int
hub_on_registration(struct hub *self, const struct request *req,
                    struct reply *rep, struct fault *fault)
{
    const json_t *id = json_object_get(req->content, "id");
    struct engine *e;
    struct span uuid = SPAN_NONE;
    int rc = check_uuid(json_object_get(req->content, "uuid"), &uuid, fault);

    if (rc < 0)
        return rc;
    if (id && !json_is_null(id)
        && (!json_is_integer(id) || json_integer_value(id) < 0))
        return fault_set(fault, RH_EINVAL, "ValueError",
                         "a requested engine id is a number from 0");
    rc = engine_register(self, uuid,
                         json_is_integer(id) ? json_integer_value(id) : -1,
                         req->now, req->wall_us, &e, fault);
    if (rc < 0)
        return rc;
    buf_add_fmt(&rep->content, ", \"id\": %d, \"hb_period\": %d", e->id,
                self->hb_period_ms);
    if (self->connection_info.n > 0) {
        buf_add_str(&rep->content, ", \"connection_info\": ");
        buf_add_span(&rep->content, buf_span(&self->connection_info));
    }
    add_offer(self, req, rep, HUB_ENGINE, e->id, uuid);
    if (rep->content.failed) {
        engine_lose(self, e, "no memory for the reply", req->now, req->wall_us);
        return request_no_memory(fault);
    }
    return 0;
}

int
hub_on_unregistration(struct hub *self, const struct request *req,
                      struct reply *rep, struct fault *fault)
{
    const json_t *id = json_object_get(req->content, "id");
    const char *exit = json_string_value(
        json_object_get(json_object_get(req->content, "roundhouse"), "exit"));
    char why[160];
    struct engine *e;

    (void)rep;
    if (!json_is_integer(id))
        return fault_key(fault, RH_EINVAL, "id");
    e = engine_by_id(self, json_integer_value(id));
    if (exit) // as its lifeline would say, which may be slower
        snprintf(why, sizeof(why), "it exited (%.128s)", exit);
    if (e)
        engine_lose(self, e, exit ? why : "it was asked for", req->now,
                    req->wall_us);
    return 0;
}

int
hub_on_shutdown(struct hub *self, const struct request *req, struct reply *rep,
                struct fault *fault)
{
    (void)req;
    (void)rep;
    (void)fault;
    hub_log(self, LOG_INFO, "shutdown requested by a client");
    return 0; // the rest happens after the reply
}

static int
no_dask(struct fault *fault)
{
    return fault_set(fault, RH_ESTATE, "NotImplementedError",
                     "this controller does not run a dask scheduler: start "
                     "one with 'dask scheduler' and point its workers there");
}

int
hub_on_become_dask(struct hub *self, const struct request *req,
                   struct reply *rep, struct fault *fault)
{
    (void)self;
    (void)req;
    (void)rep;
    return no_dask(fault);
}

int
hub_on_stop_distributed(struct hub *self, const struct request *req,
                        struct reply *rep, struct fault *fault)
{
    (void)self;
    (void)req;
    (void)rep;
    return no_dask(fault);
}
