/* script.h - rules of the scheduler as small plays
 *
 * One event a line, followed by everything that must then come out, in order:
 *
 *   config hwm=2 scheme=lru ...   first line only, optional
 *   engine NAME [CAPABILITIES]    lost NAME [GRACE [REASON]]
 *   submit TASK [METADATA]        by client c; "submit@d TASK" by client d
 *   reply ENGINE TASK STATUS      pass MS (lets so much time pass)
 *   cancel TASK...                back ENGINE TASK... (sched_on_withdrawn)
 *   begun ENGINE TASK...          (what a dead engine had begun)
 *   refuse dispatch|relay|answer|withdraw N
 *   stat NAME VALUE
 *   > LINE of the log             ~ part of the last answer's text
 *
 * An event that ends in " !" must be refused.  Metadata has ' for ".
 */
#ifndef TESTS_SCHED_SCRIPT_H
#define TESTS_SCHED_SCRIPT_H

#include <inttypes.h>

#include "world.h"

struct play {
    const char *name, *script;
};

static inline const char *
word(char **at)
{
    char *start = *at + strspn(*at, " ");

    *at = start + strcspn(start, " ");
    if (**at)
        *(*at)++ = '\0';
    return start;
}

static inline size_t
words(char *at, struct span *out, size_t cap)
{
    size_t n = 0;

    while (*(at += strspn(at, " ")) && n < cap)
        out[n++] = span_str(word(&at));
    return n;
}

static inline void
set_config(struct sched_config *c, char *at)
{
    while (*(at += strspn(at, " "))) {
        const char *key = word(&at);
        const char *eq = strchr(key, '=');
        size_t n = (size_t)(eq - key);
        long long v = atoll(eq + 1);

        if (n == 6 && !memcmp(key, "scheme", n))
            c->scheme = eq + 1; // sched_new needs it no longer
        else if (n == 3 && !memcmp(key, "hwm", n))
            c->hwm = (uint32_t)v;
        else if (n == 6 && !memcmp(key, "window", n))
            c->window = (size_t)v;
        else if (n == 9 && !memcmp(key, "max_tasks", n))
            c->max_tasks = (size_t)v;
        else if (n == 10 && !memcmp(key, "max_deaths", n))
            c->max_deaths = (uint32_t)v;
        else if (n == 7 && !memcmp(key, "nowhere", n))
            c->nowhere_ms = v;
        else if (n == 8 && !memcmp(key, "prefetch", n))
            c->prefetch_max = (uint32_t)v;
        else
            fail_msg("unknown option %s", key);
    }
}

static inline uint64_t
stat_of(const struct sched *s, const char *name)
{
    struct sched_stats st;

    sched_get_stats(s, &st);
#define ROW(x)                   \
    if (strcmp(name, #x) == 0) { \
        return st.x;             \
    }
    ROW(n_engines)
    ROW(n_idle)
    ROW(n_unassigned)
    ROW(n_delayed)
    ROW(n_waiting_deps)
    ROW(n_waiting_room)
    ROW(n_running)
    ROW(n_answering)
    ROW(n_remembered)
    ROW(n_clients)
    ROW(submitted)
    ROW(dispatched)
    ROW(completed)
    ROW(failed)
    ROW(aborted)
    ROW(retried)
    ROW(unmet)
    ROW(deaths)
    ROW(timeouts)
    ROW(impossible)
    ROW(invalid)
    ROW(dropped_replies)
    ROW(prefetched)
    ROW(withdrawn)
    ROW(given_back)
#undef ROW
    fail_msg("unknown counter %s", name);
    return 0;
}

static inline void
refuse_next(struct world *w, char *at)
{
    const char *what = word(&at);
    int n = atoi(at);

    if (strcmp(what, "dispatch") == 0)
        w->refuse_dispatch = n;
    else if (strcmp(what, "relay") == 0)
        w->refuse_relay = n;
    else if (strcmp(what, "answer") == 0)
        w->refuse_answer = n;
    else
        w->refuse_withdraw = n;
}

static inline int
lost_event(struct world *w, char *at)
{
    const char *name = word(&at), *grace = word(&at);

    return world_lost(w, name, at, atoll(grace));
}

static inline int
reply_event(struct world *w, char *at)
{
    const char *name = word(&at), *id = word(&at), *status = word(&at);

    return world_reply(w, name, id, status);
}

static inline void
begun_event(struct world *w, char *at)
{
    struct begun *begun = begun_new();
    const char *name = word(&at);
    struct span id[32];
    size_t n = words(at, id, 32);

    assert_non_null(begun);
    for (size_t i = 0; i < n; i++)
        begun_note(begun, id[i]);
    sched_on_engine_begun(w->s, span_str(name), begun);
    begun_free(&begun);
}

static inline int
id_event(struct world *w, const char *verb, char *at)
{
    const char *name = verb[0] == 'b' ? word(&at) : NULL;
    struct span id[32];
    size_t n = words(at, id, 32);

    if (name)
        return sched_on_withdrawn(w->s, span_str(name), id, n, w->now, NULL);
    return sched_cancel(w->s, id, n, NULL, w->now) ? 0 : RH_ENOENT;
}

/* Returns the event's code, 0 for those that cannot fail. */
static inline int
play_event(struct world *w, char *at)
{
    const char *verb = word(&at), *name;

    if (strcmp(verb, "engine") == 0) {
        name = word(&at);
        return world_engine(w, name, (uint32_t)atoi(at));
    }
    if (strcmp(verb, "lost") == 0)
        return lost_event(w, at);
    if (strncmp(verb, "submit", 6) == 0) {
        name = word(&at);
        return world_submit(w, verb[6] ? verb + 7 : "c", name, *at ? at : "{}");
    }
    if (strcmp(verb, "reply") == 0)
        return reply_event(w, at);
    if (strcmp(verb, "cancel") == 0 || strcmp(verb, "back") == 0)
        return id_event(w, verb, at);
    if (strcmp(verb, "pass") == 0) {
        world_pass(w, w->now + atoll(at));
    } else if (strcmp(verb, "begun") == 0) {
        begun_event(w, at);
    } else if (strcmp(verb, "refuse") == 0) {
        refuse_next(w, at);
    } else if (strcmp(verb, "stat") == 0) {
        name = word(&at);
        assert_int_equal(stat_of(w->s, name), strtoull(at, NULL, 10));
    } else {
        fail_msg("unknown event %s", verb);
    }
    return 0;
}

/* One line of a play, after which nothing unexpected may have come out. */
static inline void
play_line(struct world *w, const char *play, char *line)
{
    size_t n = strlen(line);
    bool refused = n > 2 && strcmp(line + n - 2, " !") == 0;
    int rc;

    if (line[0] == '>') {
        if (w->n_read == w->n_log)
            fail_msg("%s: '%s' did not come out", play, line);
        if (strcmp(w->log[w->n_read++], line + 2) != 0)
            fail_msg("%s: wanted '%s', got '%s'", play, line + 2,
                     w->log[w->n_read - 1]);
        return;
    }
    if (line[0] == '~') {
        if (!strstr(w->text, line + 2))
            fail_msg("%s: no '%s' in '%s'", play, line + 2, w->text);
        return;
    }
    if (w->n_read < w->n_log)
        fail_msg("%s: before '%s': unexpected '%s'", play, line,
                 w->log[w->n_read]);
    if (refused)
        line[n - 2] = '\0';
    rc = play_event(w, line);
    if ((rc < 0) != refused)
        fail_msg("%s: '%s' returned %d", play, line, rc);
    sched_check(w->s);
}

static inline void
run_play(const struct play *play)
{
    struct sched_config config;
    char *script = strdup(play->script), *at = script, *line;
    struct world *w;

    sched_config_init(&config);
    config.window = 10000;
    config.overdue_ms = 5;
    if (strncmp(at, "config ", 7) == 0) {
        line = strsep(&at, "\n");
        set_config(&config, line + 7);
    }
    w = world_new(&config);
    while ((line = strsep(&at, "\n")))
        if (*line)
            play_line(w, play->name, line);
    if (w->n_read < w->n_log)
        fail_msg("%s: at the end: unexpected '%s'", play->name,
                 w->log[w->n_read]);
    world_free(w);
    free(script);
}

#endif /* TESTS_SCHED_SCRIPT_H */
