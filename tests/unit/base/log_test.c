/* log_test.c - lines are whole, and a bad target harms nobody */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"

struct fixture {
    char path[64];
};

static int
setup(void **state)
{
    static struct fixture f;
    int fd;

    strcpy(f.path, "log_test.XXXXXX");
    fd = mkstemp(f.path);
    if (fd < 0)
        return -1;
    close(fd);
    *state = &f;
    log_setup("IPController", LOG_INFO);
    return log_to_file(f.path);
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    return unlink(f->path);
}

/* The file's text, in a static buffer. */
static char *
text_of(const struct fixture *f)
{
    static char text[1 << 20];
    FILE *file = fopen(f->path, "r");
    size_t n;

    assert_non_null(file);
    n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    return text;
}

static void
test_line_format(void **state)
{
    const char *want = "dddd-dd-dd dd:dd:dd.ddd [IPController] task 7 done\n";
    char *text;

    log_info("task %d %s", 7, "done");
    text = text_of(*state);
    assert_int_equal(strlen(text), strlen(want));
    for (size_t i = 0; want[i]; i++)
        assert_true((want[i] == 'd' && i < 23)
                        ? text[i] >= '0' && text[i] <= '9'
                        : text[i] == want[i]);
}

static void
test_levels_filter(void **state)
{
    log_debug("hidden");
    log_warn("shown");
    log_setup("x", LOG_ERROR);
    log_warn("hidden");
    log_error("shown %s", "too");
    log_setup("x", LOG_DEBUG);
    assert_int_equal(log_level(), LOG_DEBUG);
    log_debug("deep");
    assert_null(strstr(text_of(*state), "hidden"));
    assert_non_null(strstr(text_of(*state), "shown\n"));
    assert_non_null(strstr(text_of(*state), "shown too\n"));
    assert_non_null(strstr(text_of(*state), "deep\n"));
}

static void
test_one_event_is_one_line(void **state)
{
    char big[10000], *text;

    log_info("a\nb\rc\x1b[31m");
    text = text_of(*state);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_non_null(strstr(text, "a b c [31m\n"));
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    log_info("%s", big);
    text = text_of(*state);
    assert_string_equal(text + strlen(text) - 5, "x...\n");
}

static void
test_errno_survives(void **state)
{
    errno = ENOSPC;
    log_error("written");
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(log_to_file("/dev/full"), 0);
    errno = EINTR;
    log_error("not written");
    assert_int_equal(errno, EINTR);
    assert_non_null(strstr(text_of(*state), "] written\n"));
}

static void *
chatter(void *arg)
{
    for (int i = 0; i < 400; i++)
        log_info("thread=%d line=%d end", *(int *)arg, i);
    return NULL;
}

static void
test_threads_do_not_mix_lines(void **state)
{
    pthread_t thread[4];
    int id[4], next[4] = {0}, n = 0;
    char *save, *line;

    for (int i = 0; i < 4; i++) {
        id[i] = i;
        assert_int_equal(pthread_create(&thread[i], NULL, chatter, &id[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    for (line = strtok_r(text_of(*state), "\n", &save); line;
         line = strtok_r(NULL, "\n", &save), n++) {
        int t, i, end = 0;
        const char *tail = strstr(line, "thread=");

        assert_non_null(tail);
        assert_int_equal(sscanf(tail, "thread=%d line=%d end%n", &t, &i, &end),
                         2);
        assert_int_equal(tail[end], '\0');
        assert_true(t >= 0 && t < 4);
        assert_int_equal(i, next[t]++);
    }
    assert_int_equal(n, 1600);
}

static void
test_full_disk_loses_lines_and_says_so(void **state)
{
    struct rlimit old, small;
    char *text;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 150; // two lines and a half
    setrlimit(RLIMIT_FSIZE, &small);
    for (int i = 0; i < 10; i++)
        log_info("line %d, some more text", i);
    setrlimit(RLIMIT_FSIZE, &old);
    log_info("room again");
    text = text_of(*state);
    assert_non_null(strstr(text, "line 0, some more text\n"));
    assert_non_null(strstr(text, " lines of log lost"));
    assert_non_null(strstr(text, "room again\n"));
    // The torn line was ended before the note.
    assert_int_equal(strstr(text, "(")[-1], '\n');
}

static void
test_bad_targets_are_survived(void **state)
{
    struct fixture *f = *state;
    char path[32];
    int end[2];

    assert_int_equal(log_to_file("/dev/full"), 0);
    log_info("lost");
    assert_int_equal(pipe(end), 0);
    snprintf(path, sizeof(path), "/dev/fd/%d", end[1]);
    assert_int_equal(log_to_file(path), 0);
    close(end[0]);
    close(end[1]);
    log_info("nobody reads; SIGPIPE must not end us");
    assert_int_equal(log_to_file("no such folder/log"), RH_EIO);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(log_to_file(f->path), 0);
    log_info("back");
    assert_non_null(strstr(text_of(f), "back\n"));
    assert_null(strstr(text_of(f), "lost"));
}

/* First of all tests: no file has been set yet. */
static void
test_descriptor_instead_of_stderr(void **state)
{
    char got[128];
    ssize_t n;
    int end[2];

    (void)state;
    assert_int_equal(pipe(end), 0);
    log_setup("x", LOG_INFO);
    log_to_fd(end[1]);
    log_info("through the pipe");
    n = read(end[0], got, sizeof(got) - 1);
    assert_true(n > 0);
    got[n] = '\0';
    assert_non_null(strstr(got, "[x] through the pipe\n"));
    log_to_fd(STDERR_FILENO);
    assert_int_equal(close(end[1]), 0); // it stayed ours
    close(end[0]);
}

static void
test_file_outlives_a_new_descriptor(void **state)
{
    log_to_fd(STDERR_FILENO);
    log_info("still in the file");
    assert_non_null(strstr(text_of(*state), "still in the file\n"));
}

static void
test_escape(void **state)
{
    static const struct {
        struct span in;
        size_t cap;
        const char *out;
    } c[] = {
        {SPAN_INIT("plain"), 20, "plain"},
        {SPAN_INIT("a\nb\x00\xff\\"), 40, "a\\x0ab\\x00\\xff\\\\"},
        {SPAN_INIT("123456789"), 10, "123456789"},
        {SPAN_INIT("1234567890"), 10, "123456..."},
        {SPAN_INIT("1234\n67890"), 10, "1234..."},
        {SPAN_INIT("12345\n"), 10, "12345\\x0a"},
        {SPAN_INIT("12345\n7"), 10, "12345..."},
        {SPAN_INIT("abcdef"), 3, ".."},
        {SPAN_INIT("abcdef"), 1, ""},
        {{NULL, 0}, 5, ""},
    };
    char out[40];

    (void)state;
    for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        memset(out, '#', sizeof(out));
        assert_ptr_equal(log_escape(c[i].in, out, c[i].cap), out);
        assert_string_equal(out, c[i].out);
    }
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptor_instead_of_stderr),
        LOG_TEST(test_line_format),
        LOG_TEST(test_file_outlives_a_new_descriptor),
        LOG_TEST(test_levels_filter),
        LOG_TEST(test_one_event_is_one_line),
        LOG_TEST(test_errno_survives),
        LOG_TEST(test_threads_do_not_mix_lines),
        LOG_TEST(test_full_disk_loses_lines_and_says_so),
        LOG_TEST(test_bad_targets_are_survived),
        cmocka_unit_test(test_escape),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
