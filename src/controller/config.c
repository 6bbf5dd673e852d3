/* config.c - see config.h
 *
 * The file is a Python program, so Python runs it: a helper process prints
 * what it set as JSON.  This is the only time the controller starts another
 * program, and only if there is such a file.
 */
#include "controller/config.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define OUTPUT_MAX (4 << 20)

extern char **environ;

/* $ROUNDHOUSE_PYTHON, the python beside this program, or python3. */
static const char *
interpreter(char *path, size_t cap)
{
    const char *chosen = getenv("ROUNDHOUSE_PYTHON");
    ssize_t n = readlink("/proc/self/exe", path, cap - 1);
    char *slash;

    if (chosen && *chosen)
        return chosen;
    path[n > 0 ? n : 0] = '\0';
    slash = strrchr(path, '/');
    if (slash && (size_t)(slash - path) + sizeof("/python") <= cap) {
        memcpy(slash, "/python", sizeof("/python"));
        if (access(path, X_OK) == 0)
            return path;
    }
    return "python3";
}

static int
spawn(const char *python, const char *path, pid_t *pid, int *out, rh_error *err)
{
    const char *const words[] = {python, "-m", "roundhouse.controller.config",
                                 path};
    char *argv[5] = {NULL};
    posix_spawn_file_actions_t actions;
    int pipe_fd[2], rc = 0;

    for (size_t i = 0; i < 4; i++)
        if (!(argv[i] = mem_strdup(words[i])))
            rc = ENOMEM;
    if (rc == 0 && pipe2(pipe_fd, O_CLOEXEC) < 0)
        rc = errno;
    if (rc == 0) {
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], 1);
        rc = posix_spawnp(pid, python, &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        close(pipe_fd[1]);
        *out = pipe_fd[0];
        if (rc != 0)
            close(pipe_fd[0]);
    }
    for (size_t i = 0; i < 4; i++)
        mem_free(argv[i]);
    if (rc != 0)
        return rh_fail(err, RH_EIO,
                       "cannot run %.100s to read %s: %s (set "
                       "ROUNDHOUSE_PYTHON to a Python that has roundhouse)",
                       python, path, strerror(rc));
    return 0;
}

static int
read_all(int fd, struct buf *out)
{
    char chunk[4096];
    ssize_t n;

    while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || out->n > OUTPUT_MAX)
            return RH_EIO;
        buf_add(out, chunk, (size_t)n);
    }
    return out->failed ? RH_ENOMEM : 0;
}

int
config_load(struct settings *s, const char *path, rh_error *err)
{
    char exe[4096];
    const char *python = interpreter(exe, sizeof(exe));
    struct buf out;
    int rc, fd, status = -1;
    pid_t pid;

    if (access(path, F_OK) < 0)
        return rh_fail(err, RH_ENOENT, "there is no file %s", path);
    rc = spawn(python, path, &pid, &fd, err);
    if (rc < 0)
        return rc;
    buf_init(&out);
    rc = read_all(fd, &out);
    close(fd);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (rc < 0)
        rh_fail(err, rc, "reading what %s says: %s", path, rh_code_text(rc));
    else if (status != 0)
        rc = rh_fail(err, RH_EINVAL,
                     "%s could not be evaluated (by %.100s; see above)", path,
                     python);
    else
        rc = config_apply(s, buf_span(&out), path, err);
    buf_fini(&out);
    return rc;
}

// ---------------------------------------------------------------------------

/* A JSON value as the command line would have it. */
static void
value_text(const json_t *value, struct buf *out)
{
    char *text;

    switch (json_typeof(value)) {
    case JSON_STRING:
        buf_add(out, json_string_value(value), json_string_length(value));
        break;
    case JSON_TRUE:
        buf_add_str(out, "True");
        break;
    case JSON_FALSE:
        buf_add_str(out, "False");
        break;
    case JSON_NULL:
        break;
    case JSON_OBJECT:
    case JSON_ARRAY:
    case JSON_INTEGER:
    case JSON_REAL:
        text = json_dumps(value, JSON_ENCODE_ANY);
        if (text)
            buf_add_str(out, text);
        else
            out->failed = true;
        free(text);
        break;
    }
    buf_add_char(out, '\0');
}

/* Is it a class of ours, so that an unknown trait is a mistake? */
static bool
is_our_class(const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < option_n_rows; i++)
        for (const char *p = option_rows[i].traits; *p;
             p += strcspn(p, " "), p += *p == ' ')
            if (strncmp(p, name, n) == 0 && p[n] == '.')
                return true;
    return false;
}

static int
apply_one(struct settings *s, const char *class, const char *trait,
          const json_t *value, const char *path, rh_error *err)
{
    struct buf name, text;
    rh_error why;
    int rc = RH_ENOMEM;

    buf_init(&name);
    buf_init(&text);
    buf_add_fmt(&name, "%s.%s", class, trait);
    buf_add_char(&name, '\0');
    value_text(value, &text);
    if (!name.failed && !text.failed)
        rc = settings_from_file(s, (char *)name.p, (char *)text.p, &why);
    buf_fini(&name);
    buf_fini(&text);
    if (rc == RH_ENOENT || rc == RH_ESTATE) {
        log_warn("%s: %s", path, why.text);
        return 0;
    }
    if (rc < 0)
        return rh_fail(err, rc, "%s: %s", path,
                       rc == RH_ENOMEM ? "out of memory" : why.text);
    return 0;
}

int
config_apply(struct settings *s, struct span json, const char *path,
             rh_error *err)
{
    json_error_t why;
    json_t *root = json_loadb((const char *)json.p, json.n, 0, &why);
    const char *class, *trait;
    json_t *traits, *value;
    int rc = 0;

    if (!json_is_object(root)) {
        json_decref(root);
        return rh_fail(err, RH_EPROTO,
                       "the Python helper gave no JSON object for %s", path);
    }
    json_object_foreach(root, class, traits)
    {
        if (!is_our_class(class) || !json_is_object(traits))
            continue;
        json_object_foreach(traits, trait, value)
        {
            if (rc == 0)
                rc = apply_one(s, class, trait, value, path, err);
        }
    }
    json_decref(root);
    return rc;
}

int
config_stage(const char *path, rh_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), rc = 0;
    FILE *out;

    if (fd < 0 && errno == EEXIST)
        return 0;
    out = fd < 0 ? NULL : fdopen(fd, "w");
    if (out) {
        option_print_config_file(out);
        rc = ferror(out);
        if (fclose(out) != 0 || rc != 0)
            rc = -1;
    }
    if (!out || rc < 0) {
        rc = rh_fail(err, RH_EIO, "cannot write %s: %s", path, strerror(errno));
        if (fd >= 0)
            (void)unlink(path);
        return rc;
    }
    log_info("wrote %s", path);
    return 0;
}
