/* translate.c - see translate.h
 *
 * Not the hot path: such clusters are rare, and packing costs more than the
 * extra message.
 */
#include "wire/translate.h"

#include "base/buf.h"
#include "base/mem.h"
#include "wire/pack.h"

typedef int recode_fn(const char *packer, struct span in, struct buf *out,
                      rh_error *err);

/* The four dicts of 'm', recoded one after the other into 'bytes'. */
static int
recode(recode_fn *fn, const char *packer, const struct msg *m,
       struct buf *bytes, struct span part[4], rh_error *err)
{
    size_t end[4];
    int rc = 0;

    for (int i = 0; i < 4 && rc == 0; i++) {
        rc = fn(packer, msg_part(m, (enum msg_part)(MSG_HEADER + i)), bytes,
                err);
        end[i] = bytes->n;
    }
    for (int i = 0; i < 4 && rc == 0; i++) {
        size_t start = i ? end[i - 1] : 0;

        part[i] = span_of(bytes->p + start, end[i] - start);
    }
    return rc;
}

/* 'm' with other dicts and another signature. */
static int
rebuild(struct msg *m, struct span signature, const struct span part[4],
        struct msg **out, rh_error *err)
{
    struct span *frame = mem_zalloc(m->n, sizeof(*frame));
    struct msg **owner = mem_zalloc(m->n, sizeof(struct msg *));
    struct msg *made = NULL;

    if (frame && owner) {
        for (uint32_t i = 0; i < m->n; i++) {
            frame[i] = m->frame[i];
            owner[i] = m;
        }
        for (uint32_t i = 0; i < 5; i++) {
            frame[m->i_delim + MSG_SIGNATURE + i] = i ? part[i - 1] : signature;
            owner[m->i_delim + MSG_SIGNATURE + i] = NULL;
        }
        made = msg_gather(frame, owner, m->n);
    }
    mem_free(frame);
    mem_free(owner);
    if (!made)
        return rh_fail(err, RH_ENOMEM, "packing a message of %u frames", m->n);
    made->i_delim = m->i_delim;
    *out = made;
    return 0;
}

static int
translate(recode_fn *fn, const char *packer, struct session *signer,
          struct msg *m, struct msg **out, rh_error *err)
{
    struct span signature = msg_part(m, MSG_SIGNATURE);
    char hex[SESSION_HEX_MAX];
    struct buf bytes = {0};
    struct span part[4];
    int rc = recode(fn, packer, m, &bytes, part, err);

    if (rc == 0 && signer) {
        rc = session_sign(signer, part, hex);
        if (rc < 0)
            rh_fail(err, rc, "signing a message");
        signature = span_of(hex, rc > 0 ? (size_t)rc : 0);
    }
    if (rc >= 0)
        rc = rebuild(m, signature, part, out, err);
    buf_fini(&bytes);
    return rc;
}

int
translate_out(const char *packer, struct session *signer, struct msg *m,
              struct msg **out, rh_error *err)
{
    return translate(pack_encode, packer, signer, m, out, err);
}

int
translate_in(const char *packer, struct session *signer, struct msg *m,
             struct msg **out, rh_error *err)
{
    return translate(pack_decode, packer, signer, m, out, err);
}
