/* private.h - what backends share: typed access to a record's fields */
#ifndef STORE_PRIVATE_H
#define STORE_PRIVATE_H

#include "store/store.h"

/* A field of kind TEXT: its bytes, borrowed from the record or the end of
 * 'scratch'; p NULL: null.
 */
struct span record_text(const struct record *self, enum record_field field,
                        struct buf *scratch);
/* A field of kind DICT or MAYBE: raw JSON; empty: null. */
struct span record_raw(const struct record *self, enum record_field field);
/* A field of kind DATE; RECORD_NO_DATE: null. */
int64_t record_date(const struct record *self, enum record_field field);

#endif /* STORE_PRIVATE_H */
