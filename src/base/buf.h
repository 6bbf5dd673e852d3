/* buf.h - a growable run of bytes
 *
 * A failed append latches 'failed' and leaves the content as it was, so a
 * sequence of appends is checked once, at its end.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>

#include "base/span.h"

struct buf {
    uint8_t *p;
    size_t n, cap;
    bool failed;
};

void buf_init(struct buf *self);  // same as zeroing it
void buf_fini(struct buf *self);  // frees; the buf may be used again
void buf_clear(struct buf *self); // keeps the memory, clears 'failed'
int buf_reserve(struct buf *self, size_t more); // RH_ENOMEM
void buf_add(struct buf *self, const void *p, size_t n);
void buf_add_str(struct buf *self, const char *s);
void buf_add_span(struct buf *self, struct span s);
void buf_add_char(struct buf *self, char c);
void buf_add_fmt(struct buf *self, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A JSON string literal, quotes included.  Bytes are taken as UTF-8; invalid
 * sequences become U+FFFD so that the result is always valid JSON.
 */
void buf_add_json_str(struct buf *self, struct span s);

static inline struct span
buf_span(const struct buf *self)
{
    return (struct span){self->p, self->n};
}

#endif /* BASE_BUF_H */
