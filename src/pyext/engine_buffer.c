/* engine_buffer.c - frames as Python buffers, Python buffers as frames
 *
 * In: small frames become bytes, large ones a memoryview over the message.
 * Out: small buffers are copied, large ones are lent to ZeroMQ.  ZeroMQ gives
 * them back on its own thread, which must never wait for the GIL (it carries
 * the heartbeat), so they go to a list that the main thread empties.
 *
 * Lending has to be safe: an array the user still holds could change before
 * it is on the wire.  Only read-only memory, and memory that nobody else can
 * reach any more, is lent; the rest is copied.
 */
#include "pyext/engine.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"

#define COPY_IN_MAX 1024 // frames up to this size become bytes
#define LEND_MIN 8192    // what net sends without a copy
#define LEND_MUTABLE_MIN (256 * 1024)

/* In */

struct frame_object {
    PyObject_HEAD struct msg *m;
    uint32_t frame;
};

static PyTypeObject *frame_type;

static void
frame_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);

    msg_unref(&((struct frame_object *)op)->m);
    type->tp_free(op);
    Py_DECREF(type);
}

static int
frame_getbuffer(PyObject *op, Py_buffer *view, int flags)
{
    struct frame_object *self = (struct frame_object *)op;
    struct span s = self->m->frame[self->frame];
    union {
        const uint8_t *in;
        void *out;
    } data = {s.p}; // PyBuffer_FillInfo refuses writable views of it

    return PyBuffer_FillInfo(view, op, data.out, (Py_ssize_t)s.n, 1, flags);
}

static char frame_doc[] = "Bytes of a received message.";

static PyType_Slot frame_slots[] = {
    {Py_tp_dealloc, SLOT(frame_dealloc)},
    {Py_bf_getbuffer, SLOT(frame_getbuffer)},
    {Py_tp_doc, frame_doc},
    {0, NULL},
};

static PyType_Spec frame_spec = {
    .name = "roundhouse._core.EngineFrame",
    .basicsize = sizeof(struct frame_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = frame_slots,
};

int
engine_py_add_frame(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &frame_spec, NULL);

    if (!type)
        return -1;
    frame_type = (PyTypeObject *)type;
    engine_py_seal(frame_type);
    return PyModule_AddType(module, frame_type);
}

PyObject *
engine_py_frame(struct msg *m, uint32_t frame)
{
    struct span s = m->frame[frame];
    struct frame_object *self;
    PyObject *view;

    if (s.n <= COPY_IN_MAX)
        return PyBytes_FromStringAndSize((const char *)s.p, (Py_ssize_t)s.n);
    self = (struct frame_object *)frame_type->tp_alloc(frame_type, 0);
    if (!self)
        return NULL;
    self->m = msg_ref(m);
    self->frame = frame;
    view = PyMemoryView_FromObject((PyObject *)self);
    Py_DECREF(self);
    return view;
}

/* Out */

struct lent {
    struct msg base;
    struct span frame;
    Py_buffer view;
    struct lent *next;
};

static _Atomic(struct lent *) returned;

static void
lent_destroy(struct msg *base)
{
    struct lent *self = (struct lent *)(void *)base;
    struct engine *engine = engine_py_current();

    self->next = atomic_load(&returned);
    while (!atomic_compare_exchange_weak(&returned, &self->next, self))
        ;
    // Only the first has to say so: the main thread takes all there are.
    if (engine && !self->next)
        engine_wake(engine);
}

void
engine_py_release(void)
{
    struct lent *list;

    if (!atomic_load_explicit(&returned, memory_order_relaxed))
        return;
    list = atomic_exchange(&returned, NULL);
    while (list) {
        struct lent *next = list->next;

        PyBuffer_Release(&list->view);
        mem_free(list);
        list = next;
    }
}

/* An attribute that is a plain object; borrowed, because its owner keeps it. */
static PyObject *
peek(PyObject *op, const char *name)
{
    PyObject *value = PyObject_GetAttrString(op, name);

    if (!value)
        PyErr_Clear();
    else
        Py_DECREF(value);
    return value;
}

/* Whether the memory behind a memoryview is reachable through it alone:
 * memoryview -> array -> (its base)*, each with one reference.
 */
static bool
is_exclusive(PyObject *item)
{
    PyObject *op, *base, *flags;

    if (!PyMemoryView_Check(item) || Py_REFCNT(item) != 1)
        return false;
    op = PyMemoryView_GET_BUFFER(item)->obj;
    for (int depth = 0; op && depth < 8; depth++) {
        if (Py_REFCNT(op) != 1)
            return false;
        base = peek(op, "base");
        if (!base)
            return false;
        if (base == Py_None) {
            flags = PyObject_GetAttrString(op, "flags");
            base = flags ? PyObject_GetAttrString(flags, "owndata") : NULL;
            Py_XDECREF(flags);
            PyErr_Clear();
            Py_XDECREF(base); // True lives for ever
            return base == Py_True;
        }
        op = base;
    }
    return false;
}

static bool
may_lend(PyObject *item, const Py_buffer *view)
{
    if (view->len < LEND_MIN)
        return false;
    if (view->readonly)
        return true;
    return view->len >= LEND_MUTABLE_MIN && is_exclusive(item);
}

int
engine_py_export(PyObject *item, struct span *bytes, struct msg **out)
{
    struct lent *self;
    Py_buffer view;
    bool lend;

    *out = NULL;
    if (PyBytes_CheckExact(item) && PyBytes_GET_SIZE(item) < LEND_MIN) {
        *bytes =
            span_of(PyBytes_AS_STRING(item), (size_t)PyBytes_GET_SIZE(item));
        return 0;
    }
    if (PyObject_GetBuffer(item, &view, PyBUF_SIMPLE) < 0)
        return -1;
    *bytes = span_of(view.buf, (size_t)view.len);
    // The view itself is a reference, so ask before it counts.
    PyBuffer_Release(&view);
    lend = may_lend(item, &view);
    if (!lend)
        return 0;
    self = mem_zalloc(1, sizeof(*self));
    if (!self) {
        PyErr_NoMemory();
        return -1;
    }
    if (PyObject_GetBuffer(item, &self->view, PyBUF_SIMPLE) < 0) {
        mem_free(self);
        return -1;
    }
    self->frame = span_of(self->view.buf, (size_t)self->view.len);
    self->base = (struct msg){
        .n = 1,
        .i_delim = MSG_NO_DELIM,
        .frame = &self->frame,
        .destroy = lent_destroy,
    };
    atomic_init(&self->base.refs, 1);
    *bytes = self->frame;
    *out = &self->base;
    return 0;
}
