/* endpoints.c - see endpoints.h
 *
 * Ports come, in this order, from: the connection files being reused, the
 * setting of that very channel, the pool of its side, the common pool, the
 * system.  A port of a pool that is taken is passed over.
 */
#include "controller/endpoints.h"

#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define LINGER_MS 100
#define QUERY_FRAME_MAX (256 << 20)
#define BEAT_FRAME_MAX 1024
#define BROADCAST N_PORTS // as a channel number here

enum side { CLIENT, ENGINE };

struct pool {
    const char *name;
    const struct port_list *list;
    size_t next;
    bool warned;
};

struct binder {
    struct endpoints *out;
    struct net_ctx *ctx;
    const struct endpoint_options *options;
    struct pool pool[2], common; // of the sides, and shared
    int n_random;
    int64_t max_frame;
};

// clang-format off
static const struct channel_row {
    const char *name;
    int port; // enum conn_port or BROADCAST
    enum side side;
    enum net_type type;
    uint32_t max_frames; // 0: no limit of its own
    const char *identity;
    size_t at;       // socket in struct endpoints
    size_t ports_at; // struct port_list or int64_t in settings; SIZE_MAX: none
    size_t i_port;   // place in that list
    int64_t max_frame; // bytes; 0: what fits into memory
} rows[] = {
#define SOCK(m) offsetof(struct endpoints, m)
#define SET(m) offsetof(struct settings, m)
    /* The order in which upstream uses the pools up. */
    { "control", PORT_CONTROL, ENGINE, NET_ROUTER, 0, "control_out",
      SOCK(relay.engine[LANE_CONTROL]), SET(control), 1, 0 },
    { "mux", PORT_MUX, ENGINE, NET_ROUTER, 0, "mux_out",
      SOCK(relay.engine[LANE_MUX]), SET(mux), 1, 0 },
    { "task", PORT_TASK, ENGINE, NET_ROUTER, 0, "task_out",
      SOCK(task_engine), SET(task), 1, 0 },
    { "iopub", PORT_IOPUB, ENGINE, NET_SUB, 0, NULL,
      SOCK(relay.iopub_in), SET(iopub), 1, 0 },
    { "hb_ping", PORT_HB_PING, ENGINE, NET_XPUB, 8, NULL,
      SOCK(hb_ping), SET(hb), 0, BEAT_FRAME_MAX },
    { "hb_pong", PORT_HB_PONG, ENGINE, NET_ROUTER, 8, NULL,
      SOCK(hb_pong), SET(hb), 1, BEAT_FRAME_MAX },
    { "control", PORT_CONTROL, CLIENT, NET_ROUTER, 0, "control_in",
      SOCK(relay.client[LANE_CONTROL]), SET(control), 0, 0 },
    { "mux", PORT_MUX, CLIENT, NET_ROUTER, 0, "mux_in",
      SOCK(relay.client[LANE_MUX]), SET(mux), 0, 0 },
    { "task", PORT_TASK, CLIENT, NET_ROUTER, 0, "task_in",
      SOCK(task_client), SET(task), 0, 0 },
    { "iopub", PORT_IOPUB, CLIENT, NET_PUB, 8, NULL,
      SOCK(relay.iopub_out), SET(iopub), 0, BEAT_FRAME_MAX },
    { "notification", PORT_NOTIFICATION, CLIENT, NET_PUB, 8, NULL,
      SOCK(notify), SIZE_MAX, 0, BEAT_FRAME_MAX },
    { "broadcast", BROADCAST, CLIENT, NET_ROUTER, 0, "sub_scheduler_in",
      SOCK(relay.client[LANE_BROADCAST]), SIZE_MAX, 0, 0 },
#undef SOCK
#undef SET
};
// clang-format on

/* The largest frame that can be worth receiving. */
static int64_t
memory_size(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGE_SIZE);

    return pages > 0 && size > 0 ? (int64_t)pages * size : INT64_C(1) << 40;
}

static int
open_socket(const struct binder *self, const struct channel_row *row,
            struct net_sock **sock, rh_error *err)
{
    bool is_beat = row->port == PORT_HB_PING || row->port == PORT_HB_PONG;
    const struct net_options options = {
        .identity = span_str(row->identity),
        .curve = self->options->curve,
        .codec = is_beat ? NULL : self->options->codec,
        .linger_ms = LINGER_MS,
        .max_msg_size = row->max_frame ? row->max_frame : self->max_frame,
        .max_frames = row->max_frames,
        .mandatory = row->type == NET_ROUTER && row->side == ENGINE
                     && row->port != PORT_HB_PONG
                     && row->port != PORT_REGISTRATION,
        .corked = true, // poller_wait flushes
    };
    int rc = net_open(sock, self->ctx, row->type, &options, err);

    if (rc == 0 && row->type == NET_SUB)
        rc = net_subscribe(*sock, SPAN_NONE, err);
    if (rc == 0 && row->type == NET_XPUB && net_set_verbose(*sock) < 0)
        rc = rh_fail(err, RH_ENET, "the ping socket cannot be verbose");
    return rc;
}

static bool
is_ipc(const struct binder *self, enum side side)
{
    return strcmp(side == CLIENT ? self->options->client_transport
                                 : self->options->engine_transport,
                  "ipc")
           == 0;
}

static int
bind_at(const struct binder *self, enum side side, struct net_sock *sock,
        int port, int *got, rh_error *err)
{
    const struct endpoint_options *o = self->options;
    const char *ip = side == CLIENT ? o->client_ip : o->engine_ip;
    const char *transport =
        side == CLIENT ? o->client_transport : o->engine_transport;
    char url[1024];
    int rc;

    if ((size_t)snprintf(url, sizeof(url), "%s://%s:%d", transport, ip, port)
        >= sizeof(url))
        return rh_fail(err, RH_EINVAL, "address of more than %zu characters",
                       sizeof(url));
    rc = net_bind(sock, url, got, err);
    if (rc == 0 && *got == 0)
        *got = port; // ipc: the "port" is part of a file name
    return rc;
}

/* The next port of a pool, 0 when it is used up. */
static int
next_of(struct pool *pool)
{
    if (pool->next < pool->list->n)
        return pool->list->v[pool->next++];
    if (pool->list->n && !pool->warned)
        log_warn("all %zu ports of %s are used up", pool->list->n, pool->name);
    pool->warned = true;
    return 0;
}

/* From the pools, or any free one. */
static int
bind_anywhere(struct binder *self, enum side side, struct net_sock *sock,
              int *port, rh_error *err)
{
    struct pool *const pools[] = {&self->pool[side], &self->common};

    for (size_t i = 0; i < 2; i++)
        for (int p; (p = next_of(pools[i]));) {
            if (bind_at(self, side, sock, p, port, err) == 0)
                return 0;
            log_debug("port %d passed over: %s", p, err ? err->text : "");
        }
    self->n_random++;
    // An ipc "port" only has to be a name that no other channel has.
    return bind_at(self, side, sock, is_ipc(self, side) ? self->n_random : 0,
                   port, err);
}

/* What the settings say for this very channel; 0: nothing. */
static int
fixed_port(const struct binder *self, const struct channel_row *row)
{
    const char *s = (const char *)self->options->settings;
    const struct port_list *list;

    if (row->port == PORT_NOTIFICATION)
        return (int)self->options->settings->notifier_port;
    if (row->ports_at == SIZE_MAX)
        return 0;
    list = (const struct port_list *)(const void *)(s + row->ports_at);
    return row->i_port < list->n ? list->v[row->i_port] : 0;
}

static int
reused_port(const struct binder *self, const struct channel_row *row, size_t i)
{
    const struct connfile *file = row->side == CLIENT
                                      ? self->options->reuse_client
                                      : self->options->reuse_engine;

    if (!file)
        return 0;
    return row->port == BROADCAST ? file->broadcast[i] : file->port[row->port];
}

static int
bind_row(struct binder *self, const struct channel_row *row, size_t i,
         struct net_sock **sock, int *port, rh_error *err)
{
    int wanted = reused_port(self, row, i);
    rh_error why;
    int rc;

    if (!wanted)
        wanted = fixed_port(self, row);
    rc = open_socket(self, row, sock, &why);
    if (rc == 0 && wanted)
        rc = bind_at(self, row->side, *sock, wanted, port, &why);
    else if (rc == 0)
        rc = bind_anywhere(self, row->side, *sock, port, &why);
    if (rc < 0)
        rh_fail(err, rc, "%s channel for %s: %s", row->name,
                row->side == CLIENT ? "clients" : "engines", why.text);
    return rc;
}

static void
set_port(struct binder *self, const struct channel_row *row, size_t i, int port)
{
    struct connfile *file =
        row->side == CLIENT ? &self->out->client : &self->out->engine;

    if (row->port == BROADCAST) {
        file->broadcast[i] = port;
        file->n_broadcast = (int)i + 1;
    } else {
        file->port[row->port] = port;
    }
}

static bool
is_wildcard(const char *ip)
{
    return strcmp(ip, "*") == 0 || strcmp(ip, "0.0.0.0") == 0;
}

/* The query socket listens for both sides, on one port. */
static int
bind_query(struct binder *self, rh_error *err)
{
    static const struct channel_row row = {
        .name = "registration",
        .port = PORT_REGISTRATION,
        .side = ENGINE,
        .type = NET_ROUTER,
        .max_frames = 4096,
        .at = offsetof(struct endpoints, query),
        .ports_at = SIZE_MAX,
        .max_frame = QUERY_FRAME_MAX,
    };
    const struct endpoint_options *o = self->options;
    int wanted = reused_port(self, &row, 0), port = 0, ignored, rc;
    rh_error why;
    // A wildcard includes the other address.
    enum side first = is_wildcard(o->client_ip) ? CLIENT : ENGINE;
    bool both = (strcmp(o->client_ip, o->engine_ip) != 0
                 && !is_wildcard(o->client_ip) && !is_wildcard(o->engine_ip))
                || strcmp(o->client_transport, o->engine_transport) != 0;

    if (!wanted)
        wanted = (int)o->settings->regport;
    rc = open_socket(self, &row, &self->out->query, &why);
    if (rc == 0 && wanted)
        rc = bind_at(self, first, self->out->query, wanted, &port, &why);
    else if (rc == 0)
        rc = bind_anywhere(self, first, self->out->query, &port, &why);
    if (rc == 0 && both)
        rc = bind_at(self, first == CLIENT ? ENGINE : CLIENT, self->out->query,
                     port, &ignored, &why);
    if (rc < 0)
        return rh_fail(err, rc, "registration channel: %s", why.text);
    self->out->client.port[PORT_REGISTRATION] = port;
    self->out->engine.port[PORT_REGISTRATION] = port;
    return 0;
}

static int
bind_leaves(struct binder *self, rh_error *err)
{
    static const struct channel_row row = {
        .name = "broadcast",
        .port = BROADCAST,
        .side = ENGINE,
        .type = NET_ROUTER,
        .identity = "sub_scheduler_0",
        .ports_at = SIZE_MAX,
    };
    const struct connfile *reuse = self->options->reuse_engine;
    struct relay_sockets *relay = &self->out->relay;
    size_t n = (size_t)1 << self->options->settings->broadcast_depth;
    int rc = 0, port = 0;

    if (reuse && reuse->n_broadcast > 0)
        n = (size_t)reuse->n_broadcast;
    for (size_t i = 0; rc == 0 && i < n && i < CONN_BROADCAST_MAX; i++) {
        rc = bind_row(self, &row, i, &relay->leaf[i], &port, err);
        if (rc == 0)
            set_port(self, &row, i, port);
        relay->n_leaves = i + 1;
    }
    return rc;
}

static int
bind_side(struct binder *self, enum side side, rh_error *err)
{
    int rc = 0, port = 0;

    for (size_t i = 0; rc == 0 && i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct channel_row *row = &rows[i];
        struct net_sock **sock =
            (struct net_sock **)(void *)((char *)self->out + row->at);

        if (row->side != side)
            continue;
        rc = bind_row(self, row, 0, sock, &port, err);
        if (rc == 0)
            set_port(self, row, 0, port);
    }
    return rc;
}

static void
set_interface(struct connfile *file, const char *transport, const char *ip)
{
    // Lengths were checked; what is cut cannot be bound to either.
    snprintf(file->interface, sizeof(file->interface), "%s://%.480s", transport,
             ip);
}

int
endpoints_bind(struct endpoints *self, struct net_ctx *ctx,
               const struct endpoint_options *options, rh_error *err)
{
    const struct settings *s = options->settings;
    struct binder binder = {
        .out = self,
        .ctx = ctx,
        .options = options,
        .pool = {[CLIENT] = {"client_ports", &s->client_ports, 0, false},
                 [ENGINE] = {"engine_ports", &s->engine_ports, 0, false}},
        .common = {"ports", &s->ports, 0, false},
        .max_frame = memory_size(),
    };
    int rc;

    memset(self, 0, sizeof(*self));
    self->client.for_client = true;
    set_interface(&self->client, options->client_transport, options->client_ip);
    set_interface(&self->engine, options->engine_transport, options->engine_ip);
    rc = bind_query(&binder, err);
    if (rc == 0)
        rc = bind_side(&binder, ENGINE, err);
    if (rc == 0)
        rc = bind_leaves(&binder, err);
    if (rc == 0)
        rc = bind_side(&binder, CLIENT, err);
    if (rc < 0) {
        endpoints_close(self);
        return rc;
    }
    self->lifeline_port = next_of(&binder.pool[ENGINE]);
    if (!self->lifeline_port)
        self->lifeline_port = next_of(&binder.common);
    return 0;
}

static void
remove_ipc(const struct connfile *file, int port)
{
    char path[600];

    if (port && strncmp(file->interface, "ipc://", 6) == 0) {
        snprintf(path, sizeof(path), "%s:%d", file->interface + 6, port);
        (void)unlink(path);
    }
}

void
endpoints_remove_ipc(const struct endpoints *self)
{
    const struct connfile *const file[] = {&self->client, &self->engine};

    for (size_t i = 0; i < 2; i++) {
        for (int j = 0; j < N_PORTS; j++)
            remove_ipc(file[i], file[i]->port[j]);
        for (int j = 0; j < file[i]->n_broadcast; j++)
            remove_ipc(file[i], file[i]->broadcast[j]);
    }
}

void
endpoints_close(struct endpoints *self)
{
    struct net_sock **const more[] = {&self->query,       &self->notify,
                                      &self->hb_ping,     &self->hb_pong,
                                      &self->task_client, &self->task_engine};

    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++)
        net_close(more[i]);
    relay_close_sockets(&self->relay);
}
