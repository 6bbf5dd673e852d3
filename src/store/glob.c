/* glob.c - shell patterns as Python's fnmatch.fnmatchcase has them
 *
 * '*' backtracks to the last star only, which is enough for globs, so the cost
 * is pattern times text at worst.  '?' and sets match one character, not one
 * byte.  A '[' that is never closed stands for itself.
 */
#include "store/query.h"

/* One UTF-8 character at *i; bytes that are none count as one character. */
static uint32_t
next_char(struct span s, size_t *i)
{
    const uint8_t c = s.p[(*i)++];
    uint32_t code = c;
    size_t more = 0;

    if (c >= 0xc2 && c < 0xe0) {
        more = 1;
        code = c & 0x1f;
    } else if (c >= 0xe0 && c < 0xf0) {
        more = 2;
        code = c & 0x0f;
    } else if (c >= 0xf0 && c < 0xf5) {
        more = 3;
        code = c & 0x07;
    }
    if (more > s.n - *i)
        return c;
    for (size_t k = 0; k < more; k++)
        if ((s.p[*i + k] & 0xc0) != 0x80)
            return c;
    for (size_t k = 0; k < more; k++)
        code = code << 6 | (s.p[(*i)++] & 0x3f);
    return code;
}

/* Where the set that begins after '[' ends (index of ']'), or 0: it does not.
 * A ']' that comes first belongs to the set.
 */
static size_t
set_end(struct span pattern, size_t i)
{
    if (i < pattern.n && pattern.p[i] == '!')
        i++;
    if (i < pattern.n && pattern.p[i] == ']')
        i++;
    while (i < pattern.n && pattern.p[i] != ']')
        i++;
    return i < pattern.n ? i : 0;
}

static bool
set_has(struct span set, uint32_t c)
{
    const bool negated = set.n > 0 && set.p[0] == '!';
    bool found = false;
    size_t i = negated;

    while (i < set.n) {
        uint32_t low = next_char(set, &i), high = low;

        if (i + 1 < set.n && set.p[i] == '-') {
            i++;
            high = next_char(set, &i);
        }
        if (low <= c && c <= high)
            found = true;
    }
    return found != negated;
}

/* Match one element of the pattern (not '*') with one character. */
static bool
match_one(struct span pattern, size_t *pi, struct span text, size_t *ti)
{
    const size_t at = *pi;
    const uint32_t c = next_char(text, ti);
    size_t end;

    if (pattern.p[at] == '?') {
        *pi = at + 1;
        return true;
    }
    if (pattern.p[at] == '[' && (end = set_end(pattern, at + 1)) > 0) {
        *pi = end + 1;
        return set_has(span_of(pattern.p + at + 1, end - at - 1), c);
    }
    return next_char(pattern, pi) == c;
}

bool
glob_match(struct span pattern, struct span text)
{
    size_t pi = 0, ti = 0;
    size_t star = 0, from = 0; // after the last star; text it began to eat
    bool starred = false;

    while (ti < text.n) {
        if (pi < pattern.n && pattern.p[pi] == '*') {
            starred = true;
            star = ++pi;
            from = ti;
            continue;
        }
        if (pi < pattern.n && match_one(pattern, &pi, text, &ti))
            continue;
        if (!starred)
            return false;
        pi = star;
        (void)next_char(text, &from);
        ti = from;
    }
    while (pi < pattern.n && pattern.p[pi] == '*')
        pi++;
    return pi == pattern.n;
}
