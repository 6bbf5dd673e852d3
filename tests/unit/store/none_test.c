/* none_test.c - NoDB takes everything and says that it has nothing */
#include "support.h"

#include "make.h"

static int
never(void *ctx, const struct record *record)
{
    (void)ctx;
    (void)record;
    fail_msg("NoDB has no records");
    return 0;
}

static int
never_id(void *ctx, struct span id)
{
    (void)ctx;
    (void)id;
    fail_msg("NoDB has no history");
    return 0;
}

static void
assert_no_data(int rc, struct fault *f)
{
    assert_int_equal(rc, RH_ESTATE);
    assert_string_equal(f->ename, "NoData");
    assert_string_equal(f->evalue, "NoDB backend doesn't store any data. ");
    *f = (struct fault){0};
}

static void
test_no_data(void **state)
{
    struct store *s = NULL;
    struct query *q = NULL;
    struct fault f = {0};
    struct record change;

    (void)state;
    assert_int_equal(none_open(&s, NULL), 0);
    assert_string_equal(s->ops->name, "NoDB");
    record_init(&change);
    assert_int_equal(s->ops->put(s, SPAN_LIT("m1"), &change, NULL), 0);
    assert_int_equal(query_parse(&q, SPAN_NONE, &f), 0);
    assert_no_data(s->ops->get(s, SPAN_LIT("m1"), RECORD_ALL, never, NULL, &f),
                   &f);
    assert_no_data(s->ops->find(s, q, RECORD_ALL, never, NULL, &f), &f);
    assert_no_data(s->ops->history(s, never_id, NULL, &f), &f);
    // Purging what is not there is no error.
    assert_int_equal(s->ops->drop(s, q, &f), 0);
    assert_int_equal(s->ops->drop_id(s, SPAN_LIT("m1"), &f), 0);
    query_free(&q);
    store_close(&s);
    assert_null(s);
    store_close(&s);
}

static void
test_out_of_memory(void **state)
{
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct store *s = NULL;

        rc = none_open(&s, NULL);
        store_close(&s);
    });
    assert_int_equal(rc, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_data),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
