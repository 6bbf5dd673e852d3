/* runtime.h - the controller between start and end: everything it owns
 *
 * controller.c finds out what is wanted (options, files, profile), runtime.c
 * builds it, in an order that can be undone from any point.
 */
#ifndef CONTROLLER_RUNTIME_H
#define CONTROLLER_RUNTIME_H

#include "controller/endpoints.h"
#include "controller/heartbeat.h"
#include "controller/hubd.h"
#include "controller/options.h"
#include "controller/profile.h"
#include "controller/relay.h"
#include "controller/scheme.h"
#include "controller/security.h"
#include "controller/taskd.h"

struct runtime {
    struct settings settings;
    struct profile profile;
    struct earlier earlier;
    struct net_curve curve;
    char scheme[32]; // of signatures
    char pack[64], unpack[64];
    char key[512];
    struct net_ctx *ctx;
    struct endpoints endpoints;
    struct hubd hub;
    struct relay relay;
    struct taskd task;
    struct scheme_library own_scheme;
    struct heartbeat heart;
    struct shm *shm;    // NULL: all goes through sockets
    int quit_fd;        // the hub asks for the end
    bool files_written; // to be removed at the end
};

/* After settings and profile: keys, sockets, files, threads.  On failure
 * runtime_fini is still to be called.
 */
int runtime_start(struct runtime *self, rh_error *err);
/* Stops the threads, removes what was written, closes everything. */
void runtime_fini(struct runtime *self);

#endif /* CONTROLLER_RUNTIME_H */
