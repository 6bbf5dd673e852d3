/* session_test.c - the captured signature, forgeries, replays, schemes */
#include "support.h"

#include <string.h>

#include "vector.h"
#include "wire/session.h"

static struct session *
vector_session(void)
{
    struct session *s = NULL;
    rh_error err = {0};

    assert_int_equal(session_new(&s, SPAN_LIT(VECTOR_KEY), "hmac-sha256", &err),
                     0);
    return s;
}

/* The captured message with one frame replaced (i == VECTOR_N: none). */
static struct msg *
vector_msg(size_t i, struct span frame)
{
    struct span f[VECTOR_N];
    struct msg *m;

    memcpy(f, vector_frame, sizeof(f));
    if (i < VECTOR_N)
        f[i] = frame;
    m = msg_new(f, VECTOR_N);
    assert_non_null(m);
    assert_int_equal(msg_parse(m, &msg_limits_default, NULL), 0);
    return m;
}

static void
test_signs_like_the_capture(void **state)
{
    struct session *s = vector_session();
    char hex[SESSION_HEX_MAX];

    (void)state;
    for (int i = 0; i < 3; i++) { // re-arming works
        assert_int_equal(session_sign(s, &vector_frame[3], hex), 64);
        assert_memory_equal(hex, VECTOR_SIGNATURE, 64);
    }
    session_free(&s);
    assert_null(s);
    session_free(&s);
}

static void
test_verifies_the_capture(void **state)
{
    struct session *s = vector_session();
    struct msg *m = vector_msg(VECTOR_N, SPAN_NONE);
    rh_error err = {0};

    (void)state;
    for (int i = 0; i < 3; i++) // looking does not remember
        assert_int_equal(session_verify(s, m, &err), 0);
    msg_unref(&m);
    session_free(&s);
}

static const struct {
    const char *name;
    size_t i;
    struct span frame;
    int rc;
} forgery[] = {
    {"routing is not signed", 0, SPAN_INIT("other"), 0},
    {"buffers are not signed", 8, SPAN_INIT("other"), 0},
    {"no signature", 2, SPAN_INIT(""), RH_EAUTH},
    {"short", 2, SPAN_INIT("3bd76f51"), RH_EAUTH},
    {"one byte short", 2,
     SPAN_INIT("3bd76f510e886b14e13c854a9b92ed7d9900713aca90dca85286ef51d0f7"
               "924"),
     RH_EAUTH},
    {"one byte long", 2, SPAN_INIT(VECTOR_SIGNATURE "0"), RH_EAUTH},
    {"last digit", 2,
     SPAN_INIT("3bd76f510e886b14e13c854a9b92ed7d9900713aca90dca85286ef51d0f7"
               "924b"),
     RH_EAUTH},
    {"upper case", 2,
     SPAN_INIT("3BD76F510E886B14E13C854A9B92ED7D9900713ACA90DCA85286EF51D0F7"
               "924A"),
     RH_EAUTH},
    {"other header", 3, SPAN_INIT("{}"), RH_EAUTH},
    {"other parent", 4, SPAN_INIT("{ }"), RH_EAUTH},
    {"other metadata", 5, SPAN_INIT("{\"a\": 1}"), RH_EAUTH},
    {"other content", 6, SPAN_INIT(""), RH_EAUTH},
};

static void
test_forgeries(void **state)
{
    struct session *s = vector_session();

    (void)state;
    for (size_t i = 0; i < sizeof(forgery) / sizeof(forgery[0]); i++) {
        struct msg *m = vector_msg(forgery[i].i, forgery[i].frame);
        rh_error err = {0};

        if (session_verify(s, m, &err) != forgery[i].rc)
            fail_msg("%s: not %d", forgery[i].name, forgery[i].rc);
        assert_int_equal(err.code, forgery[i].rc);
        msg_unref(&m);
    }
    session_free(&s);
}

static void
test_each_signature_is_admitted_once(void **state)
{
    struct session *s = vector_session(), *other = vector_session();
    struct msg *m = vector_msg(VECTOR_N, SPAN_NONE);
    struct msg *bad = vector_msg(3, SPAN_LIT("{}"));
    rh_error err = {0};

    (void)state;
    assert_int_equal(session_admit(s, bad, &err), RH_EAUTH);
    assert_int_equal(session_admit(s, m, &err), 0);
    assert_int_equal(session_admit(s, m, &err), RH_EREPLAY);
    assert_int_equal(err.code, RH_EREPLAY);
    assert_int_equal(session_verify(s, m, &err), 0);
    assert_int_equal(session_admit(s, bad, &err), RH_EAUTH);
    // Each receiver has a memory of its own.
    assert_int_equal(session_admit(other, m, &err), 0);
    msg_unref(&m);
    msg_unref(&bad);
    session_free(&s);
    session_free(&other);
}

static void
test_forgotten_messages_are_admitted_again(void **state)
{
    struct session *s = vector_session();
    struct msg *m = vector_msg(VECTOR_N, SPAN_NONE);
    struct msg *bad = vector_msg(3, SPAN_LIT("{}"));

    (void)state;
    session_forget(s, m); // never seen: nothing happens
    assert_int_equal(session_admit(s, m, NULL), 0);
    session_forget(s, bad); // not signed by the key: nothing happens
    assert_int_equal(session_admit(s, m, NULL), RH_EREPLAY);
    session_forget(s, m);
    assert_int_equal(session_admit(s, m, NULL), 0);
    assert_int_equal(session_admit(s, m, NULL), RH_EREPLAY);
    msg_unref(&m);
    msg_unref(&bad);
    session_free(&s);
}

static void
test_empty_key_switches_everything_off(void **state)
{
    struct msg *m = vector_msg(2, SPAN_LIT("whatever"));
    char hex[SESSION_HEX_MAX];
    struct session *s;

    (void)state;
    assert_int_equal(session_new(&s, SPAN_NONE, "hmac-sha256", NULL), 0);
    assert_int_equal(session_sign(s, &vector_frame[3], hex), 0);
    assert_int_equal(session_verify(s, m, NULL), 0);
    assert_int_equal(session_admit(s, m, NULL), 0);
    assert_int_equal(session_admit(s, m, NULL), 0);
    msg_unref(&m);
    session_free(&s);
}

/* HMACs of the captured dicts under other digests, made with Python's hmac. */
// clang-format off
static const struct {
    const char *scheme, *hex;
} scheme_case[] = {
    { "hmac-sha256",
      "3bd76f510e886b14e13c854a9b92ed7d9900713aca90dca85286ef51d0f7"
      "924a" },
    { "hmac-sha1",
      "7f228adc8b0041717d4ab54b601a926b409d420a" },
    { "hmac-md5",
      "081815a218e1403c43895e8e65ebdf40" },
    { "hmac-sha384",
      "dc0dff3234e81bcde8b94c00b5866c325ef79148084618b9ecc97ac11dee"
      "b2d825b6371684b4009844af42e6abb1b671" },
    { "hmac-sha512",
      "cd3ddb594a10c75463101c218fbb15a81428064684dd1e65c529b1251ddf"
      "eb1c5a8317a1b3af756a4fcf50e4787b069c460d898c072fa0f21a815f3a"
      "5ef685ba" },
    { "hmac-sha3_256",
      "82679c76e8e4dfd0ebce298233683e2a7c87d7ff0e304e660436139b7c22"
      "3f6e" },
    { "hmac-sha512_256",
      "a949ecae8aac704c4a27c2986d633bbe741ad1cb0880a1d911e1809e53a5"
      "2ab0" },
    { "hmac-blake2b",
      "9ce7ecb4688600d6e1bb5ab90a37b984fd8ed0e2f0fd5ceb627780b24082"
      "32247596ffeb33ebc3cd6917410c0c26cb13ab4a005ba2db097b71f67178"
      "967bb797" },
    { "hmac-blake2s",
      "38f90f7f510949a3a2df19ef6537893967002b9aad06e8ae61f421e7123b"
      "a84d" },
    { "hmac-sha224",
      "45b7fe6a0e3d9a1e0e222b299c6961586c6c1ab659a3efacb81ef2b5" },
};

static const char *const bad_scheme[] = {
    "", "hmac", "hmac-", "sha256", "hmac_sha256", "HMAC-sha256",
    "hmac-nonesuch", "hmac-shake_128", "hmac-shake128", "hmac-%s%n",
    "hmac-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};
// clang-format on

static void
test_schemes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(scheme_case) / sizeof(scheme_case[0]); i++) {
        char hex[SESSION_HEX_MAX];
        struct session *s = NULL;
        rh_error err = {0};
        int n;

        if (session_new(&s, SPAN_LIT(VECTOR_KEY), scheme_case[i].scheme, &err)
            < 0)
            fail_msg("%s: %s", scheme_case[i].scheme, err.text);
        n = session_sign(s, &vector_frame[3], hex);
        assert_int_equal(n, strlen(scheme_case[i].hex));
        assert_memory_equal(hex, scheme_case[i].hex, (size_t)n);
        session_free(&s);
    }
    for (size_t i = 0; i < sizeof(bad_scheme) / sizeof(bad_scheme[0]); i++) {
        struct session *s = NULL;
        rh_error err = {0};

        if (session_new(&s, SPAN_LIT("key"), bad_scheme[i], &err) != RH_EINVAL)
            fail_msg("accepted '%s'", bad_scheme[i]);
        assert_null(s);
        // A wrong scheme is wrong without a key, too.
        assert_int_equal(session_new(&s, SPAN_NONE, bad_scheme[i], NULL),
                         RH_EINVAL);
        assert_non_null(strstr(err.text, "signature scheme"));
    }
}

static void
test_keys_of_any_length(void **state)
{
    char key[300], hex[2][SESSION_HEX_MAX] = {""};

    (void)state;
    memset(key, 'k', sizeof(key));
    for (size_t n = 1; n <= sizeof(key); n += 23) {
        struct session *s;

        assert_int_equal(session_new(&s, span_of(key, n), "hmac-sha256", NULL),
                         0);
        assert_int_equal(session_sign(s, &vector_frame[3], hex[n % 2]), 64);
        assert_memory_not_equal(hex[0], hex[1], 64);
        session_free(&s);
    }
}

static void
test_out_of_memory(void **state)
{
    struct msg *m = vector_msg(VECTOR_N, SPAN_NONE);
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct session *s = NULL;

        rc = session_new(&s, SPAN_LIT(VECTOR_KEY), "hmac-sha256", NULL);
        if (rc == 0)
            rc = session_admit(s, m, NULL);
        session_free(&s);
    });
    assert_int_equal(rc, 0);
    msg_unref(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signs_like_the_capture),
        cmocka_unit_test(test_verifies_the_capture),
        cmocka_unit_test(test_forgeries),
        cmocka_unit_test(test_each_signature_is_admitted_once),
        cmocka_unit_test(test_forgotten_messages_are_admitted_again),
        cmocka_unit_test(test_empty_key_switches_everything_off),
        cmocka_unit_test(test_schemes),
        cmocka_unit_test(test_keys_of_any_length),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
