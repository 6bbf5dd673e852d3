/* scan.h - read a few keys of a JSON object in place
 *
 * The hot path needs msg_id, msg_type and a handful of metadata keys of each
 * message.  One pass, no tree, no allocation; the whole object is checked for
 * shape and depth, so what passes here parses elsewhere too.
 */
#ifndef WIRE_SCAN_H
#define WIRE_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"
#include "roundhouse/error.h"

#define SCAN_DEPTH 64

struct scan_field {
    const char *key;
    struct span value; // raw JSON text of the value; n == 0: absent
};

/* Fill in the fields found at the top level (the last of equal keys counts,
 * as in Python).  RH_EPROTO with the offset if 'json' is not one object.
 */
int scan_object(struct span json, struct scan_field *field, size_t n,
                rh_error *err);

/* Raw values to C.  RH_EPROTO if the value is of another type. */
int scan_int(struct span raw, int64_t *out);
int scan_double(struct span raw, double *out); // integers allowed
int scan_bool(struct span raw, bool *out);
bool scan_is_null(struct span raw); // absent counts as null
/* Content of a string.  Borrowed from 'raw' when it has no escapes, else
 * decoded to the end of 'scratch' (UTF-8), which must outlive *out.
 */
int scan_string(struct span raw, struct buf *scratch, struct span *out);
/* Elements of an array: *pos starts at 0; 1 and *out raw, 0 at the end. */
int scan_next(struct span raw_array, size_t *pos, struct span *out);
/* The same for the members of an object; '*key' is a raw string. */
int scan_next_member(struct span raw_object, size_t *pos, struct span *key,
                     struct span *value);

/* The header keys every receiver needs; borrowed from 'json'.  RH_EPROTO when
 * msg_id or msg_type is missing or empty, or when any of the five is not a
 * string or contains escapes.  The other three may be absent (empty spans):
 * old peers leave them out.
 */
struct header_view {
    struct span msg_id, msg_type, session, date, version;
};
int scan_header(struct span json, struct header_view *out, rh_error *err);

#endif /* WIRE_SCAN_H */
