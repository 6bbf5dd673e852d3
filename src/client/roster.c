/* roster.c - engines that come and go
 *
 * The hub's notifications and the replies of engines arrive on different
 * connections.  So an engine that left is first only closed to new requests,
 * and its open ones fail a moment later: a reply that was sent before it left
 * still finds its request.
 */
#include "client/roster.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>

#include "base/mem.h"
#include "wire/scan.h"

#define UUID_MAX 255 // ZeroMQ's limit for an identity

struct engine *
ledger_engine(const struct ledger *self, struct span uuid)
{
    return map_get(&self->by_uuid, uuid);
}

/* Index of the first engine whose id is not below 'id'. */
static size_t
place_of(const struct ledger *self, int id)
{
    size_t lo = 0, hi = self->n_engines;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (self->engine[mid]->id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static void
leave(struct ledger *self, size_t i, struct moment now)
{
    struct engine *engine = self->engine[i];

    self->n_engines--;
    memmove(&self->engine[i], &self->engine[i + 1],
            (self->n_engines - i) * sizeof(struct engine *));
    map_del(&self->by_uuid, span_of(engine->uuid, engine->uuid_n));
    engine->leaving = true;
    engine->gone_at_us = now.mono_us + LEAVE_GRACE_US;
    list_append(&self->leaving, &engine->link);
    self->version++;
    self->port->engine(self->ctx, engine, false);
}

static int
grow(struct ledger *self)
{
    size_t cap = self->cap_engines ? self->cap_engines * 2 : 16;
    struct engine **v;

    if (self->n_engines < self->cap_engines)
        return 0;
    v = mem_resize(self->engine, cap, sizeof(struct engine *));
    if (!v)
        return RH_ENOMEM;
    self->engine = v;
    self->cap_engines = cap;
    return 0;
}

static int
join(struct ledger *self, int id, struct span uuid, struct moment now,
     bool announce, rh_error *err)
{
    size_t i = place_of(self, id);
    struct engine *engine = ledger_engine(self, uuid);

    if (engine && engine->id == id)
        return 0; // in the hub's first answer and in a notification
    engine = mem_zalloc(1, sizeof(*engine) + uuid.n + 1);
    if (!engine || grow(self) < 0 || map_reserve(&self->by_uuid, 1) < 0) {
        mem_free(engine);
        return rh_fail(err, RH_ENOMEM, "registering engine %d", id);
    }
    engine->id = id;
    engine->uuid_n = uuid.n;
    memcpy(engine->uuid, uuid.p, uuid.n);
    list_init(&engine->pending);
    list_init(&engine->link);

    // Nothing below can fail.  What the newcomer replaces has left unnoticed.
    if (i < self->n_engines && self->engine[i]->id == id)
        leave(self, i, now);
    if (ledger_engine(self, uuid))
        leave(self, place_of(self, ledger_engine(self, uuid)->id), now);
    i = place_of(self, id);
    memmove(&self->engine[i + 1], &self->engine[i],
            (self->n_engines - i) * sizeof(struct engine *));
    self->engine[i] = engine;
    self->n_engines++;
    map_put(&self->by_uuid, span_of(engine->uuid, uuid.n), engine);
    self->version++;
    if (announce)
        self->port->engine(self->ctx, engine, true);
    return 0;
}

static bool
is_uuid(struct span s)
{
    return s.n >= 1 && s.n <= UUID_MAX && !memchr(s.p, 0, s.n);
}

static int
on_engine(struct ledger *self, struct msg *m, bool joined, struct moment now,
          rh_error *err)
{
    struct scan_field f[] = {{.key = "id"}, {.key = "uuid"}};
    struct buf scratch = {0};
    struct span uuid = SPAN_NONE;
    int64_t id = -1;
    int rc = scan_object(msg_part(m, MSG_CONTENT), f, 2, err);
    size_t i;

    if (rc == 0
        && (scan_int(f[0].value, &id) < 0 || id < 0 || id > INT_MAX
            || (f[1].value.n && scan_string(f[1].value, &scratch, &uuid) < 0)
            || (joined && !is_uuid(uuid))))
        rc = rh_fail(err, RH_EPROTO, "notification about no known engine");
    if (rc == 0 && joined) {
        rc = join(self, (int)id, uuid, now, true, err);
    } else if (rc == 0) {
        i = place_of(self, (int)id);
        if (i < self->n_engines && self->engine[i]->id == (int)id
            && (!uuid.n || span_is(uuid, self->engine[i]->uuid)))
            leave(self, i, now);
    }
    buf_fini(&scratch);
    return rc;
}

int
ledger_notify(struct ledger *self, struct msg *m, struct moment now,
              rh_error *err)
{
    struct header_view header;
    int rc = scan_header(msg_part(m, MSG_HEADER), &header, err);

    if (rc < 0)
        self->n_malformed++;
    else if (span_is(header.msg_type, "registration_notification"))
        rc = on_engine(self, m, true, now, err);
    else if (span_is(header.msg_type, "unregistration_notification"))
        rc = on_engine(self, m, false, now, err);
    else if (span_is(header.msg_type, "shutdown_notification")) {
        if (!self->shutdown_at_us) {
            self->shutdown_at_us = now.mono_us + SHUTDOWN_GRACE_US;
            self->port->shutdown(self->ctx);
        }
    } else {
        rc = rh_fail(err, RH_EPROTO, "unknown notification");
    }
    return rc;
}

/* One entry of the hub's list. */
static int
read_engine(const char *key, json_t *value, int *id, struct span *uuid,
            rh_error *err)
{
    int64_t n;

    *uuid = span_of(json_string_value(value), json_string_length(value));
    if (scan_int(span_str(key), &n) < 0 || n < 0 || n > INT_MAX
        || !is_uuid(*uuid))
        return rh_fail(err, RH_EPROTO,
                       "the hub's connection_reply has an engine without id "
                       "or uuid");
    *id = (int)n;
    return 0;
}

static int
join_all(struct ledger *self, json_t *engines, struct moment now, bool announce,
         rh_error *err)
{
    json_t *value;
    const char *key;
    struct span uuid = SPAN_NONE;
    int rc = 0, id = -1;

    json_object_foreach(engines, key, value)
    {
        rc = read_engine(key, value, &id, &uuid, err);
        if (rc == 0)
            rc = join(self, id, uuid, now, announce, err);
        if (rc < 0)
            break;
    }
    return rc;
}

/* Engines that the list does not have any more. */
static void
leave_missing(struct ledger *self, json_t *engines, struct moment now)
{
    for (size_t i = self->n_engines; i-- > 0;) {
        struct engine *engine = self->engine[i];
        char key[16];
        json_t *value;

        snprintf(key, sizeof(key), "%d", engine->id);
        value = json_object_get(engines, key);
        if (!span_eq(
                span_of(json_string_value(value), json_string_length(value)),
                span_of(engine->uuid, engine->uuid_n)))
            leave(self, i, now);
    }
}

static int
take_list(struct ledger *self, struct span content, struct moment now,
          bool announce, rh_error *err)
{
    json_t *root = json_loadb((const char *)content.p, content.n, 0, NULL);
    json_t *engines = json_object_get(root, "engines");
    int rc;

    if (!json_is_object(engines)) {
        rc = rh_fail(err, RH_EPROTO,
                     "the hub's connection_reply lists no engines");
    } else {
        if (announce)
            leave_missing(self, engines, now);
        rc = join_all(self, engines, now, announce, err);
    }
    json_decref(root);
    return rc;
}

int
ledger_connected(struct ledger *self, struct span content, rh_error *err)
{
    return take_list(self, content, (struct moment){0, 0}, false, err);
}

int
ledger_resync(struct ledger *self, struct span content, struct moment now,
              rh_error *err)
{
    return take_list(self, content, now, true, err);
}

static void
bury(struct ledger *self, struct engine *engine, struct moment now)
{
    while (!list_empty(&engine->pending)) {
        struct rh_request *req =
            LIST_ENTRY(engine->pending.next, struct rh_request, on_engine);

        list_remove(&req->on_engine);
        ledger_fail(self, req, FAIL_ENGINE_DIED, engine->id, now);
    }
    list_remove(&engine->link);
    mem_free(engine);
}

int64_t
ledger_tick(struct ledger *self, struct moment now)
{
    int64_t next = INT64_MAX;

    while (!list_empty(&self->leaving)) {
        struct engine *engine =
            LIST_ENTRY(self->leaving.next, struct engine, link);

        if (engine->gone_at_us > now.mono_us) {
            next = engine->gone_at_us;
            break;
        }
        bury(self, engine, now);
    }
    if (self->shutdown_at_us && self->pending.n) {
        if (self->shutdown_at_us <= now.mono_us)
            ledger_fail_all(self, FAIL_SHUTDOWN, now);
        else if (self->shutdown_at_us < next)
            next = self->shutdown_at_us;
    }
    return next;
}

void
roster_fini(struct ledger *self)
{
    for (size_t i = 0; i < self->n_engines; i++)
        mem_free(self->engine[i]);
    while (!list_empty(&self->leaving)) {
        struct engine *engine =
            LIST_ENTRY(self->leaving.next, struct engine, link);

        list_remove(&engine->link);
        mem_free(engine);
    }
    mem_free(self->engine);
    map_fini(&self->by_uuid);
    self->engine = NULL;
    self->n_engines = 0;
}
