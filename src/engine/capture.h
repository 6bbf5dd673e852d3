/* capture.h - what is written to descriptors 1 and 2 of the process
 *
 * C libraries, subprocesses and forked children do not know sys.stdout.  Their
 * output comes through pipes and joins the engine's.  The process's original
 * output stays available for the log.
 */
#ifndef ENGINE_CAPTURE_H
#define ENGINE_CAPTURE_H

#include <pthread.h>
#include <stdbool.h>

#include "engine/iopub.h"

struct capture_pipe {
    int read_fd, write_fd; // the latter kept so that there is always a writer
    int console;           // the original descriptor
    size_t n;              // bytes read that iopub has not taken yet
    uint8_t held[8192];
};

struct capture {
    pthread_mutex_t lock;        // guards pipe[].n and held
    struct capture_pipe pipe[2]; // ORDER engine_stream
    bool active;
};

int capture_init(struct capture *self, rh_error *err);
void capture_fini(struct capture *self); // gives the descriptors back
/* From now on 1 and 2 are pipes; the log moves to the original. */
int capture_begin(struct capture *self, rh_error *err);
/* Move what has been written to iopub, without waiting.  With 'whole', as at
 * the end of a job, incomplete characters as well.
 */
void capture_pump(struct capture *self, struct iopub *iopub, bool whole);
/* Iopub could not take all: pump again soon, the pipes are not worth polling.
 */
bool capture_is_stuck(struct capture *self);

#endif /* ENGINE_CAPTURE_H */
