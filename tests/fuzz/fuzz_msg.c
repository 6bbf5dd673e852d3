/* fuzz_msg.c - multipart messages
 *
 * Input: frames as length byte and content; the length 255 stands for the
 * delimiter.  Property: msg_parse agrees with a second, naive reading of the
 * rules, and a message equals the frames it was made of.
 */
#include "fuzz.h"

#include "wire/msg.h"
#include "wire/session.h"

#define MAX_FRAMES 64

static const struct msg_limits limits = {
    .max_idents = 3, .max_buffers = 4, .max_ident = 16, .max_dict = 32};

static bool
is_delim(struct span s)
{
    return span_is(s, "<IDS|MSG>");
}

/* What msg_parse has to answer. */
static int
expected(const struct span *f, size_t n, size_t *delim)
{
    size_t d = 0;

    for (; d < n && !is_delim(f[d]); d++)
        if (d >= limits.max_idents || f[d].n > limits.max_ident)
            return RH_ELIMIT;
    if (d == n || n - d < 6)
        return RH_EPROTO;
    if (n - d - 6 > limits.max_buffers || f[d + 1].n > SESSION_HEX_MAX)
        return RH_ELIMIT;
    for (size_t i = d + 2; i < d + 6; i++)
        if (f[i].n > limits.max_dict)
            return RH_ELIMIT;
    *delim = d;
    return 0;
}

static size_t
read_frames(struct span in, struct span *f)
{
    size_t n = 0;

    while (in.n && n < MAX_FRAMES) {
        if (in.p[0] == 255) {
            f[n++] = SPAN_LIT(MSG_DELIM);
            in = span_of(in.p + 1, in.n - 1);
        } else {
            f[n++] = fuzz_piece(&in);
        }
    }
    return n;
}

static void
check_gather(struct msg *m, const struct span *f)
{
    struct msg *owner[MAX_FRAMES], *g;

    for (uint32_t i = 0; i < m->n; i++)
        owner[i] = f[i].n % 2 ? m : NULL;
    g = msg_gather(m->frame, owner, m->n);
    HOLDS(g && g->n == m->n);
    for (uint32_t i = 0; i < g->n; i++) {
        HOLDS(span_eq(g->frame[i], f[i]));
        HOLDS(!owner[i] || g->frame[i].p == m->frame[i].p);
    }
    msg_unref(&g);
    HOLDS(atomic_load(&m->refs) == 1);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span f[MAX_FRAMES];
    size_t n = read_frames(span_of(data, size), f), delim = 0;
    struct msg *m = msg_new(f, n);
    rh_error err = {0};
    int rc;

    HOLDS(m && m->n == n);
    for (size_t i = 0; i < n; i++)
        HOLDS(span_eq(m->frame[i], f[i]));
    rc = msg_parse(m, &limits, &err);
    HOLDS(rc == expected(f, n, &delim));
    if (rc < 0) {
        HOLDS(err.code == rc && err.text[0] && m->i_delim == MSG_NO_DELIM);
    } else {
        HOLDS(m->i_delim == delim);
        HOLDS(msg_n_buffers(m) + MSG_BUFFER0 + delim == n);
        HOLDS(span_eq(msg_part(m, MSG_CONTENT), f[delim + 5]));
    }
    check_gather(m, f);
    msg_unref(&m);
    return 0;
}
