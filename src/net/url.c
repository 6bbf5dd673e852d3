/* url.c - see url.h */
#include "net/url.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static int
local_address(const char *path, struct address *out, rh_error *err)
{
    size_t n = strlen(path);

    if (n == 0 || n >= sizeof(out->local.sun_path))
        return rh_fail(err, RH_EINVAL,
                       "socket path of %zu bytes, allowed 1 to %zu: %s", n,
                       sizeof(out->local.sun_path) - 1, path);
    out->local.sun_family = AF_UNIX;
    memcpy(out->local.sun_path, path, n + 1);
    if (path[0] == '@') // the abstract name space, which needs no file
        out->local.sun_path[0] = '\0';
    out->n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n
                         + (path[0] != '@'));
    return 0;
}

static bool
interface_address(const char *name, const char *port, struct address *out)
{
    struct ifaddrs *all = NULL;
    bool found = false;

    if (getifaddrs(&all) < 0)
        return false;
    for (struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        struct sockaddr_in in;

        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET
            || strcmp(i->ifa_name, name) != 0)
            continue;
        memcpy(&in, i->ifa_addr, sizeof(in));
        in.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
        memcpy(&out->any, &in, sizeof(in));
        out->n = sizeof(in);
        found = true;
    }
    freeifaddrs(all);
    return found;
}

static int
look_up(const char *host, const char *port, bool listen, struct address *out,
        rh_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = listen ? AI_PASSIVE : 0};
    struct addrinfo *found = NULL;
    int e;

    // IPv4 first: "localhost" of many machines listens on nothing else.
    hints.ai_family = AF_INET;
    e = getaddrinfo(host, port, &hints, &found);
    if (e != 0) {
        hints.ai_family = AF_INET6;
        if (getaddrinfo(host, port, &hints, &found) != 0) {
            if (listen && host && interface_address(host, port, out))
                return 0;
            return rh_fail(err, RH_ENET, "%s: %s", host ? host : "*",
                           gai_strerror(e));
        }
    }
    memcpy(&out->any, found->ai_addr, found->ai_addrlen);
    out->n = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static bool
is_port(const char *s)
{
    size_t n = strspn(s, "0123456789");

    return strcmp(s, "*") == 0
           || (n > 0 && n <= 5 && !s[n] && strtoul(s, NULL, 10) <= 65535);
}

int
url_resolve(const char *url, bool listen, struct address *out, rh_error *err)
{
    const char *place = strstr(url, "://");
    const char *colon = place ? strrchr(place + 3, ':') : NULL;
    char host[256], *name = host;
    size_t n;

    memset(out, 0, sizeof(*out));
    if (place && strncmp(url, "ipc", 3) == 0 && place == url + 3)
        return local_address(place + 3, out, err);
    if (!colon || strncmp(url, "tcp", 3) != 0 || place != url + 3
        || colon == place + 3 || !is_port(colon + 1))
        return rh_fail(err, RH_EINVAL,
                       "'%s' is not of the form tcp://host:port or ipc://path",
                       url);
    place += 3;
    n = (size_t)(colon - place);
    if (n >= sizeof(host))
        return rh_fail(err, RH_EINVAL, "host name of %zu characters in '%s'", n,
                       url);
    memcpy(host, place, n);
    host[n] = '\0';
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        name++;
    }
    if (listen && strcmp(name, "*") == 0)
        name = NULL;
    return look_up(name, strcmp(colon + 1, "*") == 0 ? "0" : colon + 1, listen,
                   out, err);
}

unsigned
url_port(const struct address *at)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    memcpy(&in, &at->any, sizeof(in));
    memcpy(&in6, &at->any, sizeof(in6));
    return at->sa.sa_family == AF_INET    ? ntohs(in.sin_port)
           : at->sa.sa_family == AF_INET6 ? ntohs(in6.sin6_port)
                                          : 0;
}

bool
url_is_itself(int fd)
{
    struct address here = {.n = sizeof(here.any)}, there = here;

    return getsockname(fd, &here.sa, &here.n) == 0
           && getpeername(fd, &there.sa, &there.n) == 0 && url_port(&here)
           && here.n == there.n && memcmp(&here.any, &there.any, here.n) == 0;
}
