/* engine.c - the engine's interpreter: this Python
 *
 * run_engine() gives the main thread to the C loop, which holds the GIL only
 * inside the functions of the table at the end.  What Python code has to do is
 * behind a 'hooks' object:
 *
 *   kernel_info        members of a kernel_info_reply, JSON without braces
 *   start(engine)      registered; may run user code
 *   apply(buffers)     call a function: list of result buffers, or raise
 *   explain(exc)       (ename, evalue, [traceback lines], unmet) of a failure
 *   request(type, header, metadata, content, buffers)
 *                      None: unknown; else (status, members, abort_executes)
 *                      with status "ok", "error", "aborted", "own" (it is
 *                      among the members) or "silent" (no reply)
 *   clear()            reset the namespace
 *
 * Exceptions of any kind that leave a hook become error replies, except in
 * start, where they end the engine.
 */
#include "pyext/engine.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "engine/signals.h"

struct python {
    PyObject *hooks;
    PyObject *apply, *explain, *request; // bound methods, looked up once
    PyObject *kept;                      // result the last outcome borrows from
    PyThreadState *thread; // of the main thread while the loop has it
    struct msg *current;   // request being served, borrowed
    char *kernel_info;
};

static _Atomic(struct engine *) current;
static atomic_int inside; // threads between enter and leave
static struct python *running;
static PyTypeObject *engine_type;

struct engine *
engine_py_current(void)
{
    return atomic_load(&current);
}

struct engine *
engine_py_enter(void)
{
    struct engine *engine = atomic_load(&current);

    if (engine)
        atomic_fetch_add(&inside, 1);
    return engine;
}

void
engine_py_leave(void)
{
    atomic_fetch_sub(&inside, 1);
}

/* A forked child is no engine: its sockets belong to the parent. */
static void
in_child(void)
{
    atomic_store(&current, NULL);
    atomic_store(&inside, 0);
}

static void
register_fork(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

/* Engine: what hooks may do */

struct engine_object {
    PyObject_HEAD
};

static struct engine *
require(void)
{
    struct engine *engine = engine_py_current();

    if (!engine)
        PyErr_SetString(PyExc_RuntimeError, "no engine runs in this process");
    return engine;
}

static int
take_owners(PyObject *list, struct span *span, struct msg **owner, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (engine_py_export(PySequence_Fast_GET_ITEM(list, (Py_ssize_t)i),
                             &span[i], &owner[i])
            < 0)
            return -1;
    return 0;
}

static int
publish(struct engine *engine, struct engine_publication *pub, PyObject *list)
{
    size_t n = list ? (size_t)PySequence_Fast_GET_SIZE(list) : 0;
    struct span *span = mem_zalloc(n + 1, sizeof(*span));
    struct msg **owner = mem_zalloc(n + 1, sizeof(struct msg *));
    rh_error err = {.code = 0};
    int rc = -1;

    if (!span || !owner) {
        PyErr_NoMemory();
    } else if (take_owners(list, span, owner, n) == 0) {
        pub->buffer = span;
        pub->owner = owner;
        pub->n_buffers = n;
        engine_py_enter();
        Py_BEGIN_ALLOW_THREADS rc = engine_publish(engine, pub, &err);
        engine_py_leave();
        Py_END_ALLOW_THREADS if (rc < 0) PyErr_Format(
            PyExc_OSError, "publishing %s: %s", pub->msg_type, err.text);
    }
    for (size_t i = 0; owner && i < n; i++)
        msg_unref(&owner[i]);
    mem_free(span);
    mem_free(owner);
    return rc;
}

static PyObject *
Engine_publish(PyObject *op, PyObject *args)
{
    struct engine_publication pub = {.kind = NULL};
    struct engine *engine = require();
    PyObject *buffers = NULL, *list = NULL;
    const char *content, *metadata = NULL;
    Py_ssize_t n_content, n_metadata = 0;
    int rc;

    (void)op;
    if (!engine
        || !PyArg_ParseTuple(args, "sss#|z#Oz:publish", &pub.kind,
                             &pub.msg_type, &content, &n_content, &metadata,
                             &n_metadata, &buffers, &pub.topic))
        return NULL;
    pub.content = span_of(content, (size_t)n_content);
    pub.metadata = span_of(metadata, (size_t)n_metadata);
    if (buffers && buffers != Py_None) {
        list = PySequence_Fast(buffers, "buffers must be a sequence");
        if (!list)
            return NULL;
    }
    rc = publish(engine, &pub, list);
    Py_XDECREF(list);
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
Engine_stream(PyObject *op, PyObject *which)
{
    long n = PyLong_AsLong(which);

    (void)op;
    if (n == -1 && PyErr_Occurred())
        return NULL;
    return engine_py_stream(n == 2 ? ENGINE_STDERR : ENGINE_STDOUT);
}

static PyObject *
Engine_get_uuid(PyObject *op, void *unused)
{
    struct engine *engine = require();

    (void)op;
    (void)unused;
    return engine ? PyUnicode_FromString(engine_uuid(engine)) : NULL;
}

static PyObject *
Engine_get_id(PyObject *op, void *unused)
{
    struct engine *engine = require();

    (void)op;
    (void)unused;
    return engine ? PyLong_FromLongLong(engine_id(engine)) : NULL;
}

static PyObject *
Engine_get_header(PyObject *op, void *unused)
{
    struct msg *m = running ? running->current : NULL;
    struct span s;

    (void)op;
    (void)unused;
    if (!m)
        Py_RETURN_NONE;
    s = msg_part(m, MSG_HEADER);
    return PyBytes_FromStringAndSize((const char *)s.p, (Py_ssize_t)s.n);
}

// clang-format off
static PyMethodDef engine_methods[] = {
    {"publish", Engine_publish, METH_VARARGS,
     "publish($self, kind, msg_type, content, metadata=None, buffers=None,\n"
     "        topic=None, /)\n--\n\n"
     "Publish one message on iopub, after the output so far.\n\n"
     "content and metadata are JSON; without metadata it names the engine.\n"
     "The topic is engine.<id>.<kind> unless given."},
    {"stream", Engine_stream, METH_O,
     "stream($self, fd, /)\n--\n\nThe EngineStream for descriptor 1 or 2."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef engine_getset[] = {
    {"uuid", Engine_get_uuid, NULL, "Name of the engine on the wire.", NULL},
    {"id", Engine_get_id, NULL, "Number the hub gave it.", NULL},
    {"header", Engine_get_header, NULL,
     "Header (JSON) of the request being served, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
// clang-format on

static char engine_doc[] = "The running engine, as its hooks see it.";

static PyType_Slot engine_slots[] = {
    {Py_tp_methods, engine_methods},
    {Py_tp_getset, engine_getset},
    {Py_tp_doc, engine_doc},
    {0, NULL},
};

static PyType_Spec engine_spec = {
    .name = "roundhouse._core.Engine",
    .basicsize = sizeof(struct engine_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = engine_slots,
};

int
engine_py_add(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &engine_spec, NULL);

    engine_type = (PyTypeObject *)type;
    if (!type || PyModule_AddType(module, engine_type) < 0)
        return -1;
    engine_py_seal(engine_type);
    if (engine_py_add_frame(module) < 0)
        return -1;
    return engine_py_add_stream(module);
}

/* The interpreter's table */

static void
take_gil(struct python *self)
{
    PyEval_RestoreThread(self->thread);
    self->thread = NULL;
}

static void
give_gil(struct python *self)
{
    self->thread = PyEval_SaveThread();
}

static void
python_interrupt(void *ctx)
{
    (void)ctx;
#if PY_VERSION_HEX >= 0x030A0000
    PyErr_SetInterruptEx(SIGINT);
#else
    PyErr_SetInterrupt();
#endif
}

/* Start of a job, GIL held: what the last one left behind. */
static void
begin(struct python *self, struct msg *m)
{
    self->current = m;
    Py_CLEAR(self->kept);
    engine_py_release();
    // A Ctrl-C that came too late for the last job is not for this one.
    if (PyErr_CheckSignals() < 0)
        PyErr_Clear();
    if (signals_wanted())
        python_interrupt(self);
}

static void
add_str(struct buf *out, PyObject *text)
{
    PyObject *bytes =
        PyUnicode_Check(text)
            ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace")
            : NULL;

    if (bytes)
        buf_add_json_str(out, span_of(PyBytes_AS_STRING(bytes),
                                      (size_t)PyBytes_GET_SIZE(bytes)));
    else
        buf_add_str(out, "\"?\"");
    Py_XDECREF(bytes);
    PyErr_Clear();
}

/* Members of an error from (ename, evalue, [lines], unmet). */
static void
add_explanation(struct outcome *out, PyObject *e)
{
    PyObject *lines = PyTuple_GET_ITEM(e, 2);
    Py_ssize_t n = PyList_Check(lines) ? PyList_GET_SIZE(lines) : 0;

    out->status = OUTCOME_ERROR;
    out->unmet = PyTuple_GET_ITEM(e, 3) == Py_True;
    buf_add_str(&out->content, "\"traceback\": [");
    for (Py_ssize_t i = 0; i < n; i++) {
        if (i)
            buf_add_str(&out->content, ", ");
        add_str(&out->content, PyList_GET_ITEM(lines, i));
    }
    buf_add_str(&out->content, "], \"ename\": ");
    add_str(&out->content, PyTuple_GET_ITEM(e, 0));
    buf_add_str(&out->content, ", \"evalue\": ");
    add_str(&out->content, PyTuple_GET_ITEM(e, 1));
}

/* The current exception as an object of its own; a new reference. */
static PyObject *
catch_exception(void)
{
    PyObject *type, *value, *tb;

    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    if (value && tb)
        PyException_SetTraceback(value, tb);
    Py_XDECREF(type);
    Py_XDECREF(tb);
    return value;
}

/* Turn the current exception into an error outcome.  Cannot fail: whatever
 * goes wrong on the way leaves the type's name and no traceback.
 */
static void
explain(struct python *self, struct outcome *out)
{
    PyObject *exc = catch_exception();
    PyObject *e = NULL;
    const char *name = exc ? Py_TYPE(exc)->tp_name : "SystemError";

    outcome_fini(out);
    // Twice: the first may be hit by the Ctrl-C meant for the user's code.
    for (int i = 0; exc && !e && i < 2; i++) {
        PyErr_Clear();
        e = PyObject_CallOneArg(self->explain, exc);
    }
    PyErr_Clear();
    if (e && PyTuple_Check(e) && PyTuple_GET_SIZE(e) == 4)
        add_explanation(out, e);
    else
        outcome_fail(out, name, "(the error could not be described)");
    Py_XDECREF(e);
    Py_XDECREF(exc);
}

static PyObject *
frames_as_list(struct msg *m)
{
    uint32_t n = msg_n_buffers(m), first = m->n - n;
    PyObject *list = PyList_New((Py_ssize_t)n);

    for (uint32_t i = 0; list && i < n; i++) {
        PyObject *item = engine_py_frame(m, first + i);

        if (!item)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

static int
add_results(struct python *self, PyObject *result, struct outcome *out)
{
    Py_ssize_t n;

    if (!PyList_Check(result)) {
        PyErr_Format(PyExc_TypeError, "hooks.apply returned %.100s, not a list",
                     Py_TYPE(result)->tp_name);
        Py_DECREF(result);
        return -1;
    }
    self->kept = result; // until the reply is made
    n = PyList_GET_SIZE(result);
    for (Py_ssize_t i = 0; i < n; i++) {
        struct span bytes;
        struct msg *owner;

        if (engine_py_export(PyList_GET_ITEM(result, i), &bytes, &owner) < 0)
            return -1;
        if (outcome_add(out, bytes, owner ? &owner : NULL) < 0) {
            msg_unref(&owner);
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

static int
python_apply(void *ctx, const struct job *job, struct outcome *out,
             rh_error *err)
{
    struct python *self = ctx;
    PyObject *buffers, *result = NULL;

    (void)err;
    take_gil(self);
    begin(self, job->msg);
    buffers = frames_as_list(job->msg);
    if (buffers)
        result = PyObject_CallOneArg(self->apply, buffers);
    Py_XDECREF(buffers);
    if (!result || add_results(self, result, out) < 0)
        explain(self, out);
    self->current = NULL;
    give_gil(self);
    return 0;
}

static PyObject *
part_as_str(const struct msg *m, enum msg_part part)
{
    struct span s = msg_part(m, part);

    return PyUnicode_DecodeUTF8((const char *)s.p, (Py_ssize_t)s.n, "replace");
}

static PyObject *
call_request(struct python *self, const struct job *job)
{
    struct span type = job->header.msg_type;
    PyObject *args[5] = {
        PyUnicode_DecodeUTF8((const char *)type.p, (Py_ssize_t)type.n,
                             "replace"),
        part_as_str(job->msg, MSG_HEADER),
        part_as_str(job->msg, MSG_METADATA),
        part_as_str(job->msg, MSG_CONTENT),
        frames_as_list(job->msg),
    };
    PyObject *result = NULL;

    if (args[0] && args[1] && args[2] && args[3] && args[4])
        result = PyObject_Vectorcall(self->request, args, 5, NULL);
    for (int i = 0; i < 5; i++)
        Py_XDECREF(args[i]);
    return result;
}

/* (status, members, abort_executes) into an outcome. */
static int
take_answer(PyObject *answer, struct outcome *out)
{
    const char *status, *members;
    Py_ssize_t n;
    int abort_executes;

    if (!PyArg_ParseTuple(answer, "ss#p", &status, &members, &n,
                          &abort_executes))
        return -1;
    out->silent = strcmp(status, "silent") == 0;
    out->own_status = strcmp(status, "own") == 0;
    out->status = strcmp(status, "error") == 0     ? OUTCOME_ERROR
                  : strcmp(status, "aborted") == 0 ? OUTCOME_ABORTED
                                                   : OUTCOME_OK;
    out->abort_executes = abort_executes;
    buf_add(&out->content, members, (size_t)n);
    return 0;
}

static int
python_request(void *ctx, const struct job *job, struct outcome *out,
               rh_error *err)
{
    struct python *self = ctx;
    PyObject *answer;
    int rc = 0;

    (void)err;
    take_gil(self);
    begin(self, job->msg);
    answer = call_request(self, job);
    if (answer == Py_None)
        rc = RH_ENOENT;
    else if (!answer || !PyTuple_Check(answer)
             || take_answer(answer, out) < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "hooks.request: not a tuple");
        explain(self, out);
    }
    Py_XDECREF(answer);
    self->current = NULL;
    give_gil(self);
    return rc;
}

static int
python_clear(void *ctx, rh_error *err)
{
    struct python *self = ctx;
    PyObject *result;
    int rc = 0;

    take_gil(self);
    begin(self, NULL);
    result = PyObject_CallMethod(self->hooks, "clear", NULL);
    if (!result) {
        rc = rh_fail(err, RH_ESTATE, "clearing the namespace failed");
        PyErr_Print();
    }
    Py_XDECREF(result);
    give_gil(self);
    return rc;
}

/* Python's own signal handlers run here when the engine is idle. */
static int
python_service(void *ctx)
{
    struct python *self = ctx;
    int rc = 0;

    take_gil(self);
    Py_CLEAR(self->kept);
    engine_py_release();
    if (PyErr_CheckSignals() < 0) {
        rc = RH_EINTR;
        if (!PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
            PyErr_Print();
        PyErr_Clear();
    }
    give_gil(self);
    return engine_py_current() ? 0 : rc; // a registered engine carries on
}

static int
python_start(void *ctx, struct engine *engine, rh_error *err)
{
    struct python *self = ctx;
    PyObject *object, *result = NULL;
    int rc = 0;

    take_gil(self);
    atomic_store(&current, engine);
    object = engine_type->tp_alloc(engine_type, 0);
    if (object)
        result = PyObject_CallMethod(self->hooks, "start", "O", object);
    if (!result) {
        PyErr_Print();
        rc = rh_fail(err, RH_ESTATE, "the engine could not start");
    }
    Py_XDECREF(object);
    Py_XDECREF(result);
    give_gil(self);
    return rc;
}

static void
python_stop(void *ctx)
{
    struct python *self = ctx;

    take_gil(self);
    atomic_store(&current, NULL);
    Py_CLEAR(self->kept);
    give_gil(self);
    // Whoever is inside leaves within milliseconds: see put().
    while (atomic_load(&inside))
        engine_pause();
}

/* run_engine */

static int
open_hooks(struct python *self, PyObject *hooks)
{
    PyObject *info = PyObject_GetAttrString(hooks, "kernel_info");
    const char *text = info ? PyUnicode_AsUTF8(info) : NULL;

    if (text)
        self->kernel_info = mem_strdup(text);
    Py_XDECREF(info);
    self->hooks = Py_NewRef(hooks);
    self->apply = PyObject_GetAttrString(hooks, "apply");
    self->explain = PyObject_GetAttrString(hooks, "explain");
    self->request = PyObject_GetAttrString(hooks, "request");
    if (text && !self->kernel_info)
        PyErr_NoMemory();
    return PyErr_Occurred() ? -1 : 0;
}

static void
close_hooks(struct python *self)
{
    Py_CLEAR(self->hooks);
    Py_CLEAR(self->apply);
    Py_CLEAR(self->explain);
    Py_CLEAR(self->request);
    Py_CLEAR(self->kept);
    mem_free(self->kernel_info);
    engine_py_release();
}

static int
run(struct python *self, const struct engine_config *config)
{
    const struct interp interp = {
        .ctx = self,
        .start = python_start,
        .stop = python_stop,
        .apply = python_apply,
        .request = python_request,
        .clear = python_clear,
        .service = python_service,
        .interrupt = python_interrupt,
        .kernel_info = self->kernel_info,
    };
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int rc;

    pthread_once(&once, register_fork);
    running = self;
    give_gil(self);
    rc = engine_run(config, &interp);
    take_gil(self);
    running = NULL;
    return rc;
}

const char engine_py_run_doc[] =
    "run_engine(config, hooks, /)\n"
    "--\n\n"
    "Register with a controller and serve until told to stop.\n\n"
    "config is JSON; its keys are those of struct engine_config.  Returns an\n"
    "exit code.  Only one engine can run in a process, in its main thread.\n\n"
    "Raises ValueError if config cannot be used, RuntimeError if an engine\n"
    "runs already.";

PyObject *
engine_py_run(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct python self = {.hooks = NULL};
    struct engine_config *config = NULL;
    rh_error err = {.code = 0};
    const char *json;
    Py_ssize_t n;
    int rc = -1;

    (void)module;
    if (nargs != 2)
        return PyErr_Format(PyExc_TypeError,
                            "run_engine() takes 2 arguments, %zd were given",
                            nargs);
    if (running)
        return PyErr_Format(PyExc_RuntimeError,
                            "an engine runs in this process already");
    json = PyUnicode_AsUTF8AndSize(args[0], &n);
    if (!json)
        return NULL;
    config = mem_zalloc(1, sizeof(*config));
    if (!config)
        return PyErr_NoMemory();
    if (engine_config_parse(config, span_of(json, (size_t)n), &err) < 0)
        PyErr_SetString(PyExc_ValueError, err.text);
    else if (open_hooks(&self, args[1]) == 0)
        rc = run(&self, config);
    close_hooks(&self);
    mem_free(config);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(rc);
}
