/* direct.h - what direct.c (a socket) and conn.c (its connections) share
 *
 * Ownership: a socket owns its connections, listeners and the messages that
 * have arrived.  Everything here belongs to the thread that uses the socket.
 */
#ifndef NET_DIRECT_H
#define NET_DIRECT_H

#include "base/list.h"
#include "base/map.h"
#include "net/inflow.h"
#include "net/local.h"
#include "net/outflow.h"
#include "net/private.h"
#include "net/url.h"

enum source_kind { SOURCE_TIMER, SOURCE_LISTENER, SOURCE_CONN };

/* What an event of the epoll set is about. */
struct source {
    enum source_kind kind;
    int fd; // -1: none
};

enum conn_phase { CONN_IDLE, CONN_CONNECTING, CONN_GREETING, CONN_UP };

struct conn {
    struct source source;
    struct direct *sock;
    enum conn_phase phase;
    bool outgoing;     // made by net_connect: comes back when it breaks
    bool wants_out;    // EPOLLOUT is asked for
    struct list link;  // in sock->conns
    struct list dirty; // in sock->dirty: has output that was not tried yet
    struct list due;   // in sock->due, in the order of time
    int64_t due_ms;    // the handshake's end, or the next try
    uint8_t name[255]; // the peer's identity
    uint8_t n_name;
    struct inflow in;
    struct outflow out;
};

struct listener {
    struct source source;
    char *path; // file to be removed, or NULL
};

#define N_LISTENERS 8

struct direct {
    struct net_sock base;
    enum net_type type;
    bool mandatory, corked;
    bool served; // net_recv has looked since it last said RH_EAGAIN
    int linger_ms;
    int64_t max_size;
    uint32_t max_frames;
    uint8_t identity[255];
    uint8_t n_identity;
    char *url; // of net_connect, or NULL
    char local[LOCAL_SECRET];
    int epoll_fd;
    struct source timer;
    struct listener listener[N_LISTENERS];
    size_t n_listeners;
    bool paused; // not listening until pause_end_ms
    int64_t pause_end_ms;
    struct list conns, dirty, due;
    struct map names; // ROUTER: from a peer's name to its conn
    uint32_t next_name;
    // Messages that have arrived: a ring.
    struct msg **ring;
    size_t ring_at, ring_n, ring_cap;
    int dropped; // code of a message that could not be taken, or 0
    int64_t complain_at_ms;
    // Changes that net_monitor_read has not told yet; they alternate.
    int monitor_fd;
    unsigned n_changes;
    bool next_is_up;
    uint8_t *scratch; // INFLOW_SCRATCH bytes
};

int direct_push(struct direct *self, struct msg *m); // RH_ENOMEM
void direct_set_timer(struct direct *self);
bool direct_may_complain(struct direct *self); // not more often than a second
void direct_tell_change(struct direct *self, bool up);

struct conn *conn_new(struct direct *sock);
void conn_free(struct conn *self);
/* A new try; what goes wrong shows later. */
void conn_connect(struct conn *self);
/* 'fd' was accepted; takes it, whatever happens. */
void conn_accept(struct direct *sock, int fd);
/* Write what waits; what cannot be written yet wakes the owner later. */
void conn_write(struct conn *self);
/* 'events' as epoll has them.  May free the connection. */
void conn_on_events(struct conn *self, uint32_t events);
/* Its time has come.  May free the connection. */
void conn_on_time(struct conn *self);

#endif /* NET_DIRECT_H */
