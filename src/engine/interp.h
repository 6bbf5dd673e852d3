/* interp.h - what the engine needs from an interpreter
 *
 * The engine moves messages; running user code is behind this table, so that
 * the loop can be tested with a made-up interpreter and never learns what
 * Python is.  All functions but 'interrupt' are called from the thread in
 * engine_run, one at a time.
 */
#ifndef ENGINE_INTERP_H
#define ENGINE_INTERP_H

#include <stdbool.h>

#include "base/buf.h"
#include "wire/msg.h"
#include "wire/scan.h"

struct engine;

/* One request from the shell sockets, verified and parsed. */
struct job {
    struct msg *msg; // borrowed; take a reference to keep buffers
    struct header_view header;
};

enum outcome_status { OUTCOME_OK, OUTCOME_ERROR, OUTCOME_ABORTED };

/* What became of a job; the engine turns it into exactly one reply.
 *
 * content  members of the reply's content dict, without braces: in an error
 *          traceback, ename and evalue, else whatever belongs to the reply.
 *          The engine adds engine_info and status.
 */
struct outcome {
    enum outcome_status status;
    bool unmet;          // the error is UnmetDependency
    bool silent;         // no reply, as for comm messages
    bool own_status;     // content has a status member already
    bool abort_executes; // a failure that cancels the executes waiting
    struct buf content;
    struct span *buffer;
    struct msg **owner; // of each buffer; NULL entries are copied
    size_t n_buffers, cap_buffers;
};

void outcome_fini(struct outcome *self); // drops owners, frees
/* Append one buffer; takes '*owner' if it succeeds.  RH_ENOMEM. */
int outcome_add(struct outcome *self, struct span buffer, struct msg **owner);
/* Turn into an error with these texts, and an empty traceback. */
void outcome_fail(struct outcome *self, const char *ename, const char *evalue);

struct interp {
    void *ctx;
    /* The engine is registered: 'engine' may be used from now on.  A negative
     * result ends the engine.
     */
    int (*start)(void *ctx, struct engine *engine, rh_error *err);
    /* 'engine' is about to go: no thread may use it after this returns. */
    void (*stop)(void *ctx);
    /* Call a function.  Fails (RH_ENOMEM...) only if it could not even make
     * an error outcome.
     */
    int (*apply)(void *ctx, const struct job *job, struct outcome *out,
                 rh_error *err);
    /* Any other request.  RH_ENOENT: the type is unknown. */
    int (*request)(void *ctx, const struct job *job, struct outcome *out,
                   rh_error *err);
    int (*clear)(void *ctx, rh_error *err); // the namespace
    /* Between jobs, or when a signal came: pending work of the interpreter.
     * RH_EINTR: the user wants out.
     */
    int (*service)(void *ctx);
    /* Make the running code fail as if by Ctrl-C.  Any thread, and signal
     * handlers.
     */
    void (*interrupt)(void *ctx);
    /* Members (without braces) for kernel_info_reply; any thread; borrowed. */
    const char *kernel_info;
};

#endif /* ENGINE_INTERP_H */
