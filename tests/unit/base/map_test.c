/* map_test.c - the map against an array of what should be in it */
#include "support.h"

#include <stdio.h>

#include "base/map.h"

#define KEYS 300

struct item {
    char key[24];
    bool present;
    bool seen;
};

static uint32_t
next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static void
check(const struct map *map, struct item *item)
{
    size_t n = 0, i = 0;
    struct item *v;

    for (int k = 0; k < KEYS; k++) {
        item[k].seen = false;
        n += item[k].present;
        assert_ptr_equal(map_get(map, span_str(item[k].key)),
                         item[k].present ? &item[k] : NULL);
    }
    assert_int_equal(map->n, n);
    while ((v = map_next(map, &i))) {
        assert_true(v->present && !v->seen);
        v->seen = true;
        n--;
    }
    assert_int_equal(n, 0);
}

static void
test_random_operations_agree_with_the_model(void **state)
{
    static struct item item[KEYS];
    struct map map = {0};
    uint64_t seed = 1;

    (void)state;
    for (int k = 0; k < KEYS; k++)
        snprintf(item[k].key, sizeof(item[k].key), "%*d", k % 20 + 1, k);
    for (int step = 0; step < 60000; step++) {
        struct item *it = &item[next_random(&seed) % KEYS];
        // Phases that grow and phases that drain.
        bool put = next_random(&seed) % 8 < (step / 5000 % 2 ? 2 : 6);

        if (put) {
            assert_int_equal(map_put(&map, span_str(it->key), it), 0);
        } else {
            assert_ptr_equal(map_del(&map, span_str(it->key)),
                             it->present ? it : NULL);
        }
        it->present = put;
        if (step % 97 == 0)
            check(&map, item);
    }
    check(&map, item);
    map_fini(&map);
}

static void
test_keys_are_bytes(void **state)
{
    struct map map;
    int a, b, c;

    (void)state;
    map_init(&map);
    assert_null(map_get(&map, SPAN_LIT("a")));
    assert_null(map_del(&map, SPAN_LIT("a")));
    assert_int_equal(map_put(&map, SPAN_LIT(""), &a), 0);
    assert_int_equal(map_put(&map, SPAN_LIT("\0"), &b), 0);
    assert_int_equal(map_put(&map, SPAN_LIT("\0\0"), &c), 0);
    assert_ptr_equal(map_get(&map, SPAN_NONE), &a);
    assert_ptr_equal(map_get(&map, SPAN_LIT("\0")), &b);
    assert_ptr_equal(map_get(&map, SPAN_LIT("\0\0")), &c);
    assert_int_equal(map_put(&map, SPAN_LIT("x"), NULL), RH_EINVAL);
    map_fini(&map);
}

static void
test_replacing_takes_the_new_key(void **state)
{
    struct map map = {0};
    char first[] = "same", second[] = "same";
    int a, b;

    (void)state;
    assert_int_equal(map_put(&map, span_str(first), &a), 0);
    assert_int_equal(map_put(&map, span_str(second), &b), 0);
    assert_int_equal(map.n, 1);
    first[0] = '?'; // the old key's memory may be reused
    assert_ptr_equal(map_get(&map, SPAN_LIT("same")), &b);
    map_fini(&map);
}

static void
test_reserved_puts_cannot_fail(void **state)
{
    static char key[1000][8];
    struct map map = {0};

    (void)state;
    assert_int_equal(map_reserve(&map, 1000), 0);
    mem_fail_after(0);
    for (int i = 0; i < 1000; i++) {
        snprintf(key[i], sizeof(key[i]), "%d", i);
        assert_int_equal(map_put(&map, span_str(key[i]), key[i]), 0);
    }
    mem_fail_after(-1);
    assert_int_equal(map_reserve(&map, SIZE_MAX), RH_ENOMEM);
    assert_int_equal(map.n, 1000);
    map_fini(&map);
}

static void
test_out_of_memory_changes_nothing(void **state)
{
    static char key[64][8];
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct map map = {0};
        size_t n;

        rc = 0;
        for (n = 0; n < 64 && rc == 0; n++) {
            snprintf(key[n], sizeof(key[n]), "%zu", n);
            rc = map_put(&map, span_str(key[n]), key[n]);
        }
        if (rc < 0) {
            assert_int_equal(map.n, n - 1);
            for (size_t i = 0; i < n - 1; i++)
                assert_ptr_equal(map_get(&map, span_str(key[i])), key[i]);
        }
        map_fini(&map);
    });
    assert_int_equal(rc, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_agree_with_the_model),
        cmocka_unit_test(test_keys_are_bytes),
        cmocka_unit_test(test_replacing_takes_the_new_key),
        cmocka_unit_test(test_reserved_puts_cannot_fail),
        cmocka_unit_test(test_out_of_memory_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
