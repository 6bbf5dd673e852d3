/* engine_test.c - a whole engine against a made-up controller and interpreter
 *
 * The engine runs in a thread of its own, as in its own process; the test is
 * the controller.  The interpreter does what the first buffer says.
 */
#include "controller.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/engine.h"

struct world {
    struct controller c;
    struct engine_config config;
    struct interp interp;
    pthread_t thread;
    int exit_code;

    struct engine *engine;
    sem_t go, busy; // for "wait": told to go on, has begun
    atomic_int interrupted;
    atomic_int applied, cleared;
};

/* The interpreter */

static int
on_start(void *ctx, struct engine *engine, rh_error *err)
{
    struct world *w = ctx;

    (void)err;
    w->engine = engine;
    return 0;
}

static void
on_stop(void *ctx)
{
    struct world *w = ctx;

    w->engine = NULL;
}

static void
wait_for_go(struct world *w, struct outcome *out)
{
    sem_post(&w->busy);
    while (sem_trywait(&w->go) != 0) {
        if (atomic_exchange(&w->interrupted, 0)) {
            outcome_fail(out, "KeyboardInterrupt", "");
            return;
        }
        engine_pause();
    }
}

static int
on_apply(void *ctx, const struct job *job, struct outcome *out, rh_error *err)
{
    struct world *w = ctx;
    struct span what =
        msg_n_buffers(job->msg) ? msg_buffer(job->msg, 0) : SPAN_NONE;
    size_t done;

    atomic_fetch_add(&w->applied, 1);
    if (span_is(what, "fail"))
        return rh_fail(err, RH_ENOMEM, "on purpose");
    if (span_is(what, "raise"))
        outcome_fail(out, "ValueError", "on purpose");
    if (span_is(what, "unmet")) {
        outcome_fail(out, "UnmetDependency", "");
        out->unmet = true;
    }
    if (span_is(what, "print"))
        engine_write(w->engine, ENGINE_STDOUT, SPAN_LIT("hello"), false, &done);
    if (span_is(what, "wait"))
        wait_for_go(w, out);
    if (out->status == OUTCOME_OK)
        return outcome_add(out, what, NULL);
    return 0;
}

static int
on_request(void *ctx, const struct job *job, struct outcome *out, rh_error *err)
{
    (void)ctx;
    (void)err;
    if (span_is(job->header.msg_type, "comm_msg")) {
        out->silent = true;
        return 0;
    }
    if (!span_is(job->header.msg_type, "execute_request"))
        return RH_ENOENT;
    if (msg_n_buffers(job->msg)) { // a failing cell
        outcome_fail(out, "NameError", "x");
        out->abort_executes = true;
        return 0;
    }
    buf_add_str(&out->content, "\"execution_count\": 1");
    return 0;
}

static int
on_clear(void *ctx, rh_error *err)
{
    struct world *w = ctx;

    (void)err;
    atomic_fetch_add(&w->cleared, 1);
    return 0;
}

static int
on_service(void *ctx)
{
    (void)ctx;
    return 0;
}

static void
on_interrupt(void *ctx)
{
    struct world *w = ctx;

    atomic_store(&w->interrupted, 1);
}

/* Setup */

static void *
run(void *arg)
{
    struct world *w = arg;

    w->exit_code = engine_run(&w->config, &w->interp);
    return NULL;
}

static void
start_with(struct world *w, const char *more)
{
    char file[1024], json[2048];
    rh_error err = {.code = 0};

    sem_init(&w->go, 0, 0);
    sem_init(&w->busy, 0, 0);
    controller_open(&w->c);
    controller_file(&w->c, file, sizeof(file));
    (void)snprintf(json, sizeof(json),
                   "{\"connection\": %s, \"log_level\": 50, "
                   "\"capture\": false%s}",
                   file, more);
    if (engine_config_parse(&w->config, span_str(json), &err) < 0)
        fail_msg("%s", err.text);
    w->interp = (struct interp){
        .ctx = w,
        .start = on_start,
        .stop = on_stop,
        .apply = on_apply,
        .request = on_request,
        .clear = on_clear,
        .service = on_service,
        .interrupt = on_interrupt,
        .kernel_info = "\"protocol_version\": \"5.3\"",
    };
    assert_int_equal(pthread_create(&w->thread, NULL, run, w), 0);
}

static struct world *
start(void)
{
    struct world *w = calloc(1, sizeof(*w));
    struct msg *m;

    start_with(w, "");
    controller_register(&w->c,
                        "{\"status\": \"ok\", \"id\": 4, \"hb_period\": 1000}");
    // Its pong says that the engine is complete.
    do
        (void)net_send(w->c.sock[PING], &SPAN_LIT("1.5"), 1, NULL, 0, NULL);
    while (!(m = controller_poll(&w->c, PONG, 20)));
    assert_true(span_is(m->frame[0], w->c.engine));
    assert_true(span_is(m->frame[1], "1.5"));
    msg_unref(&m);
    return w;
}

static void
finish(struct world *w, int exit_code)
{
    pthread_join(w->thread, NULL);
    assert_int_equal(w->exit_code, exit_code);
    controller_close(&w->c);
    free(w);
}

static void
shut_down(struct world *w)
{
    struct msg *m;

    controller_send(&w->c, CONTROL, "shutdown_request", NULL,
                    "{\"restart\": false}", NULL);
    m = controller_recv(&w->c, CONTROL);
    assert_message(m, "shutdown_reply", w->c.msg_id);
    assert_member(msg_part(m, MSG_CONTENT), "restart", "false");
    msg_unref(&m);
    m = controller_recv(&w->c, REG);
    assert_message(m, "unregistration_request", NULL);
    assert_member(msg_part(m, MSG_CONTENT), "id", "4");
    msg_unref(&m);
    finish(w, 0);
}

static void
apply(struct world *w, enum channel channel, const char *what)
{
    controller_send(&w->c, channel, "apply_request", NULL, NULL, what);
}

/* The reply to request 'id', with this status. */
static struct msg *
expect_reply(struct world *w, enum channel channel, const char *type,
             const char *id, const char *status)
{
    struct msg *m = controller_recv(&w->c, channel);

    assert_message(m, type, id);
    assert_true(span_is(m->frame[1], "cid")); // after the engine's identity
    assert_member(msg_part(m, MSG_METADATA), "status", status);
    assert_member(msg_part(m, MSG_CONTENT), "status", status);
    return m;
}

static void
expect_apply(struct world *w, enum channel channel, const char *id,
             const char *status)
{
    struct msg *m = expect_reply(w, channel, "apply_reply", id, status);

    msg_unref(&m);
}

static void
keep_id(const struct world *w, char out[MSG_ID_SIZE])
{
    memcpy(out, w->c.msg_id, MSG_ID_SIZE);
}

/* Tests */

static void
test_every_shell_channel_is_served(void **state)
{
    struct world *w = start();
    const enum channel channels[] = {MUX, TASK, BCAST};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct msg *m;

        apply(w, channels[i], "echo this");
        m = expect_reply(w, channels[i], "apply_reply", w->c.msg_id, "\"ok\"");
        assert_int_equal(msg_n_buffers(m), 1);
        assert_true(span_is(msg_buffer(m, 0), "echo this"));
        msg_unref(&m);
    }
    shut_down(w);
}

static void
test_failures_are_replies(void **state)
{
    static const struct {
        const char *what, *ename, *met;
    } cases[] = {
        {"raise", "\"ValueError\"", "true"},
        {"unmet", "\"UnmetDependency\"", "false"},
        {"fail", "\"MemoryError\"", "true"},
    };
    struct world *w = start();

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct msg *m;

        apply(w, TASK, cases[i].what);
        m = expect_reply(w, TASK, "apply_reply", w->c.msg_id, "\"error\"");
        assert_member(msg_part(m, MSG_CONTENT), "ename", cases[i].ename);
        assert_member(msg_part(m, MSG_METADATA), "dependencies_met",
                      cases[i].met);
        assert_member(member(msg_part(m, MSG_CONTENT), "engine_info"),
                      "engine_id", "4");
        assert_int_equal(msg_n_buffers(m), 0);
        msg_unref(&m);
    }
    shut_down(w);
}

/* A retry is the same message.  What succeeded is never run twice. */
static void
test_a_task_that_failed_may_come_again(void **state)
{
    static const char *const what[] = {"raise", "this"};
    struct world *w = start();

    (void)state;
    for (int i = 0; i < 2; i++) {
        apply(w, TASK, what[i]);
        expect_apply(w, TASK, w->c.msg_id, i ? "\"ok\"" : "\"error\"");
        controller_send_again(&w->c, TASK, "apply_request", NULL, NULL,
                              what[i]);
        if (i == 0)
            expect_apply(w, TASK, w->c.msg_id, "\"error\"");
    }
    apply(w, TASK, "next");
    expect_apply(w, TASK, w->c.msg_id, "\"ok\"");
    apply(w, MUX, "raise"); // not a task
    expect_apply(w, MUX, w->c.msg_id, "\"error\"");
    controller_send_again(&w->c, MUX, "apply_request", NULL, NULL, "raise");
    apply(w, MUX, "next");
    expect_apply(w, MUX, w->c.msg_id, "\"ok\"");
    shut_down(w);
}

/* iopub: topic, type, for the last request */
static void
expect_iopub(struct world *w, const char *topic, const char *type,
             const char *parent)
{
    struct msg *m = controller_recv(&w->c, IOPUB);

    assert_true(span_is(m->frame[0], topic));
    assert_message(m, type, parent);
    msg_unref(&m);
}

/* A PUB drops what it sends before it is connected: wait for that, and take
 * everything so far.
 */
static void
settle(struct world *w)
{
    struct msg *m;

    do {
        apply(w, MUX, "warm");
        expect_apply(w, MUX, w->c.msg_id, "\"ok\"");
        m = controller_poll(&w->c, IOPUB, 20);
    } while (!m);
    do
        msg_unref(&m);
    while ((m = controller_poll(&w->c, IOPUB, 200)));
}

static void
test_output_stands_between_busy_and_idle(void **state)
{
    struct world *w = start();
    char id[MSG_ID_SIZE];

    (void)state;
    settle(w);
    apply(w, MUX, "print");
    keep_id(w, id);
    expect_apply(w, MUX, id, "\"ok\"");
    expect_iopub(w, "engine.4.status", "status", id);
    expect_iopub(w, "engine.4.stdout", "stream", id);
    expect_iopub(w, "engine.4.status", "status", id);
    apply(w, MUX, "raise");
    keep_id(w, id);
    expect_apply(w, MUX, id, "\"error\"");
    expect_iopub(w, "engine.4.status", "status", id);
    expect_iopub(w, "engine.4.error", "error", id);
    expect_iopub(w, "engine.4.status", "status", id);
    shut_down(w);
}

static void
test_output_flows_while_code_runs(void **state)
{
    struct world *w = start();
    char id[MSG_ID_SIZE];
    size_t done;

    (void)state;
    settle(w);
    apply(w, MUX, "wait");
    keep_id(w, id);
    sem_wait(&w->busy);
    expect_iopub(w, "engine.4.status", "status", id);
    assert_int_equal(
        engine_write(w->engine, ENGINE_STDERR, SPAN_LIT("still"), false, &done),
        0);
    expect_iopub(w, "engine.4.stderr", "stream", id);
    sem_post(&w->go);
    expect_apply(w, MUX, id, "\"ok\"");
    shut_down(w);
}

static void
expect_control(struct world *w, const char *type)
{
    struct msg *m = controller_recv(&w->c, CONTROL);

    assert_message(m, type, w->c.msg_id);
    assert_member(msg_part(m, MSG_CONTENT), "status", "\"ok\"");
    msg_unref(&m);
}

static void
test_control_answers_while_code_runs(void **state)
{
    struct world *w = start();
    char ids[4][MSG_ID_SIZE], content[512];

    (void)state;
    apply(w, MUX, "wait");
    keep_id(w, ids[0]);
    sem_wait(&w->busy);
    for (int i = 1; i < 4; i++) {
        apply(w, TASK, "later");
        keep_id(w, ids[i]);
    }
    (void)snprintf(content, sizeof(content), "{\"msg_ids\": [\"%s\", \"%s\"]}",
                   ids[0], ids[2]);
    controller_send(&w->c, CONTROL, "abort_request", NULL, content, NULL);
    expect_control(w, "abort_reply");
    controller_send(&w->c, CONTROL, "kernel_info_request", NULL, NULL, NULL);
    expect_control(w, "kernel_info_reply");
    sem_post(&w->go);
    expect_apply(w, MUX, ids[0], "\"ok\""); // it ran already
    expect_apply(w, TASK, ids[1], "\"ok\"");
    expect_apply(w, TASK, ids[2], "\"aborted\"");
    expect_apply(w, TASK, ids[3], "\"ok\"");
    assert_int_equal(atomic_load(&w->applied), 3);
    shut_down(w);
}

static void
cancel(struct world *w, const char *id, bool found)
{
    char content[512], quoted[MSG_ID_SIZE + 2];
    struct msg *m;

    (void)snprintf(content, sizeof(content),
                   "{\"msg_ids\": [\"%s\"], "
                   "\"roundhouse\": {\"interrupt\": true}}",
                   id);
    controller_send(&w->c, CONTROL, "abort_request", NULL, content, NULL);
    m = controller_recv(&w->c, CONTROL);
    assert_message(m, "abort_reply", w->c.msg_id);
    (void)snprintf(quoted, sizeof(quoted), "\"%s\"", id);
    assert_member(member(msg_part(m, MSG_CONTENT), "roundhouse"), "interrupted",
                  found ? quoted : "null");
    msg_unref(&m);
}

static void
test_cancel_hits_the_call_it_names(void **state)
{
    struct world *w = start();
    char ids[2][MSG_ID_SIZE];
    struct msg *m;

    (void)state;
    apply(w, MUX, "wait");
    keep_id(w, ids[0]);
    sem_wait(&w->busy);
    apply(w, TASK, "later");
    keep_id(w, ids[1]);
    cancel(w, ids[1], false);
    assert_int_equal(atomic_load(&w->interrupted), 0);
    cancel(w, ids[0], true);
    m = expect_reply(w, MUX, "apply_reply", ids[0], "\"error\"");
    assert_member(msg_part(m, MSG_CONTENT), "ename", "\"KeyboardInterrupt\"");
    msg_unref(&m);
    expect_apply(w, TASK, ids[1], "\"aborted\"");
    cancel(w, ids[0], false); // it is over
    cancel(w, "", false);     // nothing runs
    controller_send(&w->c, CONTROL, "abort_request", NULL,
                    "{\"msg_ids\": [], \"roundhouse\": {\"kill_ms\": -1}}",
                    NULL);
    m = controller_recv(&w->c, CONTROL);
    assert_member(msg_part(m, MSG_CONTENT), "ename", "\"TypeError\"");
    msg_unref(&m);
    shut_down(w);
}

/* null, [] and nothing mean everything that waits */
static void
test_abort_of_everything_that_waits(void **state)
{
    static const char *const all[] = {"{\"msg_ids\": null}",
                                      "{\"msg_ids\": []}", "{}"};
    struct world *w = start();

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        char first[MSG_ID_SIZE], waits[MSG_ID_SIZE], later[MSG_ID_SIZE];

        apply(w, MUX, "wait");
        keep_id(w, first);
        sem_wait(&w->busy);
        apply(w, MUX, "waits");
        keep_id(w, waits);
        // The abort may overtake it on another connection: wait until the
        // control thread has seen something sent after it.
        controller_send(&w->c, MUX, "comm_msg", NULL, NULL, NULL);
        for (int n = 0; n < 50; n++)
            engine_pause();
        controller_send(&w->c, CONTROL, "abort_request", NULL, all[i], NULL);
        expect_control(w, "abort_reply");
        apply(w, MUX, "later");
        keep_id(w, later);
        sem_post(&w->go);
        expect_apply(w, MUX, first, "\"ok\"");
        expect_apply(w, MUX, waits, "\"aborted\"");
        expect_apply(w, MUX, later, "\"ok\"");
    }
    shut_down(w);
}

static void
test_a_failing_cell_cancels_the_cells_behind_it(void **state)
{
    struct world *w = start();
    char id[5][MSG_ID_SIZE];
    struct msg *m;

    (void)state;
    apply(w, MUX, "wait"); // so that all of them are there
    keep_id(w, id[0]);
    sem_wait(&w->busy);
    controller_send(&w->c, MUX, "execute_request", NULL, NULL, "bad");
    keep_id(w, id[1]);
    controller_send(&w->c, MUX, "execute_request", NULL, NULL, NULL);
    keep_id(w, id[2]);
    apply(w, MUX, "x");
    keep_id(w, id[3]);
    for (int n = 0; n < 50; n++)
        engine_pause();
    sem_post(&w->go);
    expect_apply(w, MUX, id[0], "\"ok\"");
    m = expect_reply(w, MUX, "execute_reply", id[1], "\"error\"");
    msg_unref(&m);
    m = expect_reply(w, MUX, "execute_reply", id[2], "\"aborted\"");
    msg_unref(&m);
    expect_apply(w, MUX, id[3], "\"ok\"");
    controller_send(&w->c, MUX, "execute_request", NULL, NULL, NULL);
    m = expect_reply(w, MUX, "execute_reply", w->c.msg_id, "\"ok\"");
    assert_member(msg_part(m, MSG_CONTENT), "execution_count", "1");
    msg_unref(&m);
    shut_down(w);
}

static void
test_clear_waits_for_the_running_job(void **state)
{
    struct world *w = start();
    char job[MSG_ID_SIZE];

    (void)state;
    apply(w, MUX, "wait");
    keep_id(w, job);
    sem_wait(&w->busy);
    controller_send(&w->c, CONTROL, "clear_request", NULL, NULL, NULL);
    assert_null(controller_poll(&w->c, CONTROL, 100));
    assert_int_equal(atomic_load(&w->cleared), 0);
    sem_post(&w->go);
    expect_apply(w, MUX, job, "\"ok\"");
    expect_control(w, "clear_reply");
    assert_int_equal(atomic_load(&w->cleared), 1);
    shut_down(w);
}

static void
test_signals(void **state)
{
    struct world *w = start();
    char job[MSG_ID_SIZE];
    struct msg *m;

    (void)state;
    controller_send(&w->c, CONTROL, "signal_request", NULL,
                    "{\"sig\": \"SIGINT\"}", NULL); // idle: no effect
    expect_control(w, "_request");
    apply(w, MUX, "wait");
    keep_id(w, job);
    sem_wait(&w->busy);
    controller_send(&w->c, CONTROL, "signal_request", NULL, "{\"sig\": 2}",
                    NULL);
    expect_control(w, "_request");
    expect_apply(w, MUX, job, "\"error\"");
    controller_send(&w->c, CONTROL, "signal_request", NULL,
                    "{\"sig\": \"SIGFOO\"}", NULL);
    m = controller_recv(&w->c, CONTROL);
    assert_message(m, "_request", w->c.msg_id);
    assert_member(msg_part(m, MSG_CONTENT), "ename", "\"ValueError\"");
    msg_unref(&m);
    shut_down(w);
}

static void
test_shutdown_answers_everything(void **state)
{
    struct world *w = start();
    char job[MSG_ID_SIZE], waits[MSG_ID_SIZE];

    (void)state;
    apply(w, MUX, "wait");
    keep_id(w, job);
    sem_wait(&w->busy);
    apply(w, TASK, "waits");
    keep_id(w, waits);
    for (int n = 0; n < 50; n++)
        engine_pause();
    controller_send(&w->c, CONTROL, "shutdown_request", NULL, "{}", NULL);
    expect_control(w, "shutdown_reply");
    expect_apply(w, MUX, job, "\"error\""); // interrupted
    expect_apply(w, TASK, waits, "\"aborted\"");
    finish(w, 0);
}

/* Nothing of this is answered, and nothing of it does harm. */
static void
test_strangers_get_no_answer(void **state)
{
    static const char *const bad_type[] = {"no_such_request", "comm_msg"};
    struct world *w = start();
    struct span junk[] = {span_str(w->c.engine), SPAN_LIT("cid"),
                          SPAN_LIT("<IDS|MSG>"), SPAN_LIT("00"),
                          SPAN_LIT("{}"),        SPAN_LIT("{}"),
                          SPAN_LIT("{}"),        SPAN_LIT("{}")};

    (void)state;
    for (size_t n = 2; n <= 8; n++) {
        (void)net_send(w->c.sock[MUX], junk, n, NULL, 0, NULL);
        (void)net_send(w->c.sock[CONTROL], junk, n, NULL, 0, NULL);
    }
    for (size_t i = 0; i < 2; i++) {
        controller_send(&w->c, MUX, bad_type[i], NULL, NULL, NULL);
        controller_send(&w->c, CONTROL, bad_type[i], NULL, NULL, NULL);
    }
    controller_send(&w->c, CONTROL, "abort_request", NULL, "{\"msg_ids\": [3]}",
                    NULL);
    {
        struct msg *m = controller_recv(&w->c, CONTROL);

        assert_message(m, "abort_reply", w->c.msg_id);
        assert_member(msg_part(m, MSG_CONTENT), "ename", "\"TypeError\"");
        msg_unref(&m);
    }
    apply(w, MUX, "alive");
    expect_apply(w, MUX, w->c.msg_id, "\"ok\"");
    assert_int_equal(atomic_load(&w->applied), 1);
    shut_down(w);
}

static void
test_refused_registration(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    (void)state;
    start_with(w, "");
    controller_register(&w->c, "{\"status\": \"error\", \"ename\": "
                               "\"KeyError\", \"evalue\": \"in use\"}");
    finish(w, 255);
}

static void
test_a_silent_controller(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    (void)state;
    start_with(w, ", \"timeout_ms\": 50");
    finish(w, 255);
}

static void
test_lost_heartbeat_ends_the_engine(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct msg *m;

    (void)state;
    start_with(w, ", \"max_misses\": 1");
    controller_register(&w->c,
                        "{\"status\": \"ok\", \"id\": 4, \"hb_period\": 1}");
    m = controller_recv(&w->c, REG);
    assert_message(m, "unregistration_request", NULL);
    msg_unref(&m);
    finish(w, 0);
}

static void
test_sigterm_unregisters(void **state)
{
    struct world *w = start();
    struct msg *m;

    (void)state;
    pthread_kill(w->thread, SIGTERM);
    m = controller_recv(&w->c, REG);
    assert_message(m, "unregistration_request", NULL);
    msg_unref(&m);
    finish(w, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_shell_channel_is_served),
        cmocka_unit_test(test_failures_are_replies),
        cmocka_unit_test(test_a_task_that_failed_may_come_again),
        cmocka_unit_test(test_output_stands_between_busy_and_idle),
        cmocka_unit_test(test_output_flows_while_code_runs),
        cmocka_unit_test(test_control_answers_while_code_runs),
        cmocka_unit_test(test_cancel_hits_the_call_it_names),
        cmocka_unit_test(test_abort_of_everything_that_waits),
        cmocka_unit_test(test_a_failing_cell_cancels_the_cells_behind_it),
        cmocka_unit_test(test_clear_waits_for_the_running_job),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_shutdown_answers_everything),
        cmocka_unit_test(test_strangers_get_no_answer),
        cmocka_unit_test(test_refused_registration),
        cmocka_unit_test(test_a_silent_controller),
        cmocka_unit_test(test_lost_heartbeat_ends_the_engine),
        cmocka_unit_test(test_sigterm_unregisters),
    };

    alarm(300); // rather than hang
    return cmocka_run_group_tests(tests, NULL, NULL);
}
