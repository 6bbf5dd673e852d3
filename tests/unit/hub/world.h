/* world.h - a hub, its peers and a port that records
 *
 * Time stands still unless a test moves it.  Ids count from 0 as upstream's
 * do, so expected texts can be written down.
 */
#ifndef TESTS_HUB_WORLD_H
#define TESTS_HUB_WORLD_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/hub.h"
#include "store/store.h"
#include "wire/compose.h"

#define WALL INT64_C(1700000000000000) // 2023-11-14T22:13:20Z
#define MAX_PEERS 16
#define MAX_SENT 64

struct sent {
    struct msg *m[MAX_SENT];
    int n, total;
};

struct world {
    struct hub *hub;
    struct store *store;
    struct session *hub_session, *peer_session;
    struct sender client, scheduler, engine[MAX_PEERS];
    int n_engines;
    int64_t now, wall;
    // what the hub did
    struct sent replies, notices, submitted, asked;
    int shutdowns, saves, refuse_submit;
    int unanswered; // the log says that a request got no answer
    char events[1024], saved[1024], last_log[512];
    char why[256]; // of the last event
    const char *offer;
};

static inline void
sent_clear(struct sent *s)
{
    for (int i = 0; i < s->n; i++)
        msg_unref(&s->m[i]);
    s->n = 0;
}

static inline void
sent_add(struct sent *s, struct msg *m)
{
    s->total++;
    if (s->n == MAX_SENT)
        sent_clear(s);
    s->m[s->n++] = msg_ref(m);
}

static inline void
port_reply(void *ctx, struct msg *m)
{
    sent_add(&((struct world *)ctx)->replies, m);
}

static inline void
port_notify(void *ctx, struct msg *m)
{
    sent_add(&((struct world *)ctx)->notices, m);
}

static inline int
port_submit(void *ctx, struct msg *m, rh_error *err)
{
    struct world *w = ctx;

    if (w->refuse_submit)
        return rh_fail(err, RH_EAGAIN, "its queue is full");
    sent_add(&w->submitted, m);
    return 0;
}

static inline void
port_shutdown(void *ctx)
{
    ((struct world *)ctx)->shutdowns++;
}

static inline void
port_engine(void *ctx, enum hub_engine_event event, int id, struct span uuid,
            const char *why)
{
    static const char *const name[] = {"pending", "up", "down"};
    struct world *w = ctx;
    const size_t n = strlen(w->events);

    assert_non_null(why);
    (void)snprintf(w->why, sizeof(w->why), "%s", why);
    (void)snprintf(w->events + n, sizeof(w->events) - n, "%s %d %.*s; ",
                   name[event], id, (int)uuid.n, (const char *)uuid.p);
}

static inline void
port_save(void *ctx, struct span json)
{
    struct world *w = ctx;

    w->saves++;
    (void)snprintf(w->saved, sizeof(w->saved), "%.*s", (int)json.n,
                   (const char *)json.p);
}

static inline int
port_ask(void *ctx, struct msg *m, rh_error *err)
{
    struct world *w = ctx;

    if (w->refuse_submit)
        return rh_fail(err, RH_ENOMEM, "no memory to ask");
    sent_add(&w->asked, m);
    return 0;
}

static inline void
port_offer(void *ctx, enum hub_peer peer, int id, struct span uuid,
           struct span asked, struct buf *out)
{
    struct world *w = ctx;

    (void)peer;
    (void)id;
    (void)uuid;
    if (w->offer && asked.n > 0)
        buf_add_str(out, w->offer);
}

static inline void
port_log(void *ctx, enum log_level level, const char *text)
{
    struct world *w = ctx;

    (void)level;
    if (strstr(text, "not answered") || strstr(text, "request dropped"))
        w->unanswered++;
    (void)snprintf(w->last_log, sizeof(w->last_log), "%s", text);
}

/* jansson takes its memory from where a sweep can refuse it. */
static inline int
jansson_from_mem(void **state)
{
    (void)state;
    json_set_alloc_funcs(mem_alloc, mem_free);
    return 0;
}

static inline int
world_open_store(struct world *w, struct store *store,
                 const struct hub_config *more)
{
    const struct hub_port port = {
        .ctx = w,
        .reply = port_reply,
        .notify = port_notify,
        .submit_task = port_submit,
        .ask_scheduler = port_ask,
        .shutdown = port_shutdown,
        .engine = port_engine,
        .save_engines = port_save,
        .offer = port_offer,
        .log = port_log,
    };
    struct hub_config config = more ? *more : (struct hub_config){0};

    *w = (struct world){.now = 1000, .wall = WALL, .store = store};
    assert_int_equal(
        session_new(&w->hub_session, SPAN_LIT("secret"), "hmac-sha256", NULL),
        0);
    assert_int_equal(
        session_new(&w->peer_session, SPAN_LIT("secret"), "hmac-sha256", NULL),
        0);
    assert_int_equal(
        sender_init(&w->client, w->peer_session, "client", "user", NULL), 0);
    assert_int_equal(
        sender_init(&w->scheduler, w->peer_session, "sched", "user", NULL), 0);
    config.session = w->hub_session;
    config.store = w->store;
    config.session_id = "HUB";
    config.hb_period_ms = 1000;
    return hub_new(&w->hub, &config, &port, NULL);
}

static inline void
world_open(struct world *w)
{
    struct store *store = NULL;

    assert_int_equal(memory_open(&store, NULL, NULL), 0);
    assert_int_equal(world_open_store(w, store, NULL), 0);
}

static inline void
world_close(struct world *w)
{
    if (w->hub)
        hub_check(w->hub);
    sent_clear(&w->replies);
    sent_clear(&w->notices);
    sent_clear(&w->submitted);
    sent_clear(&w->asked);
    hub_free(&w->hub);
    store_close(&w->store);
    sender_fini(&w->client);
    sender_fini(&w->scheduler);
    for (int i = 0; i < w->n_engines; i++)
        sender_fini(&w->engine[i]);
    session_free(&w->hub_session);
    session_free(&w->peer_session);
}

/* ---- messages --------------------------------------------------------- */

struct parts {
    struct sender *from;
    const char *ident[3];
    const char *type, *id; // id NULL: the sender's next
    struct msg *parent;    // its header
    const char *metadata, *content;
    const char *buffer[2];
};

static inline struct msg *
make(struct world *w, struct parts p)
{
    struct span ident[3], buffer[2];
    struct draft d = {
        .ident = ident,
        .msg_type = p.type,
        .msg_id = p.id,
        .parent = p.parent ? msg_part(p.parent, MSG_HEADER) : SPAN_NONE,
        .metadata = span_str(p.metadata),
        .content = span_str(p.content),
        .buffer = buffer,
        .wall_us = w->wall,
    };
    struct msg *m = NULL;

    while (d.n_ident < 3 && p.ident[d.n_ident]) {
        ident[d.n_ident] = span_str(p.ident[d.n_ident]);
        d.n_ident++;
    }
    while (d.n_buffers < 2 && p.buffer[d.n_buffers]) {
        buffer[d.n_buffers] = span_str(p.buffer[d.n_buffers]);
        d.n_buffers++;
    }
    assert_int_equal(compose(p.from, &d, &m, NULL), 0);
    return m;
}

/* The hub is told and the message given up. */
static inline void
traffic(struct world *w, enum hub_kind kind, struct msg *m)
{
    hub_on_traffic(w->hub, kind, m, w->now, w->wall);
    msg_unref(&m);
}

/* ---- asking ----------------------------------------------------------- */

struct answer {
    char type[64];
    json_t *content, *parent;
    struct msg *m;
};

static inline json_t *
load_part(const struct msg *m, enum msg_part part)
{
    const struct span s = msg_part(m, part);
    json_t *tree = json_loadb((const char *)s.p, s.n, 0, NULL);

    assert_non_null(tree);
    return tree;
}

static inline struct answer
open_answer(struct msg *m)
{
    struct answer a = {.m = msg_ref(m)};
    json_t *header;

    if (m->i_delim == MSG_NO_DELIM)
        assert_int_equal(msg_parse(m, &msg_limits_default, NULL), 0);
    header = load_part(m, MSG_HEADER);
    (void)snprintf(a.type, sizeof(a.type), "%s",
                   json_string_value(json_object_get(header, "msg_type")));
    json_decref(header);
    a.content = load_part(m, MSG_CONTENT);
    a.parent = load_part(m, MSG_PARENT);
    return a;
}

static inline void
close_answer(struct answer *a)
{
    json_decref(a->content);
    json_decref(a->parent);
    msg_unref(&a->m);
}

/* As the client; exactly one reply comes, to the asker's identity. */
static inline struct answer
ask_as(struct world *w, struct sender *from, const char *ident,
       const char *type, const char *content)
{
    struct msg *m = make(w, (struct parts){.from = from,
                                           .ident = {ident},
                                           .type = type,
                                           .content = content});
    const int before = w->replies.total;
    struct answer a;

    hub_on_request(w->hub, m, w->now, w->wall);
    msg_unref(&m);
    hub_check(w->hub);
    assert_int_equal(w->replies.total, before + 1);
    a = open_answer(w->replies.m[w->replies.n - 1]);
    assert_int_equal(a.m->i_delim, 1);
    assert_true(span_is(a.m->frame[0], ident));
    return a;
}

static inline struct answer
ask(struct world *w, const char *type, const char *content)
{
    return ask_as(w, &w->client,
                  "\x01"
                  "cid",
                  type, content);
}

static inline void
assert_same_json(const json_t *got, const char *want)
{
    json_t *tree = json_loads(want, JSON_DECODE_ANY, NULL);

    if (!tree)
        fail_msg("the test itself is no JSON: %s", want);
    if (!got || !json_equal(got, tree)) {
        char *text = got ? json_dumps(got, JSON_ENCODE_ANY) : NULL;

        fail_msg("got  %s\nwant %s", text ? text : "nothing", want);
    }
    json_decref(tree);
}

static inline void
assert_error(const struct answer *a, const char *type, const char *ename,
             const char *evalue)
{
    const json_t *c = a->content;
    const json_t *tb = json_object_get(c, "traceback");

    assert_string_equal(a->type, type);
    assert_same_json(json_object_get(c, "status"), "\"error\"");
    if (strcmp(json_string_value(json_object_get(c, "ename")), ename) != 0
        || strcmp(json_string_value(json_object_get(c, "evalue")), evalue) != 0)
        fail_msg("got  %s: %s\nwant %s: %s",
                 json_string_value(json_object_get(c, "ename")),
                 json_string_value(json_object_get(c, "evalue")), ename,
                 evalue);
    assert_same_json(json_object_get(c, "engine_info"), "{}");
    assert_true(json_is_array(tb) && json_array_size(tb) >= 2);
    for (size_t i = 0; i < json_array_size(tb); i++) {
        const char *line = json_string_value(json_array_get(tb, i));

        assert_non_null(line);
        assert_int_equal(line[strlen(line) - 1], '\n');
    }
    assert_int_equal(json_object_size(c), 5);
}

static inline void
expect(struct world *w, const char *type, const char *content,
       const char *reply_type, const char *reply)
{
    struct answer a = ask(w, type, content);

    assert_string_equal(a.type, reply_type);
    assert_same_json(a.content, reply);
    close_answer(&a);
}

static inline void
expect_error(struct world *w, const char *type, const char *content,
             const char *reply_type, const char *ename, const char *evalue)
{
    struct answer a = ask(w, type, content);

    assert_error(&a, reply_type, ename, evalue);
    close_answer(&a);
}

/* ---- a cluster -------------------------------------------------------- */

/* Registers "E<n>"; returns its id. */
static inline int
add_engine(struct world *w)
{
    const int i = w->n_engines++;
    char uuid[16], content[64];
    struct answer a;
    int id;

    (void)snprintf(uuid, sizeof(uuid), "E%d", i);
    (void)snprintf(content, sizeof(content), "{\"uuid\": \"%s\"}", uuid);
    assert_int_equal(
        sender_init(&w->engine[i], w->peer_session, uuid, "user", NULL), 0);
    a = ask_as(w, &w->engine[i], uuid, "registration_request", content);
    assert_string_equal(a.type, "registration_reply");
    id = (int)json_integer_value(json_object_get(a.content, "id"));
    close_answer(&a);
    hub_on_heart(w->hub, span_str(uuid), w->now, w->wall);
    hub_check(w->hub);
    return id;
}

static inline const char *
uuid_of(const struct world *w, int engine)
{
    return w->engine[engine].session;
}

/* A request of the client; give the message to a reply, then msg_unref it. */
static inline struct msg *
mux_request(struct world *w, int engine, const char *id)
{
    struct msg *m = make(w, (struct parts){.from = &w->client,
                                           .ident = {uuid_of(w, engine), "cid"},
                                           .type = "apply_request",
                                           .id = id,
                                           .buffer = {"f", "args"}});

    hub_on_traffic(w->hub, HUB_IN, m, w->now, w->wall);
    return m;
}

static inline struct msg *
task_request(struct world *w, const char *id, const char *metadata)
{
    struct msg *m = make(w, (struct parts){.from = &w->client,
                                           .ident = {"cid"},
                                           .type = "apply_request",
                                           .id = id,
                                           .metadata = metadata,
                                           .buffer = {"f", "args"}});

    hub_on_traffic(w->hub, HUB_INTASK, m, w->now, w->wall);
    return m;
}

static inline void
reply_to(struct world *w, enum hub_kind kind, int engine, struct msg *request,
         const char *value)
{
    char metadata[320];

    (void)snprintf(metadata, sizeof(metadata),
                   "{\"started\": \"2023-11-14T22:13:19.5Z\", \"engine\": "
                   "\"%s\", \"status\": \"ok\", \"is_coalescing\": false, "
                   "\"original_msg_id\": \"\"}",
                   uuid_of(w, engine));
    traffic(w, kind,
            make(w, (struct parts){.from = &w->engine[engine],
                                   .ident = {"cid", uuid_of(w, engine)},
                                   .type = "apply_reply",
                                   .parent = request,
                                   .metadata = metadata,
                                   .content = "{\"status\": \"ok\"}",
                                   .buffer = {value}}));
}

static inline void
output_of(struct world *w, int engine, struct msg *request, const char *type,
          const char *content)
{
    traffic(w, HUB_IOPUB,
            make(w, (struct parts){.from = &w->engine[engine],
                                   .ident = {"engine.0.stdout"},
                                   .type = type,
                                   .parent = request,
                                   .content = content}));
}

/* Time passes, and what is due happens. */
static inline void
pass(struct world *w, int64_t ms)
{
    w->now += ms;
    w->wall += ms * 1000;
    (void)hub_tick(w->hub, w->now, w->wall);
    hub_check(w->hub);
}

#endif /* TESTS_HUB_WORLD_H */
