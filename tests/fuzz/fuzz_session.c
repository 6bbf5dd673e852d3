/* fuzz_session.c - signatures
 *
 * Input: a choice byte, then pieces: key, signature, four dicts, a buffer.
 * Properties: a signature passes if and only if it is the one that signing
 * gives; what was composed passes once and only once; whatever signed byte is
 * changed, it does not pass.
 */
#include "fuzz.h"

#include "wire/compose.h"

static void
check_foreign(struct session *s, const struct span *part, struct span sig)
{
    struct span f[] = {
        SPAN_LIT(MSG_DELIM), sig, part[0], part[1], part[2], part[3]};
    struct msg *m = msg_new(f, 6);
    char hex[SESSION_HEX_MAX];
    int n = session_sign(s, part, hex), rc;

    HOLDS(n >= 0 && m);
    if (msg_parse(m, &msg_limits_default, NULL) == 0) {
        rc = session_verify(s, m, NULL);
        HOLDS(rc == 0 || rc == RH_EAUTH);
        HOLDS((rc == 0) == (n == 0 || span_eq(sig, span_of(hex, (size_t)n))));
    }
    msg_unref(&m);
}

/* 'm' with one bit of frame i changed: must not pass. */
static void
check_changed(struct session *s, const struct msg *m, uint32_t i, uint8_t bit)
{
    struct msg *copy = msg_new(m->frame, m->n);
    struct span *f;

    HOLDS(copy && msg_parse(copy, &msg_limits_default, NULL) == 0);
    f = &copy->frame[i];
    if (f->n > 0) {
        uint8_t *bytes = malloc(f->n);

        HOLDS(bytes);
        memcpy(bytes, f->p, f->n);
        bytes[bit % f->n] ^= (uint8_t)(1 << bit % 8);
        f->p = bytes;
        HOLDS(session_admit(s, copy, NULL) == RH_EAUTH);
        free(bytes);
    }
    msg_unref(&copy);
}

static void
check_composed(struct session *s, const struct span *part, struct span buffer,
               uint8_t choice, bool is_signed)
{
    struct draft draft = {.msg_type = "fuzz",
                          .parent = part[1],
                          .metadata = part[2],
                          .content = part[3],
                          .buffer = &buffer,
                          .n_buffers = 1,
                          .wall_us = choice};
    struct msg *m = NULL, *again = NULL;
    struct sender sender;

    HOLDS(sender_init(&sender, s, NULL, "user", NULL) == 0);
    HOLDS(compose(&sender, &draft, &m, NULL) == 0);
    HOLDS(span_eq(msg_buffer(m, 0), buffer));
    for (uint32_t i = 1; is_signed && i < 6; i++)
        check_changed(s, m, i, choice);
    HOLDS(session_admit(s, m, NULL) == 0);
    HOLDS(session_admit(s, m, NULL) == (is_signed ? RH_EREPLAY : 0));
    HOLDS(recompose(&sender, m, &buffer, 1, SPAN_LIT("{\"h\": 1}"), part[0],
                    &again, NULL)
          == 0);
    HOLDS(session_admit(s, again, NULL) == 0);
    HOLDS(session_verify(s, m, NULL) == 0);
    msg_unref(&m);
    msg_unref(&again);
    sender_fini(&sender);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const scheme[] = {"hmac-sha256", "hmac-sha512",
                                         "hmac-md5", "hmac-sha3_256"};
    struct span in = span_of(data, size), key, sig, part[4], buffer;
    struct session *s = NULL;
    uint8_t choice;

    if (size == 0)
        return 0;
    choice = data[0];
    in = span_of(data + 1, size - 1);
    key = fuzz_piece(&in);
    sig = fuzz_piece(&in);
    for (int i = 0; i < 4; i++)
        part[i] = fuzz_piece(&in);
    buffer = fuzz_piece(&in);
    HOLDS(session_new(&s, key, scheme[choice % 4], NULL) == 0);
    check_foreign(s, part, sig);
    check_composed(s, part, buffer, choice, key.n > 0);
    session_free(&s);
    return 0;
}
