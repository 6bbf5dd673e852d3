/* pickle.c - JSON text to a pickle, protocol 4
 *
 * Plain data needs neither memo nor frames nor classes: the opcodes below are
 * all, and every Python 3 reads them.
 */
#include "wire/number.h"
#include "wire/pack_impl.h"
#include "wire/scan.h"

struct encoder {
    struct buf *out;
    struct buf scratch; // strings without their escapes
};

static int put_value(struct encoder *self, struct span raw, rh_error *err);

/* Opcode, then 'n' bytes of a little-endian number. */
static void
put_op(struct buf *out, int op, uint64_t value, size_t n)
{
    uint8_t text[9] = {(uint8_t)op};

    for (size_t i = 0; i < n; i++)
        text[i + 1] = (uint8_t)(value >> 8 * i);
    buf_add(out, text, n + 1);
}

static int
put_string(struct encoder *self, struct span raw)
{
    struct span s;

    buf_clear(&self->scratch);
    if (scan_string(raw, &self->scratch, &s) < 0)
        return RH_ENOMEM; // the text is valid
    if (s.n < 256)
        put_op(self->out, 0x8c, s.n, 1); // SHORT_BINUNICODE
    else
        put_op(self->out, 'X', s.n, 4); // BINUNICODE
    buf_add_span(self->out, s);
    return 0;
}

static int
put_int(struct encoder *self, struct span raw, rh_error *err)
{
    uint8_t le[NUMBER_BIG_BYTES];
    int64_t value;
    size_t n;

    if (scan_int(raw, &value) == 0 && value >= INT32_MIN
        && value <= INT32_MAX) {
        if (value >= 0 && value < 256)
            put_op(self->out, 'K', (uint64_t)value, 1); // BININT1
        else
            put_op(self->out, 'J', (uint64_t)value, 4); // BININT
        return 0;
    }
    n = number_to_big(raw, le);
    if (n == 0)
        return rh_fail(err, RH_ELIMIT, "integer of %zu digits is too large",
                       raw.n);
    if (n < 256)
        put_op(self->out, 0x8a, n, 1); // LONG1
    else
        put_op(self->out, 0x8b, n, 4); // LONG4
    buf_add(self->out, le, n);
    return 0;
}

static int
put_real(struct encoder *self, struct span raw, rh_error *err)
{
    uint8_t big_endian[9] = {'G'}; // BINFLOAT
    uint64_t bits;
    double value;

    if (scan_double(raw, &value) < 0)
        return rh_fail(err, RH_ELIMIT, "number '%.*s' is no double",
                       raw.n < 40 ? (int)raw.n : 40, (const char *)raw.p);
    memcpy(&bits, &value, sizeof(bits));
    for (int i = 8; i > 0; i--, bits >>= 8)
        big_endian[i] = (uint8_t)bits;
    buf_add(self->out, big_endian, sizeof(big_endian));
    return 0;
}

static int
put_array(struct encoder *self, struct span raw, rh_error *err)
{
    size_t pos = 0, n = 0;
    struct span item;
    int rc;

    buf_add_char(self->out, ']'); // EMPTY_LIST
    for (; (rc = scan_next(raw, &pos, &item)) > 0; n++) {
        if (n == 0)
            buf_add_char(self->out, '('); // MARK
        rc = put_value(self, item, err);
        if (rc < 0)
            return rc;
    }
    if (n > 0)
        buf_add_char(self->out, 'e'); // APPENDS
    return rc;
}

static int
put_object(struct encoder *self, struct span raw, rh_error *err)
{
    size_t pos = 0, n = 0;
    struct span key, value;
    int rc;

    buf_add_char(self->out, '}'); // EMPTY_DICT
    for (; (rc = scan_next_member(raw, &pos, &key, &value)) > 0; n++) {
        if (n == 0)
            buf_add_char(self->out, '('); // MARK
        rc = put_string(self, key);
        if (rc == 0)
            rc = put_value(self, value, err);
        if (rc < 0)
            return rc;
    }
    if (n > 0)
        buf_add_char(self->out, 'u'); // SETITEMS
    return rc;
}

/* Recursion is bounded: the text has passed scan_object. */
static int
put_value(struct encoder *self, struct span raw, rh_error *err)
{
    switch (pack_kind(raw)) {
    case JSON_NULL:
        buf_add_char(self->out, 'N');
        return 0;
    case JSON_TRUE:
        put_op(self->out, 0x88, 0, 0);
        return 0;
    case JSON_FALSE:
        put_op(self->out, 0x89, 0, 0);
        return 0;
    case JSON_INT:
        return put_int(self, raw, err);
    case JSON_REAL:
        return put_real(self, raw, err);
    case JSON_STRING:
        return put_string(self, raw);
    case JSON_ARRAY:
        return put_array(self, raw, err);
    case JSON_OBJECT:
        break;
    }
    return put_object(self, raw, err);
}

int
pickle_encode(struct span json, struct buf *out, rh_error *err)
{
    struct encoder self = {.out = out};
    int rc;

    put_op(out, 0x80, 4, 1); // PROTO 4
    rc = put_object(&self, json, err);
    buf_add_char(out, '.'); // STOP
    buf_fini(&self.scratch);
    return rc == RH_ENOMEM ? rh_fail(err, rc, "out of memory pickling") : rc;
}
