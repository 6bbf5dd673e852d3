/* fault_reply.h - error replies that the controller makes itself */
#ifndef CONTROLLER_FAULT_REPLY_H
#define CONTROLLER_FAULT_REPLY_H

#include "base/buf.h"
#include "wire/compose.h"

/* The protocol's error fields, with an empty engine_info. */
void fault_content(struct buf *out, const char *ename, struct span evalue);

/* "apply_reply" for "apply_request": RH_ENOENT if 'type' is no request. */
int fault_reply_type(struct span type, char *out, size_t cap);

struct fault_reply {
    const struct span *ident;
    size_t n_ident;
    struct span msg_type; // of the request
    struct span parent;   // the request's header
    struct span metadata; // packed; empty: {}
    const char *ename;
    struct span evalue;
    int64_t wall_us;
};

int fault_reply_new(struct sender *sender, const struct fault_reply *fault,
                    struct msg **out, rh_error *err);

#endif /* CONTROLLER_FAULT_REPLY_H */
