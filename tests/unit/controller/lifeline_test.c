/* lifeline_test.c - over real sockets of this machine, with a made-up clock */
#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "controller/lifeline.h"

struct record {
    struct lifeline *lifeline;
    int n;
    char uuid[64], why[256];
    bool orderly;
};

static void
on_lost(void *ctx, struct span uuid, const char *why, bool orderly)
{
    struct record *r = ctx;

    // As the hub does: what the name points to may go away in here.
    lifeline_forget(r->lifeline, uuid);
    r->n++;
    snprintf(r->uuid, sizeof(r->uuid), "%.*s", (int)uuid.n,
             (const char *)uuid.p);
    snprintf(r->why, sizeof(r->why), "%s", why);
    r->orderly = orderly;
}

static int
setup(void **state)
{
    struct record *r = mem_zalloc(1, sizeof(*r));
    const struct lifeline_port port = {.ctx = r, .lost = on_lost};
    int tcp_port = 0;

    assert_non_null(r);
    assert_int_equal(
        lifeline_new(&r->lifeline, &port, "127.0.0.1", &tcp_port, NULL), 0);
    assert_int_equal(lifeline_tcp_port(r->lifeline), tcp_port);
    *state = r;
    return 0;
}

static int
teardown(void **state)
{
    struct record *r = *state;

    lifeline_free(&r->lifeline);
    mem_free(r);
    return 0;
}

static int
dial(const struct record *r)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)lifeline_tcp_port(r->lifeline)),
        .sin_addr = {htonl(INADDR_LOOPBACK)},
    };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void
say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
                     (int)strlen(text));
}

/* Whatever has been sent to it is on the way: take it. */
static void
serve(struct record *r, int64_t now)
{
    struct pollfd item = {.fd = lifeline_fd(r->lifeline), .events = POLLIN};

    while (poll(&item, 1, 50) > 0)
        (void)lifeline_handle(r->lifeline, now);
    (void)lifeline_handle(r->lifeline, now);
}

static bool
hung_up(int fd)
{
    char c;

    return recv(fd, &c, 1, MSG_DONTWAIT) == 0;
}

static void
hello(struct record *r, int fd, const char *uuid, const char *token)
{
    char line[128];

    snprintf(line, sizeof(line), "RHLIFE1 %s %s\n", uuid, token);
    say(fd, line);
    serve(r, 0);
}

static void
test_an_end_without_words(void **state)
{
    struct record *r = *state;
    char token[LIFELINE_TOKEN_SIZE];
    int fd = dial(r);

    assert_int_equal(lifeline_expect(r->lifeline, SPAN_LIT("e1"), token), 0);
    hello(r, fd, "e1", token);
    assert_false(hung_up(fd));
    assert_int_equal(r->n, 0);
    close(fd);
    serve(r, 0);
    assert_int_equal(r->n, 1);
    assert_string_equal(r->uuid, "e1");
    assert_string_equal(r->why, "its process ended");
    assert_false(r->orderly);
}

static void
test_last_words(void **state)
{
    struct record *r = *state;
    char token[LIFELINE_TOKEN_SIZE];
    int fd = dial(r);

    assert_int_equal(lifeline_expect(r->lifeline, SPAN_LIT("e1"), token), 0);
    hello(r, fd, "e1", token);
    say(fd, "SOMETHING NEW\nEXIT bored\x1b[31m\n");
    close(fd);
    serve(r, 0);
    assert_int_equal(r->n, 1);
    assert_non_null(strstr(r->why, "bored"));
    assert_null(strchr(r->why, '\x1b'));
    assert_true(r->orderly);
}

static void
test_strangers_are_refused(void **state)
{
    static const char *const lines[] = {
        "RHLIFE1 e1 00000000000000000000000000000000\n",
        "RHLIFE1 e2 %s\n",
        "RHLIFE1 e1%s\n",
        "RHLIFE1  %s\n",
        "RHLIFE1 %s\n",
        "rhlife1 e1 %s\n",
        "\n",
    };
    struct record *r = *state;
    char token[LIFELINE_TOKEN_SIZE], line[128];

    assert_int_equal(lifeline_expect(r->lifeline, SPAN_LIT("e1"), token), 0);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        const char *mark = strstr(lines[i], "%s");
        int fd = dial(r);

        if (mark)
            snprintf(line, sizeof(line), "%.*s%s%s", (int)(mark - lines[i]),
                     lines[i], token, mark + 2);
        else
            snprintf(line, sizeof(line), "%s", lines[i]);
        say(fd, line);
        serve(r, 0);
        assert_true(hung_up(fd));
        close(fd);
    }
    assert_int_equal(r->n, 0);
}

static void
test_silence_and_length_are_limited(void **state)
{
    struct record *r = *state;
    char flood[LIFELINE_LINE_MAX + 1];
    int silent = dial(r), loud = dial(r);

    serve(r, 1000);
    assert_int_equal(lifeline_handle(r->lifeline, 1000),
                     1000 + LIFELINE_HELLO_MS);
    memset(flood, 'x', sizeof(flood) - 1);
    flood[sizeof(flood) - 1] = '\0';
    say(loud, flood);
    serve(r, 1000);
    assert_true(hung_up(loud));
    assert_false(hung_up(silent));
    assert_int_equal(lifeline_handle(r->lifeline, 1000 + LIFELINE_HELLO_MS),
                     INT64_MAX);
    assert_true(hung_up(silent));
    close(silent);
    close(loud);
}

static void
test_the_number_of_strangers_is_limited(void **state)
{
    struct record *r = *state;
    int fd[LIFELINE_STRANGERS + 5];

    for (size_t i = 0; i < LIFELINE_STRANGERS + 5; i++) {
        fd[i] = dial(r);
        serve(r, (int64_t)i);
    }
    for (size_t i = 0; i < LIFELINE_STRANGERS + 5; i++) {
        assert_int_equal(hung_up(fd[i]), i < 5); // the oldest make room
        close(fd[i]);
    }
    serve(r, 0);
    assert_int_equal(r->n, 0);
}

static void
test_forgotten_engines_are_not_reported(void **state)
{
    struct record *r = *state;
    char token[LIFELINE_TOKEN_SIZE];
    int fd = dial(r);

    assert_int_equal(lifeline_expect(r->lifeline, SPAN_LIT("e1"), token), 0);
    hello(r, fd, "e1", token);
    lifeline_forget(r->lifeline, SPAN_LIT("e1"));
    lifeline_forget(r->lifeline, SPAN_LIT("e1"));
    assert_true(hung_up(fd));
    close(fd);
    serve(r, 0);
    assert_int_equal(r->n, 0);
}

static void
test_a_new_token_voids_the_old(void **state)
{
    struct record *r = *state;
    char old[LIFELINE_TOKEN_SIZE], new[LIFELINE_TOKEN_SIZE];
    int fd = dial(r);

    assert_int_equal(lifeline_expect(r->lifeline, SPAN_LIT("e1"), old), 0);
    assert_int_equal(lifeline_expect(r->lifeline, SPAN_LIT("e1"), new), 0);
    assert_string_not_equal(old, new);
    hello(r, fd, "e1", old);
    assert_true(hung_up(fd));
    close(fd);
}

static void
test_addresses(void **state)
{
    const struct lifeline_port port = {.ctx = NULL, .lost = on_lost};
    struct lifeline *a = NULL, *b = NULL;
    int first = 0, second;
    rh_error err;

    (void)state;
    assert_int_equal(lifeline_new(&a, &port, "*", &first, &err), 0);
    second = first;
    assert_int_equal(lifeline_new(&b, &port, "*", &second, &err), RH_ENET);
    assert_non_null(strstr(err.text, "in use"));
    second = 0;
    assert_int_equal(lifeline_new(&b, &port, "192.0.2.1", &second, &err),
                     RH_ENET);
    assert_null(b);
    lifeline_free(&a);
    lifeline_free(&a);
}

static void
test_out_of_memory(void **state)
{
    const struct lifeline_port port = {.ctx = NULL, .lost = on_lost};
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        char token[LIFELINE_TOKEN_SIZE];
        struct lifeline *l = NULL;
        int tcp_port = 0;

        rc = lifeline_new(&l, &port, "127.0.0.1", &tcp_port, NULL);
        if (rc == 0)
            rc = lifeline_expect(l, SPAN_LIT("e1"), token);
        lifeline_free(&l);
    });
    assert_int_equal(rc, 0);
}

#define WITH_RECORD(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RECORD(test_an_end_without_words),
        WITH_RECORD(test_last_words),
        WITH_RECORD(test_strangers_are_refused),
        WITH_RECORD(test_silence_and_length_are_limited),
        WITH_RECORD(test_the_number_of_strangers_is_limited),
        WITH_RECORD(test_forgotten_engines_are_not_reported),
        WITH_RECORD(test_a_new_token_voids_the_old),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
