/* utf8_test.c - every code point there and back, and nothing else */
#include "support.h"

#include <stdbool.h>

#include "base/utf8.h"

static void
test_every_code_point_round_trips(void **state)
{
    (void)state;
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        uint8_t p[4];
        size_t n = utf8_put(p, code);
        bool surrogate = code >= 0xD800 && code <= 0xDFFF;

        assert_int_equal(utf8_len(p, n), surrogate ? 0 : n);
        if (n > 1) // cut short it is not well-formed
            assert_int_equal(utf8_len(p, n - 1), 0);
    }
}

/* Counting the well-formed sequences of each length proves that nothing but
 * the code points is accepted.
 */
static void
test_only_code_points_pass(void **state)
{
    long n2 = 0, n3 = 0;

    (void)state;
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++) {
            uint8_t p[3] = {(uint8_t)a, (uint8_t)b, 0};

            n2 += utf8_len(p, 2) == 2;
            for (unsigned c = 0x70; c < 0xD0; c++) {
                p[2] = (uint8_t)c;
                n3 += utf8_len(p, 3) == 3;
            }
        }
    assert_int_equal(n2, 0x800 - 0x80);
    assert_int_equal(n3, 0x10000 - 0x800 - 0x800);
}

static void
test_refusals(void **state)
{
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2\x41",
                                      "\xe0\x9f\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xe2\x82",
                                      "\xf0\x9f\x90\x41"};

    (void)state;
    assert_int_equal(utf8_len((const uint8_t *)"", 0), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const uint8_t *p = (const uint8_t *)bad[i];
        size_t n = 0;

        while (p[n])
            n++;
        assert_int_equal(utf8_len(p, n), 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point_round_trips),
        cmocka_unit_test(test_only_code_points_pass),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
