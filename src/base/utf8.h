/* utf8.h - one UTF-8 sequence */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length of the well-formed sequence at p (1 to 4, at most n), or 0.  Overlong
 * forms, surrogates and anything above U+10FFFF are not well-formed.
 */
size_t utf8_len(const uint8_t *p, size_t n);

/* Encode a code point (at most 0x10FFFF); returns the length. */
size_t utf8_put(uint8_t out[4], uint32_t code);

#endif /* BASE_UTF8_H */
