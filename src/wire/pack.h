/* pack.h - dicts packed otherwise than as JSON
 *
 * Inside Roundhouse the four dicts of a message are JSON.  A cluster whose
 * connection file names another packer is served by translating at the edge:
 * every value has the JSON form that the JSON packer would have given it
 * (bytes in base64, tuples and sets as lists, dates as ISO 8601 in UTC, keys as
 * strings).  Unpickling here builds data and nothing else: the few classes
 * that plain data needs are known by name, any other is refused.
 *
 * Packers are named as in connection files: "json", "orjson", "pickle",
 * "msgpack" or an import path such as "msgpack.packb".
 */
#ifndef WIRE_PACK_H
#define WIRE_PACK_H

#include <stdbool.h>

#include "base/buf.h"
#include "roundhouse/error.h"

/* True if packing is the identity, so that neither function below is needed. */
bool pack_is_json(const char *packer);

/* Is there such a packer?  RH_EINVAL names it and those there are. */
int pack_check(const char *packer, rh_error *err);

/* The packer a dict seems to be packed with, by its first bytes: "json",
 * "pickle" or "msgpack"; NULL if by none.
 */
const char *pack_guess(struct span dict);

/* Append the JSON text of a packed dict.  RH_EPROTO if it is malformed, no
 * dict, or holds what has no JSON form; RH_ELIMIT if it is too deep
 * (SCAN_DEPTH) or too large; RH_EINVAL for an unknown packer.  On failure 'out'
 * is as before (or failed, with RH_ENOMEM).
 */
int pack_decode(const char *packer, struct span in, struct buf *json_out,
                rh_error *err);

/* Append the packing of a JSON object; errors as above. */
int pack_encode(const char *packer, struct span json, struct buf *out,
                rh_error *err);

#endif /* WIRE_PACK_H */
