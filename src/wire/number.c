/* number.c - numbers and text, whatever the locale
 *
 * Programs that embed us may set a locale with a decimal comma; the wire knows
 * only the point.  Large integers are rare (Python has no others, though), so
 * the quadratic school methods are good enough within their limit.
 */
#include "wire/number.h"

#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define LIMBS (NUMBER_BIG_BYTES / 4)

static locale_t c_locale;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

double
number_parse(const char *text)
{
    pthread_once(&once, make_c_locale);
    return c_locale ? strtod_l(text, NULL, c_locale) : strtod(text, NULL);
}

void
number_format(double value, char out[NUMBER_SIZE])
{
    locale_t old = (locale_t)0;

    pthread_once(&once, make_c_locale);
    if (c_locale)
        old = uselocale(c_locale);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, NUMBER_SIZE, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            break;
    }
    if (old)
        uselocale(old);
    if (!strpbrk(out, ".e"))
        memcpy(out + strlen(out), ".0", 3);
}

/* v = v / by; returns the remainder. */
static uint32_t
divide(uint32_t *v, size_t n, uint32_t by)
{
    uint64_t rest = 0;

    while (n-- > 0) {
        rest = rest << 32 | v[n];
        v[n] = (uint32_t)(rest / by);
        rest %= by;
    }
    return (uint32_t)rest;
}

/* v = v * by + plus; returns what did not fit. */
static uint32_t
multiply(uint32_t *v, size_t n, uint32_t by, uint32_t plus)
{
    uint64_t carry = plus;

    for (size_t i = 0; i < n; i++) {
        carry += (uint64_t)v[i] * by;
        v[i] = (uint32_t)carry;
        carry >>= 32;
    }
    return (uint32_t)carry;
}

static void
negate(uint32_t *v, size_t n)
{
    uint64_t carry = 1;

    for (size_t i = 0; i < n; i++) {
        carry += (uint32_t)~v[i];
        v[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

void
number_add_big(struct buf *out, struct span le)
{
    // One limb more, so that the sign of the lowest value has room.
    uint32_t v[LIMBS + 1], n = LIMBS + 1;
    char text[NUMBER_BIG_BYTES * 5 / 2 + 16], *p = text + sizeof(text);
    bool negative = le.n && (le.p[le.n - 1] & 0x80);

    memset(v, negative ? 0xFF : 0, sizeof(v));
    for (size_t i = 0; i < le.n; i++) {
        v[i / 4] &= ~(UINT32_C(0xFF) << i % 4 * 8);
        v[i / 4] |= (uint32_t)le.p[i] << i % 4 * 8;
    }
    if (negative)
        negate(v, n);
    while (n > 1 && v[n - 1] == 0)
        n--;
    while (n > 1 || v[0] != 0) {
        uint32_t group = divide(v, n, 1000000000);

        while (n > 1 && v[n - 1] == 0)
            n--;
        for (int i = 0; i < 9 && (n > 1 || v[0] != 0 || group != 0); i++) {
            *--p = (char)('0' + group % 10);
            group /= 10;
        }
    }
    if (p == text + sizeof(text))
        *--p = '0';
    if (negative)
        *--p = '-';
    buf_add(out, p, (size_t)(text + sizeof(text) - p));
}

size_t
number_to_big(struct span decimal, uint8_t *le)
{
    bool negative = decimal.n && decimal.p[0] == '-';
    uint32_t v[LIMBS] = {0};
    size_t n = NUMBER_BIG_BYTES;
    uint8_t fill;

    if (decimal.n > NUMBER_BIG_BYTES * 5 / 2)
        return 0;
    for (size_t i = negative; i < decimal.n; i++)
        if (multiply(v, LIMBS, 10, (uint32_t)(decimal.p[i] - '0')) != 0)
            return 0;
    if (v[LIMBS - 1] & 0x80000000u)
        return 0; // the sign bit is spoken for
    if (negative)
        negate(v, LIMBS);
    for (size_t i = 0; i < n; i++)
        le[i] = (uint8_t)(v[i / 4] >> i % 4 * 8);
    // Drop bytes that only repeat the sign.
    fill = le[n - 1] & 0x80 ? 0xFF : 0;
    while (n > 1 && le[n - 1] == fill && (le[n - 2] & 0x80) == (fill & 0x80))
        n--;
    return n;
}
