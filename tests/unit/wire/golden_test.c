/* golden_test.c - what the real ipyparallel sent, replayed byte for byte
 *
 * golden/ holds recordings (see its README); every check runs over every
 * message of them.
 */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "wire/pack.h"
#include "wire/scan.h"
#include "wire/session.h"
#include "wire/translate.h"

#define MAX_MESSAGES 512
#define MAX_FRAMES 64

static const char *const packers[] = {"json", "pickle"};

struct recorded {
    const char *packer;
    char role[16];
    struct msg *m;
};

static uint8_t *text[3]; // the files; the last is the key
static struct span key;
static struct recorded recorded[MAX_MESSAGES];
static size_t n_recorded;

static struct span
read_file(const char *name, const char *ending, uint8_t **out)
{
    char path[1024];
    size_t n;
    FILE *f;

    snprintf(path, sizeof(path), GOLDEN "/%s%s", name, ending);
    f = fopen(path, "rb");
    assert_non_null(f);
    *out = malloc(1 << 20);
    assert_non_null(*out);
    n = fread(*out, 1, 1 << 20, f);
    assert_in_range(n, 1, (1 << 20) - 1);
    fclose(f);
    return span_of(*out, n);
}

static size_t
take_number(struct span *in)
{
    size_t value;

    assert_true(in->n >= 4);
    value = (size_t)in->p[0] | (size_t)in->p[1] << 8 | (size_t)in->p[2] << 16
            | (size_t)in->p[3] << 24;
    in->p += 4;
    in->n -= 4;
    return value;
}

static struct span
take_bytes(struct span *in, size_t n)
{
    struct span taken = {in->p, n};

    assert_true(in->n >= n);
    in->p += n;
    in->n -= n;
    return taken;
}

static void
load_message(struct span *in, const char *packer)
{
    struct recorded *r = &recorded[n_recorded++];
    struct span frame[MAX_FRAMES], role;
    size_t n;

    assert_in_range(n_recorded, 1, MAX_MESSAGES);
    role = take_bytes(in, take_bytes(in, 1).p[0]);
    assert_in_range(role.n, 1, sizeof(r->role) - 1);
    memcpy(r->role, role.p, role.n);
    r->packer = packer;
    n = take_number(in);
    assert_in_range(n, 6, MAX_FRAMES);
    for (size_t i = 0; i < n; i++)
        frame[i] = take_bytes(in, take_number(in));
    r->m = msg_new(frame, n);
    assert_non_null(r->m);
}

static int
load(void **state)
{
    const struct span magic = SPAN_LIT("RHGOLD1\n");

    (void)state;
    key = read_file("key", "", &text[2]);
    for (size_t i = 0; i < 2; i++) {
        struct span in = read_file(packers[i], ".bin", &text[i]);

        assert_true(span_eq(take_bytes(&in, magic.n), magic));
        while (in.n)
            load_message(&in, packers[i]);
    }
    return 0;
}

static int
unload(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_recorded; i++)
        msg_unref(&recorded[i].m);
    for (size_t i = 0; i < 3; i++)
        free(text[i]);
    return 0;
}

static struct session *
new_session(void)
{
    struct session *s;

    assert_int_equal(session_new(&s, key, "hmac-sha256", NULL), 0);
    return s;
}

/* The recordings are worth something: all parts speak, in both packers. */
static void
test_everybody_is_heard(void **state)
{
    static const char *const role[] = {"client", "controller", "engine"};

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        size_t n = 0;

        for (size_t k = 0; k < n_recorded; k++)
            n += strcmp(recorded[k].role, role[i / 2]) == 0
                 && recorded[k].packer == packers[i % 2];
        assert_in_range(n, 20, MAX_MESSAGES);
    }
}

/* Frames are found where they are, and what we sign is what they signed. */
static void
test_frames_and_signatures(void **state)
{
    struct session *session = new_session();

    (void)state;
    for (size_t i = 0; i < n_recorded; i++) {
        struct msg *m = recorded[i].m;
        char hex[SESSION_HEX_MAX];
        int n;

        assert_int_equal(msg_parse(m, &msg_limits_default, NULL), 0);
        assert_true(span_is(m->frame[m->i_delim], MSG_DELIM));
        assert_int_equal(session_verify(session, m, NULL), 0);
        n = session_sign(session, &m->frame[m->i_delim + MSG_HEADER], hex);
        assert_true(
            span_eq(span_of(hex, (size_t)n), msg_part(m, MSG_SIGNATURE)));
    }
    session_free(&session);
}

/* One byte more or less anywhere in what is signed, and it is refused. */
static void
test_a_changed_message_is_refused(void **state)
{
    struct session *session = new_session();

    (void)state;
    for (size_t i = 0; i < n_recorded; i++) {
        struct msg *m = recorded[i].m;

        for (uint32_t k = MSG_HEADER; k <= MSG_CONTENT; k++) {
            struct span *f = &m->frame[m->i_delim + k];

            f->n--;
            assert_int_equal(session_verify(session, m, NULL), RH_EAUTH);
            f->n++;
        }
        // The recordings of two processes hold some messages twice.
        (void)session_admit(session, m, NULL);
        assert_int_equal(session_admit(session, m, NULL), RH_EREPLAY);
    }
    session_free(&session);
}

/* A message as JSON, whatever it was; the caller's. */
static struct msg *
as_json(const struct recorded *r)
{
    struct msg *m = NULL;

    assert_int_equal(msg_parse(r->m, &msg_limits_default, NULL), 0);
    if (pack_is_json(r->packer))
        return msg_ref(r->m);
    assert_int_equal(translate_in(r->packer, NULL, r->m, &m, NULL), 0);
    return m;
}

static bool
is_header(struct span s, struct header_view *out)
{
    return scan_header(s, out, NULL) == 0 && out->msg_id.n && out->msg_type.n;
}

static void
test_dicts_are_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_recorded; i++) {
        struct msg *m = as_json(&recorded[i]);
        struct span parent = msg_part(m, MSG_PARENT);
        struct header_view header;

        assert_true(is_header(msg_part(m, MSG_HEADER), &header));
        if (parent.n > 2)
            assert_true(is_header(parent, &header));
        for (uint32_t k = MSG_HEADER; k <= MSG_CONTENT; k++)
            assert_int_equal(
                scan_object(msg_part(m, (enum msg_part)k), NULL, 0, NULL), 0);
        msg_unref(&m);
    }
}

/* Translated there and back, every dict says the same, byte for byte. */
static void
test_translation(void **state)
{
    static const char *const all[] = {"json", "pickle", "msgpack"};
    struct session *session = new_session();

    (void)state;
    for (size_t i = 0; i < n_recorded; i++) {
        struct msg *m = as_json(&recorded[i]);

        for (size_t p = 0; p < 3; p++) {
            struct msg *packed = NULL, *back = NULL;

            assert_int_equal(translate_out(all[p], session, m, &packed, NULL),
                             0);
            assert_int_equal(session_verify(session, packed, NULL), 0);
            assert_int_equal(translate_in(all[p], session, packed, &back, NULL),
                             0);
            assert_int_equal(back->n, m->n);
            for (uint32_t k = 0; k < m->n; k++)
                if (k != m->i_delim + MSG_SIGNATURE)
                    assert_true(span_eq(back->frame[k], m->frame[k]));
            assert_int_equal(session_verify(session, back, NULL), 0);
            msg_unref(&packed);
            msg_unref(&back);
        }
        msg_unref(&m);
    }
    session_free(&session);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everybody_is_heard),
        cmocka_unit_test(test_frames_and_signatures),
        cmocka_unit_test(test_a_changed_message_is_refused),
        cmocka_unit_test(test_dicts_are_understood),
        cmocka_unit_test(test_translation),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
