/* lifeline_test.c - the offer, the line, and the end */
#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/lifeline.h"

// clang-format off
static const struct {
    const char *name, *json;
    int rc;
} offers[] = {
    { "ours",        "{\"version\": 1, \"lifeline\": {\"port\": 5, \"token\": \"aF0\"}}", 0 },
    { "more keys",   "{\"x\": [], \"version\": 1, \"lifeline\": {\"y\": 1, \"port\": 5, "
                     "\"token\": \"aF0\"}}", 0 },
    { "none",        "",                                                 RH_ENOENT },
    { "null",        "null",                                             RH_ENOENT },
    { "no lifeline", "{\"version\": 1}",                                 RH_ENOENT },
    { "null inside", "{\"version\": 1, \"lifeline\": null}",             RH_ENOENT },
    { "later",       "{\"version\": 2, \"lifeline\": {\"port\": 5, \"token\": \"a\"}}", RH_ENOENT },
    { "no object",   "[1]",                                              RH_EPROTO },
    { "a number",    "{\"version\": 1, \"lifeline\": 3}",                RH_EPROTO },
    { "port 0",      "{\"version\": 1, \"lifeline\": {\"port\": 0, \"token\": \"a\"}}", RH_EPROTO },
    { "port 65536",  "{\"version\": 1, \"lifeline\": {\"port\": 65536, \"token\": \"a\"}}", RH_EPROTO },
    { "no port",     "{\"version\": 1, \"lifeline\": {\"token\": \"a\"}}", RH_EPROTO },
    { "no token",    "{\"version\": 1, \"lifeline\": {\"port\": 5}}",    RH_EPROTO },
    { "empty token", "{\"version\": 1, \"lifeline\": {\"port\": 5, \"token\": \"\"}}", RH_EPROTO },
    { "not hex",     "{\"version\": 1, \"lifeline\": {\"port\": 5, \"token\": \"a\\nb\"}}", RH_EPROTO },
};
// clang-format on

static void
test_offers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
        char token[129];
        int port = -1;

        print_message("%s\n", offers[i].name);
        assert_int_equal(lifeline_offer(span_str(offers[i].json), &port, token),
                         offers[i].rc);
        if (offers[i].rc == 0) {
            assert_int_equal(port, 5);
            assert_string_equal(token, "aF0");
        } else {
            assert_int_equal(port, -1);
        }
    }
}

static void
test_a_long_token_is_refused(void **state)
{
    char json[512], token[129], hex[130];
    int port;

    (void)state;
    memset(hex, 'a', 129);
    for (int n = 128; n <= 129; n++) {
        hex[n] = '\0';
        (void)snprintf(json, sizeof(json),
                       "{\"version\": 1, \"lifeline\": {\"port\": 1, "
                       "\"token\": \"%s\"}}",
                       hex);
        assert_int_equal(lifeline_offer(span_str(json), &port, token),
                         n == 128 ? 0 : RH_EPROTO);
        hex[n] = 'a';
    }
}

static void
test_the_other_end_is_missed(void **state)
{
    int fd[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    assert_false(lifeline_is_broken(-1));
    assert_false(lifeline_is_broken(fd[0]));
    close(fd[1]);
    assert_true(lifeline_is_broken(fd[0]));
    close(fd[0]);
}

static int
listen_here(int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

/* Everything until the other end closes. */
static void
read_all(int fd, char *out, size_t cap)
{
    size_t n = 0;
    ssize_t got;

    while (n + 1 < cap && (got = read(fd, out + n, cap - 1 - n)) > 0)
        n += (size_t)got;
    out[n] = '\0';
}

static void
test_hello_and_goodbye(void **state)
{
    char text[256];
    int port, server = listen_here(&port), peer, fd;

    (void)state;
    fd = lifeline_open("tcp://127.0.0.1:9", port, "c0ffee", "E0", 5000, NULL);
    assert_true(fd >= 0);
    peer = accept(server, NULL, NULL);
    lifeline_close(&fd, "SIGTERM");
    assert_int_equal(fd, -1);
    lifeline_close(&fd, "again");
    read_all(peer, text, sizeof(text));
    assert_string_equal(text, "RHLIFE1 E0 c0ffee\nEXIT SIGTERM\n");
    close(peer);
    close(server);
}

static void
test_a_forked_child_does_not_hold_it(void **state)
{
    char text[256];
    int port, server = listen_here(&port), peer, fd, hold[2];
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(hold), 0);
    fd = lifeline_open("tcp://localhost:9", port, "ab", "E0", 5000, NULL);
    assert_true(fd >= 0);
    peer = accept(server, NULL, NULL);
    pid = fork();
    if (pid == 0) {
        close(hold[1]);
        read_all(hold[0], text, sizeof(text)); // lives until we let it go
        _exit(0);
    }
    lifeline_close(&fd, NULL);
    read_all(peer, text, sizeof(text)); // would hang if the child held it
    assert_string_equal(text, "RHLIFE1 E0 ab\n");
    close(hold[1]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(hold[0]);
    close(peer);
    close(server);
}

static void
test_what_cannot_be_reached_is_named(void **state)
{
    rh_error err = {.code = 0};
    int port, server = listen_here(&port);

    (void)state;
    close(server);
    assert_int_equal(
        lifeline_open("tcp://127.0.0.1:9", port, "a", "E", 1000, &err),
        RH_ENET);
    assert_non_null(strstr(err.text, "127.0.0.1"));
    assert_int_equal(lifeline_open("ipc:///x", port, "a", "E", 1000, &err),
                     RH_EINVAL);
    assert_non_null(strstr(err.text, "ipc:///x"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offers),
        cmocka_unit_test(test_a_long_token_is_refused),
        cmocka_unit_test(test_the_other_end_is_missed),
        cmocka_unit_test(test_hello_and_goodbye),
        cmocka_unit_test(test_a_forked_child_does_not_hold_it),
        cmocka_unit_test(test_what_cannot_be_reached_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
