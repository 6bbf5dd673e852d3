/* scheduler.c - questions that only the task scheduler can answer
 *
 * The hub knows who ran what; where a waiting task is, and how to take it out
 * again, is the scheduler's business.  What is asked is checked here, so that
 * the scheduler only sees lists of ids.
 */
#include "base/mem.h"
#include "hub/private.h"

int
hub_on_task_request(struct hub *self, const struct request *req,
                    struct reply *rep, struct fault *fault)
{
    struct span *id;
    rh_error err = {0};
    size_t n;
    int rc = content_ids(req, "msg_ids", true, &id, &n, fault);

    if (rc < 0)
        return rc;
    mem_free(id);
    if (!self->port.ask_scheduler)
        return fault_set(fault, RH_ESTATE, "NotImplementedError",
                         "this controller has no task scheduler to ask");
    rc = self->port.ask_scheduler(self->port.ctx, req->m, &err);
    if (rc < 0)
        return fault_set(fault, rc, "MemoryError", "%s", err.text);
    rep->kept = true;
    return 0;
}
