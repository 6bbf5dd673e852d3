/* connfile.h - ipcontroller-client.json and ipcontroller-engine.json
 *
 * Written as the 9.x superset: 2-space indent, mode 0600, by rename, so that a
 * reader never sees half a file.  Read with every value checked.
 */
#ifndef WIRE_CONNFILE_H
#define WIRE_CONNFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"
#include "roundhouse/error.h"

enum conn_port {
    PORT_REGISTRATION,
    PORT_CONTROL,
    PORT_MUX,
    PORT_TASK,
    PORT_IOPUB,
    PORT_NOTIFICATION, // client only
    PORT_HB_PING,      // engine only
    PORT_HB_PONG,      // engine only
    N_PORTS
};

#define CONN_BROADCAST_MAX 64

struct connfile {
    bool for_client;     // else for engines
    char interface[512]; // "tcp://127.0.0.1"
    char location[256];
    char ssh[256];
    char key[512];
    char pack[64], unpack[64];
    char signature_scheme[32];
    char task_scheme[32];              // client only
    char curve_serverkey[64];          // Z85 or ""
    int port[N_PORTS];                 // 0: not in this kind of file
    int broadcast[CONN_BROADCAST_MAX]; // one for clients, one per leaf for
                                       // engines
    int n_broadcast;
};

/* From JSON text.  RH_EPROTO (RH_ELIMIT: too long) naming the key that is
 * missing or wrong; *out is unchanged then.  It is a client's file unless it
 * has "hb_ping".  Absent keys of older files get their defaults; 'interface',
 * 'key' and the ports must be there.
 */
int connfile_parse(struct connfile *out, struct span json, rh_error *err);
/* As JSON text (malloc'd with mem_alloc, terminated).  NULL: out of memory. */
char *connfile_format(const struct connfile *self);
/* RH_ENOENT if there is no such file (yet), RH_EIO if it cannot be read. */
int connfile_read(struct connfile *out, const char *path, rh_error *err);
int connfile_write(const struct connfile *self, const char *path,
                   rh_error *err); // RH_EIO names path and reason

/* "tcp://host:port" for one channel, with the address rules of the protocol:
 * '*' and 0.0.0.0 are replaced by loopback if 'location' is this machine, else
 * by location.  RH_ELIMIT if it does not fit.
 */
int connfile_url(const struct connfile *self, int port, char *out, size_t cap,
                 rh_error *err);

#endif /* WIRE_CONNFILE_H */
