/* iopub.h - everything an engine publishes
 *
 * One PUB socket for all threads, under one lock, together with the output
 * that waits: so a message published after a print also arrives after it.
 */
#ifndef ENGINE_IOPUB_H
#define ENGINE_IOPUB_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/output.h"
#include "net/net.h"
#include "wire/compose.h"

#define IOPUB_FLUSH_MS 50

/* Bytes handed to ZeroMQ that it has not sent yet.  Shared with the messages
 * that are counted, which may outlive the iopub.
 */
struct tally {
    atomic_size_t in_flight;
    atomic_uint refs;
};

struct iopub {
    pthread_mutex_t lock; // guards everything up to the next blank line
    struct net_sock *sock;
    struct session *session;
    struct sender sender;
    struct msg *request; // whose header is the parent; NULL: {}
    bool spoken;         // something was published for it, besides status
    size_t printed;      // bytes of text taken for it
    bool truncated;      // and said so: the rest is dropped
    struct output out;
    struct buf content;
    char topic[128]; // "engine.<id>." and room for the kind
    size_t n_topic;
    int64_t dirty_at; // when out got its first byte
    bool ticking;     // the control thread looks by itself
    int64_t busy_until;

    size_t limit; // of printed; 0: none.  Set before there are threads.
    int wake_fd;  // tells the control thread that out is not empty
    struct tally *tally;
    char metadata[128]; // {"engine": uuid}
};

int iopub_init(struct iopub *self, struct span key, const char *scheme,
               const char *uuid, const char *username, rh_error *err);
void iopub_fini(struct iopub *self); // closes the socket
void iopub_set_id(struct iopub *self, int64_t id);

/* From now on 'request' is the parent; what was written before goes out. */
void iopub_begin(struct iopub *self, struct msg *request);
/* Has anything been published since iopub_begin, or does any output wait? */
bool iopub_spoken(struct iopub *self);
int iopub_status(struct iopub *self, const char *state);
/* The same for another request than the one that runs. */
int iopub_status_for(struct iopub *self, const char *state,
                     const struct msg *request);
int iopub_publish(struct iopub *self, const struct engine_publication *pub,
                  struct span parent, rh_error *err);
/* The parent is the running request. */
int iopub_publish_now(struct iopub *self, const struct engine_publication *pub,
                      rh_error *err);
int iopub_write(struct iopub *self, enum engine_stream stream, struct span text,
                bool try_only, size_t *done);
void iopub_flush(struct iopub *self);
/* For the control thread: flush what is old enough.  Returns when to call
 * again (monotonic ms), INT64_MAX when wake_fd will tell.
 */
int64_t iopub_tick(struct iopub *self, int64_t now);

#endif /* ENGINE_IOPUB_H */
