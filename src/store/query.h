/* query.h - a parsed query: tests that must all hold
 *
 * {"field": value}             equal
 * {"field": {"$op": arg, ...}} each operator holds
 *
 * Null is an ordinary value for $eq, $ne, $in, $nin and $exists, and matches no
 * order ($lt ...), pattern or arithmetic.  Dates are compared as times: the
 * argument is an ISO 8601 string.  Values of different types are unequal and
 * have no order.
 */
#ifndef STORE_QUERY_H
#define STORE_QUERY_H

#include <jansson.h>

#include "store/store.h"

// clang-format off
#define QUERY_OP_MAP(X)                                                \
    X(EQ,     "$eq")  X(NE,  "$ne")  X(LT,   "$lt")  X(LTE,  "$lte")   \
    X(GT,     "$gt")  X(GTE, "$gte") X(IN,   "$in")  X(NIN,  "$nin")   \
    X(ALL,    "$all") X(MOD, "$mod") X(EXISTS, "$exists")              \
    X(GLOB,   "$glob")
// clang-format on

enum query_op {
#define X(name, text) QUERY_##name,
    QUERY_OP_MAP(X)
#undef X
        N_QUERY_OPS
};

extern const char *const query_op_name[N_QUERY_OPS];

struct query_test {
    enum record_field field;
    enum query_op op;
    json_t *arg;   // borrowed from the query's tree
    int64_t *date; // DATE fields: the argument's times ($in: one for each
    size_t n_date; // element), RECORD_NO_DATE for what is no date
};

struct query {
    json_t *tree;
    size_t n;
    struct query_test test[];
};

/* 1: matches, 0: does not, or RH_ENOMEM. */
int query_match(const struct query *self, const struct record *record);

/* Bits of the fields it looks at. */
uint32_t query_fields(const struct query *self);

/* If the query pins msg_id (equal or $in): the array of ids or the one string;
 * else NULL.  A backend may then look these up instead of walking.
 */
const json_t *query_ids(const struct query *self);

/* Shell pattern over UTF-8 as Python's fnmatch has it: * ? [seq] [!seq]. */
bool glob_match(struct span pattern, struct span text);

#endif /* STORE_QUERY_H */
