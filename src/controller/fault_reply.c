/* fault_reply.c - see fault_reply.h */
#include "controller/fault_reply.h"

#include <stdio.h>

void
fault_content(struct buf *out, const char *ename, struct span evalue)
{
    struct buf line;

    buf_init(&line);
    buf_add_fmt(&line, "%s: ", ename);
    buf_add_span(&line, evalue);
    buf_add_char(&line, '\n');
    buf_add_str(out, "{\"status\": \"error\", \"traceback\": [");
    buf_add_json_str(out, buf_span(&line));
    buf_add_fmt(out, "], \"ename\": \"%s\", \"evalue\": ", ename);
    buf_add_json_str(out, evalue);
    buf_add_str(out, ", \"engine_info\": {}}");
    if (line.failed)
        out->failed = true;
    buf_fini(&line);
}

int
fault_reply_type(struct span type, char *out, size_t cap)
{
    const struct span tail = SPAN_LIT("_request");
    size_t n = type.n - tail.n;

    if (type.n <= tail.n || n + sizeof("_reply") > cap
        || memcmp(type.p + n, tail.p, tail.n) != 0)
        return RH_ENOENT;
    snprintf(out, cap, "%.*s_reply", (int)n, (const char *)type.p);
    return 0;
}

int
fault_reply_new(struct sender *sender, const struct fault_reply *fault,
                struct msg **out, rh_error *err)
{
    char type[64];
    struct buf content;
    struct draft draft = {
        .ident = fault->ident,
        .n_ident = fault->n_ident,
        .msg_type = type,
        .parent = fault->parent,
        .metadata = fault->metadata,
        .wall_us = fault->wall_us,
    };
    int rc = fault_reply_type(fault->msg_type, type, sizeof(type));

    if (rc < 0)
        return rh_fail(err, rc, "a message that is no request");
    buf_init(&content);
    fault_content(&content, fault->ename, fault->evalue);
    draft.content = buf_span(&content);
    rc = content.failed ? rh_fail(err, RH_ENOMEM, "composing an error reply")
                        : compose(sender, &draft, out, err);
    buf_fini(&content);
    return rc;
}
