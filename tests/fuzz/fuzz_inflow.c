/* fuzz_inflow.c - the bytes of one connection
 *
 * Input: a byte of choices (1: a greeting and READY come first; the rest: how
 * many frames a message may have), a seed for the cuts, then the bytes.
 * Property: however they are cut, they give the same messages and the same
 * failure, within the limits.
 */
#include "fuzz.h"

#include "net/inflow.h"

#define MAX_SIZE 70000

struct outcome {
    uint32_t hash;
    unsigned n_messages, n_dropped, n_pings, n_ready;
};

struct run {
    struct outcome outcome;
    const struct inflow *in;
};

static uint8_t scratch[INFLOW_SCRATCH];

static void
mix(struct outcome *self, struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        self->hash = (self->hash ^ s.p[i]) * 16777619u;
    self->hash = (self->hash ^ (uint32_t)s.n) * 16777619u + 1;
}

static int
on_ready(void *ctx, struct span body, rh_error *err)
{
    struct run *run = ctx;
    struct span name;
    int rc = zmtp_read_ready(body, NET_ROUTER, &name, err);

    run->outcome.n_ready++;
    HOLDS(rc == 0 || rc == RH_EPROTO);
    if (rc == 0) {
        HOLDS(name.n <= 255);
        HOLDS(name.n == 0
              || (name.p >= body.p && name.p + name.n <= body.p + body.n));
        mix(&run->outcome, name);
    }
    return rc;
}

static void
on_message(void *ctx, struct span *frame, struct msg **owner, size_t n)
{
    struct run *run = ctx;
    struct msg *m = msg_gather(frame + 1, owner + 1, n);

    HOLDS(m && n > 0 && n <= run->in->max_frames);
    for (size_t i = 0; i < n; i++) {
        HOLDS(m->frame[i].n <= MAX_SIZE);
        mix(&run->outcome, m->frame[i]);
    }
    msg_unref(&m);
    run->outcome.n_messages++;
}

static void
on_dropped(void *ctx, int code)
{
    struct run *run = ctx;

    HOLDS(code == RH_ELIMIT);
    run->outcome.n_dropped++;
}

static void
on_ping(void *ctx, struct span context)
{
    struct run *run = ctx;

    mix(&run->outcome, context);
    run->outcome.n_pings++;
}

/* All at once, as far as it fits; with a seed in pieces made up from it. */
static int
feed(struct run *run, struct inflow *in, struct span bytes, uint32_t seed,
     rh_error *err)
{
    const struct inflow_port port = {run, on_ready, on_message, on_dropped,
                                     on_ping};
    int rc = 0;

    run->in = in;
    while (rc == 0 && bytes.n) {
        size_t n, step = bytes.n;
        uint8_t *at = inflow_room(in, scratch, &n);

        HOLDS(n > 0);
        if (seed) {
            seed = seed * 1103515245u + 12345u;
            step = 1 + (seed >> 16) % (seed & 0x8000 ? 3 : 300);
        }
        n = n < step ? n : step;
        n = n < bytes.n ? n : bytes.n;
        memcpy(at, bytes.p, n);
        bytes = span_of(bytes.p + n, bytes.n - n);
        rc = inflow_take(in, scratch, n, &port, err);
    }
    return rc;
}

static int
decode(struct span in, uint8_t choice, uint32_t seed, struct outcome *out,
       rh_error *err)
{
    struct run run = {.outcome = {0}};
    struct buf bytes = {0};
    struct inflow inflow;
    int rc;

    if (choice & 1) {
        buf_add(&bytes, zmtp_greeting, ZMTP_GREETING);
        zmtp_add_ready(&bytes, NET_DEALER, SPAN_LIT("me"));
    }
    buf_add_span(&bytes, in);
    inflow_init(&inflow, 1 + (choice >> 1) % 16, MAX_SIZE);
    rc = feed(&run, &inflow, buf_span(&bytes), seed, err);
    inflow_fini(&inflow);
    buf_fini(&bytes);
    *out = run.outcome;
    return rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole, cut;
    rh_error err[2] = {{.text = ""}, {.text = ""}};
    struct span in;
    int rc;

    if (size < 2)
        return 0;
    in = span_of(data + 2, size - 2);
    rc = decode(in, data[0], 0, &whole, &err[0]);
    HOLDS(decode(in, data[0], 1u + data[1], &cut, &err[1]) == rc);
    HOLDS(rc == 0 || rc == RH_EPROTO || rc == RH_ELIMIT);
    HOLDS((rc == 0) == !err[0].text[0]
          && strcmp(err[0].text, err[1].text) == 0);
    HOLDS(whole.hash == cut.hash && whole.n_messages == cut.n_messages
          && whole.n_dropped == cut.n_dropped && whole.n_pings == cut.n_pings
          && whole.n_ready == cut.n_ready);
    return 0;
}
