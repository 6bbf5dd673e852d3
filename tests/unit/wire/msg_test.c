/* msg_test.c - shape and limits of messages, and who keeps whom alive */
#include "support.h"

#include <stdbool.h>
#include <string.h>

#include "wire/msg.h"

#define S SPAN_INIT
#define MSG S("<IDS|MSG>"), S("sig"), S("{}"), S("{}"), S("{}"), S("{}")
#define LONG16 "0123456789abcdef"
#define LONG128 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16 LONG16

static const struct msg_limits tight = {
    .max_idents = 2, .max_buffers = 2, .max_ident = 4, .max_dict = 8};

// clang-format off
static const struct {
    const char *name;
    struct span f[12];
    size_t n;
    int rc;
    uint32_t delim;
    const char *says; // part of the error text
} parse_case[] = {
    { "nothing",            { S("") }, 0, RH_EPROTO, 0, "0 frames" },
    { "no delimiter",       { S("a") }, 1, RH_EPROTO, 0, "no delimiter in 1" },
    { "delimiter only",     { S("<IDS|MSG>") }, 1, RH_EPROTO, 0, "no signature" },
    { "header missing",     { MSG }, 2, RH_EPROTO, 0, "no header" },
    { "parent missing",     { MSG }, 3, RH_EPROTO, 0, "no parent header" },
    { "metadata missing",   { MSG }, 4, RH_EPROTO, 0, "no metadata" },
    { "content missing",    { MSG }, 5, RH_EPROTO, 0, "no content" },
    { "smallest message",   { MSG }, 6, 0, 0, NULL },
    { "one ident",          { S("id"), MSG }, 7, 0, 1, NULL },
    { "empty ident",        { S(""), MSG }, 7, 0, 1, NULL },
    { "two idents",         { S("a"), S("b"), MSG }, 8, 0, 2, NULL },
    { "too many idents",    { S("a"), S("b"), S("c"), MSG }, 9, RH_ELIMIT, 0, "more than 2 routing" },
    { "ident at limit",     { S("1234"), MSG }, 7, 0, 1, NULL },
    { "ident over limit",   { S("a"), S("12345"), MSG }, 8, RH_ELIMIT, 0, "routing frame 1: 5 bytes" },
    { "nearly a delimiter", { S("<IDS"), S("MSG>"), MSG }, 8, 0, 2, NULL },
    { "two buffers",        { MSG, S("x"), S("") }, 8, 0, 0, NULL },
    { "too many buffers",   { MSG, S("x"), S("y"), S("z") }, 9, RH_ELIMIT, 0, "3 buffers" },
    { "first delimiter counts", { MSG, S("<IDS|MSG>") }, 7, 0, 0, NULL },
    { "longest signature",  { S("<IDS|MSG>"), S(LONG128), S("{}"), S("{}"), S("{}"), S("{}") }, 6, 0, 0, NULL },
    { "signature too long", { S("<IDS|MSG>"), S(LONG128 "0"), S("{}"), S("{}"), S("{}"), S("{}") }, 6, RH_ELIMIT, 0, "signature: 129" },
    { "header too long",    { S("<IDS|MSG>"), S(""), S("123456789"), S("{}"), S("{}"), S("{}") }, 6, RH_ELIMIT, 0, "header: 9 bytes, limit 8" },
    { "parent too long",    { S("<IDS|MSG>"), S(""), S("{}"), S("123456789"), S("{}"), S("{}") }, 6, RH_ELIMIT, 0, "parent header: 9" },
    { "metadata too long",  { S("<IDS|MSG>"), S(""), S("{}"), S("{}"), S("123456789"), S("{}") }, 6, RH_ELIMIT, 0, "metadata: 9" },
    { "content too long",   { S("<IDS|MSG>"), S(""), S("{}"), S("{}"), S("{}"), S("123456789") }, 6, RH_ELIMIT, 0, "content: 9" },
    { "content at limit",   { S("<IDS|MSG>"), S(""), S("{}"), S("{}"), S("{}"), S("12345678") }, 6, 0, 0, NULL },
    { "buffers have no limit", { MSG, S(LONG128) }, 7, 0, 0, NULL },
};
// clang-format on

static void
test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(parse_case) / sizeof(parse_case[0]); i++) {
        struct msg *m = msg_new(parse_case[i].f, parse_case[i].n);
        rh_error err = {0};
        int rc;

        assert_non_null(m);
        rc = msg_parse(m, &tight, &err);
        if (rc != parse_case[i].rc)
            fail_msg("%s: got %d", parse_case[i].name, rc);
        if (rc < 0) {
            assert_int_equal(m->i_delim, MSG_NO_DELIM);
            assert_int_equal(err.code, rc);
            if (!strstr(err.text, parse_case[i].says))
                fail_msg("%s: '%s'", parse_case[i].name, err.text);
        } else {
            assert_int_equal(m->i_delim, parse_case[i].delim);
            assert_int_equal(msg_n_buffers(m),
                             parse_case[i].n - parse_case[i].delim - 6);
        }
        assert_int_equal(msg_parse(m, &tight, NULL), rc); // err is optional
        msg_unref(&m);
        assert_null(m);
    }
}

static void
test_parts_are_the_right_frames(void **state)
{
    static const struct span f[] = {S("id"), S("<IDS|MSG>"), S("1"),
                                    S("2"),  S("3"),         S("4"),
                                    S("5"),  S("6"),         S("")};
    struct msg *m = msg_new(f, 9);

    (void)state;
    assert_int_equal(msg_parse(m, &msg_limits_default, NULL), 0);
    assert_true(span_is(msg_part(m, MSG_SIGNATURE), "1"));
    assert_true(span_is(msg_part(m, MSG_HEADER), "2"));
    assert_true(span_is(msg_part(m, MSG_PARENT), "3"));
    assert_true(span_is(msg_part(m, MSG_METADATA), "4"));
    assert_true(span_is(msg_part(m, MSG_CONTENT), "5"));
    assert_int_equal(msg_n_buffers(m), 2);
    assert_true(span_is(msg_buffer(m, 0), "6"));
    assert_true(span_is(msg_buffer(m, 1), ""));
    msg_unref(&m);
}

static void
test_new_copies(void **state)
{
    char text[] = "changes";
    struct span f[] = {span_str(text), SPAN_NONE};
    struct msg *m = msg_new(f, 2);

    (void)state;
    memset(text, '?', sizeof(text));
    assert_true(span_is(m->frame[0], "changes"));
    assert_int_equal(m->frame[1].n, 0);
    assert_int_equal(m->n, 2);
    msg_unref(&m);
    msg_unref(&m); // NULL-safe
}

/* A message that tells when it dies. */
struct probe {
    struct msg m;
    struct span frame;
    bool dead;
};

static void
on_death(struct msg *m)
{
    ((struct probe *)(void *)m)->dead = true;
}

static void
probe_init(struct probe *self, const char *text)
{
    *self = (struct probe){.frame = span_str(text)};
    atomic_init(&self->m.refs, 1);
    self->m.n = 1;
    self->m.frame = &self->frame;
    self->m.destroy = on_death;
}

static void
test_gather_keeps_owners_alive(void **state)
{
    char copied[] = "copied";
    struct probe a, b;
    struct msg *pa = &a.m, *pb = &b.m, *m, *again;

    (void)state;
    probe_init(&a, "from a");
    probe_init(&b, "from b");
    {
        struct span f[] = {a.frame, span_str(copied), a.frame, b.frame,
                           b.frame};
        struct msg *owner[] = {pa, NULL, pa, pb, pb};

        m = msg_gather(f, owner, 5);
    }
    assert_non_null(m);
    memset(copied, '?', sizeof(copied));
    msg_unref(&pa);
    msg_unref(&pb);
    assert_false(a.dead || b.dead);
    assert_ptr_equal(m->frame[0].p, a.frame.p); // borrowed
    assert_true(span_is(m->frame[1], "copied"));
    assert_ptr_equal(m->frame[4].p, b.frame.p);
    again = msg_ref(m);
    msg_unref(&m);
    assert_false(a.dead || b.dead);
    msg_unref(&again);
    assert_true(a.dead && b.dead);
}

static void
test_out_of_memory_takes_no_reference(void **state)
{
    struct probe a;
    struct span f[2];
    struct msg *owner[2];
    int rc;

    (void)state;
    probe_init(&a, "a");
    f[0] = a.frame;
    f[1] = SPAN_LIT("b");
    owner[0] = &a.m;
    owner[1] = NULL;
    OOM_SWEEP(rc, {
        struct msg *m = msg_gather(f, owner, 2);

        assert_int_equal(atomic_load(&a.m.refs), m ? 2 : 1);
        rc = m ? 0 : RH_ENOMEM;
        msg_unref(&m);
    });
    assert_int_equal(atomic_load(&a.m.refs), 1);
    OOM_SWEEP(rc, {
        struct msg *m = msg_new(f, 2);

        rc = m ? 0 : RH_ENOMEM;
        msg_unref(&m);
    });
}

static void
test_absurd_sizes_are_out_of_memory(void **state)
{
    struct span f[] = {{(const uint8_t *)"", SIZE_MAX / 8},
                       {(const uint8_t *)"", SIZE_MAX / 4},
                       {(const uint8_t *)"", SIZE_MAX / 2}};

    (void)state;
    assert_null(msg_new(f, 2));
    assert_null(msg_new(f + 1, 2));
    assert_null(msg_new(f + 2, 1));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parts_are_the_right_frames),
        cmocka_unit_test(test_new_copies),
        cmocka_unit_test(test_gather_keeps_owners_alive),
        cmocka_unit_test(test_out_of_memory_takes_no_reference),
        cmocka_unit_test(test_absurd_sizes_are_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
