/* compose.h - build and sign outgoing messages
 *
 * A sender is one identity on the wire: session id, user name, process and a
 * counter.  It keeps the constant part of its headers ready, so that a header
 * costs an id and a date.  One thread owns a sender.
 */
#ifndef WIRE_COMPOSE_H
#define WIRE_COMPOSE_H

#include "base/buf.h"
#include "wire/session.h"

#define MSG_ID_SIZE 128
#define PROTOCOL_VERSION "5.3"

struct sender {
    char session[80];
    char username[80];
    uint64_t counter;
    int pid;
    struct session *signer; // borrowed
    struct buf scratch;
    char fixed[256]; // the constant middle of every header
    size_t n_fixed;
};

/* 'session' NULL: a new random one.  RH_EINVAL if a name is too long or holds
 * characters that need JSON escapes.
 */
int sender_init(struct sender *self, struct session *signer,
                const char *session, const char *username, rh_error *err);
void sender_fini(struct sender *self);
void sender_next_id(struct sender *self, char msg_id[MSG_ID_SIZE]);

/* Append a header dict.  The message's id is the caller's. */
void compose_header(struct sender *self, struct buf *out, const char *msg_type,
                    const char *msg_id, int64_t wall_us);

struct draft {
    const struct span *ident; // routing frames
    size_t n_ident;
    const char *msg_type;
    const char *msg_id;   // NULL: the sender's next
    struct span parent;   // the request's header bytes; empty: {}
    struct span metadata; // packed; empty: {}
    struct span content;  // packed; empty: {}
    const struct span *buffer;
    struct msg *const *owner; // of each buffer, see msg_gather; NULL: copy all
    size_t n_buffers;
    int64_t wall_us; // date
};

/* A signed, parsed message with one reference. */
int compose(struct sender *self, const struct draft *draft, struct msg **out,
            rh_error *err);

/* The same message with another header (and metadata if not empty), re-signed;
 * frames that do not change are shared with 'm'.  'ident' replaces the routing
 * frames.  The broadcast relay needs it.
 */
int recompose(struct sender *self, struct msg *m, const struct span *ident,
              size_t n_ident, struct span header, struct span metadata,
              struct msg **out, rh_error *err);

#endif /* WIRE_COMPOSE_H */
