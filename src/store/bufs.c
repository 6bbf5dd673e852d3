/* bufs.c - a pickled list of bytes
 *
 *   80 p          protocol          8e n8 ...     bytes, 8-byte length
 *   95 n8         frame (ignored)   B n4 ...      bytes, 4-byte length
 *   ]             the list          C n1 ...      bytes, 1-byte length
 *   (  a  e       mark, append      h n1, j n4    a memoized value again
 *   94, q n1, r n4  memoize         .             end
 *
 * Lengths are little-endian.  Every value is an item, because the list is the
 * only container; memoized values matter since Python has one empty bytes.
 */
#include "store/bufs.h"

#include "base/mem.h"

enum {
    OP_PROTO = 0x80,
    OP_FRAME = 0x95,
    OP_MEMOIZE = 0x94,
    OP_BINBYTES8 = 0x8e,
    OP_LIST = ']',
    OP_MARK = '(',
    OP_APPEND = 'a',
    OP_APPENDS = 'e',
    OP_BINBYTES = 'B',
    OP_SHORT_BINBYTES = 'C',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_STOP = '.'
};

static void
add_length(struct buf *out, uint64_t n, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_add_char(out, (char)(n >> (8 * i) & 0xff));
}

void
bufs_pack(struct buf *out, const struct msg *m)
{
    const uint32_t n = m ? msg_n_buffers(m) : 0;

    if (n == 0)
        return;
    buf_add_char(out, (char)OP_PROTO);
    buf_add_char(out, 4);
    buf_add_char(out, OP_LIST);
    buf_add_char(out, OP_MARK);
    for (uint32_t i = 0; i < n; i++) {
        const struct span s = msg_buffer(m, i);

        if (s.n <= UINT8_MAX) {
            buf_add_char(out, OP_SHORT_BINBYTES);
            add_length(out, s.n, 1);
        } else if (s.n <= UINT32_MAX) {
            buf_add_char(out, OP_BINBYTES);
            add_length(out, s.n, 4);
        } else {
            buf_add_char(out, (char)OP_BINBYTES8);
            add_length(out, s.n, 8);
        }
        buf_add_span(out, s);
    }
    buf_add_char(out, OP_APPENDS);
    buf_add_char(out, OP_STOP);
}

struct reader {
    struct span in;
    size_t at;
    struct buf items, memo; // of spans
    struct span top;        // the value just made; p NULL: the list
    bool has_list;
};

static int
take_length(struct reader *r, int bytes, uint64_t *n)
{
    *n = 0;
    if ((size_t)bytes > r->in.n - r->at)
        return RH_EPROTO;
    for (int i = 0; i < bytes; i++)
        *n |= (uint64_t)r->in.p[r->at++] << (8 * i);
    return 0;
}

static int
add_item(struct reader *r, struct span s)
{
    r->top = s;
    buf_add(&r->items, &s, sizeof(s));
    return r->items.failed ? RH_ENOMEM : 0;
}

static int
take_bytes(struct reader *r, int bytes)
{
    uint64_t n;

    if (take_length(r, bytes, &n) < 0 || n > r->in.n - r->at)
        return RH_EPROTO;
    r->at += (size_t)n;
    return add_item(r, span_of(r->in.p + r->at - n, (size_t)n));
}

/* Memo entries are numbered in order in all that Python writes. */
static int
memoize(struct reader *r, int bytes)
{
    uint64_t i = r->memo.n / sizeof(r->top);

    if (bytes > 0 && take_length(r, bytes, &i) < 0)
        return RH_EPROTO;
    if (i != r->memo.n / sizeof(r->top))
        return RH_EPROTO;
    buf_add(&r->memo, &r->top, sizeof(r->top));
    return r->memo.failed ? RH_ENOMEM : 0;
}

static int
recall(struct reader *r, int bytes)
{
    struct span s;
    uint64_t i;

    if (take_length(r, bytes, &i) < 0 || i >= r->memo.n / sizeof(s))
        return RH_EPROTO;
    memcpy(&s, r->memo.p + i * sizeof(s), sizeof(s));
    return s.p ? add_item(r, s) : RH_EPROTO;
}

/* 1: go on, 0: the end. */
static int
step(struct reader *r)
{
    uint64_t ignored;
    int rc = 0;

    if (r->at == r->in.n)
        return RH_EPROTO;
    switch (r->in.p[r->at++]) {
    case OP_PROTO:
        rc = take_length(r, 1, &ignored);
        break;
    case OP_FRAME:
        rc = take_length(r, 8, &ignored);
        break;
    case OP_LIST:
        if (r->has_list) // lists in lists are no buffers
            return RH_EPROTO;
        r->has_list = true;
        r->top = SPAN_NONE;
        break;
    case OP_MARK:
    case OP_APPEND:
    case OP_APPENDS:
        break;
    case OP_SHORT_BINBYTES:
        rc = take_bytes(r, 1);
        break;
    case OP_BINBYTES:
        rc = take_bytes(r, 4);
        break;
    case OP_BINBYTES8:
        rc = take_bytes(r, 8);
        break;
    case OP_MEMOIZE:
        rc = memoize(r, 0);
        break;
    case OP_BINPUT:
        rc = memoize(r, 1);
        break;
    case OP_LONG_BINPUT:
        rc = memoize(r, 4);
        break;
    case OP_BINGET:
        rc = recall(r, 1);
        break;
    case OP_LONG_BINGET:
        rc = recall(r, 4);
        break;
    case OP_STOP:
        return r->has_list ? 0 : RH_EPROTO;
    default:
        return RH_EPROTO;
    }
    return rc < 0 ? rc : 1;
}

int
bufs_unpack(struct span pickle, struct span **out, size_t *n)
{
    struct reader r = {.in = pickle};
    int rc = 1;

    *out = NULL;
    *n = 0;
    if (pickle.n == 0)
        return 0;
    while (rc > 0)
        rc = step(&r);
    buf_fini(&r.memo);
    if (rc < 0) {
        buf_fini(&r.items);
        return rc;
    }
    *n = r.items.n / sizeof(struct span);
    *out = (struct span *)(void *)r.items.p; // from mem_resize, like all bufs
    return 0;
}
