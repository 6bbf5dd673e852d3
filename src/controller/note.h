/* note.h - what the controller's threads tell each other
 *
 * A note is one allocation that travels through a channel and is freed by the
 * thread that takes it.  Messages inside are shared by reference.  Who sends
 * what to whom:
 *
 *   hub    -> heart        EXPECT, BEATING, FORGET    which hearts to listen
 * for hub    -> relay, task  ENGINE_UP, ENGINE_DOWN     before clients are told
 *   hub    -> task         SUBMIT                     a task of the hub's own
 *   hub    -> task         ASK                        a client's question
 *   task   -> hub          ANSWER                     to it
 *   heart  -> hub          HEART_STARTED, HEART_STOPPED
 *   relay  -> hub          TRAFFIC
 *   task   -> relay        WITHDRAW                   a request to an engine
 *   relay  -> task         WITHDRAWN                  its answer
 *   relay  -> task         ABORT                      a client's to an engine
 *   task   -> hub          TRAFFIC, ASSIGNED
 */
#ifndef CONTROLLER_NOTE_H
#define CONTROLLER_NOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/begun.h"
#include "base/channel.h"
#include "base/span.h"
#include "wire/msg.h"

enum note_kind {
    NOTE_EXPECT,
    NOTE_BEATING,
    NOTE_FORGET,
    NOTE_ENGINE_UP,
    NOTE_ENGINE_DOWN,
    NOTE_SUBMIT,
    NOTE_HEART_STARTED,
    NOTE_HEART_STOPPED,
    NOTE_TRAFFIC,
    NOTE_ASSIGNED,
    NOTE_WITHDRAW,
    NOTE_WITHDRAWN,
    NOTE_ASK,
    NOTE_ANSWER,
    NOTE_ABORT
};

struct note {
    enum note_kind kind;
    int hub_kind;          // TRAFFIC: enum hub_kind
    int engine;            // ENGINE_*: id
    uint32_t capabilities; // ENGINE_UP
    int64_t grace_ms;      // ENGINE_DOWN: replies this late still count
    uint64_t seq;          // ENGINE_*: number of the event, from 1
    size_t bytes;          // TRAFFIC: counted in the backlog
    struct begun *begun;   // ENGINE_DOWN: what it had begun, or NULL; owned
    struct msg *m;         // SUBMIT, TRAFFIC, WITHDRAW*, ASK...: owned
    struct span uuid;      // inside this allocation, as is
    struct span text;      // ENGINE_DOWN: why; ASSIGNED: msg_id
};

/* NULL: out of memory. */
struct note *note_new(enum note_kind kind, struct span uuid, struct span text);
void note_free(struct note **self_p);
void note_drop(void *note); // for channel_free

/* A note that carries a message, of which it takes a reference. */
int note_push_msg(struct channel *to, enum note_kind kind, struct msg *m);

/* Takes the note unless it returns RH_ENOMEM. */
int note_push(struct channel *to, struct note **note_p);

/* For news that must not get lost: waits for memory if there is none.  Takes
 * what the fields own.
 */
void note_push_sure(struct channel *to, enum note_kind kind, struct span uuid,
                    struct span text, const struct note *fields);

#endif /* CONTROLLER_NOTE_H */
