/* address.c - from an interface and a location to a URL that can be reached
 *
 * docs/protocol, connection files: a wildcard interface is no address, so
 * the peer uses loopback when the controller is on its own machine and the
 * location otherwise.  Only wildcards cause a look-up of names.
 */
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/connfile.h"

#define LOOPBACK "127.0.0.1"

static bool
is_wildcard(const char *host)
{
    return strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0
           || strcmp(host, "[::]") == 0 || strcmp(host, "::") == 0;
}

/* The first IPv4 address of 'name'; false if there is none. */
static bool
resolve(const char *name, struct in_addr *out)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    struct sockaddr_in addr;

    if (getaddrinfo(name, NULL, &hints, &found) != 0 || !found)
        return false;
    memcpy(&addr, found->ai_addr, sizeof(addr));
    *out = addr.sin_addr;
    freeaddrinfo(found);
    return true;
}

static bool
is_mine(struct in_addr addr)
{
    struct ifaddrs *all = NULL;
    bool mine = ntohl(addr.s_addr) >> 24 == 127;

    if (mine || getifaddrs(&all) < 0)
        return mine;
    for (const struct ifaddrs *i = all; i && !mine; i = i->ifa_next) {
        struct sockaddr_in have;

        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        memcpy(&have, i->ifa_addr, sizeof(have));
        mine = have.sin_addr.s_addr == addr.s_addr;
    }
    freeifaddrs(all);
    return mine;
}

/* What to use for a wildcard; 'out' holds a location or an address. */
static void
choose_host(const char *location, char *out, size_t cap)
{
    char me[256] = "";
    struct in_addr addr = {0};
    bool found = false;

    gethostname(me, sizeof(me) - 1);
    if (*location && strcmp(location, me) != 0) {
        found = resolve(location, &addr);
        if (!found) {
            snprintf(out, cap, "%s", location);
            return;
        }
    }
    if (!found || is_mine(addr))
        snprintf(out, cap, "%s", LOOPBACK);
    else
        inet_ntop(AF_INET, &addr, out, (socklen_t)cap);
}

int
connfile_url(const struct connfile *self, int port, char *out, size_t cap,
             rh_error *err)
{
    const char *sep = strstr(self->interface, "://");
    char chosen[sizeof(self->location) + INET_ADDRSTRLEN];
    const char *host;
    int n, n_scheme;

    if (!sep)
        return rh_fail(err, RH_EINVAL,
                       "interface '%.64s' is not transport://host",
                       self->interface);
    n_scheme = (int)(sep - self->interface);
    host = sep + 3;
    if (strncmp(self->interface, "tcp:", 4) != 0) {
        // A path, which the port only makes distinct.
        n = snprintf(out, cap, "%s:%d", self->interface, port);
    } else {
        if (is_wildcard(host)) {
            choose_host(self->location, chosen, sizeof(chosen));
            host = chosen;
        }
        n = snprintf(out, cap, "%.*s://%s:%d", n_scheme, self->interface, host,
                     port);
    }
    if (n < 0 || (size_t)n >= cap)
        return rh_fail(err, RH_ELIMIT, "URL of %d bytes, limit %zu", n,
                       cap ? cap - 1 : 0);
    return 0;
}
