/* sqlite_where.c - the part of a query that SQL can narrow down
 *
 * Dates in the file are text, possibly of other zones, so they are narrowed to
 * a day either side, where text order and time order agree.
 */
#include "store/sqlite_where.h"

#include <stdio.h>

#include "base/isodate.h"

#define DAY_US (INT64_C(24) * 3600 * 1000000)

void
sqlite_date(int64_t wall_us, char out[SQLITE_DATE_SIZE])
{
    char text[ISODATE_SIZE];

    isodate_format(wall_us, text);
    // "2026-11-20T22:56:05" is 19 characters, ".030017" 7, "Z" 1
    (void)snprintf(out, SQLITE_DATE_SIZE, "%.*s+00:00",
                   strncmp(text + 19, ".000000", 7) == 0 ? 19 : 26, text);
}

static bool
is_plain_text(const json_t *v)
{
    // SQLite's strings end at the first NUL in some places.
    return json_is_string(v)
           && strlen(json_string_value(v)) == json_string_length(v);
}

/* Columns whose text is what the record has. */
static bool
is_comparable(enum record_field field)
{
    switch (field) {
    case RECORD_MSG_ID:
    case RECORD_ENGINE_UUID:
    case RECORD_RESUBMITTED:
    case RECORD_QUEUE:
        return true;
    default:
        return false;
    }
}

static void
bind_span(struct sqlite_where *self, struct span s)
{
    self->value[self->n++] = s;
}

static void
bind_date(struct sqlite_where *self, int64_t us)
{
    sqlite_date(us, self->date[self->n]);
    bind_span(self, span_str(self->date[self->n]));
}

static const char *
comparison(enum query_op op)
{
    switch (op) {
    case QUERY_EQ:
        return "=";
    case QUERY_LT:
        return "<";
    case QUERY_LTE:
        return "<=";
    case QUERY_GT:
        return ">";
    case QUERY_GTE:
        return ">=";
    default:
        return NULL;
    }
}

static bool
truth(const json_t *v)
{
    return json_is_true(v) || (json_is_number(v) && json_number_value(v) != 0);
}

/* Tests for null, which mean the same in every column that can be null. */
static bool
add_null_test(const struct query_test *t, struct buf *sql)
{
    const bool wants_null = t->op == QUERY_EQ && json_is_null(t->arg);
    const bool wants_value = (t->op == QUERY_NE && json_is_null(t->arg))
                             || (t->op == QUERY_EXISTS && truth(t->arg));

    if (!wants_null && !wants_value)
        return false;
    buf_add_fmt(sql, "%s IS %sNULL", record_field_name[t->field],
                wants_null ? "" : "NOT ");
    return true;
}

static bool
add_date_test(struct sqlite_where *self, const struct query_test *t,
              struct buf *sql)
{
    const char *name = record_field_name[t->field];

    if (!comparison(t->op) || t->date[0] == RECORD_NO_DATE
        || t->date[0] < INT64_MIN + DAY_US || t->date[0] > INT64_MAX - DAY_US
        || json_is_array(t->arg) || self->n + 2 > MAX_BOUND)
        return false;
    if (t->op == QUERY_EQ)
        buf_add_fmt(sql, "%s >= ? AND %s <= ?", name, name);
    else
        buf_add_fmt(sql, "%s %s ?", name,
                    t->op == QUERY_LT || t->op == QUERY_LTE ? "<=" : ">=");
    if (t->op != QUERY_LT && t->op != QUERY_LTE)
        bind_date(self, t->date[0] - DAY_US);
    if (t->op != QUERY_GT && t->op != QUERY_GTE)
        bind_date(self, t->date[0] + DAY_US);
    return true;
}

static bool
add_text_test(struct sqlite_where *self, const struct query_test *t,
              struct buf *sql)
{
    const char *op = comparison(t->op);

    if (!op || !is_comparable(t->field) || !is_plain_text(t->arg)
        || self->n == MAX_BOUND)
        return false;
    buf_add_fmt(sql, "%s %s ?", record_field_name[t->field], op);
    bind_span(self,
              span_of(json_string_value(t->arg), json_string_length(t->arg)));
    return true;
}

static bool
add_test(struct sqlite_where *self, const struct query_test *t, struct buf *sql)
{
    if (record_field_kind[t->field] == RECORD_KIND_DATE)
        return add_null_test(t, sql) || add_date_test(self, t, sql);
    if (is_comparable(t->field))
        return add_null_test(t, sql) || add_text_test(self, t, sql);
    return false;
}

void
sqlite_where_make(struct sqlite_where *self, const struct query *query,
                  struct buf *sql)
{
    const char *word = " WHERE ";

    for (size_t i = 0; i < query->n; i++) {
        const size_t before = sql->n;

        buf_add_str(sql, word);
        if (add_test(self, &query->test[i], sql))
            word = " AND ";
        else if (!sql->failed)
            sql->n = before;
    }
}

int
sqlite_where_bind(const struct sqlite_where *self, sqlite3_stmt *stmt)
{
    for (int i = 0; i < self->n; i++) {
        const struct span s = self->value[i];
        const int rc =
            sqlite3_bind_text64(stmt, i + 1, s.n ? (const char *)s.p : "", s.n,
                                SQLITE_STATIC, SQLITE_UTF8);

        if (rc != SQLITE_OK)
            return rc;
    }
    return SQLITE_OK;
}
