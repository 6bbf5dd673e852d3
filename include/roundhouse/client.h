/* client.h - talk to a cluster: connect, submit, wait, read results
 *
 * A client is a set of connections to one controller.  A request is one
 * message to an engine (or to the controller) and everything that comes back:
 * the reply, and the output that the engine published while it worked.
 *
 *     rh_client *c;
 *     rh_request *r;
 *     rh_error err;
 *
 *     if (rh_client_open(&c, "ipcontroller-client.json", NULL, &err) < 0)
 *         ...
 *     rh_client_execute(c, uuid, "print(6 * 7)", 0, &r, &err);
 *     rh_client_wait(c, &r, 1, 1, RH_OUTPUT_DONE, -1, &err);
 *
 * Threads: every function may be called from any thread.  A thread that waits
 * moves the messages itself; no thread of the library's own runs, apart from
 * ZeroMQ's.  After fork() a client is of use to the parent only: in the child
 * its functions fail with RH_ESTATE and freeing it does nothing.
 *
 * Every request is completed exactly once: by its reply, or by an error that
 * the library makes when the engine leaves, the connection breaks (the request
 * may have run all the same), the controller shuts down or the client is
 * closed.  After a broken connection the client goes on with a new one.
 */
#ifndef ROUNDHOUSE_CLIENT_H
#define ROUNDHOUSE_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "roundhouse/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rh_client rh_client;
typedef struct rh_request rh_request;

/* Borrowed bytes; functions that return them say for how long. */
typedef struct rh_bytes {
    const void *p;
    size_t n;
} rh_bytes;

/* ---- connecting ------------------------------------------------------- */

typedef struct rh_client_options {
    const char *session;      /* client's name on the wire; NULL: random */
    const char *username;     /* NULL: who runs this process */
    const char *curve_public; /* Z85 key pair, 40 characters each; NULL: a */
    const char *curve_secret; /* throw-away pair if the cluster uses CURVE */
    /* Full URLs instead of the connection's, e.g. of ssh tunnels: name, URL,
     * name, URL, ..., NULL.  Names are those of the connection file:
     * registration, mux, task, control, broadcast, iopub, notification.
     */
    const char *const *url;
    int timeout_ms; /* how long the hub may take; 0: 10,000, -1: for ever */
} rh_client_options;

/* Connect and learn which engines there are.  'connection' is the name of a
 * connection file, or its JSON text (recognised by its leading '{').
 * 'options' may be NULL.
 * RH_ETIMEDOUT: the hub did not answer; RH_EPROTO, RH_EINVAL: the connection
 * file or an option is wrong; RH_EAUTH: the hub's answer was signed with
 * another key; RH_EINTR: a signal came.
 */
RH_API int rh_client_open(rh_client **out, const char *connection,
                          const rh_client_options *options, rh_error *err);

/* Close all connections.  Pending requests fail, threads that wait return.
 * Messages that are still on their way out get 'linger_ms' (-1: for ever).
 * Requests stay readable.  Closing again does nothing.
 */
RH_API void rh_client_close(rh_client *self, int linger_ms);

/* Close if that was not done, let go, clear *self_p; NULL-safe. */
RH_API void rh_client_free(rh_client **self_p);

RH_API const char *rh_client_session(const rh_client *self);
RH_API int rh_client_is_closed(const rh_client *self);

/* ---- engines ---------------------------------------------------------- */

typedef struct rh_engine {
    int id;
    char uuid[256];
} rh_engine;

/* Copies up to 'cap' engines, by id; returns how many there are.  The list is
 * as new as the last message taken in: see rh_client_flush.
 */
RH_API size_t rh_client_engines(rh_client *self, rh_engine *out, size_t cap);

/* Changes with every engine that comes or goes. */
RH_API uint64_t rh_client_engines_version(rh_client *self);

/* Wait until the version differs from 'version'.  RH_ETIMEDOUT (-1: never),
 * RH_EINTR, RH_ECLOSED.
 */
RH_API int rh_client_wait_engines(rh_client *self, uint64_t version,
                                  int timeout_ms, rh_error *err);

/* ---- submitting ------------------------------------------------------- */

enum rh_channel {
    RH_MUX,       /* to one engine */
    RH_TASK,      /* to whichever engine the scheduler picks */
    RH_CONTROL,   /* to one engine, past its queue */
    RH_BROADCAST, /* to many engines at once */
    RH_QUERY      /* to the hub */
};

/* With 'release' the bytes are sent from where they are and must not change
 * until it is called: once, from any thread, also when submitting fails.  It
 * must not call the library, nor wait for anybody who does: the client's lock
 * may be held.  Without, they are copied.
 */
typedef struct rh_buffer {
    const void *p;
    size_t n;
    void (*release)(void *arg);
    void *arg;
} rh_buffer;

typedef struct rh_expect {
    const char *msg_id; /* of the request as the engine gets it */
    const char *uuid;   /* of the engine */
} rh_expect;

#define RH_COALESCING 1u /* BROADCAST: one combined reply */
#define RH_TRACK 2u      /* rh_request_sent tells about the buffers */

typedef struct rh_submission {
    enum rh_channel channel;
    const char *target;   /* uuid on MUX and CONTROL, else NULL */
    const char *msg_type; /* "apply_request", "execute_request", ... */
    const char *msg_id;   /* NULL: a new one */
    rh_bytes content;     /* JSON objects; empty: {} */
    rh_bytes metadata;
    const rh_buffer *buffer;
    size_t n_buffers;
    /* BROADCAST: the replies to come.  Without any, one for each of the
     * metadata's targets.
     */
    const rh_expect *expect;
    size_t n_expect;
    unsigned flags;
} rh_submission;

/* Send; never waits for the network.  An engine that is not registered makes
 * a request that has already failed, not an error here.  Message types that
 * are never answered (comm_*) make a request that is done at once.
 * RH_EINVAL, RH_EEXIST (msg_id is in use), RH_ENOMEM, RH_ECLOSED, RH_ENET.
 */
RH_API int rh_client_submit(rh_client *self, const rh_submission *what,
                            rh_request **out, rh_error *err);

#define RH_SILENT 1u /* no output, nothing in the engine's history */

/* Run a string of code; 'uuid' NULL: on whichever engine is free. */
RH_API int rh_client_execute(rh_client *self, const char *uuid,
                             const char *code, unsigned flags, rh_request **out,
                             rh_error *err);

/* Call a function with ready-made buffers (docs/protocol): those of the
 * function, of the call's shape, then of each argument.
 */
RH_API int rh_client_apply(rh_client *self, const char *uuid,
                           const rh_buffer *buffer, size_t n_buffers,
                           rh_request **out, rh_error *err);

/* ---- waiting ---------------------------------------------------------- */

#define RH_DONE 1u        /* the reply is here */
#define RH_OUTPUT_DONE 2u /* all output is here, or none can come */

/* Wait until 'count' of the requests have all 'bits' (RH_DONE if 0).
 * 0; RH_ETIMEDOUT (-1: never); RH_EINTR: a signal came, wait again if you
 * like; RH_EINVAL: a request of another client.
 */
RH_API int rh_client_wait(rh_client *self, rh_request *const *request, size_t n,
                          size_t count, unsigned bits, int timeout_ms,
                          rh_error *err);

/* Take in everything that has arrived, without waiting. */
RH_API int rh_client_flush(rh_client *self, rh_error *err);

/* ---- requests --------------------------------------------------------- */

/* Forget a request; its reply is dropped when it comes.  NULL-safe. */
RH_API void rh_request_release(rh_request **self_p);

RH_API const char *rh_request_id(const rh_request *self);
RH_API unsigned rh_request_state(const rh_request *self); /* RH_DONE | ... */

enum rh_status { RH_PENDING, RH_STATUS_OK, RH_STATUS_ERROR, RH_STATUS_ABORTED };
RH_API enum rh_status rh_request_status(const rh_request *self);

enum rh_part {
    RH_REQUEST_HEADER,
    RH_REPLY_HEADER,
    RH_REPLY_METADATA,
    RH_REPLY_CONTENT
};
/* JSON text, valid as long as the request.  RH_EAGAIN: not here yet;
 * RH_ENOENT: a broadcast, whose replies belong to its parts; RH_ENOMEM.
 */
RH_API int rh_request_part(rh_request *self, enum rh_part part, rh_bytes *out);

/* Buffers of the reply, valid as long as the request. */
RH_API size_t rh_request_n_buffers(const rh_request *self);
RH_API rh_bytes rh_request_buffer(const rh_request *self, size_t i);

/* The engine that answered or was asked; copies up to cap-1 bytes and returns
 * the length, 0 if it is not known.
 */
RH_API size_t rh_request_engine(rh_request *self, char *out, size_t cap);

/* Microseconds since the epoch; 'received' is 0 before RH_DONE. */
RH_API int64_t rh_request_submitted(const rh_request *self);
RH_API int64_t rh_request_received(const rh_request *self);

/* Nonzero when the last buffer with a 'release' was let go; always for
 * requests without RH_TRACK.  Waiting: 0 or RH_ETIMEDOUT (-1: never).
 */
RH_API int rh_request_sent(const rh_request *self);
RH_API int rh_request_wait_sent(rh_request *self, int timeout_ms);

/* What was printed so far, as new memory for rh_free; 'which' is 1 (stdout)
 * or 2 (stderr).  Terminated; *n may be NULL.  NULL: out of memory.
 */
RH_API char *rh_request_text(rh_request *self, int which, size_t *n);
RH_API void rh_free(void *p);

typedef struct rh_output {
    rh_bytes msg_type; /* "stream", "display_data", "error", ... */
    rh_bytes header, metadata, content;
} rh_output;
/* Published messages in order, streams included; valid as long as the
 * request.  RH_ENOENT: so many are not here.
 */
RH_API int rh_request_output(rh_request *self, size_t i, rh_output *out);

/* The requests a broadcast is made of, one for each expected reply; 0 for
 * other requests and combined replies.  A part is borrowed from the whole,
 * and gone when that is released.
 */
RH_API size_t rh_request_n_parts(const rh_request *self);
RH_API rh_request *rh_request_subrequest(const rh_request *self, size_t i);

#ifdef __cplusplus
}
#endif

#endif /* ROUNDHOUSE_CLIENT_H */
