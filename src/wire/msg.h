/* msg.h - one multipart message
 *
 * An immutable array of frames with a reference count, shared between threads
 * without copying.  Where the bytes live is the business of whoever made the
 * message (net: ZeroMQ's buffers; msg_new: one allocation), reached through
 * 'destroy' only.
 *
 *   ident* "<IDS|MSG>" signature header parent_header metadata content buffer*
 */
#ifndef WIRE_MSG_H
#define WIRE_MSG_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/span.h"
#include "roundhouse/error.h"

#define MSG_DELIM "<IDS|MSG>"
#define MSG_NO_DELIM UINT32_MAX

/* Parts counted from the delimiter; buffers follow. */
enum msg_part {
    MSG_SIGNATURE = 1,
    MSG_HEADER,
    MSG_PARENT,
    MSG_METADATA,
    MSG_CONTENT,
    MSG_BUFFER0
};

struct msg {
    atomic_uint refs;
    uint32_t n;       // frames
    uint32_t i_delim; // set by msg_parse; MSG_NO_DELIM before
    struct span *frame;
    void (*destroy)(struct msg *self); // called when refs reaches 0
};

struct msg_limits {
    uint32_t max_idents;  // routing frames before the delimiter
    uint32_t max_buffers; // frames after content
    size_t max_ident;     // bytes in one routing frame
    size_t max_dict;      // bytes in each of the four packed dicts
};
extern const struct msg_limits msg_limits_default;

/* Copies frames into one allocation, one reference.  NULL: out of memory. */
struct msg *msg_new(const struct span *frame, size_t n);

/* Frames that borrow from other messages: what is in 'owner' (NULL entries
 * allowed) is referenced until this message dies; frames whose owner is NULL
 * are copied.  NULL: out of memory, no reference was taken.
 */
struct msg *msg_gather(const struct span *frame, struct msg *const *owner,
                       size_t n);

struct msg *msg_ref(struct msg *self); // returns self
void msg_unref(struct msg **self_p);   // NULL-safe, clears *self_p

/* Find the delimiter and check shape and sizes; sets i_delim.  RH_EPROTO or
 * RH_ELIMIT with a text naming the frame; the message is unchanged then.
 */
int msg_parse(struct msg *self, const struct msg_limits *limits, rh_error *err);

/* Only after a successful msg_parse. */
static inline struct span
msg_part(const struct msg *self, enum msg_part part)
{
    return self->frame[self->i_delim + (uint32_t)part];
}

static inline uint32_t
msg_n_buffers(const struct msg *self)
{
    return self->n - self->i_delim - MSG_BUFFER0;
}

static inline struct span
msg_buffer(const struct msg *self, uint32_t i)
{
    return self->frame[self->i_delim + MSG_BUFFER0 + i];
}

#endif /* WIRE_MSG_H */
