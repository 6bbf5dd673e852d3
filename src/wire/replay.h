/* replay.h - which signatures were seen; private to wire
 *
 * A bounded set that forgets its oldest tenth when it is full.  Entries are
 * the first 16 bytes of HMACs that have been verified, so nobody can choose
 * them and their own bits serve as the hash.
 */
#ifndef WIRE_REPLAY_H
#define WIRE_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#define REPLAY_ENTRY 16
#define REPLAY_MAX 65536

struct replay {
    uint8_t (*ring)[REPLAY_ENTRY]; // oldest first, from 'head' on, wrapping
    uint32_t *index;               // 2 * cap slots, see replay.c
    uint32_t cap, head, n;         // cap: a power of two, or 0
};

void replay_fini(struct replay *self);
/* 0: remembered; RH_EREPLAY: was there; RH_ENOMEM: nothing changed. */
int replay_add(struct replay *self, const uint8_t digest[REPLAY_ENTRY]);
/* As if it had never been seen. */
void replay_forget(struct replay *self, const uint8_t digest[REPLAY_ENTRY]);

#endif /* WIRE_REPLAY_H */
