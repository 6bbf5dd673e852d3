/* msg_build.h - make a message of own and borrowed frames; private to wire
 *
 * One allocation: struct, frames, owners, bytes.  The caller fills frame[] (all
 * SPAN_NONE at first) and bytes, then says with msg_own whose frames he
 * borrowed.
 */
#ifndef WIRE_MSG_BUILD_H
#define WIRE_MSG_BUILD_H

#include "wire/msg.h"

/* NULL: out of memory or sizes that overflow.  *bytes: n_bytes to write to. */
struct msg *msg_build(size_t n, size_t max_owners, size_t n_bytes,
                      uint8_t **bytes);
/* Take a reference to 'owner' until the message dies; at most max_owners
 * calls.  Equal owners in a row count once.
 */
void msg_own(struct msg *self, struct msg *owner);

/* Copy 's' to *p and step over it; returns the copy. */
static inline struct span
msg_put(uint8_t **p, struct span s)
{
    struct span copy = {*p, s.n};

    if (s.n)
        memcpy(*p, s.p, s.n);
    *p += s.n;
    return copy;
}

#endif /* WIRE_MSG_BUILD_H */
