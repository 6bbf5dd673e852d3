/* mem_test.c - allocation, and its fault switch */
#include "support.h"

#include <string.h>

static void
test_switch_fails_from_the_nth_on(void **state)
{
    void *a, *b;

    (void)state;
    mem_fail_after(1);
    a = mem_alloc(10);
    b = mem_alloc(10);
    assert_non_null(a);
    assert_null(b);
    assert_null(mem_zalloc(1, 1));
    assert_null(mem_dup("x", 1));
    assert_null(mem_strdup("x"));
    assert_null(mem_resize(a, 20, 1)); // 'a' stays ours
    memset(a, 1, 10);
    mem_fail_after(-1);
    b = mem_alloc(10);
    assert_non_null(b);
    mem_free(a);
    mem_free(b);
}

static void
test_sizes_that_overflow_fail(void **state)
{
    char *p = mem_alloc(3);

    (void)state;
    assert_null(mem_zalloc(SIZE_MAX / 2, 3));
    assert_null(mem_resize(p, SIZE_MAX / 2, 3));
    assert_null(mem_strndup("x", SIZE_MAX));
    memset(p, 0, 3);
    mem_free(p);
}

static void
test_nothing_is_still_something(void **state)
{
    void *p[] = {mem_alloc(0), mem_zalloc(0, 8), mem_dup(NULL, 0),
                 mem_resize(NULL, 0, 4), mem_strndup(NULL, 0)};

    (void)state;
    for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++) {
        assert_non_null(p[i]);
        mem_free(p[i]);
    }
    p[0] = mem_resize(mem_alloc(8), 0, 4); // shrinks, does not free
    assert_non_null(p[0]);
    mem_free(p[0]);
    mem_free(NULL);
    assert_null(mem_strdup(NULL));
}

static void
test_copies(void **state)
{
    char *s = mem_strndup("abcdef", 3), *t = mem_strdup("xyz");
    char *d = mem_dup("a\0b", 3), *z = mem_zalloc(4, 4);

    (void)state;
    assert_string_equal(s, "abc");
    assert_string_equal(t, "xyz");
    assert_memory_equal(d, "a\0b", 3);
    for (int i = 0; i < 16; i++)
        assert_int_equal(z[i], 0);
    mem_free(s);
    mem_free(t);
    mem_free(d);
    mem_free(z);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_switch_fails_from_the_nth_on),
        cmocka_unit_test(test_sizes_that_overflow_fail),
        cmocka_unit_test(test_nothing_is_still_something),
        cmocka_unit_test(test_copies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
