/* clock_test.c - clocks go forward and agree on units */
#include "support.h"

#include <time.h>

#include "base/clock.h"

static void
test_monotonic_never_goes_back(void **state)
{
    int64_t last = clock_mono_us();

    (void)state;
    for (int i = 0; i < 10000; i++) {
        int64_t now = clock_mono_us();

        assert_true(now >= last);
        last = now;
    }
}

static void
test_units_agree(void **state)
{
    int64_t before = clock_mono_us() / 1000, ms = clock_mono_ms();
    int64_t after = clock_mono_us() / 1000;
    int64_t s = (int64_t)time(NULL), wall = clock_wall_us() / 1000000;

    (void)state;
    assert_true(before <= ms && ms <= after);
    assert_true(wall >= s - 1 && wall <= (int64_t)time(NULL) + 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotonic_never_goes_back),
        cmocka_unit_test(test_units_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
