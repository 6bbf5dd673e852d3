/* aborts.h - requests that shall not run when they are reached
 *
 * Ids arrive on the control connection, usually before their request is
 * reached, sometimes after it has run.  Nothing tells the two apart for sure,
 * so ids stay until reached or until newer ones push them out.
 */
#ifndef ENGINE_ABORTS_H
#define ENGINE_ABORTS_H

#include "base/map.h"
#include "roundhouse/error.h"

#define ABORTS_MAX 262144

struct aborts {
    struct map by_id;
    struct abort_entry *oldest, *newest;
};

void aborts_init(struct aborts *self);
void aborts_fini(struct aborts *self);
int aborts_add(struct aborts *self, struct span msg_id); // RH_ENOMEM
/* True, once, if this id was added. */
bool aborts_take(struct aborts *self, struct span msg_id);

#endif /* ENGINE_ABORTS_H */
