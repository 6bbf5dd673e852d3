/* msgpack.c - MessagePack to JSON text and back
 *
 * Straight recursion with a bound on depth.  Counts are compared with the bytes
 * that are left before they are believed; every element takes at least one.
 * Extension types have no JSON form and are refused.
 */
#include "wire/number.h"
#include "wire/pack_impl.h"
#include "wire/scan.h"

struct decoder {
    const uint8_t *start, *p, *end;
    struct buf *out;
    rh_error *err;
};

static int decode_value(struct decoder *d, int depth);

static int
broken(struct decoder *d, const char *what)
{
    rh_fail(d->err, RH_EPROTO, "msgpack: %s at byte %zu of %zu", what,
            (size_t)(d->p - d->start), (size_t)(d->end - d->start));
    return RH_EPROTO;
}

static size_t
left(const struct decoder *d)
{
    return (size_t)(d->end - d->p);
}

/* A big-endian number of n bytes. */
static int
take_number(struct decoder *d, size_t n, uint64_t *out)
{
    uint64_t value = 0;

    *out = 0;
    if (left(d) < n)
        return broken(d, "end inside a number");
    for (size_t i = 0; i < n; i++)
        value = value << 8 | *d->p++;
    *out = value;
    return 0;
}

static int
take_bytes(struct decoder *d, uint64_t n, struct span *out)
{
    *out = SPAN_NONE;
    if (left(d) < n)
        return broken(d, "end inside a string");
    *out = span_of(d->p, (size_t)n);
    d->p += n;
    return 0;
}

static int
decode_string(struct decoder *d, uint64_t n)
{
    struct span s;
    int rc = take_bytes(d, n, &s);

    if (rc == 0)
        buf_add_json_str(d->out, s);
    return rc;
}

static int
decode_bin(struct decoder *d, uint64_t n)
{
    struct span s;
    int rc = take_bytes(d, n, &s);

    if (rc == 0)
        pack_put_bytes(d->out, s);
    return rc;
}

/* May a container of n items, each at least 'width' bytes, begin here? */
static int
enter(struct decoder *d, uint64_t n, size_t width, int depth)
{
    if (depth > SCAN_DEPTH)
        return rh_fail(d->err, RH_ELIMIT, "msgpack: nested deeper than %d",
                       SCAN_DEPTH);
    if (n > left(d) / width)
        return broken(d, "container longer than the rest");
    return 0;
}

static int
decode_array(struct decoder *d, uint64_t n, int depth)
{
    int rc = enter(d, n, 1, depth);

    if (rc < 0)
        return rc;
    buf_add_char(d->out, '[');
    for (uint64_t i = 0; i < n; i++) {
        if (i > 0)
            buf_add_str(d->out, ", ");
        rc = decode_value(d, depth + 1);
        if (rc < 0)
            return rc;
    }
    buf_add_char(d->out, ']');
    return 0;
}

/* Scalars become strings, as Python's json does with keys. */
static int
decode_key(struct decoder *d)
{
    size_t at = d->out->n;
    uint8_t type = *d->p; // the caller saw that it is there
    int rc;

    if ((type >= 0x80 && type <= 0x9f) || (type >= 0xdc && type <= 0xdf))
        return broken(d, "a container as key");
    rc = decode_value(d, 0);
    if (rc == 0 && !d->out->failed && d->out->p[at] != '"') {
        buf_add_str(d->out, "\"\"");
        if (!d->out->failed) {
            memmove(d->out->p + at + 1, d->out->p + at, d->out->n - at - 2);
            d->out->p[at] = '"';
        }
    }
    return rc;
}

static int
decode_map(struct decoder *d, uint64_t n, int depth)
{
    int rc = enter(d, n, 2, depth);

    if (rc < 0)
        return rc;
    buf_add_char(d->out, '{');
    for (uint64_t i = 0; i < n; i++) {
        if (i > 0)
            buf_add_str(d->out, ", ");
        if (left(d) == 0)
            return broken(d, "end inside a map");
        rc = decode_key(d);
        buf_add_str(d->out, ": ");
        if (rc == 0)
            rc = decode_value(d, depth + 1);
        if (rc < 0)
            return rc;
    }
    buf_add_char(d->out, '}');
    return 0;
}

static int
decode_float(struct decoder *d, size_t n)
{
    uint64_t bits;
    uint32_t low;
    double value;
    float single;
    int rc = take_number(d, n, &bits);

    if (rc < 0)
        return rc;
    low = (uint32_t)bits;
    memcpy(&single, &low, sizeof(single));
    memcpy(&value, &bits, sizeof(value));
    pack_put_double(d->out, n == 4 ? (double)single : value);
    return 0;
}

static int
decode_int(struct decoder *d, size_t n, bool is_signed)
{
    uint64_t v;
    int rc = take_number(d, n, &v);
    int64_t i = n == 1   ? (int8_t)v
                : n == 2 ? (int16_t)v
                : n == 4 ? (int32_t)v
                         : (int64_t)v;

    if (rc < 0)
        return rc;
    if (is_signed)
        buf_add_fmt(d->out, "%lld", (long long)i);
    else
        buf_add_fmt(d->out, "%llu", (unsigned long long)v);
    return 0;
}

static size_t
length_width(uint8_t type)
{
    switch (type) {
    case 0xc4: // bin 8
    case 0xd9: // str 8
        return 1;
    case 0xc5: // bin 16
    case 0xda: // str 16
    case 0xdc: // array 16
    case 0xde: // map 16
        return 2;
    default:
        return 4;
    }
}

/* Types whose length is a number of its own after the type byte. */
static int
decode_sized(struct decoder *d, uint8_t type, int depth)
{
    uint64_t n;
    int rc = take_number(d, length_width(type), &n);

    if (rc < 0)
        return rc;
    if (type <= 0xc6)
        return decode_bin(d, n);
    if (type <= 0xdb)
        return decode_string(d, n);
    if (type <= 0xdd)
        return decode_array(d, n, depth);
    return decode_map(d, n, depth);
}

static int
decode_value(struct decoder *d, int depth)
{
    uint8_t type;

    if (left(d) == 0)
        return broken(d, "end instead of a value");
    type = *d->p++;
    if (type < 0x80 || type >= 0xe0) { // fixint, both signs
        d->p--;
        return decode_int(d, 1, true);
    }
    if (type < 0x90)
        return decode_map(d, type & 15, depth);
    if (type < 0xa0)
        return decode_array(d, type & 15, depth);
    if (type < 0xc0)
        return decode_string(d, type & 31);
    if (type == 0xc0 || type == 0xc2 || type == 0xc3) {
        buf_add_str(d->out, type == 0xc0   ? "null"
                            : type == 0xc2 ? "false"
                                           : "true");
        return 0;
    }
    if (type == 0xca || type == 0xcb)
        return decode_float(d, type == 0xca ? 4 : 8);
    if (type >= 0xcc && type <= 0xd3)
        return decode_int(d, (size_t)1 << (type & 3), type >= 0xd0);
    if ((type >= 0xc4 && type <= 0xc6) || type >= 0xd9)
        return decode_sized(d, type, depth);
    d->p--;
    return broken(d, "a type that has no JSON form");
}

int
msgpack_decode(struct span in, struct buf *out, rh_error *err)
{
    struct decoder d = {in.p, in.p, in.p + in.n, out, err};
    int rc;

    if (in.n == 0)
        return rh_fail(err, RH_EPROTO, "msgpack: nothing to unpack");
    if ((in.p[0] & 0xf0) != 0x80 && in.p[0] != 0xde && in.p[0] != 0xdf)
        return rh_fail(err, RH_EPROTO, "msgpack: not a map");
    rc = decode_value(&d, 1);
    if (rc == 0 && left(&d) > 0)
        return broken(&d, "more data");
    return rc;
}

struct encoder {
    struct buf *out;
    struct buf scratch; // strings without their escapes
    rh_error *err;
};

static int encode_value(struct encoder *e, struct span raw);

static void
put_type(struct buf *out, int type, uint64_t value, size_t n)
{
    uint8_t text[9] = {(uint8_t)type};

    for (size_t i = n; i > 0; i--, value >>= 8)
        text[i] = (uint8_t)value;
    buf_add(out, text, n + 1);
}

static int
encode_string(struct encoder *e, struct span raw)
{
    struct span s;

    buf_clear(&e->scratch);
    if (scan_string(raw, &e->scratch, &s) < 0)
        return RH_ENOMEM; // the text is valid
    if (s.n < 32)
        put_type(e->out, 0xa0 | (int)s.n, 0, 0);
    else if (s.n < 256)
        put_type(e->out, 0xd9, s.n, 1);
    else if (s.n < 65536)
        put_type(e->out, 0xda, s.n, 2);
    else
        put_type(e->out, 0xdb, s.n, 4);
    buf_add_span(e->out, s);
    return 0;
}

/* Digits beyond int64; MessagePack can take up to uint64. */
static int
encode_uint64(struct encoder *e, struct span raw)
{
    uint8_t le[NUMBER_BIG_BYTES];
    size_t n = number_to_big(raw, le);
    uint64_t value = 0;

    if (raw.p[0] == '-' || n != 9 || le[8] != 0)
        return rh_fail(e->err, RH_ELIMIT,
                       "integer '%.*s' does not fit MessagePack's 64 bits",
                       raw.n < 40 ? (int)raw.n : 40, (const char *)raw.p);
    memcpy(&value, le, sizeof(value));
    put_type(e->out, 0xcf, value, 8);
    return 0;
}

static int
encode_int(struct encoder *e, struct span raw)
{
    int64_t v;

    if (scan_int(raw, &v) < 0)
        return encode_uint64(e, raw);
    if (v >= -32 && v < 128)
        put_type(e->out, (int)(v & 0xff), 0, 0);
    else if (v >= INT16_MIN && v <= INT16_MAX)
        put_type(e->out, 0xd1, (uint64_t)v, 2);
    else if (v >= INT32_MIN && v <= INT32_MAX)
        put_type(e->out, 0xd2, (uint64_t)v, 4);
    else
        put_type(e->out, 0xd3, (uint64_t)v, 8);
    return 0;
}

static int
encode_real(struct encoder *e, struct span raw)
{
    uint64_t bits;
    double value;

    if (scan_double(raw, &value) < 0)
        return rh_fail(e->err, RH_ELIMIT, "number '%.*s' is no double",
                       raw.n < 40 ? (int)raw.n : 40, (const char *)raw.p);
    memcpy(&bits, &value, sizeof(bits));
    put_type(e->out, 0xcb, bits, 8);
    return 0;
}

/* The length goes in front but is known only at the end: write the widest
 * form and fill it in.  'at' is where the type byte stands.
 */
static void
fill_count(struct buf *out, size_t at, size_t n)
{
    for (size_t i = 4; i > 0 && !out->failed; i--, n >>= 8)
        out->p[at + i] = (uint8_t)n;
}

static int
encode_array(struct encoder *e, struct span raw)
{
    size_t pos = 0, n = 0, at = e->out->n;
    struct span item;
    int rc;

    put_type(e->out, 0xdd, 0, 4);
    for (; (rc = scan_next(raw, &pos, &item)) > 0; n++) {
        rc = encode_value(e, item);
        if (rc < 0)
            return rc;
    }
    fill_count(e->out, at, n);
    return rc;
}

static int
encode_object(struct encoder *e, struct span raw)
{
    size_t pos = 0, n = 0, at = e->out->n;
    struct span key, value;
    int rc;

    put_type(e->out, 0xdf, 0, 4);
    for (; (rc = scan_next_member(raw, &pos, &key, &value)) > 0; n++) {
        rc = encode_string(e, key);
        if (rc == 0)
            rc = encode_value(e, value);
        if (rc < 0)
            return rc;
    }
    fill_count(e->out, at, n);
    return rc;
}

/* Recursion is bounded: the text has passed scan_object. */
static int
encode_value(struct encoder *e, struct span raw)
{
    switch (pack_kind(raw)) {
    case JSON_NULL:
        put_type(e->out, 0xc0, 0, 0);
        return 0;
    case JSON_TRUE:
        put_type(e->out, 0xc3, 0, 0);
        return 0;
    case JSON_FALSE:
        put_type(e->out, 0xc2, 0, 0);
        return 0;
    case JSON_INT:
        return encode_int(e, raw);
    case JSON_REAL:
        return encode_real(e, raw);
    case JSON_STRING:
        return encode_string(e, raw);
    case JSON_ARRAY:
        return encode_array(e, raw);
    case JSON_OBJECT:
        break;
    }
    return encode_object(e, raw);
}

int
msgpack_encode(struct span json, struct buf *out, rh_error *err)
{
    struct encoder e = {.out = out, .err = err};
    int rc = encode_value(&e, json);

    buf_fini(&e.scratch);
    return rc == RH_ENOMEM ? rh_fail(err, rc, "out of memory packing") : rc;
}
