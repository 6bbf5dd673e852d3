/* process_test.c - what can be told of a child, alive and dead */
#include "base/process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "roundhouse/error.h"
#include "support.h"

/* A child that waits to be killed, or exits when its pipe is closed. */
static pid_t
start_child(int code, int *gate)
{
    int ends[2];
    char c;
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        close(ends[1]);
        if (read(ends[0], &c, 1) < 0)
            _exit(99);
        _exit(code);
    }
    assert_true(pid > 0);
    close(ends[0]);
    *gate = ends[1];
    return pid;
}

/* It has ended, but nobody has asked for its status. */
static void
await(pid_t pid, int options)
{
    siginfo_t info;

    assert_int_equal(waitid(P_PID, (id_t)pid, &info, options | WNOWAIT), 0);
}

static void
test_killed(void **state)
{
    struct process p;
    int gate, status;
    char text[80];
    pid_t pid = start_child(0, &gate);

    (void)state;
    assert_int_equal(process_find(&p, pid), 0);
    assert_int_equal(process_look(&p, &status), PROCESS_RUNS);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    await(pid, WSTOPPED);
    assert_int_equal(process_look(&p, &status), PROCESS_STOPPED);
    assert_int_equal(kill(pid, SIGKILL), 0);
    await(pid, WEXITED);
    assert_int_equal(process_look(&p, &status), PROCESS_ENDED);
    process_epitaph(status, text, sizeof(text));
    assert_string_equal(text, "was killed by signal 9 (SIGKILL)");
    waitpid(pid, NULL, 0);
    assert_int_equal(process_look(&p, &status), PROCESS_ENDED);
    if (status >= 0) // a kernel that keeps it
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    process_forget(&p);
    assert_int_equal(process_look(&p, &status), PROCESS_ENDED);
    process_epitaph(status, text, sizeof(text));
    assert_string_equal(text, "ended");
    process_forget(&p);
    assert_int_equal(process_find(&p, pid), RH_ENOENT);
    close(gate);
}

static void
test_exited(void **state)
{
    struct process p;
    int gate, status;
    char text[80];
    pid_t pid = start_child(3, &gate);

    (void)state;
    assert_int_equal(process_find(&p, pid), 0);
    close(gate);
    await(pid, WEXITED);
    assert_int_equal(process_look(&p, &status), PROCESS_ENDED);
    process_epitaph(status, text, sizeof(text));
    assert_string_equal(text, "ended with exit code 3");
    waitpid(pid, NULL, 0);
    process_forget(&p);
}

/* The same number is not the same process. */
static void
test_another_of_that_number(void **state)
{
    struct process p;
    int status;

    (void)state;
    assert_int_equal(process_find(&p, getpid()), 0);
    assert_int_equal(process_look(&p, &status), PROCESS_RUNS);
    p.start++;
    assert_int_equal(process_look(&p, &status), PROCESS_ENDED);
    process_forget(&p);
    assert_int_equal(process_find(&p, 0), RH_ENOENT);
    assert_int_equal(process_find(&p, -1), RH_ENOENT);
}

static void
test_host(void **state)
{
    char a[PROCESS_HOST_SIZE], b[PROCESS_HOST_SIZE];

    (void)state;
    process_host(a);
    process_host(b);
    assert_string_equal(a, b);
    assert_true(strlen(a) > 36);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_exited),
        cmocka_unit_test(test_another_of_that_number),
        cmocka_unit_test(test_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
