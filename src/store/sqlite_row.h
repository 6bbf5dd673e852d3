/* sqlite_row.h - between records and rows of the task table */
#ifndef STORE_SQLITE_ROW_H
#define STORE_SQLITE_ROW_H

#include <sqlite3.h>

#include "store/store.h"

#define N_COLUMNS RECORD_DISPLAY_DATA // the fields before it, in their order

/* Bind parameter field + 1 of 'stmt'; null if the record has none.  A code of
 * SQLite's.
 */
int sqlite_row_bind(sqlite3_stmt *stmt, const struct record *r,
                    enum record_field field);

/* A record made of a row; what it points to is the row's until the next step.
 */
struct sqlite_row {
    struct record record;
    struct buf input; // execute_input as JSON
};

int sqlite_row_read(struct sqlite_row *row, sqlite3_stmt *stmt); // RH_ENOMEM
void sqlite_row_fini(struct sqlite_row *row);

/* A column's bytes, until the next step; p NULL: null. */
struct span sqlite_column(sqlite3_stmt *stmt, enum record_field field);

#endif /* STORE_SQLITE_ROW_H */
