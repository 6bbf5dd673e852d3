/* error_test.c - the code table and rh_fail */
#include "support.h"

#include <string.h>

static void
test_every_code_has_its_row(void **state)
{
    (void)state;
#define X(name, value, exception, text)             \
    assert_int_equal(name, value);                  \
    assert_string_equal(rh_code_name(name), #name); \
    assert_string_equal(rh_code_text(name), text);  \
    assert_string_equal(rh_code_exception(name), exception);
    RH_ERR_MAP(X)
#undef X
    assert_string_equal(rh_code_name(RH_OK), "RH_OK");
}

static void
test_unknown_codes_have_names_too(void **state)
{
    (void)state;
    assert_string_equal(rh_code_name(-9999), "RH_UNKNOWN");
    assert_non_null(rh_code_text(7));
    assert_non_null(rh_code_exception(7));
}

static void
test_fail_records_and_returns(void **state)
{
    rh_error err = {0};

    (void)state;
    assert_int_equal(rh_fail(&err, RH_EPROTO, "frame %d", 7), RH_EPROTO);
    assert_int_equal(err.code, RH_EPROTO);
    assert_string_equal(err.text, "frame 7");
    assert_int_equal(rh_fail(NULL, RH_EIO, "nobody listens"), RH_EIO);
}

static void
test_long_texts_are_cut(void **state)
{
    char text[1000];
    rh_error err;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    rh_fail(&err, RH_EIO, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_has_its_row),
        cmocka_unit_test(test_unknown_codes_have_names_too),
        cmocka_unit_test(test_fail_records_and_returns),
        cmocka_unit_test(test_long_texts_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
