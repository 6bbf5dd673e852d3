/* access.c - reading requests and engines through the public API
 *
 * What never changes, and what is fixed once RH_DONE is set, is read without
 * the lock.  Output grows, made replies appear: those are read with it.
 */
#include "base/mem.h"
#include "client/client.h"
#include "wire/scan.h"

static struct rh_bytes
bytes_of(struct span s)
{
    return (struct rh_bytes){s.p, s.n};
}

/* Tests have requests without a client. */
static void
lock(const struct rh_request *req)
{
    if (req->client)
        pthread_mutex_lock(&req->client->lock);
}

static void
unlock(const struct rh_request *req)
{
    if (req->client)
        pthread_mutex_unlock(&req->client->lock);
}

/* ---- whose it is ------------------------------------------------------ */

void
client_hold(struct rh_request *req)
{
    lock(req);
    request_group(req)->handles++;
    unlock(req);
    request_ref(req);
}

void
client_drop_handle(struct rh_request *req)
{
    struct rh_request *group = request_group(req);

    if (--group->handles == 0 && group->client
        && !atomic_load(&group->client->closed))
        ledger_abandon(&group->client->ledger, group);
}

void
rh_request_release(rh_request **self_p)
{
    struct rh_request *self = *self_p;

    if (!self)
        return;
    if (self->client && client_check(self->client, NULL) < 0) {
        *self_p = NULL; // a child of fork: the lock may be held for ever
        return;
    }
    lock(self);
    client_drop_handle(self);
    unlock(self);
    request_unref(self_p);
}

/* ---- reading ---------------------------------------------------------- */

const char *
rh_request_id(const rh_request *self)
{
    return self->msg_id;
}

unsigned
rh_request_state(const rh_request *self)
{
    return request_state(self);
}

enum rh_status
rh_request_status(const rh_request *self)
{
    if (!(request_state(self) & RH_DONE))
        return RH_PENDING;
    for (size_t i = 0; i < self->n_parts && !self->coalescing; i++)
        if (self->part[i]->status != RH_STATUS_OK)
            return self->part[i]->status;
    return self->n_parts && !self->coalescing ? RH_STATUS_OK : self->status;
}

int
client_reply(struct rh_request *self, struct msg **out)
{
    const struct msg *m;
    int rc;

    lock(self);
    rc = request_reply(self, &m);
    if (rc == 0)
        *out = msg_ref(self->reply ? self->reply : self->made);
    unlock(self);
    return rc;
}

int
rh_request_part(rh_request *self, enum rh_part part, rh_bytes *out)
{
    static const enum msg_part where[] = {
        [RH_REPLY_HEADER] = MSG_HEADER,
        [RH_REPLY_METADATA] = MSG_METADATA,
        [RH_REPLY_CONTENT] = MSG_CONTENT,
    };
    const struct msg *m;
    int rc;

    if (part == RH_REQUEST_HEADER) {
        *out = bytes_of(self->header);
        return 0;
    }
    if ((unsigned)part > RH_REPLY_CONTENT)
        return RH_EINVAL;
    lock(self);
    rc = request_reply(self, &m);
    unlock(self);
    if (rc == 0)
        *out = bytes_of(msg_part(m, where[part]));
    return rc;
}

size_t
rh_request_n_buffers(const rh_request *self)
{
    return (request_state(self) & RH_DONE) && self->reply
               ? msg_n_buffers(self->reply)
               : 0;
}

rh_bytes
rh_request_buffer(const rh_request *self, size_t i)
{
    if (i >= rh_request_n_buffers(self))
        return (struct rh_bytes){NULL, 0};
    return bytes_of(msg_buffer(self->reply, (uint32_t)i));
}

size_t
rh_request_engine(rh_request *self, char *out, size_t cap)
{
    struct span uuid = request_engine(self);
    size_t n = uuid.n < cap ? uuid.n : cap ? cap - 1 : 0;

    if (cap) {
        if (n)
            memcpy(out, uuid.p, n);
        out[n] = '\0';
    }
    return uuid.n;
}

int64_t
rh_request_submitted(const rh_request *self)
{
    return self->submitted_us;
}

int64_t
rh_request_received(const rh_request *self)
{
    return request_state(self) & RH_DONE ? self->received_us : 0;
}

char *
rh_request_text(rh_request *self, int which, size_t *n)
{
    const struct buf *text = &self->text[which == 2];
    char *copy = NULL;

    lock(self);
    if (request_read_text(self) == 0) {
        copy = mem_strndup(text->n ? (const char *)text->p : "", text->n);
        if (n)
            *n = text->n;
    }
    unlock(self);
    return copy;
}

void
rh_free(void *p)
{
    mem_free(p);
}

int
client_outputs(struct rh_request *self, struct msg ***out, size_t *n)
{
    struct msg **v;
    int rc = 0;

    lock(self);
    *n = self->n_output;
    *out = v = mem_zalloc(*n + 1, sizeof(struct msg *));
    if (!v)
        rc = RH_ENOMEM;
    for (size_t i = 0; v && i < *n; i++)
        v[i] = msg_ref(self->output[i]);
    unlock(self);
    return rc;
}

int
rh_request_output(rh_request *self, size_t i, rh_output *out)
{
    struct scan_field type = {.key = "msg_type"};
    const struct msg *m = NULL;

    lock(self);
    if (i < self->n_output)
        m = self->output[i]; // stays until the request goes
    unlock(self);
    if (!m)
        return RH_ENOENT;
    *out = (struct rh_output){
        .header = bytes_of(msg_part(m, MSG_HEADER)),
        .metadata = bytes_of(msg_part(m, MSG_METADATA)),
        .content = bytes_of(msg_part(m, MSG_CONTENT)),
    };
    // It was scanned when it came; types are plain words.
    if (scan_object(msg_part(m, MSG_HEADER), &type, 1, NULL) == 0
        && type.value.n >= 2)
        out->msg_type = (struct rh_bytes){type.value.p + 1, type.value.n - 2};
    return 0;
}

size_t
rh_request_n_parts(const rh_request *self)
{
    return self->coalescing ? 0 : self->n_parts;
}

rh_request *
rh_request_subrequest(const rh_request *self, size_t i)
{
    return i < rh_request_n_parts(self) ? self->part[i] : NULL;
}

/* ---- engines ---------------------------------------------------------- */

size_t
rh_client_engines(rh_client *self, rh_engine *out, size_t cap)
{
    size_t n;

    if (client_check(self, NULL) < 0)
        return 0;
    pthread_mutex_lock(&self->lock);
    n = self->ledger.n_engines;
    for (size_t i = 0; i < n && i < cap; i++) {
        const struct engine *engine = self->ledger.engine[i];

        out[i].id = engine->id;
        memcpy(out[i].uuid, engine->uuid, engine->uuid_n + 1);
    }
    pthread_mutex_unlock(&self->lock);
    return n;
}

uint64_t
rh_client_engines_version(rh_client *self)
{
    return atomic_load(&self->engines_version);
}

const char *
rh_client_session(const rh_client *self)
{
    return self->sender.session;
}

int
rh_client_is_closed(const rh_client *self)
{
    return atomic_load(&self->closed);
}
