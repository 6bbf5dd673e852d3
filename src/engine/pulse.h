/* pulse.h - is the controller still there?
 *
 * Pings come every 'period'; each check asks whether one came since the check
 * before.  Pure: 'now' is passed in.
 */
#ifndef ENGINE_PULSE_H
#define ENGINE_PULSE_H

#include <stdbool.h>
#include <stdint.h>

#define PULSE_SLACK_MS 500

struct pulse {
    int64_t interval; // between checks
    int64_t due;      // next check; INT64_MAX: never
    int max_misses;
    int misses;
    bool seen; // a ping since the last check
};

/* max_misses 0: never give up. */
void pulse_init(struct pulse *self, int64_t period_ms, int max_misses,
                int64_t now);
void pulse_ping(struct pulse *self);
/* Call when 'now' has reached 'due'.  True: the controller is gone. */
bool pulse_check(struct pulse *self, int64_t now);

#endif /* ENGINE_PULSE_H */
