/* fuzz_scan.c - the JSON scanner against jansson
 *
 * Input: JSON text.  Properties: every span lies inside the input; the scanner
 * and jansson accept the same texts and read the same values.  The documented
 * differences: jansson refuses numbers beyond its types and NUL in keys, and
 * overlooks a NUL byte after a number; the scanner refuses depth beyond
 * SCAN_DEPTH.
 */
#include "fuzz.h"

#include <jansson.h>

#include "base/mem.h"
#include "wire/scan.h"

static const char *const key[] = {"msg_id",  "msg_type", "session", "date",
                                  "version", "a",        ""};

#define N_KEYS (sizeof(key) / sizeof(key[0]))

static bool
inside(struct span part, struct span whole)
{
    return part.n == 0
           || (part.p >= whole.p && part.n <= whole.n
               && part.p - whole.p <= (ptrdiff_t)(whole.n - part.n));
}

static int
depth_of(json_t *value)
{
    int deepest = 0, d;
    const char *name;
    json_t *item;
    size_t i;

    if (!json_is_array(value) && !json_is_object(value))
        return 0;
    json_array_foreach(value, i, item)
    {
        d = depth_of(item);
        deepest = d > deepest ? d : deepest;
    }
    json_object_foreach(value, name, item)
    {
        d = depth_of(item);
        deepest = d > deepest ? d : deepest;
    }
    return deepest + 1;
}

static void
check_array(struct span raw, json_t *want)
{
    size_t pos = 0, n = 0;
    struct span item;
    int rc;

    for (; (rc = scan_next(raw, &pos, &item)) > 0; n++)
        HOLDS(inside(item, raw));
    HOLDS(rc == (json_is_array(want) ? 0 : RH_EPROTO));
    HOLDS(n == json_array_size(want));
}

static void
check_object(struct span raw, json_t *want)
{
    struct span name, item;
    size_t pos = 0, n = 0;
    int rc;

    for (; (rc = scan_next_member(raw, &pos, &name, &item)) > 0; n++)
        HOLDS(inside(name, raw) && inside(item, raw));
    HOLDS(rc == (json_is_object(want) ? 0 : RH_EPROTO));
    HOLDS(n >= json_object_size(want)); // equal keys count once there
}

static void
check_value(struct span raw, json_t *want)
{
    struct buf scratch = {0};
    struct span s;
    int64_t i;
    double d;
    bool b;

    HOLDS((scan_int(raw, &i) == 0) == json_is_integer(want));
    HOLDS(!json_is_integer(want) || i == json_integer_value(want));
    HOLDS((scan_double(raw, &d) == 0) == json_is_number(want)
          || raw.n > 500); // as long a number it does not take
    HOLDS(!json_is_real(want) || raw.n > 500 || d == json_real_value(want));
    HOLDS((scan_bool(raw, &b) == 0) == json_is_boolean(want));
    HOLDS(!json_is_boolean(want) || b == json_is_true(want));
    HOLDS(scan_is_null(raw) == json_is_null(want));
    HOLDS((scan_string(raw, &scratch, &s) == 0) == json_is_string(want));
    if (json_is_string(want)) {
        HOLDS(inside(s, raw) || inside(s, buf_span(&scratch)));
        HOLDS(span_eq(
            s, span_of(json_string_value(want), json_string_length(want))));
    }
    buf_fini(&scratch);
    check_array(raw, want);
    check_object(raw, want);
}

static void
check_header(struct span in, bool accepted)
{
    struct header_view v;

    if (scan_header(in, &v, NULL) < 0)
        return;
    HOLDS(accepted && v.msg_id.n && v.msg_type.n);
    HOLDS(inside(v.msg_id, in) && inside(v.msg_type, in)
          && inside(v.session, in) && inside(v.date, in)
          && inside(v.version, in));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = mem_dup(data, size); // of exact size, for the sanitizer
    struct span in = span_of(copy, size);
    struct scan_field field[N_KEYS];
    json_error_t why = {0};
    json_t *root = json_loadb((char *)copy, size, JSON_ALLOW_NUL, &why);
    enum json_error_code code = json_error_code(&why);
    int rc;

    for (size_t i = 0; i < N_KEYS; i++)
        field[i] = (struct scan_field){key[i], SPAN_NONE};
    rc = scan_object(in, field, N_KEYS, NULL);
    HOLDS(rc == 0 || rc == RH_EPROTO);
    if (rc == 0)
        HOLDS(root || code == json_error_numeric_overflow
              || code == json_error_null_byte_in_key);
    else if (json_is_object(root))
        HOLDS(depth_of(root) > SCAN_DEPTH || memchr(copy, 0, size));
    for (size_t i = 0; i < N_KEYS; i++) {
        json_t *want = json_object_get(root, key[i]);

        HOLDS(inside(field[i].value, in));
        if (rc == 0 && root)
            HOLDS((field[i].value.n > 0) == (want != NULL));
        if (rc == 0 && want)
            check_value(field[i].value, want);
    }
    check_header(in, rc == 0);
    json_decref(root);
    mem_free(copy);
    return 0;
}
