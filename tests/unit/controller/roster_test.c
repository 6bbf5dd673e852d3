/* roster_test.c - engines, what waits for them, what they owe */
#include "support.h"

#include "controller/roster.h"

static struct msg *
new_msg(const char *text)
{
    const struct span frame[] = {span_str(text)};
    struct msg *m = msg_new(frame, 1);

    assert_non_null(m);
    return m;
}

static unsigned
refs(struct msg *m)
{
    return atomic_load(&m->refs);
}

static void
test_life_of_a_peer(void **state)
{
    struct roster r;
    struct peer *p;

    (void)state;
    roster_init(&r);
    assert_null(roster_find(&r, SPAN_LIT("a")));
    assert_int_equal(roster_add(&r, SPAN_LIT("a"), 3, 1), 0);
    assert_int_equal(roster_add(&r, SPAN_LIT("b"), 4, 2), 0);
    p = roster_find(&r, SPAN_LIT("a"));
    assert_non_null(p);
    assert_int_equal(p->id, 3);
    roster_leave(&r, p, SPAN_LIT("it left"), 3, 100);
    assert_ptr_equal(roster_find(&r, SPAN_LIT("a")), p);
    assert_true(p->gone);
    assert_string_equal(p->why, "it left");
    // The first reason counts.
    roster_leave(&r, p, SPAN_LIT("again"), 9, 999);
    assert_int_equal(p->seq, 3);
    assert_int_equal(p->forget_ms, 100);
    assert_false(list_empty(&r.leaving));
    roster_remove(&r, &p);
    assert_null(p);
    assert_true(list_empty(&r.leaving));
    assert_null(roster_find(&r, SPAN_LIT("a")));
    roster_fini(&r);
}

static void
test_what_is_held_is_referenced(void **state)
{
    struct roster r;
    struct peer *p;
    struct held *h;
    struct msg *m = new_msg("x");

    (void)state;
    roster_init(&r);
    assert_int_equal(roster_add(&r, SPAN_LIT("a"), 0, 1), 0);
    p = roster_find(&r, SPAN_LIT("a"));
    assert_int_equal(roster_hold(&r, p, LANE_MUX, m, 5), 0);
    assert_int_equal(roster_hold(&r, p, LANE_CONTROL, m, 5), 0);
    assert_int_equal(refs(m), 3);
    assert_false(list_empty(&r.waiting));
    h = LIST_ENTRY(p->held[LANE_MUX].next, struct held, node);
    held_free(&h);
    roster_sent(p);
    assert_false(list_empty(&r.waiting)); // the other lane still waits
    h = LIST_ENTRY(p->held[LANE_CONTROL].next, struct held, node);
    held_free(&h);
    roster_sent(p);
    assert_true(list_empty(&r.waiting));
    assert_int_equal(roster_hold(&r, p, LANE_MUX, m, 5), 0);
    roster_fini(&r);
    assert_int_equal(refs(m), 1);
    msg_unref(&m);
}

static void
test_control_requests_are_tracked_up_to_a_limit(void **state)
{
    struct roster r;
    struct peer *p;
    struct msg *m = new_msg("id"), *other = new_msg("other");

    (void)state;
    roster_init(&r);
    assert_int_equal(roster_add(&r, SPAN_LIT("a"), 0, 1), 0);
    p = roster_find(&r, SPAN_LIT("a"));
    roster_track(p, m, m->frame[0]);
    roster_track(p, other, other->frame[0]);
    roster_untrack(p, SPAN_LIT("unknown"));
    assert_int_equal(p->n_control, 2);
    roster_untrack(p, SPAN_LIT("id"));
    assert_int_equal(refs(m), 1);
    roster_untrack_msg(p, other);
    assert_int_equal(p->n_control, 0);
    for (size_t i = 0; i < CONTROL_TRACKED_MAX + 10; i++)
        roster_track(p, m, m->frame[0]);
    assert_int_equal(p->n_control, CONTROL_TRACKED_MAX);
    roster_fini(&r);
    assert_int_equal(refs(m), 1);
    msg_unref(&m);
    msg_unref(&other);
}

static void
test_out_of_memory(void **state)
{
    struct msg *m = new_msg("x");
    int rc;

    (void)state;
    OOM_SWEEP(rc, {
        struct roster r;

        roster_init(&r);
        rc = roster_add(&r, SPAN_LIT("a"), 0, 1);
        if (rc == 0)
            rc =
                roster_hold(&r, roster_find(&r, SPAN_LIT("a")), LANE_MUX, m, 5);
        roster_fini(&r);
    });
    assert_int_equal(refs(m), 1);
    msg_unref(&m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life_of_a_peer),
        cmocka_unit_test(test_what_is_held_is_referenced),
        cmocka_unit_test(test_control_requests_are_tracked_up_to_a_limit),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
