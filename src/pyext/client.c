/* client.c - roundhouse._core.Client
 *
 * Submitting keeps the GIL unless a lock is taken or much is to be copied:
 * giving it up costs more than the whole call, and in a program with busy
 * threads up to five milliseconds.  Everything that may wait gives it up.
 */
#include "pyext/core.h"

#include <structmember.h>

#include "base/mem.h"
#include "wire/scan.h"

#define EVENT_BATCH 64
#define COPY_WITH_GIL (64 * 1024)
#define N_STACK 16

struct client_object {
    PyObject_HEAD struct rh_client *client; // NULL: not connected
    bool running;                           // a thread is in run()
    PyObject *weakrefs;
};

/* The client, or NULL with an exception. */
static struct rh_client *
client_of(PyObject *op, PyTypeObject *cls)
{
    struct client_object *self = (struct client_object *)op;
    rh_error err = {0};

    lend_sweep();
    if (!self->client) {
        PyErr_SetString(PyExc_RuntimeError, "the client is not connected");
        return NULL;
    }
    if (client_check(self->client, &err) < 0) {
        core_raise(core_state(cls), err.code, &err);
        return NULL;
    }
    return self->client;
}

/* ---- connecting and closing ------------------------------------------- */

/* A dict of str to str as the list that options want; borrows from the dict.
 */
static const char **
url_list(PyObject *dict)
{
    Py_ssize_t pos = 0;
    PyObject *key, *value;
    size_t n = 0;
    const char **list =
        mem_zalloc((size_t)PyDict_Size(dict) * 2 + 1, sizeof(*list));

    if (!list) {
        PyErr_NoMemory();
        return NULL;
    }
    while (PyDict_Next(dict, &pos, &key, &value)) {
        list[n] = PyUnicode_AsUTF8(key);
        list[n + 1] = list[n] ? PyUnicode_AsUTF8(value) : NULL;
        if (!list[n + 1]) {
            mem_free(list);
            return NULL;
        }
        n += 2;
    }
    return list;
}

/* Wait for the hub in slices, so that Ctrl-C works.  0, -1 with exception. */
static int
meet(struct core_state *st, struct rh_client *client, struct rh_request *hello,
     int left)
{
    rh_error err = {0};
    int rc, slice;

    do {
        slice = left < 0 || left > CORE_SLICE_MS ? CORE_SLICE_MS : left;
        Py_BEGIN_ALLOW_THREADS rc = client_meet(client, hello, slice, &err);
        Py_END_ALLOW_THREADS if (PyErr_CheckSignals() < 0) return -1;
        if (left > 0)
            left -= slice;
    } while ((rc == RH_ETIMEDOUT && left != 0) || rc == RH_EINTR);
    if (rc < 0)
        core_raise(st, rc, &err);
    return rc < 0 ? -1 : 0;
}

static int
connect_client(struct core_state *st, struct client_object *self,
               const char *connection, const rh_client_options *options)
{
    struct rh_request *hello = NULL;
    struct rh_client *client = NULL;
    rh_error err = {0};
    int rc;

    Py_BEGIN_ALLOW_THREADS rc =
        client_start(&client, connection, options, &hello, &err);
    Py_END_ALLOW_THREADS if (rc < 0)
    {
        core_raise(st, rc, &err);
        return -1;
    }
    rc = meet(st, client, hello, options->timeout_ms);
    rh_request_release(&hello);
    if (rc < 0) {
        Py_BEGIN_ALLOW_THREADS rh_client_close(client, 0);
        rh_client_free(&client);
        Py_END_ALLOW_THREADS return -1;
    }
    self->client = client;
    return 0;
}

static int
Client_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {
        "connection",    "session",         "username",        "timeout",
        "url_overrides", "curve_publickey", "curve_secretkey", NULL};
    struct client_object *self = (struct client_object *)op;
    rh_client_options options = {0};
    const char *connection, **urls = NULL;
    PyObject *timeout = NULL, *overrides = Py_None;
    union {
        const char *const *in;
        char **out;
    } keywords = {names}; // CPython's prototype lacks the const
    int rc;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "s|$zzOOzz:Client", keywords.out, &connection,
            &options.session, &options.username, &timeout, &overrides,
            &options.curve_public, &options.curve_secret))
        return -1;
    if (self->client) {
        PyErr_SetString(PyExc_RuntimeError, "the client is connected already");
        return -1;
    }
    options.timeout_ms = timeout ? core_timeout(timeout) : 10000;
    if (options.timeout_ms == -2)
        return -1;
    if (overrides != Py_None) {
        if (!PyDict_Check(overrides)) {
            PyErr_SetString(PyExc_TypeError, "url_overrides must be a dict");
            return -1;
        }
        urls = url_list(overrides);
        if (!urls)
            return -1;
        options.url = urls;
    }
    rc = connect_client(core_state(Py_TYPE(op)), self, connection, &options);
    mem_free(urls);
    return rc;
}

/* What nobody collected: requests are let go without a call. */
static void
discard_events(struct rh_client *client)
{
    struct event event[EVENT_BATCH];
    int n;

    while ((n = client_events(client, event, EVENT_BATCH, 0, NULL)) > 0)
        for (int i = 0; i < n; i++) {
            if (event[i].kind == EVENT_REQUEST)
                request_on_event(&event[i], true);
            event_fini(&event[i]);
        }
}

static void
Client_dealloc(PyObject *op)
{
    struct client_object *self = (struct client_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    struct rh_client *client = self->client;

    if (self->weakrefs)
        PyObject_ClearWeakRefs(op);
    if (client && client_check(client, NULL) == 0) {
        if (!rh_client_is_closed(client)) {
            Py_BEGIN_ALLOW_THREADS rh_client_close(client, 1000);
            Py_END_ALLOW_THREADS
        }
        discard_events(client);
    }
    rh_client_free(&self->client);
    lend_sweep();
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
Client_close(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"linger", NULL};
    union {
        const char *const *in;
        char **out;
    } keywords = {names};
    struct client_object *self = (struct client_object *)op;
    PyObject *linger = NULL;
    int ms;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:close", keywords.out,
                                     &linger)
        || (ms = linger ? core_timeout(linger) : 1000) == -2)
        return NULL;
    if (self->client) {
        Py_BEGIN_ALLOW_THREADS rh_client_close(self->client, ms);
        Py_END_ALLOW_THREADS
    }
    lend_sweep();
    Py_RETURN_NONE;
}

/* ---- attributes ------------------------------------------------------- */

static PyObject *
get_session(PyObject *op, void *unused)
{
    struct rh_client *client = ((struct client_object *)op)->client;

    (void)unused;
    return PyUnicode_FromString(client ? rh_client_session(client) : "");
}

static PyObject *
get_closed(PyObject *op, void *unused)
{
    struct rh_client *client = ((struct client_object *)op)->client;

    (void)unused;
    return PyBool_FromLong(!client || rh_client_is_closed(client));
}

static PyObject *
get_engines_version(PyObject *op, void *unused)
{
    struct rh_client *client = ((struct client_object *)op)->client;

    (void)unused;
    return PyLong_FromUnsignedLongLong(
        client ? rh_client_engines_version(client) : 0);
}

static PyObject *
engines_dict(const rh_engine *engine, size_t n)
{
    PyObject *dict = PyDict_New();

    for (size_t i = 0; dict && i < n; i++) {
        PyObject *id = PyLong_FromLong(engine[i].id);
        PyObject *uuid = PyUnicode_DecodeUTF8(
            engine[i].uuid, (Py_ssize_t)strlen(engine[i].uuid), "replace");

        if (!id || !uuid || PyDict_SetItem(dict, id, uuid) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(id);
        Py_XDECREF(uuid);
    }
    return dict;
}

static PyObject *
Client_engines(PyObject *op, PyTypeObject *cls, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames)
{
    struct rh_client *client = client_of(op, cls);
    size_t n, cap = 0;
    rh_engine *v = NULL;
    PyObject *dict;

    (void)args;
    (void)nargs;
    (void)kwnames;
    if (!client)
        return NULL;
    while ((n = rh_client_engines(client, v, cap)) > cap) {
        mem_free(v);
        cap = n + 8;
        v = mem_zalloc(cap, sizeof(*v));
        if (!v)
            return PyErr_NoMemory();
    }
    dict = engines_dict(v, n);
    mem_free(v);
    return dict;
}

static PyObject *
Client_next_msg_id(PyObject *op, PyTypeObject *cls, PyObject *const *args,
                   Py_ssize_t nargs, PyObject *kwnames)
{
    struct rh_client *client = client_of(op, cls);
    char id[MSG_ID_SIZE];

    (void)args;
    (void)nargs;
    (void)kwnames;
    if (!client)
        return NULL;
    client_next_id(client, id);
    return PyUnicode_FromString(id);
}

/* ---- submitting ------------------------------------------------------- */

/* A list of (msg_id, uuid); '*fast' keeps what it borrows from. */
static int
read_expect(PyObject *expect, rh_expect **out, size_t *n, PyObject **fast)
{
    PyObject *items = PySequence_Tuple(expect);

    *fast = items;
    if (!items)
        return -1;
    *n = (size_t)PyTuple_GET_SIZE(items);
    *out = mem_zalloc(*n + 1, sizeof(**out));
    if (!*out) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < *n; i++) {
        PyObject *pair = PyTuple_GET_ITEM(items, (Py_ssize_t)i);

        if (!PyTuple_Check(pair)) {
            PyErr_SetString(PyExc_TypeError,
                            "expect must hold pairs (msg_id, uuid)");
            return -1;
        }
        if (!PyArg_ParseTuple(pair, "ss;expect must hold pairs of str",
                              &(*out)[i].msg_id, &(*out)[i].uuid))
            return -1;
    }
    return 0;
}

struct submit_args {
    rh_submission what;
    PyObject *buffers, *expect;
};

/* Keyword arguments of submit. */
static int
read_keyword(struct submit_args *self, PyObject *name, PyObject *value)
{
    rh_submission *what = &self->what;
    int yes;

    if (PyUnicode_CompareWithASCIIString(name, "msg_id") == 0) {
        if (value == Py_None)
            return 0;
        what->msg_id = PyUnicode_AsUTF8(value);
        return what->msg_id ? 0 : -1;
    }
    if (PyUnicode_CompareWithASCIIString(name, "expect") == 0) {
        self->expect = value == Py_None ? NULL : value;
        return 0;
    }
    yes = PyObject_IsTrue(value);
    if (yes < 0)
        return -1;
    if (PyUnicode_CompareWithASCIIString(name, "track") == 0)
        what->flags |= yes ? RH_TRACK : 0;
    else if (PyUnicode_CompareWithASCIIString(name, "coalescing") == 0)
        what->flags |= yes ? RH_COALESCING : 0;
    else {
        PyErr_Format(PyExc_TypeError,
                     "submit() got an unexpected keyword argument %R", name);
        return -1;
    }
    return 0;
}

static int
read_bytes(PyObject *op, const char *name, rh_bytes *out)
{
    if (!PyBytes_Check(op)) {
        PyErr_Format(PyExc_TypeError, "%s must be bytes, not %.100s", name,
                     Py_TYPE(op)->tp_name);
        return -1;
    }
    *out = (rh_bytes){PyBytes_AS_STRING(op), (size_t)PyBytes_GET_SIZE(op)};
    return 0;
}

static int
read_submission(struct submit_args *self, PyObject *const *args,
                Py_ssize_t nargs, PyObject *kwnames)
{
    rh_submission *what = &self->what;
    Py_ssize_t n_keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    long channel;

    if (nargs < 5 || nargs > 6) {
        PyErr_Format(PyExc_TypeError,
                     "submit() takes 5 or 6 positional arguments, not %zd",
                     nargs);
        return -1;
    }
    channel = PyLong_AsLong(args[0]);
    if (channel == -1 && PyErr_Occurred())
        return -1;
    what->channel =
        (enum rh_channel)(channel < 0 || channel > 999 ? 999 : (int)channel);
    if (args[1] != Py_None && !(what->target = PyUnicode_AsUTF8(args[1])))
        return -1;
    what->msg_type = PyUnicode_AsUTF8(args[2]);
    if (!what->msg_type || read_bytes(args[3], "content", &what->content) < 0
        || read_bytes(args[4], "metadata", &what->metadata) < 0)
        return -1;
    self->buffers = nargs > 5 ? args[5] : NULL;
    for (Py_ssize_t i = 0; i < n_keywords; i++)
        if (read_keyword(self, PyTuple_GET_ITEM(kwnames, i), args[nargs + i])
            < 0)
            return -1;
    return 0;
}

static PyObject *
send_lent(struct core_state *st, struct rh_client *client, rh_submission *what,
          PyObject *buffers)
{
    struct rh_request *req = NULL;
    rh_error err = {0};
    struct lend lend;
    int rc;

    if (lend_init(&lend, client, buffers) < 0)
        return NULL;
    what->buffer = lend.buffer;
    what->n_buffers = lend.n;
    if (lend.bytes < COPY_WITH_GIL && !client_is_busy(client)) {
        rc = rh_client_submit(client, what, &req, &err);
    } else {
        Py_BEGIN_ALLOW_THREADS rc = rh_client_submit(client, what, &req, &err);
        Py_END_ALLOW_THREADS
    }
    lend_fini(&lend);
    return rc < 0 ? core_raise(st, rc, &err) : request_wrap(st, req);
}

static PyObject *
Client_submit(PyObject *op, PyTypeObject *cls, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames)
{
    struct rh_client *client = client_of(op, cls);
    struct submit_args a = {0};
    rh_expect *expect = NULL;
    PyObject *items = NULL, *result = NULL;

    if (!client || read_submission(&a, args, nargs, kwnames) < 0)
        return NULL;
    if (!a.expect
        || read_expect(a.expect, &expect, &a.what.n_expect, &items) == 0) {
        a.what.expect = expect;
        result = send_lent(core_state(cls), client, &a.what, a.buffers);
    }
    mem_free(expect);
    Py_XDECREF(items);
    return result;
}

static PyObject *
Client_share(PyObject *op, PyTypeObject *cls, PyObject *const *args,
             Py_ssize_t nargs, PyObject *kwnames)
{
    struct rh_client *client = client_of(op, cls);

    (void)kwnames;
    if (!client)
        return NULL;
    if (nargs != 1) {
        PyErr_SetString(PyExc_TypeError, "share() takes one sequence");
        return NULL;
    }
    return lend_share(core_state(cls), client, args[0]);
}

static PyObject *
Client_broadcast_parts(PyObject *op, PyTypeObject *cls, PyObject *const *args,
                       Py_ssize_t nargs, PyObject *kwnames)
{
    struct core_state *st = core_state(cls);
    struct rh_request *req;
    PyObject *list;

    (void)kwnames;
    (void)op;
    if (nargs != 1 || Py_TYPE(args[0]) != st->request) {
        PyErr_SetString(PyExc_TypeError, "broadcast_parts() takes one Request");
        return NULL;
    }
    req = ((struct request_object *)args[0])->req;
    if (req->coalescing) // one combined reply, and it is its own
        return Py_BuildValue("[O]", args[0]);
    list = PyList_New((Py_ssize_t)req->n_parts);
    for (size_t i = 0; list && i < req->n_parts; i++) {
        PyObject *part;

        client_hold(req->part[i]);
        part = request_wrap(st, req->part[i]);
        if (part)
            PyList_SET_ITEM(list, (Py_ssize_t)i, part);
        else
            Py_CLEAR(list);
    }
    return list;
}

/* ---- waiting ---------------------------------------------------------- */

/* wait's optional arguments.  0, or -1 with an exception. */
static int
read_wait(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
          int *timeout_ms, Py_ssize_t *count, unsigned *bits)
{
    Py_ssize_t n = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;

    if (nargs < 1 || nargs > 2) {
        PyErr_Format(PyExc_TypeError,
                     "wait() takes 1 or 2 positional arguments, not %zd",
                     nargs);
        return -1;
    }
    *timeout_ms = core_timeout(nargs > 1 ? args[1] : NULL);
    if (*timeout_ms == -2)
        return -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        PyObject *value = args[nargs + i];
        int yes;

        if (PyUnicode_CompareWithASCIIString(name, "count") == 0) {
            *count = PyNumber_AsSsize_t(value, PyExc_OverflowError);
            if (*count == -1 && PyErr_Occurred())
                return -1;
        } else if (PyUnicode_CompareWithASCIIString(name, "output") == 0) {
            yes = PyObject_IsTrue(value);
            if (yes < 0)
                return -1;
            *bits = yes ? RH_DONE | RH_OUTPUT_DONE : RH_DONE;
        } else {
            PyErr_Format(PyExc_TypeError,
                         "wait() got an unexpected keyword argument %R", name);
            return -1;
        }
    }
    return 0;
}

/* The calling thread drives; in slices, so that signals are served. */
static int
wait_for(struct rh_client *client, struct rh_request *const *req, size_t n,
         size_t count, unsigned bits, int left, rh_error *err)
{
    int slice, rc;

    do {
        slice = left < 0 || left > CORE_SLICE_MS ? CORE_SLICE_MS : left;
        Py_BEGIN_ALLOW_THREADS rc =
            rh_client_wait(client, req, n, count, bits, slice, err);
        Py_END_ALLOW_THREADS lend_sweep();
        if (PyErr_CheckSignals() < 0)
            return RH_EINTR; // with an exception
        if (left > 0)
            left -= slice;
    } while ((rc == RH_ETIMEDOUT && left != 0) || rc == RH_EINTR);
    return rc;
}

/* The requests of a tuple; n or -1 with an exception. */
static Py_ssize_t
read_requests(struct core_state *st, PyObject *tuple, struct rh_request **req,
              unsigned bits, size_t *n_ready)
{
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);

    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);

        if (Py_TYPE(item) != st->request) {
            PyErr_Format(PyExc_TypeError,
                         "wait() needs Requests, item %zd is a %.100s", i,
                         Py_TYPE(item)->tp_name);
            return -1;
        }
        req[i] = ((struct request_object *)item)->req;
        *n_ready += (request_state(req[i]) & bits) == bits;
    }
    return n;
}

static PyObject *
Client_wait(PyObject *op, PyTypeObject *cls, PyObject *const *args,
            Py_ssize_t nargs, PyObject *kwnames)
{
    struct core_state *st = core_state(cls);
    struct rh_request *stack[N_STACK], **req = stack;
    struct rh_client *client = client_of(op, cls);
    PyObject *tuple;
    Py_ssize_t n, count = -1;
    size_t n_ready = 0, need;
    unsigned bits = RH_DONE;
    rh_error err = {0};
    int rc = 0, left;

    if (!client || read_wait(args, nargs, kwnames, &left, &count, &bits) < 0
        || !(tuple = PySequence_Tuple(args[0])))
        return NULL;
    n = PyTuple_GET_SIZE(tuple);
    if (n > N_STACK && !(req = mem_zalloc((size_t)n, sizeof(*req)))) {
        Py_DECREF(tuple);
        return PyErr_NoMemory();
    }
    n = read_requests(st, tuple, req, bits, &n_ready);
    if (n >= 0) {
        need = count < 0 || count > n ? (size_t)n : (size_t)count;
        if (n_ready < need)
            rc = wait_for(client, req, (size_t)n, need, bits, left, &err);
    }
    if (req != stack)
        mem_free(req);
    Py_DECREF(tuple);
    if (PyErr_Occurred())
        return NULL;
    if (rc < 0 && rc != RH_ETIMEDOUT)
        return core_raise(st, rc, &err);
    return PyBool_FromLong(rc == 0);
}

static PyObject *
Client_wait_engines(PyObject *op, PyTypeObject *cls, PyObject *const *args,
                    Py_ssize_t nargs, PyObject *kwnames)
{
    struct rh_client *client = client_of(op, cls);
    unsigned long long version;
    rh_error err = {0};
    int left, slice, rc;

    (void)kwnames;
    if (!client)
        return NULL;
    if (nargs < 1 || nargs > 2) {
        PyErr_SetString(PyExc_TypeError,
                        "wait_engines() takes 1 or 2 arguments");
        return NULL;
    }
    version = PyLong_AsUnsignedLongLongMask(args[0]);
    if ((version == (unsigned long long)-1 && PyErr_Occurred())
        || (left = core_timeout(nargs > 1 ? args[1] : NULL)) == -2)
        return NULL;
    do {
        slice = left < 0 || left > CORE_SLICE_MS ? CORE_SLICE_MS : left;
        Py_BEGIN_ALLOW_THREADS rc =
            rh_client_wait_engines(client, version, slice, &err);
        Py_END_ALLOW_THREADS if (PyErr_CheckSignals() < 0) return NULL;
        if (left > 0)
            left -= slice;
    } while ((rc == RH_ETIMEDOUT && left != 0) || rc == RH_EINTR);
    if (rc < 0 && rc != RH_ETIMEDOUT)
        return core_raise(core_state(cls), rc, &err);
    return PyBool_FromLong(rc == 0);
}

static PyObject *
Client_flush(PyObject *op, PyTypeObject *cls, PyObject *const *args,
             Py_ssize_t nargs, PyObject *kwnames)
{
    struct rh_client *client = client_of(op, cls);
    rh_error err = {0};
    int rc;

    (void)args;
    (void)nargs;
    (void)kwnames;
    if (!client)
        return NULL;
    Py_BEGIN_ALLOW_THREADS rc = rh_client_flush(client, &err);
    Py_END_ALLOW_THREADS if (rc < 0) return core_raise(core_state(cls), rc,
                                                       &err);
    Py_RETURN_NONE;
}

/* ---- the background thread -------------------------------------------- */

/* Steals 'data'. */
static void
tell(PyObject *on_event, const char *name, PyObject *data)
{
    PyObject *result =
        data ? PyObject_CallFunction(on_event, "sO", name, data) : NULL;

    if (!result)
        PyErr_WriteUnraisable(on_event);
    Py_XDECREF(result);
    Py_XDECREF(data);
}

static PyObject *
stray_tuple(struct core_state *st, struct msg *m)
{
    struct header_view header;
    struct span type = SPAN_NONE;
    struct span topic = m->i_delim ? m->frame[0] : SPAN_LIT("");
    PyObject *buffers = frames_tuple(st, m, m->i_delim + MSG_BUFFER0);

    if (!buffers)
        return NULL;
    if (scan_header(msg_part(m, MSG_HEADER), &header, NULL) == 0)
        type = header.msg_type;
    return Py_BuildValue("(NNNNNNN)", span_bytes(topic),
                         PyUnicode_DecodeUTF8((const char *)type.p,
                                              (Py_ssize_t)type.n, "replace"),
                         span_bytes(msg_part(m, MSG_HEADER)),
                         span_bytes(msg_part(m, MSG_PARENT)),
                         span_bytes(msg_part(m, MSG_METADATA)),
                         span_bytes(msg_part(m, MSG_CONTENT)), buffers);
}

/* The engines of a batch that joined or left: a list of (id, uuid). */
static PyObject *
engine_list(const struct event *event, int n, enum event_kind kind)
{
    PyObject *list = PyList_New(0);

    for (int i = 0; list && i < n; i++) {
        PyObject *pair;

        if (event[i].kind != kind)
            continue;
        pair = Py_BuildValue("(is)", event[i].id, event[i].uuid);
        if (!pair || PyList_Append(list, pair) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

static void
serve(struct core_state *st, struct event *event, int n, PyObject *on_event)
{
    bool engines = false;

    for (int i = 0; i < n; i++)
        engines |= event[i].kind == EVENT_JOINED || event[i].kind == EVENT_LEFT;
    if (engines)
        tell(on_event, "engines",
             Py_BuildValue("(NN)", engine_list(event, n, EVENT_JOINED),
                           engine_list(event, n, EVENT_LEFT)));
    for (int i = 0; i < n; i++) {
        switch (event[i].kind) {
        case EVENT_REQUEST:
            request_on_event(&event[i], false);
            break;
        case EVENT_SHUTDOWN:
            Py_INCREF(Py_None);
            tell(on_event, "shutdown", Py_None);
            break;
        case EVENT_STRAY:
            tell(on_event, "iopub", stray_tuple(st, event[i].msg));
            break;
        case EVENT_JOINED:
        case EVENT_LEFT:
            break;
        }
        event_fini(&event[i]);
    }
}

/* Until the client is closed (0) or an exception is set (-1). */
static int
run(struct core_state *st, struct rh_client *client, PyObject *on_event)
{
    struct event event[EVENT_BATCH];
    rh_error err = {0};
    int n;

    for (;;) {
        Py_BEGIN_ALLOW_THREADS n =
            client_events(client, event, EVENT_BATCH, -1, &err);
        Py_END_ALLOW_THREADS lend_sweep();
        if (n > 0)
            serve(st, event, n, on_event);
        if (n == RH_ECLOSED)
            return 0;
        if (n < 0 && n != RH_EINTR) {
            core_raise(st, n, &err);
            return -1;
        }
        if (PyErr_CheckSignals() < 0)
            return -1;
    }
}

static PyObject *
Client_run(PyObject *op, PyTypeObject *cls, PyObject *const *args,
           Py_ssize_t nargs, PyObject *kwnames)
{
    struct client_object *self = (struct client_object *)op;
    struct rh_client *client = client_of(op, cls);
    int rc;

    (void)kwnames;
    if (!client)
        return NULL;
    if (nargs != 1 || !PyCallable_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "run() takes one function");
        return NULL;
    }
    if (self->running) {
        PyErr_SetString(PyExc_RuntimeError, "run() is running already");
        return NULL;
    }
    self->running = true;
    rc = run(core_state(cls), client, args[0]);
    self->running = false;
    if (rc < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the type --------------------------------------------------------- */

static PyGetSetDef Client_getset[] = {
    {"session", get_session, NULL, "This client's name on the wire.", NULL},
    {"closed", get_closed, NULL, NULL, NULL},
    {"engines_version", get_engines_version, NULL,
     "Changes with every engine that comes or goes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define METHOD(name, doc)                                               \
    {                                                                   \
#name, (PyCFunction)(void (*)(void))Client_##name,              \
            METH_METHOD | METH_FASTCALL | METH_KEYWORDS, PyDoc_STR(doc) \
    }

static PyMethodDef Client_methods[] = {
    METHOD(engines, "engines($self)\n--\n\nRegistered engines: id to uuid."),
    METHOD(next_msg_id, "next_msg_id($self)\n--\n\nA new message id."),
    METHOD(submit,
           "submit($self, channel, ident, msg_type, content, metadata,\n"
           "       buffers=(), /, *, track=False, msg_id=None, expect=None,\n"
           "       coalescing=False)\n--\n\n"
           "Send one request; never waits for the network."),
    METHOD(share, "share($self, buffers, /)\n--\n\n"
                  "The same buffers, to be sent several times."),
    METHOD(broadcast_parts, "broadcast_parts($self, request, /)\n--\n\n"
                            "The requests that a broadcast is made of."),
    METHOD(wait, "wait($self, requests, timeout=None, /, *, count=-1,\n"
                 "     output=False)\n--\n\n"
                 "Wait until count requests are done; False on timeout."),
    METHOD(wait_engines, "wait_engines($self, version, timeout=None, /)\n--\n\n"
                         "Wait until engines_version differs from version."),
    METHOD(flush, "flush($self)\n--\n\nTake in everything that has arrived."),
    METHOD(run, "run($self, on_event, /)\n--\n\n"
                "Body of the background thread; returns after close()."),
    {"close", (PyCFunction)(void (*)(void))Client_close,
     METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("close($self, linger=1.0)\n--\n\n"
               "Close all sockets; pending requests fail.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef Client_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct client_object, weakrefs),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static char Client_doc[] =
    "Client(connection, *, session=None, username=None, timeout=10.0,\n"
    "       url_overrides=None, curve_publickey=None,\n"
    "       curve_secretkey=None)\n--\n\n"
    "Connections of one client to a controller.";

static PyType_Slot Client_slots[] = {
    {Py_tp_init, CORE_SLOT(Client_init)},
    {Py_tp_dealloc, CORE_SLOT(Client_dealloc)},
    {Py_tp_getset, Client_getset},
    {Py_tp_methods, Client_methods},
    {Py_tp_members, Client_members},
    {Py_tp_doc, Client_doc},
    {0, NULL},
};

static PyType_Spec Client_spec = {
    .name = "roundhouse._core.Client",
    .basicsize = sizeof(struct client_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = Client_slots,
};

int
core_add_client(PyObject *module, struct core_state *st)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &Client_spec, NULL);

    st->client = (PyTypeObject *)type;
    return type ? PyModule_AddType(module, st->client) : -1;
}
