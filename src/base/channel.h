/* channel.h - pointers from many threads to one
 *
 * A mutex, an array and an eventfd.  The producer touches the eventfd only
 * when the queue was empty, so a busy channel costs no system calls.  The
 * consumer takes everything that is there in one swap.
 */
#ifndef BASE_CHANNEL_H
#define BASE_CHANNEL_H

#include <stddef.h>

struct channel;

int channel_new(struct channel **out); // RH_ENOMEM, RH_EIO
/* Frees the channel; entries still inside are handed to 'drop' first. */
void channel_free(struct channel **self_p, void (*drop)(void *entry));
int channel_fd(const struct channel *self); // readable while entries wait
int channel_push(struct channel *self, void *entry); // RH_ENOMEM: not taken
/* All entries in order; *out is valid until the next call.  Returns how many.
 * Clears the eventfd.
 */
size_t channel_take(struct channel *self, void ***out);
size_t channel_size(struct channel *self);

#endif /* BASE_CHANNEL_H */
