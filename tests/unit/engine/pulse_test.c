/* pulse_test.c - when an engine gives its controller up */
#include "support.h"

#include "engine/pulse.h"

#define PERIOD 1000
#define STEP (PERIOD + PULSE_SLACK_MS)

/* Let n checks pass; how many said "gone". */
static int
checks(struct pulse *p, int n, int64_t *now)
{
    int gone = 0;

    while (n-- > 0) {
        *now += STEP;
        gone += pulse_check(p, *now);
    }
    return gone;
}

static void
test_silence_counts_from_the_second_check(void **state)
{
    struct pulse p;
    int64_t now = 5000;

    (void)state;
    pulse_init(&p, PERIOD, 3, now);
    assert_int_equal(checks(&p, 3, &now), 0);
    assert_int_equal(checks(&p, 1, &now), 1);
}

static void
test_one_ping_forgives_all(void **state)
{
    struct pulse p;
    int64_t now = 0;

    (void)state;
    pulse_init(&p, PERIOD, 3, now);
    assert_int_equal(checks(&p, 3, &now), 0);
    pulse_ping(&p);
    assert_int_equal(checks(&p, 3, &now), 0);
    assert_int_equal(checks(&p, 1, &now), 1);
}

static void
test_early_checks_do_nothing(void **state)
{
    struct pulse p;

    (void)state;
    pulse_init(&p, PERIOD, 1, 0);
    for (int64_t now = 0; now < STEP; now++)
        assert_false(pulse_check(&p, now));
    assert_int_equal(p.due, STEP);
}

static void
test_a_machine_that_slept_is_not_punished(void **state)
{
    struct pulse p;

    (void)state;
    pulse_init(&p, PERIOD, 2, 0);
    assert_false(pulse_check(&p, STEP));
    assert_false(pulse_check(&p, 1000 * STEP)); // one miss, however long
    assert_int_equal(p.due, 1000 * STEP + STEP);
    assert_true(pulse_check(&p, 1001 * STEP));
}

static void
test_zero_misses_means_never(void **state)
{
    struct pulse p;

    (void)state;
    pulse_init(&p, PERIOD, 0, 0);
    assert_int_equal(p.due, INT64_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silence_counts_from_the_second_check),
        cmocka_unit_test(test_one_ping_forgives_all),
        cmocka_unit_test(test_early_checks_do_nothing),
        cmocka_unit_test(test_a_machine_that_slept_is_not_punished),
        cmocka_unit_test(test_zero_misses_means_never),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
