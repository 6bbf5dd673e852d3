/* sqlite_test.c - SQLiteDB: the same answers as in memory, and a file
 *
 * SQLite takes its memory from mem.h as well, so that the sweeps reach it.
 */
#include "support.h"

#include <malloc.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "make.h"
#include "query_cases.h"

static char folder[64], path[96];

/* ---- fixture ---------------------------------------------------------- */

static int
setup(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "sqlite_test.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(path, sizeof(path), "%s/tasks.db", folder);
    return 0;
}

static int
teardown(void **state)
{
    char journal[128];

    (void)state;
    (void)snprintf(journal, sizeof(journal), "%s-journal", path);
    (void)unlink(journal);
    (void)unlink(path);
    return rmdir(folder);
}

static struct store *
open_file(void)
{
    struct store *s = NULL;
    rh_error err = {0};

    if (sqlite_open(&s, path, "ipython-tasks", &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

/* What another program sees in the file: the first column of the first row.
 */
static void
assert_sql(const char *sql, const char *want)
{
    sqlite3_stmt *stmt = NULL;
    sqlite3 *db = NULL;
    const char *got;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    got = sqlite3_step(stmt) == SQLITE_ROW
              ? (const char *)sqlite3_column_text(stmt, 0)
              : "(no row)";
    if (strcmp(got ? got : "(null)", want) != 0)
        fail_msg("%s gives %s, not %s", sql, got ? got : "(null)", want);
    (void)sqlite3_finalize(stmt);
    (void)sqlite3_close(db);
}

static void
execute(sqlite3 *db, const char *sql)
{
    char *text = NULL;

    if (sqlite3_exec(db, sql, NULL, NULL, &text) != SQLITE_OK)
        fail_msg("%s: %s", sql, text);
}

static int
put(struct store *s, const char *id, struct record change)
{
    return s->ops->put(s, span_str(id), &change, NULL);
}

static struct record
empty(void)
{
    struct record r;

    record_init(&r);
    return r;
}

static int
put_request(struct store *s, int i, int64_t submitted)
{
    struct record c = empty();
    char id[16];
    int rc;

    (void)snprintf(id, sizeof(id), "m%d", i);
    c.request = make_request(i);
    c.submitted_us = submitted;
    c.queue = SPAN_LIT("task");
    rc = c.request ? put(s, id, c) : RH_ENOMEM;
    msg_unref(&c.request);
    return rc;
}

static int
put_reply(struct store *s, int i, int64_t completed)
{
    struct record c = empty();
    char id[16];
    int rc;

    (void)snprintf(id, sizeof(id), "m%d", i);
    c.result = make_reply(i);
    c.completed_us = completed;
    c.engine_uuid = SPAN_LIT("E0");
    rc = c.result ? put(s, id, c) : RH_ENOMEM;
    msg_unref(&c.result);
    return rc;
}

struct text {
    int n;
    char s[4096];
};

static int
add_json(void *ctx, const struct record *r)
{
    struct text *t = ctx;
    struct buf out = {0};

    record_add_json(&out, r, RECORD_ALL);
    assert_false(out.failed);
    t->n += snprintf(t->s + t->n, sizeof(t->s) - (size_t)t->n, "%.*s ",
                     (int)out.n, (const char *)out.p);
    buf_fini(&out);
    return 0;
}

static int
add_id(void *ctx, struct span id)
{
    struct text *t = ctx;

    t->n += snprintf(t->s + t->n, sizeof(t->s) - (size_t)t->n, "%.*s ",
                     (int)id.n, (const char *)id.p);
    return 0;
}

static int
add_record_id(void *ctx, const struct record *r)
{
    return add_id(ctx, r->msg_id);
}

static struct text
found(struct store *s, const char *query)
{
    struct text t = {0};
    struct query *q = NULL;
    struct fault f = {0};

    if (query_parse(&q, span_str(query), &f) < 0)
        fail_msg("%s: %s", query, f.evalue);
    if (s->ops->find(s, q, 0, add_record_id, &t, &f) < 0)
        fail_msg("%s: %s", query, f.evalue);
    query_free(&q);
    return t;
}

/* ---- tests ------------------------------------------------------------ */

/* The full record of query_cases.h, through the file and back. */
static void
put_fixture(struct store *s)
{
    struct record r = empty();

    r.request = make_msg(
        "{\"msg_id\": \"m1\", \"msg_type\": \"apply_request\", "
        "\"session\": \"client\"}",
        "{\"label\": \"part-1\", \"retries\": 2}", "{\"code\": \"1\"}", "x");
    r.submitted_us = T0 + 5000000;
    assert_int_equal(put(s, "m2", r), 0);
    r.submitted_us = T0;
    r.result = make_msg("{\"msg_id\": \"r1\", \"msg_type\": \"apply_reply\"}",
                        "{\"status\": \"ok\", \"n\": 7}",
                        "{\"status\": \"ok\"}", NULL);
    r.completed_us = T0 + 1000000;
    r.engine_uuid = SPAN_LIT("E0");
    r.queue = SPAN_LIT("mux");
    r.execute_input = SPAN_LIT("\"6*7\"");
    r.out = SPAN_LIT("hello\n");
    assert_int_equal(put(s, "m1", r), 0);
    msg_unref(&r.request);
    msg_unref(&r.result);
}

static void
test_queries_as_in_memory(void **state)
{
    struct store *s = open_file();

    (void)state;
    put_fixture(s);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct text t = found(s, cases[i].query);
        const bool done = strstr(t.s, "m1") != NULL;
        const bool waiting = strstr(t.s, "m2") != NULL;

        if (done != cases[i].done || waiting != cases[i].waiting)
            fail_msg("%s finds %s", cases[i].query, t.s);
    }
    store_close(&s);
}

/* What upstream's reader expects in each column. */
static void
test_columns(void **state)
{
    struct store *s = open_file();

    (void)state;
    put_fixture(s);
    store_close(&s);
    assert_sql("SELECT sql FROM sqlite_master WHERE name = 'ipython-tasks'",
               "CREATE TABLE \"ipython-tasks\" (msg_id text PRIMARY KEY, "
               "header dict text, metadata dict text, content dict text, "
               "buffers bufs blob, submitted timestamp, client_uuid text, "
               "engine_uuid text, started timestamp, completed timestamp, "
               "resubmitted text, received timestamp, result_header dict text, "
               "result_metadata dict text, result_content dict text, "
               "result_buffers bufs blob, queue text, execute_input text, "
               "execute_result text, error text, stdout text, stderr text, "
               "label text)");
#define M1(c) "SELECT " c " FROM \"ipython-tasks\" WHERE msg_id = 'm1'"
    assert_sql(M1("submitted"), "2023-11-14T22:13:20+00:00");
    assert_sql(M1("completed"), "2023-11-14T22:13:21+00:00");
    assert_sql(M1("started"), "(null)");
    assert_sql(M1("client_uuid"), "client");
    assert_sql(M1("engine_uuid"), "E0");
    assert_sql(M1("queue"), "mux");
    assert_sql(M1("label"), "part-1");
    assert_sql(M1("execute_input"), "6*7");
    assert_sql(M1("stdout"), "hello\n");
    assert_sql(M1("stderr"), "");
    assert_sql(M1("metadata"), "{\"label\": \"part-1\", \"retries\": 2}");
    assert_sql(M1("hex(buffers)"), "80045D28430178652E");
    assert_sql(M1("hex(result_buffers)"), "");
    assert_sql("SELECT result_header FROM \"ipython-tasks\" WHERE msg_id = "
               "'m2'",
               "(null)");
}

static void
test_survives_the_process(void **state)
{
    struct store *s = open_file();
    struct text t = {0}, again = {0};

    (void)state;
    put_fixture(s);
    assert_int_equal(
        s->ops->get(s, SPAN_LIT("m1"), RECORD_ALL, add_json, &t, NULL), 0);
    store_close(&s);
    s = open_file();
    assert_int_equal(
        s->ops->get(s, SPAN_LIT("m1"), RECORD_ALL, add_json, &again, NULL), 0);
    assert_string_equal(t.s, again.s);
    assert_non_null(strstr(t.s, "\"execute_input\": \"6*7\""));
    assert_non_null(strstr(t.s, "\"label\": \"part-1\""));
    store_close(&s);
}

static int
compare_buffers(void *ctx, const struct record *r)
{
    (void)ctx;
    assert_int_equal(msg_n_buffers(r->request), 1);
    assert_true(span_is(msg_buffer(r->request, 0), "argument"));
    assert_int_equal(msg_n_buffers(r->result), 1);
    assert_true(span_is(msg_buffer(r->result, 0), "value"));
    return 0;
}

static int
no_buffers(void *ctx, const struct record *r)
{
    (void)ctx;
    assert_int_equal(msg_n_buffers(r->request), 0);
    assert_int_equal(msg_n_buffers(r->result), 0);
    return 0;
}

static void
test_buffers_come_only_if_asked_for(void **state)
{
    struct store *s = open_file();

    (void)state;
    assert_int_equal(put_request(s, 1, T0), 0);
    assert_int_equal(put_reply(s, 1, T0), 0);
    assert_int_equal(
        s->ops->get(s, SPAN_LIT("m1"), RECORD_ALL, compare_buffers, NULL, NULL),
        0);
    assert_int_equal(s->ops->get(s, SPAN_LIT("m1"), RECORD_BIT(HEADER),
                                 no_buffers, NULL, NULL),
                     0);
    store_close(&s);
}

static void
test_any_order_and_output(void **state)
{
    struct store *s = open_file();
    struct record c = empty();
    struct text t = {0};

    (void)state;
    c.out = SPAN_LIT("early ");
    assert_int_equal(put(s, "m1", c), 0);
    assert_int_equal(put_request(s, 1, T0), 0);
    // Written down in between.
    assert_int_equal(
        s->ops->get(s, SPAN_LIT("m1"), RECORD_ALL, add_json, &t, NULL), 0);
    c.out = SPAN_LIT("middle ");
    assert_int_equal(put(s, "m1", c), 0);
    assert_int_equal(put_reply(s, 1, T0), 0);
    c.out = SPAN_LIT("late");
    assert_int_equal(put(s, "m1", c), 0);
    t = (struct text){0};
    assert_int_equal(
        s->ops->get(s, SPAN_LIT("m1"), RECORD_ALL, add_json, &t, NULL), 0);
    assert_non_null(strstr(t.s, "\"stdout\": \"early middle late\""));
    assert_non_null(strstr(t.s, "\"queue\": \"task\""));
    assert_non_null(strstr(t.s, "\"result_content\": {\"status\": \"ok\"}"));
    store_close(&s);
}

static void
test_history_find_and_drop(void **state)
{
    struct store *s = open_file();
    struct query *q = NULL;
    struct text t = {0};
    struct fault f = {0};

    (void)state;
    for (int i = 0; i < 6; i++)
        assert_int_equal(put_request(s, i, T0 - i * 1000000), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(put_reply(s, i, T0), 0);
    assert_int_equal(s->ops->history(s, add_id, &t, NULL), 0);
    assert_string_equal(t.s, "m5 m4 m3 m2 m1 m0 ");
    assert_string_equal(
        found(s, "{\"msg_id\": {\"$in\": [\"m4\", \"m1\", \"m4\", 7, "
                 "\"nope\"]}}")
            .s,
        "m4 m1 ");
    assert_int_equal(
        query_parse(&q, SPAN_LIT("{\"completed\": {\"$ne\": null}}"), NULL), 0);
    assert_int_equal(s->ops->drop(s, q, &f), 3);
    assert_int_equal(s->ops->drop(s, q, &f), 0);
    query_free(&q);
    assert_int_equal(s->ops->drop_id(s, SPAN_LIT("m4"), &f), 1);
    assert_int_equal(s->ops->drop_id(s, SPAN_LIT("m4"), &f), 0);
    assert_string_equal(found(s, "{}").s, "m3 m5 ");
    assert_int_equal(s->ops->get(s, SPAN_LIT("m4"), 0, add_record_id, NULL, &f),
                     RH_ENOENT);
    assert_string_equal(f.ename, "KeyError");
    assert_string_equal(f.evalue, "\"No such msg: 'm4'\"");
    store_close(&s);
}

static void
test_commits_every_two_seconds(void **state)
{
    struct store *s = open_file();
    rh_error err = {0};

    (void)state;
    assert_true(s->ops->tick(s, 1000, &err) == INT64_MAX);
    assert_int_equal(put_request(s, 1, T0), 0);
    assert_int_equal(s->ops->tick(s, 1000, &err), 3000);
    assert_int_equal(s->ops->tick(s, 2999, &err), 3000);
    assert_sql("SELECT count(*) FROM \"ipython-tasks\"", "0");
    assert_true(s->ops->tick(s, 3000, &err) == INT64_MAX);
    assert_sql("SELECT count(*) FROM \"ipython-tasks\"", "1");
    assert_int_equal(err.code, 0);
    store_close(&s);
}

/* Another program writes: nothing is lost, only later. */
static void
test_a_locked_file_is_tried_again(void **state)
{
    struct store *s = open_file();
    struct fault f = {0};
    rh_error err = {0};
    sqlite3 *other = NULL;

    (void)state;
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    execute(other, "BEGIN IMMEDIATE");
    assert_int_equal(put_request(s, 1, T0), 0);
    assert_int_equal(s->ops->tick(s, 0, &err), 2000);
    assert_int_equal(s->ops->tick(s, 2000, &err), 4000);
    assert_non_null(strstr(err.text, "locked"));
    // A reader is told, too.
    assert_int_equal(s->ops->get(s, SPAN_LIT("m1"), 0, add_record_id, NULL, &f),
                     RH_EIO);
    assert_string_equal(f.ename, "OperationalError");
    assert_int_equal(put_reply(s, 1, T0), 0);
    execute(other, "ROLLBACK");
    (void)sqlite3_close(other);
    err = (rh_error){0};
    assert_true(s->ops->tick(s, 4000, &err) == INT64_MAX);
    assert_int_equal(err.code, 0);
    assert_sql("SELECT msg_id FROM \"ipython-tasks\" WHERE completed NOT NULL",
               "m1");
    store_close(&s);
}

/* What a reader forced into the file is committed with the next tick, so that
 * another controller with the same file does not wait.
 */
static void
test_two_may_use_the_file(void **state)
{
    struct store *s = open_file(), *other = open_file();
    rh_error err = {0};

    (void)state;
    assert_int_equal(put_request(s, 1, T0), 0);
    (void)found(s, "{}");
    assert_true(s->ops->tick(s, 0, &err) == INT64_MAX);
    assert_int_equal(put_request(other, 2, T0), 0);
    assert_non_null(strstr(found(other, "{}").s, "m2"));
    assert_int_equal(err.code, 0);
    store_close(&other);
    store_close(&s);
}

static void
test_another_programs_table_is_left_alone(void **state)
{
    struct store *s;
    sqlite3 *db = NULL;

    (void)state;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    execute(db, "CREATE TABLE \"ipython-tasks\" (msg_id text PRIMARY KEY)");
    execute(db, "CREATE TABLE \"ipython-tasks_1\" (something blob)");
    execute(db, "INSERT INTO \"ipython-tasks\" VALUES ('theirs')");
    (void)sqlite3_close(db);
    s = open_file();
    assert_int_equal(put_request(s, 1, T0), 0);
    store_close(&s);
    assert_sql("SELECT msg_id FROM \"ipython-tasks\"", "theirs");
    assert_sql("SELECT msg_id FROM \"ipython-tasks_2\"", "m1");
    s = open_file(); // and found again
    assert_string_equal(found(s, "{}").s, "m1 ");
    store_close(&s);
}

static void
test_odd_names(void **state)
{
    struct store *s = NULL;

    (void)state;
    assert_int_equal(sqlite_open(&s, path, "a\"b'; DROP TABLE x; --", NULL), 0);
    assert_int_equal(put_request(s, 1, T0), 0);
    store_close(&s);
    assert_sql("SELECT name FROM sqlite_master WHERE type = 'table'",
               "a\"b'; DROP TABLE x; --");
}

static void
test_not_a_database(void **state)
{
    struct store *s = NULL;
    rh_error err = {0};
    FILE *f;

    (void)state;
    assert_int_equal(sqlite_open(&s, folder, "t", &err), RH_EIO);
    assert_null(s);
    assert_non_null(strstr(err.text, folder));
    f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 1000; i++)
        (void)fputs("this is no database\n", f);
    (void)fclose(f);
    assert_int_equal(sqlite_open(&s, path, "t", &err), RH_EIO);
    assert_non_null(strstr(err.text, "not a database"));
}

/* Rows that others wrote, or that are damaged, are read as far as they go. */
static void
test_odd_rows(void **state)
{
    struct store *s = open_file();
    struct text t = {0};
    sqlite3 *db = NULL;

    (void)state;
    store_close(&s);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    execute(db, "INSERT INTO \"ipython-tasks\" (msg_id, header, content, "
                "buffers, submitted, result_header, result_content, "
                "execute_result, error, execute_input) VALUES "
                "('m1', '{\"a\"', 'x', x'ff00', 'yesterday', '{}', '[1]', "
                "'no json', '[]', 'print(\"\"\"hi\"\"\")')");
    execute(db, "INSERT INTO \"ipython-tasks\" (msg_id) VALUES ('m2')");
    (void)sqlite3_close(db);
    s = open_file();
    assert_int_equal(
        s->ops->get(s, SPAN_LIT("m1"), RECORD_ALL, add_json, &t, NULL), 0);
    assert_non_null(strstr(t.s, "\"header\": null"));
    assert_non_null(strstr(t.s, "\"submitted\": null"));
    assert_non_null(strstr(t.s, "\"result_header\": {}"));
    assert_non_null(strstr(t.s, "\"error\": null"));
    assert_non_null(strstr(
        t.s, "\"execute_input\": \"print(\\\"\\\"\\\"hi\\\"\\\"\\\")\""));
    assert_string_equal(found(s, "{}").s, "m1 m2 ");
    assert_string_equal(found(s, "{\"stdout\": \"\"}").s, "m1 m2 ");
    store_close(&s);
}

/* A full disk (here: a limit on file sizes) is told, and tried again. */
static void
test_a_full_disk(void **state)
{
    struct store *s = open_file();
    struct rlimit old, small = {.rlim_cur = 64 << 10};
    struct record c = empty();
    rh_error err = {0};
    char *big = calloc(1, (1 << 20) + 1);

    (void)state;
    memset(big, 'x', 1 << 20);
    c.request = make_msg("{}", "{}", "{}", big);
    c.submitted_us = T0;
    assert_int_equal(put(s, "m1", c), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(s->ops->tick(s, 0, &err), 2000);
    assert_int_equal(s->ops->tick(s, 2000, &err), 4000);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(err.code, RH_EIO);
    err = (rh_error){0};
    // What comes next is kept again.
    assert_int_equal(put_request(s, 2, T0), 0);
    assert_true(s->ops->tick(s, 4000, &err) == INT64_MAX);
    assert_int_equal(err.code, 0);
    assert_sql("SELECT msg_id FROM \"ipython-tasks\" WHERE msg_id = 'm2'",
               "m2");
    assert_sql("PRAGMA integrity_check", "ok");
    msg_unref(&c.request);
    free(big);
    store_close(&s);
}

static int
full_life(void)
{
    struct store *s = NULL;
    struct text t = {0};
    struct query *q = NULL;
    struct fault f = {0};
    rh_error err = {0};
    int rc = sqlite_open(&s, path, "ipython-tasks", &err);

    if (rc == 0)
        rc = put_request(s, 1, T0);
    if (rc == 0)
        rc = s->ops->get(s, SPAN_LIT("m1"), RECORD_ALL, add_record_id, &t, &f);
    if (rc == 0)
        rc = put_reply(s, 1, T0);
    if (rc == 0)
        rc = query_parse(&q, SPAN_LIT("{\"queue\": \"task\"}"), &f);
    if (rc == 0)
        rc = s->ops->find(s, q, RECORD_ALL, add_record_id, &t, &f);
    if (rc == 0)
        rc = s->ops->history(s, add_id, &t, &f);
    if (rc >= 0)
        rc = s->ops->drop(s, q, &f);
    if (rc >= 0)
        (void)s->ops->tick(s, 0, &err);
    if (rc >= 0)
        (void)s->ops->tick(s, 5000, &err);
    query_free(&q);
    store_close(&s);
    return rc < 0 ? rc : err.code;
}

static void
test_out_of_memory(void **state)
{
    int rc;

    (void)state;
    // Whatever SQLite calls it, it must end well and leave a sound file.
    for (long n = 0;; n++) {
        mem_fail_after(n);
        rc = full_life();
        mem_fail_after(-1);
        if (rc == 0)
            break;
        assert_in_range(n, 0, 20000);
    }
    assert_sql("PRAGMA integrity_check", "ok");
}

/* ---- SQLite's memory -------------------------------------------------- */

static void *
lite_malloc(int n)
{
    return mem_alloc((size_t)n);
}

static void *
lite_realloc(void *p, int n)
{
    return mem_resize(p, (size_t)n, 1);
}

static int
lite_size(void *p)
{
    return p ? (int)malloc_usable_size(p) : 0;
}

static int
lite_round(int n)
{
    return (n + 7) & ~7;
}

static int
lite_init(void *ctx)
{
    (void)ctx;
    return SQLITE_OK;
}

static void
lite_shutdown(void *ctx)
{
    (void)ctx;
}

static int
memory_from_mem(void **state)
{
    static const sqlite3_mem_methods methods = {
        lite_malloc, mem_free,  lite_realloc,  lite_size,
        lite_round,  lite_init, lite_shutdown, NULL};

    (void)state;
    jansson_from_mem();
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK
                   && sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) == SQLITE_OK
               ? 0
               : -1;
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_queries_as_in_memory),
        FILE_TEST(test_columns),
        FILE_TEST(test_survives_the_process),
        FILE_TEST(test_buffers_come_only_if_asked_for),
        FILE_TEST(test_any_order_and_output),
        FILE_TEST(test_history_find_and_drop),
        FILE_TEST(test_commits_every_two_seconds),
        FILE_TEST(test_a_locked_file_is_tried_again),
        FILE_TEST(test_two_may_use_the_file),
        FILE_TEST(test_another_programs_table_is_left_alone),
        FILE_TEST(test_odd_names),
        FILE_TEST(test_not_a_database),
        FILE_TEST(test_odd_rows),
        FILE_TEST(test_a_full_disk),
        FILE_TEST(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, memory_from_mem, NULL);
}
