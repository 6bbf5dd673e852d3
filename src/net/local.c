/* local.c - see local.h */
#include "net/local.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "wire/session.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static size_t
read_boot_id(char *out, size_t cap)
{
    int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, cap);

    if (fd >= 0)
        close(fd);
    return n > 0 ? (size_t)n : 0;
}

void
local_secret(const struct net_codec *codec, char out[LOCAL_SECRET])
{
    char boot[64], hex[SESSION_HEX_MAX];
    struct span part[4] = {SPAN_LIT("roundhouse local address"),
                           {(const uint8_t *)boot, 0}};
    struct session *session = NULL;

    out[0] = '\0';
    part[1].n = read_boot_id(boot, sizeof(boot));
    if (!codec || codec->key.n == 0 || part[1].n == 0
        || session_new(&session, codec->key, codec->scheme, NULL) < 0)
        return;
    if (session_sign(session, part, hex) >= LOCAL_SECRET - 1) {
        memcpy(out, hex, LOCAL_SECRET - 1);
        out[LOCAL_SECRET - 1] = '\0';
    }
    session_free(&session);
}

bool
local_address(const char *secret, unsigned port, struct address *out)
{
    int n;

    if (!*secret || !port)
        return false;
    memset(out, 0, sizeof(*out));
    out->local.sun_family = AF_UNIX;
    // The first byte stays 0: that is the abstract name space.
    n = snprintf(out->local.sun_path + 1, sizeof(out->local.sun_path) - 1,
                 "roundhouse-%s-%u", secret, port);
    out->n =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    return true;
}
