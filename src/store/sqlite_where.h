/* sqlite_where.h - the part of a query that SQL can narrow down
 *
 * Never excludes a row that query_match would accept; tests it cannot express
 * are left out.
 */
#ifndef STORE_SQLITE_WHERE_H
#define STORE_SQLITE_WHERE_H

#include <sqlite3.h>

#include "store/query.h"

#define SQLITE_DATE_SIZE 40
#define MAX_BOUND 64

struct sqlite_where {
    struct span value[MAX_BOUND]; // borrowed from the query or 'date'
    char date[MAX_BOUND][SQLITE_DATE_SIZE];
    int n;
};

/* Append " WHERE ..." or nothing. */
void sqlite_where_make(struct sqlite_where *self, const struct query *query,
                       struct buf *sql);
int sqlite_where_bind(const struct sqlite_where *self, sqlite3_stmt *stmt);

/* As Python's isoformat() writes UTC: no fraction when it is zero. */
void sqlite_date(int64_t wall_us, char out[SQLITE_DATE_SIZE]);

#endif /* STORE_SQLITE_WHERE_H */
