/* fault.c - refusals in the words of a Python exception
 *
 * Clients of every language read ename and evalue; the real ones compare
 * ename and print evalue, so both follow Python to the letter: str() of a
 * KeyError is the repr of its argument.
 */
#include "store/store.h"

#include <stdarg.h>
#include <stdio.h>

int
fault_set(struct fault *fault, int code, const char *ename, const char *fmt,
          ...)
{
    va_list ap;

    if (!fault)
        return code;
    fault->ename = ename;
    va_start(ap, fmt);
    (void)vsnprintf(fault->evalue, sizeof(fault->evalue), fmt, ap);
    va_end(ap);
    return code;
}

int
fault_key(struct fault *fault, int code, const char *fmt, ...)
{
    char text[sizeof(fault->evalue)];
    struct buf quoted = {0};
    va_list ap;

    if (!fault)
        return code;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fault_repr(&quoted, span_str(text));
    buf_add_char(&quoted, '\0');
    // Without memory for the quotes the bare text still says what is wrong.
    fault_set(fault, code, "KeyError", "%s",
              quoted.failed ? text : (const char *)quoted.p);
    buf_fini(&quoted);
    return code;
}

void
fault_repr(struct buf *out, struct span s)
{
    const bool single = s.n > 0 && memchr(s.p, '\'', s.n);
    const bool twice = s.n > 0 && memchr(s.p, '"', s.n);
    const char quote = single && !twice ? '"' : '\'';

    buf_add_char(out, quote);
    for (size_t i = 0; i < s.n; i++) {
        const uint8_t c = s.p[i];

        if (c == '\\' || c == (uint8_t)quote)
            buf_add_fmt(out, "\\%c", c);
        else if (c == '\n')
            buf_add_str(out, "\\n");
        else if (c == '\r')
            buf_add_str(out, "\\r");
        else if (c == '\t')
            buf_add_str(out, "\\t");
        else if (c < 0x20 || c == 0x7f)
            buf_add_fmt(out, "\\x%02x", c);
        else
            buf_add_char(out, (char)c);
    }
    buf_add_char(out, quote);
}
