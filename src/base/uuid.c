/* uuid.c - random names from the kernel's generator */
#include "base/uuid.h"

#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

#include "roundhouse/error.h"

int
random_bytes(void *out, size_t n)
{
    uint8_t *p = out;

    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return RH_EIO;
        p += got;
        n -= (size_t)got;
    }
    return 0;
}

int
uuid_new(char out[UUID_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    uint8_t raw[16];
    char *p = out;

    if (random_bytes(raw, sizeof(raw)) < 0)
        return RH_EIO;
    // The bits that mark a random (version 4) UUID, as readers expect them.
    raw[6] = (uint8_t)((raw[6] & 0x0F) | 0x40);
    raw[8] = (uint8_t)((raw[8] & 0x3F) | 0x80);
    for (size_t i = 0; i < sizeof(raw); i++) {
        if (i == 4)
            *p++ = '-';
        *p++ = hex[raw[i] >> 4];
        *p++ = hex[raw[i] & 15];
    }
    *p = '\0';
    return 0;
}
