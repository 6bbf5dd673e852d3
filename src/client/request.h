/* request.h - one request, what came back for it, and who still cares
 *
 * A broadcast is a group: one leader and a part per engine that it waits for.
 * All memory of a group lives and dies together, so that parts may point at
 * their leader; everything else is a group of one.
 *
 * 'state' is set bit by bit, each once, after what it promises is in place:
 * it may be read by any thread without the client's lock.  All else is guarded
 * by that lock, except what never changes after request_new and, once RH_DONE
 * is set, the reply.
 */
#ifndef CLIENT_REQUEST_H
#define CLIENT_REQUEST_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/list.h"
#include "roundhouse/client.h"
#include "wire/msg.h"

#define RH_SETTLED (RH_DONE | RH_OUTPUT_DONE)

/* Why there will be no reply. */
enum failure {
    FAIL_NONE,
    FAIL_ENGINE_DIED, // 'engine_id' left
    FAIL_NO_ENGINE,   // 'target' was not registered
    FAIL_CLOSED,      // the client was closed
    FAIL_SHUTDOWN,    // the controller said goodbye
    FAIL_LOST,        // the connection it went out on broke
    FAIL_BAD_REPLY,   // signed, but not what the protocol says
};

struct engine;

struct rh_request {
    // Fixed when made.
    struct rh_client *client;  // a reference (group); NULL in tests
    struct rh_request *leader; // NULL: not part of a broadcast
    enum rh_channel channel;
    bool has_output; // the engine will say when it is idle
    bool coalescing;
    bool one_way; // nobody answers
    const char *msg_id;
    const char *target; // engine's uuid, or ""
    struct span header; // JSON
    int64_t submitted_us;

    atomic_uint state;
    atomic_bool begun; // the engine said that it works on it

    // The reply; fixed once RH_DONE is set.
    struct msg *reply;
    enum rh_status status;
    enum failure failure;
    int engine_id;
    int64_t received_us;
    struct msg *made; // for a failure: the reply that readers get to see

    // Output so far, and the text in it.
    struct msg **output;
    size_t n_output, cap_output, n_read;
    struct buf text[2]; // stdout, stderr

    // Of a group, kept in its leader.
    atomic_uint refs;
    size_t handles; // users that could still ask for the result
    struct rh_request **part;
    size_t n_parts;
    size_t n_open; // parts without a reply
    size_t n_loud; // parts whose output is not complete

    // Where it is.
    uint64_t serial;         // in order of submission
    bool pending;            // in the ledger's map, which holds a reference
    struct list on_engine;   // among the engine's pending requests
    struct list waits;       // of the threads that wait for it
    struct list ready;       // in the client's queue of events
    bool watched;            // somebody waits for events: is a handle
    unsigned watch;          // bits he wants events for
    unsigned news;           // bits that happened since the last event
    struct tracker *tracker; // of buffers on their way out, or NULL
    void *user;              // the binding's
};

struct request_spec {
    enum rh_channel channel;
    const char *msg_id, *target, *msg_type;
    struct span header;
    int64_t now_us;
    bool coalescing;
};

/* One reference, no handle.  NULL: out of memory. */
struct rh_request *request_new(const struct request_spec *spec);
/* Make room for parts, then add them; RH_ENOMEM with the leader unharmed. */
int request_add_part(struct rh_request *leader, const char *msg_id,
                     const char *uuid);

static inline struct rh_request *
request_group(struct rh_request *self)
{
    return self->leader ? self->leader : self;
}

struct rh_request *request_ref(struct rh_request *self); // of its group
void request_unref(struct rh_request **self_p);

static inline unsigned
request_state(const struct rh_request *self)
{
    return atomic_load_explicit(&self->state, memory_order_acquire);
}

/* Keep a message as output.  RH_ENOMEM: it is not kept. */
int request_add_output(struct rh_request *self, struct msg *m);
/* Decode the text of stream messages that are new since the last call. */
int request_read_text(struct rh_request *self);
/* The reply, or one made for the failure; borrowed.  RH_EAGAIN, RH_ENOENT,
 * RH_ENOMEM.
 */
int request_reply(struct rh_request *self, const struct msg **out);
/* The engine's uuid as the reply has it, else the target; borrowed. */
struct span request_engine(struct rh_request *self);

#endif /* CLIENT_REQUEST_H */
