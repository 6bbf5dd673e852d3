/* url.h - "tcp://host:port" and "ipc://path" as addresses of the system */
#ifndef NET_URL_H
#define NET_URL_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "roundhouse/error.h"

struct address {
    socklen_t n;
    union {
        struct sockaddr sa;
        struct sockaddr_storage any;
        struct sockaddr_un local;
    };
};

/* To listen at (host "*", an interface's name, port "*" or 0) or to connect
 * to; IPv4 where there is a choice, as ZeroMQ has it.  RH_EINVAL: no such URL;
 * RH_ENET: the name is not known.
 */
int url_resolve(const char *url, bool listen, struct address *out,
                rh_error *err);

/* 0: it has none. */
unsigned url_port(const struct address *at);
/* Is a connection one with itself?  The system may give a socket that tries a
 * port of this machine just that port, if nobody listens there; TCP then
 * connects it, and who wants to listen there finds the port taken.
 */
bool url_is_itself(int fd);

#endif /* NET_URL_H */
