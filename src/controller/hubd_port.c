/* hubd_port.c - what the hub core may do to the world
 *
 * Engine events go to the other threads first.  What the hub tells clients
 * afterwards waits until these threads know it (replies, registrations) or are
 * done with it (unregistrations: every request has been answered for).  So a
 * client never knows more than the threads it talks to.  Normally nothing
 * waits, and a message goes out at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "controller/hubd.h"
#include "controller/local.h"
#include "controller/note.h"
#include "wire/scan.h"

#define QUIT_MS 1000

struct member {
    bool up;
    bool dead; // its process, for certain
    struct local local;
    uint32_t capabilities;
    size_t n;
    char uuid[];
};

struct outgoing {
    struct list node;
    struct net_sock *via;
    struct msg *m;
    uint64_t seq; // engine events before it
    bool settled; // wait until they are settled, not only seen
};

// ---------------------------------------------------------------------------
// Replies and notifications

static uint64_t
least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool
may_go(const struct hubd *self, uint64_t seq, bool settled)
{
    uint64_t relay =
        atomic_load(settled ? &self->relay->settled : &self->relay->seen);

    return least(relay, atomic_load(&self->task->seen)) >= seq;
}

static void
send_now(struct hubd *self, struct net_sock *via, struct msg *m)
{
    rh_error err;
    int rc = net_send(via, NULL, 0, m, 0, &err);

    if (rc < 0)
        complain(&self->complain, self->now, "a reply is lost: %s",
                 rc == RH_EAGAIN ? "no room to queue it" : err.text);
}

static void
send_soon(struct hubd *self, struct net_sock *via, struct msg *m, bool settled)
{
    struct outgoing *out;

    if (list_empty(&self->outbox) && may_go(self, self->seq, settled)) {
        send_now(self, via, m);
        return;
    }
    out = mem_zalloc(1, sizeof(*out));
    if (!out) {
        send_now(self, via, m); // early is better than never
        return;
    }
    out->via = via;
    out->m = msg_ref(m);
    out->seq = self->seq;
    out->settled = settled;
    list_append(&self->outbox, &out->node);
}

static void
free_outgoing(struct outgoing *out)
{
    list_remove(&out->node);
    msg_unref(&out->m);
    mem_free(out);
}

bool
hubd_flush(struct hubd *self)
{
    bool held_notify = false;
    struct list *p = self->outbox.next;

    // Replies pass notifications that wait for a grace time to end, but each
    // kind keeps its order.
    while (p != &self->outbox) {
        struct outgoing *out = LIST_ENTRY(p, struct outgoing, node);

        p = p->next;
        if (out->settled && held_notify)
            continue;
        if (may_go(self, out->seq, out->settled)) {
            send_now(self, out->via, out->m);
            free_outgoing(out);
        } else if (out->settled) {
            held_notify = true;
        }
    }
    return !list_empty(&self->outbox);
}

static void
reply(void *ctx, struct msg *m)
{
    struct hubd *self = ctx;

    send_soon(self, self->query, m, false);
}

static void
notify(void *ctx, struct msg *m)
{
    struct hubd *self = ctx;

    send_soon(self, self->notify, m, true);
}

static int
submit_task(void *ctx, struct msg *m, rh_error *err)
{
    struct hubd *self = ctx;
    int rc = note_push_msg(self->task->inbox, NOTE_SUBMIT, m);

    return rc < 0 ? rh_fail(err, rc, "passing a task to the scheduler") : 0;
}

static int
ask_scheduler(void *ctx, struct msg *m, rh_error *err)
{
    struct hubd *self = ctx;
    int rc = note_push_msg(self->task->inbox, NOTE_ASK, m);

    return rc < 0 ? rh_fail(err, rc, "passing a request to the scheduler") : 0;
}

static void
quit_soon(void *ctx)
{
    struct hubd *self = ctx;

    if (self->quit_at == INT64_MAX)
        log_info("hub::shutting down on a client's request");
    self->quit_at = self->now + QUIT_MS;
}

// ---------------------------------------------------------------------------
// Engines

static void
member_free(struct member *m)
{
    local_forget(&m->local);
    mem_free(m);
}

static struct member *
add_member(struct hubd *self, struct span uuid)
{
    struct member *m = map_get(&self->members, uuid);

    if (m || !(m = mem_zalloc(1, sizeof(*m) + uuid.n)))
        return m;
    m->n = uuid.n;
    memcpy(m->uuid, uuid.p, uuid.n);
    if (map_put(&self->members, span_of(m->uuid, m->n), m) < 0) {
        mem_free(m);
        return NULL;
    }
    return m;
}

static void
tell_workers(struct hubd *self, enum note_kind kind, int id, struct span uuid,
             const char *why, uint32_t capabilities, struct begun *begun)
{
    struct note fields = {
        .engine = id,
        .capabilities = capabilities,
        .grace_ms = self->grace_ms,
        .seq = ++self->seq,
    };

    note_push_sure(self->relay->inbox, kind, uuid, span_str(why), &fields);
    fields.begun = begun;
    note_push_sure(self->task->inbox, kind, uuid, span_str(why), &fields);
}

static void
on_up(struct hubd *self, int id, struct span uuid)
{
    struct member *m = map_get(&self->members, uuid);

    if (!m) { // restored: nobody has announced it
        m = add_member(self, uuid);
        note_push_sure(self->heart, NOTE_BEATING, uuid, SPAN_NONE, NULL);
    }
    if (m)
        m->up = true;
    tell_workers(self, NOTE_ENGINE_UP, id, uuid, "", m ? m->capabilities : 0,
                 NULL);
}

static void
on_down(struct hubd *self, int id, struct span uuid, const char *why)
{
    struct member *m = map_get(&self->members, uuid);

    note_push_sure(self->heart, NOTE_FORGET, uuid, SPAN_NONE, NULL);
    if (self->lifeline)
        lifeline_forget(self->lifeline, uuid);
    if (!m || m->up) { // without a member there was no memory for it
        tell_workers(self, NOTE_ENGINE_DOWN, id, uuid, why, 0,
                     m && m->dead ? m->local.begun : NULL);
        if (m && m->dead)
            m->local.begun = NULL;
    }
    if (m) {
        map_del(&self->members, uuid);
        member_free(m);
    }
}

const char *
hubd_autopsy(struct hubd *self, struct span uuid, const char *seen, char *out,
             size_t cap)
{
    struct member *m = map_get(&self->members, uuid);
    char why[200] = "";

    if (m)
        m->dead = local_is_dead(&m->local, why, sizeof(why));
    if (!*why)
        return seen;
    // The lifeline can only guess that the process has ended.
    if (strcmp(seen, LIFELINE_ENDED) != 0)
        snprintf(out, cap, "%s; %s", seen, why);
    else
        snprintf(out, cap, "%s%s", m->dead ? "" : "its lifeline broke, but ",
                 why);
    return out;
}

static void
engine(void *ctx, enum hub_engine_event event, int id, struct span uuid,
       const char *why)
{
    struct hubd *self = ctx;

    switch (event) {
    case HUB_ENGINE_PENDING:
        (void)add_member(self, uuid);
        note_push_sure(self->heart, NOTE_EXPECT, uuid, SPAN_NONE, NULL);
        break;
    case HUB_ENGINE_UP:
        on_up(self, id, uuid);
        break;
    case HUB_ENGINE_DOWN:
        on_down(self, id, uuid, why);
        break;
    }
}

/* What an engine says it can do, in its registration request. */
static uint32_t
capabilities_of(struct span asked)
{
    static const uint32_t meaning[] = {SCHED_AGAIN, SCHED_PREFETCH};
    struct scan_field field[] = {{.key = "again"}, {.key = "withdraw"}};
    uint32_t found = 0;
    bool yes = false;

    if (!asked.n || scan_object(asked, field, 2, NULL) < 0)
        return 0;
    for (size_t i = 0; i < 2; i++)
        if (field[i].value.n && scan_bool(field[i].value, &yes) == 0 && yes)
            found |= meaning[i];
    return found;
}

/* "lifeline": {"port": 4711, "token": "..."} */
static void
offer_lifeline(struct hubd *self, struct span uuid, struct buf *out)
{
    char token[LIFELINE_TOKEN_SIZE];

    if (self->lifeline && lifeline_expect(self->lifeline, uuid, token) == 0)
        buf_add_fmt(out, ", \"lifeline\": {\"port\": %d, \"token\": \"%s\"}",
                    lifeline_tcp_port(self->lifeline), token);
}

/* {"version": 1, ...}: to clients also what the scheduler answers. */
static void
offer(void *ctx, enum hub_peer peer, int id, struct span uuid,
      struct span asked, struct buf *out)
{
    struct hubd *self = ctx;
    struct member *m;

    (void)id;
    buf_add_str(out, "{\"version\": 1");
    if (peer == HUB_CLIENT) {
        buf_add_str(out, ", \"explain\": true, \"cancel\": true");
    } else {
        m = map_get(&self->members, uuid);
        if (m) {
            m->capabilities = capabilities_of(asked);
            local_meet(&m->local, asked);
        }
        offer_lifeline(self, uuid, out);
    }
    shm_offer(self->shm, out);
    buf_add_char(out, '}');
}

void
hubd_forget_all(struct hubd *self)
{
    struct member *m;

    while (!list_empty(&self->outbox))
        free_outgoing(LIST_ENTRY(self->outbox.next, struct outgoing, node));
    for (size_t i = 0; (m = map_next(&self->members, &i));)
        member_free(m);
    map_fini(&self->members);
}

// ---------------------------------------------------------------------------
// engines<cluster>.json

static void
save_engines(void *ctx, struct span json)
{
    struct hubd *self = ctx;

    buf_clear(&self->engines);
    buf_add_span(&self->engines, json);
    self->engines_dirty = !self->engines.failed;
}

static int
write_all(int fd, const struct buf *text)
{
    size_t at = 0;

    while (at < text->n) {
        ssize_t n = write(fd, text->p + at, text->n - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        at += (size_t)n;
    }
    return 0;
}

/* By rename, so that a reader never sees half a file. */
void
hubd_save_engines(struct hubd *self)
{
    char path[4096];
    int fd, n, failed;

    if (!self->engines_dirty || !self->engines_path)
        return;
    self->engines_dirty = false;
    n = snprintf(path, sizeof(path), "%s.new", self->engines_path);
    if (n < 0 || (size_t)n >= sizeof(path))
        return;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    failed = fd < 0 || write_all(fd, &self->engines) < 0;
    if (fd >= 0)
        failed |= close(fd) < 0;
    if (failed || rename(path, self->engines_path) < 0) {
        complain(&self->complain, self->now, "cannot write %s: %s",
                 self->engines_path, strerror(errno));
        (void)unlink(path);
    }
}

/* Warnings are about what peers do, so they are limited; one about the query
 * in hand also says whose it is and why it may be refused.
 */
static void
write_log(void *ctx, enum log_level level, const char *text)
{
    struct hubd *self = ctx;
    const struct msg *m = self->asked;
    const char *hint;
    char peer[100];

    if (level != LOG_WARN) {
        log_write(level, "%s", text);
    } else if (m && m->i_delim != MSG_NO_DELIM && m->i_delim > 0) {
        log_escape(m->frame[0], peer, sizeof(peer));
        hint = refusal_hint(m, strstr(text, "sign") ? RH_EAUTH : RH_EPROTO,
                            self->scheme);
        complain(&self->complain, self->now, "%s (from %s%s%s)", text, peer,
                 hint ? "; " : "", hint ? hint : "");
    } else {
        complain(&self->complain, self->now, "%s", text);
    }
}

const struct hub_port hubd_port = {
    .reply = reply,
    .notify = notify,
    .submit_task = submit_task,
    .ask_scheduler = ask_scheduler,
    .shutdown = quit_soon,
    .engine = engine,
    .save_engines = save_engines,
    .offer = offer,
    .log = write_log,
};
