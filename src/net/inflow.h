/* inflow.h - from the bytes of one connection to whole messages
 *
 * Bytes are read where inflow_room says: into a scratch area that all
 * connections of a socket share, or straight into the memory of a large frame.
 * Small frames are copied once, together, into the message they end up in, so
 * that a message that is kept for long keeps nothing else alive.
 */
#ifndef NET_INFLOW_H
#define NET_INFLOW_H

#include "net/zmtp.h"

#define INFLOW_SCRATCH 65536
/* A frame above this is read into memory of its own. */
#define INFLOW_BULK 16384

struct inflow_port {
    void *ctx;
    int (*ready)(void *ctx, struct span body, rh_error *err); // READY's body
    /* Frames 1 to n; place 0 is free for the receiver's use.  Those without an
     * owner have to be copied.
     */
    void (*message)(void *ctx, struct span *frame, struct msg **owner,
                    size_t n);
    void (*dropped)(void *ctx, int code); // RH_ELIMIT, RH_ENOMEM
    void (*ping)(void *ctx, struct span context);
};

struct inflow {
    bool greeted, ready;
    bool skipping; // the rest of a message that was dropped
    uint32_t max_frames;
    int64_t max_size; // of a frame; 0: no limit
    struct buf rest;  // a frame or greeting that has begun
    // The message that has begun, frames from 1 on; those without an owner are
    // in scratch.
    struct span *frame;
    struct msg **owner;
    size_t n, cap;
    // A large frame on its way.
    struct msg *bulk;
    uint8_t *bulk_at;
    size_t bulk_left;
    bool bulk_more;
};

void inflow_init(struct inflow *self, uint32_t max_frames, int64_t max_size);
void inflow_fini(struct inflow *self);
/* For a new connection: forget what has begun. */
void inflow_reset(struct inflow *self);

/* Where to read to, and how much at most. */
uint8_t *inflow_room(struct inflow *self, uint8_t *scratch, size_t *n);
/* 'n' bytes were read there.  A failure ends the connection. */
int inflow_take(struct inflow *self, uint8_t *scratch, size_t n,
                const struct inflow_port *port, rh_error *err);

#endif /* NET_INFLOW_H */
