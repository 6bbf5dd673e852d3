/* query.c - parse and evaluate queries over records
 *
 * Everything that can be refused is refused while parsing, by name, so that
 * evaluation has no way to fail but for want of memory.  jansson holds the
 * arguments; a field's JSON is parsed only if its test needs a tree.
 */
#include "store/query.h"

#include <math.h>
#include <string.h>

#include "base/isodate.h"
#include "base/mem.h"
#include "store/private.h"

const char *const query_op_name[N_QUERY_OPS] = {
#define X(name, text) [QUERY_##name] = (text),
    QUERY_OP_MAP(X)
#undef X
};

/* ---- parsing ---------------------------------------------------------- */

static int
out_of_memory(struct fault *fault)
{
    return fault_set(fault, RH_ENOMEM, "MemoryError",
                     "the hub is out of memory for this query");
}

static int
op_of(const char *key)
{
    for (int i = 0; i < N_QUERY_OPS; i++)
        if (strcmp(key, query_op_name[i]) == 0)
            return i;
    return RH_ENOENT;
}

static int64_t
date_of(const json_t *value)
{
    int64_t us;

    if (!json_is_string(value)
        || isodate_parse(
               span_of(json_string_value(value), json_string_length(value)),
               &us)
               < 0)
        return RECORD_NO_DATE;
    return us;
}

static int
parse_dates(struct query_test *test, struct fault *fault)
{
    const bool many = json_is_array(test->arg);

    test->n_date = many ? json_array_size(test->arg) : 1;
    if (test->n_date == 0)
        return 0;
    test->date = mem_zalloc(test->n_date, sizeof(*test->date));
    if (!test->date)
        return out_of_memory(fault);
    for (size_t i = 0; i < test->n_date; i++)
        test->date[i] =
            date_of(many ? json_array_get(test->arg, i) : test->arg);
    if (test->op >= QUERY_LT && test->op <= QUERY_GTE
        && test->date[0] == RECORD_NO_DATE)
        return fault_set(fault, RH_EINVAL, "TypeError",
                         "%s needs an ISO 8601 date to compare with %s",
                         query_op_name[test->op],
                         record_field_name[test->field]);
    return 0;
}

/* Arguments that could never mean anything are the caller's mistake. */
static int
check_arg(const struct query_test *test, struct fault *fault)
{
    const char *name = query_op_name[test->op];

    switch (test->op) {
    case QUERY_IN:
    case QUERY_NIN:
    case QUERY_ALL:
        if (!json_is_array(test->arg))
            return fault_set(fault, RH_EINVAL, "TypeError",
                             "%s needs a list of values", name);
        return 0;
    case QUERY_MOD:
        if (json_array_size(test->arg) != 2
            || !json_is_number(json_array_get(test->arg, 0))
            || !json_is_number(json_array_get(test->arg, 1)))
            return fault_set(fault, RH_EINVAL, "TypeError",
                             "%s needs [divisor, remainder]", name);
        if (json_number_value(json_array_get(test->arg, 0)) == 0)
            return fault_set(fault, RH_EINVAL, "ZeroDivisionError",
                             "%s with divisor 0", name);
        return 0;
    case QUERY_GLOB:
        if (!json_is_string(test->arg))
            return fault_set(fault, RH_EINVAL, "TypeError",
                             "%s needs a pattern string", name);
        return 0;
    default:
        return 0;
    }
}

static int
add_test(struct query *self, enum record_field field, enum query_op op,
         json_t *arg, struct fault *fault)
{
    struct query_test *test = &self->test[self->n++];
    int rc;

    *test = (struct query_test){.field = field, .op = op, .arg = arg};
    rc = check_arg(test, fault);
    if (rc == 0 && record_field_kind[field] == RECORD_KIND_DATE
        && op != QUERY_EXISTS)
        rc = parse_dates(test, fault);
    return rc;
}

/* {"$op": arg, ...} or, without any '$', an object to be equal to. */
static bool
is_operators(const json_t *value)
{
    const char *key;
    json_t *arg;
    json_t *unconst = (json_t *)(uintptr_t)value;

    if (!json_is_object(value))
        return false;
    if (json_object_size(value) == 0)
        return true;
    json_object_foreach(unconst, key, arg)
    {
        if (key[0] == '$')
            return true;
    }
    return false;
}

static int
add_field(struct query *self, const char *name, json_t *value,
          struct fault *fault)
{
    const int field = record_field_of(span_str(name));
    const char *key;
    json_t *arg;

    if (field < 0) {
        struct buf quoted = {0};
        int rc;

        fault_repr(&quoted, span_str(name));
        buf_add_char(&quoted, '\0');
        rc = quoted.failed
                 ? out_of_memory(fault)
                 : fault_key(fault, RH_EINVAL, "Illegal testing key(s): {%s}",
                             (const char *)quoted.p);
        buf_fini(&quoted);
        return rc;
    }
    if (!is_operators(value))
        return add_test(self, (enum record_field)field, QUERY_EQ, value, fault);
    json_object_foreach(value, key, arg)
    {
        const int op = op_of(key);
        int rc;

        if (op < 0)
            return fault_key(fault, RH_EINVAL, "%s", key);
        rc = add_test(self, (enum record_field)field, (enum query_op)op, arg,
                      fault);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static size_t
count_tests(json_t *tree)
{
    const char *key;
    json_t *value;
    size_t n = 0;

    json_object_foreach(tree, key, value)
    {
        n += json_is_object(value) ? json_object_size(value) + 1 : 1;
    }
    return n;
}

static int
load(json_t **tree, struct span json, struct fault *fault)
{
    json_error_t error;
    const int rc = json_tree(tree, json.n ? json : SPAN_LIT("{}"), &error);

    if (rc == RH_ENOMEM)
        return out_of_memory(fault);
    if (rc < 0)
        return fault_set(fault, RH_EINVAL, "ValueError",
                         "the query is not JSON: %s", error.text);
    if (json_is_object(*tree))
        return 0;
    json_decref(*tree);
    *tree = NULL;
    return fault_set(fault, RH_EINVAL, "TypeError",
                     "the query must be a dict of fields and values");
}

int
query_parse(struct query **out, struct span json, struct fault *fault)
{
    struct query *self = NULL;
    const char *key;
    json_t *tree, *value;
    int rc = load(&tree, json, fault);

    if (rc < 0)
        return rc;
    self = mem_zalloc(1, sizeof(*self)
                             + count_tests(tree) * sizeof(self->test[0]));
    if (!self) {
        json_decref(tree);
        return out_of_memory(fault);
    }
    self->tree = tree;
    json_object_foreach(tree, key, value)
    {
        rc = add_field(self, key, value, fault);
        if (rc < 0) {
            query_free(&self);
            return rc;
        }
    }
    *out = self;
    return 0;
}

void
query_free(struct query **self_p)
{
    struct query *self = *self_p;

    *self_p = NULL;
    if (!self)
        return;
    for (size_t i = 0; i < self->n; i++)
        mem_free(self->test[i].date);
    json_decref(self->tree);
    mem_free(self);
}

uint32_t
query_fields(const struct query *self)
{
    uint32_t fields = 0;

    for (size_t i = 0; i < self->n; i++)
        fields |= UINT32_C(1) << self->test[i].field;
    return fields;
}

const json_t *
query_ids(const struct query *self)
{
    for (size_t i = 0; i < self->n; i++) {
        const struct query_test *t = &self->test[i];

        if (t->field == RECORD_MSG_ID
            && (t->op == QUERY_IN
                || (t->op == QUERY_EQ && json_is_string(t->arg))))
            return t->arg;
    }
    return NULL;
}

/* ---- evaluation ------------------------------------------------------- */

#define NO_ORDER 2

static bool
is_numeric(const json_t *v)
{
    return json_is_number(v) || json_is_boolean(v);
}

/* Python counts True and False as 1 and 0. */
static double
number(const json_t *v)
{
    return json_is_boolean(v) ? (double)json_is_true(v) : json_number_value(v);
}

static int
order_strings(const json_t *a, const json_t *b)
{
    const size_t na = json_string_length(a), nb = json_string_length(b);
    const int c =
        memcmp(json_string_value(a), json_string_value(b), na < nb ? na : nb);

    // UTF-8 sorts like the code points, which is Python's order.
    return c ? (c > 0) - (c < 0) : (na > nb) - (na < nb);
}

/* -1, 0, 1 or NO_ORDER. */
static int
order(const json_t *a, const json_t *b)
{
    if (is_numeric(a) && is_numeric(b)) {
        if (json_is_integer(a) && json_is_integer(b)) {
            const json_int_t x = json_integer_value(a),
                             y = json_integer_value(b);

            return (x > y) - (x < y);
        }
        return (number(a) > number(b)) - (number(a) < number(b));
    }
    if (json_is_string(a) && json_is_string(b))
        return order_strings(a, b);
    return NO_ORDER;
}

static bool equal(const json_t *a, const json_t *b);

static bool
equal_objects(const json_t *a, const json_t *b)
{
    json_t *unconst = (json_t *)(uintptr_t)a;
    const char *key;
    json_t *value;

    if (json_object_size(a) != json_object_size(b))
        return false;
    json_object_foreach(unconst, key, value)
    {
        const json_t *other = json_object_get(b, key);

        if (!other || !equal(value, other))
            return false;
    }
    return true;
}

/* Depth is bounded: both sides passed jansson's own limit. */
static bool
equal(const json_t *a, const json_t *b)
{
    if (is_numeric(a) || json_is_string(a))
        return order(a, b) == 0;
    if (json_typeof(a) != json_typeof(b))
        return false;
    if (json_is_object(a))
        return equal_objects(a, b);
    if (!json_is_array(a))
        return true; // null
    if (json_array_size(a) != json_array_size(b))
        return false;
    for (size_t i = 0; i < json_array_size(a); i++)
        if (!equal(json_array_get(a, i), json_array_get(b, i)))
            return false;
    return true;
}

/* Python's 'a in b'. */
static bool
contains(const json_t *b, const json_t *a)
{
    if (json_is_array(b)) {
        for (size_t i = 0; i < json_array_size(b); i++)
            if (equal(a, json_array_get(b, i)))
                return true;
        return false;
    }
    if (!json_is_string(a))
        return false;
    if (json_is_object(b))
        return json_object_get(b, json_string_value(a)) != NULL;
    return json_is_string(b)
           && memmem(json_string_value(b), json_string_length(b),
                     json_string_value(a), json_string_length(a));
}

/* MongoDB's sense if the field is a list: it has every argument.  Else the
 * sense of upstream's in-memory database: every argument has the field.
 */
static bool
all(const json_t *value, const json_t *arg)
{
    for (size_t i = 0; i < json_array_size(arg); i++) {
        const json_t *one = json_array_get(arg, i);

        if (!(json_is_array(value) ? contains(value, one)
                                   : contains(one, value)))
            return false;
    }
    return true;
}

static bool
modulo(const json_t *value, const json_t *arg)
{
    const json_t *by = json_array_get(arg, 0);
    const json_t *rest = json_array_get(arg, 1);
    double m;

    if (!is_numeric(value))
        return false;
    m = fmod(number(value), json_number_value(by));
    // Python's remainder has the divisor's sign, C's the dividend's.
    if (m != 0 && (m < 0) != (json_number_value(by) < 0))
        m += json_number_value(by);
    return m == json_number_value(rest);
}

static bool
truth(const json_t *v)
{
    return json_is_true(v) || (json_is_number(v) && json_number_value(v) != 0)
           || (json_is_string(v) && json_string_length(v) > 0)
           || json_array_size(v) > 0 || json_object_size(v) > 0;
}

static bool
in_order(enum query_op op, int order)
{
    switch (op) {
    case QUERY_LT:
        return order == -1;
    case QUERY_LTE:
        return order == -1 || order == 0;
    case QUERY_GT:
        return order == 1;
    case QUERY_GTE:
        return order == 1 || order == 0;
    default:
        return false;
    }
}

static bool
test_value(const struct query_test *test, const json_t *value)
{
    switch (test->op) {
    case QUERY_EQ:
        return equal(value, test->arg);
    case QUERY_NE:
        return !equal(value, test->arg);
    case QUERY_IN:
        return contains(test->arg, value);
    case QUERY_NIN:
        return !contains(test->arg, value);
    case QUERY_ALL:
        return all(value, test->arg);
    case QUERY_MOD:
        return modulo(value, test->arg);
    case QUERY_EXISTS:
        return truth(test->arg) == !json_is_null(value);
    case QUERY_GLOB:
        return json_is_string(value)
               && glob_match(span_of(json_string_value(test->arg),
                                     json_string_length(test->arg)),
                             span_of(json_string_value(value),
                                     json_string_length(value)));
    default:
        return in_order(test->op, order(value, test->arg));
    }
}

static bool
test_date(const struct query_test *test, int64_t value)
{
    const bool null = value == RECORD_NO_DATE;
    bool found = false;

    switch (test->op) {
    case QUERY_EXISTS:
        return truth(test->arg) == !null;
    case QUERY_EQ:
    case QUERY_NE:
    case QUERY_IN:
    case QUERY_NIN:
        for (size_t i = 0; i < test->n_date && !found; i++) {
            const json_t *arg = json_is_array(test->arg)
                                    ? json_array_get(test->arg, i)
                                    : test->arg;

            found = null ? json_is_null(arg) : test->date[i] == value;
        }
        return found == (test->op == QUERY_EQ || test->op == QUERY_IN);
    case QUERY_ALL: // no container holds dates
        return json_array_size(test->arg) == 0;
    case QUERY_MOD:
    case QUERY_GLOB:
        return false;
    default:
        return !null
               && in_order(test->op,
                           (value > test->date[0]) - (value < test->date[0]));
    }
}

/* The field as a tree; NULL: out of memory.  What is not JSON is null. */
static json_t *
tree_of(const struct record *record, enum record_field field)
{
    struct buf scratch = {0};
    json_error_t error;
    json_t *tree;
    struct span s;

    if (record_field_kind[field] == RECORD_KIND_TEXT) {
        s = record_text(record, field, &scratch);
        // Compared as bytes, so it need not be checked to be UTF-8.
        tree = s.p ? json_stringn_nocheck((const char *)s.p, s.n) : json_null();
        buf_fini(&scratch);
        return tree;
    }
    if (record_field_kind[field] == RECORD_KIND_BUFFERS) // only null or not
        return (field == RECORD_BUFFERS ? record->request : record->result)
                   ? json_array()
                   : json_null();
    s = record_raw(record, field);
    if (s.n == 0)
        return json_null();
    if (json_tree(&tree, s, &error) == RH_EPROTO)
        return json_null();
    return tree;
}

/* Text fields are compared in place in the commonest queries. */
static bool
quick(const struct query_test *test, const struct record *record, bool *result)
{
    struct buf scratch = {0};
    struct span s;

    if (test->op != QUERY_EQ || !json_is_string(test->arg)
        || record_field_kind[test->field] != RECORD_KIND_TEXT)
        return false;
    s = record_text(record, test->field, &scratch);
    *result = s.p
              && span_eq(s, span_of(json_string_value(test->arg),
                                    json_string_length(test->arg)));
    buf_fini(&scratch);
    return true;
}

static int
test_one(const struct query_test *test, const struct record *record)
{
    bool result;
    json_t *value;

    if (record_field_kind[test->field] == RECORD_KIND_DATE)
        return test_date(test, record_date(record, test->field));
    if (quick(test, record, &result))
        return result;
    value = tree_of(record, test->field);
    if (!value)
        return RH_ENOMEM;
    result = test_value(test, value);
    json_decref(value);
    return result;
}

int
query_match(const struct query *self, const struct record *record)
{
    for (size_t i = 0; i < self->n; i++) {
        const int rc = test_one(&self->test[i], record);

        if (rc <= 0)
            return rc;
    }
    return 1;
}
