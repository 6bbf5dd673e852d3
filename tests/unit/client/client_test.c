/* client_test.c - the public API against a controller that misbehaves */
#include "support.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/client.h"
#include "fake.h"

#define WAIT_MS 30000 // only ever waited for when something is broken
#define BOTH (RH_DONE | RH_OUTPUT_DONE)

static struct fake fake;
static rh_client *client;
static rh_error err;

static int
set_up(void **state)
{
    (void)state;
    fake_open(&fake);
    assert_int_equal(rh_client_open(&client, fake.json, NULL, &err), 0);
    client->look_again_us = 0; // it would disturb those who count requests
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    rh_client_free(&client);
    assert_null(client);
    fake_close(&fake);
    return 0;
}

static rh_request *
run(const char *uuid, const char *code)
{
    rh_request *req = NULL;

    assert_int_equal(rh_client_execute(client, uuid, code, 0, &req, &err), 0);
    return req;
}

static void
finish(rh_request *req)
{
    assert_int_equal(rh_client_wait(client, &req, 1, 1, BOTH, WAIT_MS, &err),
                     0);
    rh_request_release(&req);
}

static void
assert_content(rh_request *req, const char *want)
{
    rh_bytes got;

    assert_int_equal(rh_request_part(req, RH_REPLY_CONTENT, &got), 0);
    assert_non_null(memmem(got.p, got.n, want, strlen(want)));
}

static void
test_a_first_program(void **state)
{
    rh_engine engine[8];
    rh_bytes part;
    rh_request *req;
    char *text;

    (void)state;
    assert_int_equal(rh_client_engines(client, engine, 8), FAKE_ENGINES);
    assert_int_equal(engine[2].id, 2);
    assert_string_equal(engine[2].uuid, "U2");
    req = run(engine[0].uuid, "print \"\n");
    assert_int_equal(rh_request_part(req, RH_REQUEST_HEADER, &part), 0);
    assert_non_null(memmem(part.p, part.n, "execute_request", 15));
    assert_int_equal(rh_client_wait(client, &req, 1, 1, BOTH, WAIT_MS, &err),
                     0);
    assert_int_equal(rh_request_state(req), BOTH);
    assert_int_equal(rh_request_status(req), RH_STATUS_OK);
    text = rh_request_text(req, 1, NULL);
    assert_string_equal(text, "hello\n");
    rh_free(text);
    assert_true(rh_request_received(req) >= rh_request_submitted(req));
    rh_request_release(&req);
    assert_null(req);
}

static void
test_bad_messages_change_nothing(void **state)
{
    static const char *const codes[] = {"forge", "garbage", "twice", "raise"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        rh_request *req = run(NULL, codes[i]);
        rh_bytes got;

        assert_int_equal(
            rh_client_wait(client, &req, 1, 1, RH_DONE, WAIT_MS, &err), 0);
        assert_int_equal(rh_request_part(req, RH_REPLY_CONTENT, &got), 0);
        assert_null(memmem(got.p, got.n, "forged", 6));
        assert_int_equal(rh_request_status(req),
                         i == 3 ? RH_STATUS_ERROR : RH_STATUS_OK);
        finish(req);
    }
}

static void
test_submissions_that_are_refused(void **state)
{
    const struct {
        rh_submission what;
        const char *word;
    } cases[] = {
        {{.channel = (enum rh_channel)9, .msg_type = "x"}, "channel 9"},
        {{.channel = RH_TASK}, "msg_type"},
        {{.channel = RH_MUX, .msg_type = "x"}, "uuid"},
        {{.channel = RH_TASK, .msg_type = "x", .target = "U0"}, "single"},
        {{.channel = RH_BROADCAST, .msg_type = "x"}, "targets"},
        {{.channel = RH_BROADCAST,
          .msg_type = "x",
          .metadata = {"{\"targets\": [1]}", 16}},
         "pairs"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rh_request *req = NULL;

        assert_int_equal(rh_client_submit(client, &cases[i].what, &req, &err),
                         RH_EINVAL);
        assert_non_null(strstr(err.text, cases[i].word));
        assert_null(req);
    }
    assert_int_equal(client->ledger.pending.n, 0);
}

static void
test_waiting_for_some(void **state)
{
    rh_request *req[40];
    size_t n_done = 0;

    (void)state;
    for (size_t i = 0; i < 40; i++)
        req[i] = run(NULL, i % 4 ? "fine" : "drop");
    assert_int_equal(rh_client_wait(client, req, 40, 30, 0, WAIT_MS, &err), 0);
    for (size_t i = 0; i < 40; i++)
        n_done += rh_request_state(req[i]) & RH_DONE;
    assert_int_equal(n_done, 30);
    assert_int_equal(rh_client_wait(client, req, 40, 31, 0, 30, &err),
                     RH_ETIMEDOUT);
    assert_int_equal(rh_client_wait(client, req, 40, 0, 0, 0, &err), 0);
    for (size_t i = 0; i < 40; i++)
        rh_request_release(&req[i]);
    assert_int_equal(client->ledger.pending.n, 0);
}

static void
test_a_wait_of_zero_looks(void **state)
{
    rh_request *req = run(NULL, "fine");
    int rc;

    (void)state;
    do
        rc = rh_client_wait(client, &req, 1, 1, BOTH, 0, &err);
    while (rc == RH_ETIMEDOUT);
    assert_int_equal(rc, 0);
    rh_request_release(&req);
}

static void
test_results_nobody_wants_are_let_go(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        rh_request *req = run(NULL, i % 2 ? "print" : "fine");

        if (i % 3 == 0)
            assert_int_equal(
                rh_client_wait(client, &req, 1, 1, 0, WAIT_MS, &err), 0);
        rh_request_release(&req);
    }
    assert_int_equal(client->ledger.pending.n, 0);
    assert_int_equal(client->n_events, 0);
}

static void
test_the_death_of_an_engine(void **state)
{
    uint64_t version = rh_client_engines_version(client);
    rh_request *pending = run("U1", "drop"), *other = run("U2", "drop");
    rh_request *req = run("U1", "leave");

    (void)state;
    assert_int_equal(rh_client_wait_engines(client, version, WAIT_MS, &err), 0);
    assert_int_equal(rh_client_engines(client, NULL, 0), FAKE_ENGINES - 1);
    assert_int_equal(
        rh_client_wait(client, &pending, 1, 1, BOTH, WAIT_MS, &err), 0);
    assert_content(pending, "Engine 1 died while running task");
    assert_int_equal(rh_request_state(other), 0);
    rh_request_release(&other);
    finish(req);
    finish(pending);
    req = run("U1", "anything");
    assert_int_equal(rh_request_state(req), BOTH);
    assert_content(req, "not registered");
    rh_request_release(&req);
    version = rh_client_engines_version(client);
    assert_int_equal(rh_client_wait_engines(client, version, 1, &err),
                     RH_ETIMEDOUT);
}

/* Its registration was published before the subscription took effect. */
static void
test_an_engine_that_came_unnoticed(void **state)
{
    uint64_t version = rh_client_engines_version(client);

    (void)state;
    fake.engines = "{\"0\": \"U0\", \"1\": \"U1\", \"2\": \"U2\", "
                   "\"3\": \"U3\"}";
    client->look_again_us = 1;
    assert_int_equal(rh_client_wait_engines(client, version, WAIT_MS, &err), 0);
    assert_int_equal(rh_client_engines(client, NULL, 0), FAKE_ENGINES + 1);
}

static void
test_the_end_of_the_controller(void **state)
{
    rh_request *req = run("U0", "goodbye");

    (void)state;
    assert_int_equal(rh_client_wait(client, &req, 1, 1, BOTH, WAIT_MS, &err),
                     0);
    assert_content(req, "shut down");
    rh_request_release(&req);
}

static void
test_a_broken_connection(void **state)
{
    uint64_t version = rh_client_engines_version(client);
    rh_request *req[3], *done = run("U0", "fine");
    rh_engine engine[4];

    (void)state;
    assert_int_equal(rh_client_wait(client, &done, 1, 1, BOTH, WAIT_MS, &err),
                     0);
    req[0] = run("U0", "drop");
    req[1] = run(NULL, "drop");
    req[2] = run("U1", "drop");
    while (atomic_load(&fake.n_served) < 5)
        usleep(1000);
    fake_restart(&fake, "{\"0\": \"U0\", \"5\": \"U5\"}");
    assert_int_equal(rh_client_wait(client, req, 3, 3, BOTH, WAIT_MS, &err), 0);
    for (int i = 0; i < 3; i++) {
        assert_content(req[i], "ConnectionLost");
        rh_request_release(&req[i]);
    }
    assert_int_equal(rh_request_status(done), RH_STATUS_OK);
    rh_request_release(&done);
    // What was missed is asked for, and everything works as before.
    while (rh_client_engines(client, engine, 4) != 2)
        assert_int_equal(
            rh_client_wait_engines(client, version++, WAIT_MS, &err), 0);
    assert_string_equal(engine[1].uuid, "U5");
    finish(run("U5", "fine"));
    finish(run(NULL, "fine"));
    assert_int_equal(client->ledger.pending.n, 0);
    assert_null(client->resync);
}

static void
test_a_controller_that_stays_away(void **state)
{
    rh_request *req = run("U0", "drop");
    struct link_state *link = &client->link[LINK_MUX];

    (void)state;
    fake_stop(&fake);
    finish(req);
    req = run("U0", "fine"); // waits for a connection
    assert_int_equal(rh_client_wait(client, &req, 1, 1, BOTH, 1, &err),
                     RH_ETIMEDOUT);
    pthread_mutex_lock(&client->lock);
    link->down_since_us -= 3600 * (int64_t)1000000;
    pthread_mutex_unlock(&client->lock);
    finish(req);
    req = run("U0", "fine"); // and no more, after so long
    assert_int_equal(rh_request_state(req), BOTH);
    assert_content(req, "ConnectionLost");
    rh_request_release(&req);
    fake_restart(&fake, fake.engines);
    while (link->gave_up)
        rh_client_flush(client, &err);
    finish(run("U0", "fine"));
}

/* ---- buffers ---------------------------------------------------------- */

static atomic_uint n_released;

static void
release(void *arg)
{
    (void)arg;
    atomic_fetch_add(&n_released, 1);
}

static void
test_buffers_are_lent_and_returned(void **state)
{
    static char big[200000], small[10];
    rh_buffer buffer[] = {{small, sizeof(small), release, NULL},
                          {big, sizeof(big), release, NULL},
                          {"copied", 6, NULL, NULL}};
    rh_submission what = {.channel = RH_TASK,
                          .msg_type = "apply_request",
                          .buffer = buffer,
                          .n_buffers = 3,
                          .flags = RH_TRACK};
    rh_request *req;
    rh_bytes got;

    (void)state;
    memset(big, 'b', sizeof(big));
    atomic_store(&n_released, 0);
    assert_int_equal(rh_client_submit(client, &what, &req, &err), 0);
    assert_int_equal(rh_client_wait(client, &req, 1, 1, 0, WAIT_MS, &err), 0);
    assert_int_equal(rh_request_wait_sent(req, WAIT_MS), 0);
    assert_true(rh_request_sent(req));
    assert_int_equal(atomic_load(&n_released), 2);
    assert_int_equal(rh_request_n_buffers(req), 3);
    got = rh_request_buffer(req, 1);
    assert_int_equal(got.n, sizeof(big));
    assert_memory_equal(got.p, big, sizeof(big));
    assert_int_equal(rh_request_buffer(req, 3).n, 0);
    rh_request_release(&req);

    what.target = "U0"; // refused: released all the same
    assert_int_equal(rh_client_submit(client, &what, &req, &err), RH_EINVAL);
    assert_int_equal(atomic_load(&n_released), 4);
}

static void
test_broadcasts(void **state)
{
    static const char metadata[] =
        "{\"targets\": [[\"U0\", 0], [\"U2\", 2]], \"is_broadcast\": true}";
    rh_submission what = {.channel = RH_BROADCAST,
                          .msg_type = "apply_request",
                          .metadata = {metadata, sizeof(metadata) - 1},
                          .flags = RH_COALESCING};
    rh_request *req, *part;

    (void)state;
    assert_int_equal(rh_client_submit(client, &what, &req, &err), 0);
    assert_int_equal(rh_client_wait(client, &req, 1, 1, 0, WAIT_MS, &err), 0);
    assert_int_equal(rh_request_n_parts(req), 0);
    assert_content(req, "ok");
    rh_request_release(&req);

    what.flags = 0; // the fake answers the whole, which counts for all
    assert_int_equal(rh_client_submit(client, &what, &req, &err), 0);
    assert_int_equal(rh_request_n_parts(req), 2);
    part = rh_request_subrequest(req, 1);
    assert_int_equal(rh_client_wait(client, &part, 1, 1, 0, WAIT_MS, &err), 0);
    assert_non_null(strstr(rh_request_id(part), "_U2"));
    rh_request_release(&req);
    assert_int_equal(client->ledger.pending.n, 0);
}

/* ---- threads ---------------------------------------------------------- */

#define N_THREADS 6
#define N_CALLS 300

static void *
call_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < N_CALLS; i++) {
        rh_error why;
        rh_request *req = NULL;

        if (rh_client_execute(client, i % 2 ? NULL : "U0", "print", 0, &req,
                              &why)
                < 0
            || rh_client_wait(client, &req, 1, 1, i % 5 ? RH_DONE : BOTH,
                              WAIT_MS, &why)
                   != 0)
            return client;
        rh_request_release(&req);
    }
    return NULL;
}

static void *
collect(void *arg)
{
    atomic_uint *n = arg;
    struct event event[8];
    int rc;

    while ((rc = client_events(client, event, 8, -1, NULL)) >= 0)
        for (int i = 0; i < rc; i++) {
            if (event[i].kind == EVENT_REQUEST && event[i].last)
                atomic_fetch_add(n, 1);
            event_fini(&event[i]);
        }
    return rc == RH_ECLOSED ? NULL : client;
}

static void
test_many_threads_wait_at_once(void **state)
{
    pthread_t thread[N_THREADS], runner;
    atomic_uint n_events = 0;
    void *failed;

    (void)state;
    assert_int_equal(pthread_create(&runner, NULL, collect, &n_events), 0);
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, call_often, NULL), 0);
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(thread[i], &failed);
        assert_null(failed);
    }
    rh_client_close(client, 0);
    pthread_join(runner, &failed);
    assert_null(failed);
}

static void
test_events_come_without_waiting(void **state)
{
    atomic_uint n_events = 0;
    pthread_t runner;
    void *failed;
    const unsigned n = 500;

    (void)state;
    assert_int_equal(pthread_create(&runner, NULL, collect, &n_events), 0);
    for (unsigned i = 0; i < n; i++) {
        rh_request *req = run(NULL, "fine");

        if (i % 2) // pending, or perhaps done
            assert_int_equal(client_watch(req, RH_DONE, &err), 1);
        else {
            assert_int_equal(client_watch(req, WATCH_OUTPUT, &err), 1);
            assert_in_range(client_watch(req, RH_DONE, &err), 0, 1);
        }
        rh_request_release(&req);
    }
    for (int i = 0; i < WAIT_MS && atomic_load(&n_events) < n; i++)
        usleep(1000);
    assert_true(atomic_load(&n_events) >= n);
    rh_client_close(client, 0);
    pthread_join(runner, &failed);
    assert_null(failed);
    assert_int_equal(client->ledger.pending.n, 0);
}

/* Until the controller has had this many requests. */
static void
await_served(unsigned n)
{
    for (int i = 0; i < WAIT_MS && atomic_load(&fake.n_served) < n; i++)
        usleep(1000);
    assert_true(atomic_load(&fake.n_served) >= n);
}

/* What the thread that collects events sends itself is not left behind. */
static void
test_the_runner_asks_in_a_burst(void **state)
{
    unsigned before = atomic_load(&fake.n_served);
    atomic_uint n_events = 0;
    pthread_t runner;
    void *failed;

    (void)state;
    client->look_again_us = 1;
    client->last_send_us = INT64_MAX;
    assert_int_equal(pthread_create(&runner, NULL, collect, &n_events), 0);
    await_served(before + 1);
    rh_client_close(client, 0);
    pthread_join(runner, &failed);
    assert_null(failed);
}

/* A callback may take its time. */
static void
test_nothing_waits_for_a_runner_that_is_away(void **state)
{
    unsigned before = atomic_load(&fake.n_served);
    struct event event;

    (void)state;
    assert_int_equal(client_events(client, &event, 1, 0, &err), 0);
    for (int i = 0; i < 10; i++) {
        rh_request *req = run("U0", "drop");

        rh_request_release(&req);
    }
    await_served(before + 10);
}

/* Half of what had arrived was read when another thread sends. */
static void
test_sending_forgets_no_messages(void **state)
{
    struct link_state *link = &client->link[LINK_MUX];
    rh_request *req;

    (void)state;
    link->dirty = true;
    req = run("U0", "fine");
    assert_true(link->dirty);
    finish(req);
}

static void
test_unwatching(void **state)
{
    rh_request *req = run(NULL, "drop");

    (void)state;
    assert_int_equal(client_unwatch(req, WATCH_OUTPUT), 0);
    assert_int_equal(client_watch(req, WATCH_OUTPUT, &err), 1);
    assert_int_equal(client_watch(req, WATCH_OUTPUT, &err), 0);
    assert_int_equal(client_unwatch(req, WATCH_OUTPUT), 1);
    rh_request_release(&req);
    assert_int_equal(client->ledger.pending.n, 0);
}

static void *
wait_for_ever(void *arg)
{
    rh_request *req = arg;
    int rc = rh_client_wait(client, &req, 1, 1, BOTH, -1, NULL);

    return rc == 0 ? NULL : client;
}

static void *
wait_for_engines(void *arg)
{
    uint64_t version = rh_client_engines_version(client);
    int rc = rh_client_wait_engines(client, version, -1, NULL);

    (void)arg;
    return rc == RH_ECLOSED ? NULL : client;
}

static size_t
count_waiters(void)
{
    size_t n = 0;

    pthread_mutex_lock(&client->lock);
    for (struct list *i = client->waiters.next; i != &client->waiters;
         i = i->next)
        n++;
    pthread_mutex_unlock(&client->lock);
    return n;
}

static void
test_closing_ends_all_waits(void **state)
{
    rh_request *req = run("U0", "drop");
    pthread_t thread[4];
    void *failed;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            pthread_create(&thread[i], NULL,
                           i == 3 ? wait_for_engines : wait_for_ever, req),
            0);
    while (count_waiters() < 4)
        usleep(1000);
    rh_client_close(client, 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], &failed);
        assert_null(failed);
    }
    assert_content(req, "ClientClosed");
    assert_true(rh_client_is_closed(client));
    assert_int_equal(rh_client_execute(client, NULL, "x", 0, &req, &err),
                     RH_ECLOSED);
    assert_int_equal(rh_client_flush(client, &err), RH_ECLOSED);
    rh_client_close(client, 0);
    rh_request_release(&req);
}

static void
on_alarm(int sig)
{
    (void)sig;
}

static void
test_signals_interrupt(void **state)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct sigaction old;
    rh_request *req = run(NULL, "drop");
    int rc;

    (void)state;
    sigaction(SIGALRM, &action, &old);
    alarm(1);
    rc = rh_client_wait(client, &req, 1, 1, 0, -1, &err);
    sigaction(SIGALRM, &old, NULL);
    assert_int_equal(rc, RH_EINTR);
    rh_request_release(&req);
    finish(run(NULL, "fine"));
}

static void
test_children_of_fork_are_told(void **state)
{
    rh_request *req = run(NULL, "fine"), *other = NULL;
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        bool ok = rh_client_wait(client, &req, 1, 1, 0, -1, &err) == RH_ESTATE
                  && strstr(err.text, "fork") != NULL
                  && rh_client_execute(client, NULL, "x", 0, &other, &err)
                         == RH_ESTATE;

        rh_request_release(&req);
        rh_client_close(client, -1);
        rh_client_free(&client);
        _exit(ok && !client ? 0 : 1);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    assert_int_equal(status, 0);
    finish(req);
}

/* ---- opening ---------------------------------------------------------- */

static void
test_opening_says_what_is_wrong(void **state)
{
    rh_client_options quick = {.timeout_ms = 100};
    rh_client_options slow = {.timeout_ms = WAIT_MS};
    char json[2048], *p;
    rh_client *c = NULL;

    (void)state;
    assert_int_equal(rh_client_open(&c, "/nonexistent", NULL, &err), RH_ENOENT);
    assert_int_equal(rh_client_open(&c, "{}", NULL, &err), RH_EPROTO);
    memcpy(json, fake.json, sizeof(json));
    p = strstr(json, FAKE_KEY);
    *p = 'b'; // the hub does not answer a stranger
    assert_int_equal(rh_client_open(&c, json, &quick, &err), RH_ETIMEDOUT);
    assert_non_null(strstr(err.text, "127.0.0.1"));
    slow.session = "\"";
    assert_int_equal(rh_client_open(&c, fake.json, &slow, &err), RH_EINVAL);
    slow.session = "mine";
    assert_int_equal(rh_client_open(&c, fake.json, &slow, &err), 0);
    assert_string_equal(rh_client_session(c), "mine");
    rh_client_free(&c);
}

static void
test_urls_can_be_overridden(void **state)
{
    char url[64], json[2048], *p;
    const char *urls[] = {"registration", url, NULL};
    rh_client_options options = {.url = urls, .timeout_ms = WAIT_MS};
    rh_client *c = NULL;

    (void)state;
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", fake.port[FAKE_QUERY]);
    memcpy(json, fake.json, sizeof(json));
    p = strstr(json, "\"registration\": ") + strlen("\"registration\": ");
    memset(p, ' ', strcspn(p, ","));
    *p = '1';
    assert_int_equal(rh_client_open(&c, json, &options, &err), 0);
    rh_client_free(&c);
}

/* What fails for want of memory has changed nothing. */
static void
test_out_of_memory(void **state)
{
    static char big[70000];
    rh_buffer buffer[] = {{big, sizeof(big), release, NULL},
                          {"x", 1, NULL, NULL}};
    rh_submission what = {.channel = RH_TASK,
                          .msg_type = "apply_request",
                          .buffer = buffer,
                          .n_buffers = 2,
                          .flags = RH_TRACK};
    unsigned n = 0;
    int rc;

    (void)state;
    atomic_store(&n_released, 0);
    OOM_SWEEP(rc, {
        rh_request *req = NULL;

        rc = rh_client_submit(client, &what, &req, &err);
        mem_fail_after(-1);
        n++;
        if (rc == 0)
            rh_request_wait_sent(req, WAIT_MS);
        rh_request_release(&req);
    });
    assert_int_equal(rc, 0);
    assert_int_equal(atomic_load(&n_released), n);
    assert_int_equal(client->ledger.pending.n, 0);
    OOM_SWEEP(rc, {
        rh_request *req = NULL;

        rc = rh_client_execute(client, "U0", "x", RH_SILENT, &req, &err);
        rh_request_release(&req);
    });
    OOM_SWEEP(rc, {
        rh_client *c = NULL;
        rh_client_options options = {.timeout_ms = 50};

        rc = rh_client_open(&c, fake.json, &options, &err);
        mem_fail_after(-1);
        if (rc == RH_ETIMEDOUT || rc == RH_ENET)
            rc = RH_ENOMEM; // the hub's answer was what failed
        rh_client_free(&c);
    });
    assert_int_equal(rc, 0);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_first_program),
        TEST(test_bad_messages_change_nothing),
        TEST(test_submissions_that_are_refused),
        TEST(test_waiting_for_some),
        TEST(test_a_wait_of_zero_looks),
        TEST(test_results_nobody_wants_are_let_go),
        TEST(test_the_death_of_an_engine),
        TEST(test_an_engine_that_came_unnoticed),
        TEST(test_the_end_of_the_controller),
        TEST(test_a_broken_connection),
        TEST(test_a_controller_that_stays_away),
        TEST(test_buffers_are_lent_and_returned),
        TEST(test_broadcasts),
        TEST(test_many_threads_wait_at_once),
        TEST(test_events_come_without_waiting),
        TEST(test_the_runner_asks_in_a_burst),
        TEST(test_nothing_waits_for_a_runner_that_is_away),
        TEST(test_sending_forgets_no_messages),
        TEST(test_unwatching),
        TEST(test_closing_ends_all_waits),
        TEST(test_signals_interrupt),
        TEST(test_children_of_fork_are_told),
        TEST(test_opening_says_what_is_wrong),
        TEST(test_urls_can_be_overridden),
        TEST(test_out_of_memory),
    };

    return cmocka_run_group_tests_name("client.client", tests, NULL, NULL);
}
