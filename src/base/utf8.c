/* utf8.c - one UTF-8 sequence, by the table of the Unicode standard (3-7) */
#include "base/utf8.h"

#include <stdbool.h>

static bool
tail(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return false;
    return true;
}

size_t
utf8_len(const uint8_t *p, size_t n)
{
    uint8_t lo = 0x80, hi = 0xBF; // what the second byte may be
    size_t len;

    if (n == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return 0;
    len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (p[0] == 0xE0)
        lo = 0xA0; // overlong
    else if (p[0] == 0xED)
        hi = 0x9F; // surrogates
    else if (p[0] == 0xF0)
        lo = 0x90; // overlong
    else if (p[0] == 0xF4)
        hi = 0x8F; // above U+10FFFF
    if (n < len || p[1] < lo || p[1] > hi || !tail(p + 2, len - 2))
        return 0;
    return len;
}

size_t
utf8_put(uint8_t out[4], uint32_t code)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xC0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xE0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (code & 0x3F));
    return 4;
}
