/* shm_ticket.c - what stands in a message where a buffer would
 *
 *     "RHSHM\0\0\1" | token, 32 | size, 8, big endian | name, 144, zero-padded
 *
 * The token is the random name of the controller's directory, so no buffer of
 * a user's is a ticket by accident, and a ticket of another cluster is none.
 */
#include "net/shm_private.h"

#define MAGIC "RHSHM\0\0\1"
#define MAGIC_SIZE (sizeof(MAGIC) - 1)
#define TOKEN_AT MAGIC_SIZE
#define SIZE_AT (TOKEN_AT + SHM_TOKEN_SIZE - 1)
#define NAME_AT (SIZE_AT + 8)

_Static_assert(NAME_AT + SHM_NAME_SIZE == SHM_TICKET_SIZE, "layout");

bool
shm_name_is_valid(struct span name, size_t max)
{
    if (name.n == 0 || name.n > max || name.p[0] == '.')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z')
            && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '.')
            return false;
    }
    return true;
}

void
ticket_write(const struct shm *self, const struct ticket *ticket,
             uint8_t out[SHM_TICKET_SIZE])
{
    memset(out, 0, SHM_TICKET_SIZE);
    memcpy(out, MAGIC, MAGIC_SIZE);
    memcpy(out + TOKEN_AT, self->token, SHM_TOKEN_SIZE - 1);
    for (size_t i = 0; i < 8; i++)
        out[SIZE_AT + i] = (uint8_t)(ticket->size >> (56 - 8 * i));
    memcpy(out + NAME_AT, ticket->name, strlen(ticket->name));
}

bool
ticket_read(const struct shm *self, struct span frame, struct ticket *out)
{
    size_t n;

    if (frame.n != SHM_TICKET_SIZE || memcmp(frame.p, MAGIC, MAGIC_SIZE) != 0
        || memcmp(frame.p + TOKEN_AT, self->token, SHM_TOKEN_SIZE - 1) != 0)
        return false;
    out->size = 0;
    for (size_t i = 0; i < 8; i++)
        out->size = out->size << 8 | frame.p[SIZE_AT + i];
    memcpy(out->name, frame.p + NAME_AT, SHM_NAME_SIZE);
    n = strnlen(out->name, SHM_NAME_SIZE);
    for (size_t i = n; i < SHM_NAME_SIZE; i++)
        if (out->name[i])
            return false;
    return out->size > 0 && out->size <= SIZE_MAX / 8
           && shm_name_is_valid(span_of(out->name, n), SHM_NAME_SIZE - 1);
}

bool
shm_has_tickets(const struct shm *self, const struct msg *m)
{
    struct ticket ticket;

    if (!self)
        return false;
    for (uint32_t i = 0; i < msg_n_buffers(m); i++)
        if (ticket_read(self, msg_buffer(m, i), &ticket))
            return true;
    return false;
}
