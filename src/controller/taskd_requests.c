/* taskd_requests.c - what clients ask about tasks, and their cancellation
 *
 * The hub admits these requests and passes them on, and its socket takes the
 * answers; who answers them is the thread that has the scheduler.  Every note
 * that comes in as an ASK goes back as exactly one ANSWER.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "controller/fault_reply.h"
#include "controller/note.h"
#include "controller/taskd.h"
#include "wire/scan.h"

#define EXPLAIN_MAX 1000 // tasks in one request: an explanation may be long

/* ---- ids --------------------------------------------------------------- */

static int
by_bytes(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);

    return order ? order : (x->n > y->n) - (x->n < y->n);
}

/* The strings in a list, or the string; each once and without its quotes.  One
 * with escapes keeps them: no task has such an id.  *out goes to mem_free.
 */
static int
read_ids(struct span raw, struct span **out, size_t *n, rh_error *err)
{
    size_t pos = 0, kept = 0;
    struct span item = raw, *id;
    bool list = raw.n && raw.p[0] == '[';

    *n = 0;
    // Each takes at least its quotes and a comma.
    id = mem_zalloc(raw.n / 3 + 1, sizeof(*id));
    if (!id)
        return rh_fail(err, RH_ENOMEM, "no memory for the list of tasks");
    while (list ? scan_next(raw, &pos, &item) == 1 : pos++ == 0)
        if (item.n >= 2 && item.p[0] == '"')
            id[(*n)++] = span_of(item.p + 1, item.n - 2);
    qsort(id, *n, sizeof(*id), by_bytes);
    for (size_t i = 0; i < *n; i++)
        if (!kept || !span_eq(id[kept - 1], id[i]))
            id[kept++] = id[i];
    *n = kept;
    *out = id;
    return 0;
}

static void
add_quoted(struct buf *out, const char *comma, struct span id)
{
    buf_add_str(out, comma);
    buf_add_char(out, '"');
    buf_add_span(out, id);
    buf_add_char(out, '"');
}

static int
find_ids(struct msg *m, struct span **out, size_t *n, rh_error *err)
{
    struct scan_field ids = {.key = "msg_ids"};
    int rc = scan_object(msg_part(m, MSG_CONTENT), &ids, 1, err);

    return rc < 0 ? rc : read_ids(ids.value, out, n, err);
}

/* ---- the two requests -------------------------------------------------- */

static int
explain(struct taskd *self, const struct span *id, size_t n, struct buf *out,
        rh_error *err)
{
    if (n > EXPLAIN_MAX)
        return rh_fail(err, RH_ELIMIT,
                       "%zu tasks are too many for one question: ask about %d "
                       "at a time",
                       n, EXPLAIN_MAX);
    buf_add_str(out, "{\"status\": \"ok\", \"tasks\": {");
    for (size_t i = 0; i < n; i++) {
        add_quoted(out, i ? ", " : "", id[i]);
        buf_add_str(out, ": ");
        (void)sched_explain(self->sched, id[i], self->now, out);
    }
    buf_add_str(out, "}}");
    return 0;
}

/* ", "key": [ids of those that are in this state]" */
static void
add_found(struct buf *out, const char *key, const struct span *id,
          const struct sched_cancelled *found, size_t n, int was)
{
    const char *comma = "";

    buf_add_fmt(out, ", \"%s\": [", key);
    for (size_t i = 0; i < n; i++)
        if ((int)found[i].was == was) {
            add_quoted(out, comma, id[i]);
            comma = ", ";
        }
    buf_add_char(out, ']');
}

static int
cancel(struct taskd *self, const struct span *id, size_t n, struct buf *out,
       rh_error *err)
{
    struct sched_cancelled *found = mem_zalloc(n + 1, sizeof(*found));
    const char *comma = "";

    if (!found)
        return rh_fail(err, RH_ENOMEM, "no memory to cancel %zu tasks", n);
    (void)sched_cancel(self->sched, id, n, found, self->now);
    buf_add_str(out, "{\"status\": \"ok\"");
    add_found(out, "cancelled", id, found, n, SCHED_CANCELLED);
    add_found(out, "finished", id, found, n, SCHED_FINISHED);
    add_found(out, "unknown", id, found, n, SCHED_UNKNOWN);
    buf_add_str(out, ", \"running\": {");
    for (size_t i = 0; i < n; i++)
        if (found[i].was == SCHED_RUNNING) {
            add_quoted(out, comma, id[i]);
            buf_add_fmt(out, ": %d", found[i].engine);
            comma = ", ";
        }
    buf_add_str(out, "}}");
    mem_free(found);
    return 0;
}

static const struct {
    const char *request, *reply;
    int (*fn)(struct taskd *self, const struct span *id, size_t n,
              struct buf *out, rh_error *err);
} routes[] = {
    {"task_explain_request", "task_explain_reply", explain},
    {"task_cancel_request", "task_cancel_reply", cancel},
};

/* ---- from and to the hub ----------------------------------------------- */

static int
send_answer(struct taskd *self, const struct msg *asked, const char *type,
            const struct buf *content)
{
    struct msg *m = NULL;
    int rc = RH_ENOMEM;

    if (!content->failed)
        rc = compose(&self->sender,
                     &(struct draft){
                         .ident = asked->frame,
                         .n_ident = asked->i_delim,
                         .msg_type = type,
                         .parent = msg_part(asked, MSG_HEADER),
                         .content = buf_span(content),
                         .wall_us = self->wall_us,
                     },
                     &m, NULL);
    if (rc == 0)
        rc = note_push_msg(self->feed.backlog->hub, NOTE_ANSWER, m);
    msg_unref(&m);
    return rc;
}

void
taskd_on_ask(struct taskd *self, struct msg *m)
{
    struct header_view header;
    struct buf content = {0};
    struct span *id = NULL;
    rh_error err = {0};
    size_t n = 0, i = 0;
    int rc = scan_header(msg_part(m, MSG_HEADER), &header, &err);

    if (rc == 0 && !span_is(header.msg_type, routes[0].request))
        i = 1; // the hub passes on no others
    if (rc == 0)
        rc = find_ids(m, &id, &n, &err);
    if (rc == 0)
        rc = routes[i].fn(self, id, n, &content, &err);
    mem_free(id);
    if (rc < 0)
        fault_content(&content, rh_code_exception(rc), span_str(err.text));
    if (send_answer(self, m, routes[i].reply, &content) == 0) {
        buf_fini(&content);
        return;
    }
    // What the answer held may be what was missing.
    buf_fini(&content);
    fault_content(&content, "MemoryError",
                  SPAN_LIT("the scheduler is out of memory for this reply"));
    if (send_answer(self, m, routes[i].reply, &content) < 0)
        log_error("out of memory: a %s is not answered", routes[i].request);
    buf_fini(&content);
}

/* A copy of a client's abort_request to engines.  Tasks that it names and that
 * wait here are answered here; for all others it is the engine that answers.
 */
void
taskd_on_abort(struct taskd *self, struct msg *m)
{
    struct span *id = NULL;
    rh_error err = {0};
    size_t n = 0;
    int rc = session_verify(self->session, m, &err);

    if (rc == 0)
        rc = find_ids(m, &id, &n, &err);
    if (rc == 0 && n)
        (void)sched_cancel(self->sched, id, n, NULL, self->now);
    mem_free(id);
}
