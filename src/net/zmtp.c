/* zmtp.c - see zmtp.h
 *
 * Peers are libzmq of any 4.x, which talks version 3.0 or 3.1.  What differs
 * between the two (heartbeats, subscriptions as commands) we do not start, so
 * 3.0 is what we say; heartbeats of the peer are answered.
 */
#include "net/zmtp.h"

#include <strings.h>

#define N_SIGNATURE 10
#define N_VERSION 12
#define N_MECHANISM 20

const uint8_t zmtp_greeting[ZMTP_GREETING] = {
    0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};

int
zmtp_check_greeting(const uint8_t *p, size_t n, rh_error *err)
{
    static const size_t at = N_VERSION; // of the mechanism

    if ((n > 0 && p[0] != 0xff) || (n >= N_SIGNATURE && p[9] != 0x7f))
        return rh_fail(err, RH_EPROTO, "it does not speak ZeroMQ's protocol");
    if (n > N_SIGNATURE && p[N_SIGNATURE] < 3)
        return rh_fail(err, RH_EPROTO,
                       "it speaks version %u of ZeroMQ's protocol, not 3",
                       p[N_SIGNATURE]);
    if (n >= at + N_MECHANISM
        && memcmp(p + at, zmtp_greeting + at, N_MECHANISM) != 0)
        return rh_fail(err, RH_EPROTO, "%s",
                       memcmp(p + at, "CURVE", 5) == 0
                           ? "it encrypts (CURVE), and this socket does not"
                           : "it asks for a security mechanism, and this "
                             "socket has none");
    return n < ZMTP_GREETING ? RH_EAGAIN : 0;
}

static void
put_be(uint8_t *out, uint64_t value, size_t n)
{
    while (n--) {
        out[n] = (uint8_t)value;
        value >>= 8;
    }
}

static uint64_t
get_be(const uint8_t *p, size_t n)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n; i++)
        value = value << 8 | p[i];
    return value;
}

size_t
zmtp_put_header(uint8_t *out, uint8_t flags, uint64_t size)
{
    bool is_long = size > 255;

    out[0] = is_long ? flags | ZMTP_LONG : flags;
    put_be(out + 1, size, is_long ? 8 : 1);
    return is_long ? 9 : 2;
}

int
zmtp_get_header(const uint8_t *p, size_t n, struct zmtp_frame *out,
                rh_error *err)
{
    size_t n_size;

    if (n < 1)
        return RH_EAGAIN;
    if (p[0] > (ZMTP_MORE | ZMTP_LONG | ZMTP_COMMAND)
        || (p[0] & ZMTP_COMMAND && p[0] & ZMTP_MORE))
        return rh_fail(err, RH_EPROTO, "frame flags 0x%02x do not exist", p[0]);
    n_size = p[0] & ZMTP_LONG ? 8 : 1;
    if (n < 1 + n_size)
        return RH_EAGAIN;
    *out = (struct zmtp_frame){
        .flags = p[0],
        .n_header = (uint8_t)(1 + n_size),
        .size = get_be(p + 1, n_size),
    };
    if (out->flags & ZMTP_COMMAND && out->size > ZMTP_COMMAND_MAX)
        return rh_fail(err, RH_EPROTO, "command of %llu bytes, allowed %d",
                       (unsigned long long)out->size, ZMTP_COMMAND_MAX);
    return 0;
}

/* ---- commands --------------------------------------------------------- */

static const char *
type_name(enum net_type type)
{
    return type == NET_ROUTER ? "ROUTER" : "DEALER";
}

static void
add_property(struct buf *out, const char *name, struct span value)
{
    uint8_t size[4];

    put_be(size, value.n, sizeof(size));
    buf_add_char(out, (char)strlen(name));
    buf_add_str(out, name);
    buf_add(out, size, sizeof(size));
    buf_add_span(out, value);
}

void
zmtp_add_ready(struct buf *out, enum net_type type, struct span identity)
{
    uint8_t header[ZMTP_HEADER_MAX];
    struct buf body;

    buf_init(&body);
    buf_add_str(&body, "\5READY");
    add_property(&body, "Socket-Type", span_str(type_name(type)));
    add_property(&body, "Identity", identity);
    buf_add(out, header, zmtp_put_header(header, ZMTP_COMMAND, body.n));
    buf_add_span(out, buf_span(&body));
    out->failed |= body.failed;
    buf_fini(&body);
}

/* The next property of a READY: 1, 0 at the end, RH_EPROTO. */
static int
next_property(struct span *rest, struct span *name, struct span *value)
{
    size_t n = rest->n ? rest->p[0] : 0;
    uint64_t size;

    if (rest->n == 0)
        return 0;
    if (n == 0 || rest->n < 1 + n + 4)
        return RH_EPROTO;
    *name = span_of(rest->p + 1, n);
    size = get_be(rest->p + 1 + n, 4);
    if (size > rest->n - 1 - n - 4)
        return RH_EPROTO;
    *value = span_of(rest->p + 1 + n + 4, (size_t)size);
    *rest = span_of(value->p + value->n, rest->n - 1 - n - 4 - value->n);
    return 1;
}

static bool
is_named(struct span name, const char *wanted)
{
    return name.n == strlen(wanted)
           && strncasecmp((const char *)name.p, wanted, name.n) == 0;
}

static bool
may_talk(struct span peer, enum net_type type)
{
    return span_is(peer, "DEALER") || span_is(peer, "ROUTER")
           || span_is(peer, type == NET_ROUTER ? "REQ" : "REP");
}

int
zmtp_read_ready(struct span body, enum net_type type, struct span *identity,
                rh_error *err)
{
    static const struct span ready = SPAN_INIT("\5READY");
    struct span rest, name, value, peer = SPAN_NONE;
    int rc;

    *identity = SPAN_NONE;
    if (body.n < ready.n || memcmp(body.p, ready.p, ready.n) != 0)
        return rh_fail(err, RH_EPROTO, "its first command is not READY");
    rest = span_of(body.p + ready.n, body.n - ready.n);
    while ((rc = next_property(&rest, &name, &value)) == 1)
        if (is_named(name, "Socket-Type"))
            peer = value;
        else if (is_named(name, "Identity"))
            *identity = value;
    if (rc < 0)
        return rh_fail(err, rc, "its READY command is broken");
    if (!may_talk(peer, type))
        return rh_fail(err, RH_EPROTO,
                       "its socket is of a type that a %s cannot talk to",
                       type_name(type));
    // Names that begin with 0 are those we make up.
    if (identity->n > 255 || (identity->n && identity->p[0] == 0))
        return rh_fail(err, RH_EPROTO, "its name is not allowed");
    return 0;
}

bool
zmtp_is_ping(struct span body, struct span *context)
{
    static const struct span ping = SPAN_INIT("\4PING");
    size_t n = ping.n + 2; // and the time to live

    if (body.n < n || memcmp(body.p, ping.p, ping.n) != 0)
        return false;
    *context = span_of(body.p + n, body.n - n);
    return true;
}
