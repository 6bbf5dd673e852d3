/* number.h - numbers and text, whatever the locale; private to wire */
#ifndef WIRE_NUMBER_H
#define WIRE_NUMBER_H

#include "base/buf.h"

#define NUMBER_SIZE 40        // enough for any double
#define NUMBER_BIG_BYTES 1024 // largest integer, in bytes

/* strtod of a whole valid number. */
double number_parse(const char *text);
/* The shortest text that reads back the same, with a '.' or an exponent, so
 * that it stays a float.  'value' must be finite.
 */
void number_format(double value, char out[NUMBER_SIZE]);

/* Append the decimal form of a little-endian two's complement integer of at
 * most NUMBER_BIG_BYTES.
 */
void number_add_big(struct buf *out, struct span le);
/* The shortest such integer for a decimal text; 'le' holds NUMBER_BIG_BYTES.
 * Returns its size, 0 if it is too large.
 */
size_t number_to_big(struct span decimal, uint8_t *le);

#endif /* WIRE_NUMBER_H */
