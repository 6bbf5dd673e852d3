/* sched.c - events in, effects out
 *
 * Every event changes the state first and ends in event_done, which tells
 * dependents, matches tasks with engines, sends answers and sets the alarm, in
 * this order and each in one place.  Between events no task that could run
 * waits while an engine that could run it has room.
 */
#include "sched/sched.h"

#include <stdio.h>

#include "base/mem.h"
#include "sched/core.h"
#include "wire/scan.h"

/* ---- making one -------------------------------------------------------- */

void
sched_config_init(struct sched_config *config)
{
    *config = (struct sched_config){
        .scheme = "leastload",
        .hwm = 1,
        .seed = 1,
        .window = 1000000,
        .max_deaths = 3,
        .prefetch_max = 32,
        .prefetch_us = 1000,
        .overdue_ms = 10,
    };
}

/* splitmix64 */
uint64_t
sched_random(struct sched *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15U;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    return z ^ z >> 31;
}

int
grow(void **v, size_t *cap, size_t n, size_t size)
{
    size_t more = *cap ? *cap : 16;
    void *p;

    if (n <= *cap)
        return 0;
    while (more < n)
        more *= 2;
    p = mem_resize(*v, more, size);
    if (!p)
        return RH_ENOMEM;
    *v = p;
    *cap = more;
    return 0;
}

static void
init_state(struct sched *s)
{
    list_init(&s->idle_clients);
    list_init(&s->idle_sets);
    list_init(&s->fresh_sets);
    list_init(&s->engine_list);
    list_init(&s->hungry);
    list_init(&s->stuffed);
    list_init(&s->finishing);
    list_init(&s->answering);
    map_init(&s->clients);
    map_init(&s->engines);
    heap_init(&s->excluding);
    place_init(&s->place);
    pool_init(&s->tasks, sizeof(struct task));
    s->armed = s->answer_at = NEVER;
    s->n_serials = 1;
    s->pace_us = -1;
    s->random = s->config.seed;
    s->hash_key[0] = sched_random(s);
    s->hash_key[1] = sched_random(s);
}

/* The name is the caller's; from here on only 'scheme' counts. */
static int
choose_scheme(struct sched *s, rh_error *err)
{
    const char *name = s->config.scheme ? s->config.scheme : "leastload";
    int scheme = s->config.own ? SCHEME_OWN : scheme_find(name);

    if (scheme < 0)
        return rh_fail(err, RH_EINVAL,
                       "unknown task scheme '%.40s'; known are leastload, lru, "
                       "plainrandom, twobin, weighted, pure",
                       name);
    s->scheme = (enum scheme)scheme;
    if (s->scheme == SCHEME_PURE)
        s->config.hwm = 0;
    if (s->config.overdue_ms < 1)
        s->config.overdue_ms = 1;
    return 0;
}

int
sched_new(struct sched **out, const struct sched_config *config,
          const struct sched_port *port, rh_error *err)
{
    struct sched *s = mem_zalloc(1, sizeof(*s));
    int rc;

    if (!s)
        return rh_fail(err, RH_ENOMEM, "making a task scheduler");
    s->config = *config;
    s->port = *port;
    init_state(s);
    rc = choose_scheme(s, err);
    if (rc >= 0
        && (ids_init(&s->live) < 0 || ids_init(&s->sets) < 0
            || done_init(&s->done, config->window) < 0))
        rc = rh_fail(err, RH_ENOMEM, "making a task scheduler");
    if (rc < 0)
        sched_free(&s);
    *out = s;
    return rc;
}

static void
free_list(struct sched *s, struct list *tasks)
{
    while (!list_empty(tasks)) {
        struct list *first = tasks->next;

        list_remove(first);
        task_free(s, LIST_ENTRY(first, struct task, q.line.link));
    }
}

void
sched_free(struct sched **self_p)
{
    struct sched *s = *self_p;
    struct id_node *node;
    size_t at = 0;

    if (!s)
        return;
    while ((node = ids_next(&s->live, &at)))
        graph_forget((struct task *)(void *)node);
    for (at = 0; (node = ids_next(&s->live, &at));)
        task_free(s, (struct task *)(void *)node);
    free_list(s, &s->finishing);
    free_list(s, &s->answering);
    sets_fini(s);
    engines_fini(s);
    clients_fini(s);
    place_fini(&s->place);
    ids_fini(&s->live);
    pool_fini(&s->tasks);
    done_fini(&s->done);
    mem_free(s->serials);
    mem_free(s);
    *self_p = NULL;
}

/* ---- the end of every event -------------------------------------------- */

static void
release_dependents(struct sched *s)
{
    while (!list_empty(&s->finishing)) {
        struct list *first = s->finishing.next;
        struct task *t = LIST_ENTRY(first, struct task, q.line.link);

        list_remove(first);
        list_append(&s->answering, first);
        graph_release(s, t, t->u.last.ok, t->u.last.serial);
    }
}

/* An engine may have room: the first of all tasks that may run there. */
static void
feed(struct sched *s, struct engine *e)
{
    struct task *t;

    while (engine_room(s, e) && (t = queue_best(s, e))) {
        bool choice = t->queued != Q_SET && s->place.n > 1;

        task_dispatch(s, t, choice ? place_pick(s, NULL) : e);
    }
    prefetch_feed(s, e);
}

/* Tasks came into a set: engines that had room before may take them. */
static void
place_set(struct sched *s, const struct set *set)
{
    struct limits limits;
    struct engine *e;
    struct task *t;

    set_limits_of(set, &limits);
    while ((t = set_first(set)) && (e = place_pick(s, &limits)))
        task_dispatch(s, t, e);
    e = set_only_engine(set);
    if (e)
        prefetch_feed(s, e);
}

static void
match(struct sched *s)
{
    while (!list_empty(&s->hungry)) {
        struct list *first = s->hungry.next;

        list_remove(first);
        feed(s, LIST_ENTRY(first, struct engine, hungry));
    }
    while (!list_empty(&s->fresh_sets)) {
        struct list *first = s->fresh_sets.next;

        list_remove(first);
        place_set(s, LIST_ENTRY(first, struct set, fresh));
    }
    while (s->n_common && s->place.n)
        task_dispatch(s, queue_first(s), place_pick(s, NULL));
    prefetch_common(s);
    prefetch_balance(s);
    s->gone_idle = false;
}

static void
set_alarm(struct sched *s)
{
    const struct pheap *const timers[] = {&s->timers, &s->engine_timers,
                                          &s->overdue};
    int64_t at = s->answer_at;

    for (size_t i = 0; i < 3; i++)
        if (pheap_top(timers[i]) && pheap_top(timers[i])->key < at)
            at = pheap_top(timers[i])->key;
    if (at == s->armed)
        return;
    s->armed = at;
    s->port.wake_at(s->port.ctx, at);
}

void
event_done(struct sched *s)
{
    // Matching can end tasks too, if there is no memory to queue them.
    do {
        release_dependents(s);
        match(s);
    } while (!list_empty(&s->finishing));
    task_answer_all(s);
    set_alarm(s);
}

/* ---- ids --------------------------------------------------------------- */

struct name {
    struct span id;
    uint64_t h[2];
};

/* Headers nearly always begin with their id.  Guessing it lets memory be
 * fetched while the header is read as it should be.
 */
static struct name
guess(const struct sched *s, struct span header)
{
    static const char start[] = "{\"msg_id\": \"";
    const size_t skip = sizeof(start) - 1;
    struct name name = {.id = SPAN_NONE};
    const uint8_t *end = NULL;

    if (header.n > skip && memcmp(header.p, start, skip) == 0)
        end = memchr(header.p + skip, '"', header.n - skip);
    if (!end)
        return name;
    name.id = span_of(header.p + skip, (size_t)(end - header.p) - skip);
    id_hash(s->hash_key, name.id, name.h);
    ids_prefetch(&s->live, name.h);
    done_prefetch(&s->done, name.h);
    return name;
}

/* Now it is known. */
static void
name_is(const struct sched *s, struct name *name, struct span id)
{
    if (id.p != name->id.p || id.n != name->id.n)
        id_hash(s->hash_key, id, name->h);
    name->id = id;
}

/* ---- submission -------------------------------------------------------- */

static int
read_request(const struct sched *s, const struct msg *m, struct name *name,
             rh_error *err)
{
    struct header_view header;
    int rc;

    if (m->i_delim == MSG_NO_DELIM || m->i_delim == 0)
        return rh_fail(err, RH_EPROTO,
                       "a task without the ident of its client");
    *name = guess(s, msg_part(m, MSG_HEADER));
    rc = scan_header(msg_part(m, MSG_HEADER), &header, err);
    if (rc < 0)
        return rc == RH_ENOMEM ? rc : RH_EPROTO;
    name_is(s, name, header.msg_id);
    return 0;
}

/* Answer what cannot become a task. */
static int
refuse(struct sched *s, struct msg *m, struct span id, const char *ename,
       const char *text, rh_error *err)
{
    struct sched_answer a = {
        .client = m->frame[0],
        .request = m,
        .msg_id = id,
        .status = SCHED_ERROR,
        .ename = ename,
        .evalue = text,
    };

    if (s->port.answer(s->port.ctx, &a) < 0)
        return rh_fail(err, RH_ENOMEM, "refusing task %.*s (%s)",
                       (int)(id.n < 100 ? id.n : 100), (const char *)id.p,
                       ename);
    s->stats.submitted++;
    s->stats.failed++;
    s->stats.invalid++;
    return 0;
}

/* May this id be used?  0, or a refusal in 'text'. */
static const char *
refusal(const struct sched *s, struct span id, const uint64_t h[2], char *text,
        size_t cap)
{
    int n = (int)(id.n < 100 ? id.n : 100);
    bool live = ids_get(&s->live, h) != NULL;

    if (id.n > ID_MAX) {
        snprintf(text, cap,
                 "message id %.*s... has %zu bytes; no more than %d are taken",
                 n, (const char *)id.p, id.n, (int)ID_MAX);
        return "ValueError";
    }
    if (live || done_get(&s->done, h)) {
        snprintf(text, cap,
                 "message id %.*s was used before, by a task that %s; a task "
                 "needs an id of its own",
                 n, (const char *)id.p,
                 live ? "is not finished" : "has finished");
        return "ValueError";
    }
    if (s->config.max_tasks && s->live.n >= s->config.max_tasks) {
        snprintf(text, cap,
                 "task %.*s: the scheduler holds %zu unfinished tasks and "
                 "takes no more than %zu (max_tasks); submit it again when "
                 "some have finished",
                 n, (const char *)id.p, s->live.n, s->config.max_tasks);
        return "QueueFull";
    }
    return NULL;
}

int
sched_on_submit(struct sched *s, struct msg *m, int64_t now, rh_error *err)
{
    struct wish wish = {0};
    const char *ename;
    struct task *t;
    struct name name;
    int rc = read_request(s, m, &name, err);

    if (rc < 0)
        return rc;
    s->now = now;
    ename = refusal(s, name.id, name.h, wish.text, sizeof(wish.text));
    if (ename)
        return refuse(s, m, name.id, ename, wish.text, err);
    if (task_new(s, m, name.id, name.h, &t, &wish) < 0)
        return refuse(s, m, name.id, "MemoryError",
                      "the scheduler has no memory for another task; submit "
                      "it again when fewer are waiting",
                      err);
    if (wish.ename) {
        s->stats.invalid++;
        task_fail(s, t, wish.ename, "%s", wish.text);
    } else {
        task_route(s, t);
    }
    event_done(s);
    return 0;
}

/* ---- replies ----------------------------------------------------------- */

struct reply {
    struct msg *m;
    struct task *t;
    struct engine *e;
    bool has_status, ok, aborted, unmet;
};

static bool
string_is(struct span raw, const char *s)
{
    size_t n = strlen(s);

    return raw.n == n + 2 && raw.p[0] == '"' && memcmp(raw.p + 1, s, n) == 0;
}

/* An engine begins tasks in the order in which they were sent: those before
 * this one have been begun, although there is no answer.
 */
static void
note_passed(const struct reply *r)
{
    struct list *i = r->t->q.line.link.prev;

    for (; i != &r->e->running; i = i->prev) {
        struct task *t = LIST_ENTRY(i, struct task, q.line.link);

        if (t->passed)
            break; // and so have all before it
        t->passed = 1;
    }
}

static int
read_status(struct reply *r, rh_error *err)
{
    struct scan_field f[] = {{"status", SPAN_NONE},
                             {"dependencies_met", SPAN_NONE}};
    struct scan_field c[] = {{"status", SPAN_NONE}};
    bool met = true;
    int rc = scan_object(msg_part(r->m, MSG_METADATA), f, 2, err);

    if (rc < 0)
        return rc;
    if (!f[0].value.n) { // some engines say it only in the content
        if (scan_object(msg_part(r->m, MSG_CONTENT), c, 1, NULL) >= 0)
            f[0].value = c[0].value;
    }
    if (f[1].value.n)
        scan_bool(f[1].value, &met);
    r->unmet = !met;
    r->has_status = f[0].value.n > 0;
    r->ok = string_is(f[0].value, "ok");
    r->aborted = string_is(f[0].value, "aborted");
    return 0;
}

static struct task *
oldest_of(const struct engine *e)
{
    return LIST_ENTRY(e->running.next, struct task, q.line.link);
}

/* Find out what the reply says, and about which task. */
static int
read_reply(struct sched *s, struct msg *m, struct reply *r, rh_error *err)
{
    struct scan_field f[] = {{"msg_id", SPAN_NONE}};
    struct buf scratch = {0}; // an id with escapes is none of ours
    struct span id = SPAN_NONE;
    struct name name;
    int rc;

    *r = (struct reply){.m = m};
    if (m->i_delim == MSG_NO_DELIM || m->i_delim < 2)
        return rh_fail(err, RH_EPROTO,
                       "a reply without the names of engine and client");
    r->e = engine_find(s, m->frame[0]);
    if (r->e && r->e->load) // most likely it is about its oldest task
        task_prefetch(oldest_of(r->e));
    name = guess(s, msg_part(m, MSG_PARENT));
    rc = scan_object(msg_part(m, MSG_PARENT), f, 1, err);
    if (rc >= 0)
        rc = scan_string(f[0].value, &scratch, &id);
    if (scratch.p)
        rc = RH_EPROTO;
    buf_fini(&scratch);
    if (rc >= 0)
        rc = read_status(r, err);
    if (rc < 0)
        return rh_fail(err, RH_EPROTO,
                       "a reply from engine %.*s without a usable parent or "
                       "metadata",
                       (int)m->frame[0].n, (const char *)m->frame[0].p);
    name_is(s, &name, id);
    r->t = (struct task *)(void *)ids_get(&s->live, name.h);
    if (!r->t)
        return rh_fail(err, RH_ENOENT,
                       "engine %.*s replied to task %.*s, which is unknown or "
                       "finished",
                       (int)m->frame[0].n, (const char *)m->frame[0].p,
                       (int)id.n, (const char *)id.p);
    __builtin_prefetch(r->t->msg); // to be freed
    if (!r->e || r->t->state != TASK_RUNNING || r->t->engine != r->e)
        return rh_fail(err, RH_ESTATE,
                       "engine %.*s replied to task %.*s, which is not there "
                       "but %s",
                       (int)m->frame[0].n, (const char *)m->frame[0].p,
                       (int)id.n, (const char *)id.p,
                       r->t->state == TASK_RUNNING ? "on another engine"
                                                   : "waiting");
    return 0;
}

/* The error of a reply that is not relayed, for those who decide or explain. */
static void
read_error(const struct reply *r, struct buf *scratch, struct span *ename,
           struct span *evalue)
{
    struct scan_field f[] = {{"ename", SPAN_NONE}, {"evalue", SPAN_NONE}};

    *ename = *evalue = SPAN_NONE;
    if (scan_object(msg_part(r->m, MSG_CONTENT), f, 2, NULL) < 0)
        return;
    // One result must not move when the other is decoded.
    if (buf_reserve(scratch, f[0].value.n + f[1].value.n) < 0)
        return;
    if (scan_string(f[1].value, scratch, evalue) < 0)
        *evalue = SPAN_NONE;
    if (scan_string(f[0].value, scratch, ename) < 0)
        *ename = SPAN_NONE;
}

static bool
wants_retry(const struct reply *r, struct span ename)
{
    return !r->unmet && !r->aborted && !r->t->cancelled && r->t->retries > 0
           && meta_retry_on(r->t, ename, false);
}

/* Give the task another try; 'r->e' is out unless it may have it again. */
static void
try_again(struct sched *s, struct reply *r, struct span ename,
          struct span evalue)
{
    struct task *t = r->t;
    bool same = !r->unmet && t->extra && t->extra->same_engine
                && (r->e->peer.capabilities & SCHED_AGAIN);
    uint32_t serial = r->e->serial;

    snprintf(s->tried, sizeof(s->tried), "; engine %d had it last: %.*s: %.*s",
             r->e->peer.id, (int)(ename.n < 60 ? ename.n : 60),
             (const char *)ename.p, (int)(evalue.n < 120 ? evalue.n : 120),
             (const char *)evalue.p);
    if (r->unmet) {
        s->stats.unmet++;
    } else {
        s->stats.retried++;
        t->retries--;
        if (t->extra && t->extra->retry_delay_ms)
            t->extra->retry_at = s->now + t->extra->retry_delay_ms;
    }
    if (!same && task_blacklist(t, serial) < 0) {
        task_fail(s, t, "MemoryError",
                  "the scheduler has no memory to note that engine %d should "
                  "not have the task again",
                  r->e->peer.id);
    } else {
        task_off_engine(s, t);
        task_tried(t);
        task_requeue(s, t);
    }
    s->tried[0] = '\0';
}

static void
finish(struct sched *s, struct reply *r)
{
    struct task *t = r->t;

    if (!r->has_status) {
        task_fail(s, t, "ProtocolError",
                  "engine %d replied to the task without a status, so its "
                  "result cannot be used",
                  r->e->peer.id);
        return;
    }
    task_end(s, t, r->ok, r->m);
}

int
sched_on_reply(struct sched *s, struct msg *m, int64_t now, rh_error *err)
{
    struct span ename = SPAN_NONE, evalue = SPAN_NONE;
    struct buf scratch = {0};
    struct reply r;
    int64_t sent;
    int rc = read_reply(s, m, &r, err);

    if (rc < 0 || !r.t || !r.e) {
        s->stats.dropped_replies++;
        return rc;
    }
    s->now = now;
    sent = r.t->since;
    note_passed(&r);
    if (r.unmet || (!r.ok && r.t->retries))
        read_error(&r, &scratch, &ename, &evalue);
    if (r.unmet && r.t->cancelled)
        task_abort(s, r.t);
    else if (s->scheme != SCHEME_PURE
             && (r.unmet || (!r.ok && wants_retry(&r, ename))))
        try_again(s, &r, ename, evalue);
    else
        finish(s, &r);
    buf_fini(&scratch);
    prefetch_timed(s, r.e, sent);
    event_done(s);
    return 0;
}

/* ---- time and cancellation --------------------------------------------- */

void
sched_on_tick(struct sched *s, int64_t now)
{
    struct pnode *node;

    s->now = now;
    s->armed = NEVER; // what was set has been used up
    while ((node = pheap_top(&s->timers)) && node->key <= now)
        task_due(s, PNODE_ENTRY(node, struct task, u.timer));
    while ((node = pheap_top(&s->engine_timers)) && node->key <= now)
        engine_due(s, PNODE_ENTRY(node, struct engine, timer));
    while ((node = pheap_top(&s->overdue)) && node->key <= now)
        prefetch_due(s, PNODE_ENTRY(node, struct engine, overdue));
    event_done(s);
}

static struct sched_cancelled
cancel(struct sched *s, struct span id)
{
    struct task *t;
    uint64_t h[2];

    id_hash(s->hash_key, id, h);
    t = (struct task *)(void *)ids_get(&s->live, h);
    if (!t)
        return (struct sched_cancelled){
            .was = done_get(&s->done, h) ? SCHED_FINISHED : SCHED_UNKNOWN};
    if (t->state != TASK_RUNNING) {
        task_abort(s, t);
        return (struct sched_cancelled){.was = SCHED_CANCELLED};
    }
    t->cancelled = 1;
    if (t->ahead && !t->engine->asked && t->engine->live && s->port.withdraw)
        (void)prefetch_ask(s, t->engine, s->config.hwm, t);
    return (struct sched_cancelled){SCHED_RUNNING, t->engine->peer.id};
}

size_t
sched_cancel(struct sched *s, const struct span *msg_id, size_t n,
             struct sched_cancelled *out, int64_t now)
{
    size_t done = 0;

    s->now = now;
    for (size_t i = 0; i < n; i++) {
        struct sched_cancelled found = cancel(s, msg_id[i]);

        done += found.was == SCHED_CANCELLED;
        if (out)
            out[i] = found;
    }
    event_done(s);
    return done;
}
