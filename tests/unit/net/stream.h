/* stream.h - the bytes a peer sends, for tests of src/net */
#ifndef TESTS_NET_STREAM_H
#define TESTS_NET_STREAM_H

#include "net/zmtp.h"

static inline void
add_greeting(struct buf *out)
{
    buf_add(out, zmtp_greeting, ZMTP_GREETING);
}

static inline void
add_frame(struct buf *out, uint8_t flags, struct span body)
{
    uint8_t header[ZMTP_HEADER_MAX];

    buf_add(out, header, zmtp_put_header(header, flags, body.n));
    buf_add_span(out, body);
}

static inline void
add_command(struct buf *out, const char *body)
{
    add_frame(out, ZMTP_COMMAND, span_str(body));
}

/* All that a peer sends before its first message. */
static inline void
add_hello(struct buf *out, enum net_type type, const char *identity)
{
    add_greeting(out);
    zmtp_add_ready(out, type, span_str(identity));
}

/* A message of the frames up to a NULL. */
static inline void
add_message(struct buf *out, const char *const *frame)
{
    for (; *frame; frame++)
        add_frame(out, frame[1] ? ZMTP_MORE : 0, span_str(*frame));
}

#define ADD_MESSAGE(out, ...) \
    add_message(out, (const char *const[]){__VA_ARGS__, NULL})

#endif /* TESTS_NET_STREAM_H */
