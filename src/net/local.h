/* local.h - the short way between peers on one machine
 *
 * A socket that listens on TCP listens at a UNIX address as well, which costs
 * a third less per message.  Its name is made of the port, the cluster's key
 * and the machine's boot, so that only who may connect knows it, and nobody
 * finds it on another machine; like loopback it ends at the network name space.
 * It lies in the abstract name space: nothing is left behind.
 */
#ifndef NET_LOCAL_H
#define NET_LOCAL_H

#include "net/net.h"
#include "net/url.h"

#define LOCAL_SECRET 33

/* What all names of a cluster on this machine begin with; empty if they cannot
 * be secret or certain.
 */
void local_secret(const struct net_codec *codec, char out[LOCAL_SECRET]);
/* The UNIX address that goes with a TCP port; false: there is none. */
bool local_address(const char *secret, unsigned port, struct address *out);

#endif /* NET_LOCAL_H */
