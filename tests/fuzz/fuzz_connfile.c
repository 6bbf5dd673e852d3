/* fuzz_connfile.c - connection files
 *
 * Input: JSON text.  Properties: what is accepted holds only values in range,
 * and writing and reading it again gives the same.
 */
#include "fuzz.h"

#include "base/mem.h"
#include "wire/connfile.h"

static void
check_ranges(const struct connfile *c)
{
    HOLDS(strlen(c->interface) < sizeof(c->interface));
    HOLDS(strstr(c->interface, "://"));
    HOLDS(strlen(c->key) < sizeof(c->key));
    HOLDS(strlen(c->location) < sizeof(c->location));
    for (int i = 0; i < N_PORTS; i++) {
        bool foreign = c->for_client ? i == PORT_HB_PING || i == PORT_HB_PONG
                                     : i == PORT_NOTIFICATION;

        HOLDS(foreign ? c->port[i] == 0
                      : c->port[i] >= 1 && c->port[i] <= 65535);
    }
    HOLDS(c->n_broadcast >= 0 && c->n_broadcast <= CONN_BROADCAST_MAX);
    for (int i = 0; i < c->n_broadcast; i++)
        HOLDS(c->broadcast[i] >= 1 && c->broadcast[i] <= 65535);
}

static void
check_url(const struct connfile *c)
{
    char url[1024];

    // A wildcard would ask the resolver about the location.
    if (strstr(c->interface, "*") || strstr(c->interface, "0.0.0.0")
        || strstr(c->interface, "::"))
        return;
    HOLDS(connfile_url(c, 1234, url, sizeof(url), NULL) == 0);
    HOLDS(strcmp(url + strlen(url) - 4, "1234") == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct connfile a, b; // zeroed padding, so that memcmp works
    uint8_t *copy = mem_dup(data, size);
    rh_error err = {0};
    char *text;

    if (connfile_parse(&a, span_of(copy, size), &err) < 0) {
        HOLDS(err.code == RH_EPROTO || err.code == RH_ELIMIT);
        HOLDS(err.text[0]);
    } else {
        check_ranges(&a);
        check_url(&a);
        if (a.for_client && a.n_broadcast > 1)
            a.n_broadcast = 1; // clients write one
        text = connfile_format(&a);
        HOLDS(text && connfile_parse(&b, span_str(text), NULL) == 0);
        memset(&a.broadcast[a.n_broadcast], 0,
               sizeof(a.broadcast)
                   - (size_t)a.n_broadcast * sizeof(a.broadcast[0]));
        HOLDS(memcmp(&a, &b, sizeof(a)) == 0);
        mem_free(text);
    }
    mem_free(copy);
    return 0;
}
