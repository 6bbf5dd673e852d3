/* fuzz_pack.c - dicts of other packers
 *
 * Input: a choice byte, then packed data or JSON text.  Properties: what is
 * decoded is a JSON object that the scanner accepts; encoding it and decoding
 * that gives the same text; on failure nothing was written.
 */
#include "fuzz.h"

#include "base/mem.h"
#include "wire/pack.h"
#include "wire/scan.h"

/* 'json' came out of a decoder: there and back it must not change. */
static void
check_fixpoint(const char *packer, struct span json)
{
    struct buf packed = {0}, again = {0};
    int rc = pack_encode(packer, json, &packed, NULL);

    // MessagePack has no integers beyond 64 bits.
    HOLDS(rc == 0 || (rc == RH_ELIMIT && strcmp(packer, "msgpack") == 0));
    if (rc == 0) {
        HOLDS(pack_decode(packer, buf_span(&packed), &again, NULL) == 0);
        HOLDS(span_eq(json, buf_span(&again)));
    }
    buf_fini(&packed);
    buf_fini(&again);
}

static void
check_decode(const char *packer, struct span in)
{
    struct buf out = {0};
    rh_error err = {0};
    int rc = pack_decode(packer, in, &out, &err);

    if (rc == 0) {
        HOLDS(scan_object(buf_span(&out), NULL, 0, NULL) == 0);
        check_fixpoint("pickle", buf_span(&out));
        check_fixpoint("msgpack", buf_span(&out));
    } else {
        HOLDS(rc == RH_EPROTO || rc == RH_ELIMIT);
        HOLDS(err.code == rc && err.text[0] && out.n == 0);
    }
    buf_fini(&out);
}

static void
check_encode(const char *packer, struct span json)
{
    struct buf packed = {0}, back = {0};
    int rc = pack_encode(packer, json, &packed, NULL);

    if (rc == 0) {
        HOLDS(pack_decode(packer, buf_span(&packed), &back, NULL) == 0);
        check_fixpoint(packer, buf_span(&back));
    } else {
        HOLDS(rc == RH_ELIMIT || scan_object(json, NULL, 0, NULL) < 0);
        HOLDS(packed.n == 0);
    }
    buf_fini(&packed);
    buf_fini(&back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *packer;
    struct span in;
    uint8_t *copy;

    if (size == 0)
        return 0;
    copy = mem_dup(data + 1, size - 1);
    in = span_of(copy, size - 1);
    packer = data[0] & 1 ? "pickle" : "msgpack";
    if (data[0] & 2)
        check_encode(packer, in);
    else
        check_decode(packer, in);
    mem_free(copy);
    return 0;
}
