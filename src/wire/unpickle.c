/* unpickle.c - a pickle of plain data to JSON text
 *
 * A pickle is a program for a stack machine.  This one runs the opcodes that
 * Python's picklers emit for plain data in protocols 2 to 5 and builds a graph
 * of nodes; globals are looked up in a table of a dozen names and calls are
 * answered by functions below, so a pickle can build data and nothing else.
 *
 * Invariants: every index on the stack, in the memo and in cells is that of a
 * node that exists; nothing is popped below the innermost mark; every string is
 * a span of the input.  Nodes may be shared or even contain themselves: the
 * writer bounds depth and output.
 */
#include <stdio.h>

#include "base/isodate.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "wire/number.h"
#include "wire/pack_impl.h"
#include "wire/scan.h"

#define MAX_NODES (4u << 20)

enum type {
    T_NONE,
    T_FALSE,
    T_TRUE,
    T_INT,
    T_BIG, // an integer that only its bytes can hold
    T_FLOAT,
    T_STR,
    T_BYTES,
    T_LATIN1, // bytes written as the text of their code points
    T_LIST,   // and set
    T_TUPLE,
    T_DICT, // cells: key, value, key, value...
    T_GLOBAL,
    T_DELTA, // timedelta: i is microseconds
    T_ZONE,  // timezone: i is microseconds east
    T_DATE   // i is microseconds, UTC if aware
};

enum global {
    G_BYTES,
    G_DATETIME,
    G_DICT,
    G_ENCODE,
    G_SET,
    G_SIGNAL,
    G_TIMEDELTA,
    G_TIMEZONE,
    G_UTC
};

// clang-format off
static const struct {
    const char *module, *name;
    enum global global;
} known[] = {
    { "__builtin__",    "bytearray",   G_BYTES     }, // protocol 2
    { "__builtin__",    "bytes",       G_BYTES     },
    { "__builtin__",    "frozenset",   G_SET       },
    { "__builtin__",    "set",         G_SET       },
    { "_codecs",        "encode",      G_ENCODE    },
    { "builtins",       "bytearray",   G_BYTES     },
    { "builtins",       "bytes",       G_BYTES     },
    { "builtins",       "frozenset",   G_SET       },
    { "builtins",       "set",         G_SET       },
    { "collections",    "OrderedDict", G_DICT      },
    { "datetime",       "datetime",    G_DATETIME  },
    { "datetime",       "timedelta",   G_TIMEDELTA },
    { "datetime",       "timezone",    G_TIMEZONE  },
    { "dateutil.tz",    "tzutc",       G_UTC       },
    { "dateutil.tz.tz", "tzutc",       G_UTC       },
    { "signal",         "Signals",     G_SIGNAL    }, // of signal_request
};
// clang-format on

struct node {
    enum type type;
    bool aware;          // T_DATE: knows its zone
    enum global global;  // T_GLOBAL
    uint32_t head, tail; // containers: cell + 1, 0 if empty
    union {
        struct span s;
        int64_t i;
        double d;
    } u;
};

struct cell {
    uint32_t node, next; // next: cell + 1
};

struct vec {
    void *v;
    uint32_t n, cap;
};

struct machine {
    const uint8_t *start, *p, *end;
    struct vec node, cell, stack, mark, memo;
    uint32_t floor; // the stack at the innermost mark
    bool done;
    rh_error *err;
    // the writer's
    struct buf *out;
    size_t out_start;
    struct buf scratch;
};

static int
broken(struct machine *m, const char *what)
{
    rh_fail(m->err, RH_EPROTO, "pickle: %s at byte %zu of %zu", what,
            (size_t)(m->p - m->start), (size_t)(m->end - m->start));
    return RH_EPROTO;
}

static void *
push_item(struct machine *m, struct vec *vec, size_t size)
{
    if (vec->n == vec->cap) {
        uint32_t cap = vec->cap ? vec->cap * 2 : 32;
        void *v;

        if (cap > MAX_NODES) {
            rh_fail(m->err, RH_ELIMIT, "pickle: more than %u objects",
                    MAX_NODES);
            return NULL;
        }
        v = mem_resize(vec->v, cap, size);
        if (!v) {
            rh_fail(m->err, RH_ENOMEM, "out of memory unpickling");
            return NULL;
        }
        vec->v = v;
        vec->cap = cap;
    }
    return (char *)vec->v + size * vec->n++;
}

/* What push_item reported. */
static int
no_room(const struct vec *vec)
{
    return vec->cap * 2 > MAX_NODES ? RH_ELIMIT : RH_ENOMEM;
}

static struct node *
node_at(const struct machine *m, uint32_t i)
{
    return (struct node *)m->node.v + i;
}

static int
push_index(struct machine *m, struct vec *vec, uint32_t i)
{
    uint32_t *slot = push_item(m, vec, sizeof(*slot));

    if (!slot)
        return no_room(vec);
    *slot = i;
    return 0;
}

static int
push_node(struct machine *m, struct node node)
{
    struct node *slot = push_item(m, &m->node, sizeof(*slot));

    if (!slot)
        return no_room(&m->node);
    *slot = node;
    return push_index(m, &m->stack, m->node.n - 1);
}

/* The topmost index; the caller has checked with 'need'. */
static uint32_t
pop(struct machine *m)
{
    return ((uint32_t *)m->stack.v)[--m->stack.n];
}

static uint32_t
stack_at(const struct machine *m, uint32_t i)
{
    return ((uint32_t *)m->stack.v)[i];
}

static int
need(struct machine *m, uint32_t n)
{
    return m->stack.n - m->floor < n ? broken(m, "stack underflow") : 0;
}

/* Forget the innermost mark; *base is where it stood. */
static int
pop_mark(struct machine *m, uint32_t *base)
{
    uint32_t *mark = m->mark.v;

    *base = 0;
    if (m->mark.n == 0)
        return broken(m, "no mark");
    *base = m->floor;
    m->mark.n--;
    m->floor = m->mark.n ? mark[m->mark.n - 1] : 0;
    return 0;
}

static int
append(struct machine *m, uint32_t container, uint32_t item)
{
    struct cell *cell = push_item(m, &m->cell, sizeof(*cell));
    struct node *c = node_at(m, container);

    if (!cell)
        return no_room(&m->cell);
    *cell = (struct cell){item, 0};
    if (c->tail)
        ((struct cell *)m->cell.v)[c->tail - 1].next = m->cell.n;
    else
        c->head = m->cell.n;
    c->tail = m->cell.n;
    return 0;
}

/* Append what lies above 'base' and take it off the stack. */
static int
append_above(struct machine *m, uint32_t container, uint32_t base)
{
    for (uint32_t i = base; i < m->stack.n; i++) {
        int rc = append(m, container, stack_at(m, i));

        if (rc < 0)
            return rc;
    }
    m->stack.n = base;
    return 0;
}

/* Little-endian number of n bytes. */
static int
take_number(struct machine *m, size_t n, uint64_t *out)
{
    uint64_t value = 0;

    *out = 0;
    if ((size_t)(m->end - m->p) < n)
        return broken(m, "end inside an opcode");
    for (size_t i = 0; i < n; i++)
        value |= (uint64_t)m->p[i] << 8 * i;
    m->p += n;
    *out = value;
    return 0;
}

static int
take_bytes(struct machine *m, uint64_t n, struct span *out)
{
    *out = SPAN_NONE;
    if ((size_t)(m->end - m->p) < n)
        return broken(m, "end inside a string");
    *out = span_of(m->p, (size_t)n);
    m->p += n;
    return 0;
}

static int
take_line(struct machine *m, struct span *out)
{
    const uint8_t *nl = memchr(m->p, '\n', (size_t)(m->end - m->p));

    if (!nl)
        return broken(m, "no end of line");
    *out = span_of(m->p, (size_t)(nl - m->p));
    m->p = nl + 1;
    return 0;
}

/* The handlers of opcodes; 'op' tells the members of a family apart. */

static int
op_proto(struct machine *m, int op)
{
    uint64_t version;
    int rc = take_number(m, 1, &version);

    (void)op;
    return rc < 0 ? rc : version > 5 ? broken(m, "protocol above 5") : 0;
}

static int
op_frame(struct machine *m, int op)
{
    uint64_t size;

    (void)op;
    return take_number(m, 8, &size); // a hint for streams
}

static int
op_stop(struct machine *m, int op)
{
    (void)op;
    if (m->stack.n != 1 || m->mark.n)
        return broken(m, "end with not exactly one object");
    m->done = true;
    return 0;
}

static int
op_constant(struct machine *m, int op)
{
    enum type type = op == 'N' ? T_NONE : op == 0x88 ? T_TRUE : T_FALSE;

    return push_node(m, (struct node){.type = type});
}

static int
op_int(struct machine *m, int op)
{
    uint64_t v;
    int rc = take_number(m, op == 'K' ? 1 : op == 'M' ? 2 : 4, &v);
    int64_t i = op == 'J' ? (int32_t)(uint32_t)v : (int64_t)v;

    return rc < 0 ? rc : push_node(m, (struct node){.type = T_INT, .u.i = i});
}

static int
op_long(struct machine *m, int op)
{
    struct node node = {.type = T_BIG};
    uint64_t n, value = 0;
    int rc = take_number(m, op == 0x8a ? 1 : 4, &n);

    if (rc == 0)
        rc = take_bytes(m, n, &node.u.s);
    if (rc < 0)
        return rc;
    if (n > NUMBER_BIG_BYTES)
        return rh_fail(m->err, RH_ELIMIT,
                       "pickle: integer of %zu bytes, limit %d", (size_t)n,
                       NUMBER_BIG_BYTES);
    if (n <= 8) {
        for (size_t i = 0; i < n; i++)
            value |= (uint64_t)node.u.s.p[i] << 8 * i;
        if (n > 0 && n < 8 && (node.u.s.p[n - 1] & 0x80))
            value |= UINT64_MAX << 8 * n;
        node = (struct node){.type = T_INT, .u.i = (int64_t)value};
    }
    return push_node(m, node);
}

static int
op_float(struct machine *m, int op)
{
    struct node node = {.type = T_FLOAT};
    uint64_t bits = 0;
    struct span s;
    int rc = take_bytes(m, 8, &s);

    (void)op;
    if (rc < 0)
        return rc;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | s.p[i]; // the one big-endian number
    memcpy(&node.u.d, &bits, sizeof(bits));
    return push_node(m, node);
}

static int
op_string(struct machine *m, int op)
{
    bool text = op == 'X' || op == 0x8c || op == 0x8d;
    struct node node = {.type = text ? T_STR : T_BYTES};
    size_t width = op == 0x8c || op == 'C' ? 1 : op == 'X' || op == 'B' ? 4 : 8;
    uint64_t n;
    int rc = take_number(m, width, &n);

    if (rc == 0)
        rc = take_bytes(m, n, &node.u.s);
    return rc < 0 ? rc : push_node(m, node);
}

static int
op_empty(struct machine *m, int op)
{
    enum type type = op == '}' ? T_DICT : op == ')' ? T_TUPLE : T_LIST;

    return push_node(m, (struct node){.type = type});
}

static int
op_mark(struct machine *m, int op)
{
    int rc = push_index(m, &m->mark, m->stack.n);

    (void)op;
    m->floor = rc < 0 ? m->floor : m->stack.n;
    return rc;
}

static int
new_sequence(struct machine *m, enum type type, uint32_t base)
{
    struct node *slot = push_item(m, &m->node, sizeof(*slot));
    uint32_t made = m->node.n - 1;
    int rc;

    if (!slot)
        return no_room(&m->node);
    *slot = (struct node){.type = type};
    rc = append_above(m, made, base);
    return rc < 0 ? rc : push_index(m, &m->stack, made);
}

static int
op_tuple_n(struct machine *m, int op)
{
    uint32_t n = (uint32_t)op - 0x84;
    int rc = need(m, n);

    return rc < 0 ? rc : new_sequence(m, T_TUPLE, m->stack.n - n);
}

static int
op_tuple(struct machine *m, int op)
{
    uint32_t base;
    int rc = pop_mark(m, &base);

    // 0x91 FROZENSET
    return rc < 0 ? rc : new_sequence(m, op == 't' ? T_TUPLE : T_LIST, base);
}

/* The container right below 'base' takes all above it. */
static int
fill(struct machine *m, enum type type, uint32_t base)
{
    uint32_t container;

    if (base <= m->floor)
        return broken(m, "no container below the items");
    container = stack_at(m, base - 1);
    if (node_at(m, container)->type != type)
        return broken(m, "items for something else than a container");
    if (type == T_DICT && (m->stack.n - base) % 2)
        return broken(m, "a key without a value");
    return append_above(m, container, base);
}

static int
op_fill_one(struct machine *m, int op)
{
    uint32_t n = op == 'a' ? 1 : 2;
    int rc = need(m, n + 1);

    if (rc < 0)
        return rc;
    return fill(m, op == 'a' ? T_LIST : T_DICT, m->stack.n - n);
}

static int
op_fill_all(struct machine *m, int op)
{
    uint32_t base;
    int rc = pop_mark(m, &base);

    return rc < 0 ? rc : fill(m, op == 'u' ? T_DICT : T_LIST, base);
}

static int
op_put(struct machine *m, int op)
{
    uint64_t i = m->memo.n; // MEMOIZE
    int rc = need(m, 1);

    if (rc == 0 && op != 0x94)
        rc = take_number(m, op == 'q' ? 1 : 4, &i);
    if (rc < 0)
        return rc;
    // Picklers count up; a reused index is legal, a gap is not believed.
    if (i > m->memo.n)
        return broken(m, "gap in the memo");
    if (i == m->memo.n)
        return push_index(m, &m->memo, stack_at(m, m->stack.n - 1));
    ((uint32_t *)m->memo.v)[i] = stack_at(m, m->stack.n - 1);
    return 0;
}

static int
op_get(struct machine *m, int op)
{
    uint64_t i;
    int rc = take_number(m, op == 'h' ? 1 : 4, &i);

    if (rc < 0)
        return rc;
    if (i >= m->memo.n)
        return broken(m, "reference to nothing");
    return push_index(m, &m->stack, ((uint32_t *)m->memo.v)[i]);
}

static int
push_global(struct machine *m, struct span module, struct span name)
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (span_is(module, known[i].module) && span_is(name, known[i].name))
            return push_node(
                m, (struct node){.type = T_GLOBAL, .global = known[i].global});
    return rh_fail(m->err, RH_EPROTO, "pickle: %.*s.%.*s is not plain data",
                   module.n < 64 ? (int)module.n : 64, (const char *)module.p,
                   name.n < 64 ? (int)name.n : 64, (const char *)name.p);
}

static int
op_global(struct machine *m, int op)
{
    struct span module, name = SPAN_NONE;
    int rc = take_line(m, &module);

    (void)op;
    if (rc == 0)
        rc = take_line(m, &name);
    return rc < 0 ? rc : push_global(m, module, name);
}

static int
op_stack_global(struct machine *m, int op)
{
    struct node *name, *module;
    int rc = need(m, 2);

    (void)op;
    if (rc < 0)
        return rc;
    name = node_at(m, pop(m));
    module = node_at(m, pop(m));
    if (name->type != T_STR || module->type != T_STR)
        return broken(m, "a global without a name");
    return push_global(m, module->u.s, name->u.s);
}

/* Calls.  Each gets its arguments as nodes and makes *made. */

struct args {
    const struct node *v[4];
    uint32_t n;
};

static bool
is(const struct args *args, uint32_t i, enum type type)
{
    return i < args->n && args->v[i]->type == type;
}

static bool
is_bytes(const struct args *args, uint32_t i)
{
    return is(args, i, T_BYTES) || is(args, i, T_LATIN1);
}

static bool
call_timedelta(const struct args *args, struct node *made)
{
    int64_t days, s, us;

    if (args->n != 3 || !is(args, 0, T_INT) || !is(args, 1, T_INT)
        || !is(args, 2, T_INT))
        return false;
    days = args->v[0]->u.i;
    s = args->v[1]->u.i;
    us = args->v[2]->u.i;
    // Only time zones need one, and they are shorter than a day.
    if (days < -1 || days > 1 || s < 0 || s >= 86400 || us < 0 || us >= 1000000)
        return false;
    *made = (struct node){.type = T_DELTA,
                          .u.i = (days * 86400 + s) * 1000000 + us};
    return true;
}

/* The bytes of one that was pickled with protocol 2, at most n of them. */
static size_t
from_latin1(struct span text, uint8_t *out, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n && n < cap; n++) {
        uint8_t c = text.p[i++];

        if (c >= 0x80 && i < text.n)
            c = (uint8_t)(c << 6 | (text.p[i++] & 0x3F));
        out[n] = c;
    }
    return n;
}

/* True if every code point of the text is below 256. */
static bool
is_latin1(struct span text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < 0x80)
            continue;
        if ((text.p[i] & 0xFE) != 0xC2 || utf8_len(text.p + i, text.n - i) != 2)
            return false;
        i++;
    }
    return true;
}

static bool
call_datetime(const struct args *args, struct node *made)
{
    bool aware = is(args, 1, T_ZONE);
    uint8_t b[11];
    char text[64];
    size_t n;

    if (args->n < 1 || args->n > 2 || !is_bytes(args, 0)
        || (args->n == 2 && !aware && !is(args, 1, T_NONE)))
        return false;
    n = args->v[0]->u.s.n;
    if (args->v[0]->type == T_LATIN1)
        n = from_latin1(args->v[0]->u.s, b, sizeof(b));
    else
        memcpy(b, args->v[0]->u.s.p, n < sizeof(b) ? n : sizeof(b));
    if (n != 10)
        return false;
    // Year, month (with a flag of no interest), day, hour, minute, second, us.
    snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%06d",
             b[0] << 8 | b[1], b[2] & 0x7F, b[3], b[4], b[5], b[6],
             b[7] << 16 | b[8] << 8 | b[9]);
    *made = (struct node){.type = T_DATE, .aware = aware};
    if (isodate_parse(span_str(text), &made->u.i) < 0)
        return false;
    if (aware)
        made->u.i -= args->v[1]->u.i;
    return true;
}

static bool
call(enum global global, const struct args *args, struct node *made)
{
    switch (global) {
    case G_BYTES:
        if (args->n == 1 && is_bytes(args, 0))
            *made = *args->v[0];
        return args->n == 0 || (args->n == 1 && is_bytes(args, 0));
    case G_DATETIME:
        return call_datetime(args, made);
    case G_DICT:
        *made = (struct node){.type = T_DICT};
        return args->n == 0;
    case G_ENCODE:
        if (args->n != 2 || !is(args, 0, T_STR) || !is(args, 1, T_STR)
            || !span_is(args->v[1]->u.s, "latin1")
            || !is_latin1(args->v[0]->u.s))
            return false;
        *made = *args->v[0];
        made->type = T_LATIN1;
        return true;
    case G_SET:
        if (args->n != 1 || !is(args, 0, T_LIST))
            return false;
        *made = *args->v[0];
        return true;
    case G_SIGNAL:
        if (args->n != 1 || !is(args, 0, T_INT))
            return false;
        *made = *args->v[0];
        return true;
    case G_TIMEDELTA:
        return call_timedelta(args, made);
    case G_TIMEZONE:
        if (args->n < 1 || args->n > 2 || !is(args, 0, T_DELTA))
            return false;
        *made = (struct node){.type = T_ZONE, .u.i = args->v[0]->u.i};
        return true;
    case G_UTC:
        *made = (struct node){.type = T_ZONE};
        return args->n == 0;
    }
    return false;
}

static int
op_reduce(struct machine *m, int op)
{
    struct node made = {.type = T_BYTES}, *callee, *tuple;
    struct args args = {.n = 0};
    int rc = need(m, 2);

    (void)op;
    if (rc < 0)
        return rc;
    tuple = node_at(m, pop(m));
    callee = node_at(m, pop(m));
    if (callee->type != T_GLOBAL || tuple->type != T_TUPLE)
        return broken(m, "a call of something else");
    for (uint32_t c = tuple->head; c;) {
        const struct cell *cell = (struct cell *)m->cell.v + (c - 1);

        if (args.n == 4)
            return broken(m, "too many arguments");
        args.v[args.n++] = node_at(m, cell->node);
        c = cell->next;
    }
    if (!call(callee->global, &args, &made))
        return broken(m, "a call with wrong arguments");
    return push_node(m, made);
}

typedef int op_fn(struct machine *m, int op);

// clang-format off
static op_fn *const handler[256] = {
    [0x80] = op_proto,        // PROTO
    [0x95] = op_frame,        // FRAME
    ['.']  = op_stop,         // STOP
    ['N']  = op_constant,     // NONE
    [0x88] = op_constant,     // NEWTRUE
    [0x89] = op_constant,     // NEWFALSE
    ['J']  = op_int,          // BININT
    ['K']  = op_int,          // BININT1
    ['M']  = op_int,          // BININT2
    [0x8a] = op_long,         // LONG1
    [0x8b] = op_long,         // LONG4
    ['G']  = op_float,        // BINFLOAT
    ['X']  = op_string,       // BINUNICODE
    [0x8c] = op_string,       // SHORT_BINUNICODE
    [0x8d] = op_string,       // BINUNICODE8
    ['C']  = op_string,       // SHORT_BINBYTES
    ['B']  = op_string,       // BINBYTES
    [0x8e] = op_string,       // BINBYTES8
    [0x96] = op_string,       // BYTEARRAY8
    ['}']  = op_empty,        // EMPTY_DICT
    [']']  = op_empty,        // EMPTY_LIST
    [')']  = op_empty,        // EMPTY_TUPLE
    [0x8f] = op_empty,        // EMPTY_SET
    ['(']  = op_mark,         // MARK
    [0x85] = op_tuple_n,      // TUPLE1
    [0x86] = op_tuple_n,      // TUPLE2
    [0x87] = op_tuple_n,      // TUPLE3
    ['t']  = op_tuple,        // TUPLE
    [0x91] = op_tuple,        // FROZENSET
    ['a']  = op_fill_one,     // APPEND
    ['s']  = op_fill_one,     // SETITEM
    ['e']  = op_fill_all,     // APPENDS
    ['u']  = op_fill_all,     // SETITEMS
    [0x90] = op_fill_all,     // ADDITEMS
    ['q']  = op_put,          // BINPUT
    ['r']  = op_put,          // LONG_BINPUT
    [0x94] = op_put,          // MEMOIZE
    ['h']  = op_get,          // BINGET
    ['j']  = op_get,          // LONG_BINGET
    ['c']  = op_global,       // GLOBAL
    [0x93] = op_stack_global, // STACK_GLOBAL
    ['R']  = op_reduce,       // REDUCE
};
// clang-format on

static int
run(struct machine *m)
{
    while (!m->done) {
        int op, rc;

        if (m->p == m->end)
            return broken(m, "no end");
        op = *m->p;
        if (!handler[op])
            return broken(m, "an opcode that plain data does not need");
        m->p++;
        rc = handler[op](m, op);
        if (rc < 0)
            return rc;
    }
    return m->p == m->end ? 0 : broken(m, "more data");
}

static int write_value(struct machine *m, uint32_t i, int depth);

static void
write_date(struct machine *m, const struct node *node)
{
    char text[ISODATE_SIZE];

    isodate_format(node->u.i, text);
    if (!node->aware) // a local time somewhere: no zone
        text[ISODATE_SIZE - 2] = '\0';
    buf_add_json_str(m->out, span_str(text));
}

static void
write_latin1(struct machine *m, struct span text)
{
    struct buf *b = &m->scratch;

    buf_clear(b);
    if (buf_reserve(b, text.n) < 0) {
        m->out->failed = true;
        return;
    }
    b->n = from_latin1(text, b->p, text.n);
    pack_put_bytes(m->out, buf_span(b));
}

/* False if the node is a container or has no JSON form. */
static bool
write_scalar(struct machine *m, const struct node *node)
{
    switch (node->type) {
    case T_NONE:
        buf_add_str(m->out, "null");
        return true;
    case T_FALSE:
        buf_add_str(m->out, "false");
        return true;
    case T_TRUE:
        buf_add_str(m->out, "true");
        return true;
    case T_INT:
        buf_add_fmt(m->out, "%lld", (long long)node->u.i);
        return true;
    case T_BIG:
        number_add_big(m->out, node->u.s);
        return true;
    case T_FLOAT:
        pack_put_double(m->out, node->u.d);
        return true;
    case T_STR:
        buf_add_json_str(m->out, node->u.s);
        return true;
    case T_BYTES:
        pack_put_bytes(m->out, node->u.s);
        return true;
    case T_LATIN1:
        write_latin1(m, node->u.s);
        return true;
    case T_DATE:
        write_date(m, node);
        return true;
    case T_LIST:
    case T_TUPLE:
    case T_DICT:
    case T_GLOBAL:
    case T_DELTA:
    case T_ZONE:
        break;
    }
    return false;
}

/* Scalars become strings, as Python's json does with keys. */
static int
write_key(struct machine *m, const struct node *node)
{
    bool quote = node->type <= T_FLOAT
                 && !(node->type == T_FLOAT
                      && node->u.d - node->u.d != 0); // quoted already

    if (quote)
        buf_add_char(m->out, '"');
    if (!write_scalar(m, node))
        return broken(m, "a key that is no scalar");
    if (quote)
        buf_add_char(m->out, '"');
    return 0;
}

static int
write_items(struct machine *m, const struct node *node, int depth)
{
    bool dict = node->type == T_DICT, key = dict;
    uint32_t c = node->head;

    buf_add_char(m->out, dict ? '{' : '[');
    while (c) {
        const struct cell *cell = (struct cell *)m->cell.v + (c - 1);
        int rc = key ? write_key(m, node_at(m, cell->node))
                     : write_value(m, cell->node, depth + 1);

        if (rc < 0)
            return rc;
        if (key)
            buf_add_str(m->out, ": ");
        else if (cell->next)
            buf_add_str(m->out, ", ");
        key = dict && !key;
        c = cell->next;
    }
    buf_add_char(m->out, dict ? '}' : ']');
    return 0;
}

static int
write_value(struct machine *m, uint32_t i, int depth)
{
    const struct node *node = node_at(m, i);

    // Shared nodes are written each time: small input, large output.
    if (m->out->n - m->out_start > PACK_MAX_BYTES)
        return rh_fail(m->err, RH_ELIMIT, "pickle: more than %u bytes as JSON",
                       PACK_MAX_BYTES);
    if (m->out->failed)
        return RH_ENOMEM; // pack.c says so
    if (write_scalar(m, node))
        return 0;
    if (node->type != T_LIST && node->type != T_TUPLE && node->type != T_DICT)
        return broken(m, "a class instead of data");
    if (depth > SCAN_DEPTH)
        return rh_fail(m->err, RH_ELIMIT, "pickle: nested deeper than %d",
                       SCAN_DEPTH);
    return write_items(m, node, depth);
}

int
pickle_decode(struct span in, struct buf *out, rh_error *err)
{
    struct machine m = {.start = in.p,
                        .p = in.p,
                        .end = in.p + in.n,
                        .err = err,
                        .out = out,
                        .out_start = out->n};
    int rc;

    if (in.n == 0)
        return rh_fail(err, RH_EPROTO, "pickle: nothing to unpickle");
    rc = run(&m);
    if (rc == 0 && node_at(&m, stack_at(&m, 0))->type != T_DICT)
        rc = rh_fail(err, RH_EPROTO, "pickle: not a dict");
    if (rc == 0)
        rc = write_value(&m, stack_at(&m, 0), 1);
    mem_free(m.node.v);
    mem_free(m.cell.v);
    mem_free(m.stack.v);
    mem_free(m.mark.v);
    mem_free(m.memo.v);
    buf_fini(&m.scratch);
    return rc;
}
