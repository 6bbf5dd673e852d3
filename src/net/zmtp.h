/* zmtp.h - the bytes of ZeroMQ's transport protocol, version 3 (RFC 37); PURE
 *
 * greeting (64 bytes each way), a READY command each way, then frames:
 *
 *     flags, size (1 byte, or 8 with ZMTP_LONG), body
 *
 * Only the NULL mechanism: encrypted sockets are left to libzmq.
 */
#ifndef NET_ZMTP_H
#define NET_ZMTP_H

#include "base/buf.h"
#include "net/net.h"

#define ZMTP_GREETING 64
#define ZMTP_HEADER_MAX 9
#define ZMTP_COMMAND_MAX 4096 // bytes; READY with its longest names is 600

enum { ZMTP_MORE = 1, ZMTP_LONG = 2, ZMTP_COMMAND = 4 };

struct zmtp_frame {
    uint8_t flags;
    uint8_t n_header; // bytes before the body
    uint64_t size;    // of the body
};

extern const uint8_t zmtp_greeting[ZMTP_GREETING];

/* What has arrived of the peer's greeting: RH_EAGAIN if it is right so far,
 * 0 if it is complete, RH_EPROTO with a text.
 */
int zmtp_check_greeting(const uint8_t *p, size_t n, rh_error *err);

/* Writes at most ZMTP_HEADER_MAX bytes; their number. */
size_t zmtp_put_header(uint8_t *out, uint8_t flags, uint64_t size);
/* RH_EAGAIN: not all there; RH_EPROTO with a text. */
int zmtp_get_header(const uint8_t *p, size_t n, struct zmtp_frame *out,
                    rh_error *err);

/* A whole READY frame. */
void zmtp_add_ready(struct buf *out, enum net_type type, struct span identity);
/* The body of a peer's READY command for a socket of 'type'.  '*identity' lies
 * in 'body'; empty if the peer has none.  RH_EPROTO with a text.
 */
int zmtp_read_ready(struct span body, enum net_type type, struct span *identity,
                    rh_error *err);
/* The context that a PING wants back; false: 'body' is no PING. */
bool zmtp_is_ping(struct span body, struct span *context);

#endif /* NET_ZMTP_H */
