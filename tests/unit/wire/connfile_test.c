/* connfile_test.c - connection files there and back, refusals, full disks */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire/connfile.h"

/* The members that both kinds have, and what makes a kind. */
#define COMMON                                                        \
    "\"ssh\": \"\", \"interface\": \"tcp://127.0.0.1\", "             \
    "\"registration\": 1, \"control\": 2, \"mux\": 3, \"task\": 4, "  \
    "\"iopub\": 5, \"key\": \"f204-e5\", \"curve_serverkey\": null, " \
    "\"location\": \"host\", \"pack\": \"json\", "                    \
    "\"unpack\": \"json\", \"signature_scheme\": \"hmac-sha256\""
#define CLIENT                                                     \
    "{" COMMON ", \"task_scheme\": \"lru\", \"notification\": 6, " \
    "\"broadcast\": 7}"
#define ENGINE                                      \
    "{" COMMON ", \"hb_ping\": 8, \"hb_pong\": 9, " \
    "\"broadcast\": [10, 11]}"

static void
parse_ok(struct connfile *out, const char *json)
{
    rh_error err = {0};

    memset(out, 0x55, sizeof(*out));
    if (connfile_parse(out, span_str(json), &err) < 0)
        fail_msg("%s: %s", json, err.text);
}

static void
test_client_file(void **state)
{
    struct connfile c;

    (void)state;
    parse_ok(&c, CLIENT);
    assert_true(c.for_client);
    assert_string_equal(c.interface, "tcp://127.0.0.1");
    assert_string_equal(c.location, "host");
    assert_string_equal(c.key, "f204-e5");
    assert_string_equal(c.task_scheme, "lru");
    assert_string_equal(c.curve_serverkey, "");
    assert_int_equal(c.port[PORT_REGISTRATION], 1);
    assert_int_equal(c.port[PORT_IOPUB], 5);
    assert_int_equal(c.port[PORT_NOTIFICATION], 6);
    assert_int_equal(c.port[PORT_HB_PING], 0);
    assert_int_equal(c.n_broadcast, 1);
    assert_int_equal(c.broadcast[0], 7);
}

static void
test_engine_file(void **state)
{
    struct connfile c;

    (void)state;
    parse_ok(&c, ENGINE);
    assert_false(c.for_client);
    assert_int_equal(c.port[PORT_HB_PING], 8);
    assert_int_equal(c.port[PORT_HB_PONG], 9);
    assert_int_equal(c.port[PORT_NOTIFICATION], 0);
    assert_string_equal(c.task_scheme, "");
    assert_int_equal(c.n_broadcast, 2);
    assert_int_equal(c.broadcast[1], 11);
}

static void
test_older_files_get_defaults(void **state)
{
    struct connfile c;

    (void)state;
    parse_ok(&c, "{\"interface\": \"tcp://h\", \"registration\": 1, "
                 "\"control\": 2, \"mux\": 3, \"task\": 4, \"iopub\": 5, "
                 "\"notification\": 6, \"key\": \"\", \"unheard_of\": [1]}");
    assert_string_equal(c.pack, "json");
    assert_string_equal(c.unpack, "json");
    assert_string_equal(c.signature_scheme, "hmac-sha256");
    assert_string_equal(c.task_scheme, "leastload");
    assert_string_equal(c.location, "");
    assert_string_equal(c.ssh, "");
    assert_string_equal(c.key, "");
    assert_int_equal(c.n_broadcast, 0);
}

/* CLIENT or ENGINE with one member replaced. */
// clang-format off
static const struct {
    const char *base, *from, *to;
    int rc;
    const char *says;
} edit[] = {
    { CLIENT, "{", "[", RH_EPROTO, "not JSON: line 1" },
    { CLIENT, "\"interface\": \"tcp://127.0.0.1\", ", "", RH_EPROTO, "'interface' is missing" },
    { CLIENT, "\"tcp://127.0.0.1\"", "7", RH_EPROTO, "'interface' is not a string" },
    { CLIENT, "\"tcp://127.0.0.1\"", "null", RH_EPROTO, "'interface' is not a string" },
    { CLIENT, "\"tcp://127.0.0.1\"", "\"127.0.0.1\"", RH_EPROTO, "not transport://host" },
    { CLIENT, "\"key\": \"f204-e5\", ", "", RH_EPROTO, "'key' is missing" },
    { CLIENT, "\"f204-e5\"", "null", RH_EPROTO, "'key' is not a string" },
    { CLIENT, "\"f204-e5\"", "\"a\\u0000b\"", RH_EPROTO, "not JSON" },
    { CLIENT, "\"registration\": 1, ", "", RH_EPROTO, "'registration' is missing" },
    { CLIENT, "\"mux\": 3, ", "", RH_EPROTO, "'mux' is missing" },
    { CLIENT, "\"mux\": 3", "\"mux\": \"3\"", RH_EPROTO, "'mux' is not a port number" },
    { CLIENT, "\"mux\": 3", "\"mux\": 3.0", RH_EPROTO, "'mux' is not a port number" },
    { CLIENT, "\"mux\": 3", "\"mux\": 0", RH_EPROTO, "'mux' is 0" },
    { CLIENT, "\"mux\": 3", "\"mux\": -1", RH_EPROTO, "'mux' is -1" },
    { CLIENT, "\"mux\": 3", "\"mux\": 65536", RH_EPROTO, "'mux' is 65536" },
    { CLIENT, "\"mux\": 3", "\"mux\": 4294967299", RH_EPROTO, "'mux' is 4294967299" },
    { CLIENT, "\"mux\": 3", "\"mux\": null", RH_EPROTO, "'mux' is not a port number" },
    { CLIENT, "\"notification\": 6, ", "", RH_EPROTO, "neither 'notification'" },
    { CLIENT, "\"broadcast\": 7", "\"broadcast\": \"7\"", RH_EPROTO, "'broadcast' is not a port" },
    { CLIENT, "\"broadcast\": 7", "\"broadcast\": [0]", RH_EPROTO, "'broadcast' is 0" },
    { CLIENT, "\"pack\": \"json\"", "\"pack\": false", RH_EPROTO, "'pack' is not a string" },
    { CLIENT, "\"pack\": \"json\"", "\"pack\": \"0123456789012345678901234567890123456789012345678901234567890123\"",
      RH_ELIMIT, "'pack' has 64 bytes, limit 63" },
    { ENGINE, "\"hb_pong\": 9, ", "", RH_EPROTO, "'hb_pong' is missing" },
    { ENGINE, "\"hb_ping\": 8, ", "", RH_EPROTO, "neither 'notification'" },
    { ENGINE, "[10, 11]", "[10, []]", RH_EPROTO, "'broadcast' is not a port" },
    { ENGINE, "[10, 11]", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
      "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", RH_ELIMIT, "'broadcast' has 65 ports" },
    { ENGINE, ENGINE, "[]", RH_EPROTO, "not a JSON object" },
    { ENGINE, ENGINE, "", RH_EPROTO, "not JSON" },
};
// clang-format on

static void
test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(edit) / sizeof(edit[0]); i++) {
        const char *at = strstr(edit[i].base, edit[i].from);
        struct connfile c = {.n_broadcast = 42};
        rh_error err = {0};
        char json[4096];
        int rc;

        assert_non_null(at);
        snprintf(json, sizeof(json), "%.*s%s%s", (int)(at - edit[i].base),
                 edit[i].base, edit[i].to, at + strlen(edit[i].from));
        rc = connfile_parse(&c, span_str(json), &err);
        if (rc != edit[i].rc || !strstr(err.text, edit[i].says))
            fail_msg("case %zu: %d '%s'", i, rc, err.text);
        assert_int_equal(c.n_broadcast, 42); // untouched
    }
}

static void
test_large_input_is_refused(void **state)
{
    size_t n = (1u << 20) + 1;
    char *text = mem_alloc(n);
    struct connfile c;

    (void)state;
    memset(text, ' ', n);
    assert_int_equal(connfile_parse(&c, span_of(text, n), NULL), RH_ELIMIT);
    mem_free(text);
}

static void
sample(struct connfile *c, bool for_client)
{
    *c = (struct connfile){
        .for_client = for_client,
        .interface = "tcp://10.0.0.7",
        .location = "h\xc3\xb6st \"x\"\\",
        .ssh = "me@gate",
        .key = "secret-key",
        .pack = "pickle",
        .unpack = "pickle",
        .signature_scheme = "hmac-sha512",
        .curve_serverkey = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
        .n_broadcast = for_client ? 1 : 3,
        .broadcast = {100, for_client ? 0 : 200, for_client ? 0 : 300}};
    if (for_client)
        strcpy(c->task_scheme, "twobin");
    for (int i = 0; i < N_PORTS; i++)
        c->port[i] = 40000 + i;
    if (for_client)
        c->port[PORT_HB_PING] = c->port[PORT_HB_PONG] = 0;
    else
        c->port[PORT_NOTIFICATION] = 0;
}

static void
test_round_trip(void **state)
{
    (void)state;
    for (int for_client = 0; for_client < 2; for_client++) {
        struct connfile a, b;
        char *text;

        sample(&a, for_client);
        text = connfile_format(&a);
        assert_non_null(text);
        parse_ok(&b, text);
        assert_memory_equal(a.interface, b.interface, strlen(a.interface));
        assert_string_equal(a.location, b.location);
        assert_string_equal(a.ssh, b.ssh);
        assert_string_equal(a.key, b.key);
        assert_string_equal(a.pack, b.pack);
        assert_string_equal(a.unpack, b.unpack);
        assert_string_equal(a.signature_scheme, b.signature_scheme);
        assert_string_equal(a.task_scheme, b.task_scheme);
        assert_string_equal(a.curve_serverkey, b.curve_serverkey);
        assert_int_equal(a.for_client, b.for_client);
        assert_memory_equal(a.port, b.port, sizeof(a.port));
        assert_int_equal(a.n_broadcast, b.n_broadcast);
        assert_memory_equal(a.broadcast, b.broadcast, sizeof(a.broadcast));
        mem_free(text);
    }
}

static void
test_text_is_as_the_original_writes_it(void **state)
{
    struct connfile c;
    char *text;

    (void)state;
    parse_ok(&c, ENGINE);
    text = connfile_format(&c);
    assert_string_equal(text, "{\n"
                              "  \"ssh\": \"\",\n"
                              "  \"interface\": \"tcp://127.0.0.1\",\n"
                              "  \"registration\": 1,\n"
                              "  \"control\": 2,\n"
                              "  \"mux\": 3,\n"
                              "  \"task\": 4,\n"
                              "  \"iopub\": 5,\n"
                              "  \"hb_ping\": 8,\n"
                              "  \"hb_pong\": 9,\n"
                              "  \"broadcast\": [\n"
                              "    10,\n"
                              "    11\n"
                              "  ],\n"
                              "  \"key\": \"f204-e5\",\n"
                              "  \"curve_serverkey\": null,\n"
                              "  \"location\": \"host\",\n"
                              "  \"pack\": \"json\",\n"
                              "  \"unpack\": \"json\",\n"
                              "  \"signature_scheme\": \"hmac-sha256\"\n"
                              "}");
    mem_free(text);
}

/* A folder of its own for each test. */
struct fixture {
    char folder[64], path[96];
};

static int
setup(void **state)
{
    static struct fixture f;

    strcpy(f.folder, "connfile_test.XXXXXX");
    if (!mkdtemp(f.folder))
        return -1;
    snprintf(f.path, sizeof(f.path), "%s/ipcontroller-client.json", f.folder);
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    unlink(f->path);
    rmdir(f->path);
    return rmdir(f->folder); // fails if anything was left behind
}

static int
files_in(const char *folder)
{
    DIR *dir = opendir(folder);
    int n = 0;

    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void
test_write_and_read(void **state)
{
    struct fixture *f = *state;
    struct connfile a, b;
    mode_t old = umask(0); // must not matter
    struct stat st;

    sample(&a, true);
    assert_int_equal(connfile_read(&b, f->path, NULL), RH_ENOENT);
    for (int i = 0; i < 2; i++) { // new, then over the old one
        rh_error err = {0};

        a.port[PORT_MUX] = 50000 + i;
        assert_int_equal(connfile_write(&a, f->path, &err), 0);
        assert_int_equal(connfile_read(&b, f->path, &err), 0);
        assert_int_equal(b.port[PORT_MUX], 50000 + i);
        assert_int_equal(stat(f->path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(files_in(f->folder), 1);
    }
    umask(old);
}

static void
test_read_errors_name_the_path(void **state)
{
    struct fixture *f = *state;
    struct connfile c;
    rh_error err = {0};
    FILE *file;

    assert_int_equal(connfile_read(&c, f->path, &err), RH_ENOENT);
    assert_non_null(strstr(err.text, f->path));
    assert_non_null(strstr(err.text, strerror(ENOENT)));
    assert_int_equal(connfile_read(&c, f->folder, &err), RH_EIO);
    assert_non_null(strstr(err.text, strerror(EISDIR)));
    file = fopen(f->path, "w");
    assert_non_null(file);
    fputs("{}", file);
    fclose(file);
    assert_int_equal(connfile_read(&c, f->path, &err), RH_EPROTO);
    assert_non_null(strstr(err.text, f->path));
    assert_non_null(strstr(err.text, "neither"));
}

static void
test_endless_files_are_refused(void **state)
{
    struct connfile c;

    (void)state;
    assert_int_equal(connfile_read(&c, "/dev/zero", NULL), RH_ELIMIT);
}

static void
test_unwritable_places(void **state)
{
    struct fixture *f = *state;
    struct connfile c;
    rh_error err = {0};
    char path[160];

    sample(&c, true);
    snprintf(path, sizeof(path), "%s/missing/x.json", f->folder);
    assert_int_equal(connfile_write(&c, path, &err), RH_EIO);
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, strerror(ENOENT)));
    // A folder in the file's place: found only by the rename.
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_int_equal(connfile_write(&c, f->path, &err), RH_EIO);
    assert_non_null(strstr(err.text, strerror(EISDIR)));
    assert_int_equal(files_in(f->folder), 1);
    snprintf(path, sizeof(path), "%s/sub/x.json", "/proc/self");
    assert_int_equal(connfile_write(&c, path, &err), RH_EIO);
    if (geteuid() != 0) { // root may write everywhere
        assert_int_equal(chmod(f->folder, 0500), 0);
        assert_int_equal(connfile_write(&c, f->path, &err), RH_EIO);
        assert_int_equal(chmod(f->folder, 0700), 0);
        assert_non_null(strstr(err.text, strerror(EACCES)));
    }
}

static void
test_full_disk_leaves_the_old_file(void **state)
{
    struct fixture *f = *state;
    struct rlimit old, small;
    struct connfile c, back;
    rh_error err = {0};

    sample(&c, true);
    assert_int_equal(connfile_write(&c, f->path, &err), 0);
    c.port[PORT_MUX] = 999;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    for (rlim_t limit = 0; limit < 400; limit += 100) {
        int rc;

        small = old;
        small.rlim_cur = limit;
        setrlimit(RLIMIT_FSIZE, &small);
        rc = connfile_write(&c, f->path, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(rc, RH_EIO);
        assert_non_null(strstr(err.text, f->path));
        assert_non_null(strstr(err.text, strerror(EFBIG)));
        assert_int_equal(files_in(f->folder), 1); // no temporary file
        assert_int_equal(connfile_read(&back, f->path, &err), 0);
        assert_int_equal(back.port[PORT_MUX], 40000 + PORT_MUX);
    }
}

static void
test_out_of_memory(void **state)
{
    struct fixture *f = *state;
    struct connfile a, b;
    int rc;

    sample(&a, false);
    OOM_SWEEP(rc, {
        rc = connfile_write(&a, f->path, NULL);
        assert_int_equal(files_in(f->folder), rc == 0);
    });
    assert_int_equal(rc, 0);
    OOM_SWEEP(rc, rc = connfile_read(&b, f->path, NULL));
    assert_int_equal(rc, 0);
    OOM_SWEEP(rc, {
        char *text = connfile_format(&a);

        rc = text ? 0 : RH_ENOMEM;
        mem_free(text);
    });
}

static void
url_is(struct connfile *c, const char *interface, const char *location,
       const char *want)
{
    char url[256];

    strcpy(c->interface, interface);
    strcpy(c->location, location);
    assert_int_equal(connfile_url(c, 77, url, sizeof(url), NULL), 0);
    assert_string_equal(url, want);
}

static void
test_urls(void **state)
{
    struct connfile c;
    rh_error err = {0};
    char me[256], url[16];

    (void)state;
    sample(&c, true);
    gethostname(me, sizeof(me));
    url_is(&c, "tcp://10.0.0.7", "elsewhere", "tcp://10.0.0.7:77");
    url_is(&c, "tcp://host.name", "", "tcp://host.name:77");
    url_is(&c, "tcp://[::1]", "", "tcp://[::1]:77");
    url_is(&c, "tcp://*", "", "tcp://127.0.0.1:77");
    url_is(&c, "tcp://0.0.0.0", "", "tcp://127.0.0.1:77");
    url_is(&c, "tcp://*", me, "tcp://127.0.0.1:77");
    url_is(&c, "tcp://*", "127.0.0.1", "tcp://127.0.0.1:77");
    url_is(&c, "tcp://*", "127.9.9.9", "tcp://127.0.0.1:77");
    url_is(&c, "tcp://*", "192.0.2.55", "tcp://192.0.2.55:77");
    url_is(&c, "tcp://*", "no-such-host.invalid",
           "tcp://no-such-host.invalid:77");
    url_is(&c, "ipc:///run/x", "", "ipc:///run/x:77");

    strcpy(c.interface, "tcp://10.0.0.7");
    assert_int_equal(connfile_url(&c, 77, url, 16, &err), RH_ELIMIT);
    assert_int_equal(connfile_url(&c, 77, url, 0, &err), RH_ELIMIT);
    strcpy(c.interface, "nonsense");
    assert_int_equal(connfile_url(&c, 77, url, 16, &err), RH_EINVAL);
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_file),
        cmocka_unit_test(test_engine_file),
        cmocka_unit_test(test_older_files_get_defaults),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_large_input_is_refused),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_text_is_as_the_original_writes_it),
        FILE_TEST(test_write_and_read),
        FILE_TEST(test_read_errors_name_the_path),
        cmocka_unit_test(test_endless_files_are_refused),
        FILE_TEST(test_unwritable_places),
        FILE_TEST(test_full_disk_leaves_the_old_file),
        FILE_TEST(test_out_of_memory),
        cmocka_unit_test(test_urls),
    };

    // So that the sweep reaches jansson's allocations as well.
    json_set_alloc_funcs(mem_alloc, mem_free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
