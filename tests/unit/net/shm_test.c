/* shm_test.c - files instead of frames: who gets what, and what is left */
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/shm_private.h"
#include "wire/compose.h"

#define SIZE (SHM_MIN + 4321)

static struct net_ctx *ctx;
static struct shm *host, *client, *engine;
static struct net_sock *near_end, *far_end; // the controller's, the receiver's

static struct shm *
join_as(const char *name)
{
    struct shm *peer = NULL;
    struct buf offer = {0};
    rh_error err;

    buf_add_str(&offer, "{\"version\": 1");
    shm_offer(host, &offer);
    buf_add_char(&offer, '}');
    assert_int_equal(shm_join(&peer, buf_span(&offer), span_str(name), &err),
                     0);
    buf_fini(&offer);
    return peer;
}

static int
set_up(void **state)
{
    const struct net_options options = {.linger_ms = 0};
    char url[64];
    int port = 0;
    rh_error err;

    (void)state;
    if (shm_host(&host, &err) < 0)
        return 0; // a machine without /dev/shm: nothing to test
    host->dead_min_us = host->orphan_min_us = 0;
    client = join_as("client");
    engine = join_as("engine");
    assert_int_equal(net_ctx_new(&ctx, &err), 0);
    assert_int_equal(net_open(&near_end, ctx, NET_DEALER, &options, &err), 0);
    assert_int_equal(net_open(&far_end, ctx, NET_DEALER, &options, &err), 0);
    assert_int_equal(net_bind(far_end, "tcp://127.0.0.1:0", &port, &err), 0);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    assert_int_equal(net_connect(near_end, url, &err), 0);
    return 0;
}

static void
leave_all(void)
{
    shm_leave(&client);
    shm_leave(&engine);
    shm_leave(&host);
}

static int
tear_down(void **state)
{
    (void)state;
    net_close(&near_end);
    net_close(&far_end);
    net_ctx_free(&ctx);
    leave_all();
    return 0;
}

#define NEED_SHM() \
    if (!host)     \
    skip()

/* Names in a directory, without the dots. */
static size_t
count(int fd)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY);
    DIR *dir = fdopendir(copy);
    const struct dirent *entry;
    size_t n = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)))
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static struct span
pattern(uint8_t *p, uint8_t seed)
{
    for (size_t i = 0; i < SIZE; i++)
        p[i] = (uint8_t)(seed + i * 7);
    return span_of(p, SIZE);
}

/* A message whose only buffer is 'bytes', or what shm_put makes of it. */
static struct msg *
message(struct shm *sender, struct span bytes)
{
    struct msg *none = NULL, *m;
    struct buf tickets = {0};
    struct span frame[] = {
        SPAN_LIT("route"),
        SPAN_LIT(MSG_DELIM),
        SPAN_LIT(""),
        SPAN_LIT("{}"),
        SPAN_LIT("{\"msg_id\": \"i\", \"msg_type\": \"t\", "
                 "\"session\": \"client\"}"),
        SPAN_LIT("{}"),
        SPAN_LIT("{}"),
        bytes,
    };

    shm_put(sender, &frame[7], &none, 1, &tickets);
    m = msg_new(frame, 8);
    assert_non_null(m);
    assert_int_equal(msg_parse(m, &msg_limits_default, NULL), 0);
    buf_fini(&tickets);
    return m;
}

static struct msg *
take_from(struct shm *sender, struct shm *receiver, struct span bytes)
{
    struct msg *m = message(sender, bytes);
    rh_error err;

    assert_true(shm_has_tickets(receiver, m));
    assert_int_equal(shm_take(receiver, NULL, &m, &err), 0);
    return m;
}

static void
assert_same(const struct msg *m, struct span bytes)
{
    assert_int_equal(msg_n_buffers(m), 1);
    assert_int_equal(msg_buffer(m, 0).n, bytes.n);
    assert_memory_equal(msg_buffer(m, 0).p, bytes.p, bytes.n);
}

/* Through the controller to a peer, as the wire has it. */
static struct msg *
relay(struct span peer, struct msg *m)
{
    struct net_pollitem item[] = {{.sock = far_end, .events = NET_IN},
                                  {.sock = near_end, .events = NET_IN}};
    struct msg *got = NULL;
    rh_error err;

    assert_int_equal(shm_send(host, peer, near_end, NULL, 0, m, 0, &err), 0);
    assert_int_equal(net_poll(item, 2, 20000), 1);
    assert_int_equal(net_recv(far_end, &got, &err), 0);
    assert_int_equal(msg_parse(got, &msg_limits_default, &err), 0);
    return got;
}

// ---------------------------------------------------------------------------
// Tickets

static void
test_ticket(void **state)
{
    struct shm self = {.token = "0123456789abcdef0123456789abcdef"};
    struct shm other = {.token = "0123456789abcdef0123456789abcdee"};
    struct ticket in = {.size = 0x123456789, .name = "a-b_c.d9"}, out;
    uint8_t raw[SHM_TICKET_SIZE], bad[SHM_TICKET_SIZE];
    static const struct {
        size_t at;
        uint8_t value;
    } change[] = {
        {0, 'r'},   // magic
        {40, 0x80}, // a size beyond all memory
        {48, '.'},  // hidden
        {49, '/'},  // another directory
        {48, 0},    // no name
        {60, 'x'},  // something behind the end
        {191, 'x'},
    };

    (void)state;
    ticket_write(&self, &in, raw);
    assert_true(ticket_read(&self, span_of(raw, sizeof(raw)), &out));
    assert_true(out.size == in.size);
    assert_string_equal(out.name, in.name);
    assert_false(ticket_read(&other, span_of(raw, sizeof(raw)), &out));
    assert_false(ticket_read(&self, span_of(raw, sizeof(raw) - 1), &out));
    for (size_t i = 0; i < sizeof(change) / sizeof(change[0]); i++) {
        memcpy(bad, raw, sizeof(raw));
        bad[change[i].at] = change[i].value;
        assert_false(ticket_read(&self, span_of(bad, sizeof(bad)), &out));
    }
    memset(raw + 40, 0, 8);
    assert_false(ticket_read(&self, span_of(raw, sizeof(raw)), &out));
}

/* Without a NUL the name must not be read beyond its end. */
static void
test_ticket_full_name(void **state)
{
    struct shm self = {.token = "0123456789abcdef0123456789abcdef"};
    struct ticket in = {.size = 1, .name = "n"}, out;
    uint8_t raw[SHM_TICKET_SIZE];

    (void)state;
    ticket_write(&self, &in, raw);
    memset(raw + 48, 'n', SHM_NAME_SIZE);
    assert_false(ticket_read(&self, span_of(raw, sizeof(raw)), &out));
}

// ---------------------------------------------------------------------------
// Joining

static void
test_join_refused(void **state)
{
    static const char *const offer[] = {
        "",
        "null",
        "{}",
        "{\"version\": 1}",
        "{\"version\": 1, \"shm\": 7}",
        "{\"version\": 1, \"shm\": {\"token\": 5}}",
        "{\"version\": 1, \"shm\": {\"token\": \"../../../etc/passwd\"}}",
        "{\"version\": 1, \"shm\": {\"token\": "
        "\"../0123456789abcdef0123456789abc\"}}",
        // nobody's
        "{\"version\": 1, \"shm\": {\"token\": "
        "\"00000000000000000000000000000000\"}}",
    };
    struct shm *peer = NULL;
    struct buf good = {0};
    rh_error err;

    (void)state;
    NEED_SHM();
    for (size_t i = 0; i < sizeof(offer) / sizeof(offer[0]); i++) {
        assert_int_equal(
            shm_join(&peer, span_str(offer[i]), SPAN_LIT("x"), &err),
            RH_ENOENT);
        assert_null(peer);
    }
    buf_add_str(&good, "{\"version\": 2");
    shm_offer(host, &good);
    buf_add_char(&good, '}');
    assert_int_equal(shm_join(&peer, buf_span(&good), SPAN_LIT("x"), &err),
                     RH_ENOENT);
    good.p[12] = '1';
    assert_int_equal(shm_join(&peer, buf_span(&good), SPAN_LIT("../x"), &err),
                     RH_ENOENT);
    assert_int_equal(shm_join(&peer, buf_span(&good), SPAN_LIT("x"), &err), 0);
    shm_leave(&peer);
    buf_fini(&good);
}

// ---------------------------------------------------------------------------
// Both ways

static void
test_there_and_back(void **state)
{
    static uint8_t bytes[SIZE];
    struct span s = pattern(bytes, 1);
    struct msg *m, *got;
    rh_error err;

    (void)state;
    NEED_SHM();
    // A request: client, controller, engine.
    m = take_from(client, host, s);
    assert_same(m, s);
    got = relay(SPAN_LIT("engine"), m);
    assert_int_equal(msg_buffer(got, 0).n, SHM_TICKET_SIZE);
    assert_int_equal(shm_take(engine, NULL, &got, &err), 0);
    assert_same(got, s);
    msg_unref(&got);
    msg_unref(&m);
    // A reply, whose client is in the parent header.
    s = pattern(bytes, 2);
    m = take_from(engine, host, s);
    got = relay(SPAN_NONE, m);
    assert_int_equal(msg_buffer(got, 0).n, SHM_TICKET_SIZE);
    assert_int_equal(shm_take(client, NULL, &got, &err), 0);
    msg_unref(&m);
    assert_same(got, s);
    msg_unref(&got);
    assert_int_equal(count(host->in), 0);
}

/* Who has no mailbox gets the bytes. */
static void
test_stranger(void **state)
{
    static uint8_t bytes[SIZE];
    struct span s = pattern(bytes, 3);
    struct msg *m, *got;

    (void)state;
    NEED_SHM();
    m = take_from(client, host, s);
    got = relay(SPAN_LIT("somebody"), m);
    assert_same(got, s);
    msg_unref(&got);
    got = relay(SPAN_LIT("../to-engine"), m);
    assert_same(got, s);
    msg_unref(&got);
    msg_unref(&m);
    assert_int_equal(count(host->in), 0);
}

/* It arrives although its sender has ended, and outlives the cluster. */
static void
test_outlives(void **state)
{
    static uint8_t bytes[SIZE];
    struct span s = pattern(bytes, 4);
    struct msg *m;
    rh_error err;

    (void)state;
    NEED_SHM();
    m = message(client, s);
    shm_leave(&client);
    assert_int_equal(shm_take(host, NULL, &m, &err), 0);
    leave_all();
    assert_same(m, s);
    msg_unref(&m);
}

/* Small buffers, and those of a peer without shared memory. */
static void
test_left_alone(void **state)
{
    static uint8_t bytes[SIZE];
    struct span s = pattern(bytes, 5);
    struct msg *m;

    (void)state;
    NEED_SHM();
    m = message(NULL, s);
    assert_false(shm_has_tickets(host, m));
    assert_false(shm_has_tickets(NULL, m));
    assert_same(m, s);
    msg_unref(&m);
    s.n = SHM_MIN - 1;
    m = message(client, s);
    assert_same(m, s);
    msg_unref(&m);
    shm_close(client);
    s.n = SIZE;
    m = message(client, s);
    assert_same(m, s);
    msg_unref(&m);
    shm_leave(&host);
    m = message(engine, s);
    assert_same(m, s);
    msg_unref(&m);
}

static void
test_signature(void **state)
{
    static uint8_t bytes[SIZE];
    struct session *session;
    struct msg *m;
    rh_error err;

    (void)state;
    NEED_SHM();
    assert_int_equal(
        session_new(&session, SPAN_LIT("key"), "hmac-sha256", &err), 0);
    m = message(client, pattern(bytes, 6));
    assert_int_equal(shm_take(host, session, &m, &err), RH_EAUTH);
    assert_int_equal(msg_buffer(m, 0).n, SHM_TICKET_SIZE);
    msg_unref(&m);
    session_free(&session);
}

// ---------------------------------------------------------------------------
// Reuse

static void
test_reuse(void **state)
{
    static uint8_t bytes[SIZE];
    struct msg *flying, *held, *m;
    struct span s;
    rh_error err;

    (void)state;
    NEED_SHM();
    // On its way, and mapped: neither may be written over.
    flying = message(client, pattern(bytes, 10));
    held = take_from(client, host, pattern(bytes, 11));
    m = take_from(client, host, pattern(bytes, 12));
    assert_int_equal(count(client->own), 3);
    assert_int_equal(shm_take(host, NULL, &flying, &err), 0);
    assert_same(flying, pattern(bytes, 10));
    assert_same(held, pattern(bytes, 11));
    msg_unref(&m);
    msg_unref(&flying);
    for (uint8_t i = 0; i < 5; i++) {
        s = pattern(bytes, (uint8_t)(20 + i));
        m = take_from(client, host, s);
        assert_same(m, s);
        msg_unref(&m);
    }
    assert_int_equal(count(client->own), 3);
    assert_same(held, pattern(bytes, 11));
    msg_unref(&held);
}

static void
test_trim(void **state)
{
    static uint8_t bytes[SIZE];
    struct span s = pattern(bytes, 30);
    struct msg *m;

    (void)state;
    NEED_SHM();
    assert_true(shm_trim(client, 0) == INT64_MAX);
    m = take_from(client, host, s);
    assert_true(shm_trim(client, clock_mono_us()) < INT64_MAX);
    assert_int_equal(count(client->own), 1);
    assert_true(shm_trim(client, INT64_MAX) == INT64_MAX);
    assert_int_equal(count(client->own), 0);
    assert_same(m, s);
    msg_unref(&m);
}

/* One copy for any number of messages. */
static void
test_share(void **state)
{
    static uint8_t bytes[SIZE];
    struct span s = pattern(bytes, 40);
    struct msg *shared, *m[3];

    (void)state;
    NEED_SHM();
    assert_null(shm_share(client, span_of(bytes, SHM_MIN - 1)));
    shared = shm_share(client, s);
    assert_non_null(shared);
    for (size_t i = 0; i < 3; i++)
        m[i] = take_from(client, host, shared->frame[0]);
    assert_int_equal(count(client->own), 1);
    msg_unref(&shared);
    assert_int_equal(count(host->in), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_same(m[i], s);
        msg_unref(&m[i]);
    }
    assert_int_equal(count(host->in), 0);
}

static void *
run_rounds(void *arg)
{
    const uint8_t first = *(uint8_t *)arg;
    uint8_t *bytes = malloc(SIZE);
    intptr_t wrong = 0;

    for (uint8_t i = 0; bytes && i < 40; i++) {
        struct span s = pattern(bytes, (uint8_t)(first + i));
        struct msg *m = message(client, s);

        if (shm_take(host, NULL, &m, NULL) < 0)
            wrong++;
        memset(bytes, 0, SIZE);
        (void)pattern(bytes, (uint8_t)(first + i));
        if (msg_buffer(m, 0).n != SIZE
            || memcmp(msg_buffer(m, 0).p, bytes, SIZE) != 0)
            wrong++;
        msg_unref(&m);
    }
    free(bytes);
    return wrong ? arg : NULL;
}

static void
test_threads(void **state)
{
    uint8_t first[4] = {0, 50, 100, 150};
    pthread_t thread[4];
    void *wrong;

    (void)state;
    NEED_SHM();
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(
            pthread_create(&thread[i], NULL, run_rounds, &first[i]), 0);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(thread[i], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(count(host->in), 0);
}

// ---------------------------------------------------------------------------
// What goes wrong

static void
test_no_room(void **state)
{
    static uint8_t bytes[SIZE];
    struct span s = pattern(bytes, 50);
    struct rlimit old, tight;
    struct msg *m;

    (void)state;
    NEED_SHM();
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = (struct rlimit){SHM_MIN, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    m = message(client, s);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_same(m, s);
    assert_int_equal(count(client->own), 0);
    assert_int_equal(count(host->in), 0);
    msg_unref(&m);
}

static struct msg *
message_naming(const char *name, uint64_t size)
{
    struct ticket ticket = {.size = size};
    uint8_t raw[SHM_TICKET_SIZE];

    snprintf(ticket.name, sizeof(ticket.name), "%s", name);
    ticket_write(host, &ticket, raw);
    return message(NULL, span_of(raw, sizeof(raw)));
}

static void
assert_refused(const char *name, uint64_t size, int rc)
{
    struct msg *m = message_naming(name, size);
    rh_error err;

    assert_int_equal(shm_take(host, NULL, &m, &err), rc);
    assert_int_equal(msg_buffer(m, 0).n, SHM_TICKET_SIZE);
    msg_unref(&m);
}

static void
test_hostile(void **state)
{
    int fd;

    (void)state;
    NEED_SHM();
    assert_refused("absent", 5, RH_ENOENT);
    fd = openat(host->in, "short", O_RDWR | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, 100), 0);
    close(fd);
    assert_refused("short", 101, RH_EPROTO);
    assert_refused("short", SIZE_MAX / 16, RH_EPROTO);
    assert_int_equal(symlinkat("short", host->in, "link"), 0);
    assert_refused("link", 100, RH_ENOENT);
    assert_int_equal(mkfifoat(host->in, "pipe", 0600), 0);
    assert_refused("pipe", 100, RH_EPROTO);
    assert_int_equal(mkdirat(host->in, "dir", 0700), 0);
    assert_refused("dir", 100, RH_EPROTO);
    // What is there is not what was promised, but enough.
    {
        struct msg *m = message_naming("short", 100);
        rh_error err;

        assert_int_equal(shm_take(host, NULL, &m, &err), 0);
        assert_int_equal(msg_buffer(m, 0).n, 100);
        msg_unref(&m);
    }
    assert_int_equal(unlinkat(host->in, "dir", AT_REMOVEDIR), 0);
}

/* A message of two buffers is taken whole or not at all. */
static void
test_all_or_nothing(void **state)
{
    static uint8_t bytes[SIZE];
    struct msg *good, *bad, *both;
    struct span frame[9];
    rh_error err;

    (void)state;
    NEED_SHM();
    good = message(client, pattern(bytes, 60));
    bad = message_naming("absent", 5);
    memcpy(frame, good->frame, 8 * sizeof(*frame));
    frame[8] = bad->frame[7];
    both = msg_new(frame, 9);
    assert_int_equal(msg_parse(both, &msg_limits_default, &err), 0);
    assert_int_equal(shm_take(host, NULL, &both, &err), RH_ENOENT);
    assert_int_equal(both->n, 9);
    assert_int_equal(host->live.next == &host->live, 1);
    msg_unref(&both);
    msg_unref(&good);
    msg_unref(&bad);
}

/* A send that fails leaves no name behind. */
static void
test_recall(void **state)
{
    static uint8_t bytes[SIZE];
    const struct net_options options = {.mandatory = true};
    struct net_sock *router = NULL;
    struct msg *m;
    rh_error err;

    (void)state;
    NEED_SHM();
    assert_int_equal(net_open(&router, ctx, NET_ROUTER, &options, &err), 0);
    m = take_from(client, host, pattern(bytes, 70));
    assert_true(shm_send(host, SPAN_LIT("engine"), router, NULL, 0, m, 0, &err)
                < 0);
    assert_int_equal(count(engine->own), 0);
    msg_unref(&m);
    net_close(&router);
}

static void
test_put_back(void **state)
{
    static uint8_t bytes[SIZE];
    struct span s = pattern(bytes, 80);
    struct buf tickets = {0};
    struct msg *none = NULL;

    (void)state;
    NEED_SHM();
    shm_put(client, &s, &none, 1, &tickets);
    assert_int_equal(s.n, SHM_TICKET_SIZE);
    assert_int_equal(count(host->in), 1);
    shm_put_back(client, &tickets);
    assert_int_equal(count(host->in), 0);
    buf_fini(&tickets);
}

static void
test_out_of_memory(void **state)
{
    static uint8_t bytes[SIZE];
    struct span s = pattern(bytes, 90);
    struct msg *m = NULL, *got;
    rh_error err;
    int rc = 0;

    (void)state;
    NEED_SHM();
    // Sending: without memory it goes through the socket.
    for (long n = 0; n < 4; n++) {
        struct msg *none = NULL;
        struct buf tickets = {0};
        struct span buffer = s;

        mem_fail_after(n);
        shm_put(client, &buffer, &none, 1, &tickets);
        mem_fail_after(-1);
        assert_true(buffer.n == SIZE || buffer.n == SHM_TICKET_SIZE);
        shm_put_back(client, &tickets);
        buf_fini(&tickets);
    }
    for (long n = 0; n == 0 || rc == RH_ENOMEM; n++) {
        msg_unref(&m);
        m = message(client, s);
        mem_fail_after(n);
        rc = shm_take(host, NULL, &m, &err);
        mem_fail_after(-1);
    }
    assert_int_equal(rc, 0);
    assert_same(m, s);
    OOM_SWEEP(rc, rc = shm_send(host, SPAN_LIT("engine"), near_end, NULL, 0, m,
                                0, &err));
    assert_int_equal(rc, 0);
    got = relay(SPAN_LIT("engine"), m);
    msg_unref(&got);
    msg_unref(&m);
}

// ---------------------------------------------------------------------------
// Ends

/* What a killed process leaves. */
static void
run_killed(void (*body)(void))
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        body();
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static uint8_t lost[SIZE];

static void
die_as_client(void)
{
    struct shm *peer = join_as("dying");
    struct msg *m = message(peer, pattern(lost, 1));

    m = message(peer, pattern(lost, 2));
    (void)shm_take(host, NULL, &m, NULL);
}

static void
test_sweep(void **state)
{
    size_t before;

    (void)state;
    NEED_SHM();
    before = count(host->dir);
    shm_sweep(host);
    assert_int_equal(count(host->dir), before); // the living stay
    run_killed(die_as_client);
    assert_int_equal(count(host->dir), before + 1);
    assert_int_equal(count(host->in), 2);
    shm_sweep(host);
    assert_int_equal(count(host->dir), before);
    assert_int_equal(count(host->in), 0);
}

/* A file that is mapped is not in the way of the sweep, nor harmed by it. */
static void
test_sweep_spares(void **state)
{
    static uint8_t bytes[SIZE];
    struct span s = pattern(bytes, 100);
    struct msg *m, *got;

    (void)state;
    NEED_SHM();
    m = take_from(client, host, s);
    shm_leave(&client);
    shm_sweep(host);
    assert_int_equal(count(host->in), 1);
    got = relay(SPAN_LIT("engine"), m); // it can still go on as a file
    assert_int_equal(msg_buffer(got, 0).n, SHM_TICKET_SIZE);
    msg_unref(&got);
    assert_same(m, s);
    msg_unref(&m);
}

static char dead_dir[64];

static void
die_as_host(void)
{
    struct shm *dying = NULL;

    (void)shm_host(&dying, NULL);
    if (dying && write(STDOUT_FILENO, dying->token, 32) != 32)
        _exit(1);
}

static void
test_sweep_hosts(void **state)
{
    char token[33] = "";
    int fds[2], out = dup(STDOUT_FILENO);
    struct shm *next;
    rh_error err;

    (void)state;
    NEED_SHM();
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDOUT_FILENO);
    run_killed(die_as_host);
    dup2(out, STDOUT_FILENO);
    close(out);
    close(fds[1]);
    assert_int_equal(read(fds[0], token, 32), 32);
    close(fds[0]);
    snprintf(dead_dir, sizeof(dead_dir), "/dev/shm/roundhouse-%u-%.32s",
             (unsigned)geteuid(), token);
    assert_int_equal(access(dead_dir, F_OK), 0);
    // A directory that is young may have an owner in a moment.
    while (access(dead_dir, F_OK) == 0) {
        assert_int_equal(shm_host(&next, &err), 0);
        shm_leave(&next);
        usleep(100 * 1000);
    }
    assert_int_equal(fcntl(host->dir, F_GETFD) >= 0, 1);
    assert_true(count(host->dir) == 3); // ours was not touched
}

/* Clients of one session share a mailbox; the last one removes it. */
static void
test_two_of_a_name(void **state)
{
    struct shm *twin;
    size_t n;

    (void)state;
    NEED_SHM();
    n = count(host->dir);
    twin = join_as("client");
    assert_int_equal(count(host->dir), n);
    shm_leave(&client);
    assert_int_equal(count(host->dir), n);
    shm_leave(&twin);
    assert_int_equal(count(host->dir), n - 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ticket),
        cmocka_unit_test(test_ticket_full_name),
        TEST(test_join_refused),
        TEST(test_there_and_back),
        TEST(test_stranger),
        TEST(test_outlives),
        TEST(test_left_alone),
        TEST(test_signature),
        TEST(test_reuse),
        TEST(test_trim),
        TEST(test_share),
        TEST(test_threads),
        TEST(test_no_room),
        TEST(test_hostile),
        TEST(test_all_or_nothing),
        TEST(test_recall),
        TEST(test_put_back),
        TEST(test_out_of_memory),
        TEST(test_sweep),
        TEST(test_sweep_spares),
        TEST(test_sweep_hosts),
        TEST(test_two_of_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
