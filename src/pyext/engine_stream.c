/* engine_stream.c - sys.stdout and sys.stderr of an engine
 *
 * write() is a memcpy into the engine's buffer; who publishes it when is
 * iopub.c's business.  Before an engine runs, after it has ended and in forked
 * children, text goes to the process's own descriptor.
 */
#include "pyext/engine.h"

#include <errno.h>
#include <structmember.h>
#include <unistd.h>

struct stream_object {
    PyObject_HEAD int which;
    bool is_binary;
    PyObject *binary; // the object that is our .buffer, made when asked for
    PyObject *dict;   // code replaces our methods: IPython tees write()
};

static PyTypeObject *stream_type, *binary_type;

static PyObject *
make(PyTypeObject *type, int which, bool is_binary)
{
    struct stream_object *self =
        (struct stream_object *)type->tp_alloc(type, 0);

    if (!self)
        return NULL;
    self->which = which;
    self->is_binary = is_binary;
    return (PyObject *)self;
}

PyObject *
engine_py_stream(int which)
{
    return make(stream_type, which, false);
}

static int
stream_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct stream_object *self = (struct stream_object *)op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->binary);
    Py_VISIT(self->dict);
    return 0;
}

static int
stream_clear(PyObject *op)
{
    struct stream_object *self = (struct stream_object *)op;

    Py_CLEAR(self->binary);
    Py_CLEAR(self->dict);
    return 0;
}

static void
stream_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    stream_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

/* Straight to the descriptor.  Lost text is nobody's fault by then. */
static void
put_console(int which, const char *p, size_t n)
{
    int fd = which == ENGINE_STDERR ? STDERR_FILENO : STDOUT_FILENO;

    Py_BEGIN_ALLOW_THREADS while (n > 0)
    {
        ssize_t rc = write(fd, p, n);

        if (rc < 0 && errno != EINTR)
            break;
        p += rc > 0 ? rc : 0;
        n -= rc > 0 ? (size_t)rc : 0;
    }
    Py_END_ALLOW_THREADS
}

/* 0, or -1 with an exception raised by a signal while waiting. */
static int
put(int which, const char *p, size_t n)
{
    struct engine *engine = engine_py_current();
    size_t done;
    int rc;

    if (!engine) {
        put_console(which, p, n);
        return 0;
    }
    rc = engine_write(engine, (enum engine_stream)which, span_of(p, n), true,
                      &done);
    while (rc == RH_EAGAIN) {
        p += done;
        n -= done;
        if (engine_py_enter() != engine) {
            put_console(which, p, n);
            return 0;
        }
        Py_BEGIN_ALLOW_THREADS rc = engine_write(
            engine, (enum engine_stream)which, span_of(p, n), false, &done);
        if (rc == RH_EAGAIN)
            engine_pause();
        engine_py_leave();
        Py_END_ALLOW_THREADS if (rc == RH_EAGAIN
                                 && PyErr_CheckSignals() < 0) return -1;
    }
    return 0;
}

static int
put_str(int which, PyObject *text)
{
    PyObject *bytes;
    int rc;

    if (PyUnicode_READY(text) < 0)
        return -1;
    if (PyUnicode_IS_ASCII(text))
        return put(which, PyUnicode_DATA(text),
                   (size_t)PyUnicode_GET_LENGTH(text));
    bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    if (!bytes)
        return -1;
    rc = put(which, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    return rc;
}

static PyObject *
stream_write(PyObject *op, PyObject *arg)
{
    struct stream_object *self = (struct stream_object *)op;
    Py_buffer view;
    int rc;

    if (!self->is_binary) {
        if (!PyUnicode_Check(arg))
            return PyErr_Format(PyExc_TypeError,
                                "write() argument must be str, not %.100s",
                                Py_TYPE(arg)->tp_name);
        if (put_str(self->which, arg) < 0)
            return NULL;
        return PyLong_FromSsize_t(PyUnicode_GET_LENGTH(arg));
    }
    if (PyObject_GetBuffer(arg, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    rc = put(self->which, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return rc < 0 ? NULL : PyLong_FromSsize_t(view.len);
}

static PyObject *
stream_writelines(PyObject *op, PyObject *lines)
{
    PyObject *it = PyObject_GetIter(lines), *line, *written;

    if (!it)
        return NULL;
    while ((line = PyIter_Next(it))) {
        written = stream_write(op, line);
        Py_DECREF(line);
        if (!written)
            break;
        Py_DECREF(written);
    }
    Py_DECREF(it);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
stream_flush(PyObject *op, PyObject *unused)
{
    struct engine *engine = engine_py_enter();

    (void)op;
    (void)unused;
    if (engine) {
        Py_BEGIN_ALLOW_THREADS engine_flush(engine);
        engine_py_leave();
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_false(PyObject *op, PyObject *unused)
{
    (void)op;
    (void)unused;
    Py_RETURN_FALSE;
}

static PyObject *
stream_true(PyObject *op, PyObject *unused)
{
    (void)op;
    (void)unused;
    Py_RETURN_TRUE;
}

static PyObject *
stream_none(PyObject *op, PyObject *unused)
{
    (void)op;
    (void)unused;
    Py_RETURN_NONE;
}

/* For subprocess and friends. */
static PyObject *
stream_fileno(PyObject *op, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(((struct stream_object *)op)->which == ENGINE_STDERR
                               ? STDERR_FILENO
                               : STDOUT_FILENO);
}

static PyObject *
unsupported(const char *what)
{
    PyObject *io = PyImport_ImportModule("io"), *type;

    if (!io)
        return NULL;
    type = PyObject_GetAttrString(io, "UnsupportedOperation");
    Py_DECREF(io);
    if (type) {
        PyErr_SetString(type, what);
        Py_DECREF(type);
    }
    return NULL;
}

static PyObject *
stream_read(PyObject *op, PyObject *args)
{
    (void)op;
    (void)args;
    return unsupported("an engine's output cannot be read");
}

static PyObject *
stream_seek(PyObject *op, PyObject *args)
{
    (void)op;
    (void)args;
    return unsupported("an engine's output has no position");
}

static PyObject *
stream_exit(PyObject *op, PyObject *args)
{
    (void)args;
    return stream_flush(op, NULL);
}

static PyObject *
stream_enter(PyObject *op, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(op);
}

static PyObject *
stream_reconfigure(PyObject *op, PyObject *args, PyObject *kwargs)
{
    (void)op;
    (void)args;
    (void)kwargs; // the encoding is the wire's, buffering is the engine's
    Py_RETURN_NONE;
}

static PyObject *
get_name(PyObject *op, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(
        ((struct stream_object *)op)->which == ENGINE_STDERR ? "<stderr>"
                                                             : "<stdout>");
}

static PyObject *
get_text(PyObject *op, void *text)
{
    (void)op;
    return PyUnicode_FromString(text);
}

static PyObject *
get_bool(PyObject *op, void *yes)
{
    (void)op;
    return PyBool_FromLong(yes != NULL);
}

static PyObject *
get_none(PyObject *op, void *unused)
{
    (void)op;
    (void)unused;
    Py_RETURN_NONE;
}

static PyObject *
get_buffer(PyObject *op, void *unused)
{
    struct stream_object *self = (struct stream_object *)op;

    (void)unused;
    if (!self->binary)
        self->binary = make(binary_type, self->which, true);
    return Py_XNewRef(self->binary);
}

static PyObject *
stream_repr(PyObject *op)
{
    struct stream_object *self = (struct stream_object *)op;

    return PyUnicode_FromFormat(
        "<engine %s%s>", self->which == ENGINE_STDERR ? "stderr" : "stdout",
        self->is_binary ? ", binary" : "");
}

// clang-format off
#define METHODS                                                              \
    {"write", stream_write, METH_O,                                          \
     "write($self, text, /)\n--\n\nSend text to the client."},               \
    {"writelines", stream_writelines, METH_O,                                \
     "writelines($self, lines, /)\n--\n\nWrite each of the lines."},         \
    {"flush", stream_flush, METH_NOARGS,                                     \
     "flush($self, /)\n--\n\nSend what waits now."},                         \
    {"isatty", stream_false, METH_NOARGS, "isatty($self, /)\n--\n\nFalse."}, \
    {"readable", stream_false, METH_NOARGS,                                  \
     "readable($self, /)\n--\n\nFalse."},                                    \
    {"seekable", stream_false, METH_NOARGS,                                  \
     "seekable($self, /)\n--\n\nFalse."},                                    \
    {"writable", stream_true, METH_NOARGS,                                   \
     "writable($self, /)\n--\n\nTrue."},                                     \
    {"fileno", stream_fileno, METH_NOARGS,                                   \
     "fileno($self, /)\n--\n\nThe process's descriptor of this name."},      \
    {"close", stream_none, METH_NOARGS,                                      \
     "close($self, /)\n--\n\nDoes nothing: the stream is the engine's."},    \
    {"read", stream_read, METH_VARARGS, NULL},                               \
    {"readline", stream_read, METH_VARARGS, NULL},                           \
    {"readlines", stream_read, METH_VARARGS, NULL},                          \
    {"seek", stream_seek, METH_VARARGS, NULL},                               \
    {"tell", stream_seek, METH_VARARGS, NULL},                               \
    {"truncate", stream_seek, METH_VARARGS, NULL},                           \
    {"detach", stream_seek, METH_VARARGS, NULL},                             \
    {"__enter__", stream_enter, METH_NOARGS, NULL},                          \
    {"__exit__", stream_exit, METH_VARARGS, NULL}

static PyMethodDef binary_methods[] = {
    METHODS,
    {NULL, NULL, 0, NULL},
};

static PyMethodDef stream_methods[] = {
    METHODS,
    {"reconfigure", (PyCFunction)(void (*)(void))stream_reconfigure,
     METH_VARARGS | METH_KEYWORDS,
     "reconfigure($self, **kwargs)\n--\n\nAccepted, and without effect."},
    {NULL, NULL, 0, NULL},
};

static char mode_w[] = "w", mode_wb[] = "wb", utf8[] = "utf-8",
            backslash[] = "backslashreplace";

static PyGetSetDef binary_getset[] = {
    {"name", get_name, NULL, NULL, NULL},
    {"mode", get_text, NULL, NULL, mode_wb},
    {"closed", get_bool, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef stream_getset[] = {
    {"name", get_name, NULL, NULL, NULL},
    {"mode", get_text, NULL, NULL, mode_w},
    {"encoding", get_text, NULL, NULL, utf8},
    {"errors", get_text, NULL, NULL, backslash},
    {"closed", get_bool, NULL, NULL, NULL},
    {"line_buffering", get_bool, NULL, NULL, NULL},
    {"write_through", get_bool, NULL, NULL, NULL},
    {"newlines", get_none, NULL, NULL, NULL},
    {"buffer", get_buffer, NULL, "The same stream for bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
// clang-format on

static PyMemberDef members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(struct stream_object, dict),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static char stream_doc[] =
    "Text output of an engine; sent to the client that asked.";
static char binary_doc[] =
    "Bytes written to an engine's output; UTF-8 is expected.";

static PyType_Slot stream_slots[] = {
    {Py_tp_dealloc, SLOT(stream_dealloc)},
    {Py_tp_traverse, SLOT(stream_traverse)},
    {Py_tp_clear, SLOT(stream_clear)},
    {Py_tp_members, members},
    {Py_tp_repr, SLOT(stream_repr)},
    {Py_tp_methods, stream_methods},
    {Py_tp_getset, stream_getset},
    {Py_tp_doc, stream_doc},
    {0, NULL},
};

static PyType_Slot binary_slots[] = {
    {Py_tp_dealloc, SLOT(stream_dealloc)},
    {Py_tp_traverse, SLOT(stream_traverse)},
    {Py_tp_clear, SLOT(stream_clear)},
    {Py_tp_members, members},
    {Py_tp_repr, SLOT(stream_repr)},
    {Py_tp_methods, binary_methods},
    {Py_tp_getset, binary_getset},
    {Py_tp_doc, binary_doc},
    {0, NULL},
};

static PyType_Spec stream_spec = {
    .name = "roundhouse._core.EngineStream",
    .basicsize = sizeof(struct stream_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stream_slots,
};

static PyType_Spec binary_spec = {
    .name = "roundhouse._core.EngineBinaryStream",
    .basicsize = sizeof(struct stream_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = binary_slots,
};

int
engine_py_add_stream(PyObject *module)
{
    PyObject *text = PyType_FromModuleAndSpec(module, &stream_spec, NULL);
    PyObject *binary = PyType_FromModuleAndSpec(module, &binary_spec, NULL);

    stream_type = (PyTypeObject *)text;
    binary_type = (PyTypeObject *)binary;
    if (!text || !binary || PyModule_AddType(module, stream_type) < 0)
        return -1;
    engine_py_seal(stream_type);
    engine_py_seal(binary_type);
    return PyModule_AddType(module, binary_type);
}
