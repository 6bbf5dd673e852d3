/* broadcast.c - see broadcast.h
 *
 * A broadcast in flight is one allocation with a part per target; a part is
 * found by the id of its request (replies) and by its engine (deaths).
 * Invariants: a part is in 'parts' and in its target's list exactly while it
 * is open; n_open counts these; a broadcast lives while n_open > 0 or it is
 * being sent.
 */
#include "controller/broadcast.h"

#include <stdio.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "controller/fault_reply.h"
#include "wire/scan.h"

struct target { // an engine with open parts
    struct list parts;
    size_t n;
    char uuid[];
};

struct part {
    struct list by_engine;
    struct flight *flight;
    struct target *target;
    struct span key;  // "<msg_id>_<uuid>", in names
    struct span uuid; // the end of key
    int id;
    bool open;
    struct msg *reply; // coalescing: what came
};

struct flight {
    struct list node;
    struct msg *request;
    struct header_view header;
    struct span targets; // raw, in the request's metadata
    bool coalescing;
    bool finished; // coalescing: answered
    size_t n_open;
    struct buf names;
    size_t n;
    struct part part[];
};

struct broadcast {
    struct session *session;
    struct sender *sender;
    struct broadcast_port port;
    struct map parts;   // by key
    struct map targets; // by uuid
    struct list flights;
};

int
broadcast_new(struct broadcast **out, struct session *session,
              struct sender *sender, const struct broadcast_port *port,
              rh_error *err)
{
    struct broadcast *self = mem_zalloc(1, sizeof(*self));

    if (!self)
        return rh_fail(err, RH_ENOMEM, "creating the broadcast relay");
    self->session = session;
    self->sender = sender;
    self->port = *port;
    map_init(&self->parts);
    map_init(&self->targets);
    list_init(&self->flights);
    *out = self;
    return 0;
}

static void
close_part(struct broadcast *self, struct part *part)
{
    struct target *target = part->target;

    if (!part->open)
        return;
    part->open = false;
    part->flight->n_open--;
    map_del(&self->parts, part->key);
    list_remove(&part->by_engine);
    part->target = NULL;
    if (list_empty(&target->parts)) {
        map_del(&self->targets, span_of(target->uuid, target->n));
        mem_free(target);
    }
}

static void
free_flight(struct broadcast *self, struct flight *flight)
{
    for (size_t i = 0; i < flight->n; i++) {
        close_part(self, &flight->part[i]);
        msg_unref(&flight->part[i].reply);
    }
    list_remove(&flight->node);
    msg_unref(&flight->request);
    buf_fini(&flight->names);
    mem_free(flight);
}

void
broadcast_free(struct broadcast **self_p)
{
    struct broadcast *self = *self_p;

    if (!self)
        return;
    while (!list_empty(&self->flights))
        free_flight(self, LIST_ENTRY(self->flights.next, struct flight, node));
    map_fini(&self->parts);
    map_fini(&self->targets);
    mem_free(self);
    *self_p = NULL;
}

size_t
broadcast_n_open(const struct broadcast *self)
{
    return self->parts.n;
}

// ---------------------------------------------------------------------------
// JSON by cutting and pasting: what is not ours stays as it came

/* 'json' with 'old', a span inside it, replaced by the content of 'with'. */
static void
splice(struct buf *out, struct span json, struct span old, struct span with)
{
    size_t before = (size_t)(old.p - json.p);

    buf_add(out, json.p, before);
    buf_add_span(out, with);
    buf_add(out, old.p + old.n, json.n - before - old.n);
}

/* Take the closing brace of the object at the end of 'out' off, and put a
 * comma if it has members.
 */
static void
reopen(struct buf *out)
{
    if (out->failed)
        return;
    while (out->n && out->p[out->n - 1] != '}')
        out->n--;
    if (out->n)
        out->n--;
    while (out->n && strchr(" \t\r\n", out->p[out->n - 1]))
        out->n--;
    if (out->n && out->p[out->n - 1] != '{')
        buf_add_str(out, ", ");
}

/* The request's header with the part's id. */
static int
part_header(const struct part *part, struct buf *out)
{
    struct span json = msg_part(part->flight->request, MSG_HEADER);
    struct scan_field field[] = {{.key = "msg_id"}};
    struct buf id;

    buf_init(&id);
    buf_add_json_str(&id, part->key);
    // It was scanned before: it cannot fail now.
    (void)scan_object(json, field, 1, NULL);
    splice(out, json, field[0].value, buf_span(&id));
    if (id.failed)
        out->failed = true;
    buf_fini(&id);
    return out->failed ? RH_ENOMEM : 0;
}

static void
add_pair(struct buf *out, const struct part *part)
{
    buf_add_char(out, '[');
    buf_add_json_str(out, part->uuid);
    buf_add_fmt(out, ", %d]", part->id);
}

/* The request's metadata for one target. */
static int
part_metadata(const struct part *part, struct buf *out)
{
    const struct flight *flight = part->flight;
    struct buf targets;

    buf_init(&targets);
    buf_add_char(&targets, '[');
    add_pair(&targets, part);
    buf_add_char(&targets, ']');
    splice(out, msg_part(flight->request, MSG_METADATA), flight->targets,
           buf_span(&targets));
    reopen(out);
    buf_add_str(out, "\"original_msg_id\": ");
    buf_add_json_str(out, flight->header.msg_id);
    buf_add_char(out, '}');
    if (targets.failed)
        out->failed = true;
    buf_fini(&targets);
    return out->failed ? RH_ENOMEM : 0;
}

static void
add_all_pairs(struct buf *out, const struct flight *flight)
{
    buf_add_char(out, '[');
    for (size_t i = 0; i < flight->n; i++) {
        if (i)
            buf_add_str(out, ", ");
        add_pair(out, &flight->part[i]);
    }
    buf_add_char(out, ']');
}

// ---------------------------------------------------------------------------
// Answers

static void
deliver(struct broadcast *self, struct msg **m_p)
{
    self->port.copy(self->port.ctx, HUB_OUTBCAST, *m_p);
    self->port.to_client(self->port.ctx, *m_p);
    msg_unref(m_p);
}

/* Metadata of an error reply made here; 'part' NULL: of the whole. */
static void
fault_metadata(struct buf *out, const struct flight *flight,
               const struct part *part)
{
    buf_add_fmt(out,
                "{\"status\": \"error\", \"is_broadcast\": true, "
                "\"is_coalescing\": %s, \"original_msg_id\": ",
                flight->coalescing ? "true" : "false");
    buf_add_json_str(out, flight->header.msg_id);
    if (part) {
        buf_add_str(out, ", \"engine\": ");
        buf_add_json_str(out, part->uuid);
    }
    if (flight->coalescing) {
        buf_add_str(out, ", \"broadcast_targets\": ");
        add_all_pairs(out, flight);
    }
    buf_add_char(out, '}');
}

/* Send an error reply; without memory for it the client has to live with its
 * own time limit, as there is nothing left to tell it with.
 */
static void
answer_fault(struct broadcast *self, const struct flight *flight,
             const struct part *part, const char *ename, struct span evalue,
             int64_t wall_us)
{
    const struct span ident[] = {flight->request->frame[0],
                                 part ? part->uuid : SPAN_NONE};
    struct buf header, metadata;
    struct msg *m;

    buf_init(&header);
    buf_init(&metadata);
    fault_metadata(&metadata, flight, part);
    if (!flight->coalescing && part)
        (void)part_header(part, &header);
    else
        buf_add_span(&header, msg_part(flight->request, MSG_HEADER));
    if (!header.failed && !metadata.failed) {
        const struct fault_reply fault = {
            .ident = ident,
            .n_ident = part && !flight->coalescing ? 2 : 1,
            .msg_type = flight->header.msg_type,
            .parent = buf_span(&header),
            .metadata = buf_span(&metadata),
            .ename = ename,
            .evalue = evalue,
            .wall_us = wall_us,
        };

        if (fault_reply_new(self->sender, &fault, &m, NULL) == 0)
            deliver(self, &m);
    }
    buf_fini(&header);
    buf_fini(&metadata);
}

/* A coalesced broadcast is over: nothing that still comes counts. */
static void
finish(struct broadcast *self, struct flight *flight)
{
    flight->finished = true;
    for (size_t i = 0; i < flight->n; i++)
        close_part(self, &flight->part[i]);
}

static void
fail_part(struct broadcast *self, struct part *part, const char *ename,
          struct span evalue, int64_t wall_us)
{
    struct flight *flight = part->flight;

    if (flight->finished)
        return;
    answer_fault(self, flight, part, ename, evalue, wall_us);
    if (flight->coalescing)
        finish(self, flight);
    else
        close_part(self, part);
}

/* One reply from all of them: the last one's content and metadata. */
static int
compose_coalesced(struct broadcast *self, struct flight *flight,
                  struct msg *last, bool with_buffers, int64_t wall_us,
                  struct msg **out)
{
    size_t n = 0, k = 0;
    struct span *buffer = NULL;
    struct msg **owner = NULL;
    struct buf metadata;
    char type[64];
    int rc = RH_ENOMEM;

    for (size_t i = 0; with_buffers && i < flight->n; i++)
        if (flight->part[i].reply)
            n += msg_n_buffers(flight->part[i].reply);
    buffer = mem_zalloc(n ? n : 1, sizeof(*buffer));
    owner = mem_zalloc(n ? n : 1, sizeof(struct msg *));
    buf_init(&metadata);
    buf_add_span(&metadata, msg_part(last, MSG_METADATA));
    reopen(&metadata);
    buf_add_str(&metadata, "\"broadcast_targets\": ");
    add_all_pairs(&metadata, flight);
    buf_add_char(&metadata, '}');
    if (buffer && owner && !metadata.failed) {
        for (size_t i = 0; n && i < flight->n; i++)
            for (uint32_t j = 0; flight->part[i].reply
                                 && j < msg_n_buffers(flight->part[i].reply);
                 j++, k++) {
                buffer[k] = msg_buffer(flight->part[i].reply, j);
                owner[k] = flight->part[i].reply;
            }
        rc = fault_reply_type(flight->header.msg_type, type, sizeof(type));
        if (rc == 0)
            rc = compose(self->sender,
                         &(struct draft){
                             .ident = flight->request->frame,
                             .n_ident = 1,
                             .msg_type = type,
                             .parent = msg_part(flight->request, MSG_HEADER),
                             .metadata = buf_span(&metadata),
                             .content = msg_part(last, MSG_CONTENT),
                             .buffer = buffer,
                             .owner = owner,
                             .n_buffers = n,
                             .wall_us = wall_us,
                         },
                         out, NULL);
    }
    buf_fini(&metadata);
    mem_free(buffer);
    mem_free(owner);
    return rc;
}

static bool
is_ok(const struct msg *reply)
{
    struct scan_field field[] = {{.key = "status"}};

    return scan_object(msg_part(reply, MSG_CONTENT), field, 1, NULL) == 0
           && span_is(field[0].value, "\"ok\"");
}

static void
take_part(struct broadcast *self, struct part *part, struct msg *m,
          int64_t wall_us)
{
    struct flight *flight = part->flight;
    bool ok = is_ok(m);
    struct msg *reply;

    part->reply = msg_ref(m);
    close_part(self, part);
    if (ok && flight->n_open)
        return; // others are still to come
    if (compose_coalesced(self, flight, m, ok, wall_us, &reply) == 0)
        deliver(self, &reply);
    else
        answer_fault(self, flight, part, "MemoryError",
                     SPAN_LIT("the replies could not be put together"),
                     wall_us);
    finish(self, flight);
}

// ---------------------------------------------------------------------------
// Requests

/* Raw array elements: at most 'max', else RH_ELIMIT. */
static int
count_elements(struct span raw, size_t max, size_t *n)
{
    struct span item;
    size_t pos = 0;
    int rc;

    for (*n = 0; (rc = scan_next(raw, &pos, &item)) > 0; (*n)++)
        if (*n == max)
            return RH_ELIMIT;
    return rc;
}

/* One target: ["<uuid>", id]. */
static int
scan_target(struct span raw, struct buf *scratch, struct span *uuid, int *id)
{
    struct span item;
    size_t pos = 0;
    int64_t value;

    if (scan_next(raw, &pos, &item) <= 0 || scan_string(item, scratch, uuid) < 0
        || uuid->n == 0 || scan_next(raw, &pos, &item) <= 0
        || scan_int(item, &value) < 0 || value < INT32_MIN || value > INT32_MAX)
        return RH_EPROTO;
    *id = (int)value;
    return 0;
}

/* Fill in the parts' names.  While 'names' grows, spans hold offsets. */
static int
name_parts(struct flight *flight, rh_error *err)
{
    struct span raw, uuid, id = flight->header.msg_id;
    size_t pos = 0;
    struct buf scratch;
    int rc = 0;

    buf_init(&scratch);
    for (size_t i = 0; rc == 0 && i < flight->n; i++) {
        struct part *part = &flight->part[i];

        buf_clear(&scratch);
        (void)scan_next(flight->targets, &pos, &raw); // counted before
        if (scan_target(raw, &scratch, &uuid, &part->id) < 0) {
            rc = rh_fail(err, RH_EPROTO,
                         "target %zu is not a pair of engine uuid and id", i);
            break;
        }
        part->flight = flight;
        list_init(&part->by_engine);
        part->key.n = id.n + 1 + uuid.n;
        part->uuid.n = uuid.n;
        buf_add_span(&flight->names, id);
        buf_add_char(&flight->names, '_');
        buf_add_span(&flight->names, uuid);
        if (flight->names.failed)
            rc = rh_fail(err, RH_ENOMEM, "out of memory");
    }
    buf_fini(&scratch);
    for (size_t i = 0, at = 0; rc == 0 && i < flight->n; i++) {
        struct part *part = &flight->part[i];

        part->key.p = flight->names.p + at;
        part->uuid.p = part->key.p + id.n + 1;
        at += part->key.n;
    }
    return rc;
}

static int
open_part(struct broadcast *self, struct part *part)
{
    struct target *target = map_get(&self->targets, part->uuid);

    if (map_reserve(&self->parts, 1) < 0 || map_reserve(&self->targets, 1) < 0)
        return RH_ENOMEM;
    if (!target) {
        target = mem_alloc(sizeof(*target) + part->uuid.n);
        if (!target)
            return RH_ENOMEM;
        list_init(&target->parts);
        target->n = part->uuid.n;
        memcpy(target->uuid, part->uuid.p, part->uuid.n);
        (void)map_put(&self->targets, span_of(target->uuid, target->n), target);
    }
    // Nothing below can fail.
    (void)map_put(&self->parts, part->key, part);
    list_append(&target->parts, &part->by_engine);
    part->target = target;
    part->open = true;
    part->flight->n_open++;
    return 0;
}

/* Make and send one target's copy. */
static int
send_part(struct broadcast *self, struct part *part, rh_error *err)
{
    struct flight *flight = part->flight;
    const struct span ident[] = {part->uuid, flight->request->frame[0]};
    struct buf header, metadata;
    struct msg *m;
    int rc;

    buf_init(&header);
    buf_init(&metadata);
    rc = part_header(part, &header);
    if (rc == 0)
        rc = part_metadata(part, &metadata);
    if (rc == 0)
        rc = recompose(self->sender, flight->request, ident, 2,
                       buf_span(&header), buf_span(&metadata), &m, err);
    buf_fini(&header);
    buf_fini(&metadata);
    if (rc < 0)
        return rc;
    if (!flight->coalescing)
        self->port.copy(self->port.ctx, HUB_INBCAST, m);
    self->port.to_engine(self->port.ctx, part->uuid, part->id, m);
    msg_unref(&m);
    return 0;
}

static void
start_part(struct broadcast *self, struct part *part, int64_t wall_us)
{
    const struct part *same = map_get(&self->parts, part->key);
    char text[400];
    rh_error err = {0};
    int rc;

    if (part->flight->finished || (same && same->flight == part->flight))
        return; // failed already; or the same target twice
    if (same) {
        fail_part(self, part, "ValueError",
                  SPAN_LIT("the message id is in use by a broadcast that is "
                           "not finished"),
                  wall_us);
        return;
    }
    if (!self->port.alive(self->port.ctx, part->uuid)) {
        snprintf(text, sizeof(text),
                 "Engine %.*s is not registered (id %d): it has stopped, or "
                 "never was",
                 (int)(part->uuid.n < 255 ? part->uuid.n : 255),
                 (const char *)part->uuid.p, part->id);
        fail_part(self, part, "EngineError", span_str(text), wall_us);
        return;
    }
    rc = open_part(self, part);
    if (rc == 0)
        rc = send_part(self, part, &err);
    if (rc < 0)
        fail_part(self, part, "MemoryError",
                  span_str(*err.text ? err.text : rh_code_text(rc)), wall_us);
}

static int
scan_request(struct msg *m, struct scan_field field[2],
             struct header_view *header, rh_error *err)
{
    int rc = scan_header(msg_part(m, MSG_HEADER), header, err);

    field[0] = (struct scan_field){.key = "targets"};
    field[1] = (struct scan_field){.key = "is_coalescing"};
    if (rc == 0)
        rc = scan_object(msg_part(m, MSG_METADATA), field, 2, err);
    return rc;
}

/* A request that names no usable targets still gets an answer. */
static void
refuse(struct broadcast *self, struct msg *m, const struct header_view *header,
       const char *why, int64_t wall_us)
{
    const struct fault_reply fault = {
        .ident = m->frame,
        .n_ident = 1,
        .msg_type = header->msg_type,
        .parent = msg_part(m, MSG_HEADER),
        .ename = "ValueError",
        .evalue = span_str(why),
        .wall_us = wall_us,
    };
    struct msg *reply;

    if (fault_reply_new(self->sender, &fault, &reply, NULL) < 0)
        return;
    self->port.to_client(self->port.ctx, reply);
    msg_unref(&reply);
}

/* A flight for the request; RH_EPROTO if its metadata is not usable, or no
 * engine could read it.
 */
static int
plan(struct broadcast *self, struct msg *m, const struct scan_field field[2],
     const struct header_view *header, struct flight **out, rh_error *err)
{
    struct flight *flight;
    bool coalescing;
    size_t n;
    int rc = scan_object(msg_part(m, MSG_PARENT), NULL, 0, err);

    if (rc == 0)
        rc = scan_object(msg_part(m, MSG_CONTENT), NULL, 0, err);
    if (rc < 0)
        return rc;
    if (scan_bool(field[1].value, &coalescing) < 0)
        return rh_fail(err, RH_EPROTO, "metadata without is_coalescing");
    if (count_elements(field[0].value, BROADCAST_TARGETS_MAX, &n) < 0 || n == 0)
        return rh_fail(err, RH_EPROTO,
                       "metadata without a list of 1 to %d targets",
                       BROADCAST_TARGETS_MAX);
    flight = mem_zalloc(1, sizeof(*flight) + n * sizeof(struct part));
    if (!flight)
        return rh_fail(err, RH_ENOMEM, "a broadcast to %zu engines", n);
    flight->header = *header;
    flight->targets = field[0].value;
    flight->coalescing = coalescing;
    flight->n = n;
    buf_init(&flight->names);
    rc = name_parts(flight, err);
    if (rc < 0) {
        buf_fini(&flight->names);
        mem_free(flight);
        return rc;
    }
    flight->request = msg_ref(m);
    list_append(&self->flights, &flight->node);
    *out = flight;
    return 0;
}

int
broadcast_on_request(struct broadcast *self, struct msg *m, int64_t wall_us,
                     rh_error *err)
{
    struct scan_field field[2] = {{.key = NULL}};
    struct header_view header = {.msg_id = SPAN_NONE};
    struct flight *flight = NULL;
    rh_error why;
    int rc;

    if (m->i_delim < 1)
        return rh_fail(err, RH_EPROTO, "a broadcast without a sender");
    rc = session_admit(self->session, m, err);
    if (rc == 0)
        rc = scan_request(m, field, &header, err);
    if (rc < 0)
        return rc;
    rc = plan(self, m, field, &header, &flight, &why);
    if (rc < 0) {
        refuse(self, m, &header, why.text, wall_us);
        return 0;
    }
    if (flight->coalescing)
        self->port.copy(self->port.ctx, HUB_INBCAST, m);
    // Counted as open while it is being sent, so that a failure does not end
    // a coalesced broadcast under our feet.
    flight->n_open++;
    for (size_t i = 0; i < flight->n; i++)
        start_part(self, &flight->part[i], wall_us);
    if (--flight->n_open == 0)
        free_flight(self, flight);
    return 0;
}

int
broadcast_on_reply(struct broadcast *self, struct msg *m, int64_t wall_us,
                   rh_error *err)
{
    struct header_view parent = {.msg_id = SPAN_NONE};
    struct flight *flight;
    struct part *part;
    int rc;

    if (m->i_delim < 2)
        return rh_fail(err, RH_EPROTO, "a broadcast reply without its route");
    rc = session_verify(self->session, m, err);
    if (rc == 0)
        rc = scan_header(msg_part(m, MSG_PARENT), &parent, err);
    if (rc < 0)
        return rc;
    part = map_get(&self->parts, parent.msg_id);
    if (!part)
        return rh_fail(err, RH_ENOENT, "a reply nobody waits for");
    flight = part->flight;
    // Both come from the network: only the engine asked may answer, and only
    // to the client that asked.
    if (!span_eq(m->frame[0], part->uuid)
        || !span_eq(m->frame[1], flight->request->frame[0]))
        return rh_fail(err, RH_EPROTO, "a reply from or to somebody else");
    if (flight->coalescing) {
        take_part(self, part, m, wall_us);
    } else {
        struct span uuid = m->frame[0];
        struct msg *taken = msg_ref(m);

        m->frame[0] = m->frame[1];
        m->frame[1] = uuid;
        close_part(self, part);
        deliver(self, &taken);
    }
    if (flight->n_open == 0)
        free_flight(self, flight);
    return 0;
}

void
broadcast_on_engine_lost(struct broadcast *self, struct span uuid,
                         struct span why, int64_t wall_us)
{
    struct target *target;
    struct buf text;

    buf_init(&text);
    while ((target = map_get(&self->targets, uuid))) {
        struct part *part =
            LIST_ENTRY(target->parts.next, struct part, by_engine);
        struct flight *flight = part->flight;

        buf_clear(&text);
        buf_add_fmt(&text, "Engine %d died while running task '", part->id);
        buf_add_span(&text, part->key);
        buf_add_char(&text, '\'');
        if (why.n) {
            buf_add_str(&text, ": ");
            buf_add_span(&text, why);
        }
        fail_part(self, part, "EngineError", buf_span(&text), wall_us);
        if (flight->n_open == 0)
            free_flight(self, flight);
    }
    buf_fini(&text);
}
