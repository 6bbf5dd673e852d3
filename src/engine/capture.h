/* capture.h - what is written to descriptors 1 and 2 of the process
 *
 * C libraries, subprocesses and forked children do not know sys.stdout.  Their
 * output comes through pipes and joins the engine's.  The process's original
 * output stays available for the log.
 */
#ifndef ENGINE_CAPTURE_H
#define ENGINE_CAPTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "engine/iopub.h"

struct capture_pipe {
    int read_fd, write_fd; // the latter kept so that there is always a writer
    int console;           // the original descriptor
    size_t n;              // bytes read that iopub has not taken yet
    uint8_t held[8192];
};

struct capture {
    pthread_mutex_t lock;        // guards pipe[].n, held and recent
    struct capture_pipe pipe[2]; // ORDER engine_stream
    uint8_t recent[4096];        // the end of this job's standard error
    size_t n_recent;
    atomic_int crash; // see on_fatal
    bool active;
};

int capture_init(struct capture *self, rh_error *err);
void capture_fini(struct capture *self); // gives the descriptors back
/* From now on 1 and 2 are pipes; the log moves to the original.  'wake_fd' is
 * an eventfd of the thread that pumps.
 */
int capture_begin(struct capture *self, int wake_fd, rh_error *err);
/* Move what has been written to iopub, without waiting.  With 'whole', as at
 * the end of a job, incomplete characters as well.
 */
void capture_pump(struct capture *self, struct iopub *iopub, bool whole);
/* Iopub could not take all: pump again soon, the pipes are not worth polling.
 */
bool capture_is_stuck(struct capture *self);

/* A thread of this process is about to die of a signal and waits: send what
 * there is, then it goes on.  Cheap if nobody does.
 */
void capture_last_words(struct capture *self, struct iopub *iopub);

#endif /* ENGINE_CAPTURE_H */
