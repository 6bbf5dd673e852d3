/* profile.c - see profile.h */
#include "controller/profile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

__attribute__((format(printf, 1, 2))) static char *
format(const char *fmt, ...)
{
    char *text = NULL, *copy;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0)
        return NULL;
    copy = mem_strdup(text);
    free(text);
    return copy;
}

static const char *
home(void)
{
    const char *dir = getenv("HOME");
    const struct passwd *user;

    if (dir && *dir)
        return dir;
    user = getpwuid(getuid());
    return user && user->pw_dir ? user->pw_dir : "/";
}

/* Absolute, with a leading "~" replaced; the folder need not exist. */
static char *
absolute(const char *path)
{
    char cwd[4096];

    if (path[0] == '~' && (path[1] == '/' || path[1] == '\0'))
        return format("%s%s", home(), path + 1);
    if (path[0] == '/')
        return mem_strdup(path);
    if (!getcwd(cwd, sizeof(cwd)))
        return NULL;
    return format("%s/%s", cwd, path);
}

static int
check_name(const char *option, const char *name, rh_error *err)
{
    if (!strchr(name, '/'))
        return 0;
    return rh_fail(err, RH_EINVAL,
                   "--%s=%.80s: becomes part of file names and cannot contain "
                   "a slash",
                   option, name);
}

static int
no_memory(rh_error *err)
{
    return rh_fail(err, RH_ENOMEM, "out of memory");
}

int
profile_init(struct profile *self, const struct settings *s, rh_error *err)
{
    char *base;

    memset(self, 0, sizeof(*self));
    self->lock_fd = -1;
    if (check_name("profile", s->profile, err) < 0
        || check_name("cluster-id", s->cluster_id, err) < 0)
        return RH_EINVAL;
    if (*s->profile_dir) {
        self->dir = absolute(s->profile_dir);
    } else {
        base = absolute(*s->ipython_dir ? s->ipython_dir : "~/.ipython");
        self->dir = base ? format("%s/profile_%s", base, s->profile) : NULL;
        mem_free(base);
    }
    if (!self->dir)
        return no_memory(err);
    for (size_t n = strlen(self->dir); n > 1 && self->dir[n - 1] == '/'; n--)
        self->dir[n - 1] = '\0';
    self->security = format("%s/security", self->dir);
    self->log = format("%s/log", self->dir);
    self->pid = format("%s/pid", self->dir);
    self->config_path = format("%s/ipcontroller_config.py", self->dir);
    if (!self->security || !self->log || !self->pid || !self->config_path)
        return no_memory(err);
    return 0;
}

/* A file name as configured, or the usual one. */
static char *
connection_path(const struct profile *self, const char *name,
                const char *cluster, const char *who)
{
    if (*name == '/')
        return mem_strdup(name);
    if (*name)
        return format("%s/%s", self->security, name);
    return format("%s/ipcontroller%s%s-%s.json", self->security,
                  *cluster ? "-" : "", cluster, who);
}

int
profile_name_files(struct profile *self, const struct settings *s,
                   rh_error *err)
{
    const char *id = s->cluster_id;

    if (check_name("cluster-id", id, err) < 0)
        return RH_EINVAL;
    self->client_path = connection_path(self, s->client_file, id, "client");
    self->engine_path = connection_path(self, s->engine_file, id, "engine");
    self->engines_path = format("%s/engines%s.json", self->log, id);
    self->lock_path =
        format("%s/ipcontroller%s%s.pid", self->pid, *id ? "-" : "", id);
    if (!self->client_path || !self->engine_path || !self->engines_path
        || !self->lock_path)
        return no_memory(err);
    return 0;
}

void
profile_fini(struct profile *self)
{
    char **const text[] = {&self->dir,         &self->security,
                           &self->log,         &self->pid,
                           &self->config_path, &self->client_path,
                           &self->engine_path, &self->engines_path};

    if (self->lock_fd >= 0) {
        (void)unlink(self->lock_path); // while the lock still is ours
        close(self->lock_fd);
        self->lock_fd = -1;
    }
    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
        mem_free(*text[i]);
        *text[i] = NULL;
    }
    mem_free(self->lock_path);
    self->lock_path = NULL;
}

// ---------------------------------------------------------------------------
// Folders

static int
make_dir(const char *path, mode_t mode, rh_error *err)
{
    struct stat st;

    if (mkdir(path, mode) < 0 && errno != EEXIST)
        return rh_fail(err, RH_EIO, "cannot create the folder %s: %s", path,
                       strerror(errno));
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return rh_fail(err, RH_EIO, "%s is not a folder", path);
    return 0;
}

/* With all its parents. */
static int
make_dirs(const char *path, rh_error *err)
{
    char *copy = mem_strdup(path);
    int rc = copy ? 0 : no_memory(err);

    for (char *p = copy; rc == 0 && (p = strchr(p + 1, '/'));) {
        *p = '\0';
        rc = make_dir(copy, 0755, err);
        *p = '/';
    }
    if (rc == 0)
        rc = make_dir(copy, 0755, err);
    mem_free(copy);
    return rc;
}

/* Only for the owner, whoever made it. */
static int
make_private_dir(const char *path, rh_error *err)
{
    struct stat st;
    int rc = make_dir(path, 0700, err);

    if (rc == 0 && stat(path, &st) == 0 && (st.st_mode & 0777) != 0700
        && chmod(path, 0700) < 0)
        log_warn("cannot set the permissions of %s to 0700: %s", path,
                 strerror(errno));
    return rc;
}

int
profile_create(struct profile *self, bool auto_create, rh_error *err)
{
    char *startup;
    struct stat st;
    int rc = 0;

    self->created = stat(self->dir, &st) < 0;
    if (self->created && !auto_create)
        return rh_fail(err, RH_ENOENT,
                       "there is no profile folder %s, and auto_create is "
                       "off",
                       self->dir);
    if (self->created)
        rc = make_dirs(self->dir, err);
    if (rc == 0)
        rc = make_private_dir(self->security, err);
    if (rc == 0)
        rc = make_private_dir(self->pid, err);
    if (rc == 0)
        rc = make_dir(self->log, 0755, err);
    startup = format("%s/startup", self->dir);
    if (rc == 0)
        rc = startup ? make_dir(startup, 0755, err) : no_memory(err);
    mem_free(startup);
    return rc;
}

// ---------------------------------------------------------------------------
// Lock

static int
owned_by_other(const struct profile *self, int fd, rh_error *err)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    text[n > 0 ? strcspn(text, "\n") : 0] = '\0';
    close(fd);
    return rh_fail(err, RH_EEXIST,
                   "another controller (pid %.20s) is running with this "
                   "profile and cluster id: stop it, or use another "
                   "--cluster-id or --profile (lock file %s)",
                   *text ? text : "unknown", self->lock_path);
}

/* The file we locked must still be the one with that name. */
static bool
is_current(const struct profile *self, int fd)
{
    struct stat mine, named;

    return fstat(fd, &mine) == 0 && stat(self->lock_path, &named) == 0
           && mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

int
profile_lock(struct profile *self, rh_error *err)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    for (;;) {
        int fd = open(self->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0)
            return rh_fail(err, RH_EIO, "cannot open the lock file %s: %s",
                           self->lock_path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            if (errno == EWOULDBLOCK)
                return owned_by_other(self, fd, err);
            n = errno;
            close(fd);
            return rh_fail(err, RH_EIO, "cannot lock %s: %s", self->lock_path,
                           strerror(n));
        }
        if (!is_current(self, fd)) {
            close(fd); // its owner removed it while we waited
            continue;
        }
        // The lock is what counts; the pid is for people.  A full disk does
        // not keep us from starting here.
        if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
            log_warn("cannot write the pid to %s: %s", self->lock_path,
                     strerror(errno));
        self->lock_fd = fd;
        return 0;
    }
}

void
profile_clean_logs(const struct profile *self)
{
    DIR *dir = opendir(self->log);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        const char *dot = strrchr(entry->d_name, '.');

        if (strncmp(entry->d_name, "ipcontroller-", 13) == 0 && dot
            && (strcmp(dot, ".log") == 0 || strcmp(dot, ".err") == 0
                || strcmp(dot, ".out") == 0))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir)
        closedir(dir);
}
