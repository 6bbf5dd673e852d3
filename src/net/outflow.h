/* outflow.h - messages on their way to one connection, in order
 *
 * Small frames are copied into one block with their headers; large ones are
 * referenced until they are written.  Everything that waits goes out in as few
 * system calls as possible.
 */
#ifndef NET_OUTFLOW_H
#define NET_OUTFLOW_H

#include "net/zmtp.h"

struct outflow {
    struct outmsg *head, **tail; // tail: where the next one is hung up
    size_t n_bytes;              // that wait
};

void outflow_init(struct outflow *self);
void outflow_fini(struct outflow *self);

/* As net_send has it.  RH_ENOMEM: nothing was added. */
int outflow_add(struct outflow *self, const struct span *prefix,
                size_t n_prefix, struct msg *m, uint32_t first);
/* Bytes that are a frame already. */
int outflow_add_raw(struct outflow *self, struct span bytes);

/* 0: all is written; RH_EAGAIN: the rest has to wait; RH_ENET: broken. */
int outflow_write(struct outflow *self, int fd);
/* For a new connection: a message of which only a part went out goes again. */
void outflow_rewind(struct outflow *self);

static inline bool
outflow_empty(const struct outflow *self)
{
    return !self->head;
}

#endif /* NET_OUTFLOW_H */
