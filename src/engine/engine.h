/* engine.h - one engine: registered, serving, gone
 *
 * Two threads.  The caller's (the main thread of its process) takes requests
 * from the shell sockets and runs them through 'interp'.  A second one, which
 * never needs the interpreter, serves control requests and heartbeats and
 * flushes output while user code runs.
 *
 * One engine per process: signals and standard output are the process's.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/interp.h"
#include "wire/connfile.h"

struct engine_config {
    struct connfile conn;
    char uuid[80]; // "": a new one
    char username[80];
    int64_t id;     // asked for; -1: whatever the hub gives
    int timeout_ms; // to wait for the registration
    int max_misses; // heartbeats; 0: never give up
    int grace_ms;   // between asking running code to stop and making it
    char registration_url[512]; // "": from conn
    // Ends of tunnels by channel; "": from conn.
    char url[N_PORTS][128];
    char broadcast_url[CONN_BROADCAST_MAX][128];
    bool tunnelled;
    bool capture;        // what is written to descriptors 1 and 2
    size_t output_limit; // bytes of text of one request; 0: none
    char curve_public[41], curve_secret[41]; // "": a throw-away pair
};

/* From JSON: {"connection": {...}, "uuid": .., ...}; keys as the fields above,
 * "urls" {channel: url}.  RH_EPROTO or RH_EINVAL naming the key.
 */
int engine_config_parse(struct engine_config *out, struct span json,
                        rh_error *err);

/* Serve until told to stop.  Returns a process exit code: 0 after a shutdown
 * request, SIGTERM or the loss of the controller, 255 if registration failed.
 * What happened has been logged.
 */
int engine_run(const struct engine_config *config, const struct interp *interp);

/* From inside the interpreter's functions and from user threads: */

enum engine_stream { ENGINE_STDOUT, ENGINE_STDERR };

const char *engine_uuid(const struct engine *self);
int64_t engine_id(const struct engine *self);
/* Queue output.  Never waits for long: RH_EAGAIN and *done < n if the
 * controller is far behind; release locks, call engine_pause, go on.
 * Returns RH_EAGAIN at once if 'try_only' and another thread is writing.
 */
int engine_write(struct engine *self, enum engine_stream stream,
                 struct span text, bool try_only, size_t *done);
void engine_pause(void); // some milliseconds
void engine_flush(struct engine *self);

/* Publish on iopub, after the output so far.  'topic' NULL: engine.<id>.kind;
 * metadata empty: {"engine": uuid}.  'owner' as in struct draft.
 */
struct engine_publication {
    const char *topic, *kind, *msg_type;
    struct span metadata, content;
    const struct span *buffer;
    struct msg *const *owner;
    size_t n_buffers;
};
int engine_publish(struct engine *self, const struct engine_publication *pub,
                   rh_error *err);
/* Wake the main thread: interp->service has something to do.  Any thread. */
void engine_wake(struct engine *self);

#endif /* ENGINE_ENGINE_H */
