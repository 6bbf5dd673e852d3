/* glob_test.c - patterns as Python's fnmatch.fnmatchcase answers them */
#include "support.h"

#include "store/query.h"

// clang-format off
static const struct { const char *pattern, *text; bool match; } cases[] = {
    { "",          "",         true },
    { "",          "a",        false },
    { "a",         "a",        true },
    { "a",         "A",        false },
    { "a",         "ab",       false },
    { "*",         "",         true },
    { "*",         "anything", true },
    { "a*",        "abc",      true },
    { "*c",        "abc",      true },
    { "a*c",       "abc",      true },
    { "a*c",       "abd",      false },
    { "a*b*c",     "axxbyyc",  true },
    { "a*b*c",     "axxcyyb",  false },
    { "**a",       "bba",      true },
    { "?",         "",         false },
    { "?",         "a",        true },
    { "?",         "\xc3\xbc", true },
    { "??",        "\xc3\xbc", false },
    { "[abc]",     "b",        true },
    { "[abc]",     "d",        false },
    { "[a-c]x",    "bx",       true },
    { "[a-c]x",    "dx",       false },
    { "[!a-c]",    "d",        true },
    { "[!a-c]",    "b",        false },
    { "[]]",       "]",        true },
    { "[!]]",      "]",        false },
    { "[!]]",      "a",        true },
    { "[]-a]",     "^",        true },
    { "[",         "[",        true },
    { "[a",        "[a",       true },
    { "[a",        "a",        false },
    { "[!",        "[!",       true },
    { "[a-]",      "-",        true },
    { "[\xc3\xa0-\xc3\xbc]", "\xc3\xa9", true },
    { "*[0-9]",    "part-7",   true },
    { "*[0-9]",    "part-",    false },
    { "a\\*",      "a\\b",     true },
    { "a\\*",      "a*",       false },
    { "*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", false },
    { "\xff",      "\xff",     true },
    { "\xc3",      "\xc3",     true },
};
// clang-format on

static void
test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const bool match =
            glob_match(span_str(cases[i].pattern), span_str(cases[i].text));

        if (match != cases[i].match)
            fail_msg("'%s' on '%s' gives %d", cases[i].pattern, cases[i].text,
                     match);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
