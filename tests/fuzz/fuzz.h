/* fuzz.h - what every fuzz target includes
 *
 * A target is one function that libFuzzer calls with made-up input, and that
 * replay.c calls with the committed corpus.  It aborts when a property does
 * not hold; a crash or a sanitizer report is a finding as well.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "base/span.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(what)                                                           \
    do {                                                                      \
        if (!(what)) {                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, \
                    #what);                                                   \
            abort();                                                          \
        }                                                                     \
    } while (0)

/* Take a length byte and up to that many bytes off the front of 'in'. */
static inline struct span
fuzz_piece(struct span *in)
{
    struct span piece = SPAN_NONE;

    if (in->n == 0)
        return piece;
    piece = span_of(in->p + 1, in->p[0]);
    if (piece.n > in->n - 1)
        piece.n = in->n - 1;
    *in = span_of(piece.p + piece.n, in->n - 1 - piece.n);
    return piece;
}

#endif /* TESTS_FUZZ_H */
