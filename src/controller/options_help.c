/* options_help.c - texts that are made from the option rows */
#include "controller/options.h"

#include <string.h>

#define COLUMN 26
#define WIDTH 78

static const char intro[] =
    "The controller is what engines and clients connect to: it relays calls,\n"
    "balances tasks over the engines and remembers what ran.\n";

/* 'text' in lines of at most WIDTH, each starting at COLUMN. */
static void
print_wrapped(FILE *out, const char *text, size_t at, const char *lead)
{
    while (*text) {
        size_t word = strcspn(text, " ");

        if (at + 1 + word > WIDTH) {
            fprintf(out, "\n%s%*s", lead, COLUMN, "");
            at = COLUMN;
        } else if (at > COLUMN) {
            fputc(' ', out);
            at++;
        }
        fwrite(text, 1, word, out);
        at += word;
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void
print_entry(FILE *out, const char *left, const char *help)
{
    size_t n = strlen(left);

    fputs(left, out);
    if (n >= COLUMN - 1)
        fprintf(out, "\n%*s", COLUMN, "");
    else
        fprintf(out, "%*s", (int)(COLUMN - n), "");
    print_wrapped(out, help, COLUMN, "");
}

static const char *
value_word(const struct option_row *row)
{
    static const char *const words[] = {
        [OPTION_TEXT] = "TEXT",   [OPTION_INT] = "N",
        [OPTION_REAL] = "X",      [OPTION_BOOL] = "BOOL",
        [OPTION_LEVEL] = "LEVEL", [OPTION_CHOICE] = "WORD",
        [OPTION_PORTS] = "PORTS", [OPTION_DICT] = "JSON",
        [OPTION_LIST] = "JSON",   [OPTION_REFUSED] = "",
    };

    return words[row->kind];
}

static void
print_names(FILE *out)
{
    for (size_t i = 0; i < option_n_rows; i++) {
        const struct option_row *row = &option_rows[i];
        char left[128], help[512];

        if (!row->name || row->kind == OPTION_REFUSED)
            continue;
        snprintf(left, sizeof(left), "  --%s=%s", row->name, value_word(row));
        snprintf(help, sizeof(help), "%s%s%s%s%s%s", row->help,
                 row->choices ? ": " : "", row->choices ? row->choices : "",
                 *row->initial ? " [" : "", row->initial,
                 *row->initial ? "]" : "");
        print_entry(out, left, help);
    }
}

/* A flag that several rows share is printed with the first. */
static bool
seen_before(size_t i, const char *flag, size_t n)
{
    for (size_t j = 0; j < i; j++)
        for (const char *p = option_rows[j].flags; p && *p;
             p += strcspn(p, " "), p += *p == ' ')
            if (strncmp(p, flag, n) == 0 && p[n] == '=')
                return true;
    return false;
}

static void
print_flags(FILE *out)
{
    for (size_t i = 0; i < option_n_rows; i++) {
        const struct option_row *row = &option_rows[i];

        for (const char *p = row->flags; p && *p;
             p += strcspn(p, " "), p += *p == ' ') {
            size_t n = strcspn(p, "=");
            char left[64], help[256];

            if (seen_before(i, p, n))
                continue;
            snprintf(left, sizeof(left), "  --%.*s", (int)n, p);
            snprintf(help, sizeof(help), "same as --%.*s=%.*s",
                     option_trait_len(row), row->traits,
                     (int)(strcspn(p, " ") - n - 1), p + n + 1);
            print_entry(out, left, help);
        }
    }
}

static void
print_traits(FILE *out)
{
    for (size_t i = 0; i < option_n_rows; i++) {
        const struct option_row *row = &option_rows[i];
        const char *more = row->traits + option_trait_len(row);

        if (row->kind == OPTION_REFUSED)
            continue;
        fprintf(out, "--%.*s=%s\n", option_trait_len(row), row->traits,
                value_word(row));
        fprintf(out, "    %s", row->help);
        if (row->choices)
            fprintf(out, ": %s", row->choices);
        fprintf(out, "\n    default: '%s'%s%s\n", row->initial,
                row->env ? "; environment: " : "", row->env ? row->env : "");
        if (*more)
            fprintf(out, "    older names:%s\n", more);
    }
}

void
option_print_help(FILE *out, bool all)
{
    fputs("usage: ipcontroller [--name=value ...] [--flag ...]\n\n", out);
    fputs(intro, out);
    fputs("\nOptions:\n", out);
    print_names(out);
    print_entry(out, "  -h, --help", "this text");
    print_entry(out, "  --help-all", "every setting by its full name");
    print_entry(out, "  --version", "the version");
    fputs("\nFlags:\n", out);
    print_flags(out);
    if (all) {
        fputs("\nSettings, on the command line or in ipcontroller_config.py as "
              "c.Class.trait = value:\n\n",
              out);
        print_traits(out);
    }
}

static bool
is_secret(const struct option_row *row)
{
    return row->at == offsetof(struct settings, key)
           || row->at == offsetof(struct settings, curve_secret);
}

static void
add_json_value(const struct settings *self, const struct option_row *row,
               struct buf *out)
{
    struct buf text;

    buf_init(&text);
    option_value(self, row, &text);
    if (row->kind == OPTION_INT || row->kind == OPTION_LEVEL
        || row->kind == OPTION_REAL || row->kind == OPTION_DICT
        || row->kind == OPTION_LIST)
        buf_add_span(out, buf_span(&text));
    else if (row->kind == OPTION_BOOL)
        buf_add_str(out, text.n == 4 ? "true" : "false");
    else
        buf_add_json_str(out,
                         is_secret(row) ? SPAN_LIT("...") : buf_span(&text));
    buf_fini(&text);
}

void
option_print_config(FILE *out, const struct settings *self, bool json)
{
    static const char *const from[] = {"default", "environment", "file",
                                       "command line"};
    struct buf text;
    bool first = true;

    buf_init(&text);
    for (size_t i = 0; i < option_n_rows; i++) {
        const struct option_row *row = &option_rows[i];

        if (self->source[i] == FROM_DEFAULT || row->kind == OPTION_REFUSED)
            continue;
        if (json) {
            buf_add_fmt(&text, "%s\n  \"%.*s\": ", first ? "{" : ",",
                        option_trait_len(row), row->traits);
            add_json_value(self, row, &text);
        } else {
            buf_add_fmt(&text, "%.*s = ", option_trait_len(row), row->traits);
            if (is_secret(row))
                buf_add_str(&text, "...");
            else
                option_value(self, row, &text);
            buf_add_fmt(&text, "  (%s)\n", from[self->source[i]]);
        }
        first = false;
    }
    if (json)
        buf_add_str(&text, first ? "{}\n" : "\n}\n");
    if (!text.failed)
        fwrite(text.p, 1, text.n, out);
    buf_fini(&text);
}

void
option_print_config_file(FILE *out)
{
    fputs("# Configuration of ipcontroller.  Remove the '# ' before a line to "
          "use it.\n\nc = get_config()  # noqa\n",
          out);
    for (size_t i = 0; i < option_n_rows; i++) {
        const struct option_row *row = &option_rows[i];
        bool bare = row->kind == OPTION_INT || row->kind == OPTION_LEVEL
                    || row->kind == OPTION_REAL || row->kind == OPTION_BOOL
                    || row->kind == OPTION_DICT || row->kind == OPTION_LIST;

        // A random or computed default cannot be written down.
        if (row->kind == OPTION_REFUSED || row->initial[0] == '@')
            continue;
        fprintf(out, "\n# %s\n# c.%.*s = %s%s%s\n", row->help,
                option_trait_len(row), row->traits, bare ? "" : "'",
                row->initial, bare ? "" : "'");
    }
}
