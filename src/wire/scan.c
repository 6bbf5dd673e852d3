/* scan.c - a strict JSON recognizer that keeps spans, not trees
 *
 * RFC 8259 and nothing more: no NaN, no comments, no trailing comma, UTF-8
 * must be well-formed and \u surrogates paired.  Nesting is a bit per level in
 * one word, so hostile depth costs nothing.  Numbers of any size pass; who
 * wants one as an int64 or double asks scan_int or scan_double.
 *
 * The cursor never passes 'end': every read is behind a check of p < end.
 */
#include "wire/scan.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/utf8.h"
#include "wire/number.h"

struct cursor {
    const uint8_t *p, *end;
};

static struct cursor
cursor_of(struct span s)
{
    const uint8_t *p = s.n ? s.p : (const uint8_t *)"";

    return (struct cursor){p, p + s.n};
}

static void
skip_space(struct cursor *c)
{
    while (c->p < c->end
           && (*c->p == ' ' || *c->p == '\n' || *c->p == '\r' || *c->p == '\t'))
        c->p++;
}

static bool
eat(struct cursor *c, char what)
{
    if (c->p == c->end || *c->p != (uint8_t)what)
        return false;
    c->p++;
    return true;
}

static int
hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hex digits at p (p + 4 <= end is checked here), or -1. */
static int
hex4(const struct cursor *c)
{
    int value = 0;

    if (c->end - c->p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_value(c->p[i]);

        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* After a backslash: step over the escape and tell what it stands for. */
static int64_t
read_escape(struct cursor *c)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found;
    int hi, lo;

    if (c->p == c->end)
        return -1;
    if (*c->p != 'u') {
        found = *c->p ? strchr(from, *c->p) : NULL;
        c->p++;
        return found ? to[found - from] : -1;
    }
    c->p++;
    hi = hex4(c);
    if (hi < 0 || (hi & 0xFC00) == 0xDC00)
        return -1;
    c->p += 4;
    if ((hi & 0xFC00) != 0xD800)
        return hi;
    if (!eat(c, '\\') || !eat(c, 'u'))
        return -1;
    lo = hex4(c);
    if (lo < 0 || (lo & 0xFC00) != 0xDC00)
        return -1;
    c->p += 4;
    return 0x10000 + ((int64_t)(hi & 0x3FF) << 10) + (lo & 0x3FF);
}

/* Step over bytes that mean themselves, many at a time while they last. */
static void
skip_plain(struct cursor *c)
{
    const uint64_t ones = 0x0101010101010101U, tops = ones << 7;

#ifdef __SSE2__
    while (c->end - c->p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)c->p);
        // Signed, bytes from 0x80 on are below 0x20 too.
        unsigned hit = (unsigned)_mm_movemask_epi8(
            _mm_or_si128(_mm_cmplt_epi8(v, _mm_set1_epi8(0x20)),
                         _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
                                      _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')))));

        if (hit) {
            c->p += __builtin_ctz(hit);
            return;
        }
        c->p += 16;
    }
#endif
    while (c->end - c->p >= 8) {
        uint64_t w, quote, slash;

        memcpy(&w, c->p, 8);
        quote = w ^ ones * '"';
        slash = w ^ ones * '\\';
        // A top bit is set for bytes that are >= 0x80, < 0x20, '"' or '\'
        // (and maybe for one above such a byte, which the loop below sorts).
        if ((w | (w - ones * 0x20) | (quote - ones) | (slash - ones)) & tops)
            break;
        c->p += 8;
    }
    while (c->p < c->end && *c->p >= 0x20 && *c->p < 0x80 && *c->p != '"'
           && *c->p != '\\')
        c->p++;
}

/* At the opening quote: step over the string. */
static bool
skip_string(struct cursor *c, bool *escapes)
{
    if (!eat(c, '"'))
        return false;
    for (;;) {
        size_t n;

        skip_plain(c);
        if (c->p == c->end || *c->p < 0x20)
            return false;
        if (*c->p == '"') {
            c->p++;
            return true;
        }
        if (*c->p == '\\') {
            c->p++;
            *escapes = true;
            if (read_escape(c) < 0)
                return false;
            continue;
        }
        n = utf8_len(c->p, (size_t)(c->end - c->p));
        if (n == 0)
            return false;
        c->p += n;
    }
}

static bool
skip_digits(struct cursor *c)
{
    const uint8_t *start = c->p;

    while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
        c->p++;
    return c->p > start;
}

static bool
skip_number(struct cursor *c, bool *real)
{
    *real = false;
    eat(c, '-');
    if (!eat(c, '0') && !skip_digits(c))
        return false;
    if (eat(c, '.')) {
        *real = true;
        if (!skip_digits(c))
            return false;
    }
    if (c->p < c->end && (*c->p == 'e' || *c->p == 'E')) {
        *real = true;
        c->p++;
        if (!eat(c, '+'))
            eat(c, '-');
        return skip_digits(c);
    }
    return true;
}

static bool
skip_word(struct cursor *c, const char *word, size_t n)
{
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
        return false;
    c->p += n;
    return true;
}

/* A value that is not a container. */
static bool
skip_scalar(struct cursor *c)
{
    bool ignored;

    if (c->p == c->end)
        return false;
    switch (*c->p) {
    case '"':
        return skip_string(c, &ignored);
    case 't':
        return skip_word(c, "true", 4);
    case 'f':
        return skip_word(c, "false", 5);
    case 'n':
        return skip_word(c, "null", 4);
    default:
        return skip_number(c, &ignored);
    }
}

/* Step over ': ' after a key. */
static bool
skip_key(struct cursor *c)
{
    bool ignored;

    if (!skip_string(c, &ignored))
        return false;
    skip_space(c);
    if (!eat(c, ':'))
        return false;
    skip_space(c);
    return true;
}

/* Step over one value, 'depth' levels below the top.  'open' has a bit for
 * each level that is open, the innermost lowest: 1 for an object.
 */
static bool
skip_value(struct cursor *c, int depth)
{
    int base = depth;
    uint64_t open = 0;

    for (;;) {
        bool object = c->p < c->end && *c->p == '{';

        // At the start of a value.
        if (object || (c->p < c->end && *c->p == '[')) {
            c->p++;
            if (++depth > SCAN_DEPTH)
                return false;
            open = open << 1 | object;
            skip_space(c);
            if (!eat(c, object ? '}' : ']')) {
                if (object && !skip_key(c))
                    return false;
                continue;
            }
            depth--;
            open >>= 1;
        } else if (!skip_scalar(c)) {
            return false;
        }
        // After a value: close what ends here, or go on to the next.
        for (;;) {
            if (depth == base)
                return true;
            skip_space(c);
            if (eat(c, ','))
                break;
            if (!eat(c, open & 1 ? '}' : ']'))
                return false;
            depth--;
            open >>= 1;
        }
        skip_space(c);
        if ((open & 1) && !skip_key(c))
            return false;
    }
}

/* Decode the escapes between the quotes; 'out' holds at least raw.n bytes, as
 * no escape is shorter than what it stands for.
 */
static size_t
unescape(struct span body, uint8_t *out)
{
    struct cursor c = cursor_of(body);
    size_t n = 0;

    while (c.p < c.end) {
        if (*c.p == '\\') {
            int64_t code;

            c.p++;
            code = read_escape(&c);
            if (code < 0)
                break; // cannot be: the string was checked
            n += utf8_put(out + n, (uint32_t)code);
        } else {
            out[n++] = *c.p++;
        }
    }
    return n;
}

static void
store(struct scan_field *field, size_t n, struct span key, struct span value)
{
    char first = key.n ? (char)key.p[0] : '\0';

    for (size_t i = 0; i < n; i++) {
        const char *want = field[i].key;

        if (want[0] == first && strlen(want) == key.n
            && memcmp(want, key.p, key.n) == 0) {
            field[i].value = value;
            return;
        }
    }
}

/* One "key": value at the top level. */
static bool
scan_member(struct cursor *c, struct scan_field *field, size_t n)
{
    uint8_t plain[256];
    const uint8_t *start = c->p;
    bool escapes = false;
    struct span key;

    if (!skip_string(c, &escapes))
        return false;
    key = span_of(start + 1, (size_t)(c->p - start) - 2);
    skip_space(c);
    if (!eat(c, ':'))
        return false;
    skip_space(c);
    start = c->p;
    if (!skip_value(c, 1))
        return false;
    if (escapes) {
        if (key.n > sizeof(plain))
            return true; // longer than any key that is asked for
        key = span_of(plain, unescape(key, plain));
    }
    store(field, n, key, span_of(start, (size_t)(c->p - start)));
    return true;
}

static bool
scan_members(struct cursor *c, struct scan_field *field, size_t n)
{
    skip_space(c);
    if (!eat(c, '{'))
        return false;
    skip_space(c);
    if (eat(c, '}'))
        return true;
    for (;;) {
        if (!scan_member(c, field, n))
            return false;
        skip_space(c);
        if (eat(c, '}'))
            return true;
        if (!eat(c, ','))
            return false;
        skip_space(c);
    }
}

int
scan_object(struct span json, struct scan_field *field, size_t n, rh_error *err)
{
    struct cursor c = cursor_of(json);

    for (size_t i = 0; i < n; i++)
        field[i].value = SPAN_NONE;
    if (json.n && scan_members(&c, field, n)) {
        skip_space(&c);
        if (c.p == c.end)
            return 0;
    }
    for (size_t i = 0; i < n; i++)
        field[i].value = SPAN_NONE;
    return rh_fail(err, RH_EPROTO, "not a JSON object: byte %zu of %zu",
                   json.n ? (size_t)(c.p - json.p) : 0, json.n);
}

int
scan_int(struct span raw, int64_t *out)
{
    struct cursor c = cursor_of(raw);
    bool negative = raw.n && raw.p[0] == '-', real;
    int64_t value = 0;

    if (!raw.n || !skip_number(&c, &real) || real || c.p != c.end)
        return RH_EPROTO;
    // Negative numbers have the longer range, so count downwards.
    for (const uint8_t *p = raw.p + negative; p < c.end; p++)
        if (__builtin_mul_overflow(value, 10, &value)
            || __builtin_sub_overflow(value, *p - '0', &value))
            return RH_EPROTO;
    if (!negative && value == INT64_MIN)
        return RH_EPROTO;
    *out = negative ? value : -value;
    return 0;
}

int
scan_double(struct span raw, double *out)
{
    struct cursor c = cursor_of(raw);
    char text[512]; // a double needs at most 17 digits; be generous
    double value;
    bool real;

    if (!raw.n || raw.n >= sizeof(text) || !skip_number(&c, &real)
        || c.p != c.end)
        return RH_EPROTO;
    memcpy(text, raw.p, raw.n);
    text[raw.n] = '\0';
    value = number_parse(text);
    if (value - value != 0) // infinite: too large
        return RH_EPROTO;
    *out = value;
    return 0;
}

int
scan_bool(struct span raw, bool *out)
{
    if (span_is(raw, "true"))
        *out = true;
    else if (span_is(raw, "false"))
        *out = false;
    else
        return RH_EPROTO;
    return 0;
}

bool
scan_is_null(struct span raw)
{
    return raw.n == 0 || span_is(raw, "null");
}

int
scan_string(struct span raw, struct buf *scratch, struct span *out)
{
    struct cursor c = cursor_of(raw);
    bool escapes = false;
    struct span body;

    if (!raw.n || !skip_string(&c, &escapes) || c.p != c.end)
        return RH_EPROTO;
    body = span_of(raw.p + 1, raw.n - 2);
    if (!escapes) {
        *out = body;
        return 0;
    }
    if (buf_reserve(scratch, body.n) < 0)
        return RH_ENOMEM;
    body.n = unescape(body, scratch->p + scratch->n);
    body.p = scratch->p + scratch->n;
    scratch->n += body.n;
    *out = body;
    return 0;
}

/* Go to the next element: past the bracket, or past a comma.  1, 0 at the end,
 * or a code.
 */
static int
next_element(struct cursor *c, size_t n, size_t pos, char open, char close)
{
    if (pos > n || n == 0)
        return RH_EPROTO;
    c->p += pos;
    if (pos == 0 && !eat(c, open))
        return RH_EPROTO;
    skip_space(c);
    if (eat(c, close))
        return 0; // *pos stays, so that asking again gives the same
    if (pos != 0 && !eat(c, ','))
        return RH_EPROTO;
    skip_space(c);
    return 1;
}

int
scan_next(struct span raw_array, size_t *pos, struct span *out)
{
    struct cursor c = cursor_of(raw_array);
    int rc = next_element(&c, raw_array.n, *pos, '[', ']');
    const uint8_t *start = c.p;

    if (rc <= 0)
        return rc;
    if (!skip_value(&c, 1))
        return RH_EPROTO;
    *out = span_of(start, (size_t)(c.p - start));
    *pos = (size_t)(c.p - raw_array.p);
    return 1;
}

int
scan_next_member(struct span raw_object, size_t *pos, struct span *key,
                 struct span *value)
{
    struct cursor c = cursor_of(raw_object);
    int rc = next_element(&c, raw_object.n, *pos, '{', '}');
    const uint8_t *start = c.p, *end;
    bool ignored;

    if (rc <= 0)
        return rc;
    if (!skip_string(&c, &ignored))
        return RH_EPROTO;
    end = c.p;
    skip_space(&c);
    if (!eat(&c, ':'))
        return RH_EPROTO;
    skip_space(&c);
    *key = span_of(start, (size_t)(end - start));
    start = c.p;
    if (!skip_value(&c, 1))
        return RH_EPROTO;
    *value = span_of(start, (size_t)(c.p - start));
    *pos = (size_t)(c.p - raw_object.p);
    return 1;
}

/* A string without escapes; absent or null gives an empty one. */
static int
plain_string(const struct scan_field *field, bool required, struct span *out,
             rh_error *err)
{
    struct cursor c = cursor_of(field->value);
    bool escapes = false;

    *out = SPAN_NONE;
    if (scan_is_null(field->value)) {
        if (required)
            return rh_fail(err, RH_EPROTO, "header has no %s", field->key);
        return 0;
    }
    if (!skip_string(&c, &escapes))
        return rh_fail(err, RH_EPROTO, "header: %s is not a string",
                       field->key);
    if (escapes)
        return rh_fail(err, RH_EPROTO, "header: %s contains escapes",
                       field->key);
    *out = span_of(field->value.p + 1, field->value.n - 2);
    if (required && out->n == 0)
        return rh_fail(err, RH_EPROTO, "header: %s is empty", field->key);
    return 0;
}

int
scan_header(struct span json, struct header_view *out, rh_error *err)
{
    struct header_view view;
    struct scan_field f[] = {{"msg_id", SPAN_NONE},
                             {"msg_type", SPAN_NONE},
                             {"session", SPAN_NONE},
                             {"date", SPAN_NONE},
                             {"version", SPAN_NONE}};
    int rc = scan_object(json, f, 5, err);

    if (rc < 0 || (rc = plain_string(&f[0], true, &view.msg_id, err)) < 0
        || (rc = plain_string(&f[1], true, &view.msg_type, err)) < 0
        || (rc = plain_string(&f[2], false, &view.session, err)) < 0
        || (rc = plain_string(&f[3], false, &view.date, err)) < 0
        || (rc = plain_string(&f[4], false, &view.version, err)) < 0)
        return rc;
    *out = view;
    return 0;
}
