/* config_test.c - what run_engine is told, and what it refuses */
#include "support.h"

#include <string.h>

#include "engine/engine.h"

#define FILE_(more)                                                    \
    "{\"ssh\": \"\", \"interface\": \"tcp://127.0.0.1\", "             \
    "\"registration\": 1001, \"control\": 1002, \"mux\": 1003, "       \
    "\"task\": 1004, \"iopub\": 1005, \"hb_ping\": 1006, "             \
    "\"hb_pong\": 1007, \"broadcast\": [1008, 1009], \"key\": \"k\", " \
    "\"curve_serverkey\": null, \"location\": \"here\", "              \
    "\"signature_scheme\": \"hmac-sha256\"" more "}"
#define CONNECTION FILE_(", \"pack\": \"json\", \"unpack\": \"json\"")

static int
parse(struct engine_config *out, const char *json, rh_error *err)
{
    return engine_config_parse(out, span_str(json), err);
}

static void
test_defaults(void **state)
{
    struct engine_config c;

    (void)state;
    assert_int_equal(parse(&c, "{\"connection\": " CONNECTION "}", NULL), 0);
    assert_int_equal(c.conn.port[PORT_MUX], 1003);
    assert_int_equal(c.conn.n_broadcast, 2);
    assert_string_equal(c.conn.key, "k");
    assert_string_equal(c.uuid, "");
    assert_int_equal(c.id, -1);
    assert_int_equal(c.timeout_ms, 5000);
    assert_int_equal(c.max_misses, 50);
    assert_false(c.tunnelled);
}

static void
test_every_key(void **state)
{
    struct engine_config c;

    (void)state;
    assert_int_equal(
        parse(&c,
              "{\"connection\": " CONNECTION ", \"key\": \"other\", "
              "\"location\": \"there\", \"uuid\": \"E1\", "
              "\"username\": \"me\", \"registration_url\": \"tcp://h:1\", "
              "\"curve_publickey\": \"pub\", \"curve_secretkey\": \"sec\", "
              "\"id\": 3, \"timeout_ms\": 10, \"max_misses\": 0, "
              "\"grace_ms\": 20, \"log_level\": 40, \"urls\": {\"mux\": "
              "\"tcp://127.0.0.1:5\", \"broadcast\": [\"tcp://a:6\", "
              "\"tcp://a:7\"]}}",
              NULL),
        0);
    assert_string_equal(c.conn.key, "other");
    assert_string_equal(c.conn.location, "there");
    assert_string_equal(c.uuid, "E1");
    assert_string_equal(c.username, "me");
    assert_string_equal(c.registration_url, "tcp://h:1");
    assert_string_equal(c.curve_public, "pub");
    assert_string_equal(c.curve_secret, "sec");
    assert_int_equal(c.id, 3);
    assert_int_equal(c.timeout_ms, 10);
    assert_int_equal(c.max_misses, 0);
    assert_int_equal(c.grace_ms, 20);
    assert_string_equal(c.url[PORT_MUX], "tcp://127.0.0.1:5");
    assert_string_equal(c.url[PORT_TASK], "");
    assert_string_equal(c.broadcast_url[1], "tcp://a:7");
    assert_true(c.tunnelled);
}

#define WITH(more) "{\"connection\": " CONNECTION ", " more "}"

// clang-format off
static const struct {
    const char *name, *json, *says;
    int rc;
} refusals[] = {
    { "no JSON",          "nonsense",                     "",           RH_EPROTO },
    { "no connection",    "{}",                           "connection", RH_EPROTO },
    { "id is text",       WITH("\"id\": \"3\""),          "id",         RH_EPROTO },
    { "id is negative",   WITH("\"id\": -2"),             "-2",         RH_EINVAL },
    { "uuid is a number", WITH("\"uuid\": 3"),            "uuid",       RH_EPROTO },
    { "uuid is too long", WITH("\"uuid\": \"aaaaaaaaaabbbbbbbbbbccccccccccdddd"
                               "ddddddeeeeeeeeeeffffffffffgggggggggghhhhhhhhhh\""),
                                                          "79",         RH_EINVAL },
    { "a NUL inside",     WITH("\"uuid\": \"a\\u0000b\""), "uuid",      RH_EINVAL },
    { "urls is a list",   WITH("\"urls\": []"),           "",           RH_EPROTO },
    { "url is a number",  WITH("\"urls\": {\"task\": 1}"), "task",      RH_EPROTO },
    { "foreign packer",   "{\"connection\": " FILE_(", \"pack\": \"dill\", "
                          "\"unpack\": \"dill\"") "}",    "dill",       RH_EINVAL },
    { "unwritable log",   WITH("\"log_file\": \"/no/such/dir/x\""),
                                                          "/no/such",   RH_EIO    },
};
// clang-format on

static void
test_refusals_name_the_key(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct engine_config c;
        rh_error err = {.code = 0};

        print_message("%s\n", refusals[i].name);
        assert_int_equal(parse(&c, refusals[i].json, &err), refusals[i].rc);
        assert_non_null(strstr(err.text, refusals[i].says));
    }
}

static void
test_out_of_memory(void **state)
{
    struct engine_config c;
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        rc = parse(&c, WITH("\"uuid\": \"\\u0041\", \"username\": \"\\u0042\""),
                   NULL);
    });
    assert_string_equal(c.uuid, "A");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_refusals_name_the_key),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
