/* local_test.c - what a registration may claim about its process, and how its
 * end is told
 */
#include "controller/local.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

static struct span
claim(char text[256], const char *host, long long pid, int fd)
{
    int n = snprintf(text, 256,
                     "{\"version\": 1, \"host\": \"%s\", \"pid\": %lld, "
                     "\"begun\": %d}",
                     host, pid, fd);

    return span_of(text, (size_t)n);
}

static void
test_claims(void **state)
{
    struct begun *begun = begun_new();
    struct local local = {.begun = NULL};
    char host[PROCESS_HOST_SIZE], text[256], why[200];
    const struct {
        const char *host;
        long long pid;
        int fd;
        bool known, has_begun;
    } row[] = {
        {host, getpid(), begun_fd(begun), true, true},
        {host, getpid(), 0, true, false},  // something else
        {host, getpid(), -1, true, false}, // nothing
        {"elsewhere", getpid(), begun_fd(begun), false, false},
        {"", getpid(), begun_fd(begun), false, false},
        {host, 0, begun_fd(begun), false, false},
        {host, -1, begun_fd(begun), false, false},
        {host, 1LL << 40, begun_fd(begun), false, false},
    };

    (void)state;
    process_host(host);
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        local_meet(&local, claim(text, row[i].host, row[i].pid, row[i].fd));
        assert_int_equal(local.process.pid != 0, row[i].known);
        assert_int_equal(local.begun != NULL, row[i].has_begun);
        assert_false(local_is_dead(&local, why, sizeof(why)));
        assert_int_equal(*why != '\0', row[i].known);
    }
    local_meet(&local, SPAN_LIT("[1, 2]"));
    local_meet(&local, SPAN_LIT("{\"host\": 1, \"pid\": \"x\"}"));
    local_meet(&local, SPAN_NONE);
    assert_int_equal(local.process.pid, 0);
    begun_free(&begun);
}

/* Without memory less is known. */
static void
test_claims_without_memory(void **state)
{
    struct begun *begun = begun_new();
    struct local local = {.begun = NULL};
    char host[PROCESS_HOST_SIZE], text[256];

    (void)state;
    process_host(host);
    mem_fail_after(0);
    local_meet(&local, claim(text, host, getpid(), begun_fd(begun)));
    mem_fail_after(-1);
    assert_int_equal(local.process.pid, getpid());
    assert_null(local.begun);
    local_forget(&local);
    begun_free(&begun);
}

static void
test_ends(void **state)
{
    struct local local = {.begun = NULL};
    char host[PROCESS_HOST_SIZE], text[256], why[200];
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        pause();
        _exit(0);
    }
    process_host(host);
    local_meet(&local, claim(text, host, pid, -1));
    assert_false(local_is_dead(&local, why, sizeof(why)));
    snprintf(text, sizeof(text), "its process %d still runs", (int)pid);
    assert_string_equal(why, text);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    waitpid(pid, NULL, WUNTRACED);
    assert_false(local_is_dead(&local, why, sizeof(why)));
    snprintf(text, sizeof(text), "its process %d is stopped", (int)pid);
    assert_string_equal(why, text);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(
        waitid(P_PID, (id_t)pid, &(siginfo_t){.si_pid = 0}, WEXITED | WNOWAIT),
        0);
    assert_true(local_is_dead(&local, why, sizeof(why)));
    assert_string_equal(why, "its process was killed by signal 9 (SIGKILL)");
    waitpid(pid, NULL, 0);
    local_forget(&local);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_claims_without_memory),
        cmocka_unit_test(test_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
