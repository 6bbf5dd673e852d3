/* pack.c - which packer a name means, and what all packers share */
#include "wire/pack.h"

#include "wire/number.h"
#include "wire/pack_impl.h"
#include "wire/scan.h"

struct packer {
    const char *name;
    int (*decode)(struct span in, struct buf *out, rh_error *err);
    int (*encode)(struct span json, struct buf *out, rh_error *err);
};

/* No functions: the identity. */
// clang-format off
static const struct packer packer[] = {
    { "json",    NULL,           NULL           },
    { "orjson",  NULL,           NULL           },
    { "pickle",  pickle_decode,  pickle_encode  },
    { "msgpack", msgpack_decode, msgpack_encode },
};
// clang-format on

/* By name, or by the module of an import path. */
static const struct packer *
find(const char *name)
{
    for (size_t i = 0; i < sizeof(packer) / sizeof(packer[0]); i++) {
        size_t n = strlen(packer[i].name);

        if (strncmp(name, packer[i].name, n) == 0
            && (name[n] == '\0' || (name[n] == '.' && name[n + 1])))
            return &packer[i];
    }
    return NULL;
}

bool
pack_is_json(const char *name)
{
    const struct packer *p = find(name);

    return p && !p->decode;
}

int
pack_check(const char *name, rh_error *err)
{
    return find(name)
               ? 0
               : rh_fail(err, RH_EINVAL,
                         "packer '%.64s' is unknown; use json, pickle or "
                         "msgpack",
                         name);
}

static int
run(int (*fn)(struct span, struct buf *, rh_error *), struct span in,
    struct buf *out, rh_error *err)
{
    size_t before = out->n;
    int rc = 0;

    if (in.n > PACK_MAX_BYTES)
        return rh_fail(err, RH_ELIMIT, "dict of %zu bytes, limit %u", in.n,
                       PACK_MAX_BYTES);
    if (fn)
        rc = fn(in, out, err);
    else
        buf_add_span(out, in);
    if (out->failed)
        rc = rh_fail(err, RH_ENOMEM, "out of memory for a dict of %zu bytes",
                     in.n);
    if (rc < 0)
        out->n = before;
    return rc;
}

const char *
pack_guess(struct span dict)
{
    uint8_t first = dict.n ? dict.p[0] : 0;

    if (first == '{')
        return "json";
    if (first == 0x80 && dict.n > 1) // PROTO, and the newest is 5
        return dict.p[1] <= 5 ? "pickle" : NULL;
    return (first & 0xf0) == 0x80 || first == 0xde || first == 0xdf ? "msgpack"
                                                                    : NULL;
}

int
pack_decode(const char *name, struct span in, struct buf *out, rh_error *err)
{
    const struct packer *p = find(name);
    const char *other = pack_guess(in);
    rh_error why = {.text = ""}; // want of memory may have none
    int rc;

    if (!p)
        return pack_check(name, err);
    rc = run(p->decode, in, out, &why);
    if (rc == RH_EPROTO && other && strcmp(other, p->name) != 0)
        return rh_fail(err, rc, "%.200s; it looks like %s", why.text, other);
    return rc < 0 ? rh_fail(err, rc, "%s", why.text) : rc;
}

int
pack_encode(const char *name, struct span json, struct buf *out, rh_error *err)
{
    const struct packer *p = find(name);

    if (!p)
        return pack_check(name, err);
    if (p->encode && json.n <= PACK_MAX_BYTES) {
        // The encoders walk the text and rely on it being valid.
        if (scan_object(json, NULL, 0, err) < 0)
            return RH_EPROTO;
        for (; json.p[0] != '{'; json.n--)
            json.p++; // white space
    }
    return run(p->encode, json, out, err);
}

void
pack_put_bytes(struct buf *out, struct span s)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz0123456789+/";

    if (buf_reserve(out, s.n / 3 * 4 + 6) < 0)
        return;
    buf_add_char(out, '"');
    for (size_t i = 0; i < s.n; i += 3) {
        size_t left = s.n - i;
        uint32_t v = (uint32_t)s.p[i] << 16
                     | (left > 1 ? (uint32_t)s.p[i + 1] << 8 : 0)
                     | (left > 2 ? s.p[i + 2] : 0);
        char four[4] = {digit[v >> 18], digit[v >> 12 & 63],
                        left > 1 ? digit[v >> 6 & 63] : '=',
                        left > 2 ? digit[v & 63] : '='};

        buf_add(out, four, 4);
    }
    buf_add_char(out, '"');
}

void
pack_put_double(struct buf *out, double value)
{
    char text[NUMBER_SIZE];

    if (value != value) {
        buf_add_str(out, "\"nan\"");
    } else if (value - value != 0) {
        buf_add_str(out, value < 0 ? "\"-inf\"" : "\"inf\"");
    } else {
        number_format(value, text);
        buf_add_str(out, text);
    }
}

enum json_kind
pack_kind(struct span raw)
{
    switch (raw.p[0]) {
    case 'n':
        return JSON_NULL;
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    case '"':
        return JSON_STRING;
    case '[':
        return JSON_ARRAY;
    case '{':
        return JSON_OBJECT;
    default:
        break;
    }
    for (size_t i = 0; i < raw.n; i++)
        if (raw.p[i] == '.' || raw.p[i] == 'e' || raw.p[i] == 'E')
            return JSON_REAL;
    return JSON_INT;
}
