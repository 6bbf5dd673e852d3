/* pack_impl.h - what the packers share; private to wire */
#ifndef WIRE_PACK_IMPL_H
#define WIRE_PACK_IMPL_H

#include "base/buf.h"
#include "roundhouse/error.h"

#define PACK_MAX_BYTES (64u << 20) // in or out

// Each appends to 'out', which pack.c restores on failure.
int pickle_decode(struct span in, struct buf *out, rh_error *err);
int pickle_encode(struct span json, struct buf *out, rh_error *err);
int msgpack_decode(struct span in, struct buf *out, rh_error *err);
int msgpack_encode(struct span json, struct buf *out, rh_error *err);

/* Base64 in quotes. */
void pack_put_bytes(struct buf *out, struct span bytes);
/* As Python prints it; what JSON cannot express becomes "nan", "inf", "-inf" in
 * quotes.
 */
void pack_put_double(struct buf *out, double value);

/* What a raw JSON value is, by its first byte; 'raw' must be valid. */
enum json_kind {
    JSON_NULL,
    JSON_TRUE,
    JSON_FALSE,
    JSON_INT,
    JSON_REAL,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};
enum json_kind pack_kind(struct span raw);

#endif /* WIRE_PACK_IMPL_H */
