/* buffers.c - bytes of messages as Python objects, and the other way round
 *
 * In: a memoryview over a Frame, which holds the message.
 * Out: a large buffer stays where it is, exported, until ZeroMQ has sent it.
 * ZeroMQ says so on a thread of its own that must not wait for the GIL, so
 * what it is done with goes to a list, and whoever comes by with the GIL
 * empties that.  The thread in Client.run is woken for it.
 */
#include "pyext/core.h"

#include "base/mem.h"

#define LEND_MIN (64 * 1024)

/* ---- in --------------------------------------------------------------- */

struct frame_object {
    PyObject_HEAD struct msg *m;
    uint32_t i;
};

static void
Frame_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);

    msg_unref(&((struct frame_object *)op)->m);
    type->tp_free(op);
    Py_DECREF(type);
}

static int
Frame_getbuffer(PyObject *op, Py_buffer *view, int flags)
{
    struct frame_object *self = (struct frame_object *)op;
    struct span s = self->m->frame[self->i];
    union {
        const uint8_t *in;
        void *out;
    } data = {s.n ? s.p : (const uint8_t *)""}; // exported read-only

    return PyBuffer_FillInfo(view, op, data.out, (Py_ssize_t)s.n, 1, flags);
}

static PyObject *
refuse_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    PyErr_Format(PyExc_TypeError, "cannot create '%s' instances",
                 type->tp_name);
    return NULL;
}

static char Frame_doc[] = "Bytes of a received message.";

static PyType_Slot Frame_slots[] = {
    {Py_tp_new, CORE_SLOT(refuse_new)},
    {Py_tp_dealloc, CORE_SLOT(Frame_dealloc)},
    {Py_bf_getbuffer, CORE_SLOT(Frame_getbuffer)},
    {Py_tp_doc, Frame_doc},
    {0, NULL},
};

static PyType_Spec Frame_spec = {
    .name = "roundhouse._core.Frame",
    .basicsize = sizeof(struct frame_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Frame_slots,
};

int
core_add_frame(PyObject *module, struct core_state *st)
{
    st->frame =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &Frame_spec, NULL);
    return st->frame ? 0 : -1;
}

static PyObject *
frame_view(struct core_state *st, struct msg *m, uint32_t i)
{
    struct frame_object *self =
        (struct frame_object *)st->frame->tp_alloc(st->frame, 0);
    PyObject *view;

    if (!self)
        return NULL;
    self->m = msg_ref(m);
    self->i = i;
    view = PyMemoryView_FromObject((PyObject *)self);
    Py_DECREF(self);
    return view;
}

PyObject *
frames_tuple(struct core_state *st, struct msg *m, uint32_t first)
{
    uint32_t n = m && m->n > first ? m->n - first : 0;
    PyObject *tuple = PyTuple_New((Py_ssize_t)n);

    for (uint32_t i = 0; tuple && i < n; i++) {
        PyObject *view = frame_view(st, m, first + i);

        if (view)
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, view);
        else
            Py_CLEAR(tuple);
    }
    return tuple;
}

PyObject *
span_bytes(struct span s)
{
    return PyBytes_FromStringAndSize((const char *)s.p, (Py_ssize_t)s.n);
}

/* ---- out -------------------------------------------------------------- */

struct lent {
    Py_buffer view;
    struct rh_client *client; // a reference
    struct lent *next;
};

static _Atomic(struct lent *) returned;

/* From any thread, without the GIL. */
static void
give_back(void *arg)
{
    struct lent *self = arg;
    struct rh_client *client = self->client;

    self->client = NULL;
    self->next = atomic_load(&returned);
    while (!atomic_compare_exchange_weak(&returned, &self->next, self))
        ;
    client_wake(client);
    client_unref(&client);
}

void
lend_sweep(void)
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

static int
lend_one(struct lend *self, struct rh_client *client, PyObject *item)
{
    struct rh_buffer *buffer = &self->buffer[self->n];
    Py_buffer *view = &self->view[self->n_views];
    struct lent *lent;

    if (PyObject_GetBuffer(item, view, PyBUF_SIMPLE) < 0)
        return -1;
    *buffer = (struct rh_buffer){view->buf, (size_t)view->len, NULL, NULL};
    if (view->len < LEND_MIN) {
        self->n_views++;
        self->bytes += buffer->n;
        self->n++;
        return 0;
    }
    lent = mem_alloc(sizeof(*lent));
    if (!lent) {
        PyBuffer_Release(view);
        PyErr_NoMemory();
        return -1;
    }
    lent->view = *view;
    lent->client = client_ref(client);
    if (client->shm && buffer->n >= SHM_MIN)
        self->bytes += buffer->n; // it will be copied
    buffer->release = give_back;
    buffer->arg = lent;
    self->n++;
    return 0;
}

int
lend_init(struct lend *self, struct rh_client *client, PyObject *buffers)
{
    Py_ssize_t n;

    *self = (struct lend){0};
    if (!buffers)
        return 0;
    self->items = PySequence_Tuple(buffers);
    if (!self->items)
        return -1;
    n = PyTuple_GET_SIZE(self->items);
    if (n == 0)
        return 0;
    self->buffer = mem_zalloc((size_t)n, sizeof(*self->buffer));
    self->view = mem_zalloc((size_t)n, sizeof(*self->view));
    if (!self->buffer || !self->view) {
        PyErr_NoMemory();
        lend_fini(self);
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (lend_one(self, client, PyTuple_GET_ITEM(self->items, i)) < 0) {
            for (size_t k = 0; k < self->n; k++)
                if (self->buffer[k].release)
                    self->buffer[k].release(self->buffer[k].arg);
            lend_fini(self);
            return -1;
        }
    return 0;
}

void
lend_fini(struct lend *self)
{
    for (size_t i = 0; i < self->n_views; i++)
        PyBuffer_Release(&self->view[i]);
    mem_free(self->view);
    mem_free(self->buffer);
    Py_CLEAR(self->items);
}

/* A new reference: a view of shared memory, or the object itself. */
static PyObject *
share_one(struct core_state *st, struct rh_client *client, PyObject *item)
{
    struct msg *m = NULL;
    PyObject *shared = NULL;
    Py_buffer view;

    if (PyObject_GetBuffer(item, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    if (client->shm && (size_t)view.len >= SHM_MIN) {
        Py_BEGIN_ALLOW_THREADS m =
            shm_share(client->shm, span_of(view.buf, (size_t)view.len));
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    if (!m) {
        Py_INCREF(item);
        return item;
    }
    shared = frame_view(st, m, 0);
    msg_unref(&m);
    return shared;
}

PyObject *
lend_share(struct core_state *st, struct rh_client *client, PyObject *buffers)
{
    PyObject *list = PySequence_List(buffers);

    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(list); i++) {
        PyObject *shared = share_one(st, client, PyList_GET_ITEM(list, i));

        if (!shared || PyList_SetItem(list, i, shared) < 0)
            Py_CLEAR(list);
    }
    return list;
}
