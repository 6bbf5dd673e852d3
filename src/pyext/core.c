/* core.c - the module roundhouse._core
 *
 * A thin layer: client.c and request.c bind libroundhouse, buffers.c moves
 * bytes between messages and Python objects, engine*.c runs an engine.
 */
#include "pyext/core.h"

#ifdef CORE_ENGINE
#include "pyext/engine.h"
#endif

static struct PyModuleDef core_module;

struct core_state *
core_state(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

/* ---- errors ----------------------------------------------------------- */

static const struct {
    const char *name;
    PyObject **type;
} builtin[] = {
    {"MemoryError", &PyExc_MemoryError},
    {"ValueError", &PyExc_ValueError},
    {"FileExistsError", &PyExc_FileExistsError},
    {"LookupError", &PyExc_LookupError},
    {"TimeoutError", &PyExc_TimeoutError},
    {"BlockingIOError", &PyExc_BlockingIOError},
    {"OSError", &PyExc_OSError},
    {"ConnectionError", &PyExc_ConnectionError},
    {"RuntimeError", &PyExc_RuntimeError},
    {"InterruptedError", &PyExc_InterruptedError},
};

static PyObject *
exception_of(struct core_state *st, int rc)
{
    const char *name = rh_code_exception(rc);

    if (strcmp(name, "ProtocolError") == 0)
        return st->protocol_error;
    if (strcmp(name, "AuthError") == 0)
        return st->auth_error;
    for (size_t i = 0; i < sizeof(builtin) / sizeof(builtin[0]); i++)
        if (strcmp(name, builtin[i].name) == 0)
            return *builtin[i].type;
    return PyExc_RuntimeError;
}

PyObject *
core_raise(struct core_state *st, int rc, const rh_error *err)
{
    const char *text = err && *err->text ? err->text : rh_code_text(rc);

    if (rc == RH_ENOMEM)
        return PyErr_NoMemory();
    PyErr_SetString(exception_of(st, rc), text);
    return NULL;
}

int
core_timeout(PyObject *seconds)
{
    double s;

    if (!seconds || seconds == Py_None)
        return -1;
    s = PyFloat_AsDouble(seconds);
    if (s == -1.0 && PyErr_Occurred())
        return -2;
    if (s != s) {
        PyErr_SetString(PyExc_ValueError, "timeout is not a number");
        return -2;
    }
    // Nothing waits for three weeks; what is smaller than 1 ms is not nothing.
    return s <= 0        ? 0
           : s > 2000000 ? 2000000000
           : s < 0.001   ? 1
                         : (int)(s * 1000);
}

/* ---- the module ------------------------------------------------------- */

static int
add_exception(PyObject *module, const char *name, const char *doc,
              PyObject **out)
{
    char full[64];

    PyOS_snprintf(full, sizeof(full), "roundhouse._core.%s", name);
    *out = PyErr_NewExceptionWithDoc(full, doc, NULL, NULL);
    if (!*out)
        return -1;
    Py_INCREF(*out);
    if (PyModule_AddObject(module, name, *out) < 0) {
        Py_DECREF(*out);
        return -1;
    }
    return 0;
}

static int
core_exec(PyObject *module)
{
    struct core_state *st = PyModule_GetState(module);

    if (PyModule_AddIntConstant(module, "MUX", RH_MUX) < 0
        || PyModule_AddIntConstant(module, "TASK", RH_TASK) < 0
        || PyModule_AddIntConstant(module, "CONTROL", RH_CONTROL) < 0
        || PyModule_AddIntConstant(module, "BROADCAST", RH_BROADCAST) < 0
        || PyModule_AddIntConstant(module, "QUERY", RH_QUERY) < 0)
        return -1;
    if (add_exception(module, "ProtocolError",
                      "A message or file is not what the protocol says.",
                      &st->protocol_error)
            < 0
        || add_exception(module, "AuthError",
                         "Messages are signed with another key.",
                         &st->auth_error)
               < 0)
        return -1;
#ifdef CORE_ENGINE
    if (engine_py_add(module) < 0)
        return -1;
#endif
    return core_add_frame(module, st) < 0 || core_add_request(module, st) < 0
                   || core_add_client(module, st) < 0
               ? -1
               : 0;
}

static int
core_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct core_state *st = PyModule_GetState(module);

    Py_VISIT(st->client);
    Py_VISIT(st->request);
    Py_VISIT(st->frame);
    Py_VISIT(st->protocol_error);
    Py_VISIT(st->auth_error);
    return 0;
}

static int
core_clear(PyObject *module)
{
    struct core_state *st = PyModule_GetState(module);

    Py_CLEAR(st->client);
    Py_CLEAR(st->request);
    Py_CLEAR(st->frame);
    Py_CLEAR(st->protocol_error);
    Py_CLEAR(st->auth_error);
    return 0;
}

static void
core_free(void *module)
{
    core_clear(module);
}

static PyMethodDef core_methods[] = {
#ifdef CORE_ENGINE
    {"run_engine", (PyCFunction)(void (*)(void))engine_py_run, METH_FASTCALL,
     engine_py_run_doc},
#endif
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot core_slots[] = {
    {Py_mod_exec, CORE_SLOT(core_exec)},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "roundhouse._core",
    .m_doc = "The C core: clients of a cluster, and the engine loop.",
    .m_size = sizeof(struct core_state),
    .m_methods = core_methods,
    .m_slots = core_slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
