/* replay_test.c - the memory of signatures against a model */
#include "support.h"

#include <stdbool.h>
#include <string.h>

#include "wire/replay.h"

#define TENTH (REPLAY_MAX / 10)

static void
digest_of(uint32_t i, uint8_t out[REPLAY_ENTRY])
{
    uint64_t x = i * UINT64_C(0x9E3779B97F4A7C15) + 12345;

    for (int k = 0; k < REPLAY_ENTRY; k += 8) {
        x ^= x >> 29;
        x *= UINT64_C(0xBF58476D1CE4E5B9);
        memcpy(out + k, &x, 8);
    }
}

static int
add(struct replay *r, uint32_t i)
{
    uint8_t digest[REPLAY_ENTRY];

    digest_of(i, digest);
    return replay_add(r, digest);
}

static void
test_remembers_all_it_promises(void **state)
{
    struct replay r = {0};

    (void)state;
    for (uint32_t i = 0; i < REPLAY_MAX; i++)
        assert_int_equal(add(&r, i), 0);
    for (uint32_t i = 0; i < REPLAY_MAX; i++)
        assert_int_equal(add(&r, i), RH_EREPLAY);
    assert_int_equal(r.n, REPLAY_MAX);
    replay_fini(&r);
}

static void
test_forgets_exactly_the_oldest_tenth(void **state)
{
    struct replay r = {0};
    uint32_t n = REPLAY_MAX;

    (void)state;
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(add(&r, i), 0);
    // Many rounds, so that the ring wraps and the index turns over.
    for (int round = 0; round < 25; round++) {
        uint32_t oldest;

        assert_int_equal(add(&r, n), 0);
        n++;
        assert_int_equal(r.n, REPLAY_MAX - TENTH + 1);
        oldest = n - r.n;
        for (uint32_t i = oldest; i < n; i++)
            assert_int_equal(add(&r, i), RH_EREPLAY);
        while (r.n < REPLAY_MAX) {
            assert_int_equal(add(&r, n), 0);
            n++;
        }
    }
    // What was forgotten passes again.
    assert_int_equal(add(&r, 0), 0);
    replay_fini(&r);
}

static void
test_equal_hashes_do_not_confuse(void **state)
{
    struct replay r = {0};
    uint8_t digest[REPLAY_ENTRY] = {0};

    (void)state;
    // Same home and same fingerprint: only the last bytes tell them apart.
    for (int i = 0; i < 200; i++) {
        digest[REPLAY_ENTRY - 1] = (uint8_t)i;
        assert_int_equal(replay_add(&r, digest), 0);
        assert_int_equal(replay_add(&r, digest), RH_EREPLAY);
    }
    replay_fini(&r);
}

static void
forget(struct replay *r, uint32_t i)
{
    uint8_t digest[REPLAY_ENTRY];

    digest_of(i, digest);
    replay_forget(r, digest);
}

static void
test_what_is_forgotten_passes_once_more(void **state)
{
    struct replay r = {0};
    uint32_t n = 0;

    (void)state;
    forget(&r, 1); // nothing there yet
    // Over growth and several cullings, every third is taken back.
    for (; n < 3 * REPLAY_MAX; n++) {
        assert_int_equal(add(&r, n), 0);
        if (n % 3 == 0) {
            forget(&r, n);
            forget(&r, n);
            assert_int_equal(add(&r, n), 0);
            if (n % 2)
                forget(&r, n);
        }
        assert_true(r.n <= REPLAY_MAX);
    }
    for (uint32_t i = n - REPLAY_MAX / 4; i < n; i++) {
        bool taken_back = i % 3 == 0 && i % 2;

        assert_int_equal(add(&r, i), taken_back ? 0 : RH_EREPLAY);
    }
    replay_fini(&r);
}

static void
test_out_of_memory_changes_nothing(void **state)
{
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct replay r = {0};
        uint32_t i;

        rc = 0;
        for (i = 0; i < 2000 && rc == 0; i++)
            rc = add(&r, i);
        if (rc < 0) {
            assert_int_equal(r.n, i - 1);
            mem_fail_after(-1);
            assert_int_equal(add(&r, i - 1), 0); // it was not remembered
            for (uint32_t k = 0; k < i; k++)
                assert_int_equal(add(&r, k), RH_EREPLAY);
        }
        replay_fini(&r);
    });
    assert_int_equal(rc, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_remembers_all_it_promises),
        cmocka_unit_test(test_forgets_exactly_the_oldest_tenth),
        cmocka_unit_test(test_equal_hashes_do_not_confuse),
        cmocka_unit_test(test_what_is_forgotten_passes_once_more),
        cmocka_unit_test(test_out_of_memory_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
