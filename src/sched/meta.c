/* meta.c - what a request's metadata asks of the scheduler
 *
 * All keys are optional and null counts as absent.  Unlike upstream, which
 * would log and leave the client waiting, a value of the wrong type is
 * answered, with TypeError or ValueError and the name of the key.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sched/core.h"
#include "wire/scan.h"

#define MAX_SECONDS 1e12

int
wish_fail(struct wish *wish, const char *ename, const char *fmt, ...)
{
    va_list args;

    wish->ename = ename;
    va_start(args, fmt);
    vsnprintf(wish->text, sizeof(wish->text), fmt, args);
    va_end(args);
    return 0;
}

/* ORDER meta-keys: as read_all fills them in. */
enum key {
    K_AFTER,
    K_FOLLOW,
    K_TIMEOUT,
    K_TARGETS,
    K_RETRIES,
    K_PRIORITY,
    K_SAME_ENGINE,
    K_DELAY,
    K_RETRY_ON,
    K_MAX_DEATHS,
    N_KEYS
};

static int
read_dep(struct span raw, const char *key, struct dep_spec *out,
         struct wish *wish)
{
    struct scan_field f[] = {
        {"dependencies", SPAN_NONE},
        {"all", SPAN_NONE},
        {"success", SPAN_NONE},
        {"failure", SPAN_NONE},
    };
    bool *flag[] = {&out->all, &out->success, &out->failure};

    *out = (struct dep_spec){.all = true, .success = true};
    if (scan_is_null(raw))
        return 0;
    out->ids = raw;
    if (raw.p[0] == '[' || raw.p[0] == '"')
        return 0;
    out->ids = SPAN_NONE;
    if (scan_object(raw, f, 4, NULL) < 0)
        return wish_fail(wish, "TypeError",
                         "%s must be a list of message ids or a Dependency",
                         key);
    for (int i = 0; i < 3; i++)
        if (f[i + 1].value.n && scan_bool(f[i + 1].value, flag[i]) < 0)
            return wish_fail(wish, "TypeError", "%s: %s must be true or false",
                             key, f[i + 1].key);
    if (!out->success && !out->failure)
        return wish_fail(wish, "ValueError",
                         "%s: success and failure are both false, so no result "
                         "could ever meet it",
                         key);
    if (!scan_is_null(f[0].value))
        out->ids = f[0].value;
    return 0;
}

static int
read_seconds(struct span raw, const char *key, int64_t *ms, struct wish *wish)
{
    double seconds;

    *ms = 0;
    if (scan_is_null(raw))
        return 0;
    if (scan_double(raw, &seconds) < 0)
        return wish_fail(wish, "TypeError", "%s must be a number of seconds",
                         key);
    if (!(seconds >= 0))
        return wish_fail(wish, "ValueError",
                         "%s must not be negative, but is %g", key, seconds);
    if (seconds > MAX_SECONDS)
        seconds = MAX_SECONDS;
    *ms = (int64_t)ceil(seconds * 1000);
    return 0;
}

static int
read_int(struct span raw, const char *key, int64_t lo, int64_t hi, int64_t *out,
         struct wish *wish)
{
    *out = 0;
    if (scan_is_null(raw))
        return 0;
    if (scan_int(raw, out) < 0)
        return wish_fail(wish, "TypeError", "%s must be an integer", key);
    *out = *out < lo ? lo : *out > hi ? hi : *out;
    return 0;
}

static struct extra *
extra_of(struct task *t)
{
    if (t->extra)
        return t->extra;
    t->extra = mem_zalloc(1, sizeof(*t->extra));
    if (t->extra)
        t->extra->max_deaths = -1;
    return t->extra;
}

void
serials_add(uint32_t *v, uint32_t *n, uint32_t serial)
{
    uint32_t i = *n;

    if (serials_have(v, *n, serial))
        return;
    for (; i > 0 && v[i - 1] > serial; i--)
        v[i] = v[i - 1];
    v[i] = serial;
    ++*n;
}

int
task_blacklist(struct task *t, uint32_t serial)
{
    struct extra *x = extra_of(t);

    if (!x)
        return RH_ENOMEM;
    if (x->n_black == x->cap_black) {
        uint32_t cap = x->cap_black ? 2 * x->cap_black : 4;
        uint32_t *v = mem_resize(x->black, cap, sizeof(*v));

        if (!v)
            return RH_ENOMEM;
        x->black = v;
        x->cap_black = cap;
    }
    serials_add(x->black, &x->n_black, serial);
    return 0;
}

void
task_blame(struct task *t, uint32_t serial)
{
    struct extra *x = extra_of(t);

    if (t->deaths < UINT8_MAX)
        t->deaths++;
    // Without memory the error names fewer of them, that is all.
    if (x && x->n_killed < KILLED_MAX)
        x->killed[x->n_killed++] = serial;
}

static int
by_serial(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void
sort_serials(uint32_t *v, uint32_t *n)
{
    uint32_t kept = 0;

    qsort(v, *n, sizeof(*v), by_serial);
    for (uint32_t i = 0; i < *n; i++)
        if (!kept || v[kept - 1] != v[i])
            v[kept++] = v[i];
    *n = kept;
}

/* Names of engines that were never registered, or are gone, are left out: an
 * engine never comes back under its name.
 */
static int
read_targets(struct sched *s, struct task *t, struct span raw,
             struct wish *wish)
{
    struct buf scratch = {0};
    struct span item, name;
    size_t at = 0, n = 0;
    int rc = 0;

    while (rc >= 0 && (rc = scan_next(raw, &at, &item)) > 0)
        n++;
    if (rc >= 0 && n) {
        struct extra *x = extra_of(t);

        if (x)
            x->target = mem_zalloc(n, sizeof(*x->target));
        rc = x && x->target ? 0 : RH_ENOMEM;
    }
    at = 0;
    while (rc >= 0 && n && (rc = scan_next(raw, &at, &item)) > 0) {
        const struct engine *e;

        buf_clear(&scratch);
        rc = scan_string(item, &scratch, &name);
        e = rc < 0 ? NULL : engine_find(s, name);
        if (scratch.failed)
            rc = RH_ENOMEM;
        else if (e)
            t->extra->target[t->extra->n_target++] = e->serial;
    }
    buf_fini(&scratch);
    if (rc >= 0 && n)
        sort_serials(t->extra->target, &t->extra->n_target);
    if (rc < 0 && rc != RH_ENOMEM)
        rc = wish_fail(wish, "TypeError",
                       "targets must be a list of engine uuids");
    return rc < 0 ? rc : 0;
}

static int
read_retry_on(struct task *t, struct span raw, struct wish *wish)
{
    struct extra *x;
    struct span item;
    size_t at = 0;
    int rc = 0;
    bool strings = true;

    if (raw.p[0] != '"')
        while ((rc = scan_next(raw, &at, &item)) > 0)
            strings = strings && item.p[0] == '"';
    if (rc < 0 || !strings)
        return wish_fail(wish, "TypeError",
                         "retry_on must be a list of exception names");
    x = extra_of(t);
    if (!x)
        return RH_ENOMEM;
    x->retry_on = raw;
    return 0;
}

static bool
names(struct span raw, struct span ename, bool loss)
{
    struct buf scratch = {0};
    struct span name;
    bool hit =
        scan_string(raw, &scratch, &name) >= 0 && !scratch.failed
        && (span_eq(name, ename) || (loss && span_is(name, "engine-loss")));

    buf_fini(&scratch);
    return hit;
}

bool
meta_retry_on(const struct task *t, struct span ename, bool loss)
{
    struct span raw = t->extra ? t->extra->retry_on : SPAN_NONE, item;
    size_t at = 0;

    if (!raw.n)
        return true;
    if (raw.p[0] == '"')
        return names(raw, ename, loss);
    while (scan_next(raw, &at, &item) > 0)
        if (names(item, ename, loss))
            return true;
    return false;
}

static int
read_retries(struct task *t, const struct scan_field *f, struct wish *wish)
{
    int64_t retries, delay;
    bool same = false;
    int rc = read_int(f[K_RETRIES].value, f[K_RETRIES].key, 0, INT32_MAX,
                      &retries, wish);

    t->retries = (int32_t)retries;
    if (rc >= 0)
        rc = read_seconds(f[K_DELAY].value, f[K_DELAY].key, &delay, wish);
    if (rc < 0 || wish->ename)
        return rc;
    if (!scan_is_null(f[K_SAME_ENGINE].value)
        && scan_bool(f[K_SAME_ENGINE].value, &same) < 0)
        return wish_fail(wish, "TypeError", "%s must be true or false",
                         f[K_SAME_ENGINE].key);
    if (!scan_is_null(f[K_RETRY_ON].value))
        rc = read_retry_on(t, f[K_RETRY_ON].value, wish);
    if (rc >= 0 && (same || delay)) {
        struct extra *x = extra_of(t);

        if (!x)
            return RH_ENOMEM;
        x->same_engine = same;
        x->retry_delay_ms = delay;
    }
    return rc;
}

static int
read_max_deaths(struct task *t, const struct scan_field *f, struct wish *wish)
{
    struct extra *x;
    int64_t n;
    int rc = 0;

    if (scan_is_null(f[K_MAX_DEATHS].value))
        return 0;
    rc = read_int(f[K_MAX_DEATHS].value, f[K_MAX_DEATHS].key, 0, INT32_MAX, &n,
                  wish);
    if (rc < 0 || wish->ename)
        return rc;
    x = extra_of(t);
    if (!x)
        return RH_ENOMEM;
    x->max_deaths = (int32_t)n;
    return 0;
}

static int
read_all(struct sched *s, struct task *t, const struct scan_field *f,
         int *priority, struct wish *wish)
{
    struct dep_spec after = {.all = true}, follow = {.all = true};
    int64_t n = 0;
    int rc = read_int(f[K_PRIORITY].value, f[K_PRIORITY].key,
                      -SCHED_PRIORITY_MAX, SCHED_PRIORITY_MAX, &n, wish);

    *priority = (int)n;
    if (rc >= 0 && !wish->ename)
        rc = read_seconds(f[K_TIMEOUT].value, f[K_TIMEOUT].key, &t->timeout_ms,
                          wish);
    if (rc >= 0 && !wish->ename)
        rc = read_retries(t, f, wish);
    if (rc >= 0 && !wish->ename)
        rc = read_max_deaths(t, f, wish);
    if (rc >= 0 && !wish->ename && !scan_is_null(f[K_TARGETS].value))
        rc = read_targets(s, t, f[K_TARGETS].value, wish);
    if (rc >= 0 && !wish->ename)
        rc = read_dep(f[K_AFTER].value, f[K_AFTER].key, &after, wish);
    if (rc >= 0 && !wish->ename)
        rc = read_dep(f[K_FOLLOW].value, f[K_FOLLOW].key, &follow, wish);
    if (rc >= 0 && !wish->ename && (after.ids.n || follow.ids.n))
        rc = graph_build(s, t, &after, &follow, wish);
    return rc;
}

/* Most tasks ask for nothing, in the same words as the one before. */
static void
note_plain(struct sched *s, const struct task *t, struct span metadata,
           int priority)
{
    if (metadata.n > sizeof(s->plain) || priority || t->timeout_ms || t->retries
        || t->extra || t->deps)
        return;
    memcpy(s->plain, metadata.p, metadata.n);
    s->n_plain = metadata.n;
}

static int
scan_metadata(struct sched *s, struct task *t, struct span metadata,
              int *priority, struct wish *wish)
{
    struct scan_field f[N_KEYS] = {
        [K_AFTER] = {"after", SPAN_NONE},
        [K_FOLLOW] = {"follow", SPAN_NONE},
        [K_TIMEOUT] = {"timeout", SPAN_NONE},
        [K_TARGETS] = {"targets", SPAN_NONE},
        [K_RETRIES] = {"retries", SPAN_NONE},
        [K_PRIORITY] = {"priority", SPAN_NONE},
        [K_SAME_ENGINE] = {"retry_same_engine", SPAN_NONE},
        [K_DELAY] = {"retry_delay", SPAN_NONE},
        [K_RETRY_ON] = {"retry_on", SPAN_NONE},
        [K_MAX_DEATHS] = {"max_deaths", SPAN_NONE},
    };

    if (scan_object(metadata, f, N_KEYS, NULL) < 0)
        return wish_fail(wish, "TypeError",
                         "the metadata is not one JSON object");
    return read_all(s, t, f, priority, wish);
}

int
meta_read(struct sched *s, struct task *t, int *priority, struct wish *wish)
{
    struct span metadata = msg_part(t->msg, MSG_METADATA);
    int rc;

    *priority = 0;
    if (s->scheme == SCHEME_PURE
        || span_eq(metadata, span_of(s->plain, s->n_plain)))
        return 0;
    rc = scan_metadata(s, t, metadata, priority, wish);
    if (rc >= 0 && !wish->ename)
        note_plain(s, t, metadata, *priority);
    return rc;
}

void
meta_deps(const struct task *t, struct dep_spec *after, struct dep_spec *follow)
{
    struct scan_field f[] = {{"after", SPAN_NONE}, {"follow", SPAN_NONE}};
    struct wish wish = {0};

    *after = *follow = (struct dep_spec){.all = true};
    if (scan_object(msg_part(t->msg, MSG_METADATA), f, 2, NULL) < 0)
        return;
    read_dep(f[0].value, f[0].key, after, &wish);
    read_dep(f[1].value, f[1].key, follow, &wish);
}
