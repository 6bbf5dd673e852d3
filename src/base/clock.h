/* clock.h - the only place that reads time
 *
 * Pure cores (sched, hub) never include it: they are given 'now'.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
int64_t clock_wall_us(void); // since the Unix epoch, UTC

#endif /* BASE_CLOCK_H */
