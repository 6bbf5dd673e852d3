/* shm.h - large buffers between processes of one host, without the socket
 *
 * A controller keeps a directory of files in /dev/shm.  A peer that can open
 * it, and so is on the same host and has the same user, gets a mailbox there.
 * A buffer travels as a file: the sender copies its bytes in, the message
 * carries a ticket in the frame's place, the receiver maps the file read-only.
 * Whatever does not work out goes through the socket as it always did, and the
 * functions here that send say so by doing nothing.
 *
 * A struct shm may be used by any thread, and NULL is a peer without one.
 */
#ifndef NET_SHM_H
#define NET_SHM_H

#include "base/buf.h"
#include "net/net.h"
#include "wire/session.h"

/* Smaller buffers travel faster through the socket. */
#define SHM_MIN ((size_t)256 * 1024)
#define SHM_TICKET_SIZE 192

struct shm;

/* The controller's; sweeps what dead controllers left. */
int shm_host(struct shm **out, rh_error *err);
/* , "shm": {...}: a further member of an offer; nothing if 'self' is NULL. */
void shm_offer(const struct shm *self, struct buf *out);
/* A peer's: take up the offer in 'extensions' (the raw value of "roundhouse")
 * under the name that requests carry as session, or engines as uuid.
 * RH_ENOENT: there is none, or it is for another host or user.
 */
int shm_join(struct shm **out, struct span extensions, struct span name,
             rh_error *err);
/* Remove the mailbox, or the directory: from now on nothing goes this way.
 * What is mapped stays valid.
 */
void shm_close(struct shm *self);
void shm_leave(struct shm **self_p); // closes, and lets go

/* Put the buffers that are large enough into files and tickets, which are
 * kept in 'tickets', in their place; lets go of their owners.
 */
void shm_put(struct shm *self, struct span *buffer, struct msg **owner,
             size_t n, struct buf *tickets);
/* The message with these tickets was not sent. */
void shm_put_back(struct shm *self, const struct buf *tickets);
/* One frame with a copy of 'bytes' that shm_put needs not copy again.  NULL:
 * not possible now, use the bytes themselves.
 */
struct msg *shm_share(struct shm *self, struct span bytes);

/* Replace '*m', parsed, by the message with the bytes.  With a 'session' it is
 * verified first, if there is anything to replace.  RH_EAUTH, RH_ENOENT,
 * RH_EPROTO, RH_ENOMEM: '*m' is as it was, but its files may be gone.
 */
int shm_take(struct shm *self, struct session *session, struct msg **m,
             rh_error *err);

/* net_send for the controller: buffers that came as files go on as files if
 * 'peer' has a mailbox.  An empty 'peer' stands for the session in the
 * message's parent header, which is the client that a reply is for.
 */
int shm_send(struct shm *self, struct span peer, struct net_sock *sock,
             const struct span *prefix, size_t n_prefix, struct msg *m,
             uint32_t first, rh_error *err);

/* Let go of files kept for reuse; returns when to call again (monotonic us,
 * INT64_MAX: not until shm_put was called).
 */
int64_t shm_trim(struct shm *self, int64_t now_us);
/* The controller's: remove what dead peers left.  Every few seconds. */
void shm_sweep(struct shm *self);

#endif /* NET_SHM_H */
