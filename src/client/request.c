/* request.c - the record of one request, and how it reads
 *
 * Completing a request must not fail, so it never allocates: a failure is kept
 * as a code, and the reply that says it in the protocol's words is made when
 * somebody reads it.  Text is decoded from stream messages in the same way,
 * from where the last reader stopped.
 */
#include "client/request.h"

#include <stdio.h>

#include "base/isodate.h"
#include "base/mem.h"
#include "client/client.h"
#include "wire/scan.h"

static bool
wants_output(const char *msg_type)
{
    return strcmp(msg_type, "apply_request") == 0
           || strcmp(msg_type, "execute_request") == 0;
}

static bool
is_one_way(const char *msg_type)
{
    return strncmp(msg_type, "comm_", 5) == 0
           || strcmp(msg_type, "unregistration_request") == 0;
}

struct rh_request *
request_new(const struct request_spec *spec)
{
    size_t n_id = strlen(spec->msg_id) + 1, n_target = strlen(spec->target) + 1;
    struct rh_request *self;
    char *p;

    if (spec->header.n > SIZE_MAX / 2)
        return NULL;
    self = mem_zalloc(1, sizeof(*self) + n_id + n_target + spec->header.n);
    if (!self)
        return NULL;
    p = (char *)(self + 1);
    self->msg_id = memcpy(p, spec->msg_id, n_id);
    self->target = memcpy(p + n_id, spec->target, n_target);
    if (spec->header.n)
        memcpy(p + n_id + n_target, spec->header.p, spec->header.n);
    self->header = span_of(p + n_id + n_target, spec->header.n);
    self->channel = spec->channel;
    self->coalescing = spec->coalescing;
    self->has_output =
        spec->channel != RH_QUERY && wants_output(spec->msg_type);
    self->one_way = is_one_way(spec->msg_type);
    self->submitted_us = spec->now_us;
    atomic_init(&self->refs, 1);
    atomic_init(&self->state, 0);
    list_init(&self->on_engine);
    list_init(&self->waits);
    list_init(&self->ready);
    return self;
}

int
request_add_part(struct rh_request *leader, const char *msg_id,
                 const char *uuid)
{
    struct request_spec spec = {
        .channel = leader->channel,
        .msg_id = msg_id,
        .target = uuid,
        .msg_type = leader->has_output ? "apply_request" : "",
        .now_us = leader->submitted_us,
    };
    struct rh_request *part, **grown;

    // Doubled at every power of two.
    if ((leader->n_parts & (leader->n_parts - 1)) == 0) {
        size_t cap = leader->n_parts ? leader->n_parts * 2 : 1;

        grown = mem_resize(leader->part, cap, sizeof(struct rh_request *));
        if (!grown)
            return RH_ENOMEM;
        leader->part = grown;
    }
    part = request_new(&spec);
    if (!part)
        return RH_ENOMEM;
    part->leader = leader;
    part->client = leader->client;
    part->header = leader->header;
    leader->part[leader->n_parts++] = part;
    leader->n_open++;
    leader->n_loud++;
    return 0;
}

struct rh_request *
request_ref(struct rh_request *self)
{
    atomic_fetch_add_explicit(&request_group(self)->refs, 1,
                              memory_order_relaxed);
    return self;
}

static void
request_free(struct rh_request *self)
{
    for (size_t i = 0; i < self->n_parts; i++)
        request_free(self->part[i]);
    for (size_t i = 0; i < self->n_output; i++)
        msg_unref(&self->output[i]);
    mem_free(self->part);
    mem_free(self->output);
    buf_fini(&self->text[0]);
    buf_fini(&self->text[1]);
    msg_unref(&self->reply);
    msg_unref(&self->made);
    tracker_unref(&self->tracker);
    mem_free(self);
}

void
request_unref(struct rh_request **self_p)
{
    struct rh_request *self = *self_p;
    struct rh_client *client;

    if (!self)
        return;
    *self_p = NULL;
    self = request_group(self);
    if (atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel) != 1)
        return;
    client = self->client;
    request_free(self);
    client_unref(&client);
}

int
request_add_output(struct rh_request *self, struct msg *m)
{
    if (self->n_output == self->cap_output) {
        size_t cap = self->cap_output ? self->cap_output * 2 : 4;
        struct msg **grown =
            mem_resize(self->output, cap, sizeof(struct msg *));

        if (!grown)
            return RH_ENOMEM;
        self->output = grown;
        self->cap_output = cap;
    }
    self->output[self->n_output++] = msg_ref(m);
    return 0;
}

/* Append the text of one message if it is of a stream. */
static int
read_stream(struct rh_request *self, const struct msg *m)
{
    struct scan_field type = {.key = "msg_type"};
    struct scan_field f[] = {{.key = "name"}, {.key = "text"}};
    struct buf scratch = {0};
    struct span text;
    bool failed = false;

    if (scan_object(msg_part(m, MSG_HEADER), &type, 1, NULL) < 0
        || !span_is(type.value, "\"stream\"")
        || scan_object(msg_part(m, MSG_CONTENT), f, 2, NULL) < 0)
        return 0;
    if (scan_string(f[1].value, &scratch, &text) == 0) {
        struct buf *to = &self->text[span_is(f[0].value, "\"stderr\"")];

        buf_add_span(to, text);
        failed = to->failed;
        to->failed = false;
    } else {
        failed = scratch.failed;
    }
    buf_fini(&scratch);
    return failed ? RH_ENOMEM : 0;
}

int
request_read_text(struct rh_request *self)
{
    while (self->n_read < self->n_output) {
        if (read_stream(self, self->output[self->n_read]) < 0)
            return RH_ENOMEM;
        self->n_read++;
    }
    return 0;
}

/* What a failure is called and says, as an exception. */
static const char *
describe(const struct rh_request *self, struct buf *evalue)
{
    switch (self->failure) {
    case FAIL_ENGINE_DIED:
        buf_add_fmt(evalue, "Engine %d died while running task '%s'",
                    self->engine_id, self->msg_id);
        return "EngineError";
    case FAIL_NO_ENGINE:
        buf_add_fmt(evalue,
                    "Engine '%s' is not registered, task '%s' was not sent",
                    self->target, self->msg_id);
        return "EngineError";
    case FAIL_SHUTDOWN:
        buf_add_fmt(evalue, "The controller shut down before task '%s' ended",
                    self->msg_id);
        return "ClientClosed";
    case FAIL_LOST:
        buf_add_fmt(evalue,
                    "The connection to the controller was lost before task "
                    "'%s' ended; if it ran, the hub may know its result",
                    self->msg_id);
        return "ConnectionLost";
    case FAIL_BAD_REPLY:
        buf_add_fmt(evalue, "The reply to task '%s' is malformed",
                    self->msg_id);
        return "ProtocolError";
    case FAIL_NONE:
    case FAIL_CLOSED:
        break;
    }
    buf_add_fmt(evalue, "The client was closed before task '%s' ended",
                self->msg_id);
    return "ClientClosed";
}

static void
add_content(const struct rh_request *self, struct buf *out)
{
    struct buf evalue = {0}, line = {0};
    const char *ename = describe(self, &evalue);

    if (evalue.failed) {
        out->failed = true;
        return;
    }
    buf_add_fmt(&line, "%s: ", ename);
    buf_add_span(&line, buf_span(&evalue));
    buf_add_str(&line, "\n");
    buf_add_str(out, "{\"status\": \"error\", \"ename\": ");
    buf_add_json_str(out, span_str(ename));
    buf_add_str(out, ", \"evalue\": ");
    buf_add_json_str(out, buf_span(&evalue));
    buf_add_str(out, ", \"traceback\": [");
    buf_add_json_str(out, buf_span(&line));
    buf_add_str(out, "], \"engine_info\": {}}");
    out->failed |= evalue.failed || line.failed;
    buf_fini(&evalue);
    buf_fini(&line);
}

static void
add_header(const struct rh_request *self, struct buf *out, const char *date)
{
    struct scan_field f[] = {{.key = "msg_type"}, {.key = "session"}};
    struct span type;

    if (scan_object(self->header, f, 2, NULL) < 0 || f[0].value.n < 2
        || f[1].value.n < 2) {
        f[0].value = SPAN_LIT("\"apply_request\"");
        f[1].value = SPAN_LIT("\"\"");
    }
    // "x_request" is answered by "x_reply".
    type = span_of(f[0].value.p, f[0].value.n - 1);
    if (type.n > 8 && memcmp(type.p + type.n - 8, "_request", 8) == 0)
        type.n -= 8;
    buf_add_str(out, "{\"msg_id\": ");
    buf_add_json_str(out, span_str(self->msg_id));
    out->n -= out->n && !out->failed; // the closing quote
    buf_add_str(out, "_failed\", \"msg_type\": ");
    buf_add_span(out, type);
    buf_add_str(out, "_reply\", \"username\": \"\", \"session\": ");
    buf_add_span(out, f[1].value);
    buf_add_fmt(out, ", \"date\": \"%s\", \"version\": \"5.3\"}", date);
}

/* A message in the protocol's form, not signed: it never travels. */
static struct msg *
make_reply(const struct rh_request *self)
{
    struct buf header = {0}, metadata = {0}, content = {0};
    char date[ISODATE_SIZE];
    struct msg *m = NULL;

    isodate_format(self->received_us, date);
    add_header(self, &header, date);
    buf_add_str(&metadata, "{\"status\": \"error\", \"engine\": ");
    if (*self->target)
        buf_add_json_str(&metadata, span_str(self->target));
    else
        buf_add_str(&metadata, "null");
    buf_add_fmt(&metadata, ", \"date\": \"%s\"}", date);
    add_content(self, &content);
    if (!header.failed && !metadata.failed && !content.failed) {
        struct span frame[] = {SPAN_LIT(MSG_DELIM), SPAN_NONE,
                               buf_span(&header),   self->header,
                               buf_span(&metadata), buf_span(&content)};

        m = msg_new(frame, sizeof(frame) / sizeof(frame[0]));
        if (m)
            m->i_delim = 0;
    }
    buf_fini(&header);
    buf_fini(&metadata);
    buf_fini(&content);
    return m;
}

int
request_reply(struct rh_request *self, const struct msg **out)
{
    if (!(request_state(self) & RH_DONE))
        return RH_EAGAIN;
    if (!self->reply && self->failure == FAIL_NONE)
        return RH_ENOENT;
    if (!self->reply && !self->made) {
        self->made = make_reply(self);
        if (!self->made)
            return RH_ENOMEM;
    }
    *out = self->reply ? self->reply : self->made;
    return 0;
}

struct span
request_engine(struct rh_request *self)
{
    struct scan_field f = {.key = "engine"};

    // The name is plain text in every known engine; one with escapes in it is
    // not worth memory.
    if ((request_state(self) & RH_DONE) && self->reply
        && scan_object(msg_part(self->reply, MSG_METADATA), &f, 1, NULL) == 0
        && f.value.n > 2 && f.value.p[0] == '"'
        && !memchr(f.value.p, '\\', f.value.n))
        return span_of(f.value.p + 1, f.value.n - 2);
    return span_str(self->target);
}
