/* private.h - what backends share: typed access to a record's fields */
#ifndef STORE_PRIVATE_H
#define STORE_PRIVATE_H

#include <jansson.h>

#include "store/store.h"

/* Any JSON value as a tree.  RH_EPROTO (error->text says why) or RH_ENOMEM. */
int json_tree(json_t **out, struct span text, json_error_t *error);

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
