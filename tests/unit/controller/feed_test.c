/* feed_test.c - copies for the hub, and what happens when it falls behind */
#include "support.h"

#include <string.h>

#include "base/log.h"
#include "controller/feed.h"
#include "controller/note.h"
#include "wire/compose.h"

struct rig {
    struct backlog backlog;
    struct feed feed;
    struct session *session;
    struct sender sender;
    struct msg *m; // 5,000 bytes in one buffer
};

static int
setup(void **state)
{
    static const char data[5000];
    struct rig *rig = mem_zalloc(1, sizeof(*rig));
    const struct span ident = SPAN_LIT("cid"),
                      buffer = {(const uint8_t *)data, sizeof(data)};

    assert_non_null(rig);
    atomic_init(&rig->backlog.bytes, 0);
    rig->backlog.limit = 10000;
    assert_int_equal(channel_new(&rig->backlog.hub), 0);
    feed_init(&rig->feed, &rig->backlog, "test");
    assert_int_equal(
        session_new(&rig->session, SPAN_LIT("key"), "hmac-sha256", NULL), 0);
    assert_int_equal(sender_init(&rig->sender, rig->session, "s", "u", NULL),
                     0);
    assert_int_equal(compose(&rig->sender,
                             &(struct draft){.ident = &ident,
                                             .n_ident = 1,
                                             .msg_type = "apply_request",
                                             .buffer = &buffer,
                                             .n_buffers = 1},
                             &rig->m, NULL),
                     0);
    log_setup("test", (enum log_level)50);
    *state = rig;
    return 0;
}

static int
teardown(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(atomic_load(&rig->m->refs), 1);
    msg_unref(&rig->m);
    channel_free(&rig->backlog.hub, note_drop);
    sender_fini(&rig->sender);
    session_free(&rig->session);
    mem_free(rig);
    return 0;
}

static void
test_copies_are_references(void **state)
{
    struct rig *rig = *state;
    struct note *note;
    void **entry;

    feed_copy(&rig->feed, HUB_IN, rig->m, 0);
    assert_true(atomic_load(&rig->backlog.bytes) > 5000);
    assert_int_equal(channel_take(rig->backlog.hub, &entry), 1);
    note = entry[0];
    assert_int_equal(note->kind, NOTE_TRAFFIC);
    assert_int_equal(note->hub_kind, HUB_IN);
    assert_ptr_equal(note->m, rig->m);
    feed_done(&rig->backlog, note->bytes);
    assert_int_equal(atomic_load(&rig->backlog.bytes), 0);
    note_free(&note);
}

/* Beyond the limit only the payload is left out: the copy still verifies. */
static void
test_a_hub_that_is_behind(void **state)
{
    struct rig *rig = *state;
    size_t with_data = 0;
    void **entry;

    for (int i = 0; i < 20; i++)
        feed_copy(&rig->feed, HUB_OUT, rig->m, i);
    assert_int_equal(channel_take(rig->backlog.hub, &entry), 20);
    for (size_t i = 0; i < 20; i++) {
        struct note *note = entry[i];

        assert_int_equal(session_verify(rig->session, note->m, NULL), 0);
        assert_true(span_is(note->m->frame[0], "cid"));
        with_data += msg_n_buffers(note->m);
        feed_done(&rig->backlog, note->bytes);
        note_free(&note);
    }
    assert_int_equal(with_data, 1);
    assert_int_equal(atomic_load(&rig->backlog.bytes), 0);
    // Once it has caught up, everything is copied again.
    feed_copy(&rig->feed, HUB_OUT, rig->m, 100);
    assert_int_equal(channel_take(rig->backlog.hub, &entry), 1);
    assert_ptr_equal(((struct note *)entry[0])->m, rig->m);
    note_drop(entry[0]);
}

static void
test_out_of_memory(void **state)
{
    struct rig *rig = *state;
    void **entry;

    for (long n = 0; n < 10; n++) {
        size_t taken;

        rig->backlog.limit = n % 2 ? 0 : 10000; // with and without buffers
        mem_fail_after(n / 2);
        feed_copy(&rig->feed, HUB_IN, rig->m, n);
        feed_assigned(&rig->feed, SPAN_LIT("id"), SPAN_LIT("uuid"), n);
        mem_fail_after(-1);
        taken = channel_take(rig->backlog.hub, &entry);
        for (size_t i = 0; i < taken; i++) {
            feed_done(&rig->backlog, ((struct note *)entry[i])->bytes);
            note_drop(entry[i]);
        }
        assert_int_equal(atomic_load(&rig->backlog.bytes), 0);
    }
}

#define RIG(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        RIG(test_copies_are_references),
        RIG(test_a_hub_that_is_behind),
        RIG(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
