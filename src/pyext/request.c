/* request.c - roundhouse._core.Request
 *
 * One Python object per request at most, found through the request's 'user'
 * pointer (guarded by the GIL).  While events are asked for, the events that
 * are still to come own one reference to it per client_watch that began them.
 */
#include "pyext/core.h"

#include <structmember.h>

#include "base/mem.h"
#include "wire/scan.h"

static struct rh_request *
req_of(PyObject *op)
{
    return ((struct request_object *)op)->req;
}

PyObject *
request_wrap(struct core_state *st, struct rh_request *req)
{
    struct request_object *self = req->user;

    if (self) {
        Py_INCREF(self);
        rh_request_release(&req); // it has a handle of its own
        return (PyObject *)self;
    }
    self = (struct request_object *)st->request->tp_alloc(st->request, 0);
    if (!self) {
        rh_request_release(&req);
        return NULL;
    }
    self->req = req;
    req->user = self;
    return (PyObject *)self;
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

static int
Request_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct request_object *self = (struct request_object *)op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->callback);
    Py_VISIT(self->output_callback);
    return 0;
}

static int
Request_clear(PyObject *op)
{
    struct request_object *self = (struct request_object *)op;

    Py_CLEAR(self->callback);
    Py_CLEAR(self->output_callback);
    return 0;
}

static void
Request_dealloc(PyObject *op)
{
    struct request_object *self = (struct request_object *)op;
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    if (self->weakrefs)
        PyObject_ClearWeakRefs(op);
    Request_clear(op);
    if (self->req) {
        self->req->user = NULL;
        rh_request_release(&self->req);
    }
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
Request_repr(PyObject *op)
{
    static const char *const word[] = {"pending", "ok", "error", "aborted"};
    struct rh_request *req = req_of(op);

    return PyUnicode_FromFormat("<Request %s: %s>", req->msg_id,
                                word[rh_request_status(req)]);
}

/* ---- plain attributes ------------------------------------------------- */

static PyObject *
get_msg_id(PyObject *op, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(req_of(op)->msg_id);
}

static PyObject *
get_done(PyObject *op, void *unused)
{
    (void)unused;
    return PyBool_FromLong(request_state(req_of(op)) & RH_DONE);
}

static PyObject *
get_output_done(PyObject *op, void *unused)
{
    (void)unused;
    return PyBool_FromLong(request_state(req_of(op)) & RH_OUTPUT_DONE);
}

static PyObject *
get_status(PyObject *op, void *unused)
{
    (void)unused;
    switch (rh_request_status(req_of(op))) {
    case RH_STATUS_OK:
        return PyUnicode_FromString("ok");
    case RH_STATUS_ERROR:
        return PyUnicode_FromString("error");
    case RH_STATUS_ABORTED:
        return PyUnicode_FromString("aborted");
    case RH_PENDING:
        break;
    }
    Py_RETURN_NONE;
}

static PyObject *
get_begun(PyObject *op, void *unused)
{
    (void)unused;
    return PyBool_FromLong(atomic_load(&req_of(op)->begun));
}

static PyObject *
get_engine_uuid(PyObject *op, void *unused)
{
    struct span uuid = request_engine(req_of(op));

    (void)unused;
    if (!uuid.n)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8((const char *)uuid.p, (Py_ssize_t)uuid.n,
                                "replace");
}

static PyObject *
get_header(PyObject *op, void *unused)
{
    (void)unused;
    return span_bytes(req_of(op)->header);
}

/* 'which' is the enum msg_part as a pointer. */
static PyObject *
get_reply_part(PyObject *op, void *which)
{
    struct msg *m;
    PyObject *bytes;
    int rc = client_reply(req_of(op), &m);

    if (rc == RH_ENOMEM)
        return PyErr_NoMemory();
    if (rc < 0)
        Py_RETURN_NONE;
    bytes = span_bytes(msg_part(m, (enum msg_part)(uintptr_t)which));
    msg_unref(&m);
    return bytes;
}

static PyObject *
get_buffers(PyObject *op, void *unused)
{
    struct rh_request *req = req_of(op);
    struct msg *m = request_state(req) & RH_DONE ? req->reply : NULL;

    (void)unused;
    return frames_tuple(core_state(Py_TYPE(op)), m,
                        m ? m->i_delim + MSG_BUFFER0 : 0);
}

static PyObject *
get_submitted(PyObject *op, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble((double)rh_request_submitted(req_of(op)) / 1e6);
}

static PyObject *
get_received(PyObject *op, void *unused)
{
    int64_t us = rh_request_received(req_of(op));

    (void)unused;
    if (!us)
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double)us / 1e6);
}

/* ---- output ----------------------------------------------------------- */

static PyObject *
get_text(PyObject *op, void *which)
{
    size_t n;
    PyObject *str;
    char *text = rh_request_text(req_of(op), (int)(uintptr_t)which, &n);

    if (!text)
        return PyErr_NoMemory();
    str = PyUnicode_DecodeUTF8(text, (Py_ssize_t)n, "replace");
    rh_free(text);
    return str;
}

static PyObject *
output_tuple(struct core_state *st, struct msg *m)
{
    struct header_view header;
    struct span type = SPAN_NONE;
    PyObject *buffers = frames_tuple(st, m, m->i_delim + MSG_BUFFER0);

    if (!buffers)
        return NULL;
    if (scan_header(msg_part(m, MSG_HEADER), &header, NULL) == 0)
        type = header.msg_type;
    return Py_BuildValue("(s#y#y#y#N)", type.n ? (const char *)type.p : "",
                         (Py_ssize_t)type.n,
                         (const char *)msg_part(m, MSG_HEADER).p,
                         (Py_ssize_t)msg_part(m, MSG_HEADER).n,
                         (const char *)msg_part(m, MSG_METADATA).p,
                         (Py_ssize_t)msg_part(m, MSG_METADATA).n,
                         (const char *)msg_part(m, MSG_CONTENT).p,
                         (Py_ssize_t)msg_part(m, MSG_CONTENT).n, buffers);
}

static PyObject *
get_outputs(PyObject *op, void *unused)
{
    struct core_state *st = core_state(Py_TYPE(op));
    struct msg **v;
    size_t n;
    PyObject *list;

    (void)unused;
    if (client_outputs(req_of(op), &v, &n) < 0)
        return PyErr_NoMemory();
    list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; i < n; i++) {
        PyObject *item = list ? output_tuple(st, v[i]) : NULL;

        if (item)
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
        else
            Py_CLEAR(list);
        msg_unref(&v[i]);
    }
    mem_free(v);
    return list;
}

/* ---- buffers on their way --------------------------------------------- */

static PyObject *
get_sent(PyObject *op, void *unused)
{
    (void)unused;
    lend_sweep();
    return PyBool_FromLong(rh_request_sent(req_of(op)));
}

static PyObject *
Request_wait_sent(PyObject *op, PyObject *args)
{
    PyObject *timeout = NULL;
    int left, slice, rc;

    if (!PyArg_ParseTuple(args, "|O:wait_sent", &timeout)
        || (left = core_timeout(timeout)) == -2)
        return NULL;
    do {
        slice = left < 0 || left > CORE_SLICE_MS ? CORE_SLICE_MS : left;
        Py_BEGIN_ALLOW_THREADS rc = rh_request_wait_sent(req_of(op), slice);
        Py_END_ALLOW_THREADS lend_sweep();
        if (PyErr_CheckSignals() < 0)
            return NULL;
        if (left > 0)
            left -= slice;
    } while (rc == RH_ETIMEDOUT && left != 0);
    return PyBool_FromLong(rc == 0);
}

/* ---- callbacks -------------------------------------------------------- */

static void
call(PyObject *callback, PyObject *op)
{
    PyObject *result = PyObject_CallFunctionObjArgs(callback, op, NULL);

    if (!result)
        PyErr_WriteUnraisable(callback);
    Py_XDECREF(result);
}

void
request_on_event(const struct event *event, bool silent)
{
    struct request_object *self = event->req->user;
    PyObject *callback;

    if (!self)
        return;
    Py_INCREF(self);
    if (!silent && (event->bits & WATCH_OUTPUT) && self->output_callback) {
        callback = self->output_callback;
        Py_INCREF(callback);
        call(callback, (PyObject *)self);
        Py_DECREF(callback);
    }
    if (!silent && (event->bits & RH_DONE) && self->callback) {
        callback = self->callback;
        self->callback = NULL;
        call(callback, (PyObject *)self);
        Py_DECREF(callback);
    }
    if (event->last)
        Py_DECREF(self); // the events' own
    Py_DECREF(self);
}

static PyObject *
watch(PyObject *op, unsigned bits)
{
    struct rh_request *req = req_of(op);
    rh_error err = {0};
    int rc;

    Py_INCREF(op); // for the events, before one can come
    rc = client_watch(req, bits, &err);
    if (rc <= 0)
        Py_DECREF(op);
    if (rc >= 0)
        Py_RETURN_NONE;
    if (rc == RH_ECLOSED && (bits & RH_DONE)) {
        // Nobody collects events any more; all requests are settled.
        struct request_object *self = (struct request_object *)op;
        PyObject *callback = self->callback;

        self->callback = NULL;
        if (callback)
            call(callback, op);
        Py_XDECREF(callback);
        Py_RETURN_NONE;
    }
    if (rc == RH_ECLOSED)
        Py_RETURN_NONE;
    return core_raise(core_state(Py_TYPE(op)), rc, &err);
}

static void
set_object(PyObject **slot, PyObject *value)
{
    PyObject *old = *slot;

    Py_XINCREF(value);
    *slot = value;
    Py_XDECREF(old);
}

static PyObject *
Request_set_callback(PyObject *op, PyObject *callback)
{
    if (!PyCallable_Check(callback)) {
        PyErr_Format(PyExc_TypeError, "%R is not callable", callback);
        return NULL;
    }
    set_object(&((struct request_object *)op)->callback, callback);
    return watch(op, RH_DONE);
}

static PyObject *
Request_set_output_callback(PyObject *op, PyObject *callback)
{
    struct request_object *self = (struct request_object *)op;

    if (callback != Py_None && !PyCallable_Check(callback)) {
        PyErr_Format(PyExc_TypeError, "%R is not callable", callback);
        return NULL;
    }
    if (callback != Py_None) {
        set_object(&self->output_callback, callback);
        return watch(op, WATCH_OUTPUT);
    }
    set_object(&self->output_callback, NULL);
    if (client_unwatch(req_of(op), WATCH_OUTPUT))
        Py_DECREF(op); // the events' own; the caller has one as well
    Py_RETURN_NONE;
}

/* ---- the type --------------------------------------------------------- */

#define PART(which) (void *)(uintptr_t)(which)

static PyGetSetDef Request_getset[] = {
    {"msg_id", get_msg_id, NULL, NULL, NULL},
    {"done", get_done, NULL, "Whether the reply is here.", NULL},
    {"output_done", get_output_done, NULL, "Whether all output is here.", NULL},
    {"status", get_status, NULL, "'ok', 'error' or 'aborted'.", NULL},
    {"begun", get_begun, NULL, "The engine said that it works on it.", NULL},
    {"engine_uuid", get_engine_uuid, NULL, NULL, NULL},
    {"header", get_header, NULL, "The request's header, JSON.", NULL},
    {"reply_header", get_reply_part, NULL, NULL, PART(MSG_HEADER)},
    {"metadata", get_reply_part, NULL, NULL, PART(MSG_METADATA)},
    {"content", get_reply_part, NULL, NULL, PART(MSG_CONTENT)},
    {"buffers", get_buffers, NULL, "Read-only views of the reply's buffers.",
     NULL},
    {"submitted", get_submitted, NULL, "Seconds since the epoch.", NULL},
    {"received", get_received, NULL, "Seconds since the epoch.", NULL},
    {"stdout", get_text, NULL, NULL, PART(1)},
    {"stderr", get_text, NULL, NULL, PART(2)},
    {"outputs", get_outputs, NULL, "Published messages in order.", NULL},
    {"sent", get_sent, NULL, "Whether ZeroMQ is done with the buffers.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef Request_methods[] = {
    {"wait_sent", Request_wait_sent, METH_VARARGS,
     PyDoc_STR(
         "wait_sent($self, timeout=None, /)\n--\n\n"
         "Wait until ZeroMQ is done with the buffers; False on timeout.")},
    {"set_callback", Request_set_callback, METH_O,
     PyDoc_STR("set_callback($self, f, /)\n--\n\n"
               "Call f(request) once, from Client.run, when it is done.")},
    {"set_output_callback", Request_set_output_callback, METH_O,
     PyDoc_STR("set_output_callback($self, f, /)\n--\n\n"
               "Call f(request) from Client.run whenever output arrived.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Request_members[] = {
    {"__weaklistoffset__", T_PYSSIZET,
     offsetof(struct request_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static char Request_doc[] = "One request and what has come back for it.";

static PyType_Slot Request_slots[] = {
    {Py_tp_new, CORE_SLOT(refuse_new)},
    {Py_tp_dealloc, CORE_SLOT(Request_dealloc)},
    {Py_tp_traverse, CORE_SLOT(Request_traverse)},
    {Py_tp_clear, CORE_SLOT(Request_clear)},
    {Py_tp_repr, CORE_SLOT(Request_repr)},
    {Py_tp_getset, Request_getset},
    {Py_tp_methods, Request_methods},
    {Py_tp_members, Request_members},
    {Py_tp_doc, Request_doc},
    {0, NULL},
};

static PyType_Spec Request_spec = {
    .name = "roundhouse._core.Request",
    .basicsize = sizeof(struct request_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = Request_slots,
};

int
core_add_request(PyObject *module, struct core_state *st)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &Request_spec, NULL);

    st->request = (PyTypeObject *)type;
    return type ? PyModule_AddType(module, st->request) : -1;
}
