/* runtime.c - see runtime.h */
#include "controller/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "controller/note.h"

#define ENGINES_MAX (64 << 20)

// ---------------------------------------------------------------------------
// Addresses

/* A setting of one side counts unless a stronger source set the common one. */
static const char *
side_value(const struct settings *s, size_t side, size_t common)
{
    const char *const *own =
        (const char *const *)(const void *)((const char *)s + side);
    const char *const *both =
        (const char *const *)(const void *)((const char *)s + common);

    return **own && settings_source(s, side) >= settings_source(s, common)
               ? *own
               : *both;
}

#define SIDE(s, side, common)                      \
    side_value(s, offsetof(struct settings, side), \
               offsetof(struct settings, common))

struct address {
    char transport[16], ip[480];
};

static void
choose_address(struct address *out, const char *transport, const char *ip,
               const char *ipc_path, bool ip_is_set)
{
    snprintf(out->transport, sizeof(out->transport), "%s", transport);
    // With ipc an "ip" is the start of a path.
    if (strcmp(transport, "ipc") == 0 && !ip_is_set)
        ip = ipc_path;
    snprintf(out->ip, sizeof(out->ip), "%s", ip);
}

/* "tcp://127.0.0.1" of an earlier connection file. */
static void
split_interface(struct address *out, const char *interface)
{
    const char *sep = strstr(interface, "://"); // checked by earlier_read

    snprintf(out->transport, sizeof(out->transport), "%.*s",
             (int)(sep - interface), interface);
    snprintf(out->ip, sizeof(out->ip), "%s", sep + 3);
}

static void
choose_addresses(const struct runtime *self, struct address *client,
                 struct address *engine)
{
    const struct settings *s = &self->settings;
    bool set =
        settings_source(s, offsetof(struct settings, ip)) != FROM_DEFAULT;
    char path[480];

    if (self->earlier.usable) {
        split_interface(client, self->earlier.client.interface);
        split_interface(engine, self->earlier.engine.interface);
        return;
    }
    snprintf(path, sizeof(path), "%.400s/ipc%s%.60s", self->profile.security,
             *s->cluster_id ? "-" : "", s->cluster_id);
    choose_address(client, SIDE(s, client_transport, transport),
                   SIDE(s, client_ip, ip), path, set || *s->client_ip);
    choose_address(engine, SIDE(s, engine_transport, transport),
                   SIDE(s, engine_ip, ip), path, set || *s->engine_ip);
}

// ---------------------------------------------------------------------------
// Parts

static int
open_sqlite(const struct runtime *self, struct store **out, rh_error *err)
{
    const struct settings *s = &self->settings;
    const char *folder =
        *s->sqlite_location ? s->sqlite_location : self->profile.dir;
    struct buf path;
    int rc = RH_ENOMEM;

    buf_init(&path);
    buf_add_fmt(&path, "%s/%s", folder, s->sqlite_filename);
    buf_add_char(&path, '\0');
    if (!path.failed)
        rc = sqlite_open(out, (const char *)path.p, s->sqlite_table, err);
    else
        rh_fail(err, rc, "out of memory naming the task database");
    buf_fini(&path);
    return rc;
}

static int
open_store(const struct runtime *self, struct store **out, rh_error *err)
{
    const struct settings *s = &self->settings;
    const char *dot = strrchr(s->db_class, '.');
    const char *name = dot ? dot + 1 : s->db_class;
    struct memory_limits limits = memory_limits_default;

    limits.max_bytes = (uint64_t)s->dictdb_size_limit;
    limits.max_records = (size_t)s->dictdb_record_limit;
    limits.cull_fraction = s->dictdb_cull_fraction;
    if (strcasecmp(name, "DictDB") == 0)
        return memory_open(out, &limits, err);
    if (strcasecmp(name, "NoDB") == 0)
        return none_open(out, err);
    if (strcasecmp(name, "SQLiteDB") == 0)
        return open_sqlite(self, out, err);
    return rh_fail(err, RH_EINVAL,
                   "db_class: there is no task database '%.80s' in this "
                   "controller; it has DictDB, SQLiteDB and NoDB",
                   s->db_class);
}

static int
new_session(const struct runtime *self, struct session **out, rh_error *err)
{
    return session_new(out, span_str(self->key), self->scheme, err);
}

static const char *
user_name(const struct settings *s)
{
    const char *user = getenv("USER");

    if (*s->username)
        return s->username;
    return user && *user ? user : "roundhouse";
}

/* What may wait for the hub: an eighth of the memory, at most 1 GiB. */
static size_t
backlog_limit(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGE_SIZE);
    size_t limit = pages > 0 && size > 0 ? (size_t)pages / 8 * (size_t)size : 0;

    if (limit > (size_t)1 << 30)
        limit = (size_t)1 << 30;
    return limit > (size_t)64 << 20 ? limit : (size_t)64 << 20;
}

/* An extra: without it everything goes through sockets. */
static void
open_shm(struct runtime *self)
{
    rh_error err;

    if (self->settings.shared_memory && shm_host(&self->shm, &err) < 0)
        log_warn("arrays go through sockets: %s", err.text);
}

static int
start_relay(struct runtime *self, rh_error *err)
{
    struct session *session;
    int rc = new_session(self, &session, err);

    if (rc < 0)
        return rc;
    self->relay.shm = self->shm;
    return relay_start(&self->relay, &self->endpoints.relay, &session,
                       self->scheme, user_name(&self->settings),
                       &self->hub.backlog, &self->hub.worker, self->task.inbox,
                       err);
}

static int
configure_sched(struct runtime *self, struct sched_config *config,
                rh_error *err)
{
    const struct settings *s = &self->settings;
    int rc = 0;

    sched_config_init(config);
    config->scheme = s->scheme;
    config->hwm = (uint32_t)s->hwm;
    config->prefetch_max = (uint32_t)s->prefetch;
    config->nowhere_ms = (int64_t)(s->nowhere_s * 1000);
    config->max_deaths = (uint32_t)s->max_deaths;
    config->max_tasks = (size_t)s->max_tasks;
    config->window = (size_t)s->window;
    if (*s->scheme_library)
        rc = scheme_load(&self->own_scheme, s->scheme_library, err);
    if (rc < 0)
        return rc;
    config->own = self->own_scheme.scheme;
    config->own_state = self->own_scheme.state;
    if (random_bytes(&config->seed, sizeof(config->seed)) < 0)
        return rh_fail(err, RH_EIO, "no random bytes for the scheduler");
    return 0;
}

static int
start_task(struct runtime *self, rh_error *err)
{
    const struct settings *s = &self->settings;
    const struct rh_scheme *own;
    struct session *session;
    struct sched_config config;
    int rc = configure_sched(self, &config, err);

    if (rc == 0)
        rc = new_session(self, &session, err);
    if (rc < 0)
        return rc;
    own = config.own;
    self->task.shm = self->shm;
    rc = taskd_start(&self->task, &self->endpoints.task_client,
                     &self->endpoints.task_engine, &session, self->scheme,
                     user_name(s), &config, &self->hub.backlog,
                     &self->hub.worker, self->relay.inbox, err);
    if (rc == 0)
        log_info("Task scheduler started [%s]", !own ? s->scheme
                                                : own->name
                                                    ? own->name
                                                    : s->scheme_library);
    return rc;
}

static int
start_heart(struct runtime *self, rh_error *err)
{
    const struct settings *s = &self->settings;
    const struct heart_config config = {
        .period_ms = s->hb_period_ms,
        .max_misses = (int)s->hb_max_misses,
    };
    int rc = heartbeat_start(&self->heart, &self->endpoints.hb_ping,
                             &self->endpoints.hb_pong, self->hub.backlog.hub,
                             &config, s->hb_debug, err);

    if (rc == 0)
        log_info("Heartmonitor beating every %lldms",
                 (long long)s->hb_period_ms);
    return rc;
}

/* Engines have a lifeline if there is an address for it; else only hearts. */
static void
open_lifeline(struct runtime *self, const struct address *engine,
              struct lifeline **out)
{
    const struct lifeline_port port = hubd_lifeline_port(&self->hub);
    int tcp_port = self->endpoints.lifeline_port;
    rh_error err;

    *out = NULL;
    if (strcmp(engine->transport, "tcp") != 0)
        return;
    if (lifeline_new(out, &port, engine->ip, &tcp_port, &err) < 0) {
        tcp_port = 0; // the pool's port is taken: any other will do
        if (lifeline_new(out, &port, engine->ip, &tcp_port, &err) < 0)
            log_warn("engines have heartbeats only: %s", err.text);
    }
}

static int
read_engines(const struct runtime *self, struct buf *out, rh_error *err)
{
    int rc;

    if (!self->settings.restore)
        return 0;
    rc = read_file(self->profile.engines_path, ENGINES_MAX, out, err);
    if (rc == RH_ENOENT) {
        log_warn("no engines to restore: %s", err->text);
        return 0;
    }
    return rc;
}

static int
start_hub(struct runtime *self, const struct address *engine, rh_error *err)
{
    const struct settings *s = &self->settings;
    struct hubd_parts parts = {
        .query = self->endpoints.query,
        .notify = self->endpoints.notify,
        .engines_path = mem_strdup(self->profile.engines_path),
        .scheme = self->scheme,
    };
    struct hub_config config = {
        .username = user_name(s),
        .session_id = *s->session ? s->session : NULL,
        .hb_period_ms = (int)s->hb_period_ms,
        .registration_timeout_ms = s->registration_timeout_s * 1000,
    };
    struct buf info, engines;
    int rc;

    self->endpoints.query = self->endpoints.notify = NULL;
    self->hub.relay = &self->relay;
    self->hub.task = &self->task;
    self->hub.heart = self->heart.inbox;
    self->hub.shm = self->shm;
    self->hub.quit_fd = self->quit_fd;
    open_lifeline(self, engine, &parts.lifeline);
    buf_init(&info);
    buf_init(&engines);
    security_connection_info(&self->endpoints.engine, &info);
    config.connection_info = buf_span(&info);
    rc = info.failed || !parts.engines_path
             ? rh_fail(err, RH_ENOMEM, "out of memory")
             : read_engines(self, &engines, err);
    if (rc == 0)
        rc = new_session(self, &parts.session, err);
    if (rc == 0)
        rc = open_store(self, &parts.store, err);
    if (rc == 0)
        log_info("Hub using DB backend: %s", parts.store->ops->name);
    // hubd owns the parts from here on, even half of them.
    if (rc == 0)
        rc = hubd_start(&self->hub, &parts, &config, buf_span(&engines), err);
    else
        hubd_adopt(&self->hub, &parts);
    if (rc == 0)
        log_info("hub::created hub");
    buf_fini(&info);
    buf_fini(&engines);
    return rc;
}

// ---------------------------------------------------------------------------
// Files

static void
describe(const struct runtime *self, struct connfile *file)
{
    const struct settings *s = &self->settings;
    bool client = file->for_client;
    const char *ssh = client ? s->ssh : s->engine_ssh;
    char host[256] = "";

    if (!*ssh && self->earlier.usable)
        ssh = client ? self->earlier.client.ssh : self->earlier.engine.ssh;
    (void)gethostname(host, sizeof(host) - 1);
    snprintf(file->ssh, sizeof(file->ssh), "%s", ssh);
    snprintf(file->location, sizeof(file->location), "%s",
             *s->location           ? s->location
             : self->earlier.usable ? self->earlier.engine.location
                                    : host);
    snprintf(file->key, sizeof(file->key), "%s", self->key);
    snprintf(file->pack, sizeof(file->pack), "%s", self->pack);
    snprintf(file->unpack, sizeof(file->unpack), "%s", self->unpack);
    snprintf(file->signature_scheme, sizeof(file->signature_scheme), "%s",
             self->scheme);
    if (client)
        snprintf(file->task_scheme, sizeof(file->task_scheme), "%s", s->scheme);
    if (s->enable_curve)
        snprintf(file->curve_serverkey, sizeof(file->curve_serverkey), "%s",
                 self->curve.public_key);
}

/* Files that are reused and still right are left alone. */
static bool
same_files(const struct runtime *self)
{
    const struct connfile *now = &self->endpoints.client,
                          *then = &self->earlier.client;

    return self->earlier.usable
           && strcmp(now->curve_serverkey, then->curve_serverkey) == 0
           && strcmp(now->ssh, then->ssh) == 0
           && strcmp(self->endpoints.engine.ssh, self->earlier.engine.ssh) == 0
           && strcmp(now->location, then->location) == 0
           && strcmp(now->task_scheme, then->task_scheme) == 0;
}

static int
write_files(struct runtime *self, rh_error *err)
{
    int rc;

    describe(self, &self->endpoints.client);
    describe(self, &self->endpoints.engine);
    if (same_files(self))
        return 0;
    rc = security_write_files(&self->profile, &self->endpoints.client,
                              &self->endpoints.engine, err);
    self->files_written = rc == 0;
    return rc;
}

// ---------------------------------------------------------------------------
// Life

static int
check_lengths(const struct settings *s, rh_error *err)
{
    static const struct {
        const char *name;
        size_t at, max;
    } text[] = {
        {"ssh", offsetof(struct settings, ssh), 255},
        {"enginessh", offsetof(struct settings, engine_ssh), 255},
        {"location", offsetof(struct settings, location), 255},
        {"ip", offsetof(struct settings, ip), 400},
        {"IPController.client_ip", offsetof(struct settings, client_ip), 400},
        {"IPController.engine_ip", offsetof(struct settings, engine_ip), 400},
        {"Session.signature_scheme",
         offsetof(struct settings, signature_scheme), 31},
    };

    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
        const char *const *p =
            (const char *const *)(const void *)((const char *)s + text[i].at);

        if (strlen(*p) > text[i].max)
            return rh_fail(err, RH_EINVAL,
                           "--%s has %zu characters: at most %zu are possible",
                           text[i].name, strlen(*p), text[i].max);
    }
    return 0;
}

static int
prepare_keys(struct runtime *self, rh_error *err)
{
    const struct settings *s = &self->settings;
    int rc = security_key(s, &self->earlier, self->key, err);

    if (rc == 0 && s->enable_curve)
        rc = security_curve(s, &self->curve, err);
    if (rc < 0)
        return rc;
    snprintf(self->scheme, sizeof(self->scheme), "%s",
             self->earlier.usable ? self->earlier.engine.signature_scheme
                                  : s->signature_scheme);
    if (s->enable_curve)
        log_info("Using CURVE security");
    else if (!*self->key)
        log_warn("messages are not signed: whoever can connect can run code");
    return 0;
}

/* One of the two names both, unless it is the path of a function. */
static int
choose_packers(struct runtime *self, rh_error *err)
{
    const struct settings *s = &self->settings;
    const char *given = *s->packer ? s->packer : s->unpacker;
    const char *pack = *given ? s->packer : "json",
               *unpack = *given ? s->unpacker : "json";

    if (self->earlier.usable) {
        pack = self->earlier.engine.pack;
        unpack = self->earlier.engine.unpack;
    } else if ((!*pack || !*unpack) && strchr(given, '.')) {
        return rh_fail(err, RH_EINVAL,
                       "'%.64s' is one of two functions: set both "
                       "Session.packer and Session.unpacker",
                       given);
    }
    snprintf(self->pack, sizeof(self->pack), "%s", *pack ? pack : given);
    snprintf(self->unpack, sizeof(self->unpack), "%s",
             *unpack ? unpack : given);
    return 0;
}

static int
bind_all(struct runtime *self, const struct address *client,
         const struct address *engine, rh_error *err)
{
    const struct net_codec codec = {
        .pack = self->pack,
        .unpack = self->unpack,
        .key = span_str(self->key),
        .scheme = self->scheme,
    };
    const struct endpoint_options options = {
        .settings = &self->settings,
        .client_ip = client->ip,
        .engine_ip = engine->ip,
        .client_transport = client->transport,
        .engine_transport = engine->transport,
        .curve = self->settings.enable_curve ? &self->curve : NULL,
        .codec = &codec,
        .reuse_client = self->earlier.usable ? &self->earlier.client : NULL,
        .reuse_engine = self->earlier.usable ? &self->earlier.engine : NULL,
    };
    int rc = net_ctx_new(&self->ctx, err);

    if (rc == 0)
        rc = endpoints_bind(&self->endpoints, self->ctx, &options, err);
    if (rc == 0)
        log_info("Hub listening on %s:%d for registration.",
                 self->endpoints.client.interface,
                 self->endpoints.client.port[PORT_REGISTRATION]);
    if (rc == 0
        && strcmp(self->endpoints.client.interface,
                  self->endpoints.engine.interface)
               != 0)
        log_info("Hub listening on %s:%d for registration.",
                 self->endpoints.engine.interface,
                 self->endpoints.engine.port[PORT_REGISTRATION]);
    return rc;
}

/* What threads need to reach each other, before any of them runs. */
static int
make_threads(struct runtime *self, rh_error *err)
{
    int rc = hubd_init(&self->hub, err);

    self->hub.backlog.limit = backlog_limit();
    if (rc == 0)
        rc = relay_init(&self->relay, err);
    if (rc == 0)
        rc = taskd_init(&self->task, err);
    if (rc == 0)
        rc = heartbeat_init(&self->heart, err);
    return rc;
}

int
runtime_start(struct runtime *self, rh_error *err)
{
    struct address client = {{0}, {0}}, engine = {{0}, {0}};
    int rc = check_lengths(&self->settings, err);

    if (rc == 0)
        rc = make_threads(self, err);
    if (rc == 0 && self->settings.reuse)
        earlier_read(&self->earlier, &self->profile);
    if (rc == 0)
        rc = prepare_keys(self, err);
    if (rc == 0)
        rc = choose_packers(self, err);
    if (rc < 0)
        return rc;
    choose_addresses(self, &client, &engine);
    rc = bind_all(self, &client, &engine, err);
    // The hub last: what it restores, it tells the others.
    if (rc == 0)
        log_info("task::using %s Task scheduler", self->settings.scheme);
    if (rc == 0)
        open_shm(self);
    if (rc == 0)
        rc = start_relay(self, err);
    if (rc == 0)
        rc = start_task(self, err);
    if (rc == 0)
        rc = start_heart(self, err);
    if (rc == 0)
        rc = start_hub(self, &engine, err);
    if (rc == 0)
        rc = write_files(self, err);
    return rc;
}

void
runtime_fini(struct runtime *self)
{
    if (self->files_written && !self->settings.reuse)
        security_remove_files(&self->profile);
    // The hub first: it tells the others; then those who tell the hub.
    worker_stop(&self->hub.worker);
    heartbeat_fini(&self->heart);
    taskd_fini(&self->task);
    scheme_unload(&self->own_scheme);
    relay_fini(&self->relay);
    hubd_fini(&self->hub);
    endpoints_close(&self->endpoints);
    net_ctx_free(&self->ctx);
    endpoints_remove_ipc(&self->endpoints);
    shm_leave(&self->shm);
    if (self->quit_fd > 0)
        close(self->quit_fd);
}
