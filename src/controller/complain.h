/* complain.h - log lines that a stranger can cause, at a bounded rate
 *
 * At most ten lines per ten seconds and topic; then one that says how many
 * were left out.  One thread owns a complain.
 */
#ifndef CONTROLLER_COMPLAIN_H
#define CONTROLLER_COMPLAIN_H

#include <stdint.h>

#include "wire/msg.h"

struct complain {
    const char *topic;   // static: "mux", "task", ...
    int64_t window_ms;   // start of the current ten seconds
    unsigned n, dropped; // lines in it, written and not
};

void complain(struct complain *self, int64_t now, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Same at level debug: what happens in ordinary operation too. */
void complain_quietly(struct complain *self, int64_t now, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Why a parsed message may have been refused with 'rc': what the peer seems to
 * use instead of our key, scheme of signatures or packer.  A static text; NULL
 * if there is nothing to say.
 */
const char *refusal_hint(const struct msg *m, int rc, const char *scheme);

/* A parsed message was refused with 'rc': whose it was, and the hint; what late
 * replies make every day (RH_ENOENT) quietly.
 */
void complain_refusal(struct complain *self, int64_t now, const char *what,
                      const struct msg *m, int rc, const rh_error *err,
                      const char *scheme);

#endif /* CONTROLLER_COMPLAIN_H */
