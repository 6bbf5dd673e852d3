/* reply.h - the dicts of a reply; pure */
#ifndef ENGINE_REPLY_H
#define ENGINE_REPLY_H

#include "engine/interp.h"

struct reply_facts {
    const char *uuid;
    int64_t id;
    int64_t started_us;
    const char *method; // "apply", "execute": for engine_info in errors
    bool quiet;         // nothing was published for this request
};

/* Metadata of a reply: what the scheduler, the hub and clients look at.  What
 * the request's metadata asks to be echoed is; odd values of it are ignored.
 */
void reply_metadata(struct buf *out, const struct reply_facts *facts,
                    struct span request_metadata, const struct outcome *result);
/* Does the client know that a quiet reply is the end of the output? */
bool reply_may_be_quiet(struct span request_metadata);
/* Content of a reply. */
void reply_content(struct buf *out, const struct reply_facts *facts,
                   const struct outcome *result);
void reply_engine_info(struct buf *out, const struct reply_facts *facts);
/* A whole content dict for an error the engine itself found. */
void reply_error(struct buf *out, const struct reply_facts *facts,
                 const char *ename, const char *evalue);
/* "apply_request" to "apply_reply".  RH_ELIMIT. */
int reply_type(char *out, size_t cap, struct span request_type);

#endif /* ENGINE_REPLY_H */
