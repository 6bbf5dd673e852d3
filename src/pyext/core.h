/* core.h - what the files of roundhouse._core share
 *
 * Every wait happens without the GIL, and the client's lock is never held
 * while Python code runs; whoever holds that lock never needs the GIL.  So the
 * lock may be taken with the GIL held, which all short operations do.
 */
#ifndef PYEXT_CORE_H
#define PYEXT_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "client/client.h"

/* A function as the slot of a type, which ISO C has no conversion for. */
#define CORE_SLOT(function) __extension__(void *)(function)

#define CORE_SLICE_MS 200 // longest wait before signals are looked at

struct core_state {
    PyTypeObject *client, *request, *frame;
    PyObject *protocol_error, *auth_error;
};

struct core_state *core_state(PyTypeObject *type); // of one of our types

/* Set the exception that stands for a failure; always returns NULL. */
PyObject *core_raise(struct core_state *st, int rc, const rh_error *err);

/* Seconds as Python has them to milliseconds; None: -1.  -2: exception set. */
int core_timeout(PyObject *seconds);

int core_add_client(PyObject *module, struct core_state *st);
int core_add_request(PyObject *module, struct core_state *st);
int core_add_frame(PyObject *module, struct core_state *st);

/* ---- buffers.c -------------------------------------------------------- */

/* Frames first.. of a message as a tuple of read-only memoryviews, which keep
 * the message alive.
 */
PyObject *frames_tuple(struct core_state *st, struct msg *m, uint32_t first);
PyObject *span_bytes(struct span s);

/* Buffers of a submission.  Small ones are views for the time of the call,
 * large ones are lent to the client until it lets go.
 */
struct lend {
    struct rh_buffer *buffer;
    Py_buffer *view; // of those not lent; obj NULL: lent
    size_t n, n_views, bytes;
    PyObject *items; // keeps all of them alive
};
int lend_init(struct lend *self, struct rh_client *client, PyObject *buffers);
void lend_fini(struct lend *self);
/* The same buffers as a list; large ones as views of shared memory, if it can
 * be had, which submissions need not copy.
 */
PyObject *lend_share(struct core_state *st, struct rh_client *client,
                     PyObject *buffers);
/* Let go of the Python buffers that the client is done with.  Cheap if there
 * are none.
 */
void lend_sweep(void);

/* ---- request.c -------------------------------------------------------- */

struct request_object {
    PyObject_HEAD struct rh_request *req; // a handle
    PyObject *callback, *output_callback;
    PyObject *weakrefs;
};

/* The one Python object of a request; takes over the handle in any case. */
PyObject *request_wrap(struct core_state *st, struct rh_request *req);
/* Serve one event of a request; takes over nothing. */
void request_on_event(const struct event *event, bool silent);

#endif /* PYEXT_CORE_H */
