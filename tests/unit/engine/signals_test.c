/* signals_test.c - names, and who is interrupted when */
#include "support.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/signals.h"

static const struct {
    const char *name;
    int number;
} names[] = {
    {"SIGINT", SIGINT},
    {"INT", SIGINT},
    {"2", 2},
    {"SIGKILL", SIGKILL},
    {"SIGUSR1", SIGUSR1},
    {"0", 0},
    {"64", 64},
    {"", RH_EINVAL},
    {"SIG", RH_EINVAL},
    {"sigint", RH_EINVAL},
    {"SIGFOO", RH_EINVAL},
    {"-1", RH_EINVAL},
    {"999", RH_EINVAL},
    {"1x", RH_EINVAL},
    {"12345", RH_EINVAL},
};

static void
test_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(signals_number(span_str(names[i].name)),
                         names[i].number);
}

static volatile sig_atomic_t interrupts;

static void
on_interrupt(void *ctx)
{
    (void)ctx;
    interrupts++;
}

static void
ignore(int sig)
{
    (void)sig;
}

static void
test_only_running_code_is_interrupted(void **state)
{
    const struct interp interp = {.interrupt = on_interrupt};
    int fd = eventfd(0, EFD_NONBLOCK);

    (void)state;
    interrupts = 0;
    assert_int_equal(signals_install(&interp, fd, NULL), 0);
    assert_int_equal(signals_raise(SIGINT), 0);
    assert_int_equal(interrupts, 0);
    signals_running(1);
    assert_int_equal(signals_raise(SIGINT), 0);
    assert_int_equal(interrupts, 1);
    signal(SIGINT, ignore); // user code may do that, until its end
    assert_int_equal(signals_raise(SIGINT), 0);
    assert_int_equal(interrupts, 1);
    signals_running(0);
    signals_running(2);
    assert_int_equal(signals_raise(SIGINT), 0);
    assert_int_equal(interrupts, 2);
    signals_restore();
    signals_restore();
    close(fd);
}

static void
interrupt_job(unsigned long job)
{
    const struct timespec some = {0, 1000000};

    signals_interrupt_job(job);
    nanosleep(&some, NULL); // sanitizers deliver signals at system calls
}

static void
test_a_job_is_interrupted_and_no_other(void **state)
{
    const struct interp interp = {.interrupt = on_interrupt};
    int fd = eventfd(0, EFD_NONBLOCK);

    (void)state;
    interrupts = 0;
    assert_int_equal(signals_install(&interp, fd, NULL), 0);
    signals_running(7);
    assert_false(signals_wanted());
    interrupt_job(7);
    assert_int_equal(interrupts, 1);
    interrupt_job(6); // it has ended
    assert_int_equal(interrupts, 1);
    assert_int_equal(signals_raise(SIGINT), 0); // for whoever runs
    assert_int_equal(interrupts, 2);
    signals_running(0);
    interrupt_job(8); // about to begin
    assert_int_equal(interrupts, 2);
    signals_running(8);
    assert_true(signals_wanted());
    signals_running(0);
    signals_running(9);
    assert_false(signals_wanted());
    signals_restore();
    close(fd);
}

static void
test_sigterm_is_an_event(void **state)
{
    const struct interp interp = {.interrupt = on_interrupt};
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t count = 0;

    (void)state;
    assert_int_equal(signals_install(&interp, fd, NULL), 0);
    assert_int_equal(signals_raise(SIGTERM), 0);
    assert_int_equal(signals_raise(SIGTERM), 0);
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 2);
    signals_restore();
    close(fd);
}

static void
test_a_forked_child_is_no_engine(void **state)
{
    const struct interp interp = {.interrupt = on_interrupt};
    int fd = eventfd(0, EFD_NONBLOCK), status = 0;
    uint64_t count;
    pid_t pid;

    (void)state;
    assert_int_equal(signals_install(&interp, fd, NULL), 0);
    pid = fork();
    if (pid == 0) {
        raise(SIGTERM);
        _exit(0); // not reached
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    assert_int_equal(read(fd, &count, sizeof(count)), -1); // we were not told
    signals_restore();
    close(fd);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_only_running_code_is_interrupted),
        cmocka_unit_test(test_a_job_is_interrupted_and_no_other),
        cmocka_unit_test(test_sigterm_is_an_event),
        cmocka_unit_test(test_a_forked_child_is_no_engine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
