/* output.h - text waiting to be published
 *
 * Two streams share one buffer, so that their order is kept; a run is a
 * stretch of one stream.  No lock and no socket: iopub.c has both.
 */
#ifndef ENGINE_OUTPUT_H
#define ENGINE_OUTPUT_H

#include "base/buf.h"
#include "roundhouse/error.h"

#define OUTPUT_BYTES 65536 // at most this much waits
#define OUTPUT_RUNS 64

struct output_run {
    uint8_t stream;
    uint32_t start, n;
};

struct output {
    uint8_t *text; // OUTPUT_BYTES
    uint32_t n;
    struct output_run run[OUTPUT_RUNS];
    uint32_t n_runs;
};

int output_init(struct output *self); // RH_ENOMEM
void output_fini(struct output *self);
/* Take as much as fits, never half a UTF-8 sequence; returns how much. */
size_t output_add(struct output *self, int stream, struct span text);
/* The longest prefix of at most 'room' bytes that ends between characters.
 * Bytes that are no UTF-8 may be cut anywhere.
 */
size_t output_cut(struct span text, size_t room);
/* Drop the first 'n' runs. */
void output_drop(struct output *self, uint32_t n);

static inline struct span
output_text(const struct output *self, uint32_t run)
{
    return span_of(self->text + self->run[run].start, self->run[run].n);
}

#endif /* ENGINE_OUTPUT_H */
