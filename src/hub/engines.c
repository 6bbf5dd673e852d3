/* engines.c - the engine registry and its life cycle
 *
 * An array ordered by id (10^0 to 10^4 engines, registration is rare) and a
 * hash by uuid.  Ids count up and are never given twice by the counter; an
 * engine may ask for one (an MPI rank), and gets it unless a live or pending
 * engine has it.
 */
#include <assert.h>
#include <jansson.h>

#include "base/mem.h"
#include "hub/private.h"

struct engine *
engine_by_uuid(const struct hub *self, struct span uuid)
{
    return map_get(&self->by_uuid, uuid);
}

/* Index of the first engine whose id is not below 'id'. */
static size_t
place(const struct hub *self, int64_t id)
{
    size_t low = 0, high = self->n_engine;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;

        if (self->engine[mid]->id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct engine *
engine_by_id(const struct hub *self, int64_t id)
{
    const size_t i = place(self, id);

    return i < self->n_engine && self->engine[i]->id == id ? self->engine[i]
                                                           : NULL;
}

static struct engine *
engine_new(int id, struct span uuid, int64_t now)
{
    struct engine *e = mem_zalloc(1, sizeof(*e) + uuid.n);

    if (!e)
        return NULL;
    e->id = id;
    e->since = now;
    e->n_uuid = uuid.n;
    memcpy(e->uuid, uuid.p, uuid.n);
    list_init(&e->dead);
    for (int i = 0; i < N_SHELVES; i++)
        list_init(&e->shelf[i]);
    return e;
}

static int
grow(struct hub *self)
{
    const size_t cap = self->cap_engine ? 2 * self->cap_engine : 8;
    struct engine **v;

    if (self->n_engine < self->cap_engine)
        return 0;
    v = mem_resize(self->engine, cap, sizeof(struct engine *));
    if (!v)
        return RH_ENOMEM;
    self->engine = v;
    self->cap_engine = cap;
    return 0;
}

/* Frees the engine; its tasks lose their link to it. */
static void
forget(struct hub *self, struct engine *e)
{
    const size_t i = place(self, e->id);

    assert(i < self->n_engine && self->engine[i] == e);
    for (int s = 0; s < N_SHELVES; s++)
        while (!list_empty(&e->shelf[s]))
            link_move(LIST_ENTRY(e->shelf[s].next, struct link, node), NULL,
                      SHELF_NONE);
    heap_remove(&self->due, &e->due);
    if (e->state == ENGINE_PENDING)
        self->n_pending--;
    else if (e->state == ENGINE_UP)
        self->n_up--;
    else
        self->n_dead--;
    list_remove(&e->dead);
    (void)map_del(&self->by_uuid, engine_uuid(e));
    self->n_engine--;
    memmove(&self->engine[i], &self->engine[i + 1],
            (self->n_engine - i) * sizeof(struct engine *));
    mem_free(e);
}

void
engines_free(struct hub *self)
{
    while (self->n_engine > 0)
        forget(self, self->engine[self->n_engine - 1]);
    mem_free(self->engine);
}

/* Into both indexes; the caller sees to state and counts. */
static int
insert(struct hub *self, struct engine *e)
{
    const size_t i = place(self, e->id);

    if (grow(self) < 0 || map_put(&self->by_uuid, engine_uuid(e), e) < 0)
        return RH_ENOMEM;
    memmove(&self->engine[i + 1], &self->engine[i],
            (self->n_engine - i) * sizeof(struct engine *));
    self->engine[i] = e;
    self->n_engine++;
    return 0;
}

/* A dead engine makes room for a new one with its id or uuid.  Whoever waits
 * for it is answered first.
 */
static int
bury(struct hub *self, struct engine *e, int64_t now, int64_t wall_us)
{
    if (!e)
        return 0;
    engine_strand(self, e, now, wall_us);
    if (!e->stranded)
        return RH_ENOMEM;
    forget(self, e);
    return 0;
}

static int
choose_id(struct hub *self, int64_t asked)
{
    const struct engine *e;

    if (asked < 0)
        return self->next_id;
    e = engine_by_id(self, asked);
    if (asked < MAX_ENGINE_ID && (!e || e->state == ENGINE_DEAD))
        return (int)asked;
    hub_log(self, LOG_WARN,
            "registration: id %lld is %s, taking the next free one",
            (long long)asked, e ? "in use" : "out of range");
    return self->next_id;
}

static int
refuse(struct hub *self, struct span uuid, struct fault *fault)
{
    const struct engine *e = engine_by_uuid(self, uuid);
    struct buf quoted = {0};

    if (e && e->state != ENGINE_DEAD) {
        fault_repr(&quoted, uuid);
        buf_add_char(&quoted, '\0');
        fault_key(fault, RH_EEXIST, "uuid %s in use",
                  quoted.failed ? "?" : (const char *)quoted.p);
        buf_fini(&quoted);
        return RH_EEXIST;
    }
    if (self->n_pending + self->n_up >= self->max_engines)
        return fault_set(fault, RH_ELIMIT, "RuntimeError",
                         "this controller takes at most %zu engines",
                         self->max_engines);
    if (self->next_id >= MAX_ENGINE_ID)
        return fault_set(fault, RH_ELIMIT, "RuntimeError",
                         "all %d engine ids have been used", MAX_ENGINE_ID);
    return 0;
}

int
engine_register(struct hub *self, struct span uuid, int64_t asked, int64_t now,
                int64_t wall_us, struct engine **out, struct fault *fault)
{
    struct engine *e;
    int rc = refuse(self, uuid, fault);

    if (rc < 0)
        return rc;
    if (bury(self, engine_by_uuid(self, uuid), now, wall_us) < 0)
        return request_no_memory(fault);
    e = engine_new(choose_id(self, asked), uuid, now);
    if (!e
        || heap_push(&self->due, &e->due, now + self->registration_timeout_ms)
               < 0) {
        mem_free(e);
        return request_no_memory(fault);
    }
    if (bury(self, engine_by_id(self, e->id), now, wall_us) < 0
        || insert(self, e) < 0) {
        heap_remove(&self->due, &e->due);
        mem_free(e);
        return request_no_memory(fault);
    }
    // Nothing below can fail: commit.
    self->n_pending++;
    if (e->id >= self->next_id)
        self->next_id = e->id + 1;
    self->port.engine(self->port.ctx, HUB_ENGINE_PENDING, e->id, uuid,
                      "registration requested");
    *out = e;
    return 0;
}

static void
save(struct hub *self)
{
    struct buf out = {0};

    if (hub_export_engines(self, &out) < 0)
        hub_log(self, LOG_ERROR, "engine state not saved: out of memory");
    else
        self->port.save_engines(self->port.ctx, buf_span(&out));
    buf_fini(&out);
}

static void
notify(struct hub *self, const char *msg_type, const struct engine *e,
       int64_t wall_us)
{
    struct buf content = {0};

    buf_add_fmt(&content, "{\"id\": %d, \"uuid\": ", e->id);
    buf_add_json_str(&content, engine_uuid(e));
    buf_add_char(&content, '}');
    if (content.failed)
        hub_log(self, LOG_ERROR, "out of memory: no %s for engine %d", msg_type,
                e->id);
    else
        hub_notify(self, msg_type, SPAN_NONE, buf_span(&content), wall_us);
    buf_fini(&content);
}

void
engine_admit(struct hub *self, struct engine *e, int64_t now, int64_t wall_us)
{
    assert(e->state == ENGINE_PENDING);
    heap_remove(&self->due, &e->due);
    e->state = ENGINE_UP;
    self->n_pending--;
    self->n_up++;
    hub_log(self, LOG_INFO, "engine %d connected in %lld ms", e->id,
            (long long)(now - e->since));
    self->port.engine(self->port.ctx, HUB_ENGINE_UP, e->id, engine_uuid(e),
                      "its heart beats");
    notify(self, "registration_notification", e, wall_us);
    // Without memory, once has to do.
    if (now < self->deaf_until)
        (void)heap_push(&self->due, &e->due, now + REPEAT_MS);
    save(self);
}

/* The oldest dead that nobody waits for goes when there are too many. */
static void
trim_dead(struct hub *self)
{
    struct list *l = self->dead.next;

    while (self->n_dead > MAX_DEAD && l != &self->dead) {
        struct engine *e = LIST_ENTRY(l, struct engine, dead);

        l = l->next;
        if (e->n_shelf[SHELF_QUEUE] == 0 && e->n_shelf[SHELF_TASKS] == 0)
            forget(self, e);
    }
}

void
engine_lose(struct hub *self, struct engine *e, const char *why, int64_t now,
            int64_t wall_us)
{
    if (e->state == ENGINE_DEAD)
        return;
    hub_log(self, e->state == ENGINE_UP ? LOG_INFO : LOG_WARN,
            "engine %d unregistered%s: %s", e->id,
            e->state == ENGINE_UP ? "" : " before its heart beat", why);
    self->port.engine(self->port.ctx, HUB_ENGINE_DOWN, e->id, engine_uuid(e),
                      why);
    if (e->state == ENGINE_PENDING) {
        forget(self, e);
        return;
    }
    e->state = ENGINE_DEAD;
    self->n_up--;
    self->n_dead++;
    list_append(&self->dead, &e->dead);
    notify(self, "unregistration_notification", e, wall_us);
    save(self);
    if (heap_push(&self->due, &e->due, now + self->stranded_delay_ms) < 0)
        engine_strand(self, e, now, wall_us);
    trim_dead(self);
}

/* What nobody will answer any more, in the form a client can load. */
static struct msg *
obituary(struct hub *self, const struct engine *e, const struct task *t,
         const struct msg *request, int64_t wall_us)
{
    struct buf content = {0}, metadata = {0}, header = {0};
    struct span frame[6] = {SPAN_LIT(MSG_DELIM), SPAN_LIT("")};
    char id[MSG_ID_SIZE];
    struct header_view view;
    struct fault fault;
    struct msg *m = NULL;
    const bool execute =
        request && scan_header(msg_part(request, MSG_HEADER), &view, NULL) == 0
        && span_is(view.msg_type, "execute_request");

    fault_set(&fault, 0, "EngineError",
              "Engine %d died while running task '%.*s'", e->id,
              (int)t->n_msg_id, t->msg_id);
    add_error_fields(&content, "engine_lost", &fault);
    // The "status" first: clients and queries look at both.
    buf_add_str(&metadata, "{\"status\": \"error\", \"engine\": ");
    buf_add_json_str(&metadata, engine_uuid(e));
    buf_add_char(&metadata, '}');
    sender_next_id(&self->sender, id);
    compose_header(&self->sender, &header,
                   execute ? "execute_reply" : "apply_reply", id, wall_us);
    frame[MSG_HEADER] = buf_span(&header);
    frame[MSG_PARENT] =
        request ? msg_part(request, MSG_HEADER) : SPAN_LIT("{}");
    frame[MSG_METADATA] = buf_span(&metadata);
    frame[MSG_CONTENT] = buf_span(&content);
    if (!content.failed && !metadata.failed && !header.failed)
        m = msg_new(frame, 6);
    if (m)
        m->i_delim = 0;
    buf_fini(&content);
    buf_fini(&metadata);
    buf_fini(&header);
    return m;
}

static int
take_request(void *ctx, const struct record *record)
{
    struct msg **request = ctx;

    if (record->request)
        *request = msg_ref(record->request);
    return 0;
}

static int
record_death(struct hub *self, const struct engine *e, const struct task *t,
             int64_t wall_us)
{
    struct record change;
    struct msg *request = NULL, *reply;
    int rc;

    (void)self->store->ops->get(self->store, task_id(t), RECORD_BIT(HEADER),
                                take_request, &request, NULL);
    reply = obituary(self, e, t, request, wall_us);
    msg_unref(&request);
    if (!reply)
        return RH_ENOMEM;
    record_init(&change);
    change.result = reply;
    change.completed_us = wall_us;
    change.received_us = wall_us;
    change.engine_uuid = engine_uuid(e);
    rc = self->store->ops->put(self->store, task_id(t), &change, NULL);
    msg_unref(&reply);
    return rc;
}

void
engine_strand(struct hub *self, struct engine *e, int64_t now, int64_t wall_us)
{
    struct list *queue = &e->shelf[SHELF_QUEUE];

    heap_remove(&self->due, &e->due);
    while (!list_empty(queue)) {
        struct task *t = LIST_ENTRY(queue->next, struct link, node)->task;
        const int rc = record_death(self, e, t, wall_us);

        // With memory back it will succeed; other failures are the store's.
        if (rc == RH_ENOMEM
            && heap_push(&self->due, &e->due, now + STRAND_RETRY_MS) == 0)
            return;
        if (rc < 0)
            hub_log(self, LOG_ERROR,
                    "the EngineError of task %.*s is not recorded: %s",
                    (int)t->n_msg_id, t->msg_id, rh_code_text(rc));
        t->stranded = true;
        task_finish(self, t, false);
    }
    e->stranded = true;
}

void
hub_engine_due(struct hub *self, struct engine *e, int64_t now, int64_t wall_us)
{
    heap_remove(&self->due, &e->due);
    if (e->state == ENGINE_UP) {
        notify(self, "registration_notification", e, wall_us);
        return;
    }
    if (e->state == ENGINE_PENDING)
        engine_lose(self, e, "its heart was never heard", now, wall_us);
    else
        engine_strand(self, e, now, wall_us);
    trim_dead(self);
}

/* ---- state file ------------------------------------------------------- */

int
hub_export_engines(const struct hub *self, struct buf *out)
{
    const char *comma = "";

    buf_add_str(out, "{\"engines\": {");
    for (size_t i = 0; i < self->n_engine; i++) {
        const struct engine *e = self->engine[i];

        if (e->state != ENGINE_UP)
            continue;
        buf_add_fmt(out, "%s\"%d\": ", comma, e->id);
        buf_add_json_str(out, engine_uuid(e));
        comma = ", ";
    }
    buf_add_fmt(out, "}, \"next_id\": %d}", self->next_id);
    return out->failed ? RH_ENOMEM : 0;
}

static int
parse_id(const char *text, int *id)
{
    int64_t value;

    if (scan_int(span_str(text), &value) < 0 || value < 0
        || value >= MAX_ENGINE_ID)
        return RH_EPROTO;
    *id = (int)value;
    return 0;
}

static int
restore_one(struct hub *self, const char *key, const json_t *uuid,
            rh_error *err)
{
    struct engine *e;
    struct span s;
    int id;

    if (parse_id(key, &id) < 0)
        return rh_fail(err, RH_EPROTO, "engine state: '%.32s' is no engine id",
                       key);
    s = span_of(json_string_value(uuid), json_string_length(uuid));
    if (!json_is_string(uuid) || s.n == 0 || s.n > MAX_UUID)
        return rh_fail(err, RH_EPROTO,
                       "engine state: engine %d has no usable uuid", id);
    if (engine_by_uuid(self, s) || engine_by_id(self, id))
        return rh_fail(err, RH_EPROTO,
                       "engine state: engine %d or its uuid is there twice",
                       id);
    e = engine_new(id, s, 0);
    if (!e || insert(self, e) < 0) {
        mem_free(e);
        return rh_fail(err, RH_ENOMEM, "restoring engine %d", id);
    }
    e->state = ENGINE_UP;
    self->n_up++;
    if (id >= self->next_id)
        self->next_id = id + 1;
    return 0;
}

int
hub_restore_engines(struct hub *self, struct span json, rh_error *err)
{
    json_t *tree, *engines, *uuid;
    const int next_id = self->next_id;
    json_int_t next;
    const char *key;
    int rc;

    if (self->n_engine > 0)
        return rh_fail(err, RH_ESTATE,
                       "engines are restored before others register; %zu are "
                       "there already",
                       self->n_engine);
    rc = content_parse(&tree, json, err);
    if (rc < 0)
        return rc;
    engines = json_object_get(tree, "engines");
    if (!json_is_object(engines)
        || !json_is_integer(json_object_get(tree, "next_id"))) {
        json_decref(tree);
        return rh_fail(err, RH_EPROTO,
                       "engine state of %zu bytes is no JSON object with "
                       "'engines' and 'next_id'",
                       json.n);
    }
    json_object_foreach(engines, key, uuid)
    {
        rc = restore_one(self, key, uuid, err);
        if (rc < 0)
            break;
    }
    next = json_integer_value(json_object_get(tree, "next_id"));
    json_decref(tree);
    if (rc < 0) {
        while (self->n_engine > 0)
            forget(self, self->engine[self->n_engine - 1]);
        self->next_id = next_id;
        return rc;
    }
    if (next > self->next_id && next < MAX_ENGINE_ID)
        self->next_id = (int)next;
    for (size_t i = 0; i < self->n_engine; i++)
        self->port.engine(self->port.ctx, HUB_ENGINE_UP, self->engine[i]->id,
                          engine_uuid(self->engine[i]),
                          "it was registered with an earlier controller");
    return 0;
}
