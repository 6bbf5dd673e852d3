/* codec_test.c - a socket whose wire does not speak JSON */
#include "support.h"

#include <stdio.h>

#include "net/net.h"
#include "wire/compose.h"

#define WAIT_MS 20000 // only ever waited for when something is broken

static const struct span key = SPAN_INIT("the key");

static struct net_ctx *ctx;

static int
set_up(void **state)
{
    (void)state;
    return net_ctx_new(&ctx, NULL);
}

static int
tear_down(void **state)
{
    (void)state;
    net_ctx_free(&ctx);
    return 0;
}

static struct net_sock *
open_sock(enum net_type type, const char *packer, struct span its_key)
{
    const struct net_codec codec = {packer, packer, its_key, "hmac-sha256"};
    const struct net_options options = {.identity = SPAN_LIT("peer"),
                                        .codec = packer ? &codec : NULL};
    struct net_sock *s = NULL;

    assert_int_equal(net_open(&s, ctx, type, &options, NULL), 0);
    return s;
}

static void
join(struct net_sock *bound, struct net_sock *other)
{
    char url[64];
    int port = 0;

    assert_int_equal(net_bind(bound, "tcp://127.0.0.1:0", &port, NULL), 0);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    assert_int_equal(net_connect(other, url, NULL), 0);
}

/* What 'other' sends to 's'. */
static int
await(struct net_sock *s, struct net_sock *other, struct msg **out,
      rh_error *err)
{
    struct net_pollitem item[] = {{.sock = s, .events = NET_IN},
                                  {.sock = other}};

    assert_int_equal(net_poll(item, 2, WAIT_MS), 1);
    return net_recv(s, out, err);
}

/* A signed request with a buffer. */
static struct msg *
request(struct session *session)
{
    const struct span buffer = SPAN_LIT("not a dict");
    struct sender sender;
    struct msg *m = NULL;

    assert_int_equal(sender_init(&sender, session, NULL, "me", NULL), 0);
    assert_int_equal(compose(&sender,
                             &(struct draft){
                                 .msg_type = "apply_request",
                                 .content = SPAN_LIT("{\"a\": [1, \"b\"]}"),
                                 .buffer = &buffer,
                                 .n_buffers = 1,
                             },
                             &m, NULL),
                     0);
    sender_fini(&sender);
    return m;
}

/* Between two translating sockets a message comes out as it went in, with the
 * signature that JSON has; a third that does not translate sees the wire.
 */
static void
test_translation_is_invisible(void **state)
{
    static const struct {
        const char *packer;
        uint8_t first; // byte of a packed dict on the wire
    } cases[] = {{"pickle", 0x80}, {"msgpack", 0xdf}, {"msgpack.packb", 0xdf}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct net_sock *a = open_sock(NET_DEALER, cases[i].packer, key);
        struct net_sock *b = open_sock(NET_ROUTER, cases[i].packer, key);
        struct net_sock *c = open_sock(NET_DEALER, cases[i].packer, key);
        struct net_sock *d = open_sock(NET_ROUTER, NULL, key);
        struct session *session;
        struct msg *m, *got = NULL;

        assert_int_equal(session_new(&session, key, "hmac-sha256", NULL), 0);
        m = request(session);
        join(b, a);
        assert_int_equal(net_send(a, NULL, 0, m, 0, NULL), 0);
        assert_int_equal(await(b, a, &got, NULL), 0);
        assert_int_equal(msg_parse(got, &msg_limits_default, NULL), 0);
        assert_int_equal(session_verify(session, got, NULL), 0);
        assert_true(span_is(got->frame[0], "peer"));
        for (uint32_t k = 0; k < m->n - m->i_delim; k++)
            assert_true(span_eq(got->frame[got->i_delim + k],
                                m->frame[m->i_delim + k]));
        msg_unref(&got);

        join(d, c);
        assert_int_equal(net_send(c, NULL, 0, m, 0, NULL), 0);
        assert_int_equal(await(d, c, &got, NULL), 0);
        assert_int_equal(msg_parse(got, &msg_limits_default, NULL), 0);
        assert_int_equal(session_verify(session, got, NULL), 0);
        assert_int_equal(msg_part(got, MSG_CONTENT).p[0], cases[i].first);
        msg_unref(&got);

        msg_unref(&m);
        session_free(&session);
        net_close(&a);
        net_close(&b);
        net_close(&c);
        net_close(&d);
    }
}

/* One bad message is dropped, with a text that names the peer and the reason;
 * nothing is unpacked before its signature was found right.
 */
static void
test_refusals(void **state)
{
    const struct {
        const char *packer;
        struct span key;
        int rc;
        const char *says;
    } cases[] = {
        {NULL, key, RH_EPROTO, "pickle"},
        {"msgpack", key, RH_EPROTO, "pickle"},
        {"pickle", SPAN_LIT("another"), RH_EAUTH, "another key"},
        {NULL, SPAN_LIT("another"), RH_EAUTH, "another key"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct net_sock *a =
            open_sock(NET_DEALER, cases[i].packer, cases[i].key);
        struct net_sock *b = open_sock(NET_ROUTER, "pickle", key);
        struct session *session;
        struct msg *m, *got = NULL;
        rh_error err;
        int rc;

        assert_int_equal(
            session_new(&session, cases[i].key, "hmac-sha256", NULL), 0);
        m = request(session);
        join(b, a);
        assert_int_equal(net_send(a, NULL, 0, m, 0, NULL), 0);
        rc = await(b, a, &got, &err);
        assert_int_equal(rc, cases[i].rc);
        assert_true(net_dropped(rc));
        assert_non_null(strstr(err.text, "from 'peer'"));
        assert_non_null(strstr(err.text, cases[i].says));
        assert_null(got);
        msg_unref(&m);
        session_free(&session);
        net_close(&a);
        net_close(&b);
    }
}

static void
test_an_unknown_packer_opens_nothing(void **state)
{
    const struct net_codec codec = {"marshal", "json", key, "hmac-sha256"};
    const struct net_options options = {.codec = &codec};
    struct net_sock *s = NULL;
    rh_error err;

    (void)state;
    assert_int_equal(net_open(&s, ctx, NET_DEALER, &options, &err), RH_EINVAL);
    assert_non_null(strstr(err.text, "marshal"));
    assert_null(s);
}

static void
test_out_of_memory(void **state)
{
    struct net_sock *s = open_sock(NET_DEALER, "pickle", key);
    struct session *session;
    struct msg *m;
    int rc;

    (void)state;
    assert_int_equal(session_new(&session, key, "hmac-sha256", NULL), 0);
    m = request(session);
    OOM_SWEEP(rc, rc = net_send(s, NULL, 0, m, 0, NULL));
    assert_int_equal(rc, RH_EAGAIN); // nobody is there
    net_close(&s);
    msg_unref(&m);
    session_free(&session);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_translation_is_invisible),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_an_unknown_packer_opens_nothing),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
