/* isodate_test.c - against the C library, there and back, and refusals */
#include "support.h"

#include <stdio.h>
#include <time.h>

#include "base/isodate.h"

#define FIRST INT64_C(-62135596800000000)
#define LAST INT64_C(253402300799999999)

static void
test_round_trip_and_agreement_with_gmtime(void **state)
{
    // An odd step, so that every field takes every value.
    const int64_t step = INT64_C(86399999999) * 13 + 777777;

    (void)state;
    for (int64_t us = FIRST; us < LAST - step; us += step) {
        char text[ISODATE_SIZE], want[64];
        int64_t back, floor_s = us / 1000000, rest = us % 1000000;
        struct tm tm;
        time_t t;

        if (rest < 0) {
            rest += 1000000;
            floor_s--;
        }
        t = (time_t)floor_s;
        gmtime_r(&t, &tm);
        snprintf(want, sizeof(want), "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                 tm.tm_min, tm.tm_sec, (int)rest);
        isodate_format(us, text);
        assert_string_equal(text, want);
        assert_int_equal(isodate_parse(span_str(text), &back), 0);
        assert_int_equal(back, us);
    }
}

static void
test_dates_beyond_the_format_are_clamped(void **state)
{
    char text[ISODATE_SIZE];

    (void)state;
    isodate_format(INT64_MIN, text);
    assert_string_equal(text, "0001-01-01T00:00:00.000000Z");
    isodate_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
    isodate_format(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999999Z");
}

// clang-format off
static const struct {
    const char *text;
    int64_t us;
} accepted[] = {
    { "1970-01-01T00:00:00Z",                    0 },
    { "1970-01-01T00:00:00",                     0 },
    { "1970-01-01T00:00:00.5",              500000 },
    { "1970-01-01T00:00:00.000001",              1 },
    { "1970-01-01T00:00:00.12345Z",         123450 },
    { "1970-01-01T01:00:00+01:00",               0 },
    { "1970-01-01T01:30:00.000000+0130",         0 },
    { "1969-12-31T19:00:00-05:00",               0 },
    { "2026-11-20T22:56:05.030017Z", INT64_C(1795215365030017) },
    { "2026-11-20T22:56:05.030017+00:00", INT64_C(1795215365030017) },
    { "2000-02-29T00:00:00Z", INT64_C(951782400000000) },
};

static const char *const refused[] = {
    "", "1970", "1970-01-01", "1970-01-01T00:00", "1970-01-01 00:00:00",
    "1970-01-01T00:00:00.", "1970-01-01T00:00:00.1234567Z",
    "1970-01-01T00:00:00z", "1970-01-01T00:00:00Zx", "1970-01-01T00:00:00+",
    "1970-01-01T00:00:00+1", "1970-01-01T00:00:00+01", "1970-01-01T00:00:00+24:00",
    "1970-01-01T00:00:00+01:60", "1970-01-01T00:00:00+01:0", "1970-01-01T24:00:00Z",
    "1970-01-01T00:60:00Z", "1970-01-01T00:00:60Z", "1970-00-01T00:00:00Z",
    "1970-13-01T00:00:00Z", "1970-01-00T00:00:00Z", "1970-01-32T00:00:00Z",
    "1970-04-31T00:00:00Z", "1900-02-29T00:00:00Z", "2001-02-29T00:00:00Z",
    "0000-01-01T00:00:00Z", "+970-01-01T00:00:00Z", "1970-1-01T00:00:00Z",
    " 1970-01-01T00:00:00Z", "1970-01-01T00:00:00 Z",
};
// clang-format on

static void
test_forms(void **state)
{
    int64_t us;

    (void)state;
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        us = -12345;
        assert_int_equal(isodate_parse(span_str(accepted[i].text), &us), 0);
        assert_int_equal(us, accepted[i].us);
    }
    us = 77;
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (isodate_parse(span_str(refused[i]), &us) != RH_EPROTO)
            fail_msg("accepted '%s'", refused[i]);
        assert_int_equal(us, 77);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_and_agreement_with_gmtime),
        cmocka_unit_test(test_dates_beyond_the_format_are_clamped),
        cmocka_unit_test(test_forms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
