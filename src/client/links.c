/* links.c - connections that break, and what is lost with them
 *
 * A client's sockets have no names: after a new connection the controller
 * knows them by another one, so the answer to anything sent before will never
 * come.  That is an answer, too: requests that were out on a connection fail
 * when it breaks (a moment later, so that what has arrived is taken in), and
 * at once while it has been down for long.  Notifications that were missed
 * are made up for by asking for the list of engines again.
 */
#include "base/clock.h"
#include "client/client.h"

#define LOST_GRACE_US 25000
#define DOWN_MAX_US 30000000

static void
on_up(struct rh_client *self, struct link_state *link)
{
    if (link->lost_serial && link == &self->link[LINK_NOTIFICATION])
        self->stale = true;
    link->up = true;
    link->gave_up = false;
}

static void
on_lost(struct rh_client *self, struct link_state *link)
{
    link->up = false;
    link->down_since_us = self->now.mono_us;
    link->lost_at_us = self->now.mono_us + LOST_GRACE_US;
    link->lost_serial = self->ledger.serial;
}

static void
soonest(int64_t *due_us, int64_t at_us)
{
    if (at_us < *due_us)
        *due_us = at_us;
}

/* Fail what is overdue on one channel. */
static void
expire(struct rh_client *self, enum link i)
{
    struct link_state *link = &self->link[i];
    enum rh_channel channel = (enum rh_channel)i;
    int64_t give_up_us = link->down_since_us + DOWN_MAX_US;

    if (link->lost_at_us && link->lost_at_us <= self->now.mono_us) {
        ledger_fail_channel(&self->ledger, channel, link->lost_serial,
                            self->now);
        link->lost_at_us = 0;
    } else if (link->lost_at_us) {
        soonest(&self->due_us, link->lost_at_us);
    }
    if (link->up || link->gave_up || !link->down_since_us
        || !self->ledger.pending.n)
        return;
    if (give_up_us <= self->now.mono_us) {
        link->gave_up = true;
        ledger_fail_channel(&self->ledger, channel, UINT64_MAX, self->now);
    } else {
        soonest(&self->due_us, give_up_us);
    }
}

static void
resync(struct rh_client *self)
{
    struct rh_request *req = self->resync;
    rh_error err;

    if (req && (request_state(req) & RH_DONE)) {
        // Ask again; an answer that a notification has overtaken is too old.
        if (self->ledger.version != self->resync_version
            || req->failure == FAIL_LOST)
            self->stale = true;
        else if (req->reply && req->status == RH_STATUS_OK)
            ledger_resync(&self->ledger, msg_part(req->reply, MSG_CONTENT),
                          self->now, &err);
        self->resync = NULL;
        client_drop_handle(req);
        request_unref(&req);
    }
    if (self->look_again_us && self->look_again_us <= self->now.mono_us) {
        self->look_again_us = 0;
        self->stale = true;
    } else if (self->look_again_us) {
        soonest(&self->due_us, self->look_again_us);
    }
    if (self->stale && !self->resync && self->link[LINK_QUERY].up) {
        self->resync_version = self->ledger.version;
        self->resync = client_ask(self, "connection_request");
        self->stale = !self->resync;
    }
}

void
client_check_links(struct rh_client *self)
{
    if (self->link_news) {
        self->link_news = false;
        for (int i = 0; i < N_LINKS; i++) {
            enum net_change change;

            while ((change = net_monitor_read(self->link[i].sock)) != NET_SAME)
                if (change == NET_UP)
                    on_up(self, &self->link[i]);
                else
                    on_lost(self, &self->link[i]);
        }
    }
    for (enum link i = 0; i <= LINK_QUERY; i++)
        expire(self, i);
    if (self->met)
        resync(self);
}
