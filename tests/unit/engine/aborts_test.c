/* aborts_test.c - ids are remembered once, forgotten oldest first */
#include "support.h"

#include <stdio.h>

#include "engine/aborts.h"

static struct span
id(int n, char text[32])
{
    (void)snprintf(text, 32, "client_%d", n);
    return span_str(text);
}

static void
test_an_id_is_taken_once(void **state)
{
    struct aborts a;

    (void)state;
    aborts_init(&a);
    assert_false(aborts_take(&a, SPAN_LIT("x")));
    assert_int_equal(aborts_add(&a, SPAN_LIT("x")), 0);
    assert_int_equal(aborts_add(&a, SPAN_LIT("x")), 0);
    assert_int_equal(aborts_add(&a, SPAN_LIT("")), 0);
    assert_false(aborts_take(&a, SPAN_LIT("y")));
    assert_true(aborts_take(&a, SPAN_LIT("x")));
    assert_false(aborts_take(&a, SPAN_LIT("x")));
    assert_true(aborts_take(&a, SPAN_LIT("")));
    assert_null(a.oldest);
    assert_null(a.newest);
    aborts_fini(&a);
}

static void
test_removal_keeps_the_order_of_the_rest(void **state)
{
    struct aborts a;
    char text[32];

    (void)state;
    aborts_init(&a);
    for (int i = 0; i < 5; i++)
        assert_int_equal(aborts_add(&a, id(i, text)), 0);
    assert_true(aborts_take(&a, id(2, text))); // middle
    assert_true(aborts_take(&a, id(0, text))); // oldest
    assert_true(aborts_take(&a, id(4, text))); // newest
    assert_int_equal(aborts_add(&a, id(5, text)), 0);
    assert_true(aborts_take(&a, id(3, text)));
    assert_true(aborts_take(&a, id(1, text)));
    assert_true(aborts_take(&a, id(5, text)));
    assert_int_equal(a.by_id.n, 0);
    aborts_fini(&a);
}

static void
test_the_oldest_makes_room(void **state)
{
    struct aborts a;
    char text[32];

    (void)state;
    aborts_init(&a);
    for (int i = 0; i <= ABORTS_MAX; i++)
        assert_int_equal(aborts_add(&a, id(i, text)), 0);
    assert_int_equal(a.by_id.n, ABORTS_MAX);
    assert_false(aborts_take(&a, id(0, text)));
    assert_true(aborts_take(&a, id(1, text)));
    assert_true(aborts_take(&a, id(ABORTS_MAX, text)));
    aborts_fini(&a);
}

static void
test_out_of_memory(void **state)
{
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct aborts a;

        aborts_init(&a);
        rc = aborts_add(&a, SPAN_LIT("one"));
        if (rc < 0)
            assert_false(aborts_take(&a, SPAN_LIT("one")));
        else
            rc = aborts_add(&a, SPAN_LIT("two"));
        aborts_fini(&a);
    });
    assert_int_equal(rc, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_id_is_taken_once),
        cmocka_unit_test(test_removal_keeps_the_order_of_the_rest),
        cmocka_unit_test(test_the_oldest_makes_room),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
