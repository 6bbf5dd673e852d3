/* outcome.c - results on their way from the interpreter to a reply */
#include "base/mem.h"
#include "engine/interp.h"

void
outcome_fini(struct outcome *self)
{
    for (size_t i = 0; i < self->n_buffers; i++)
        msg_unref(&self->owner[i]);
    mem_free(self->buffer);
    mem_free(self->owner);
    buf_fini(&self->content);
    *self = (struct outcome){.status = OUTCOME_OK};
}

static int
grow(struct outcome *self)
{
    size_t cap = self->cap_buffers ? 2 * self->cap_buffers : 8;
    struct span *buffer;
    struct msg **owner;

    if (self->n_buffers < self->cap_buffers)
        return 0;
    buffer = mem_resize(self->buffer, cap, sizeof(*buffer));
    if (!buffer)
        return RH_ENOMEM;
    self->buffer = buffer;
    owner = mem_resize(self->owner, cap, sizeof(struct msg *));
    if (!owner)
        return RH_ENOMEM;
    self->owner = owner;
    self->cap_buffers = cap;
    return 0;
}

int
outcome_add(struct outcome *self, struct span buffer, struct msg **owner)
{
    if (grow(self) < 0)
        return RH_ENOMEM;
    self->buffer[self->n_buffers] = buffer;
    self->owner[self->n_buffers++] = owner ? *owner : NULL;
    if (owner)
        *owner = NULL;
    return 0;
}

void
outcome_fail(struct outcome *self, const char *ename, const char *evalue)
{
    outcome_fini(self);
    self->status = OUTCOME_ERROR;
    buf_add_str(&self->content, "\"traceback\": [], \"ename\": ");
    buf_add_json_str(&self->content, span_str(ename));
    buf_add_str(&self->content, ", \"evalue\": ");
    buf_add_json_str(&self->content, span_str(evalue));
}
