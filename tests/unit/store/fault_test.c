/* fault_test.c - refusals read like Python's */
#include "support.h"

#include <string.h>

#include "store/store.h"

// clang-format off
static const struct { const char *text, *repr; } reprs[] = {
    { "plain",      "'plain'" },
    { "",           "''" },
    { "it's",       "\"it's\"" },
    { "say \"x\"",  "'say \"x\"'" },
    { "'\"",        "'\\'\"'" },
    { "a\\b",       "'a\\\\b'" },
    { "a\n\t\r\x01\x7f", "'a\\n\\t\\r\\x01\\x7f'" },
    { "Gr\xc3\xbc\xc3\x9f", "'Gr\xc3\xbc\xc3\x9f'" },
};
// clang-format on

static void
test_repr(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(reprs) / sizeof(reprs[0]); i++) {
        struct buf out = {0};

        fault_repr(&out, span_str(reprs[i].text));
        buf_add_char(&out, '\0');
        assert_string_equal(out.p, reprs[i].repr);
        buf_fini(&out);
    }
}

static void
test_key_errors_are_quoted(void **state)
{
    struct fault f;

    (void)state;
    assert_int_equal(fault_key(&f, RH_ENOENT, "No such message: %s", "nope"),
                     RH_ENOENT);
    assert_string_equal(f.ename, "KeyError");
    assert_string_equal(f.evalue, "'No such message: nope'");
    assert_int_equal(fault_set(&f, RH_EINVAL, "IndexError", "No %d", 3),
                     RH_EINVAL);
    assert_string_equal(f.ename, "IndexError");
    assert_string_equal(f.evalue, "No 3");
    assert_int_equal(fault_key(NULL, RH_ENOENT, "x"), RH_ENOENT);
    assert_int_equal(fault_set(NULL, RH_ENOENT, "E", "x"), RH_ENOENT);
}

static void
test_long_texts_are_cut(void **state)
{
    char text[1000];
    struct fault f;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    fault_key(&f, RH_ENOENT, "%s", text);
    assert_int_equal(strlen(f.evalue), sizeof(f.evalue) - 1);
}

static void
test_without_memory_the_text_stays(void **state)
{
    struct fault f;

    (void)state;
    mem_fail_after(0);
    fault_key(&f, RH_ENOENT, "nope");
    mem_fail_after(-1);
    assert_string_equal(f.evalue, "nope");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repr),
        cmocka_unit_test(test_key_errors_are_quoted),
        cmocka_unit_test(test_long_texts_are_cut),
        cmocka_unit_test(test_without_memory_the_text_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
