/* mem.h - allocation that may fail, and can be told to
 *
 * Everything outside tests allocates through these, so that a test can fail
 * the 1st, 2nd, ... allocation of an operation (mem_fail_after) and see that
 * nothing is lost.  Sizes are multiplied with overflow checks.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t size);                       // NULL: out of memory
void *mem_zalloc(size_t n, size_t size);            // zeroed array
void *mem_alloc_aligned(size_t align, size_t size); // a multiple of align
/* For tables of megabytes that are read at random: on large pages, if the
 * system has them.
 */
void *mem_zalloc_huge(size_t n, size_t size);
void *mem_resize(void *p, size_t n, size_t size); // p stays valid on NULL
void *mem_dup(const void *p, size_t n);           // n == 0 gives 1 byte
char *mem_strdup(const char *s);                  // NULL in, NULL out
char *mem_strndup(const char *s, size_t n);       // always terminated
void mem_free(void *p);                           // NULL-safe

/* This thread's allocations succeed n more times, then fail until reset.
 * n < 0: never fail (the default).
 */
void mem_fail_after(long n);

#endif /* BASE_MEM_H */
