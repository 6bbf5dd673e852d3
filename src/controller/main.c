/* main.c - ipcontroller */
#include <malloc.h>

#include "controller/controller.h"

/* Messages are allocated in one thread and freed in another.  With an arena
 * for each thread glibc grows and trims them page by page, which costs a
 * system call for every other task.
 */
static void
tune_malloc(void)
{
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_TOP_PAD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

int
main(int argc, char **argv)
{
    tune_malloc();
    return controller_main(argc, argv);
}
