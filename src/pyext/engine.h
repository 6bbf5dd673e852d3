/* engine.h - what the module _core gets from the engine
 *
 * engine.c runs the loop and calls the hooks, engine_stream.c is sys.stdout,
 * engine_buffer.c carries bytes between frames and Python objects.
 */
#ifndef PYEXT_ENGINE_H
#define PYEXT_ENGINE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "engine/engine.h"

#if PY_VERSION_HEX < 0x030A0000
#define Py_TPFLAGS_DISALLOW_INSTANTIATION 0UL
static inline PyObject *
Py_NewRef(PyObject *op)
{
    Py_INCREF(op);
    return op;
}
static inline PyObject *
Py_XNewRef(PyObject *op)
{
    Py_XINCREF(op);
    return op;
}
#endif

/* Add the types Engine, EngineFrame and EngineStream.  0, or -1 with an
 * exception.
 */
int engine_py_add(PyObject *module);

/* run_engine(config, hooks): METH_FASTCALL. */
PyObject *engine_py_run(PyObject *module, PyObject *const *args,
                        Py_ssize_t nargs);
extern const char engine_py_run_doc[];

/* The rest is between the three files. */

/* Objects of this type come from us only. */
static inline void
engine_py_seal(PyTypeObject *type)
{
#if PY_VERSION_HEX < 0x030A0000
    type->tp_new = NULL; // what DISALLOW_INSTANTIATION does later
#else
    (void)type;
#endif
}

/* A function as the slot of a type, which ISO C has no conversion for. */
#define SLOT(function) __extension__(void *)(function)

/* The one engine of this process; NULL when none runs and in forked children.
 * It stays valid as long as the GIL is held...
 */
struct engine *engine_py_current(void);
/* ...and, if not NULL, from enter (GIL held) to leave. */
struct engine *engine_py_enter(void);
void engine_py_leave(void);

int engine_py_add_frame(PyObject *module);
int engine_py_add_stream(PyObject *module);

/* A new EngineStream for ENGINE_STDOUT or ENGINE_STDERR. */
PyObject *engine_py_stream(int which);

/* A bytes object, or a read-only memoryview that keeps the message alive. */
PyObject *engine_py_frame(struct msg *m, uint32_t frame);

/* A message of one frame that borrows a Python buffer.  *out is NULL, and the
 * bytes may be copied from *bytes while 'item' lives, if that is cheaper.
 * -1 with an exception.
 */
int engine_py_export(PyObject *item, struct span *bytes, struct msg **out);
/* Let go of the buffers ZeroMQ is done with.  GIL held. */
void engine_py_release(void);

#endif /* PYEXT_ENGINE_H */
