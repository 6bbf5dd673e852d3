/* begun_test.c - what a process has begun, read by another */
#include "base/begun.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support.h"

static struct span
id_of(int i, char text[32])
{
    return span_of(text, (size_t)snprintf(text, 32, "97456ff1-e4409120_%d", i));
}

static void
test_what_was_noted_is_seen(void **state)
{
    struct begun *writer = begun_new(), *reader;
    char text[32];

    (void)state;
    assert_non_null(writer);
    reader = begun_of(getpid(), begun_fd(writer));
    assert_non_null(reader);
    for (int i = 0; i < BEGUN_SLOTS; i++) {
        assert_false(begun_has(reader, id_of(i, text)));
        begun_note(writer, id_of(i, text));
        assert_true(begun_has(reader, id_of(i, text)));
    }
    assert_true(begun_has(reader, id_of(0, text)));
    begun_note(writer, id_of(BEGUN_SLOTS, text));
    assert_false(begun_has(reader, id_of(0, text)));
    assert_true(begun_has(reader, id_of(1, text)));
    begun_note(NULL, id_of(1, text));
    begun_free(&writer);
    assert_true(begun_has(reader, id_of(1, text)));
    begun_free(&reader);
    begun_free(&reader);
}

/* Only a page that can never shrink is mapped. */
static void
test_other_files_are_refused(void **state)
{
    int other = memfd_create("something", 0);
    int loose = memfd_create("roundhouse-begun", 0);
    FILE *file = tmpfile();

    (void)state;
    assert_int_equal(ftruncate(other, BEGUN_SLOTS * 8), 0);
    assert_int_equal(ftruncate(loose, BEGUN_SLOTS * 8), 0);
    assert_null(begun_of(getpid(), other));
    assert_null(begun_of(getpid(), loose));
    assert_null(begun_of(getpid(), fileno(file)));
    assert_null(begun_of(getpid(), 9999));
    assert_null(begun_of(1 << 22, 0));
    fclose(file);
    close(other);
    close(loose);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_noted_is_seen),
        cmocka_unit_test(test_other_files_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
