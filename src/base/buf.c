/* buf.c - a growable run of bytes
 *
 * Grows by half, so that appending n bytes one by one is O(n) and at most a
 * third of the memory is idle.
 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "roundhouse/error.h"

void
buf_init(struct buf *self)
{
    *self = (struct buf){0};
}

void
buf_fini(struct buf *self)
{
    mem_free(self->p);
    buf_init(self);
}

void
buf_clear(struct buf *self)
{
    self->n = 0;
    self->failed = false;
}

static int
grow(struct buf *self, size_t more)
{
    size_t need = self->n + more; // checked by the caller
    size_t cap = self->cap < 64 ? 64 : self->cap;
    uint8_t *p;

    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap + cap / 2;
    p = mem_resize(self->p, cap, 1);
    if (!p) {
        self->failed = true;
        return RH_ENOMEM;
    }
    self->p = p;
    self->cap = cap;
    return 0;
}

int
buf_reserve(struct buf *self, size_t more)
{
    if (self->failed)
        return RH_ENOMEM;
    if (more <= self->cap - self->n)
        return 0;
    if (more > SIZE_MAX - self->n) {
        self->failed = true;
        return RH_ENOMEM;
    }
    return grow(self, more);
}

void
buf_add(struct buf *self, const void *p, size_t n)
{
    if (n == 0 || buf_reserve(self, n) < 0)
        return;
    memcpy(self->p + self->n, p, n);
    self->n += n;
}

void
buf_add_str(struct buf *self, const char *s)
{
    buf_add(self, s, strlen(s));
}

void
buf_add_span(struct buf *self, struct span s)
{
    buf_add(self, s.p, s.n);
}

void
buf_add_char(struct buf *self, char c)
{
    buf_add(self, &c, 1);
}

void
buf_add_fmt(struct buf *self, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        self->failed = true;
        return;
    }
    if (buf_reserve(self, (size_t)n + 1) < 0) // vsnprintf wants the NUL
        return;
    va_start(ap, fmt);
    vsnprintf((char *)self->p + self->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    self->n += (size_t)n;
}

static void
add_escape(struct buf *self, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    static const char from[] = "\"\\\b\f\n\r\t";
    static const char to[] = "\"\\bfnrt";
    const char *short_form = c ? strchr(from, c) : NULL;
    char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

    if (short_form) {
        text[1] = to[short_form - from];
        buf_add(self, text, 2);
    } else {
        buf_add(self, text, 6);
    }
}

void
buf_add_json_str(struct buf *self, struct span s)
{
    size_t i = 0, start = 0, before = self->n;

    buf_add_char(self, '"');
    while (i < s.n) {
        size_t n;

        if (s.p[i] >= 0x20 && s.p[i] < 0x80 && s.p[i] != '"'
            && s.p[i] != '\\') {
            i++;
            continue;
        }
        n = s.p[i] < 0x80 ? 0 : utf8_len(s.p + i, s.n - i);
        if (n > 0) {
            i += n;
            continue;
        }
        // An escape or a broken byte: flush the plain run before it.
        buf_add(self, s.p + start, i - start);
        if (s.p[i] < 0x80)
            add_escape(self, s.p[i]);
        else
            buf_add(self, "\xef\xbf\xbd", 3);
        start = ++i;
    }
    buf_add(self, s.p + start, i - start);
    buf_add_char(self, '"');
    if (self->failed)
        self->n = before; // never half a literal
}
