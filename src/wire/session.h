/* session.h - signing, checking and replay protection
 *
 * The signature is the lowercase hex HMAC of the four packed dicts' exact
 * bytes (buffers are not signed).  An empty key switches all checks off, as
 * the protocol has it.  One session belongs to one thread; the keyed context
 * is made once and only re-armed per message.
 */
#ifndef WIRE_SESSION_H
#define WIRE_SESSION_H

#include "wire/msg.h"

#define SESSION_HEX_MAX 128 // sha512

struct session;

/* 'scheme' is "hmac-sha256", or "hmac-" and any digest OpenSSL knows.
 * RH_EINVAL names an unknown scheme.
 */
int session_new(struct session **out, struct span key, const char *scheme,
                rh_error *err);
void session_free(struct session **self_p);

/* Hex signature of header, parent, metadata, content; not terminated.
 * Returns its length, 0 when unsigned, or a negative code.
 */
int session_sign(struct session *self, const struct span part[4],
                 char hex[SESSION_HEX_MAX]);

/* Constant-time comparison; parses nothing.  RH_EAUTH. */
int session_verify(struct session *self, const struct msg *m, rh_error *err);

/* session_verify, then remember the signature: RH_EREPLAY the second time.
 * The memory holds 65536 signatures and forgets the oldest tenth.
 */
int session_admit(struct session *self, const struct msg *m, rh_error *err);

/* The message, admitted before, may be admitted once more: it was not acted
 * upon.
 */
void session_forget(struct session *self, const struct msg *m);

#endif /* WIRE_SESSION_H */
