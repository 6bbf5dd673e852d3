/* client.h - the client behind the public API; private to client and bindings
 *
 * One mutex guards sockets, ledger, queue of events and the list of waiting
 * threads.  Whoever waits is also the one who receives: he polls the sockets'
 * descriptors without the lock, then drains them with it.  At most one waiting
 * thread polls, the others sleep on condition variables of their own and are
 * woken when what they wait for is there, or when it is their turn to poll.
 * The thread in rh_client_events ("the runner") polls only while nobody waits.
 *
 * ZeroMQ's descriptors are edge-triggered: readiness is seen by one poll, and
 * any call on the socket may use it up.  So a socket is 'dirty' from the call
 * on until it was drained to the end, nobody polls while a socket is dirty,
 * and who makes one dirty while others are polling drains it himself.
 *
 * The lock is never held while somebody else's code runs, and never taken in a
 * child of fork.  But release functions of buffers are called with it, when a
 * socket has written them: they must not wait for anybody who calls us.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include <pthread.h>

#include "client/ledger.h"
#include "net/shm.h"
#include "wire/compose.h"
#include "wire/connfile.h"

/* The sockets of one client; the first five are enum rh_channel. */
enum link {
    LINK_MUX = RH_MUX,
    LINK_TASK = RH_TASK,
    LINK_CONTROL = RH_CONTROL,
    LINK_BROADCAST = RH_BROADCAST,
    LINK_QUERY = RH_QUERY,
    LINK_NOTIFICATION,
    LINK_IOPUB,
    N_LINKS
};

struct link_state {
    struct net_sock *sock;
    int fd;
    bool dirty;
    bool used;             // has somebody to connect to
    bool up;               // the connection is there
    bool gave_up;          // it was not for DOWN_MAX_US
    int64_t down_since_us; // if not up; 0: before the hub has answered
    int64_t lost_at_us;    // when what was sent before has failed; 0: none
    uint64_t lost_serial;  // the last request that was sent before
};

/* A thread that waits; lives on its stack. */
struct waiter {
    struct list link;
    pthread_cond_t cond;
    size_t missing;   // requests it still needs
    unsigned bits;    // that they must have
    bool for_engines; // until the engines change
    bool polling;
    int64_t since_us;
    struct rh_request *const *req; // what it waits for
    size_t n;
};

struct wait_node {
    struct list link; // in the request's waits
    struct waiter *waiter;
};

enum event_kind {
    EVENT_REQUEST, // 'bits' happened; 'last': no more events for it
    EVENT_JOINED,
    EVENT_LEFT,
    EVENT_SHUTDOWN,
    EVENT_STRAY, // a published message that belongs to no open request
};

struct event {
    struct list link;
    enum event_kind kind;
    unsigned bits;
    bool last;
    struct rh_request *req; // a reference
    struct msg *msg;        // a reference
    int id;
    char uuid[256];
};

#define BURST_US 500 // the longest that a request is held back

#define WATCH_OUTPUT 4u // beside RH_DONE: tell me about every output

struct rh_client {
    atomic_uint refs;
    unsigned generation; // of forks, when it was opened
    bool packs, unpacks; // the wire does not speak JSON
    struct shm *shm;     // NULL: all goes through the sockets

    // Guards the sender: composing needs no other lock.
    pthread_mutex_t send_lock;
    struct session *signer;
    struct sender sender;
    struct buf metadata; // of the request being composed

    // Guards all that follows.
    pthread_mutex_t lock;
    atomic_bool closed;
    struct net_ctx *ctx;
    struct link_state link[N_LINKS];
    int watch_fd;              // epoll of the links' monitors
    bool link_news;            // the monitors have something to say
    bool stale;                // notifications may have been missed
    int64_t look_again_us;     // when to take them for missed anyway; 0: never
    struct rh_request *resync; // the question what was missed, or NULL
    uint64_t resync_version;   // of the engines when it was asked
    struct session *checker;
    struct ledger ledger;
    struct moment now; // of the last drain
    int64_t due_us;    // when the ledger has something to do

    bool met; // the hub answered: notifications may be taken in
    atomic_uint_fast64_t engines_version; // the ledger's, for all to read

    struct list waiters;    // in order of arrival
    struct waiter *driver;  // the one that polls, or NULL
    int waiter_fd;          // eventfd: ends the driver's poll
    int64_t last_wait_us;   // when a waiter last left
    unsigned n_polling;     // threads in poll(2)
    pthread_cond_t no_poll; // n_polling is 0
    pthread_condattr_t mono;

    // Requests that follow each other closely leave together.
    int64_t last_send_us;
    bool burst; // the runner flushes every BURST_US

    bool runner_parked, runner_polling;
    bool runner_deep; // parked without a time limit
    bool had_runner;
    bool runner_here; // in client_events
    pthread_cond_t runner_cond;
    int runner_fd;      // eventfd: ends the runner's poll
    atomic_bool woken;  // client_wake was called
    struct list ready;  // requests with news
    size_t n_watched;   // requests somebody wants events for
    struct list events; // all other events
    size_t n_events;

    int64_t last_output_us; // when anything was published
    uint64_t n_invalid, n_reported;
    int last_invalid; // code
    int64_t report_at_us;
    struct connfile conn;
};

struct rh_client *client_ref(struct rh_client *self);
void client_unref(struct rh_client **self_p);

/* 0, RH_ESTATE in a child of fork. */
int client_check(const struct rh_client *self, rh_error *err);

/* rh_client_open in steps, for callers who must look up in between: after
 * client_start call client_meet (again on RH_ETIMEDOUT or RH_EINTR) until the
 * hub has answered; give up with rh_client_free.
 */
int client_start(struct rh_client **out, const char *connection,
                 const rh_client_options *options, struct rh_request **hello,
                 rh_error *err);
int client_meet(struct rh_client *self, struct rh_request *hello,
                int timeout_ms, rh_error *err);

/* With the lock held. */
/* Hear of broken connections, fail what was lost; lowers due_us. */
void client_check_links(struct rh_client *self);
/* Ask the hub something; the answer stays with the caller.  NULL: cannot. */
struct rh_request *client_ask(struct rh_client *self, const char *msg_type);
extern const struct ledger_port client_port;
void client_drain(struct rh_client *self); // dirty links only
/* After sending: now, or together with what may follow. */
void client_hurry(struct rh_client *self, struct net_sock *sock);
void client_flush(struct rh_client *self);
void client_wake_all(struct rh_client *self);
void client_wake_waiter(struct rh_client *self, struct waiter *w);
void client_wake_runner(struct rh_client *self);
/* Drain, and do what is due. */
void client_catch_up(struct rh_client *self);
/* After client_catch_up: sleep until something happens, 'until_us' or a
 * signal, then catch up.  'fd' is the caller's eventfd.  0 or RH_EINTR.
 */
int client_poll(struct rh_client *self, int fd, bool *polling,
                int64_t until_us);
void client_drop_handle(struct rh_request *req);
void client_free_events(struct rh_client *self);

/* Next events, up to 'cap'; their number.  Drives the connections while nobody
 * waits.  0 on timeout or when client_wake was called, RH_ECLOSED when the
 * client is closed and no events are left.  Who gets an event must let go of
 * it with event_fini.
 */
int client_events(struct rh_client *self, struct event *out, size_t cap,
                  int timeout_ms, rh_error *err);
void event_fini(struct event *self);
/* From any thread, even in a release function: makes client_events return. */
void client_wake(struct rh_client *self);

/* Ask for events of a request, RH_DONE once and WATCH_OUTPUT any number of
 * times, up to one with 'last' set.  Counts as a handle until then.  1: this
 * begins a new series of events, 0: it joins one that is still to end.
 * RH_ECLOSED: the client is closed, no events will come.
 */
int client_watch(struct rh_request *req, unsigned bits, rh_error *err);
/* 1: no event will come any more, 0: one with 'last' will. */
int client_unwatch(struct rh_request *req, unsigned bits);

/* A new message id; MSG_ID_SIZE bytes. */
void client_next_id(struct rh_client *self, char *out);
/* Whether somebody holds a lock that submitting needs. */
bool client_is_busy(struct rh_client *self);

/* One more user of the request; rh_request_release lets go. */
void client_hold(struct rh_request *req);
/* A reference to each published message so far; mem_free the array. */
int client_outputs(struct rh_request *req, struct msg ***out, size_t *n);
/* A reference to the reply or the one made for a failure, as request_reply. */
int client_reply(struct rh_request *req, struct msg **out);

/* Buffers of one request on their way out. */
struct tracker;
void tracker_unref(struct tracker **self_p);

#endif /* CLIENT_CLIENT_H */
