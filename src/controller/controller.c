/* controller.c - see controller.h
 *
 * The main thread reads options and files, starts the others, and then only
 * waits for a signal or for the hub to ask for the end.
 */
#include "controller/controller.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "controller/config.h"
#include "controller/runtime.h"

#define SWEEP_MS 3000

enum { EXIT_OK, EXIT_START, EXIT_USAGE };

// ---------------------------------------------------------------------------
// What is wanted

static void
report(const rh_error *err)
{
    fprintf(stderr, "ipcontroller: %s\n", err->text);
}

/* The profile's file, then the one of --config. */
static int
load_config(struct runtime *self, rh_error *err)
{
    struct settings *s = &self->settings;
    // A file may set this very setting: read it from a copy.
    char *extra;
    int rc = config_load(s, self->profile.config_path, err);

    if (rc == RH_ENOENT)
        rc = 0; // most profiles have none
    extra = mem_strdup(s->config_file);
    if (rc == 0 && !extra)
        rc = rh_fail(err, RH_ENOMEM, "out of memory");
    if (rc == 0 && *extra)
        rc = config_load(s, extra, err);
    mem_free(extra);
    return rc == RH_ENOENT ? RH_EIO : rc;
}

/* Before the folder changes, names are made absolute. */
static int
enter_work_dir(const struct settings *s, rh_error *err)
{
    if (!*s->work_dir)
        return 0;
    if (chdir(s->work_dir) < 0)
        return rh_fail(err, RH_EIO, "cannot change to --work-dir=%.200s: %s",
                       s->work_dir, strerror(errno));
    log_info("Changing to working dir: %s", s->work_dir);
    return 0;
}

static int
open_log(const struct runtime *self, rh_error *err)
{
    const struct settings *s = &self->settings;
    char path[4096];

    if (s->clean_logs)
        profile_clean_logs(&self->profile);
    if (!s->log_to_file)
        return 0;
    snprintf(path, sizeof(path), "%s/ipcontroller-%s-%ld.log",
             self->profile.log, s->cluster_id, (long)getpid());
    fprintf(stderr, "Sending logs to %s\n", path);
    if (log_to_file(path) < 0)
        return rh_fail(err, RH_EIO, "cannot open the log file %s: %s", path,
                       strerror(errno));
    return 0;
}

static int
prepare_profile(struct runtime *self, rh_error *err)
{
    struct settings *s = &self->settings;
    int rc = profile_init(&self->profile, s, err);

    if (rc == 0)
        rc = profile_create(&self->profile, s->auto_create, err);
    if (rc < 0)
        return rc;
    log_info("%s profile dir: '%s'",
             self->profile.created ? "Created" : "Using existing",
             self->profile.dir);
    if (s->stage_config)
        rc = config_stage(self->profile.config_path, err);
    if (rc == 0)
        rc = load_config(self, err);
    if (rc == 0)
        rc = settings_finish(s, err);
    if (rc == 0)
        rc = profile_name_files(&self->profile, s, err);
    log_setup("IPController", (enum log_level)s->log_level);
    return rc;
}

// ---------------------------------------------------------------------------
// Running

/* Each engine and client costs several descriptors. */
static void
raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0
        && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* From here on signals are read, not delivered.  Returns the descriptor. */
static int
take_signals(rh_error *err)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGABRT);
    sigaddset(&set, SIGHUP);
    (void)signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return rh_fail(err, RH_EIO, "signalfd: %s", strerror(errno));
    return fd;
}

static void
wait_for_end(const struct runtime *self, int signal_fd)
{
    struct pollfd item[] = {
        {.fd = signal_fd, .events = POLLIN},
        {.fd = self->quit_fd, .events = POLLIN},
    };
    struct signalfd_siginfo info;

    while (!item[0].revents && !item[1].revents) {
        if (poll(item, 2, self->shm ? SWEEP_MS : -1) < 0 && errno != EINTR)
            break;
        shm_sweep(self->shm);
    }
    if (item[0].revents
        && read(signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        log_write((enum log_level)50, "Received signal %u, shutting down",
                  info.ssi_signo);
}

static int
serve(struct runtime *self, rh_error *err)
{
    int fd = take_signals(err), rc = fd;

    if (rc >= 0) {
        self->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (self->quit_fd < 0)
            rc = rh_fail(err, RH_EIO, "eventfd: %s", strerror(errno));
    }
    if (rc >= 0)
        rc = profile_lock(&self->profile, err);
    if (rc >= 0) {
        raise_limits();
        rc = runtime_start(self, err);
        if (rc >= 0)
            wait_for_end(self, fd);
        runtime_fini(self);
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

static int
run(struct runtime *self)
{
    rh_error err;
    int rc = settings_from_env(&self->settings, &err);

    if (rc == 0)
        rc = prepare_profile(self, &err);
    if (rc == 0)
        rc = enter_work_dir(&self->settings, &err);
    if (rc == 0)
        rc = open_log(self, &err);
    if (rc == 0)
        rc = serve(self, &err);
    if (rc < 0)
        log_error("%s", err.text);
    profile_fini(&self->profile);
    return rc < 0 ? EXIT_START : EXIT_OK;
}

/* Without making or changing anything. */
static int
show_config(struct runtime *self)
{
    struct settings *s = &self->settings;
    rh_error err;
    int rc = settings_from_env(s, &err);

    if (rc == 0)
        rc = profile_init(&self->profile, s, &err);
    if (rc == 0)
        rc = load_config(self, &err);
    if (rc == 0)
        option_print_config(stdout, s, s->show_config_json);
    else
        report(&err);
    profile_fini(&self->profile);
    return rc < 0 ? EXIT_START : EXIT_OK;
}

static int
act(struct runtime *self, enum option_action action)
{
    switch (action) {
    case ACTION_HELP:
    case ACTION_HELP_ALL:
        option_print_help(stdout, action == ACTION_HELP_ALL);
        return EXIT_OK;
    case ACTION_VERSION:
        puts(RH_VERSION);
        return EXIT_OK;
    case ACTION_RUN:
        break;
    }
    if (self->settings.show_config || self->settings.show_config_json)
        return show_config(self);
    return run(self);
}

int
controller_main(int argc, char *const *argv)
{
    static struct runtime self; // large, and one per process
    enum option_action action = 0;
    rh_error err;
    int rc;

    self.profile.lock_fd = -1;
    rc = settings_init(&self.settings, &err);
    if (rc == 0)
        rc = settings_from_args(&self.settings, argc, argv, &action, &err);
    if (rc < 0) {
        report(&err);
        settings_fini(&self.settings);
        return EXIT_USAGE;
    }
    log_setup("IPController", (enum log_level)self.settings.log_level);
    rc = act(&self, action);
    settings_fini(&self.settings);
    return rc;
}
