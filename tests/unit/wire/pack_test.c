/* pack_test.c - dicts of other packers, and everything a pickle may not do */
#include "support.h"

#include <stdbool.h>
#include <string.h>

#include "pack_vectors.h"
#include "wire/number.h"
#include "wire/pack.h"
#include "wire/scan.h"

/* Decodes from a heap copy of exact size: the sanitizer sees over-reads. */
static int
decode_copy(const char *packer, struct span in, struct buf *out, rh_error *err)
{
    uint8_t *copy = mem_dup(in.p, in.n);
    int rc = pack_decode(packer, span_of(copy, in.n), out, err);

    mem_free(copy);
    return rc;
}

static void
test_python_packed_this(void **state)
{
    (void)state;
    for (size_t i = 0; i < PACK_VECTORS; i++) {
        struct buf out = {0};
        rh_error err = {0};

        buf_add_str(&out, "before ");
        if (decode_copy(pack_vector[i].packer, pack_vector[i].packed, &out,
                        &err)
            < 0)
            fail_msg("%s: %s", pack_vector[i].name, err.text);
        buf_add_char(&out, '\0');
        assert_memory_equal(out.p, "before ", 7);
        assert_string_equal((char *)out.p + 7, pack_vector[i].json);
        assert_int_equal(
            scan_object(span_str((char *)out.p + 7), NULL, 0, NULL), 0);
        buf_fini(&out);
    }
}

static void
test_base64(void **state)
{
    static const struct {
        struct span packed;
        const char *json;
    } c[] = {
        {SPAN_INIT("\x81\x01\xc4\x00"), "{\"1\": \"\"}"},
        {SPAN_INIT("\x81\x01\xc4\x01"
                   "a"),
         "{\"1\": \"YQ==\"}"},
        {SPAN_INIT("\x81\x01\xc4\x02"
                   "ab"),
         "{\"1\": \"YWI=\"}"},
        {SPAN_INIT("\x81\x01\xc4\x03"
                   "abc"),
         "{\"1\": \"YWJj\"}"},
        {SPAN_INIT("\x81\x01\xc4\x04\xff\xfe\xfd\xfc"),
         "{\"1\": \"//79/A==\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        struct buf out = {0};

        assert_int_equal(decode_copy("msgpack", c[i].packed, &out, NULL), 0);
        assert_true(span_is(buf_span(&out), c[i].json));
        buf_fini(&out);
    }
}

static void
test_encoding_decodes_to_the_same(void **state)
{
    static const char *const packer[] = {"pickle", "msgpack"};

    (void)state;
    for (size_t i = 0; i < PACK_VECTORS; i++)
        for (int k = 0; k < 2; k++) {
            struct span json = span_str(pack_vector[i].json);
            struct buf packed = {0}, out = {0};
            rh_error err = {0};
            int rc = pack_encode(packer[k], json, &packed, &err);

            if (k == 1 && strstr(pack_vector[i].json, "[0, 255")) {
                assert_int_equal(rc, RH_ELIMIT); // 2**70 is too much
                assert_non_null(strstr(err.text, "1180591620717411303424"));
                assert_int_equal(packed.n, 0);
            } else {
                assert_int_equal(rc, 0);
                assert_int_equal(
                    decode_copy(packer[k], buf_span(&packed), &out, &err), 0);
                assert_true(span_eq(buf_span(&out), json));
            }
            buf_fini(&packed);
            buf_fini(&out);
        }
}

static void
test_every_prefix_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < PACK_VECTORS; i++)
        for (size_t n = 0; n < pack_vector[i].packed.n; n++) {
            struct buf out = {0};
            struct span in = span_of(pack_vector[i].packed.p, n);

            buf_add_str(&out, "kept");
            assert_int_equal(decode_copy(pack_vector[i].packer, in, &out, NULL),
                             RH_EPROTO);
            assert_true(span_is(buf_span(&out), "kept"));
            buf_fini(&out);
        }
}

// clang-format off
static const struct {
    struct span in;
    int rc;
    const char *says;
} bad_pickle[] = {
    { SPAN_INIT(""),                          RH_EPROTO, "nothing" },
    { SPAN_INIT("\x80\x06}."),                RH_EPROTO, "protocol above 5" },
    { SPAN_INIT("N."),                        RH_EPROTO, "not a dict" },
    { SPAN_INIT("]."),                        RH_EPROTO, "not a dict" },
    { SPAN_INIT("}.."),                       RH_EPROTO, "more data" },
    { SPAN_INIT("}"),                         RH_EPROTO, "no end" },
    { SPAN_INIT("."),                         RH_EPROTO, "not exactly one" },
    { SPAN_INIT("}}."),                       RH_EPROTO, "not exactly one" },
    { SPAN_INIT("}(."),                       RH_EPROTO, "not exactly one" },
    { SPAN_INIT("a"),                         RH_EPROTO, "underflow" },
    { SPAN_INIT("]a"),                        RH_EPROTO, "underflow" },
    { SPAN_INIT("}K\x01s"),                   RH_EPROTO, "underflow" },
    { SPAN_INIT("](K\x01""a"),                RH_EPROTO, "underflow" }, // across a mark
    { SPAN_INIT("}(q\x00"),                   RH_EPROTO, "underflow" },
    { SPAN_INIT("\x85"),                      RH_EPROTO, "underflow" },
    { SPAN_INIT("NN\x87"),                    RH_EPROTO, "underflow" },
    { SPAN_INIT("N(\x85"),                    RH_EPROTO, "underflow" },
    { SPAN_INIT("R"),                         RH_EPROTO, "underflow" },
    { SPAN_INIT("\x93"),                      RH_EPROTO, "underflow" },
    { SPAN_INIT("q\x00"),                     RH_EPROTO, "underflow" },
    { SPAN_INIT("e"),                         RH_EPROTO, "no mark" },
    { SPAN_INIT("t"),                         RH_EPROTO, "no mark" },
    { SPAN_INIT("]e"),                        RH_EPROTO, "no mark" },
    { SPAN_INIT("(e"),                        RH_EPROTO, "no container" },
    { SPAN_INIT("](K\x01(K\x02""e"),          RH_EPROTO, "something else than" },
    { SPAN_INIT("]((e"),                      RH_EPROTO, "no container" },
    { SPAN_INIT("}(K\x01""e."),               RH_EPROTO, "something else than" },
    { SPAN_INIT("](K\x01K\x01u."),            RH_EPROTO, "something else than" },
    { SPAN_INIT(")(K\x01""e."),               RH_EPROTO, "something else than" },
    { SPAN_INIT("}(K\x01u."),                 RH_EPROTO, "key without a value" },
    { SPAN_INIT("}]K\x01s."),                 RH_EPROTO, "key that is no scalar" },
    { SPAN_INIT("})K\x01s."),                 RH_EPROTO, "key that is no scalar" },
    { SPAN_INIT("}q\x01."),                   RH_EPROTO, "gap in the memo" },
    { SPAN_INIT("}r\xff\xff\xff\xff."),       RH_EPROTO, "gap in the memo" },
    { SPAN_INIT("h\x00."),                    RH_EPROTO, "reference to nothing" },
    { SPAN_INIT("}q\x00j\x01\x00\x00\x00."),  RH_EPROTO, "reference to nothing" },
    { SPAN_INIT("X\xff\xff\xff\xff""abc"),    RH_EPROTO, "inside a string" },
    { SPAN_INIT("\x8d\xff\xff\xff\xff\xff\xff\xff\xff""abc"), RH_EPROTO, "inside a string" },
    { SPAN_INIT("\x8b\xff\xff\xff\xff""abc"), RH_EPROTO, "inside a string" },
    { SPAN_INIT("cdatetime\ndatetime"),       RH_EPROTO, "no end of line" },
    // Calls of what is not data.
    { SPAN_INIT("cos\nsystem\nX\x02\x00\x00\x00id\x85R."), RH_EPROTO, "os.system is not plain data" },
    { SPAN_INIT("\x80\x04\x8c\x05posix\x8c\x06system\x93."), RH_EPROTO, "posix.system is not" },
    { SPAN_INIT("cbuiltins\neval\n."),        RH_EPROTO, "builtins.eval is not" },
    { SPAN_INIT("cbuiltins\n\n."),            RH_EPROTO, "is not plain data" },
    { SPAN_INIT("\x8c\x08""builtinsK\x01\x93."), RH_EPROTO, "without a name" },
    { SPAN_INIT("i"),                         RH_EPROTO, "opcode" }, // INST
    { SPAN_INIT("o"),                         RH_EPROTO, "opcode" }, // OBJ
    { SPAN_INIT("b"),                         RH_EPROTO, "opcode" }, // BUILD
    { SPAN_INIT("\x81"),                      RH_EPROTO, "opcode" }, // NEWOBJ
    { SPAN_INIT("\x92"),                      RH_EPROTO, "opcode" }, // NEWOBJ_EX
    { SPAN_INIT("\x82\x01"),                  RH_EPROTO, "opcode" }, // EXT1
    { SPAN_INIT("P1\n"),                      RH_EPROTO, "opcode" }, // PERSID
    { SPAN_INIT("\x97"),                      RH_EPROTO, "opcode" }, // NEXT_BUFFER
    { SPAN_INIT("N)R."),                      RH_EPROTO, "call of something else" },
    { SPAN_INIT("cbuiltins\nbytes\nNR."),     RH_EPROTO, "call of something else" },
    { SPAN_INIT("cbuiltins\nbytes\n(NNNNNtR."), RH_EPROTO, "too many arguments" },
    { SPAN_INIT("cbuiltins\nbytes\nK\x05\x85R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cbuiltins\nset\n)R."),       RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("c_codecs\nencode\n)R."),     RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("c_codecs\nencode\n\x8c\x01""a\x8c\x05rot13\x86R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("c_codecs\nencode\n\x8c\x02\xc4\x80\x8c\x06latin1\x86R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("c_codecs\nencode\n\x8c\x01\xc3\x8c\x06latin1\x86R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("ccollections\nOrderedDict\nN\x85R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ntimedelta\nK\x02K\x00K\x00\x87R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ntimedelta\nNNN\x87R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ntimedelta\n)R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ntimezone\n)R."),  RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ntimezone\nK\x01\x85R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdateutil.tz\ntzutc\nN\x85R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ndatetime\n)R."),  RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ndatetime\nK\x01\x85R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ndatetime\nC\x09\x07\xea\x0b\x14\x16\x08\x05\x00u\x85R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ndatetime\nC\x0b\x07\xea\x0b\x14\x16\x08\x05\x00uAA\x85R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ndatetime\nC\x0a\x07\xea\x0d\x14\x16\x08\x05\x00uA\x85R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ndatetime\nC\x0a\x07\xea\x0b\x14\x16\x08\x05\xff\xff\xff\x85R."), RH_EPROTO, "wrong arguments" },
    { SPAN_INIT("cdatetime\ndatetime\nC\x0a\x07\xea\x0b\x14\x16\x08\x05\x00uAK\x01\x86R."), RH_EPROTO, "wrong arguments" },
    // Classes are no data.
    { SPAN_INIT("}K\x01""cdatetime\ndatetime\ns."), RH_EPROTO, "class instead of data" },
    { SPAN_INIT("}K\x01""cdateutil.tz\ntzutc\n)Rs."), RH_EPROTO, "class instead of data" },
    { SPAN_INIT("}cbuiltins\nbytes\nK\x01s."), RH_EPROTO, "key that is no scalar" },
    // Objects that contain themselves.
    { SPAN_INIT("}q\x00K\x01h\x00s."),        RH_ELIMIT, "deeper than 64" },
    { SPAN_INIT("}K\x01]q\x00h\x00""as."),    RH_ELIMIT, "deeper than 64" },
};

static const struct {
    struct span in;
    int rc;
    const char *says;
} bad_msgpack[] = {
    { SPAN_INIT(""),                       RH_EPROTO, "nothing" },
    { SPAN_INIT("\xc0"),                   RH_EPROTO, "not a map" },
    { SPAN_INIT("\x90"),                   RH_EPROTO, "not a map" },
    { SPAN_INIT("\x80\x80"),               RH_EPROTO, "more data" },
    { SPAN_INIT("\x81"),                   RH_EPROTO, "longer than the rest" },
    { SPAN_INIT("\x81\x01"),               RH_EPROTO, "longer than the rest" },
    { SPAN_INIT("\xdf\xff\xff\xff\xff\x01\x01"), RH_EPROTO, "longer than the rest" },
    { SPAN_INIT("\x81\x01\xdd\xff\xff\xff\xff\x01"), RH_EPROTO, "longer than the rest" },
    { SPAN_INIT("\x82\xa3""abc\x01"),      RH_EPROTO, "end inside a map" },
    { SPAN_INIT("\x81\xa1""a\xa5""abc"),   RH_EPROTO, "inside a string" },
    { SPAN_INIT("\x81\xa1""a\xdb\xff\xff\xff\xff""abc"), RH_EPROTO, "inside a string" },
    { SPAN_INIT("\x81\xa1""a\xc6\xff\xff\xff\xff""abc"), RH_EPROTO, "inside a string" },
    { SPAN_INIT("\x81\xa1""a\xcb\x00"),    RH_EPROTO, "inside a number" },
    { SPAN_INIT("\x81\xa1""a\xd1\x00"),    RH_EPROTO, "inside a number" },
    { SPAN_INIT("\x81\xa1""a\xd9"),        RH_EPROTO, "inside a number" },
    { SPAN_INIT("\x81\xa1""a\xc1"),        RH_EPROTO, "no JSON form" },
    { SPAN_INIT("\x81\xa1""a\xd4\x01\x01"), RH_EPROTO, "no JSON form" }, // fixext
    { SPAN_INIT("\x81\xa1""a\xd8\x01\x01"), RH_EPROTO, "no JSON form" },
    { SPAN_INIT("\x81\xa1""a\xc7\x00\x01"), RH_EPROTO, "no JSON form" }, // ext8
    { SPAN_INIT("\x81\xa1""a\xc9\x00\x01"), RH_EPROTO, "no JSON form" },
    { SPAN_INIT("\x81\x90\x01"),           RH_EPROTO, "container as key" },
    { SPAN_INIT("\x81\x80\x01"),           RH_EPROTO, "container as key" },
    { SPAN_INIT("\x81\xdc\x00\x00\x01"),   RH_EPROTO, "container as key" },
    { SPAN_INIT("\x81\xdf\x00\x00\x00\x00\x01"), RH_EPROTO, "container as key" },
};
// clang-format on

static void
refused(const char *packer, size_t i, struct span in, int rc, const char *says)
{
    struct buf out = {0};
    rh_error err = {0};
    int got;

    buf_add_str(&out, "kept");
    got = decode_copy(packer, in, &out, &err);
    if (got != rc || !strstr(err.text, says))
        fail_msg("%s %zu: %d '%s', not '%s'", packer, i, got, err.text, says);
    assert_true(span_is(buf_span(&out), "kept"));
    buf_fini(&out);
}

static void
test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_pickle) / sizeof(bad_pickle[0]); i++)
        refused("pickle", i, bad_pickle[i].in, bad_pickle[i].rc,
                bad_pickle[i].says);
    for (size_t i = 0; i < sizeof(bad_msgpack) / sizeof(bad_msgpack[0]); i++)
        refused("msgpack", i, bad_msgpack[i].in, bad_msgpack[i].rc,
                bad_msgpack[i].says);
}

/* 'depth' containers, the outermost a dict. */
static void
nested(struct buf *b, bool pickle, int depth)
{
    buf_clear(b);
    buf_add_str(b, pickle ? "}K\x01" : "\x81\x01");
    for (int i = 1; i < depth; i++)
        buf_add_char(b, pickle ? ']' : (char)0x91);
    if (!pickle)
        buf_add_char(b, 1);
    for (int i = 2; pickle && i < depth; i++)
        buf_add_char(b, 'a');
    buf_add_str(b, pickle ? "s." : "");
}

static void
test_depth_is_bounded(void **state)
{
    struct buf in = {0}, out = {0};

    (void)state;
    for (int pickle = 0; pickle < 2; pickle++) {
        const char *packer = pickle ? "pickle" : "msgpack";

        nested(&in, pickle, SCAN_DEPTH);
        assert_int_equal(decode_copy(packer, buf_span(&in), &out, NULL), 0);
        nested(&in, pickle, SCAN_DEPTH + 1);
        assert_int_equal(decode_copy(packer, buf_span(&in), &out, NULL),
                         RH_ELIMIT);
    }
    buf_fini(&in);
    buf_fini(&out);
}

static void
test_sharing_cannot_explode(void **state)
{
    struct buf in = {0}, out = {0};
    rh_error err = {0};

    (void)state;
    // x = (x, x) thirty times: 2^30 elements in 150 bytes.
    buf_add(&in, "}K\x01N", 4);
    for (int i = 0; i < 30; i++) {
        uint8_t op[] = {'q', (uint8_t)i, 'h', (uint8_t)i, 0x86};

        buf_add(&in, op, sizeof(op)); // x becomes (x, x)
    }
    buf_add(&in, "s.", 2);
    assert_int_equal(pack_decode("pickle", buf_span(&in), &out, &err),
                     RH_ELIMIT);
    assert_non_null(strstr(err.text, "bytes as JSON"));
    assert_int_equal(out.n, 0);
    buf_fini(&in);
    buf_fini(&out);
}

static void
test_object_count_is_bounded(void **state)
{
    size_t n = (4u << 20) + 100;
    uint8_t *in = mem_alloc(n);
    struct buf out = {0};
    rh_error err = {0};

    (void)state;
    memset(in, 'N', n);
    in[n - 1] = '.';
    assert_int_equal(pack_decode("pickle", span_of(in, n), &out, &err),
                     RH_ELIMIT);
    assert_non_null(strstr(err.text, "objects"));
    mem_free(in);
    buf_fini(&out);
}

static void
test_input_size_is_bounded(void **state)
{
    size_t n = (64u << 20) + 1;
    char *in = mem_zalloc(n, 1);
    struct buf out = {0};

    (void)state;
    assert_int_equal(pack_decode("pickle", span_of(in, n), &out, NULL),
                     RH_ELIMIT);
    assert_int_equal(pack_encode("pickle", span_of(in, n), &out, NULL),
                     RH_ELIMIT);
    mem_free(in);
    buf_fini(&out);
}

/* Where another packer was used, the error names it. */
static void
test_another_packer_is_guessed(void **state)
{
    static const struct {
        struct span dict;
        const char *packer;
    } c[] = {
        {SPAN_INIT("{}"), "json"},
        {SPAN_INIT("{\"a\": 1}"), "json"},
        {SPAN_INIT("\x80\x04}."), "pickle"},
        {SPAN_INIT("\x80\x02}."), "pickle"},
        {SPAN_INIT("\x80"), "msgpack"},
        {SPAN_INIT("\x81\xa1z\x01"), "msgpack"},
        {SPAN_INIT("\xdf"), "msgpack"},
        {SPAN_INIT("\x80\x06"), NULL},
        {SPAN_INIT(""), NULL},
        {SPAN_INIT("[]"), NULL},
    };
    struct buf out = {0};
    rh_error err;

    (void)state;
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        const char *got = pack_guess(c[i].dict);

        assert_int_equal(got == NULL, c[i].packer == NULL);
        if (got)
            assert_string_equal(got, c[i].packer);
    }
    assert_int_equal(pack_decode("pickle", c[0].dict, &out, &err), RH_EPROTO);
    assert_non_null(strstr(err.text, "it looks like json"));
    assert_int_equal(pack_decode("msgpack", c[2].dict, &out, &err), RH_EPROTO);
    assert_non_null(strstr(err.text, "it looks like pickle"));
    buf_fini(&out);
}

static void
test_packer_names(void **state)
{
    static const struct {
        const char *name;
        bool known, json;
    } c[] = {
        {"json", true, true},       {"orjson", true, true},
        {"json.dumps", true, true}, {"orjson.dumps", true, true},
        {"pickle", true, false},    {"pickle.dumps", true, false},
        {"msgpack", true, false},   {"msgpack.unpackb", true, false},
        {"", false, false},         {"jsonx", false, false},
        {"json.", false, false},    {"dill.dumps", false, false},
        {"pickle5", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        struct buf out = {0};
        rh_error err = {0};

        assert_int_equal(pack_check(c[i].name, &err),
                         c[i].known ? 0 : RH_EINVAL);
        assert_true(pack_is_json(c[i].name) == c[i].json);
        if (!c[i].known) {
            assert_int_equal(pack_decode(c[i].name, SPAN_LIT("{}"), &out, &err),
                             RH_EINVAL);
            assert_int_equal(pack_encode(c[i].name, SPAN_LIT("{}"), &out, &err),
                             RH_EINVAL);
            assert_non_null(strstr(err.text, c[i].name));
        }
        buf_fini(&out);
    }
}

static void
test_json_is_the_identity(void **state)
{
    struct buf out = {0};

    (void)state;
    assert_int_equal(pack_decode("json", SPAN_LIT(" {x"), &out, NULL), 0);
    assert_int_equal(pack_encode("orjson", SPAN_LIT(" y}"), &out, NULL), 0);
    assert_true(span_is(buf_span(&out), " {x y}"));
    buf_fini(&out);
}

static void
test_encoding_wants_an_object(void **state)
{
    static const char *const bad[] = {
        "", "[]", "{", "{} x", "{\"a\": 1e999}", "{\"a\": -1e999}"};
    struct buf out = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int want = i < 4 ? RH_EPROTO : RH_ELIMIT;

        assert_int_equal(pack_encode("pickle", span_str(bad[i]), &out, NULL),
                         want);
        assert_int_equal(pack_encode("msgpack", span_str(bad[i]), &out, NULL),
                         want);
    }
    assert_int_equal(out.n, 0);
    assert_int_equal(
        pack_encode("pickle", SPAN_LIT(" \n{ \"a\" : 1 } "), &out, NULL), 0);
    assert_true(span_eq(buf_span(&out), SPAN_LIT("\x80\x04}(\x8c\x01"
                                                 "aK\x01u.")));
    buf_fini(&out);
}

static void
test_out_of_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < PACK_VECTORS; i++) {
        struct span json = span_str(pack_vector[i].json);
        int rc;

        OOM_SWEEP(rc, {
            struct buf out = {0};
            rh_error err = {0};

            rc = pack_decode(pack_vector[i].packer, pack_vector[i].packed, &out,
                             &err);
            assert_int_equal(err.code, rc);
            buf_fini(&out);
        });
        assert_int_equal(rc, 0);
        OOM_SWEEP(rc, {
            struct buf out = {0};
            rh_error err = {0};

            rc = pack_encode("pickle", json, &out, &err);
            assert_int_equal(err.code, rc);
            buf_fini(&out);
        });
        assert_int_equal(rc, 0);
        OOM_SWEEP(rc, {
            struct buf out = {0};

            rc = pack_encode("msgpack", json, &out, NULL);
            buf_fini(&out);
        });
        assert_true(rc == 0 || rc == RH_ELIMIT);
    }
}

static void
test_doubles_read_back_the_same(void **state)
{
    uint64_t bits = 88172645463325252u;
    char text[NUMBER_SIZE];

    (void)state;
    for (int i = 0; i < 20000; i++) {
        double value, back;

        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&value, &bits, sizeof(value));
        if (value - value != 0)
            continue; // no number
        number_format(value, text);
        assert_int_equal(scan_double(span_str(text), &back), 0);
        assert_true(value == back);
    }
    number_format(5, text);
    assert_string_equal(text, "5.0");
    number_format(1e15, text);
    assert_string_equal(text, "1e+15");
    number_format(0.1, text);
    assert_string_equal(text, "0.1");
}

static void
test_large_integers_read_back_the_same(void **state)
{
    uint8_t le[NUMBER_BIG_BYTES], back[NUMBER_BIG_BYTES];
    uint32_t seed = 1;

    (void)state;
    for (size_t n = 1; n <= NUMBER_BIG_BYTES; n += n < 40 ? 1 : 41) {
        struct buf text = {0};
        size_t m;

        for (size_t i = 0; i < n; i++)
            le[i] = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
        number_add_big(&text, span_of(le, n));
        m = number_to_big(buf_span(&text), back);
        assert_true(m > 0 && m <= n);
        assert_memory_equal(le, back, m);
        buf_fini(&text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_python_packed_this),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_encoding_decodes_to_the_same),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_sharing_cannot_explode),
        cmocka_unit_test(test_object_count_is_bounded),
        cmocka_unit_test(test_input_size_is_bounded),
        cmocka_unit_test(test_another_packer_is_guessed),
        cmocka_unit_test(test_packer_names),
        cmocka_unit_test(test_json_is_the_identity),
        cmocka_unit_test(test_encoding_wants_an_object),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_doubles_read_back_the_same),
        cmocka_unit_test(test_large_integers_read_back_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
