/* support.h - what every C test includes */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include "base/mem.h"
#include "roundhouse/error.h"

/* Run 'body' with the 1st, 2nd, ... allocation failing until 'rc' (set by the
 * body) is not RH_ENOMEM.  What the body leaks, the address sanitizer finds.
 */
#define OOM_SWEEP(rc, body)               \
    do {                                  \
        long oom_n_ = 0;                  \
        do {                              \
            mem_fail_after(oom_n_++);     \
            body;                         \
            mem_fail_after(-1);           \
            assert_true(oom_n_ < 100000); \
        } while ((rc) == RH_ENOMEM);      \
    } while (0)

#endif /* TESTS_SUPPORT_H */
