/* shm_private.h - the state of shm.h; for net/shm*.c only */
#ifndef NET_SHM_PRIVATE_H
#define NET_SHM_PRIVATE_H

#include <pthread.h>
#include <sys/types.h>

#include "base/list.h"
#include "net/shm.h"

#define SHM_TOKEN_SIZE 33 // hex digits
#define SHM_PEER_MAX 96   // a peer's name
#define SHM_NAME_SIZE 144 // a file's name

struct shm {
    atomic_uint refs; // its user's, and one per segment
    atomic_bool closed;
    pid_t pid; // a child of fork removes nothing
    bool is_host;
    int64_t dead_min_us, orphan_min_us; // ages; tests shorten them
    char token[SHM_TOKEN_SIZE];
    char peer[SHM_PEER_MAX + 1]; // a peer's name
    int dir;                     // the controller's directory
    int in;                      // its mailbox
    int own;                     // a peer's mailbox; the host's is 'in'

    pthread_mutex_t lock; // guards:
    uint64_t serial;      // of names
    struct list live;     // segments that can be passed on
    struct list kept;     // files to be used again, longest unused first
    size_t n_kept;
};

/* A mapped file; also the message of one frame that owns it. */
struct segment {
    struct msg base;
    struct span frame;
    struct shm *shm; // a reference
    struct list node;
    bool in_heap;
    char name[SHM_NAME_SIZE]; // if it can be passed on; else ""
};

struct ticket {
    uint64_t size;
    char name[SHM_NAME_SIZE];
};

/* shm_ticket.c */
void ticket_write(const struct shm *self, const struct ticket *ticket,
                  uint8_t out[SHM_TICKET_SIZE]);
bool ticket_read(const struct shm *self, struct span frame, struct ticket *out);
/* Whether a parsed message has tickets in it. */
bool shm_has_tickets(const struct shm *self, const struct msg *m);
bool shm_name_is_valid(struct span name, size_t max);

/* shm_segment.c: 'name' in the directory 'at'. */
int segment_open(struct shm *self, int at, const struct ticket *ticket,
                 struct segment **out, rh_error *err);
/* Keep it findable until it is destroyed. */
void segment_publish(struct segment *seg, const char *name);
/* Lock held. */
struct segment *segment_find(struct shm *self, struct span bytes);
void shm_unref(struct shm *self);

/* shm_dir.c */
bool shm_is_alive(const struct shm *self); // is its controller?

/* shm_pool.c */
void pool_drop_all(struct shm *self);

#endif /* NET_SHM_PRIVATE_H */
