/* lifeline.h - a plain TCP connection per engine, for the kernel to close
 *
 * An engine connects and sends one line, "RHLIFE1 <uuid> <token>\n", with the
 * token its registration reply brought.  From then on the connection stands
 * for the process: when it ends, the engine is lost, at once.  Before that the
 * engine may say why it leaves: "EXIT <reason>\n".
 *
 * Strangers are bounded in number, bytes and time.  Everything happens in the
 * thread that calls; one descriptor (epoll) tells when there is something.
 */
#ifndef CONTROLLER_LIFELINE_H
#define CONTROLLER_LIFELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "roundhouse/error.h"

#define LIFELINE_TOKEN_SIZE 33 // 32 hex and a NUL
#define LIFELINE_LINE_MAX 512  // bytes in a line
#define LIFELINE_STRANGERS 64  // connections that have not said who they are
#define LIFELINE_HELLO_MS 10000
#define LIFELINE_ENDED "its process ended" // most likely

struct lifeline;

struct lifeline_port {
    void *ctx;
    /* 'orderly': it said why.  May call lifeline_forget for this uuid. */
    void (*lost)(void *ctx, struct span uuid, const char *why, bool orderly);
};

/* Listens on 'host' ("*": all); 'port' 0: any, *port is what it became. */
int lifeline_new(struct lifeline **out, const struct lifeline_port *port,
                 const char *host, int *tcp_port, rh_error *err);
void lifeline_free(struct lifeline **self_p);

int lifeline_fd(const struct lifeline *self);
int lifeline_tcp_port(const struct lifeline *self);

/* A new token for an engine; an older one is void.  RH_ENOMEM, RH_EIO. */
int lifeline_expect(struct lifeline *self, struct span uuid,
                    char token[LIFELINE_TOKEN_SIZE]);
void lifeline_forget(struct lifeline *self, struct span uuid); // closes it

/* Do what the descriptor announced, and what is due; returns when something
 * will be (INT64_MAX: nothing).
 */
int64_t lifeline_handle(struct lifeline *self, int64_t now);

#endif /* CONTROLLER_LIFELINE_H */
