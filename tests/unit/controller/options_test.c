/* options_test.c - the option table, and what its readers make of it */
#include "support.h"

#include <stdlib.h>
#include <string.h>

#include "controller/config.h"
#include "controller/options.h"

static int
read_args(struct settings *s, const char *first, const char *second,
          rh_error *err)
{
    char *argv[] = {mem_strdup("ipcontroller"), mem_strdup(first),
                    mem_strdup(second), NULL};
    enum option_action action;
    int rc = settings_from_args(s, second ? 3 : 2, argv, &action, err);

    for (size_t i = 0; i < 3; i++)
        mem_free(argv[i]);
    return rc;
}

/* Every row can be named, set to its own default, and printed. */
static void
test_rows_are_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < option_n_rows; i++) {
        const struct option_row *row = &option_rows[i];

        assert_non_null(row->traits);
        assert_non_null(strchr(row->traits, '.'));
        assert_non_null(row->help);
        assert_true(strlen(row->help) > 10);
        if (row->kind == OPTION_REFUSED)
            continue;
        assert_non_null(row->initial);
        assert_true(row->at < sizeof(struct settings));
        if (row->kind == OPTION_CHOICE)
            assert_non_null(row->choices);
        for (size_t j = 0; j < i; j++) {
            assert_true(option_rows[j].kind == OPTION_REFUSED
                        || option_rows[j].at != row->at);
            if (row->name && option_rows[j].name)
                assert_string_not_equal(row->name, option_rows[j].name);
        }
    }
}

/* No Class.trait belongs to two rows. */
static void
test_traits_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < option_n_rows; i++)
        for (const char *p = option_rows[i].traits; *p;
             p += strcspn(p, " "), p += *p == ' ') {
            size_t n = strcspn(p, " "), found = 0;

            for (size_t j = 0; j < option_n_rows; j++)
                for (const char *q = option_rows[j].traits; *q;
                     q += strcspn(q, " "), q += *q == ' ')
                    found +=
                        strcspn(q, " ") == n && strncmp(p, q, n) == 0 ? 1 : 0;
            assert_int_equal(found, 1);
        }
}

static void
test_stronger_sources_win(void **state)
{
    struct settings s;
    rh_error err;

    (void)state;
    assert_int_equal(settings_init(&s, &err), 0);
    assert_int_equal(s.hwm, 1);
    assert_int_equal(settings_source(&s, offsetof(struct settings, hwm)),
                     FROM_DEFAULT);
    assert_int_equal(read_args(&s, "--hwm=3", NULL, &err), 0);
    assert_int_equal(settings_from_file(&s, "TaskScheduler.hwm", "4", &err), 0);
    assert_int_equal(s.hwm, 3);
    assert_int_equal(settings_source(&s, offsetof(struct settings, hwm)),
                     FROM_COMMAND);
    // Weaker, but checked all the same.
    assert_int_equal(settings_from_file(&s, "TaskScheduler.hwm", "x", &err),
                     RH_EINVAL);
    assert_int_equal(settings_from_file(&s, "Session.username", "a", &err), 0);
    assert_int_equal(settings_from_file(&s, "Session.username", "b", &err), 0);
    assert_string_equal(s.username, "b");
    settings_fini(&s);
}

static void
test_file_names(void **state)
{
    struct settings s;
    rh_error err;

    (void)state;
    assert_int_equal(settings_init(&s, &err), 0);
    assert_int_equal(settings_from_file(&s, "HubFactory.ip", "*", &err), 0);
    assert_string_equal(s.ip, "*");
    assert_int_equal(settings_from_file(&s, "IPController.ipp", "*", &err),
                     RH_ENOENT);
    assert_non_null(strstr(err.text, "IPController.ip"));
    assert_int_equal(settings_from_file(&s, "Session.metadata", "{}", &err),
                     RH_ESTATE);
    settings_fini(&s);
}

static void
test_port_lists(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        int first, last;
    } good[] = {
        {"1", 1, 1, 1},
        {"1-3", 3, 1, 3},
        {"1-3,9", 4, 1, 9},
        {"[1, 2]", 2, 1, 2},
        {"(65535,)", 1, 65535, 65535},
        {"1-65535", 65535, 1, 65535},
        {"", 0, 0, 0},
        {"[]", 0, 0, 0},
    };
    static const char *const bad[] = {
        "0",  "65536", "1-",   "-1",   "a",
        "1a", "3-1",   "1--3", "1 2x", "99999999999999999999"};
    struct settings s;
    rh_error err;

    (void)state;
    assert_int_equal(settings_init(&s, &err), 0);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(
            settings_from_file(&s, "IPController.ports", good[i].text, &err),
            0);
        assert_int_equal(s.ports.n, good[i].n);
        if (good[i].n) {
            assert_int_equal(s.ports.v[0], good[i].first);
            assert_int_equal(s.ports.v[good[i].n - 1], good[i].last);
        }
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(
            settings_from_file(&s, "IPController.ports", bad[i], &err),
            RH_EINVAL);
    settings_fini(&s);
}

/* What is printed as the value of a setting gives that setting again. */
static void
test_values_round_trip(void **state)
{
    struct settings a, b;
    rh_error err;

    (void)state;
    assert_int_equal(settings_init(&a, &err), 0);
    assert_int_equal(settings_init(&b, &err), 0);
    assert_int_equal(
        settings_from_file(&a, "IPController.ports", "5,7-9", &err), 0);
    for (size_t i = 0; i < option_n_rows; i++) {
        const struct option_row *row = &option_rows[i];
        char trait[80];
        struct buf first, second;

        if (row->kind == OPTION_REFUSED)
            continue;
        snprintf(trait, sizeof(trait), "%.*s", option_trait_len(row),
                 row->traits);
        buf_init(&first);
        buf_init(&second);
        option_value(&a, row, &first);
        buf_add_char(&first, '\0');
        assert_int_equal(
            settings_from_file(&b, trait, (const char *)first.p, &err), 0);
        option_value(&b, row, &second);
        buf_add_char(&second, '\0');
        assert_string_equal((const char *)first.p, (const char *)second.p);
        buf_fini(&first);
        buf_fini(&second);
    }
    settings_fini(&a);
    settings_fini(&b);
}

static void
test_config_json(void **state)
{
    static const char json[] =
        "{\"IPController\": {\"ip\": \"*\", \"ports\": [1, 2],"
        " \"reuse_files\": true, \"nothing\": 1},"
        " \"DictDB\": {\"cull_fraction\": 0.25},"
        " \"MongoDB\": {\"connection_kwargs\": {\"host\": \"h\"}},"
        " \"Elsewhere\": {\"x\": []}}";
    static const char *const bad[] = {"", "[]", "{",
                                      "{\"TaskScheduler\": {\"hwm\": []}}",
                                      "{\"TaskScheduler\": {\"hwm\": -1}}"};
    struct settings s;
    rh_error err;

    (void)state;
    assert_int_equal(settings_init(&s, &err), 0);
    assert_int_equal(config_apply(&s, span_str(json), "c.py", &err), 0);
    assert_string_equal(s.ip, "*");
    assert_int_equal(s.ports.n, 2);
    assert_true(s.reuse);
    assert_true(s.dictdb_cull_fraction > 0.24 && s.dictdb_cull_fraction < 0.26);
    assert_string_equal(s.mongo_kwargs, "{\"host\": \"h\"}");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_true(config_apply(&s, span_str(bad[i]), "c.py", &err) < 0);
        assert_non_null(strstr(err.text, "c.py"));
    }
    settings_fini(&s);
}

static void
test_url(void **state)
{
    static const char *const bad[] = {"--url=host", "--url=tcp://host",
                                      "--url=tcp://h:x", "--url=udp://h:1",
                                      "--url=tcp://h:70000"};
    struct settings s;
    rh_error err;

    (void)state;
    assert_int_equal(settings_init(&s, &err), 0);
    assert_int_equal(read_args(&s, "--url", "tcp://10.0.0.1:77", &err), 0);
    assert_int_equal(settings_finish(&s, &err), 0);
    assert_string_equal(s.ip, "10.0.0.1");
    assert_int_equal(s.regport, 77);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(read_args(&s, bad[i], NULL, &err), 0);
        assert_int_equal(settings_finish(&s, &err), RH_EINVAL);
        assert_non_null(strstr(err.text, "--url"));
    }
    settings_fini(&s);
}

static void
test_out_of_memory(void **state)
{
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct settings s;

        rc = settings_init(&s, NULL);
        if (rc == 0)
            rc = settings_from_file(&s, "IPController.ports", "1-9", NULL);
        if (rc == 0)
            rc = settings_from_file(&s, "IPController.url", "tcp://h:1", NULL);
        if (rc == 0)
            rc = settings_finish(&s, NULL);
        settings_fini(&s);
    });
    assert_int_equal(rc, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_sound),
        cmocka_unit_test(test_traits_are_unique),
        cmocka_unit_test(test_stronger_sources_win),
        cmocka_unit_test(test_file_names),
        cmocka_unit_test(test_port_lists),
        cmocka_unit_test(test_values_round_trip),
        cmocka_unit_test(test_config_json),
        cmocka_unit_test(test_url),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
