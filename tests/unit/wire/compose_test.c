/* compose_test.c - outgoing messages, byte for byte as the capture has them */
#include "support.h"

#include <stdio.h>
#include <string.h>

#include "vector.h"
#include "wire/compose.h"
#include "wire/scan.h"

struct fixture {
    struct session *session;
    struct sender sender;
};

static int
setup(void **state)
{
    static struct fixture f;

    *state = &f;
    return session_new(&f.session, SPAN_LIT(VECTOR_KEY), "hmac-sha256", NULL)
                   < 0
               ? -1
               : sender_init(&f.sender, f.session, VECTOR_SESSION, "user",
                             NULL);
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    sender_fini(&f->sender);
    session_free(&f->session);
    return 0;
}

/* The draft of the captured message. */
static struct draft
vector_draft(void)
{
    return (struct draft){.ident = vector_frame,
                          .n_ident = 1,
                          .msg_type = "apply_request",
                          .msg_id = VECTOR_SESSION "_20331_1",
                          .buffer = vector_frame + 7,
                          .n_buffers = VECTOR_N - 7,
                          .wall_us = VECTOR_DATE_US};
}

static void
test_equals_the_capture(void **state)
{
    struct fixture *f = *state;
    struct draft draft = vector_draft();
    struct msg *m = NULL;

    assert_int_equal(compose(&f->sender, &draft, &m, NULL), 0);
    assert_int_equal(m->n, VECTOR_N);
    assert_int_equal(m->i_delim, 1);
    for (size_t i = 0; i < VECTOR_N; i++)
        assert_true(span_eq(m->frame[i], vector_frame[i]));
    assert_int_equal(session_verify(f->session, m, NULL), 0);
    assert_int_equal(msg_parse(m, &msg_limits_default, NULL), 0);
    msg_unref(&m);
}

static void
test_ids_count_up(void **state)
{
    struct fixture *f = *state;
    char want[MSG_ID_SIZE], id[MSG_ID_SIZE];

    f->sender.counter = 0;
    for (int i = 0; i < 12; i++) {
        sender_next_id(&f->sender, id);
        snprintf(want, sizeof(want), "%s_%d_%d", VECTOR_SESSION, f->sender.pid,
                 i);
        assert_string_equal(id, want);
    }
    f->sender.counter = UINT64_MAX;
    f->sender.pid = INT32_MAX;
    memset(f->sender.session, 'x', sizeof(f->sender.session) - 1);
    sender_next_id(&f->sender, id); // the longest there can be
    assert_string_equal(id + 79, "_2147483647_18446744073709551615");
}

static void
test_default_id_and_parts(void **state)
{
    struct fixture *f = *state;
    struct draft draft = {.msg_type = "status",
                          .parent = SPAN_LIT("{\"p\": 1}"),
                          .metadata = SPAN_LIT("{\"m\": 2}"),
                          .content = SPAN_LIT("{\"c\": 3}")};
    struct header_view v;
    char want[MSG_ID_SIZE];
    struct msg *m;

    snprintf(want, sizeof(want), "%s_%d_%llu", VECTOR_SESSION, f->sender.pid,
             (unsigned long long)f->sender.counter);
    assert_int_equal(compose(&f->sender, &draft, &m, NULL), 0);
    assert_int_equal(m->i_delim, 0);
    assert_int_equal(msg_n_buffers(m), 0);
    assert_true(span_is(msg_part(m, MSG_PARENT), "{\"p\": 1}"));
    assert_true(span_is(msg_part(m, MSG_METADATA), "{\"m\": 2}"));
    assert_true(span_is(msg_part(m, MSG_CONTENT), "{\"c\": 3}"));
    assert_int_equal(scan_header(msg_part(m, MSG_HEADER), &v, NULL), 0);
    assert_true(span_is(v.msg_id, want));
    assert_true(span_is(v.date, "1970-01-01T00:00:00.000000Z"));
    assert_int_equal(session_admit(f->session, m, NULL), 0);
    msg_unref(&m);
}

static void
test_owned_buffers_are_shared(void **state)
{
    struct fixture *f = *state;
    struct draft draft = vector_draft();
    struct msg *holder = msg_new(vector_frame + 7, 1), *m;
    struct msg *owner[3] = {holder, NULL, NULL};
    struct span buffer[3] = {holder->frame[0], vector_frame[8], SPAN_NONE};

    draft.buffer = buffer;
    draft.owner = owner;
    assert_int_equal(compose(&f->sender, &draft, &m, NULL), 0);
    assert_int_equal(atomic_load(&holder->refs), 2);
    assert_ptr_equal(msg_buffer(m, 0).p, holder->frame[0].p);
    assert_ptr_not_equal(msg_buffer(m, 1).p, vector_frame[8].p);
    assert_true(span_eq(msg_buffer(m, 1), vector_frame[8]));
    msg_unref(&m);
    assert_int_equal(atomic_load(&holder->refs), 1);
    msg_unref(&holder);
}

static void
test_strange_types_stay_json(void **state)
{
    struct fixture *f = *state;
    struct draft draft = {.msg_type = "a\"b\n", .msg_id = "i\\d"};
    struct scan_field field = {"msg_type", SPAN_NONE};
    struct msg *m;

    assert_int_equal(compose(&f->sender, &draft, &m, NULL), 0);
    assert_int_equal(scan_object(msg_part(m, MSG_HEADER), &field, 1, NULL), 0);
    assert_true(span_is(field.value, "\"a\\\"b\\n\""));
    msg_unref(&m);
}

static void
test_unsigned(void **state)
{
    struct draft draft = vector_draft();
    struct session *open_session;
    struct sender sender;
    struct msg *m;

    (void)state;
    assert_int_equal(session_new(&open_session, SPAN_NONE, "hmac-sha256", NULL),
                     0);
    assert_int_equal(sender_init(&sender, open_session, NULL, "user", NULL), 0);
    assert_int_equal(strlen(sender.session), 33); // a random one
    assert_int_equal(compose(&sender, &draft, &m, NULL), 0);
    assert_int_equal(msg_part(m, MSG_SIGNATURE).n, 0);
    msg_unref(&m);
    sender_fini(&sender);
    session_free(&open_session);
}

static void
test_recompose_shares_and_signs_anew(void **state)
{
    struct fixture *f = *state;
    struct span ident[] = {SPAN_LIT("x"), SPAN_LIT("yy")};
    struct msg *m = msg_new(vector_frame, VECTOR_N), *r;

    assert_int_equal(msg_parse(m, &msg_limits_default, NULL), 0);
    assert_int_equal(recompose(&f->sender, m, ident, 2, SPAN_LIT("{\"h\": 1}"),
                               SPAN_NONE, &r, NULL),
                     0);
    assert_int_equal(r->n, VECTOR_N + 1);
    assert_int_equal(r->i_delim, 2);
    assert_true(span_is(r->frame[0], "x") && span_is(r->frame[1], "yy"));
    assert_true(span_is(msg_part(r, MSG_HEADER), "{\"h\": 1}"));
    assert_int_equal(atomic_load(&m->refs), 2);
    for (int i = MSG_PARENT; i <= MSG_CONTENT; i++)
        assert_ptr_equal(msg_part(r, (enum msg_part)i).p,
                         msg_part(m, (enum msg_part)i).p);
    assert_ptr_equal(msg_buffer(r, 2).p, msg_buffer(m, 2).p);
    assert_int_equal(session_admit(f->session, r, NULL), 0);
    assert_int_equal(session_admit(f->session, m, NULL), 0); // another one
    msg_unref(&r);

    assert_int_equal(recompose(&f->sender, m, NULL, 0, SPAN_LIT("{\"h\": 1}"),
                               SPAN_LIT("{\"m\": 2}"), &r, NULL),
                     0);
    assert_int_equal(r->i_delim, 0);
    assert_true(span_is(msg_part(r, MSG_METADATA), "{\"m\": 2}"));
    msg_unref(&m); // the copy keeps what it needs
    assert_int_equal(session_admit(f->session, r, NULL), 0);
    assert_true(span_eq(msg_buffer(r, 0), vector_frame[7]));
    msg_unref(&r);
}

static void
test_bad_names_are_refused(void **state)
{
    static const struct {
        const char *session, *username, *says;
    } c[] = {
        {"", "user", "session id of 0 bytes"},
        {"0123456789012345678901234567890123456789"
         "0123456789012345678901234567890123456789",
         "user", "session id of 80 bytes"},
        {"a\"b", "user", "session id holds"},
        {"a", "", "user name of 0 bytes"},
        {"a", "b\\c", "user name holds"},
        {"a", "b\nc", "user name holds"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        struct sender sender;
        rh_error err = {0};

        assert_int_equal(
            sender_init(&sender, f->session, c[i].session, c[i].username, &err),
            RH_EINVAL);
        if (!strstr(err.text, c[i].says))
            fail_msg("'%s' lacks '%s'", err.text, c[i].says);
    }
}

static void
test_out_of_memory(void **state)
{
    struct fixture *f = *state;
    struct draft draft = vector_draft();
    struct msg *holder = msg_new(vector_frame, VECTOR_N);
    struct msg *owner[3] = {holder, holder, holder};
    int rc;

    assert_int_equal(msg_parse(holder, &msg_limits_default, NULL), 0);
    draft.owner = owner;
    OOM_SWEEP(rc, {
        struct msg *m = NULL;
        struct msg *r = NULL;
        struct sender sender;

        rc = sender_init(&sender, f->session, NULL, "user", NULL);
        if (rc == 0)
            rc = compose(&sender, &draft, &m, NULL);
        if (rc == 0)
            rc = recompose(&sender, m, vector_frame, 1, SPAN_LIT("{}"),
                           SPAN_LIT("{}"), &r, NULL);
        msg_unref(&m);
        msg_unref(&r);
        sender_fini(&sender);
        assert_int_equal(atomic_load(&holder->refs), 1);
    });
    assert_int_equal(rc, 0);
    msg_unref(&holder);
}

static void
test_one_allocation_per_message(void **state)
{
    struct fixture *f = *state;
    struct draft draft = vector_draft();
    struct msg *m;

    assert_int_equal(compose(&f->sender, &draft, &m, NULL), 0);
    msg_unref(&m);
    mem_fail_after(1);
    assert_int_equal(compose(&f->sender, &draft, &m, NULL), 0);
    mem_fail_after(-1);
    msg_unref(&m);
}

#define SENDER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        SENDER_TEST(test_equals_the_capture),
        SENDER_TEST(test_ids_count_up),
        SENDER_TEST(test_default_id_and_parts),
        SENDER_TEST(test_owned_buffers_are_shared),
        SENDER_TEST(test_strange_types_stay_json),
        cmocka_unit_test(test_unsigned),
        SENDER_TEST(test_recompose_shares_and_signs_anew),
        SENDER_TEST(test_bad_names_are_refused),
        SENDER_TEST(test_out_of_memory),
        SENDER_TEST(test_one_allocation_per_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
