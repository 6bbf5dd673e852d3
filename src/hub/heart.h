/* heart.h - who answers the pings
 *
 * Pure: no sockets, no clock.  The owner sends heart_text() on the ping socket
 * once per period, after heart_tick(), and as often as it likes in between (at
 * once when a new subscriber appears: the engine's first pong then admits it
 * without waiting for a period).  Only hearts the hub expects are tracked, so
 * strangers cost nothing.
 *
 * A period without a pong is a miss; more than max_misses in a row and the
 * heart has stopped.  A pong counts if it repeats the current ping's text or
 * the one's before.
 */
#ifndef HUB_HEART_H
#define HUB_HEART_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "roundhouse/error.h"

struct heart;

struct heart_config {
    int64_t period_ms; // default 3000
    int max_misses;    // default 10
};

struct heart_port {
    void *ctx;
    void (*started)(void *ctx, struct span uuid); // first valid pong
    void (*stopped)(void *ctx, struct span uuid); // and is forgotten
};

int heart_new(struct heart **out, const struct heart_config *config,
              const struct heart_port *port, int64_t now, rh_error *err);
void heart_free(struct heart **self_p);

/* The hub announced an engine (HUB_ENGINE_PENDING): listen for it.  'started'
 * is reported at its first pong; until then it cannot miss.  With 'beating'
 * (restored engines, HUB_ENGINE_UP without PENDING) misses count at once.
 * RH_ENOMEM.
 */
int heart_expect(struct heart *self, struct span uuid, bool beating);
void heart_forget(struct heart *self, struct span uuid); // HUB_ENGINE_DOWN

/* Count a period's misses, report what stopped, and make a new ping text.
 * Call when heart_due() has come; a late call counts one period only, so a
 * stalled controller does not kill its engines.
 */
void heart_tick(struct heart *self, int64_t now);
int64_t heart_due(const struct heart *self);

/* The current ping: decimal text of seconds alive, valid until heart_tick. */
struct span heart_text(const struct heart *self);

/* RH_ENOENT: not an expected engine; RH_EPROTO: neither the current nor the
 * previous text.
 */
int heart_pong(struct heart *self, struct span uuid, struct span text);

int64_t heart_period(const struct heart *self);
void heart_check(const struct heart *self);

#endif /* HUB_HEART_H */
