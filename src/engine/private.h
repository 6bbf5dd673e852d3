/* private.h - the state of an engine; for the files of engine/ only
 *
 * Who touches what: fields are grouped by the thread or the lock they belong
 * to.  Before the control thread starts and after it has ended, all of it is
 * the main thread's.
 */
#ifndef ENGINE_PRIVATE_H
#define ENGINE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/begun.h"
#include "base/channel.h"
#include "base/list.h"
#include "engine/aborts.h"
#include "engine/capture.h"
#include "engine/engine.h"
#include "engine/iopub.h"
#include "engine/pulse.h"
#include "net/shm.h"

enum { SHELL_MUX, SHELL_TASK, SHELL_BROADCAST, N_SHELL };

/* Message ids of one session must differ although three senders, each with
 * its own counter, share it.
 */
#define SENDER_SHELL 0
#define SENDER_CONTROL ((uint64_t)1 << 40)
#define SENDER_IOPUB ((uint64_t)2 << 40)

/* A request that was received but has not been reached. */
struct queued {
    struct list node;
    struct job job; // owns one reference to msg
    struct net_sock *sock;
    bool abort;
    bool incomplete; // buffers in shared memory could not be had
};

/* Work one thread leaves to the other. */
struct errand {
    struct msg *msg; // a control request
    int rc;          // what became of it
    rh_error err;
};

enum engine_phase { PHASE_SERVING, PHASE_STOPPING, PHASE_DONE };

struct engine {
    const struct engine_config *config;
    const struct interp *interp;
    char uuid[80];
    int64_t id;
    int64_t hb_period_ms;
    struct net_ctx *net;
    struct net_curve curve;
    bool use_curve;

    // Main thread.
    struct sender sender;
    struct session *signer;
    struct buf metadata, content;  // of the reply being made
    struct buf tickets;            // of its buffers
    struct net_sock *registration; // the control thread's once it runs

    pthread_mutex_t shell_lock; // guards to the next blank line; not held
                                // while user code runs
    struct net_sock *shell[N_SHELL];
    struct session *verifier;
    struct list backlog;   // struct queued
    size_t next_shell;     // whose turn it is to be looked at first
    struct net_sock *last; // where the last request came from

    pthread_mutex_t abort_lock; // guards to the next blank line
    struct aborts aborts;
    struct span running; // msg_id of the job that runs; empty: none
    unsigned long job;   // its number, never 0; the last one's if none runs

    // Control thread.
    pthread_t control_thread;
    struct net_sock *control, *ping, *pong;
    struct session *control_session;
    struct sender control_sender;
    struct pulse pulse;
    int64_t deadline;     // when a stop becomes a kill; INT64_MAX: no stop yet
    int64_t nag_at;       // when to interrupt running code once more
    unsigned long doomed; // this job ends by doom_at, or the process does
    int64_t doom_at;      // INT64_MAX: none is
    int lifeline;
    struct begun *begun;  // the main thread's; NULL: none
    int term_fd;          // SIGTERM
    struct msg *shutdown; // the request that ends us
    bool restart;         // what it said
    bool alone; // the controller is gone: nobody takes what is not sent
    int exit_code;
    char reason[64]; // for the lifeline

    // Any thread.
    struct shm *shm; // NULL: all goes through the sockets
    struct iopub iopub;
    struct capture capture;
    struct channel *to_main, *to_control; // struct errand
    int wake_fd;                          // the main thread
    atomic_bool stalled;                  // replies wait to be written
    atomic_bool idle; // the main thread sleeps, with shell_lock
    atomic_int phase;
};

/* registration.c */
int registration_connect(struct engine *self, rh_error *err);
int registration_run(struct engine *self, rh_error *err);

/* shell.c, main thread */
void shell_serve(struct engine *self); // until phase is STOPPING

/* shell.c, any thread that may not wait: write what is left of replies. */
void shell_drive_output(struct engine *self);
/* control.c, any thread: have a look at 'stalled'. */
void control_poke(struct engine *self);

/* shell.c, any thread that may not wait: mark what waits as aborted.  Only
 * requests whose type is 'msg_type', unless it is NULL.
 */
void shell_abort_waiting(struct engine *self, const char *msg_type);

/* shell.c, any thread that may not wait: give back those of the listed
 * requests that wait and have not been started; they are forgotten here, and
 * their ids (JSON strings) are appended to 'out', which ends in '['.  Exact:
 * what is not listed there was started, or has not arrived.
 */
void shell_withdraw(struct engine *self, struct span raw_ids, struct buf *out);

/* control.c */
int control_start(struct engine *self, rh_error *err);
void control_join(struct engine *self); // the main thread is done

void errand_free(void *errand); // with its message
int engine_url(const struct engine *self, enum conn_port port, char *out,
               size_t cap, rh_error *err);
int engine_open_socket(struct engine *self, struct net_sock **out,
                       enum net_type type, bool named, bool is_beat,
                       const char *url, rh_error *err);

#endif /* ENGINE_PRIVATE_H */
