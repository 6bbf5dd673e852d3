/* isodate.h - ISO 8601 dates as the protocol writes them; pure */
#ifndef BASE_ISODATE_H
#define BASE_ISODATE_H

#include <stdint.h>

#include "base/span.h"

#define ISODATE_SIZE 28 // "2026-11-20T22:56:05.030017Z" and a NUL

void isodate_format(int64_t wall_us, char out[ISODATE_SIZE]);
/* YYYY-MM-DDTHH:MM:SS[.f{1,6}][Z|+HH[:]MM|-HH[:]MM]; no zone counts as UTC.
 * RH_EPROTO if it is not one.
 */
int isodate_parse(struct span s, int64_t *wall_us);

#endif /* BASE_ISODATE_H */
