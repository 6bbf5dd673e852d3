/* heap_test.c - the heap against a linear search */
#include "support.h"

#include "base/heap.h"

#define NODES 200

static uint32_t
next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static void
check(const struct heap *heap, const struct heap_node *node)
{
    const struct heap_node *min = NULL;
    size_t n = 0;

    for (int i = 0; i < NODES; i++) {
        if (!node[i].i)
            continue;
        n++;
        assert_ptr_equal(heap->v[node[i].i - 1], &node[i]);
        if (!min || node[i].at < min->at)
            min = &node[i];
    }
    assert_int_equal(heap->n, n);
    if (min)
        assert_int_equal(heap_top(heap)->at, min->at);
    else
        assert_null(heap_top(heap));
    for (size_t i = 1; i < n; i++)
        assert_true(heap->v[(i - 1) / 2]->at <= heap->v[i]->at);
}

static void
test_random_operations_agree_with_the_model(void **state)
{
    struct heap_node node[NODES] = {{0}};
    struct heap heap;
    uint64_t seed = 7;

    (void)state;
    heap_init(&heap);
    for (int step = 0; step < 40000; step++) {
        struct heap_node *it = &node[next_random(&seed) % NODES];
        int64_t at = (int64_t)(next_random(&seed) % 1000) - 500;

        if (next_random(&seed) % 8 < (step / 3000 % 2 ? 3u : 5u))
            assert_int_equal(heap_push(&heap, it, at), 0); // or moves it
        else
            heap_remove(&heap, it);
        if (step % 13 == 0)
            check(&heap, node);
    }
    heap_fini(&heap);
}

static void
test_sorts(void **state)
{
    struct heap_node node[NODES] = {{0}}, *top;
    struct heap heap = {0};
    int64_t last = INT64_MIN;
    uint64_t seed = 3;
    int n = 0;

    (void)state;
    for (int i = 0; i < NODES; i++)
        assert_int_equal(heap_push(&heap, &node[i], next_random(&seed) % 50),
                         0);
    for (; (top = heap_top(&heap)); n++) {
        assert_true(top->at >= last);
        last = top->at;
        heap_remove(&heap, top);
        assert_int_equal(top->i, 0);
        heap_remove(&heap, top); // absent: nothing happens
    }
    assert_int_equal(n, NODES);
    heap_fini(&heap);
}

static void
test_out_of_memory_changes_nothing(void **state)
{
    struct heap_node node[40];
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct heap heap = {0};

        rc = 0;
        for (int i = 0; i < 40 && rc == 0; i++) {
            node[i] = (struct heap_node){0};
            rc = heap_push(&heap, &node[i], -i);
            assert_int_equal(heap.n, rc == 0 ? i + 1 : i);
            assert_true(rc == 0 || node[i].i == 0);
        }
        heap_fini(&heap);
    });
    assert_int_equal(rc, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_agree_with_the_model),
        cmocka_unit_test(test_sorts),
        cmocka_unit_test(test_out_of_memory_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
