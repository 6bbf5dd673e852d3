/* uuid_test.c - form and uniqueness */
#include "support.h"

#include <string.h>

#include "base/uuid.h"

static void
test_form(void **state)
{
    char id[UUID_SIZE];

    (void)state;
    assert_int_equal(uuid_new(id), 0);
    assert_int_equal(strlen(id), UUID_SIZE - 1);
    for (int i = 0; i < UUID_SIZE - 1; i++)
        assert_true(i == 8 ? id[i] == '-'
                           : strchr("0123456789abcdef", id[i]) != NULL);
    assert_int_equal(id[13], '4'); // the version of random ones
}

static void
test_no_two_are_equal(void **state)
{
    static char id[500][UUID_SIZE];

    (void)state;
    for (int i = 0; i < 500; i++) {
        assert_int_equal(uuid_new(id[i]), 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(id[i], id[j]);
    }
}

static void
test_all_bytes_are_random(void **state)
{
    unsigned char seen[300] = {0}, now[300];

    (void)state;
    // A byte that was never set would stay 0; 2^-160 says otherwise.
    for (int i = 0; i < 20; i++) {
        assert_int_equal(random_bytes(now, sizeof(now)), 0);
        for (size_t j = 0; j < sizeof(now); j++)
            seen[j] |= now[j];
    }
    for (size_t j = 0; j < sizeof(seen); j++)
        assert_int_not_equal(seen[j], 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_no_two_are_equal),
        cmocka_unit_test(test_all_bytes_are_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
