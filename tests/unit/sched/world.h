/* world.h - a scheduler with a recording port and a virtual clock
 *
 * Everything the port is told becomes one line of text in 'log':
 *   dispatch ENGINE TASK      relay TASK ENGINE      answer TASK ENAME [ENGINE]
 *   abort TASK                withdraw ENGINE TASK...
 * with the answer's text kept in 'text'.  Times are milliseconds from 0.
 */
#ifndef TESTS_SCHED_WORLD_H
#define TESTS_SCHED_WORLD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/sched.h"
#include "support.h"

#define LOG_MAX 4096

struct world {
    struct sched *s;
    int64_t now, wake;
    char *log[LOG_MAX];
    size_t n_log, n_read;
    char text[2048]; // of the last answer
    size_t n_tracked;
    int next_id; // of engines
    // The port refuses the next so many calls of each kind.
    int refuse_dispatch, refuse_relay, refuse_answer, refuse_withdraw;
    bool quiet; // count, do not record
    size_t n_dispatch, n_relay, n_answer;
};

/* 'x' with every ' made a ": metadata is easier to read that way. */
static inline char *
quoted(const char *x)
{
    char *p = strdup(x);

    for (char *c = p; *c; c++)
        if (*c == '\'')
            *c = '"';
    return p;
}

/* [ident..., delimiter, "", header, parent, metadata, content] */
static inline struct msg *
make_msg(const char *const *ident, size_t n_ident, const char *header,
         const char *parent, const char *metadata, const char *content)
{
    struct span frame[16];
    struct msg *m;
    rh_error err;
    size_t n = 0;

    for (; n < n_ident; n++)
        frame[n] = span_str(ident[n]);
    frame[n++] = SPAN_LIT(MSG_DELIM);
    frame[n++] = SPAN_LIT("");
    frame[n++] = span_str(header);
    frame[n++] = span_str(parent);
    frame[n++] = span_str(metadata);
    frame[n++] = span_str(content);
    m = msg_new(frame, n);
    assert_non_null(m);
    assert_int_equal(msg_parse(m, &msg_limits_default, &err), 0);
    return m;
}

static inline void
make_header(char *out, size_t cap, const char *id, const char *type)
{
    snprintf(out, cap,
             "{\"msg_id\": \"%s\", \"msg_type\": \"%s\", \"username\": \"u\", "
             "\"session\": \"s\", \"date\": \"2026-11-20T22:56:05.030017Z\", "
             "\"version\": \"5.3\"}",
             id, type);
}

static inline struct msg *
make_request(const char *client, const char *id, const char *metadata)
{
    char header[512];
    char *md = quoted(metadata);
    struct msg *m;

    make_header(header, sizeof(header), id, "apply_request");
    m = make_msg(&client, 1, header, "{}", md, "{}");
    free(md);
    return m;
}

/* status: ok, error, unmet, aborted, none; an error's name may follow a ':' */
static inline struct msg *
make_reply(const char *engine, const char *id, const char *status)
{
    const char *ident[2] = {engine, "somebody"};
    char header[512], parent[512], metadata[256], content[256], rid[128];
    const char *ename = strchr(status, ':');
    int n = ename ? (int)(ename - status) : (int)strlen(status);
    bool unmet = strncmp(status, "unmet", 5) == 0;

    snprintf(rid, sizeof(rid), "reply_%s", id);
    make_header(header, sizeof(header), rid, "apply_reply");
    make_header(parent, sizeof(parent), id, "apply_request");
    if (strcmp(status, "none") == 0) {
        snprintf(metadata, sizeof(metadata), "{}");
        snprintf(content, sizeof(content), "{}");
    } else {
        snprintf(metadata, sizeof(metadata),
                 "{\"dependencies_met\": %s, \"engine\": \"%s\", "
                 "\"status\": \"%.*s\"}",
                 unmet ? "false" : "true", engine, unmet ? 5 : n,
                 unmet ? "error" : status);
        snprintf(content, sizeof(content),
                 "{\"status\": \"%.*s\", \"ename\": \"%s\", "
                 "\"evalue\": \"by \\u0041 hand\"}",
                 n, status, ename ? ename + 1 : "ValueError");
    }
    return make_msg(ident, 2, header, parent, metadata, content);
}

/* ---- the port ---------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static inline void
record(struct world *w, const char *fmt, ...)
{
    char line[1024];
    va_list args;

    if (w->quiet)
        return;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    assert_true(w->n_log < LOG_MAX);
    w->log[w->n_log++] = strdup(line);
}

static inline struct span
request_id(const struct msg *m)
{
    struct span h = msg_part(m, MSG_HEADER);
    const uint8_t *end = memchr(h.p + 12, '"', h.n - 12);

    return span_of(h.p + 12, (size_t)(end - h.p - 12));
}

static inline bool
refuses(int *left)
{
    if (*left <= 0)
        return false;
    --*left;
    return true;
}

static inline int
world_dispatch(void *ctx, const struct sched_peer *e, struct msg *m)
{
    struct world *w = ctx;
    struct span id = request_id(m);

    if (refuses(&w->refuse_dispatch))
        return RH_ENOMEM;
    w->n_dispatch++;
    record(w, "dispatch %.*s %.*s", (int)e->uuid.n, (const char *)e->uuid.p,
           (int)id.n, (const char *)id.p);
    return 0;
}

static inline int
world_relay(void *ctx, struct span client, struct span uuid, struct msg *reply,
            struct msg *request)
{
    struct world *w = ctx;
    struct span id = request_id(request);

    if (refuses(&w->refuse_relay))
        return RH_ENOMEM;
    w->n_relay++;
    assert_true(span_eq(client, request->frame[0]));
    assert_true(span_eq(uuid, reply->frame[0]));
    record(w, "relay %.*s %.*s", (int)id.n, (const char *)id.p, (int)uuid.n,
           (const char *)uuid.p);
    return 0;
}

static inline int
world_answer(void *ctx, const struct sched_answer *a)
{
    struct world *w = ctx;
    const char *id = (const char *)a->msg_id.p;
    int n = (int)a->msg_id.n;

    if (refuses(&w->refuse_answer))
        return RH_ENOMEM;
    w->n_answer++;
    assert_true(span_eq(a->client, a->request->frame[0]));
    assert_true(span_eq(a->msg_id, request_id(a->request)));
    snprintf(w->text, sizeof(w->text), "%s", a->evalue);
    if (a->status == SCHED_ABORTED)
        record(w, "abort %.*s", n, id);
    else if (a->engine)
        record(w, "answer %.*s %s %.*s", n, id, a->ename,
               (int)a->engine->uuid.n, (const char *)a->engine->uuid.p);
    else
        record(w, "answer %.*s %s", n, id, a->ename);
    return 0;
}

static inline void
world_tracked(void *ctx, struct span msg_id, const struct sched_peer *engine)
{
    struct world *w = ctx;

    assert_true(msg_id.n && engine->uuid.n);
    w->n_tracked++;
}

static inline int
world_withdraw(void *ctx, const struct sched_peer *e, const struct span *id,
               size_t n)
{
    struct world *w = ctx;
    char line[1024];
    size_t at;

    if (refuses(&w->refuse_withdraw))
        return RH_ENOMEM;
    at = (size_t)snprintf(line, sizeof(line), "withdraw %.*s", (int)e->uuid.n,
                          (const char *)e->uuid.p);
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(line + at, sizeof(line) - at, " %.*s",
                               (int)id[i].n, (const char *)id[i].p);
    record(w, "%s", line);
    return 0;
}

static inline void
world_wake_at(void *ctx, int64_t ms)
{
    struct world *w = ctx;

    w->wake = ms;
}

static inline struct sched_port
world_port(struct world *w)
{
    return (struct sched_port){
        .ctx = w,
        .dispatch = world_dispatch,
        .relay = world_relay,
        .answer = world_answer,
        .tracked = world_tracked,
        .withdraw = world_withdraw,
        .wake_at = world_wake_at,
    };
}

/* ---- events ------------------------------------------------------------ */

static inline struct world *
world_new(const struct sched_config *config)
{
    struct world *w = calloc(1, sizeof(*w));
    struct sched_port port;
    rh_error err;

    assert_non_null(w);
    w->wake = INT64_MAX;
    port = world_port(w);
    assert_int_equal(sched_new(&w->s, config, &port, &err), 0);
    return w;
}

static inline void
world_free(struct world *w)
{
    sched_free(&w->s);
    for (size_t i = 0; i < w->n_log; i++)
        free(w->log[i]);
    free(w);
}

static inline int
world_engine(struct world *w, const char *name, uint32_t capabilities)
{
    return sched_on_engine(w->s, span_str(name), w->next_id++, capabilities,
                           w->now, NULL);
}

static inline int
world_lost(struct world *w, const char *name, const char *reason, int64_t grace)
{
    return sched_on_engine_lost(w->s, span_str(name), span_str(reason), w->now,
                                grace);
}

static inline int
world_submit(struct world *w, const char *client, const char *id,
             const char *metadata)
{
    struct msg *m = make_request(client, id, metadata);
    int rc = sched_on_submit(w->s, m, w->now, NULL);

    msg_unref(&m);
    return rc;
}

static inline int
world_reply(struct world *w, const char *engine, const char *id,
            const char *status)
{
    struct msg *m = make_reply(engine, id, status);
    int rc = sched_on_reply(w->s, m, w->now, NULL);

    msg_unref(&m);
    return rc;
}

/* Let time pass, waking the scheduler when it asked for it. */
static inline void
world_pass(struct world *w, int64_t until)
{
    while (w->wake <= until) {
        if (w->wake > w->now)
            w->now = w->wake;
        w->wake = INT64_MAX;
        sched_on_tick(w->s, w->now);
    }
    w->now = until;
}

#endif /* TESTS_SCHED_WORLD_H */
