/* memory_test.c - DictDB: any order, budgets, eviction, purge, storms */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

#include "make.h"

static struct store *
open_small(size_t max_records, uint64_t max_bytes)
{
    const struct memory_limits limits = {
        .max_bytes = max_bytes,
        .max_records = max_records,
        .cull_fraction = 0.1,
        .max_output = 64,
    };
    struct store *s = NULL;

    assert_int_equal(memory_open(&s, &limits, NULL), 0);
    return s;
}

static struct span
id_of(int i)
{
    static char text[4][32];
    static int turn;
    char *t = text[turn++ % 4];

    (void)snprintf(t, sizeof(text[0]), "m%d", i);
    return span_str(t);
}

static int
put_request(struct store *s, int i, int64_t submitted)
{
    struct record change;
    int rc;

    record_init(&change);
    change.request = make_request(i);
    change.submitted_us = submitted;
    rc = change.request ? s->ops->put(s, id_of(i), &change, NULL) : RH_ENOMEM;
    msg_unref(&change.request);
    return rc;
}

static int
put_reply(struct store *s, int i, int64_t completed)
{
    struct record change;
    int rc;

    record_init(&change);
    change.result = make_reply(i);
    change.completed_us = completed;
    change.engine_uuid = SPAN_LIT("E0");
    rc = change.result ? s->ops->put(s, id_of(i), &change, NULL) : RH_ENOMEM;
    msg_unref(&change.result);
    return rc;
}

static int
put_output(struct store *s, int i, const char *text)
{
    struct record change;

    record_init(&change);
    change.out = span_str(text);
    return s->ops->put(s, id_of(i), &change, NULL);
}

struct seen {
    int n;
    bool request, result, unfinished;
    char out[256], last[32];
};

static int
look(void *ctx, const struct record *r)
{
    struct seen *seen = ctx;

    seen->n++;
    seen->request = r->request != NULL;
    seen->result = r->result != NULL;
    seen->unfinished = record_is_unfinished(r);
    (void)snprintf(seen->out, sizeof(seen->out), "%.*s", (int)r->out.n,
                   r->out.p ? (const char *)r->out.p : "");
    (void)snprintf(seen->last, sizeof(seen->last), "%.*s", (int)r->msg_id.n,
                   (const char *)r->msg_id.p);
    return 0;
}

static bool
has(struct store *s, int i)
{
    struct seen seen = {0};

    return s->ops->get(s, id_of(i), 0, look, &seen, NULL) == 0;
}

static int
find(struct store *s, const char *text, struct seen *seen)
{
    struct query *q = NULL;
    struct fault fault;
    int rc = query_parse(&q, span_str(text), &fault);

    *seen = (struct seen){0};
    if (rc == 0)
        rc = s->ops->find(s, q, RECORD_ALL, look, seen, &fault);
    query_free(&q);
    return rc < 0 ? rc : seen->n;
}

static void
test_any_order(void **state)
{
    struct store *s = open_small(10, 1 << 20);
    struct seen seen = {0};

    (void)state;
    assert_int_equal(put_output(s, 1, "early "), 0);
    assert_int_equal(put_request(s, 1, 5), 0);
    assert_int_equal(s->ops->get(s, id_of(1), 0, look, &seen, NULL), 0);
    assert_true(seen.request && !seen.result && seen.unfinished);
    assert_int_equal(put_reply(s, 1, 6), 0);
    assert_int_equal(put_output(s, 1, "late"), 0);
    assert_int_equal(s->ops->get(s, id_of(1), 0, look, &seen, NULL), 0);
    assert_true(seen.request && seen.result && !seen.unfinished);
    assert_string_equal(seen.out, "early late");
    s->ops->check(s);
    store_close(&s);
}

static void
test_unknown_and_culled(void **state)
{
    struct store *s = open_small(2, 1 << 20);
    struct fault f = {0};

    (void)state;
    assert_int_equal(s->ops->get(s, id_of(7), 0, look, NULL, &f), RH_ENOENT);
    assert_string_equal(f.ename, "KeyError");
    assert_string_equal(f.evalue, "\"No such msg_id 'm7'\"");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(put_request(s, i, i), 0);
        assert_int_equal(put_reply(s, i, i), 0);
    }
    assert_int_equal(s->ops->get(s, id_of(0), 0, look, NULL, &f), RH_ENOENT);
    assert_string_equal(f.evalue, "\"Record 'm0' has been culled for size\"");
    // Coming back makes it known again.
    assert_int_equal(put_request(s, 0, 9), 0);
    assert_true(has(s, 0));
    s->ops->check(s);
    store_close(&s);
}

static void
test_unfinished_tasks_are_never_evicted(void **state)
{
    struct store *s = open_small(10, 1 << 20);

    (void)state;
    for (int i = 0; i < 50; i++)
        assert_int_equal(put_request(s, i, i), 0);
    for (int i = 0; i < 50; i++)
        assert_true(has(s, i));
    s->ops->check(s);
    // Finished in another order: the longest finished goes first.
    for (int i = 49; i >= 0; i--)
        assert_int_equal(put_reply(s, i, 100 - i), 0);
    s->ops->check(s);
    assert_true(has(s, 0));
    assert_false(has(s, 49));
    store_close(&s);
}

static void
test_eviction_by_count(void **state)
{
    struct store *s = open_small(100, 1 << 30);
    int left = 0;

    (void)state;
    for (int i = 0; i < 101; i++) {
        assert_int_equal(put_request(s, i, i), 0);
        assert_int_equal(put_reply(s, i, i), 0);
        s->ops->check(s);
    }
    for (int i = 0; i < 101; i++)
        left += has(s, i);
    assert_int_equal(left, 91); // a tenth of the limit at once
    assert_false(has(s, 9));
    assert_true(has(s, 10));
    store_close(&s);
}

static void
test_eviction_by_size(void **state)
{
    struct store *s = open_small(1000, 20000);
    int left = 0;

    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(put_request(s, i, i), 0);
        assert_int_equal(put_reply(s, i, i), 0);
        s->ops->check(s);
    }
    for (int i = 0; i < 100; i++)
        left += has(s, i);
    assert_in_range(left, 5, 40);
    assert_true(has(s, 99));
    store_close(&s);
}

/* Large frames are shared, small ones copied; both die with the record. */
static void
test_large_messages_are_referenced(void **state)
{
    struct store *s = open_small(10, 1 << 20);
    struct record change;
    char *big = calloc(1, 100001);

    (void)state;
    memset(big, 'x', 100000);
    record_init(&change);
    change.request = make_msg("{}", "{}", "{}", big);
    assert_int_equal(s->ops->put(s, id_of(1), &change, NULL), 0);
    assert_int_equal(atomic_load(&change.request->refs), 2);
    assert_int_equal(s->ops->drop_id(s, id_of(1), NULL), 1);
    assert_int_equal(atomic_load(&change.request->refs), 1);
    msg_unref(&change.request);
    change.request = make_msg("{}", "{}", "{}", "small");
    assert_int_equal(s->ops->put(s, id_of(1), &change, NULL), 0);
    assert_int_equal(atomic_load(&change.request->refs), 1);
    msg_unref(&change.request);
    free(big);
    store_close(&s);
}

static void
test_output_has_a_limit(void **state)
{
    struct store *s = open_small(10, 1 << 20);
    struct seen seen = {0};

    (void)state;
    for (int i = 0; i < 20; i++)
        assert_int_equal(put_output(s, 1, "0123456789\xc3\xbc"), 0);
    s->ops->check(s);
    assert_int_equal(s->ops->get(s, id_of(1), 0, look, &seen, NULL), 0);
    // 64 bytes: five whole pieces, and of the sixth what fits.
    assert_int_equal(strncmp(seen.out + 60, "0123\n[output limit", 18), 0);
    assert_int_equal(strlen(seen.out),
                     64
                         + strlen("\n[output limit reached: the rest of this "
                                  "task's output was not recorded]\n"));
    store_close(&s);
}

static void
test_find(void **state)
{
    struct store *s = open_small(100, 1 << 20);
    struct seen seen;

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(put_request(s, i, i), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(put_reply(s, i, i), 0);
    assert_int_equal(find(s, "{}", &seen), 10);
    assert_string_equal(seen.last, "m9");
    assert_int_equal(find(s, "{\"completed\": null}", &seen), 5);
    assert_int_equal(find(s, "{\"msg_id\": \"m3\"}", &seen), 1);
    assert_string_equal(seen.last, "m3");
    assert_int_equal(find(s,
                          "{\"msg_id\": {\"$in\": [\"m3\", \"m9\", \"m3\", "
                          "\"nope\", 5, null]}}",
                          &seen),
                     2);
    assert_string_equal(seen.last, "m9");
    assert_int_equal(find(s,
                          "{\"msg_id\": {\"$in\": [\"m3\", \"m9\"]}, "
                          "\"completed\": null}",
                          &seen),
                     1);
    assert_string_equal(seen.last, "m9");
    store_close(&s);
}

static int
stop_at_second(void *ctx, const struct record *r)
{
    (void)r;
    return ++*(int *)ctx == 2 ? RH_EINTR : 0;
}

static void
test_a_reader_may_stop(void **state)
{
    struct store *s = open_small(100, 1 << 20);
    struct query *q = NULL;
    int n = 0;

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(put_request(s, i, i), 0);
    assert_int_equal(query_parse(&q, SPAN_NONE, NULL), 0);
    assert_int_equal(s->ops->find(s, q, 0, stop_at_second, &n, NULL), RH_EINTR);
    assert_int_equal(n, 2);
    query_free(&q);
    store_close(&s);
}

static void
test_drop(void **state)
{
    struct store *s = open_small(100, 1 << 20);
    struct query *q = NULL;
    struct fault f = {0};

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(put_request(s, i, i), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(put_reply(s, i, i), 0);
    assert_int_equal(
        query_parse(&q, SPAN_LIT("{\"completed\": {\"$ne\": null}}"), NULL), 0);
    assert_int_equal(s->ops->drop(s, q, &f), 6);
    assert_int_equal(s->ops->drop(s, q, &f), 0);
    query_free(&q);
    s->ops->check(s);
    assert_int_equal(s->ops->drop_id(s, id_of(9), &f), 1);
    assert_int_equal(s->ops->drop_id(s, id_of(9), &f), 0);
    // Purged is not culled: the id is simply unknown.
    assert_int_equal(s->ops->get(s, id_of(9), 0, look, NULL, &f), RH_ENOENT);
    assert_string_equal(f.evalue, "\"No such msg_id 'm9'\"");
    assert_true(has(s, 8));
    store_close(&s);
}

struct ids {
    int n;
    char text[256];
};

static int
add_id(void *ctx, struct span id)
{
    struct ids *ids = ctx;

    ids->n += snprintf(ids->text + ids->n, sizeof(ids->text) - (size_t)ids->n,
                       "%.*s ", (int)id.n, (const char *)id.p);
    return 0;
}

static void
test_history_is_by_submission(void **state)
{
    struct store *s = open_small(100, 1 << 20);
    struct ids ids = {0};

    (void)state;
    assert_int_equal(put_request(s, 1, 30), 0);
    assert_int_equal(put_request(s, 2, 10), 0);
    assert_int_equal(put_output(s, 3, "never submitted"), 0);
    assert_int_equal(put_request(s, 4, 20), 0);
    assert_int_equal(put_request(s, 5, 20), 0);
    assert_int_equal(s->ops->history(s, add_id, &ids, NULL), 0);
    assert_string_equal(ids.text, "m2 m4 m5 m1 ");
    store_close(&s);
}

static void
test_bad_limits(void **state)
{
    const struct memory_limits bad = {.max_records = 1, .cull_fraction = 1.5};
    struct store *s = NULL;
    rh_error err = {0};

    (void)state;
    assert_int_equal(memory_open(&s, &bad, &err), RH_EINVAL);
    assert_non_null(strstr(err.text, "1.5"));
    assert_int_equal(memory_open(&s, NULL, NULL), 0);
    store_close(&s);
}

static int
full_life(void)
{
    struct store *s = NULL;
    struct seen seen;
    struct ids ids = {0};
    struct fault f = {0};
    int rc = memory_open(&s, NULL, NULL);

    if (rc == 0)
        rc = put_request(s, 1, 1);
    if (rc == 0)
        rc = put_output(s, 1, "some output");
    if (rc == 0)
        rc = put_reply(s, 1, 2);
    if (rc == 0)
        rc = put_output(s, 2, "of another");
    if (rc == 0)
        rc = find(s, "{\"content\": {}, \"queue\": {\"$ne\": 1}}", &seen);
    if (rc >= 0)
        rc = s->ops->history(s, add_id, &ids, &f);
    if (s)
        s->ops->check(s);
    store_close(&s);
    return rc;
}

static void
test_out_of_memory(void **state)
{
    int rc;

    (void)state;
    OOM_SWEEP(rc, { rc = full_life(); });
    assert_int_equal(rc, 0);
}

/* A put that fails changes nothing. */
static void
test_failed_put_changes_nothing(void **state)
{
    struct store *s = open_small(10, 1 << 20);
    struct msg *reply = make_reply(1);
    struct seen seen = {0};
    struct record change;
    int rc;

    (void)state;
    assert_int_equal(put_request(s, 1, 1), 0);
    record_init(&change);
    change.result = reply;
    change.completed_us = 2;
    change.engine_uuid = SPAN_LIT("E0");
    change.out = SPAN_LIT("text");
    OOM_SWEEP(rc, {
        rc = s->ops->put(s, id_of(1), &change, NULL);
        mem_fail_after(-1);
        s->ops->check(s);
        assert_int_equal(s->ops->get(s, id_of(1), 0, look, &seen, NULL), 0);
        assert_int_equal(seen.result, rc == 0);
        assert_int_equal(strlen(seen.out), rc == 0 ? 4 : 0);
    });
    msg_unref(&reply);
    store_close(&s);
}

static void
test_storm(void **state)
{
    struct store *s = open_small(40, 60000);
    unsigned seed = 1;

    (void)state;
    for (int step = 0; step < 20000; step++) {
        const int i = (int)(rand_r(&seed) % 200);

        switch (rand_r(&seed) % 8) {
        case 0:
        case 1:
            assert_int_equal(put_request(s, i, step), 0);
            break;
        case 2:
        case 3:
        case 4:
            assert_int_equal(put_reply(s, i, step), 0);
            break;
        case 5:
            assert_int_equal(put_output(s, i, "a line of output\n"), 0);
            break;
        case 6:
            (void)s->ops->drop_id(s, id_of(i), NULL);
            break;
        default:
            mem_fail_after((long)(rand_r(&seed) % 6));
            (void)put_reply(s, i, step);
            mem_fail_after(-1);
        }
        if (step % 16 == 0)
            s->ops->check(s);
    }
    s->ops->check(s);
    store_close(&s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_unknown_and_culled),
        cmocka_unit_test(test_unfinished_tasks_are_never_evicted),
        cmocka_unit_test(test_eviction_by_count),
        cmocka_unit_test(test_eviction_by_size),
        cmocka_unit_test(test_large_messages_are_referenced),
        cmocka_unit_test(test_output_has_a_limit),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_a_reader_may_stop),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_history_is_by_submission),
        cmocka_unit_test(test_bad_limits),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_failed_put_changes_nothing),
        cmocka_unit_test(test_storm),
    };

    jansson_from_mem();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
