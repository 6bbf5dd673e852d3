/* heart_test.c - first pong, misses, old texts, strangers, a stalled owner */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/heart.h"

struct log {
    char text[512];
};

static void
add(void *ctx, const char *what, struct span uuid)
{
    struct log *log = ctx;
    const size_t n = strlen(log->text);

    (void)snprintf(log->text + n, sizeof(log->text) - n, "%s %.*s; ", what,
                   (int)uuid.n, (const char *)uuid.p);
}

static void
started(void *ctx, struct span uuid)
{
    add(ctx, "started", uuid);
}

static void
stopped(void *ctx, struct span uuid)
{
    add(ctx, "stopped", uuid);
}

static struct heart *
open_heart(struct log *log)
{
    const struct heart_config config = {.period_ms = 1000, .max_misses = 3};
    const struct heart_port port = {
        .ctx = log, .started = started, .stopped = stopped};
    struct heart *h = NULL;

    log->text[0] = '\0';
    assert_int_equal(heart_new(&h, &config, &port, 5000, NULL), 0);
    return h;
}

static struct span
copy_text(const struct heart *h, char out[64])
{
    const struct span s = heart_text(h);

    memcpy(out, s.p, s.n);
    return span_of(out, s.n);
}

static void
test_first_pong_admits_at_once(void **state)
{
    struct log log;
    struct heart *h = open_heart(&log);

    (void)state;
    assert_int_equal(heart_expect(h, SPAN_LIT("E0"), false), 0);
    assert_string_equal(log.text, "");
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), heart_text(h)), 0);
    assert_string_equal(log.text, "started E0; ");
    // The same ping may be sent and answered again.
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), heart_text(h)), 0);
    assert_string_equal(log.text, "started E0; ");
    heart_check(h);
    heart_free(&h);
    assert_null(h);
    heart_free(&h);
}

static void
test_only_two_texts_count(void **state)
{
    char first[64], second[64], third[64];
    struct span a, b, c;
    struct log log;
    struct heart *h = open_heart(&log);

    (void)state;
    assert_int_equal(heart_expect(h, SPAN_LIT("E0"), false), 0);
    // Before the first tick there is no previous text, not even an empty one.
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), SPAN_NONE), RH_EPROTO);
    a = copy_text(h, first);
    heart_tick(h, 6000);
    b = copy_text(h, second);
    heart_tick(h, 7000);
    c = copy_text(h, third);
    assert_false(span_eq(a, b) || span_eq(b, c) || span_eq(a, c));
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), a), RH_EPROTO);
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), SPAN_LIT("nonsense")),
                     RH_EPROTO);
    assert_string_equal(log.text, "");
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), b), 0);
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), c), 0);
    heart_free(&h);
}

static void
test_text_is_decimal_seconds(void **state)
{
    struct log log;
    struct heart *h = open_heart(&log);
    char text[64] = {0};
    char *end;

    (void)state;
    heart_tick(h, 5000 + 31002);
    (void)copy_text(h, text);
    assert_true(strtod(text, &end) >= 31.0 && strtod(text, &end) < 31.1);
    assert_int_equal(*end, '\0');
    // A clock that stands still still makes new texts.
    for (int i = 0; i < 100; i++) {
        char before[64];
        struct span old = copy_text(h, before);

        heart_tick(h, 5000 + 31002);
        assert_false(span_eq(old, heart_text(h)));
    }
    heart_free(&h);
}

static void
test_strangers_are_not_tracked(void **state)
{
    struct log log;
    struct heart *h = open_heart(&log);

    (void)state;
    assert_int_equal(heart_pong(h, SPAN_LIT("evil"), heart_text(h)), RH_ENOENT);
    for (int i = 0; i < 10; i++)
        heart_tick(h, 6000 + 1000 * i);
    assert_string_equal(log.text, "");
    heart_check(h);
    heart_free(&h);
}

static void
test_more_than_max_misses_stop_a_heart(void **state)
{
    struct log log;
    struct heart *h = open_heart(&log);
    int64_t now = 5000;

    (void)state;
    assert_int_equal(heart_expect(h, SPAN_LIT("E0"), false), 0);
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), heart_text(h)), 0);
    heart_tick(h, now += 1000); // the period in which it answered
    for (int i = 0; i < 3; i++) {
        heart_tick(h, now += 1000);
        assert_string_equal(log.text, "started E0; ");
        heart_check(h);
    }
    // One pong and everything is forgotten.
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), heart_text(h)), 0);
    heart_tick(h, now += 1000);
    for (int i = 0; i < 3; i++)
        heart_tick(h, now += 1000);
    assert_string_equal(log.text, "started E0; ");
    heart_tick(h, now += 1000);
    assert_string_equal(log.text, "started E0; stopped E0; ");
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), heart_text(h)), RH_ENOENT);
    heart_free(&h);
}

static void
test_before_the_first_pong_nothing_is_missed(void **state)
{
    struct log log;
    struct heart *h = open_heart(&log);

    (void)state;
    assert_int_equal(heart_expect(h, SPAN_LIT("E0"), false), 0);
    for (int i = 0; i < 100; i++)
        heart_tick(h, 6000 + 1000 * i);
    assert_string_equal(log.text, "");
    heart_forget(h, SPAN_LIT("E0"));
    heart_forget(h, SPAN_LIT("E0"));
    assert_int_equal(heart_pong(h, SPAN_LIT("E0"), heart_text(h)), RH_ENOENT);
    heart_free(&h);
}

/* An engine restored from a file that never beats again is dropped. */
static void
test_restored_engines_must_beat(void **state)
{
    struct log log;
    struct heart *h = open_heart(&log);

    (void)state;
    assert_int_equal(heart_expect(h, SPAN_LIT("E0"), true), 0);
    assert_int_equal(heart_expect(h, SPAN_LIT("E1"), true), 0);
    for (int i = 0; i < 5; i++) {
        (void)heart_pong(h, SPAN_LIT("E1"), heart_text(h));
        heart_tick(h, 6000 + 1000 * i);
    }
    // No 'started': the hub has them registered already.
    assert_string_equal(log.text, "stopped E0; ");
    heart_free(&h);
}

static void
test_a_late_tick_counts_once(void **state)
{
    struct log log;
    struct heart *h = open_heart(&log);

    (void)state;
    assert_int_equal(heart_due(h), 6000);
    assert_int_equal(heart_expect(h, SPAN_LIT("E0"), true), 0);
    heart_tick(h, 6005);
    assert_int_equal(heart_due(h), 7000); // no drift
    // The controller slept for a minute; its engines did nothing wrong.
    heart_tick(h, 67000);
    assert_int_equal(heart_due(h), 68000);
    assert_string_equal(log.text, "");
    heart_free(&h);
}

static void
test_bad_config(void **state)
{
    const struct heart_port port = {0};
    struct heart *h = NULL;
    struct heart_config config = {.period_ms = -1};
    rh_error err = {0};

    (void)state;
    assert_int_equal(heart_new(&h, &config, &port, 0, &err), RH_EINVAL);
    assert_non_null(strstr(err.text, "-1 ms"));
    config = (struct heart_config){0};
    assert_int_equal(heart_new(&h, &config, &port, 0, NULL), 0);
    assert_int_equal(heart_period(h), 3000);
    heart_free(&h);
}

static void
test_out_of_memory(void **state)
{
    const struct heart_config config = {0};
    struct log log = {0};
    const struct heart_port port = {
        .ctx = &log, .started = started, .stopped = stopped};
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct heart *h = NULL;

        rc = heart_new(&h, &config, &port, 0, NULL);
        for (int i = 0; i < 20 && rc == 0; i++) {
            char uuid[8];

            (void)snprintf(uuid, sizeof(uuid), "E%d", i);
            rc = heart_expect(h, span_str(uuid), true);
            heart_check(h);
        }
        heart_free(&h);
    });
    assert_int_equal(rc, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_pong_admits_at_once),
        cmocka_unit_test(test_only_two_texts_count),
        cmocka_unit_test(test_text_is_decimal_seconds),
        cmocka_unit_test(test_strangers_are_not_tracked),
        cmocka_unit_test(test_more_than_max_misses_stop_a_heart),
        cmocka_unit_test(test_before_the_first_pong_nothing_is_missed),
        cmocka_unit_test(test_restored_engines_must_beat),
        cmocka_unit_test(test_a_late_tick_counts_once),
        cmocka_unit_test(test_bad_config),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
