/* pulse.c - counting missed pings */
#include "engine/pulse.h"

void
pulse_init(struct pulse *self, int64_t period_ms, int max_misses, int64_t now)
{
    *self = (struct pulse){
        .interval = period_ms + PULSE_SLACK_MS,
        .due = max_misses > 0 ? now + period_ms + PULSE_SLACK_MS : INT64_MAX,
        .max_misses = max_misses,
        // The first ping may be a whole period away.
        .seen = true,
    };
}

void
pulse_ping(struct pulse *self)
{
    self->seen = true;
}

bool
pulse_check(struct pulse *self, int64_t now)
{
    if (now < self->due)
        return false;
    // A machine that slept does not owe the pings of that time.
    self->due = now + self->interval;
    if (self->seen) {
        self->seen = false;
        self->misses = 0;
        return false;
    }
    self->misses++;
    return self->misses >= self->max_misses;
}
