/* parts_test.c - the containers under the scheduler, against plain arrays */
#include <stdlib.h>
#include <string.h>

#include "sched/done.h"
#include "sched/ids.h"
#include "sched/pheap.h"
#include "sched/pool.h"
#include "support.h"

static uint64_t state = 1;

static uint32_t
dice(uint32_t n)
{
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(state >> 33) % n;
}

/* ---- pheap ------------------------------------------------------------- */

static void
check_order(const struct pheap *heap, size_t n)
{
    size_t seen = 0;

    for (struct pnode *i = pheap_top(heap); i; i = pheap_walk(i)) {
        seen++;
        assert_true(i->key >= pheap_top(heap)->key);
        for (struct pnode *c = i->child; c; c = c->next)
            assert_true(c->key >= i->key);
    }
    assert_int_equal(seen, n);
}

static void
test_pheap_is_always_ordered(void **unused)
{
    enum { N = 200 };
    struct pnode node[N];
    struct pheap heap = {NULL};
    size_t n = 0;

    (void)unused;
    for (int i = 0; i < N; i++)
        pnode_init(&node[i]);
    for (int step = 0; step < 20000; step++) {
        struct pnode *x = &node[dice(N)];

        if (!pnode_in(x)) {
            x->key = dice(50) - 25;
            pheap_push(&heap, x);
            n++;
        } else {
            pheap_remove(&heap, dice(3) ? x : pheap_top(&heap));
            n--;
        }
        if (step % 16 == 0)
            check_order(&heap, n);
    }
}

static void
test_pheap_sorts(void **unused)
{
    enum { N = 3000 };
    struct pnode *node = calloc(N, sizeof(*node));
    struct pheap heap = {NULL};
    int64_t last = INT64_MIN;

    (void)unused;
    for (int i = 0; i < N; i++) {
        pnode_init(&node[i]);
        node[i].key = (int64_t)dice(1000) - 500;
        pheap_push(&heap, &node[i]);
    }
    for (int i = 0; i < N; i++) {
        struct pnode *top = pheap_top(&heap);

        assert_true(top->key >= last);
        last = top->key;
        pheap_remove(&heap, top);
        assert_false(pnode_in(top));
    }
    assert_null(pheap_top(&heap));
    free(node);
}

/* ---- pool -------------------------------------------------------------- */

/* Objects do not overlap, are zeroed, and are all that memory is needed for. */
static void
test_pool(void **unused)
{
    enum { N = 5000, SIZE = 152 };
    static uint8_t *object[N];
    struct pool pool;
    size_t n = 0;

    (void)unused;
    pool_init(&pool, SIZE);
    for (int step = 0; step < 60000; step++) {
        // Up, down, and up again.
        bool take = step / 10000 % 2 ? dice(10) < 3 : dice(10) < 7;

        if (take && n < N) {
            uint8_t *p = object[n++] = pool_take(&pool);

            assert_non_null(p);
            for (int i = 0; i < SIZE; i++)
                assert_int_equal(p[i], 0);
            memset(p, (int)(n % 255) + 1, SIZE);
        } else if (!take && n) {
            size_t i = dice(3) ? dice((uint32_t)n) : 0;

            for (int k = 1; k < SIZE; k++)
                assert_int_equal(object[i][k], object[i][0]);
            pool_give(&pool, object[i]);
            object[i] = object[--n];
        }
    }
    while (n)
        pool_give(&pool, object[--n]);
    assert_true(pool.n_empty <= 2);
    mem_fail_after(0);
    object[0] = pool_take(&pool);
    mem_fail_after(-1);
    if (object[0])
        pool_give(&pool, object[0]);
    pool_fini(&pool);
}

/* ---- ids --------------------------------------------------------------- */

static void
name_hash(uint32_t i, uint64_t h[2])
{
    static const uint64_t key[2] = {7, 11};

    id_hash(key, span_of(&i, sizeof(i)), h);
}

/* SipHash-2-4 with 128 bits: the first vectors of its authors' test. */
static void
test_hash_is_siphash(void **unused)
{
    static const uint8_t key[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                    8, 9, 10, 11, 12, 13, 14, 15};
    static const uint8_t want[2][16] = {
        {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14,
         0xc7, 0x55, 0x02, 0x93},
        {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11,
         0x9b, 0x22, 0xfc, 0x45}};
    uint64_t k[2], h[2];

    (void)unused;
    memcpy(k, key, sizeof(k));
    for (size_t n = 0; n < 2; n++) {
        id_hash(k, span_of(key, n), h);
        assert_memory_equal(h, want[n], 16);
    }
}

static void
test_ids_grow_and_shrink(void **unused)
{
    enum { N = 20000 };
    struct id_node *node = calloc(N, sizeof(*node));
    struct ids ids;
    size_t most;

    (void)unused;
    assert_int_equal(ids_init(&ids), 0);
    for (uint32_t i = 0; i < N; i++) {
        name_hash(i, node[i].h);
        assert_null(ids_get(&ids, node[i].h));
        assert_int_equal(ids_reserve(&ids), 0);
        ids_add(&ids, &node[i]);
    }
    assert_int_equal(ids.n, N);
    assert_in_range(ids.cap, N, 3 * N);
    most = ids.cap;
    for (uint32_t i = 0; i < N; i++)
        assert_ptr_equal(ids_get(&ids, node[i].h), &node[i]);
    for (uint32_t i = 0; i < N; i++) {
        ids_del(&ids, &node[i]);
        assert_null(ids_get(&ids, node[i].h));
        if (i % 97 == 0 && i + 1 < N)
            assert_ptr_equal(ids_get(&ids, node[i + 1].h), &node[i + 1]);
    }
    assert_int_equal(ids.n, 0);
    assert_true(ids.cap < most / 8);
    ids_fini(&ids);
    free(node);
}

static void
test_ids_without_memory_to_grow(void **unused)
{
    enum { N = 1000 };
    struct id_node *node = calloc(N, sizeof(*node));
    struct ids ids;
    size_t at = 0;
    uint32_t n = 0;

    (void)unused;
    assert_int_equal(ids_init(&ids), 0);
    mem_fail_after(0);
    for (; n < N && ids_reserve(&ids) == 0; n++) {
        name_hash(n, node[n].h);
        ids_add(&ids, &node[n]);
    }
    mem_fail_after(-1);
    assert_int_equal(n, 255); // full but for one
    for (uint32_t k = 0; k < n; k++)
        assert_ptr_equal(ids_get(&ids, node[k].h), &node[k]);
    name_hash(n, node[n].h);
    assert_null(ids_get(&ids, node[n].h));
    while (ids_next(&ids, &at))
        n--;
    assert_int_equal(n, 0);
    ids_fini(&ids);
    free(node);
}

/* ---- done -------------------------------------------------------------- */

static void
test_done_keeps_the_last(void **unused)
{
    enum { WINDOW = 10000, N = 35000 };
    struct done done;
    uint64_t h[2];

    (void)unused;
    assert_int_equal(done_init(&done, WINDOW), 0);
    for (uint32_t i = 0; i < N; i++) {
        name_hash(i, h);
        assert_null(done_get(&done, h));
        done_add(&done, h, i % 3 == 0, i);
        assert_non_null(done_get(&done, h));
    }
    assert_int_equal(done.n, WINDOW);
    for (uint32_t i = 0; i < N; i++) {
        const struct done_entry *e;

        name_hash(i, h);
        e = done_get(&done, h);
        assert_int_equal(e != NULL, i >= N - WINDOW);
        if (e) {
            assert_int_equal(e->engine, i);
            assert_int_equal(e->ok, i % 3 == 0);
        }
    }
    done_fini(&done);
}

static void
test_done_without_memory(void **unused)
{
    struct done done;
    uint64_t h[2];
    int rc;

    (void)unused;
    OOM_SWEEP(rc, {
        rc = done_init(&done, 100000);
        if (rc == 0)
            done_fini(&done);
    });
    assert_int_equal(done_init(&done, 100000), 0);
    mem_fail_after(0);
    name_hash(1, h);
    done_add(&done, h, true, 1); // nowhere to put it
    assert_null(done_get(&done, h));
    mem_fail_after(1); // the first chunk, but no larger table
    for (uint32_t i = 0; i < 5000; i++) {
        name_hash(i, h);
        done_add(&done, h, true, i + 1);
        assert_int_equal(done_get(&done, h)->engine, i + 1);
    }
    mem_fail_after(-1);
    assert_in_range(done.n, 100, 1000); // the latest of them, at least
    for (uint32_t i = 0; i < 200000; i++) {
        name_hash(i + 5000, h);
        done_add(&done, h, true, i + 1);
    }
    assert_int_equal(done.n, 100000);
    done_fini(&done);
}

static void
test_done_may_keep_nothing(void **unused)
{
    struct done done;
    uint64_t h[2];

    (void)unused;
    assert_int_equal(done_init(&done, 0), 0);
    name_hash(1, h);
    done_add(&done, h, true, 1);
    assert_null(done_get(&done, h));
    done_fini(&done);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pheap_is_always_ordered),
        cmocka_unit_test(test_pheap_sorts),
        cmocka_unit_test(test_hash_is_siphash),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_ids_grow_and_shrink),
        cmocka_unit_test(test_ids_without_memory_to_grow),
        cmocka_unit_test(test_done_keeps_the_last),
        cmocka_unit_test(test_done_without_memory),
        cmocka_unit_test(test_done_may_keep_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
