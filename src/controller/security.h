/* security.h - keys, connection files, and what is kept of earlier ones */
#ifndef CONTROLLER_SECURITY_H
#define CONTROLLER_SECURITY_H

#include <stdbool.h>

#include "base/buf.h"
#include "controller/options.h"
#include "controller/profile.h"
#include "net/net.h"
#include "wire/connfile.h"

/* The connection files of an earlier run; usable only if both are there and
 * agree.
 */
struct earlier {
    bool usable;
    struct connfile client, engine;
};
void earlier_read(struct earlier *self, const struct profile *profile);

/* The HMAC key: of the earlier run, from --keyfile, as set, or none with
 * CURVE.  RH_EINVAL, RH_EIO.
 */
int security_key(const struct settings *s, const struct earlier *earlier,
                 char key[sizeof(((struct connfile *)0)->key)], rh_error *err);

/* Complete the CURVE keys: as set, or new ones.  RH_EINVAL says what is wrong
 * with them, or that this ZeroMQ has no CURVE.
 */
int security_curve(const struct settings *s, struct net_curve *curve,
                   rh_error *err);

/* Write both files, or none. */
int security_write_files(const struct profile *profile,
                         const struct connfile *client,
                         const struct connfile *engine, rh_error *err);
void security_remove_files(const struct profile *profile);

/* The engine file's addresses as a JSON object, without the key. */
void security_connection_info(const struct connfile *engine, struct buf *out);

/* A whole file of at most 'max' bytes.  RH_ENOENT, RH_EIO, RH_ELIMIT. */
int read_file(const char *path, size_t max, struct buf *out, rh_error *err);

#endif /* CONTROLLER_SECURITY_H */
