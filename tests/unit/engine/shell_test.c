/* shell_test.c - what waits, seen by the control thread */
#include "support.h"

#include <sched.h>

#include "engine/private.h"

static struct engine engine;
static struct queued waits;

static int
set_up(void **state)
{
    (void)state;
    engine = (struct engine){.lifeline = -1};
    pthread_mutex_init(&engine.shell_lock, NULL);
    list_init(&engine.backlog);
    waits = (struct queued){.abort = false};
    list_append(&engine.backlog, &waits.node);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    pthread_mutex_destroy(&engine.shell_lock);
    return 0;
}

static void *
abort_waiting(void *arg)
{
    atomic_bool *begun = arg;

    atomic_store(begun, true);
    shell_abort_waiting(&engine, NULL);
    return NULL;
}

/* The lock is taken for each reply as well. */
static void
test_an_abort_while_a_reply_is_sent(void **state)
{
    atomic_bool begun = false;
    pthread_t control;

    (void)state;
    pthread_mutex_lock(&engine.shell_lock);
    assert_int_equal(pthread_create(&control, NULL, abort_waiting, &begun), 0);
    while (!atomic_load(&begun))
        sched_yield();
    for (int i = 0; i < 1000; i++) // let it try
        sched_yield();
    pthread_mutex_unlock(&engine.shell_lock);
    pthread_join(control, NULL);
    assert_true(waits.abort);
}

/* The main thread sleeps with the lock, for ever perhaps. */
static void
test_an_abort_of_nothing(void **state)
{
    (void)state;
    list_remove(&waits.node);
    pthread_mutex_lock(&engine.shell_lock);
    atomic_store(&engine.idle, true);
    shell_abort_waiting(&engine, NULL);
    pthread_mutex_unlock(&engine.shell_lock);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_abort_while_a_reply_is_sent,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_abort_of_nothing, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
