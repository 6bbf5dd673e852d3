/* broadcast_test.c - the broadcast core with a recording port
 *
 * The claim of every test: each target is answered for exactly once, and
 * nothing else is sent.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "controller/broadcast.h"
#include "wire/scan.h"

#define N_MAX 256
#define WALL INT64_C(1700000000000000)

struct rig {
    struct session *session, *peer_session;
    struct sender sender, peer;
    struct broadcast *core;
    bool dead[8]; // engines e0 ... e7; all others are unknown
    struct msg *to_engine[N_MAX], *to_client[N_MAX];
    size_t n_to_engine, n_to_client, n_in, n_out;
};

static bool
alive(void *ctx, struct span uuid)
{
    const struct rig *rig = ctx;

    return uuid.n == 2 && uuid.p[0] == 'e' && uuid.p[1] < '8'
           && !rig->dead[uuid.p[1] - '0'];
}

static void
to_engine(void *ctx, struct span uuid, int id, struct msg *m)
{
    struct rig *rig = ctx;

    assert_true(span_eq(uuid, m->frame[0]));
    assert_int_equal(id, uuid.p[1] - '0');
    assert_true(rig->n_to_engine < N_MAX);
    rig->to_engine[rig->n_to_engine++] = msg_ref(m);
}

static void
to_client(void *ctx, struct msg *m)
{
    struct rig *rig = ctx;

    assert_true(rig->n_to_client < N_MAX);
    assert_true(span_is(m->frame[0], "cid"));
    assert_int_equal(session_verify(rig->session, m, NULL), 0);
    rig->to_client[rig->n_to_client++] = msg_ref(m);
}

static void
copy(void *ctx, enum hub_kind kind, struct msg *m)
{
    struct rig *rig = ctx;

    assert_true(m->i_delim != MSG_NO_DELIM);
    rig->n_in += kind == HUB_INBCAST;
    rig->n_out += kind == HUB_OUTBCAST;
}

static void
rig_clear(struct rig *rig)
{
    while (rig->n_to_engine)
        msg_unref(&rig->to_engine[--rig->n_to_engine]);
    while (rig->n_to_client)
        msg_unref(&rig->to_client[--rig->n_to_client]);
    rig->n_in = rig->n_out = 0;
}

static int
setup(void **state)
{
    struct rig *rig = mem_zalloc(1, sizeof(*rig));
    const struct broadcast_port port = {
        .ctx = rig,
        .alive = alive,
        .to_engine = to_engine,
        .to_client = to_client,
        .copy = copy,
    };

    assert_non_null(rig);
    assert_int_equal(
        session_new(&rig->session, SPAN_LIT("key"), "hmac-sha256", NULL), 0);
    assert_int_equal(
        session_new(&rig->peer_session, SPAN_LIT("key"), "hmac-sha256", NULL),
        0);
    assert_int_equal(sender_init(&rig->sender, rig->session, "hub", "u", NULL),
                     0);
    assert_int_equal(
        sender_init(&rig->peer, rig->peer_session, "peer", "u", NULL), 0);
    assert_int_equal(
        broadcast_new(&rig->core, rig->session, &rig->sender, &port, NULL), 0);
    *state = rig;
    return 0;
}

static int
teardown(void **state)
{
    struct rig *rig = *state;

    rig_clear(rig);
    broadcast_free(&rig->core);
    sender_fini(&rig->sender);
    sender_fini(&rig->peer);
    session_free(&rig->session);
    session_free(&rig->peer_session);
    mem_free(rig);
    return 0;
}

static struct msg *
message(struct rig *rig, const struct span *ident, size_t n_ident,
        const char *type, const char *id, struct span parent,
        const char *metadata, const char *content, const char *buffer)
{
    struct span b = span_str(buffer);
    struct msg *m = NULL;

    assert_int_equal(compose(&rig->peer,
                             &(struct draft){
                                 .ident = ident,
                                 .n_ident = n_ident,
                                 .msg_type = type,
                                 .msg_id = id,
                                 .parent = parent,
                                 .metadata = span_str(metadata),
                                 .content = span_str(content),
                                 .buffer = &b,
                                 .n_buffers = buffer ? 1 : 0,
                                 .wall_us = WALL,
                             },
                             &m, NULL),
                     0);
    return m;
}

/* A request to the given targets (raw JSON). */
static int
request(struct rig *rig, const char *id, const char *targets, bool coalescing)
{
    const struct span ident = SPAN_LIT("cid");
    char metadata[4096];
    struct msg *m;
    int rc;

    snprintf(metadata, sizeof(metadata),
             "{\"x\": 1, \"targets\": %s, \"is_broadcast\": true, "
             "\"is_coalescing\": %s}",
             targets, coalescing ? "true" : "false");
    m = message(rig, &ident, 1, "apply_request", id, SPAN_NONE, metadata, "{}",
                "data");
    rc = broadcast_on_request(rig->core, m, WALL, NULL);
    msg_unref(&m);
    return rc;
}

/* The engine's reply to a request it got. */
static int
reply(struct rig *rig, const struct msg *asked, const char *status,
      const char *buffer)
{
    const struct span ident[] = {asked->frame[0], asked->frame[1]};
    char content[64];
    struct msg *m;
    int rc;

    snprintf(content, sizeof(content), "{\"status\": \"%s\"}", status);
    m = message(rig, ident, 2, "apply_reply", NULL, msg_part(asked, MSG_HEADER),
                "{\"is_coalescing\": true}", content, buffer);
    rc = broadcast_on_reply(rig->core, m, WALL, NULL);
    msg_unref(&m);
    return rc;
}

static bool
has_text(struct span s, const char *text)
{
    return memmem(s.p, s.n, text, strlen(text)) != NULL;
}

static void
assert_parent_id(const struct msg *m, const char *id)
{
    struct header_view parent;

    assert_int_equal(scan_header(msg_part(m, MSG_PARENT), &parent, NULL), 0);
    assert_true(span_is(parent.msg_id, id));
}

static void
test_a_copy_for_each(void **state)
{
    struct rig *rig = *state;
    struct header_view header;

    assert_int_equal(request(rig, "b1", "[[\"e0\", 0], [\"e1\", 1]]", false),
                     0);
    assert_int_equal(rig->n_to_engine, 2);
    assert_int_equal(rig->n_to_client, 0);
    assert_int_equal(rig->n_in, 2);
    assert_int_equal(broadcast_n_open(rig->core), 2);
    for (size_t i = 0; i < 2; i++) {
        struct msg *m = rig->to_engine[i];
        char id[16], targets[32];

        snprintf(id, sizeof(id), "b1_e%zu", i);
        snprintf(targets, sizeof(targets), "[[\"e%zu\", %zu]]", i, i);
        assert_int_equal(session_verify(rig->session, m, NULL), 0);
        assert_int_equal(scan_header(msg_part(m, MSG_HEADER), &header, NULL),
                         0);
        assert_true(span_is(header.msg_id, id));
        assert_true(span_is(header.session, "peer"));
        assert_true(has_text(msg_part(m, MSG_METADATA), targets));
        assert_true(has_text(msg_part(m, MSG_METADATA), "\"x\": 1"));
        assert_true(
            has_text(msg_part(m, MSG_METADATA), "\"original_msg_id\": \"b1\""));
        assert_true(span_is(msg_buffer(m, 0), "data"));
    }
    assert_int_equal(reply(rig, rig->to_engine[1], "ok", "r1"), 0);
    assert_int_equal(reply(rig, rig->to_engine[0], "error", NULL), 0);
    assert_int_equal(rig->n_to_client, 2);
    assert_int_equal(rig->n_out, 2);
    assert_parent_id(rig->to_client[0], "b1_e1");
    assert_int_equal(broadcast_n_open(rig->core), 0);
    // Nobody waits any more.
    assert_int_equal(reply(rig, rig->to_engine[0], "ok", NULL), RH_ENOENT);
    assert_int_equal(rig->n_to_client, 2);
}

static void
test_one_reply_in_the_order_of_the_targets(void **state)
{
    struct rig *rig = *state;
    struct msg *m;

    assert_int_equal(
        request(rig, "b1", "[[\"e2\", 2], [\"e0\", 0], [\"e1\", 1]]", true), 0);
    assert_int_equal(rig->n_in, 1);
    assert_int_equal(reply(rig, rig->to_engine[2], "ok", "one"), 0);
    assert_int_equal(reply(rig, rig->to_engine[0], "ok", "two"), 0);
    assert_int_equal(rig->n_to_client, 0);
    assert_int_equal(reply(rig, rig->to_engine[1], "ok", "zero"), 0);
    assert_int_equal(rig->n_to_client, 1);
    m = rig->to_client[0];
    assert_parent_id(m, "b1");
    assert_int_equal(msg_n_buffers(m), 3);
    assert_true(span_is(msg_buffer(m, 0), "two"));
    assert_true(span_is(msg_buffer(m, 1), "zero"));
    assert_true(span_is(msg_buffer(m, 2), "one"));
    assert_true(has_text(
        msg_part(m, MSG_METADATA),
        "\"broadcast_targets\": [[\"e2\", 2], [\"e0\", 0], [\"e1\", 1]]"));
    assert_int_equal(broadcast_n_open(rig->core), 0);
}

static void
test_the_first_failure_answers_for_all(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(
        request(rig, "b1", "[[\"e0\", 0], [\"e1\", 1], [\"e2\", 2]]", true), 0);
    assert_int_equal(reply(rig, rig->to_engine[0], "ok", "x"), 0);
    assert_int_equal(reply(rig, rig->to_engine[1], "error", NULL), 0);
    assert_int_equal(rig->n_to_client, 1);
    assert_int_equal(msg_n_buffers(rig->to_client[0]), 0);
    assert_true(has_text(msg_part(rig->to_client[0], MSG_CONTENT), "error"));
    assert_int_equal(reply(rig, rig->to_engine[2], "ok", "y"), RH_ENOENT);
    assert_int_equal(rig->n_to_client, 1);
    assert_int_equal(broadcast_n_open(rig->core), 0);
}

static void
test_deaths(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(request(rig, "b1", "[[\"e0\", 0], [\"e1\", 1]]", false),
                     0);
    assert_int_equal(request(rig, "b2", "[[\"e0\", 0], [\"e1\", 1]]", true), 0);
    assert_int_equal(request(rig, "b3", "[[\"e1\", 1]]", true), 0);
    broadcast_on_engine_lost(rig->core, SPAN_LIT("e0"), SPAN_LIT("killed"),
                             WALL);
    assert_int_equal(rig->n_to_client, 2); // a part of b1, and all of b2
    for (size_t i = 0; i < 2; i++) {
        struct span content = msg_part(rig->to_client[i], MSG_CONTENT);

        assert_true(has_text(content, "EngineError"));
        assert_true(has_text(content, "Engine 0 died while running task 'b"));
        assert_true(has_text(content, "killed"));
    }
    assert_int_equal(broadcast_n_open(rig->core), 2);
    broadcast_on_engine_lost(rig->core, SPAN_LIT("e0"), SPAN_NONE, WALL);
    broadcast_on_engine_lost(rig->core, SPAN_LIT("e9"), SPAN_NONE, WALL);
    assert_int_equal(rig->n_to_client, 2);
    broadcast_on_engine_lost(rig->core, SPAN_LIT("e1"), SPAN_NONE, WALL);
    assert_int_equal(rig->n_to_client, 4);
    assert_int_equal(broadcast_n_open(rig->core), 0);
}

static void
test_unknown_engines(void **state)
{
    struct rig *rig = *state;

    rig->dead[1] = true;
    assert_int_equal(request(rig, "b1",
                             "[[\"e0\", 0], [\"e1\", 1], [\"z\\u00e9\", 9]]",
                             false),
                     0);
    assert_int_equal(rig->n_to_engine, 1);
    assert_int_equal(rig->n_to_client, 2);
    assert_parent_id(rig->to_client[0], "b1_e1");
    rig_clear(rig);
    assert_int_equal(request(rig, "b2", "[[\"e0\", 0], [\"e1\", 1]]", true), 0);
    assert_int_equal(rig->n_to_client, 1);
    assert_int_equal(broadcast_n_open(rig->core), 1); // b1's part at e0
}

static void
test_refusals(void **state)
{
    static const char *const targets[] = {"[]",
                                          "{}",
                                          "null",
                                          "\"e0\"",
                                          "[1]",
                                          "[[]]",
                                          "[[\"e0\"]]",
                                          "[[0, \"e0\"]]",
                                          "[[\"\", 0]]",
                                          "[[\"e0\", 0.5]]",
                                          "[[\"e0\", 99999999999]]",
                                          "[[\"e0\", 0], 5]"};
    struct rig *rig = *state;

    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        char id[16];

        snprintf(id, sizeof(id), "b%zu", i);
        rig_clear(rig);
        assert_int_equal(request(rig, id, targets[i], i % 2 == 0), 0);
        assert_int_equal(rig->n_to_client, 1);
        assert_int_equal(rig->n_to_engine, 0);
        assert_parent_id(rig->to_client[0], id);
        assert_true(
            has_text(msg_part(rig->to_client[0], MSG_CONTENT), "ValueError"));
    }
    assert_int_equal(broadcast_n_open(rig->core), 0);
}

static void
test_an_id_in_use(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(request(rig, "b1", "[[\"e0\", 0]]", false), 0);
    assert_int_equal(request(rig, "b1", "[[\"e0\", 0], [\"e1\", 1]]", false),
                     0);
    assert_int_equal(rig->n_to_engine, 2); // e0 once, e1 once
    assert_int_equal(rig->n_to_client, 1);
    assert_true(has_text(msg_part(rig->to_client[0], MSG_CONTENT), "in use"));
    assert_int_equal(broadcast_n_open(rig->core), 2);
}

static void
test_only_who_was_asked_may_answer(void **state)
{
    struct rig *rig = *state;
    const struct span other[] = {SPAN_LIT("e1"), SPAN_LIT("cid")};
    const struct span elsewhere[] = {SPAN_LIT("e0"), SPAN_LIT("dic")};
    struct msg *m;

    assert_int_equal(request(rig, "b1", "[[\"e0\", 0]]", false), 0);
    m = message(rig, other, 2, "apply_reply", NULL,
                msg_part(rig->to_engine[0], MSG_HEADER), "{}", "{}", NULL);
    assert_int_equal(broadcast_on_reply(rig->core, m, WALL, NULL), RH_EPROTO);
    msg_unref(&m);
    m = message(rig, elsewhere, 2, "apply_reply", NULL,
                msg_part(rig->to_engine[0], MSG_HEADER), "{}", "{}", NULL);
    assert_int_equal(broadcast_on_reply(rig->core, m, WALL, NULL), RH_EPROTO);
    msg_unref(&m);
    assert_int_equal(rig->n_to_client, 0);
    assert_int_equal(reply(rig, rig->to_engine[0], "ok", NULL), 0);
    assert_int_equal(rig->n_to_client, 1);
}

static void
test_the_same_bytes_again(void **state)
{
    const struct span ident = SPAN_LIT("cid");
    struct rig *rig = *state;
    struct msg *m = message(
        rig, &ident, 1, "apply_request", "b1", SPAN_NONE,
        "{\"targets\": [[\"e0\", 0]], \"is_coalescing\": false}", "{}", NULL);

    assert_int_equal(broadcast_on_request(rig->core, m, WALL, NULL), 0);
    assert_int_equal(broadcast_on_request(rig->core, m, WALL, NULL),
                     RH_EREPLAY);
    assert_int_equal(rig->n_to_engine, 1);
    msg_unref(&m);
}

/* Random requests, replies and deaths: at the end every target has been
 * answered for, exactly once.
 */
static void
test_storm(void **state)
{
    struct rig *rig = *state;
    uint64_t seed = 42;
    size_t owed = 0, got = 0;

    for (int round = 0; round < 2000; round++) {
        char id[16], targets[256] = "[";
        bool coalescing;
        size_t n;

        seed = seed * 6364136223846793005U + 1442695040888963407U;
        n = 1 + (seed >> 33) % 5;
        coalescing = (seed >> 40) % 2;
        for (size_t i = 0; i < n; i++) {
            size_t at = strlen(targets);
            size_t e = (i + (seed >> 45)) % 10; // e8 and e9 do not exist

            snprintf(targets + at, sizeof(targets) - at, "%s[\"e%zu\", %zu]",
                     i ? ", " : "", e, e);
        }
        strncat(targets, "]", sizeof(targets) - strlen(targets) - 1);
        snprintf(id, sizeof(id), "b%d", round);
        assert_int_equal(request(rig, id, targets, coalescing), 0);
        owed += coalescing ? 1 : n;
        for (size_t i = 0; i < rig->n_to_engine; i++)
            switch ((seed >> (i + 50)) % 3) {
            case 0:
                broadcast_on_engine_lost(rig->core, rig->to_engine[i]->frame[0],
                                         SPAN_NONE, WALL);
                break;
            default:
                (void)reply(rig, rig->to_engine[i],
                            (seed >> i) % 4 ? "ok" : "error", "x");
            }
        got += rig->n_to_client;
        assert_int_equal(broadcast_n_open(rig->core), 0);
        rig_clear(rig);
    }
    assert_int_equal(got, owed);
}

/* Each allocation fails once: an answer may be lost with it, but nothing is
 * left open, sent twice or leaked.
 */
static void
test_out_of_memory(void **state)
{
    for (long n = 0; n < 200; n++) {
        struct rig *rig;
        const struct span ident = SPAN_LIT("cid");
        struct msg *m, *r = NULL;

        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
        rig = *state;
        m = message(rig, &ident, 1, "apply_request", "b1", SPAN_NONE,
                    "{\"targets\": [[\"e0\", 0], [\"e1\", 1], [\"zz\", 2]],"
                    " \"is_coalescing\": false}",
                    "{}", "data");
        mem_fail_after(n);
        (void)broadcast_on_request(rig->core, m, WALL, NULL);
        mem_fail_after(-1);
        msg_unref(&m);
        assert_true(rig->n_to_client <= 3);
        if (rig->n_to_engine) {
            const struct span route[] = {rig->to_engine[0]->frame[0],
                                         SPAN_LIT("cid")};

            r = message(rig, route, 2, "apply_reply", NULL,
                        msg_part(rig->to_engine[0], MSG_HEADER), "{}",
                        "{\"status\": \"ok\"}", NULL);
            mem_fail_after(n % 7);
            (void)broadcast_on_reply(rig->core, r, WALL, NULL);
            mem_fail_after(-1);
            msg_unref(&r);
        }
        broadcast_on_engine_lost(rig->core, SPAN_LIT("e0"), SPAN_NONE, WALL);
        broadcast_on_engine_lost(rig->core, SPAN_LIT("e1"), SPAN_NONE, WALL);
        assert_int_equal(broadcast_n_open(rig->core), 0);
        assert_true(rig->n_to_client <= 3);
    }
}

#define RIG(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        RIG(test_a_copy_for_each),
        RIG(test_one_reply_in_the_order_of_the_targets),
        RIG(test_the_first_failure_answers_for_all),
        RIG(test_deaths),
        RIG(test_unknown_engines),
        RIG(test_refusals),
        RIG(test_an_id_in_use),
        RIG(test_only_who_was_asked_may_answer),
        RIG(test_the_same_bytes_again),
        RIG(test_storm),
        RIG(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
