/* span.h - a borrowed run of bytes; says nothing about who owns them */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *p;
    size_t n;
};

#define SPAN_LIT(s) ((struct span){(const uint8_t *)(s), sizeof(s) - 1})
#define SPAN_INIT(s)                        \
    {                                       \
        (const uint8_t *)(s), sizeof(s) - 1 \
    } // in static tables
#define SPAN_NONE ((struct span){NULL, 0})

static inline struct span
span_of(const void *p, size_t n)
{
    return (struct span){(const uint8_t *)p, n};
}

static inline struct span
span_str(const char *s)
{
    return (struct span){(const uint8_t *)s, s ? strlen(s) : 0};
}

static inline bool
span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool
span_is(struct span a, const char *s)
{
    return span_eq(a, span_str(s));
}

#endif /* BASE_SPAN_H */
