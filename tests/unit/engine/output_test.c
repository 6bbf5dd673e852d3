/* output_test.c - order, bounds, and whole characters */
#include "support.h"

#include <stdlib.h>

#include "base/utf8.h"
#include "engine/output.h"

static void
assert_run(const struct output *o, uint32_t i, int stream, const char *text)
{
    struct span s = output_text(o, i);

    assert_true(i < o->n_runs);
    assert_int_equal(o->run[i].stream, stream);
    assert_int_equal(s.n, strlen(text));
    assert_memory_equal(s.p, text, s.n);
}

static size_t
add(struct output *o, int stream, const char *text)
{
    return output_add(o, stream, span_str(text));
}

static void
test_streams_keep_their_order(void **state)
{
    struct output o;

    (void)state;
    assert_int_equal(output_init(&o), 0);
    add(&o, 0, "a");
    add(&o, 0, "b");
    add(&o, 1, "c");
    assert_int_equal(add(&o, 1, ""), 0);
    add(&o, 0, "d");
    assert_int_equal(o.n_runs, 3);
    assert_run(&o, 0, 0, "ab");
    assert_run(&o, 1, 1, "c");
    assert_run(&o, 2, 0, "d");
    output_drop(&o, 1);
    assert_int_equal(o.n_runs, 2);
    assert_run(&o, 0, 1, "c");
    assert_run(&o, 1, 0, "d");
    add(&o, 0, "e");
    assert_run(&o, 1, 0, "de");
    output_drop(&o, 99);
    assert_int_equal(o.n_runs, 0);
    assert_int_equal(o.n, 0);
    output_fini(&o);
}

static void
test_full_takes_nothing_more(void **state)
{
    struct output o;
    char *text = malloc(OUTPUT_BYTES + 10);

    (void)state;
    memset(text, 'x', OUTPUT_BYTES + 10);
    assert_int_equal(output_init(&o), 0);
    assert_int_equal(output_add(&o, 0, span_of(text, 100)), 100);
    assert_int_equal(output_add(&o, 0, span_of(text, OUTPUT_BYTES + 10)),
                     OUTPUT_BYTES - 100);
    assert_int_equal(output_add(&o, 0, span_of(text, 1)), 0);
    output_drop(&o, 1);
    assert_int_equal(output_add(&o, 1, span_of(text, 1)), 1);
    output_fini(&o);
    free(text);
}

static void
test_runs_are_bounded(void **state)
{
    struct output o;

    (void)state;
    assert_int_equal(output_init(&o), 0);
    for (int i = 0; i < OUTPUT_RUNS; i++)
        assert_int_equal(add(&o, i % 2, "x"), 1);
    assert_int_equal(add(&o, OUTPUT_RUNS % 2, "x"), 0);
    assert_int_equal(add(&o, (OUTPUT_RUNS - 1) % 2, "x"), 1); // same stream
    output_fini(&o);
}

/* However the room falls, what is taken ends between characters. */
static void
test_characters_stay_whole(void **state)
{
    static const char text[] = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x9a\x82z";
    char *filler = malloc(OUTPUT_BYTES);

    (void)state;
    memset(filler, '.', OUTPUT_BYTES);
    for (size_t room = 0; room < sizeof(text) + 2; room++) {
        struct output o;
        size_t n, at = 0;

        assert_int_equal(output_init(&o), 0);
        output_add(&o, 0, span_of(filler, OUTPUT_BYTES - room));
        n = add(&o, 0, text);
        assert_true(n <= room);
        assert_true(n + 4 > room || n == sizeof(text) - 1); // and no less
        while (at < n) {
            size_t len = utf8_len((const uint8_t *)text + at, n - at);

            assert_true(len > 0);
            at += len;
        }
        output_fini(&o);
    }
    free(filler);
}

static void
test_bytes_that_are_no_text_get_through(void **state)
{
    struct output o;
    uint8_t *junk = malloc(OUTPUT_BYTES + 1);
    size_t n;

    (void)state;
    memset(junk, 0x80, OUTPUT_BYTES + 1); // follow bytes without a lead
    assert_int_equal(output_init(&o), 0);
    n = output_add(&o, 0, span_of(junk, OUTPUT_BYTES + 1));
    assert_true(n > OUTPUT_BYTES - 4);
    output_fini(&o);
    free(junk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_keep_their_order),
        cmocka_unit_test(test_full_takes_nothing_more),
        cmocka_unit_test(test_runs_are_bounded),
        cmocka_unit_test(test_characters_stay_whole),
        cmocka_unit_test(test_bytes_that_are_no_text_get_through),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
