/* mem.c - allocation with a fault switch
 *
 * The switch is per thread, so a test of one thread cannot starve another.
 * It costs one thread-local load and a compare that is never taken.
 */
#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// initial-exec: a plain load even inside a shared object.
static _Thread_local long fail_after
    __attribute__((tls_model("initial-exec"))) = -1;

static bool
must_fail(void)
{
    if (fail_after < 0)
        return false;
    if (fail_after == 0)
        return true;
    fail_after--;
    return false;
}

void
mem_fail_after(long n)
{
    fail_after = n < 0 ? -1 : n;
}

/* n * size, at least 1: what realloc gets must not mean "free".  False if no
 * object can be that large.
 */
static bool
total(size_t n, size_t size, size_t *out)
{
    if (__builtin_mul_overflow(n, size, out) || *out > PTRDIFF_MAX)
        return false;
    if (*out == 0)
        *out = 1;
    return true;
}

void *
mem_alloc(size_t size)
{
    return !total(size, 1, &size) || must_fail() ? NULL : malloc(size);
}

void *
mem_zalloc(size_t n, size_t size)
{
    return !total(n, size, &n) || must_fail() ? NULL : calloc(1, n);
}

void *
mem_alloc_aligned(size_t align, size_t size)
{
    return must_fail() ? NULL : aligned_alloc(align, size);
}

void *
mem_zalloc_huge(size_t n, size_t size)
{
    const uintptr_t page = 2U << 20;
    void *p = mem_zalloc(n, size);
    uintptr_t from = ((uintptr_t)p + page - 1) & ~(page - 1);
    uintptr_t to = p ? ((uintptr_t)p + n * size) & ~(page - 1) : 0;

    // Only a wish: the whole pages inside, before anybody touches them.
    if (to > from)
        (void)madvise((char *)p + (from - (uintptr_t)p), to - from,
                      MADV_HUGEPAGE);
    return p;
}

void *
mem_resize(void *p, size_t n, size_t size)
{
    return !total(n, size, &n) || must_fail() ? NULL : realloc(p, n);
}

void *
mem_dup(const void *p, size_t n)
{
    void *copy = mem_alloc(n);

    if (copy && n)
        memcpy(copy, p, n);
    return copy;
}

char *
mem_strdup(const char *s)
{
    return s ? mem_strndup(s, strlen(s)) : NULL;
}

char *
mem_strndup(const char *s, size_t n)
{
    char *copy = n < SIZE_MAX ? mem_alloc(n + 1) : NULL;

    if (!copy)
        return NULL;
    if (n)
        memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

void
mem_free(void *p)
{
    free(p);
}
