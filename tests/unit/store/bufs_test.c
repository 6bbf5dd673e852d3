/* bufs_test.c - pickled lists of bytes, as Python writes and reads them */
#include "support.h"

#include "make.h"
#include "store/bufs.h"

// pickle.dumps([b'a', b'', b'', b'x', bytes(260)], protocol)
// clang-format off
static const char py3[]
    = "\x80\x03]q\x00(" "C\x01" "aq\x01" "C\x00q\x02h\x02" "C\x01xq\x03"
      "B\x04\x01\x00\x00";
static const char py5[]
    = "\x80\x05\x95\x1c\x01\x00\x00\x00\x00\x00\x00]\x94(" "C\x01" "a\x94"
      "C\x00\x94h\x02" "C\x01x\x94" "B\x04\x01\x00\x00";
// clang-format on

static size_t
python_list(const char *head, size_t n_head, const char *tail, size_t n_tail,
            char *out)
{
    memcpy(out, head, n_head);
    memset(out + n_head, 0, 260);
    memcpy(out + n_head + 260, tail, n_tail);
    return n_head + 260 + n_tail;
}

static void
test_reads_what_python_writes(void **state)
{
    char text[512];

    (void)state;
    for (int protocol = 3; protocol <= 5; protocol += 2) {
        const size_t n = protocol == 3 ? python_list(py3, sizeof(py3) - 1,
                                                     "q\x04"
                                                     "e.",
                                                     4, text)
                                       : python_list(py5, sizeof(py5) - 1,
                                                     "\x94"
                                                     "e.",
                                                     3, text);
        struct span *item;
        size_t n_items;

        assert_int_equal(bufs_unpack(span_of(text, n), &item, &n_items), 0);
        assert_int_equal(n_items, 5);
        assert_true(span_is(item[0], "a"));
        assert_int_equal(item[1].n, 0);
        assert_int_equal(item[2].n, 0);
        assert_true(span_is(item[3], "x"));
        assert_int_equal(item[4].n, 260);
        mem_free(item);
        // Cut anywhere, it is refused and nothing is read behind it.
        for (size_t cut = 1; cut < n; cut++) {
            char *exact = mem_dup(text, cut);

            assert_int_equal(bufs_unpack(span_of(exact, cut), &item, &n_items),
                             RH_EPROTO);
            assert_null(item);
            mem_free(exact);
        }
    }
}

// clang-format off
#define S(s) { (const uint8_t *)(s), sizeof(s) - 1 }
static const struct { struct span pickle; int rc; size_t n; } cases[] = {
    { S(""), 0, 0 },
    { S("\x80\x05]\x94."), 0, 0 },
    { S("\x80\x05\x95\n\0\0\0\0\0\0\0]\x94" "C\x03one\x94" "a."), 0, 1 },
    { S("]\x8e\x03\0\0\0\0\0\0\0onea."), 0, 1 },
    { S("]r\0\0\0\0(C\x01" "ar\x01\0\0\0j\x01\0\0\0e."), 0, 2 },
    /* not lists of bytes */
    { S("\x80\x05]\x94K\x01" "a."), RH_EPROTO, 0 },
    { S("\x80\x05]\x94\x8c\x01" "aa."), RH_EPROTO, 0 },
    { S("\x80\x05]\x94]\x94" "C\x01" "aaa."), RH_EPROTO, 0 },
    { S("C\x01" "a."), RH_EPROTO, 0 },
    { S("\x80\x04" "cposix\nsystem\n."), RH_EPROTO, 0 },
    { S("."), RH_EPROTO, 0 },
    /* lengths that lie */
    { S("]C\x05one"), RH_EPROTO, 0 },
    { S("]B\xff\xff\xff\xffone"), RH_EPROTO, 0 },
    { S("]\x8e\xff\xff\xff\xff\xff\xff\xff\xffone"), RH_EPROTO, 0 },
    { S("]\x8e\xff\xff"), RH_EPROTO, 0 },
    /* memo entries that are not there, or the list itself */
    { S("]h\x00" "e."), RH_EPROTO, 0 },
    { S("]q\x00h\x00" "e."), RH_EPROTO, 0 },
    { S("]q\x05" "e."), RH_EPROTO, 0 },
};
// clang-format on

static void
test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct span *item;
        size_t n;
        const int rc = bufs_unpack(cases[i].pickle, &item, &n);

        if (rc != cases[i].rc || n != cases[i].n)
            fail_msg("case %zu: %d, %zu items", i, rc, n);
        mem_free(item);
    }
}

static void
test_round_trip(void **state)
{
    static const size_t size[] = {0, 1, 255, 256, 70000};
    struct span frame[6 + 5];
    struct buf out = {0};
    struct span *item;
    struct msg *m;
    size_t n;

    (void)state;
    frame[0] = SPAN_LIT(MSG_DELIM);
    for (int i = 1; i < 6; i++)
        frame[i] = SPAN_LIT("{}");
    for (int i = 0; i < 5; i++)
        frame[6 + i] = span_of(mem_zalloc(size[i] + 1, 1), size[i]);
    m = msg_new(frame, 11);
    assert_int_equal(msg_parse(m, &msg_limits_default, NULL), 0);
    bufs_pack(&out, m);
    assert_false(out.failed);
    assert_int_equal(bufs_unpack(buf_span(&out), &item, &n), 0);
    assert_int_equal(n, 5);
    for (int i = 0; i < 5; i++) {
        assert_true(span_eq(item[i], frame[6 + i]));
        mem_free((void *)(uintptr_t)frame[6 + i].p);
    }
    mem_free(item);
    buf_clear(&out);
    bufs_pack(&out, NULL);
    assert_int_equal(out.n, 0);
    buf_fini(&out);
    msg_unref(&m);
}

static void
test_written_as_python_expects(void **state)
{
    struct msg *m = make_msg("{}", "{}", "{}", "one");
    struct buf out = {0};

    (void)state;
    bufs_pack(&out, m);
    assert_int_equal(out.n, 11);
    assert_memory_equal(out.p, "\x80\x04](C\x03onee.", 11);
    buf_fini(&out);
    msg_unref(&m);
}

static void
test_out_of_memory(void **state)
{
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct span *item;
        size_t n;

        rc = bufs_unpack(cases[4].pickle, &item, &n);
        mem_free(item);
    });
    assert_int_equal(rc, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_python_writes),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_written_as_python_expects),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
