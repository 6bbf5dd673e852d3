/* heart.c - who answers the pings
 *
 * One entry per expected engine.  A period is judged when it ends: an entry
 * that beat since the last tick starts from zero, one that did not has missed
 * once more.  The text of the ping is the seconds since start, as upstream's
 * engines expect, with the tick's number as its last digits, so that no two
 * are equal even if the clock stands still.
 */
#include "hub/heart.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"

#define TEXT_SIZE 48

struct entry {
    struct list node;
    bool beating;  // it has answered once, or is known to be alive
    bool answered; // since the last tick
    int misses;    // in a row
    size_t n;
    char uuid[];
};

struct ping {
    char text[TEXT_SIZE];
    size_t n;
};

struct heart {
    struct heart_config config;
    struct heart_port port;
    struct map by_uuid;
    struct list all;
    int64_t start, due;
    uint64_t ticks;
    struct ping current, previous;
};

static struct span
uuid_of(const struct entry *e)
{
    return span_of(e->uuid, e->n);
}

static void
next_ping(struct heart *self, int64_t now)
{
    const int64_t alive = now - self->start;
    const int n = snprintf(self->current.text, TEXT_SIZE, "%lld.%03d%06llu",
                           (long long)(alive / 1000), (int)(alive % 1000),
                           (unsigned long long)(self->ticks++ % 1000000));

    self->current.n = (size_t)n; // at most 19 + 1 + 3 + 6
}

int
heart_new(struct heart **out, const struct heart_config *config,
          const struct heart_port *port, int64_t now, rh_error *err)
{
    struct heart *self;

    if (config->period_ms < 0 || config->max_misses < 0)
        return rh_fail(err, RH_EINVAL,
                       "heartbeat period of %lld ms with %d misses allowed: "
                       "neither may be negative",
                       (long long)config->period_ms, config->max_misses);
    self = mem_zalloc(1, sizeof(*self));
    if (!self)
        return rh_fail(err, RH_ENOMEM, "starting the heart monitor");
    self->config = *config;
    if (self->config.period_ms == 0)
        self->config.period_ms = 3000;
    if (self->config.max_misses == 0)
        self->config.max_misses = 10;
    self->port = *port;
    self->start = now;
    self->due = now + self->config.period_ms;
    list_init(&self->all);
    next_ping(self, now);
    *out = self;
    return 0;
}

static void
remove_entry(struct heart *self, struct entry *e)
{
    (void)map_del(&self->by_uuid, uuid_of(e));
    list_remove(&e->node);
    mem_free(e);
}

void
heart_free(struct heart **self_p)
{
    struct heart *self = *self_p;

    *self_p = NULL;
    if (!self)
        return;
    while (!list_empty(&self->all))
        remove_entry(self, LIST_ENTRY(self->all.next, struct entry, node));
    map_fini(&self->by_uuid);
    mem_free(self);
}

int
heart_expect(struct heart *self, struct span uuid, bool beating)
{
    struct entry *e = map_get(&self->by_uuid, uuid);

    if (e) {
        e->beating = e->beating || beating;
        return 0;
    }
    e = mem_zalloc(1, sizeof(*e) + uuid.n);
    if (!e)
        return RH_ENOMEM;
    e->n = uuid.n;
    e->beating = beating;
    if (uuid.n > 0)
        memcpy(e->uuid, uuid.p, uuid.n);
    if (map_put(&self->by_uuid, uuid_of(e), e) < 0) {
        mem_free(e);
        return RH_ENOMEM;
    }
    list_append(&self->all, &e->node);
    return 0;
}

void
heart_forget(struct heart *self, struct span uuid)
{
    struct entry *e = map_get(&self->by_uuid, uuid);

    if (e)
        remove_entry(self, e);
}

/* One period is over for one heart. */
static void
judge(struct heart *self, struct entry *e)
{
    if (!e->beating)
        return;
    if (e->answered) {
        e->answered = false;
        e->misses = 0;
        return;
    }
    if (++e->misses <= self->config.max_misses)
        return;
    self->port.stopped(self->port.ctx, uuid_of(e));
    remove_entry(self, e);
}

void
heart_tick(struct heart *self, int64_t now)
{
    for (struct list *l = self->all.next, *next; l != &self->all; l = next) {
        next = l->next;
        judge(self, LIST_ENTRY(l, struct entry, node));
    }
    self->previous = self->current;
    next_ping(self, now);
    self->due += self->config.period_ms;
    if (self->due <= now)
        self->due = now + self->config.period_ms;
}

int64_t
heart_due(const struct heart *self)
{
    return self->due;
}

struct span
heart_text(const struct heart *self)
{
    return span_of(self->current.text, self->current.n);
}

int
heart_pong(struct heart *self, struct span uuid, struct span text)
{
    struct entry *e = map_get(&self->by_uuid, uuid);

    if (!e)
        return RH_ENOENT;
    if (!span_eq(text, heart_text(self))
        && !span_eq(text, span_of(self->previous.text, self->previous.n)))
        return RH_EPROTO;
    // No text is no ping: before the first tick there is no previous one.
    if (text.n == 0)
        return RH_EPROTO;
    e->answered = true;
    if (!e->beating) {
        e->beating = true;
        self->port.started(self->port.ctx, uuid_of(e));
    }
    return 0;
}

int64_t
heart_period(const struct heart *self)
{
    return self->config.period_ms;
}

static void
check(bool claim)
{
    if (!claim)
        abort();
}

void
heart_check(const struct heart *self)
{
    size_t n = 0;

    for (const struct list *l = self->all.next; l != &self->all; l = l->next) {
        const struct entry *e =
            LIST_ENTRY((uintptr_t)l, const struct entry, node);

        check(map_get(&self->by_uuid, uuid_of(e)) == e);
        check(e->misses <= self->config.max_misses);
        check(e->beating || (e->misses == 0 && !e->answered));
        n++;
    }
    check(n == self->by_uuid.n);
    check(self->current.n > 0 && self->current.n < TEXT_SIZE);
}
