/* note.c - see note.h */
#include "controller/note.h"

#include <time.h>

#include "base/log.h"
#include "base/mem.h"

struct note *
note_new(enum note_kind kind, struct span uuid, struct span text)
{
    struct note *self;
    uint8_t *p;

    if (uuid.n > UINT16_MAX || text.n > UINT16_MAX)
        return NULL; // no name or phrase is that long
    self = mem_alloc(sizeof(*self) + uuid.n + text.n);
    if (!self)
        return NULL;
    p = (uint8_t *)(self + 1);
    *self = (struct note){
        .kind = kind,
        .uuid = {p, uuid.n},
        .text = {p + uuid.n, text.n},
    };
    if (uuid.n)
        memcpy(p, uuid.p, uuid.n);
    if (text.n)
        memcpy(p + uuid.n, text.p, text.n);
    return self;
}

void
note_free(struct note **self_p)
{
    struct note *self = *self_p;

    if (!self)
        return;
    msg_unref(&self->m);
    begun_free(&self->begun);
    mem_free(self);
    *self_p = NULL;
}

void
note_drop(void *note)
{
    struct note *self = note;

    note_free(&self);
}

int
note_push(struct channel *to, struct note **note_p)
{
    int rc = channel_push(to, *note_p);

    if (rc == 0)
        *note_p = NULL;
    return rc;
}

int
note_push_msg(struct channel *to, enum note_kind kind, struct msg *m)
{
    struct note *note = note_new(kind, SPAN_NONE, SPAN_NONE);
    int rc;

    if (!note)
        return RH_ENOMEM;
    note->m = msg_ref(m);
    rc = note_push(to, &note);
    note_free(&note);
    return rc;
}

void
note_push_sure(struct channel *to, enum note_kind kind, struct span uuid,
               struct span text, const struct note *fields)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    bool told = false;

    for (;; nanosleep(&pause, NULL)) {
        struct note *note = note_new(kind, uuid, text);

        if (note) {
            if (fields) {
                note->engine = fields->engine;
                note->capabilities = fields->capabilities;
                note->grace_ms = fields->grace_ms;
                note->seq = fields->seq;
                note->begun = fields->begun;
            }
            if (note_push(to, &note) == 0)
                return;
            note->begun = NULL; // for the next try
            note_free(&note);
        }
        if (!told)
            log_error("out of memory: waiting to pass on news of an engine");
        told = true;
    }
}
