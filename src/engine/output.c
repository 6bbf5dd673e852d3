/* output.c - a fixed buffer and its runs
 *
 * Invariant: the runs cover [0, n) in order, none is empty, neighbours differ
 * in their stream.
 */
#include "engine/output.h"

#include "base/mem.h"

int
output_init(struct output *self)
{
    *self = (struct output){.text = mem_alloc(OUTPUT_BYTES)};
    return self->text ? 0 : RH_ENOMEM;
}

void
output_fini(struct output *self)
{
    mem_free(self->text);
    self->text = NULL;
}

size_t
output_cut(struct span text, size_t room)
{
    size_t n = room;

    if (text.n <= room)
        return text.n;
    while (n > 0 && room - n < 3 && (text.p[n] & 0xc0) == 0x80)
        n--;
    return (text.p[n] & 0xc0) == 0x80 ? room : n;
}

size_t
output_add(struct output *self, int stream, struct span text)
{
    struct output_run *last =
        self->n_runs ? &self->run[self->n_runs - 1] : NULL;
    size_t n = output_cut(text, OUTPUT_BYTES - self->n);

    if (n == 0)
        return 0;
    if (!last || last->stream != stream) {
        if (self->n_runs == OUTPUT_RUNS)
            return 0;
        last = &self->run[self->n_runs++];
        *last = (struct output_run){(uint8_t)stream, self->n, 0};
    }
    memcpy(self->text + self->n, text.p, n);
    last->n += (uint32_t)n;
    self->n += (uint32_t)n;
    return n;
}

void
output_drop(struct output *self, uint32_t n)
{
    uint32_t bytes;

    if (n >= self->n_runs) {
        self->n_runs = self->n = 0;
        return;
    }
    bytes = self->run[n].start;
    memmove(self->text, self->text + bytes, self->n - bytes);
    memmove(self->run, self->run + n,
            (self->n_runs - n) * sizeof(self->run[0]));
    self->n -= bytes;
    self->n_runs -= n;
    for (uint32_t i = 0; i < self->n_runs; i++)
        self->run[i].start -= bytes;
}
