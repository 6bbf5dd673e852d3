/* options.c - read settings from the environment, arguments and files
 *
 * Everything arrives as text and passes through set(), which checks it against
 * the row; so the same value gives the same error wherever it was written.
 */
#include "controller/options.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/uuid.h"

#define PORTS_MAX 65536
#define NAME_MAX_LEN 96 // longest option name that can match anything

// ---------------------------------------------------------------------------
// Values: text to member, one function per kind

static void *
member(struct settings *self, const struct option_row *row)
{
    return (char *)self + row->at;
}

static const void *
member_const(const struct settings *self, const struct option_row *row)
{
    return (const char *)self + row->at;
}

static int
set_text(void *at, const struct option_row *row, const char *text,
         rh_error *err)
{
    char **p = at, *copy;
    char fresh[UUID_SIZE];

    (void)row;
    if (strcmp(text, "@random") == 0) {
        if (uuid_new(fresh) < 0)
            return rh_fail(err, RH_EIO, "no random bytes for a new key");
        text = fresh;
    }
    copy = mem_strdup(text);
    if (!copy)
        return rh_fail(err, RH_ENOMEM, "out of memory");
    mem_free(*p);
    *p = copy;
    return 0;
}

static int
read_int(const char *text, int64_t *out)
{
    char *end;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return RH_EINVAL;
    *out = value;
    return 0;
}

static int
check_range(const struct option_row *row, int64_t value, rh_error *err)
{
    if (value >= row->min && value <= row->max)
        return 0;
    if (row->max == INT64_MAX || row->max == INT_MAX)
        return rh_fail(err, RH_EINVAL, "must be at least %lld, not %lld",
                       (long long)row->min, (long long)value);
    return rh_fail(err, RH_EINVAL, "must be between %lld and %lld, not %lld",
                   (long long)row->min, (long long)row->max, (long long)value);
}

static int
set_int(void *at, const struct option_row *row, const char *text, rh_error *err)
{
    int64_t value;

    if (read_int(text, &value) < 0)
        return rh_fail(err, RH_EINVAL, "'%.64s' is not an integer", text);
    if (check_range(row, value, err) < 0)
        return RH_EINVAL;
    *(int64_t *)at = value;
    return 0;
}

static int
set_real(void *at, const struct option_row *row, const char *text,
         rh_error *err)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end)
        return rh_fail(err, RH_EINVAL, "'%.64s' is not a number", text);
    if (!(value >= (double)row->min && value <= (double)row->max))
        return rh_fail(err, RH_EINVAL, "must be between %lld and %lld, not %g",
                       (long long)row->min, (long long)row->max, value);
    *(double *)at = value;
    return 0;
}

static int
read_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off", ""};

    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
        if (strcasecmp(text, yes[i]) == 0) {
            *out = true;
            return 0;
        }
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        if (strcasecmp(text, no[i]) == 0) {
            *out = false;
            return 0;
        }
    return RH_EINVAL;
}

static int
set_bool(void *at, const struct option_row *row, const char *text,
         rh_error *err)
{
    (void)row;
    if (read_bool(text, at) < 0)
        return rh_fail(err, RH_EINVAL, "'%.64s' is neither True nor False",
                       text);
    return 0;
}

static int
set_level(void *at, const struct option_row *row, const char *text,
          rh_error *err)
{
    static const struct {
        const char *name;
        int level;
    } names[] = {{"DEBUG", 10}, {"INFO", 20},     {"WARN", 30}, {"WARNING", 30},
                 {"ERROR", 40}, {"CRITICAL", 50}, {"FATAL", 50}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcasecmp(text, names[i].name) == 0) {
            *(int64_t *)at = names[i].level;
            return 0;
        }
    if (set_int(at, row, text, NULL) < 0)
        return rh_fail(err, RH_EINVAL,
                       "'%.64s' is no level: use DEBUG, INFO, WARN, ERROR, "
                       "CRITICAL or a number from 0 to 50",
                       text);
    return 0;
}

static bool
has_word(const char *words, const char *word, size_t n)
{
    while (*words) {
        size_t len = strcspn(words, " ");

        if (len == n && memcmp(words, word, n) == 0)
            return true;
        words += len + (words[len] == ' ');
    }
    return false;
}

static int
set_choice(void *at, const struct option_row *row, const char *text,
           rh_error *err)
{
    if (*text && !has_word(row->choices, text, strlen(text)))
        return rh_fail(err, RH_EINVAL, "'%.64s' is none of: %s", text,
                       row->choices);
    return set_text(at, row, *text ? text : row->initial, err);
}

/* One "a" or "a-b" of a port list, at most 'room' ports to v. */
static int
read_range(const struct option_row *row, char **text, int *v, size_t room,
           size_t *n, rh_error *err)
{
    char *p = *text;
    long long a, b;

    errno = 0;
    a = b = strtoll(p, &p, 10);
    if (p == *text)
        return rh_fail(err, RH_EINVAL, "'%.32s' is not a port", *text);
    if (*p == '-') {
        char *start = ++p;

        b = strtoll(p, &p, 10);
        if (p == start)
            return rh_fail(err, RH_EINVAL, "'%.32s' is not a port", start);
    }
    if (check_range(row, a, err) < 0 || check_range(row, b, err) < 0)
        return RH_EINVAL;
    if (b < a)
        return rh_fail(err, RH_EINVAL, "range %lld-%lld is empty", a, b);
    if ((size_t)(b - a) >= room)
        return rh_fail(err, RH_EINVAL, "more than %d ports", PORTS_MAX);
    for (*n = 0; a <= b; a++)
        v[(*n)++] = (int)a;
    *text = p;
    return 0;
}

static int
set_ports(void *at, const struct option_row *row, const char *text,
          rh_error *err)
{
    struct port_list *list = at;
    char *copy = mem_strdup(text), *p = copy;
    int *v = mem_zalloc(PORTS_MAX, sizeof(*v)), *fit;
    size_t n = 0, more = 0;
    int rc = copy && v ? 0 : rh_fail(err, RH_ENOMEM, "out of memory");

    while (rc == 0) {
        p += strspn(p, " [](),");
        if (!*p)
            break;
        rc = read_range(row, &p, v + n, PORTS_MAX - n, &more, err);
        if (rc == 0)
            n += more;
        if (rc == 0 && *p && !strchr(" ]),", *p))
            rc = rh_fail(err, RH_EINVAL, "'%.32s' is not a port", p);
    }
    mem_free(copy);
    if (rc < 0) {
        mem_free(v);
        return rc;
    }
    fit = mem_resize(v, n ? n : 1, sizeof(*v)); // shrinks: keep v if it fails
    mem_free(list->v);
    *list = (struct port_list){fit ? fit : v, n};
    return 0;
}

static int
set_json(void *at, const struct option_row *row, const char *text,
         rh_error *err)
{
    char open = row->kind == OPTION_DICT ? '{' : '[';

    if (text[strspn(text, " \t")] != open)
        return rh_fail(err, RH_EINVAL, "'%.64s' is not a JSON %s", text,
                       row->kind == OPTION_DICT ? "object" : "array");
    return set_text(at, row, text, err);
}

static int
set_refused(void *at, const struct option_row *row, const char *text,
            rh_error *err)
{
    (void)at;
    (void)text;
    return rh_fail(err, RH_ESTATE, "not available: %s", row->help);
}

typedef int set_fn(void *at, const struct option_row *row, const char *text,
                   rh_error *err);

static set_fn *const setters[] = {
    [OPTION_TEXT] = set_text,   [OPTION_INT] = set_int,
    [OPTION_REAL] = set_real,   [OPTION_BOOL] = set_bool,
    [OPTION_LEVEL] = set_level, [OPTION_CHOICE] = set_choice,
    [OPTION_PORTS] = set_ports, [OPTION_DICT] = set_json,
    [OPTION_LIST] = set_json,   [OPTION_REFUSED] = set_refused,
};

/* A weaker source does not override, but its value is checked all the same. */
static int
set(struct settings *self, const struct option_row *row, const char *text,
    enum option_source source, rh_error *err)
{
    size_t i = (size_t)(row - option_rows);
    int rc;

    if (source < (enum option_source)self->source[i]) {
        union {
            char *text;
            int64_t number;
            double real;
            bool flag;
            struct port_list ports;
        } unused = {.ports = {NULL, 0}};

        rc = setters[row->kind](&unused, row, text, err);
        if (row->kind == OPTION_PORTS)
            mem_free(unused.ports.v);
        else if (row->kind == OPTION_TEXT || row->kind == OPTION_CHOICE
                 || row->kind == OPTION_DICT || row->kind == OPTION_LIST)
            mem_free(unused.text);
        return rc;
    }
    rc = setters[row->kind](member(self, row), row, text, err);
    if (rc == 0)
        self->source[i] = (uint8_t)source;
    return rc;
}

// ---------------------------------------------------------------------------
// Life

int
settings_init(struct settings *self, rh_error *err)
{
    memset(self, 0, sizeof(*self));
    for (size_t i = 0; i < option_n_rows; i++) {
        const struct option_row *row = &option_rows[i];
        int rc = 0;

        // An unset choice stays empty: it follows another row.
        if (row->kind == OPTION_CHOICE)
            rc = set_text(member(self, row), row, row->initial, err);
        else if (row->kind != OPTION_REFUSED)
            rc = set(self, row, row->initial, FROM_DEFAULT, err);
        if (rc < 0) {
            settings_fini(self);
            return rc;
        }
    }
    return 0;
}

void
settings_fini(struct settings *self)
{
    for (size_t i = 0; i < option_n_rows; i++) {
        const struct option_row *row = &option_rows[i];
        void *at = member(self, row);

        switch (row->kind) {
        case OPTION_TEXT:
        case OPTION_CHOICE:
        case OPTION_DICT:
        case OPTION_LIST:
            mem_free(*(char **)at);
            break;
        case OPTION_PORTS:
            mem_free(((struct port_list *)at)->v);
            break;
        case OPTION_INT:
        case OPTION_REAL:
        case OPTION_BOOL:
        case OPTION_LEVEL:
        case OPTION_REFUSED:
            break;
        }
    }
    memset(self, 0, sizeof(*self));
}

enum option_source
settings_source(const struct settings *self, size_t offset)
{
    for (size_t i = 0; i < option_n_rows; i++)
        if (option_rows[i].at == offset
            && option_rows[i].kind != OPTION_REFUSED)
            return (enum option_source)self->source[i];
    return FROM_DEFAULT;
}

static void
show_ports(const struct port_list *list, struct buf *out)
{
    for (size_t i = 0; i < list->n; i++) {
        size_t first = i;

        while (i + 1 < list->n && list->v[i + 1] == list->v[i] + 1)
            i++;
        buf_add_fmt(out, "%s%d", first ? "," : "", list->v[first]);
        if (i > first)
            buf_add_fmt(out, "-%d", list->v[i]);
    }
}

void
option_value(const struct settings *self, const struct option_row *row,
             struct buf *out)
{
    const void *at = member_const(self, row);

    switch (row->kind) {
    case OPTION_TEXT:
    case OPTION_CHOICE:
    case OPTION_DICT:
    case OPTION_LIST:
        buf_add_str(out, *(char *const *)at);
        break;
    case OPTION_INT:
    case OPTION_LEVEL:
        buf_add_fmt(out, "%lld", (long long)*(const int64_t *)at);
        break;
    case OPTION_REAL:
        buf_add_fmt(out, "%g", *(const double *)at);
        break;
    case OPTION_BOOL:
        buf_add_str(out, *(const bool *)at ? "True" : "False");
        break;
    case OPTION_PORTS:
        show_ports(at, out);
        break;
    case OPTION_REFUSED:
        break;
    }
}

int
option_trait_len(const struct option_row *row)
{
    return (int)strcspn(row->traits, " ");
}

// ---------------------------------------------------------------------------
// Names

static const struct option_row *
find_trait(const char *name, size_t n)
{
    for (size_t i = 0; i < option_n_rows; i++)
        if (has_word(option_rows[i].traits, name, n))
            return &option_rows[i];
    return NULL;
}

static const struct option_row *
find_name(const char *name, size_t n)
{
    for (size_t i = 0; i < option_n_rows; i++) {
        const char *have = option_rows[i].name;

        if (have && strlen(have) == n && memcmp(have, name, n) == 0)
            return &option_rows[i];
    }
    return memchr(name, '.', n) ? find_trait(name, n) : NULL;
}

/* The value of flag 'name' in "flag=value flag=value ...", or NULL. */
static const char *
flag_value(const struct option_row *row, const char *name, size_t *n)
{
    size_t want = strlen(name);
    const char *p = row->flags;

    while (p && *p) {
        size_t len = strcspn(p, " ");

        if (len > want && p[want] == '=' && memcmp(p, name, want) == 0) {
            *n = len - want - 1;
            return p + want + 1;
        }
        p += len + (p[len] == ' ');
    }
    return NULL;
}

/* Levenshtein distance of short names; longer ones are far away. */
static size_t
distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t row[NAME_MAX_LEN + 1];

    if (na > NAME_MAX_LEN || nb > NAME_MAX_LEN)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[nb];
}

struct nearest {
    const char *want;
    size_t n_want, best;
    const char *name;
    size_t n_name;
};

static void
consider(struct nearest *self, const char *name, size_t n)
{
    size_t d = distance(self->want, self->n_want, name, n);

    if (d < self->best) {
        self->best = d;
        self->name = name;
        self->n_name = n;
    }
}

static void
consider_words(struct nearest *self, const char *words, char stop)
{
    const char both[] = {stop, ' ', '\0'};

    while (words && *words) {
        consider(self, words, strcspn(words, both));
        words += strcspn(words, " ");
        words += *words == ' ';
    }
}

/* Text for an error: the known name that looks most like 'want'. */
static struct nearest
nearest_name(const char *want, size_t n)
{
    struct nearest found = {want, n, SIZE_MAX, "", 0};
    bool dotted = memchr(want, '.', n) != NULL;

    consider(&found, "help", 4);
    consider(&found, "help-all", 8);
    consider(&found, "version", 7);
    for (size_t i = 0; i < option_n_rows; i++) {
        if (dotted) {
            consider_words(&found, option_rows[i].traits, ' ');
            continue;
        }
        if (option_rows[i].name)
            consider(&found, option_rows[i].name, strlen(option_rows[i].name));
        consider_words(&found, option_rows[i].flags, '=');
    }
    return found;
}

// ---------------------------------------------------------------------------
// Sources

/* Put "where: " before what set() said. */
static int
explain(rh_error *err, int rc, const rh_error *why, const char *where,
        size_t n_where)
{
    return rh_fail(err, rc, "%.*s: %s", (int)(n_where > 80 ? 80 : n_where),
                   where, why->text);
}

int
settings_from_env(struct settings *self, rh_error *err)
{
    for (size_t i = 0; i < option_n_rows; i++) {
        const struct option_row *row = &option_rows[i];
        const char *value = row->env ? getenv(row->env) : NULL;
        rh_error why;
        int rc;

        // An empty key means "unsigned"; elsewhere empty is as good as unset.
        if (!value || (!*value && row->at != offsetof(struct settings, key)))
            continue;
        if (row->kind == OPTION_BOOL && strcmp(value, "1") != 0)
            continue; // IPP_ENABLE_CURVE counts only as "1"
        rc = set(self, row, value, FROM_ENV, &why);
        if (rc < 0)
            return explain(err, rc, &why, row->env, strlen(row->env));
    }
    return 0;
}

int
settings_from_file(struct settings *self, const char *trait, const char *value,
                   rh_error *err)
{
    size_t n = strlen(trait);
    const struct option_row *row = find_trait(trait, n);
    struct nearest near;
    rh_error why;
    int rc;

    if (row) {
        rc = set(self, row, value, FROM_FILE, &why);
        return rc < 0 ? explain(err, rc, &why, trait, n) : 0;
    }
    near = nearest_name(trait, n);
    return rh_fail(err, RH_ENOENT,
                   "c.%.80s is not known; the nearest is c.%.*s", trait,
                   (int)near.n_name, near.name);
}

static int
apply_flag(struct settings *self, const char *name, bool *found, rh_error *err)
{
    *found = false;
    for (size_t i = 0; i < option_n_rows; i++) {
        size_t n;
        const char *value = flag_value(&option_rows[i], name, &n);
        char text[32];
        int rc;

        if (!value)
            continue;
        *found = true;
        if (n >= sizeof(text))
            return rh_fail(err, RH_EINVAL, "flag --%s: value too long", name);
        memcpy(text, value, n);
        text[n] = '\0';
        rc = set(self, &option_rows[i], text, FROM_COMMAND, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int
unknown_option(const char *arg, size_t n, rh_error *err)
{
    char shown[84];
    struct nearest near = nearest_name(arg, n);

    log_escape(span_of(arg, n), shown, sizeof(shown));
    return rh_fail(err, RH_EINVAL,
                   "unknown option --%s; the nearest is --%.*s "
                   "(ipcontroller --help-all lists all)",
                   shown, (int)near.n_name, near.name);
}

static bool
is_value(const char *arg)
{
    return arg && (arg[0] != '-' || (arg[1] >= '0' && arg[1] <= '9'));
}

/* argv[*i] is "--name", "--name=value" or "--name" with its value behind. */
static int
apply_option(struct settings *self, char *const *argv, int *i, rh_error *err)
{
    const char *arg = argv[*i] + 2, *value = strchr(arg, '=');
    size_t n = value ? (size_t)(value - arg) : strlen(arg);
    const struct option_row *row;
    rh_error why;
    bool found, ignored;
    int rc;

    if (!value) {
        rc = apply_flag(self, arg, &found, err);
        if (rc < 0 || found)
            return rc;
    }
    row = find_name(arg, n);
    if (!row)
        return unknown_option(arg, n, err);
    if (value) {
        value++;
    } else if (row->kind == OPTION_BOOL
               && (!is_value(argv[*i + 1])
                   || read_bool(argv[*i + 1], &ignored) < 0)) {
        value = "True";
    } else if (is_value(argv[*i + 1])) {
        value = argv[++*i];
    } else {
        return rh_fail(err, RH_EINVAL, "--%s needs a value: --%s=...", arg,
                       arg);
    }
    rc = set(self, row, value, FROM_COMMAND, &why);
    if (rc < 0)
        rh_fail(err, rc, "--%.*s=%.64s: %s", (int)n, arg, value, why.text);
    return rc;
}

static bool
is_action(const char *arg, enum option_action *action)
{
    static const struct {
        const char *name;
        enum option_action action;
    } names[] = {
        {"-h", ACTION_HELP},
        {"--help", ACTION_HELP},
        {"--help-all", ACTION_HELP_ALL},
        {"--version", ACTION_VERSION},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(arg, names[i].name) == 0) {
            *action = names[i].action;
            return true;
        }
    return false;
}

int
settings_from_args(struct settings *self, int argc, char *const *argv,
                   enum option_action *action, rh_error *err)
{
    *action = ACTION_RUN;
    for (int i = 1; i < argc; i++) {
        int rc;

        if (is_action(argv[i], action))
            return 0;
        if (strncmp(argv[i], "--", 2) != 0 || !argv[i][2]) {
            char shown[80];

            log_escape(span_str(argv[i]), shown, sizeof(shown));
            return rh_fail(err, RH_EINVAL,
                           "unexpected argument '%s': options are written "
                           "--name=value",
                           shown);
        }
        rc = apply_option(self, argv, &i, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* tcp://host:port stands for transport, ip and port. */
static int
apply_url(struct settings *self, rh_error *err)
{
    static const size_t at[] = {offsetof(struct settings, transport),
                                offsetof(struct settings, ip),
                                offsetof(struct settings, regport)};
    enum option_source source =
        settings_source(self, offsetof(struct settings, url));
    char *copy = mem_strdup(self->url);
    char *sep = copy ? strstr(copy, "://") : NULL;
    char *colon = sep ? strrchr(sep + 3, ':') : NULL;
    rh_error why;
    int rc = copy ? 0 : rh_fail(err, RH_ENOMEM, "out of memory");

    if (rc == 0 && (!sep || !colon))
        rc = rh_fail(err, RH_EINVAL,
                     "--url=%.80s: must be written transport://host:port",
                     self->url);
    if (rc == 0) {
        const char *const part[] = {copy, sep + 3, colon + 1};

        *sep = *colon = '\0';
        for (size_t i = 0; rc == 0 && i < option_n_rows; i++)
            for (size_t j = 0; rc == 0 && j < 3; j++)
                if (option_rows[i].at == at[j]
                    && option_rows[i].kind != OPTION_REFUSED
                    && (rc = set(self, &option_rows[i], part[j], source, &why))
                           < 0)
                    rh_fail(err, rc, "--url=%.80s: %s", self->url, why.text);
    }
    mem_free(copy);
    return rc;
}

int
settings_finish(struct settings *self, rh_error *err)
{
    self->reuse = self->reuse || self->restore;
    return *self->url ? apply_url(self, err) : 0;
}
