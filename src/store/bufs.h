/* bufs.h - a pickled list of bytes, as upstream's SQLite column holds buffers
 *
 * The only pickle the store reads or writes.  Reading knows the handful of
 * operations that such a list consists of and refuses every other.
 */
#ifndef STORE_BUFS_H
#define STORE_BUFS_H

#include "store/store.h"

/* Append the pickle of a message's buffers; nothing if it has none. */
void bufs_pack(struct buf *out, const struct msg *m);

/* The items, borrowed from 'pickle'; *out is freed with mem_free.  RH_EPROTO:
 * not a list of bytes; RH_ENOMEM.
 */
int bufs_unpack(struct span pickle, struct span **out, size_t *n);

#endif /* STORE_BUFS_H */
