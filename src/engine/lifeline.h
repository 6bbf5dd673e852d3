/* lifeline.h - a plain connection that the kernel closes when we die
 *
 * Offered by our controller in the registration reply: {"version": 1,
 * "lifeline": {"port": P, "token": hex}}.  We send one line,
 * "RHLIFE1 <uuid> <token>\n", and hold the connection; a clean end is
 * announced by "EXIT <reason>\n".  Children do not inherit it.
 */
#ifndef ENGINE_LIFELINE_H
#define ENGINE_LIFELINE_H

#include <stdbool.h>

#include "base/span.h"
#include "roundhouse/error.h"

/* From the value of the reply's key "roundhouse".  RH_ENOENT: none offered;
 * RH_EPROTO: not understood.  'token' holds at least 129 bytes.
 */
int lifeline_offer(struct span offer, int *port, char *token);

/* Connect to the host of 'url' ("tcp://host:port"); the descriptor, or a
 * failure.  Waits at most 'timeout_ms'.
 */
int lifeline_open(const char *url, int port, const char *token,
                  const char *uuid, int timeout_ms, rh_error *err);
/* The other end is closed: there is no controller any more.  False if 'fd' is
 * -1.
 */
bool lifeline_is_broken(int fd);
/* Say why and close; *fd becomes -1.  'reason' NULL: close silently. */
void lifeline_close(int *fd, const char *reason);

#endif /* ENGINE_LIFELINE_H */
