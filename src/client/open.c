/* open.c - making and closing the connections
 *
 * The subscriptions are connected first and the hub is asked last: its answer
 * has travelled to the controller and back after they began, so whatever
 * happens from then on is heard.  Notifications are taken in only after the
 * answer, because they are changes to the list of engines in it.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/client.h"
#include "wire/pack.h"
#include "wire/scan.h"

#define DEFAULT_TIMEOUT_MS 10000
#define LINKS_US 1000000
#define SUBSCRIBE_US 5000
#define LOOK_AGAIN_US 1000000
#define DEFAULT_LINGER_MS 1000

/* Names as in the connection file.  ORDER: subscriptions before the rest. */
static const struct {
    enum link link;
    const char *name;
    enum net_type type;
    int port; // enum conn_port; -1: broadcast
} plan[] = {
    {LINK_IOPUB, "iopub", NET_SUB, PORT_IOPUB},
    {LINK_NOTIFICATION, "notification", NET_SUB, PORT_NOTIFICATION},
    {LINK_MUX, "mux", NET_DEALER, PORT_MUX},
    {LINK_TASK, "task", NET_DEALER, PORT_TASK},
    {LINK_CONTROL, "control", NET_DEALER, PORT_CONTROL},
    {LINK_BROADCAST, "broadcast", NET_DEALER, -1},
    {LINK_QUERY, "registration", NET_DEALER, PORT_REGISTRATION},
};

/* ---- fork ------------------------------------------------------------- */

static unsigned generation;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
count_fork(void)
{
    generation++;
}

static void
watch_forks(void)
{
    pthread_atfork(NULL, NULL, count_fork);
}

int
client_check(const struct rh_client *self, rh_error *err)
{
    if (self->generation == generation)
        return 0;
    return rh_fail(err, RH_ESTATE,
                   "this client was opened before fork() by process %d and "
                   "is of no use in its child; open another one",
                   self->sender.pid);
}

/* ---- lifetime --------------------------------------------------------- */

struct rh_client *
client_ref(struct rh_client *self)
{
    atomic_fetch_add_explicit(&self->refs, 1, memory_order_relaxed);
    return self;
}

void
client_unref(struct rh_client **self_p)
{
    struct rh_client *self = *self_p;

    *self_p = NULL;
    if (!self || atomic_fetch_sub(&self->refs, 1) != 1)
        return;
    ledger_fini(&self->ledger);
    sender_fini(&self->sender);
    buf_fini(&self->metadata);
    session_free(&self->signer);
    session_free(&self->checker);
    shm_leave(&self->shm);
    if (self->waiter_fd >= 0)
        close(self->waiter_fd);
    if (self->runner_fd >= 0)
        close(self->runner_fd);
    if (self->watch_fd >= 0)
        close(self->watch_fd);
    pthread_cond_destroy(&self->runner_cond);
    pthread_cond_destroy(&self->no_poll);
    pthread_condattr_destroy(&self->mono);
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->send_lock);
    mem_free(self);
}

static struct rh_client *
client_new(void)
{
    struct rh_client *self = mem_zalloc(1, sizeof(*self));

    if (!self)
        return NULL;
    pthread_once(&once, watch_forks);
    self->generation = generation;
    atomic_init(&self->refs, 1);
    atomic_init(&self->closed, false);
    atomic_init(&self->woken, false);
    atomic_init(&self->engines_version, 0);
    pthread_mutex_init(&self->lock, NULL);
    pthread_mutex_init(&self->send_lock, NULL);
    pthread_condattr_init(&self->mono);
    pthread_condattr_setclock(&self->mono, CLOCK_MONOTONIC);
    pthread_cond_init(&self->runner_cond, &self->mono);
    pthread_cond_init(&self->no_poll, &self->mono);
    list_init(&self->waiters);
    list_init(&self->ready);
    list_init(&self->events);
    self->due_us = INT64_MAX;
    self->last_output_us = clock_mono_us();
    self->waiter_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->runner_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    ledger_init(&self->ledger, SPAN_NONE, &client_port, self);
    return self;
}

/* ---- opening ---------------------------------------------------------- */

static const char *
own_name(char *out, size_t cap)
{
    static const char *const vars[] = {"LOGNAME", "USER", "LNAME", "USERNAME"};
    char scratch[1024];
    struct passwd entry, *found = NULL;
    const char *name = NULL;

    for (size_t i = 0; i < sizeof(vars) / sizeof(vars[0]) && !name; i++) {
        name = getenv(vars[i]);
        if (name && !*name)
            name = NULL;
    }
    if (!name
        && getpwuid_r(getuid(), &entry, scratch, sizeof(scratch), &found) == 0
        && found)
        name = entry.pw_name;
    snprintf(out, cap, "%s", name ? name : "user");
    return out;
}

static int
read_connection(struct connfile *conn, const char *connection, rh_error *err)
{
    const char *p = connection + strspn(connection, " \t\r\n");
    int rc = *p == '{' ? connfile_parse(conn, span_str(p), err)
                       : connfile_read(conn, connection, err);

    if (rc < 0)
        return rc;
    if (!conn->for_client)
        return rh_fail(err, RH_EINVAL,
                       "this is a connection file for engines; clients need "
                       "ipcontroller-client.json");
    rc = pack_check(conn->pack, err);
    if (rc == 0)
        rc = pack_check(conn->unpack, err);
    return rc;
}

static int
set_curve(struct rh_client *self, const rh_client_options *options,
          struct net_curve *curve, rh_error *err)
{
    bool given = options->curve_public && options->curve_secret;

    snprintf(curve->server_key, sizeof(curve->server_key), "%.40s",
             self->conn.curve_serverkey);
    if (!given)
        return net_curve_keypair(curve->public_key, curve->secret_key, err);
    snprintf(curve->public_key, sizeof(curve->public_key), "%.40s",
             options->curve_public);
    snprintf(curve->secret_key, sizeof(curve->secret_key), "%.40s",
             options->curve_secret);
    return 0;
}

static const char *
override(const rh_client_options *options, const char *name)
{
    for (size_t i = 0; options->url && options->url[i]; i += 2)
        if (strcmp(options->url[i], name) == 0)
            return options->url[i + 1];
    return NULL;
}

static int
watch_link(struct rh_client *self, struct link_state *link, rh_error *err)
{
    struct epoll_event event = {.events = EPOLLIN};
    int rc = net_monitor(link->sock, self->ctx, err);

    if (rc < 0)
        return rc;
    if (epoll_ctl(self->watch_fd, EPOLL_CTL_ADD, net_monitor_fd(link->sock),
                  &event)
        < 0)
        return rh_fail(err, RH_EIO, "watching a connection: %s",
                       strerror(errno));
    return 0;
}

static int
connect_link(struct rh_client *self, size_t i, const char *given,
             const struct net_options *net, rh_error *err)
{
    struct link_state *link = &self->link[plan[i].link];
    const struct connfile *conn = &self->conn;
    char url[1024];
    int port = plan[i].port >= 0   ? conn->port[plan[i].port]
               : conn->n_broadcast ? conn->broadcast[0]
                                   : 0;
    int rc = net_open(&link->sock, self->ctx, plan[i].type, net, err);

    if (rc == 0 && plan[i].type == NET_SUB)
        rc = net_subscribe(link->sock, SPAN_NONE, err);
    if (rc < 0)
        return rc;
    link->dirty = true;
    link->fd = net_fd(link->sock);
    if (link->fd < 0)
        return rh_fail(err, RH_ENET, "no descriptor for %s", plan[i].name);
    if (!given && !port && plan[i].link == LINK_BROADCAST)
        return 0; // controllers before 7.0 have none
    link->used = true;
    rc = watch_link(self, link, err);
    if (rc < 0 || given)
        return rc < 0 ? rc : net_connect(link->sock, given, err);
    rc = connfile_url(conn, port, url, sizeof(url), err);
    return rc < 0 ? rc : net_connect(link->sock, url, err);
}

static int
connect_all(struct rh_client *self, const rh_client_options *options,
            rh_error *err)
{
    struct net_curve curve = {0};
    // JSON whatever the cluster packs: we translate ourselves, as a reply that
    // cannot be read is a reply, too.
    const struct net_codec codec = {
        .pack = "json",
        .unpack = "json",
        .key = span_str(self->conn.key),
        .scheme = self->conn.signature_scheme,
    };
    struct net_options net = {.codec = &codec, .linger_ms = -1, .corked = true};
    int rc = net_ctx_new(&self->ctx, err);

    if (rc == 0 && *self->conn.curve_serverkey) {
        net.curve = &curve;
        rc = set_curve(self, options, &curve, err);
    }
    for (size_t i = 0; rc == 0 && i < N_LINKS; i++)
        rc = connect_link(self, i, override(options, plan[i].name), &net, err);
    return rc;
}

static int
set_up(struct rh_client *self, const char *connection,
       const rh_client_options *options, rh_error *err)
{
    struct span key;
    char name[80];
    int rc;

    if (self->waiter_fd < 0 || self->runner_fd < 0 || self->watch_fd < 0)
        return rh_fail(err, RH_EIO, "no more file descriptors");
    rc = read_connection(&self->conn, connection, err);
    if (rc < 0)
        return rc;
    key = span_str(self->conn.key);
    rc = session_new(&self->signer, key, self->conn.signature_scheme, err);
    if (rc == 0)
        rc = session_new(&self->checker, key, self->conn.signature_scheme, err);
    if (rc == 0)
        rc = sender_init(&self->sender, self->signer, options->session,
                         options->username ? options->username
                                           : own_name(name, sizeof(name)),
                         err);
    if (rc < 0)
        return rc;
    self->ledger.session = span_str(self->sender.session);
    self->packs = !pack_is_json(self->conn.pack);
    self->unpacks = !pack_is_json(self->conn.unpack);
    return connect_all(self, options, err);
}

int
client_start(struct rh_client **out, const char *connection,
             const rh_client_options *options, struct rh_request **hello,
             rh_error *err)
{
    static const rh_client_options none;
    struct rh_submission what = {.channel = RH_QUERY,
                                 .msg_type = "connection_request"};
    struct rh_client *self = client_new();
    int rc;

    if (!self)
        return rh_fail(err, RH_ENOMEM, "opening a client");
    rc = set_up(self, connection, options ? options : &none, err);
    if (rc == 0)
        rc = rh_client_submit(self, &what, hello, err);
    if (rc < 0)
        rh_client_free(&self);
    else
        *out = self;
    return rc;
}

static int
no_answer(const struct rh_client *self, rh_error *err)
{
    if (self->last_invalid == RH_EAUTH)
        return rh_fail(err, RH_EAUTH,
                       "the hub's answers are signed with another key than "
                       "the connection file's; is the file of this cluster?");
    return rh_fail(err, RH_ETIMEDOUT,
                   "the hub did not answer at %s port %d: is the controller "
                   "running, and is this its connection file?",
                   self->conn.interface, self->conn.port[PORT_REGISTRATION]);
}

static bool
all_up(const struct rh_client *self)
{
    for (int i = 0; i < N_LINKS; i++)
        if (self->link[i].used && !self->link[i].up)
            return false;
    return true;
}

/* Give the other connections a moment: what is published before a subscription
 * has taken effect is lost, and what is sent before a connection is there
 * leaves only when somebody waits.  libzmq looks at new subscriptions once in a
 * millisecond while it is busy, and says nobody when it has.
 */
static void
await_links(struct rh_client *self)
{
    int64_t until_us = clock_mono_us() + LINKS_US;
    bool polling = false;

    while (!all_up(self) && clock_mono_us() < until_us)
        if (client_poll(self, self->waiter_fd, &polling, until_us) < 0)
            return; // a signal: whoever wants it will look
    until_us = clock_mono_us() + SUBSCRIBE_US;
    while (clock_mono_us() < until_us)
        if (client_poll(self, self->waiter_fd, &polling, until_us) < 0)
            return;
}

static void
join_shm(struct rh_client *self, struct span content)
{
    struct scan_field f = {.key = "roundhouse"};
    rh_error err = {0};

    if (scan_object(content, &f, 1, NULL) == 0 && f.value.n && !self->shm
        && shm_join(&self->shm, f.value, span_str(self->sender.session), &err)
               < 0)
        log_debug("client %s: %s", self->sender.session, err.text);
}

int
client_meet(struct rh_client *self, struct rh_request *hello, int timeout_ms,
            rh_error *err)
{
    struct rh_bytes content = {0};
    int rc = rh_client_wait(self, &hello, 1, 1, RH_DONE, timeout_ms, err);

    if (rc == RH_ETIMEDOUT)
        return no_answer(self, err);
    if (rc == 0)
        rc = rh_request_part(hello, RH_REPLY_CONTENT, &content);
    if (rc < 0)
        return rc;
    if (hello->failure != FAIL_NONE)
        return rh_fail(err, RH_ENET, "the connection to the hub was lost");
    if (rh_request_status(hello) != RH_STATUS_OK)
        return rh_fail(err, RH_EPROTO, "the hub refused: %.*s",
                       (int)(content.n < 200 ? content.n : 200),
                       (const char *)content.p);
    pthread_mutex_lock(&self->lock);
    rc = ledger_connected(&self->ledger, span_of(content.p, content.n), err);
    if (rc == 0) {
        join_shm(self, span_of(content.p, content.n));
        self->met = true;
        atomic_store(&self->engines_version, self->ledger.version);
        self->link[LINK_NOTIFICATION].dirty = true;
        self->link_news = true;
        for (int i = 0; i < N_LINKS; i++)
            self->link[i].down_since_us = self->now.mono_us;
        client_catch_up(self);
        await_links(self);
        // Who came between the hub's answer and our subscription was missed,
        // and when a subscription takes effect nobody says: ask once more.
        self->look_again_us = self->now.mono_us + LOOK_AGAIN_US;
    }
    pthread_mutex_unlock(&self->lock);
    return rc;
}

int
rh_client_open(rh_client **out, const char *connection,
               const rh_client_options *options, rh_error *err)
{
    int timeout_ms = options && options->timeout_ms ? options->timeout_ms
                                                    : DEFAULT_TIMEOUT_MS;
    struct rh_request *hello = NULL;
    struct rh_client *self = NULL;
    int rc = client_start(&self, connection, options, &hello, err);

    if (!self)
        return rc;
    rc = client_meet(self, hello, timeout_ms, err);
    rh_request_release(&hello);
    if (rc < 0) {
        if (rc == RH_EINTR)
            rh_fail(err, rc, "a signal came before the hub answered");
        rh_client_close(self, 0);
        rh_client_free(&self);
    } else {
        *out = self;
    }
    return rc;
}

/* ---- closing ---------------------------------------------------------- */

void
rh_client_close(rh_client *self, int linger_ms)
{
    struct net_sock *sock[N_LINKS];
    struct rh_request *resync;
    struct net_ctx *ctx;

    if (client_check(self, NULL) < 0)
        return;
    pthread_mutex_lock(&self->lock);
    if (atomic_exchange(&self->closed, true)) {
        pthread_mutex_unlock(&self->lock);
        return;
    }
    self->now = (struct moment){clock_mono_us(), clock_wall_us()};
    ledger_fail_all(&self->ledger, FAIL_CLOSED, self->now);
    client_wake_all(self);
    resync = self->resync;
    self->resync = NULL;
    while (self->n_polling)
        pthread_cond_wait(&self->no_poll, &self->lock);
    for (int i = 0; i < N_LINKS; i++) {
        sock[i] = self->link[i].sock;
        self->link[i].sock = NULL;
    }
    ctx = self->ctx;
    self->ctx = NULL;
    pthread_mutex_unlock(&self->lock);

    rh_request_release(&resync);
    // From here nobody else can reach a socket.
    for (int i = 0; i < N_LINKS; i++)
        if (sock[i])
            net_set_linger(sock[i], linger_ms);
    for (int i = 0; i < N_LINKS; i++)
        net_close(&sock[i]);
    net_ctx_free(&ctx);
    shm_close(self->shm);
}

/* A client's own references: events that nobody collected keep requests, which
 * keep the client.
 */
static void
drop_events(struct rh_client *self)
{
    struct event event[16];
    int n;

    while ((n = client_events(self, event, 16, 0, NULL)) > 0)
        for (int i = 0; i < n; i++)
            event_fini(&event[i]);
}

void
rh_client_free(rh_client **self_p)
{
    struct rh_client *self = *self_p;

    if (!self)
        return;
    if (client_check(self, NULL) < 0) {
        *self_p = NULL; // the parent's business; nothing here can be touched
        return;
    }
    rh_client_close(self, DEFAULT_LINGER_MS);
    drop_events(self);
    client_unref(self_p);
}
