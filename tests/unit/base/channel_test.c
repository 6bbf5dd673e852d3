/* channel_test.c - nothing is lost, reordered or left without a wake-up */
#include "support.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>

#include "base/channel.h"

static bool
readable(const struct channel *ch)
{
    struct pollfd p = {channel_fd(ch), POLLIN, 0};

    return poll(&p, 1, 0) == 1;
}

static void
test_order_and_readiness(void **state)
{
    struct channel *ch;
    int v[300];
    void **out;

    (void)state;
    assert_int_equal(channel_new(&ch), 0);
    assert_false(readable(ch));
    assert_int_equal(channel_take(ch, &out), 0);
    assert_int_equal(channel_push(ch, &v[7]), 0); // one is enough to wake
    assert_true(readable(ch));
    assert_int_equal(channel_take(ch, &out), 1);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 300; i++)
            assert_int_equal(channel_push(ch, &v[i]), 0);
        assert_int_equal(channel_size(ch), 300);
        assert_true(readable(ch));
        assert_int_equal(channel_take(ch, &out), 300);
        for (int i = 0; i < 300; i++)
            assert_ptr_equal(out[i], &v[i]);
        assert_false(readable(ch));
        assert_int_equal(channel_size(ch), 0);
    }
    channel_free(&ch, NULL);
    assert_null(ch);
    channel_free(&ch, NULL);
}

static int dropped;

static void
count_drop(void *entry)
{
    *(int *)entry = 1;
    dropped++;
}

static void
test_free_drops_what_is_inside(void **state)
{
    struct channel *ch;
    int v[3] = {0};

    (void)state;
    assert_int_equal(channel_new(&ch), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(channel_push(ch, &v[i]), 0);
    channel_free(&ch, count_drop);
    assert_int_equal(dropped, 3);
    assert_true(v[0] && v[1] && v[2]);
}

static void
test_burst_memory_is_given_back(void **state)
{
    struct channel *ch;
    void **out;
    int x;

    (void)state;
    assert_int_equal(channel_new(&ch), 0);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(channel_push(ch, &x), 0);
    assert_int_equal(channel_take(ch, &out), 100000);
    assert_int_equal(channel_take(ch, &out), 0);
    assert_int_equal(channel_push(ch, &x), 0);
    assert_int_equal(channel_take(ch, &out), 1);
    assert_ptr_equal(out[0], &x);
    channel_free(&ch, NULL);
}

static void
test_out_of_memory_takes_nothing(void **state)
{
    int rc, x;

    (void)state;
    OOM_SWEEP(rc, {
        struct channel *ch = NULL;

        rc = channel_new(&ch);
        for (size_t i = 0; i < 200 && rc == 0; i++) {
            rc = channel_push(ch, &x);
            assert_int_equal(channel_size(ch), rc == 0 ? i + 1 : i);
        }
        channel_free(&ch, NULL);
    });
    assert_int_equal(rc, 0);
}

#define PRODUCERS 4
#define EACH 20000

struct producer {
    struct channel *ch;
    int *entry; // EACH of them, numbered
};

static void *
produce(void *arg)
{
    struct producer *self = arg;

    for (int i = 0; i < EACH; i++)
        if (channel_push(self->ch, &self->entry[i]) < 0)
            return self;
    return NULL;
}

static void
test_many_producers_one_consumer(void **state)
{
    static int entry[PRODUCERS][EACH];
    struct producer producer[PRODUCERS];
    pthread_t thread[PRODUCERS];
    int next[PRODUCERS] = {0}, got = 0;
    struct channel *ch;

    (void)state;
    assert_int_equal(channel_new(&ch), 0);
    for (int t = 0; t < PRODUCERS; t++) {
        producer[t] = (struct producer){ch, entry[t]};
        assert_int_equal(
            pthread_create(&thread[t], NULL, produce, &producer[t]), 0);
    }
    while (got < PRODUCERS * EACH) {
        struct pollfd p = {channel_fd(ch), POLLIN, 0};
        size_t n;
        void **out;

        // A lost wake-up would make this time out.
        assert_int_equal(poll(&p, 1, 60000), 1);
        n = channel_take(ch, &out);
        for (size_t i = 0; i < n; i++) {
            int t = (int)(((int *)out[i] - &entry[0][0]) / EACH);

            assert_ptr_equal(out[i], &entry[t][next[t]++]);
        }
        got += (int)n;
    }
    for (int t = 0; t < PRODUCERS; t++) {
        void *failed;

        pthread_join(thread[t], &failed);
        assert_null(failed);
    }
    channel_free(&ch, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_readiness),
        cmocka_unit_test(test_free_drops_what_is_inside),
        cmocka_unit_test(test_burst_memory_is_given_back),
        cmocka_unit_test(test_out_of_memory_takes_nothing),
        cmocka_unit_test(test_many_producers_one_consumer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
