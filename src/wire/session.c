/* session.c - HMAC by OpenSSL, armed once
 *
 * Fetching an algorithm and keying a context each cost more than hashing a
 * header, so both happen in session_new.  EVP_MAC_init without a key then
 * restores the keyed state, which for HMAC is a copy of two digest states.
 */
#include "wire/session.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <strings.h>

#include "base/mem.h"
#include "wire/replay.h"

#define DIGEST_MAX (SESSION_HEX_MAX / 2)

struct session {
    EVP_MAC_CTX *ctx; // NULL: unsigned
    size_t size;      // of the digest in bytes
    struct replay seen;
};

/* Names as Python's hashlib has them, where OpenSSL's differ by more than
 * '_' for '-'.
 */
static const char *const alias[][2] = {
    {"blake2b", "BLAKE2B-512"},
    {"blake2s", "BLAKE2S-256"},
};

/* Copies the digest's name in OpenSSL's spelling; false: not "hmac-...". */
static bool
digest_name(const char *scheme, char *out, size_t cap)
{
    const char *name = scheme + 5;

    if (strncmp(scheme, "hmac-", 5) != 0 || !*name || strlen(name) >= cap)
        return false;
    for (size_t i = 0; i < sizeof(alias) / sizeof(alias[0]); i++)
        if (strcmp(name, alias[i][0]) == 0)
            name = alias[i][1];
    for (; *name; name++)
        *out++ = *name == '_' ? '-' : *name;
    *out = '\0';
    return true;
}

/* Check that the digest exists and suits an HMAC; its size or a code. */
static int
digest_size(const char *name, const char *scheme, rh_error *err)
{
    EVP_MD *md = EVP_MD_fetch(NULL, name, NULL);
    int size = md ? EVP_MD_get_size(md) : 0;
    bool xof = md && (EVP_MD_get_flags(md) & EVP_MD_FLAG_XOF);

    EVP_MD_free(md);
    if (size <= REPLAY_ENTRY - 1 || size > DIGEST_MAX || xof)
        return rh_fail(err, RH_EINVAL,
                       "signature scheme '%.64s' is unknown; use "
                       "'hmac-sha256' or another digest of at most %d bytes",
                       scheme, DIGEST_MAX);
    return size;
}

static int
arm(struct session *self, struct span key, char *digest)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);

    self->ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
    EVP_MAC_free(mac); // the context keeps its own reference
    if (!self->ctx || !EVP_MAC_init(self->ctx, key.p, key.n, params))
        return RH_ENOMEM;
    return 0;
}

int
session_new(struct session **out, struct span key, const char *scheme,
            rh_error *err)
{
    struct session *self;
    char digest[64];
    int rc;

    if (!digest_name(scheme, digest, sizeof(digest)))
        return rh_fail(err, RH_EINVAL,
                       "signature scheme '%.64s' is unknown; use "
                       "'hmac-sha256'",
                       scheme);
    rc = digest_size(digest, scheme, err);
    if (rc < 0)
        return rc;
    self = mem_zalloc(1, sizeof(*self));
    if (!self)
        return rh_fail(err, RH_ENOMEM, "out of memory for a session");
    self->size = (size_t)rc;
    if (key.n > 0 && arm(self, key, digest) < 0) {
        session_free(&self);
        return rh_fail(err, RH_ENOMEM, "OpenSSL: cannot make an HMAC (%s)",
                       digest);
    }
    *out = self;
    return 0;
}

void
session_free(struct session **self_p)
{
    struct session *self = *self_p;

    if (!self)
        return;
    *self_p = NULL;
    EVP_MAC_CTX_free(self->ctx);
    replay_fini(&self->seen);
    mem_free(self);
}

static int
hmac(struct session *self, const struct span part[4],
     uint8_t digest[DIGEST_MAX])
{
    size_t n;

    if (!EVP_MAC_init(self->ctx, NULL, 0, NULL))
        return RH_ENOMEM;
    for (int i = 0; i < 4; i++)
        if (part[i].n && !EVP_MAC_update(self->ctx, part[i].p, part[i].n))
            return RH_ENOMEM;
    if (!EVP_MAC_final(self->ctx, digest, &n, DIGEST_MAX) || n != self->size)
        return RH_ENOMEM;
    return 0;
}

static void
to_hex(const uint8_t *digest, size_t n, char *hex)
{
    static const char digit[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = digit[digest[i] >> 4];
        hex[2 * i + 1] = digit[digest[i] & 15];
    }
}

int
session_sign(struct session *self, const struct span part[4],
             char hex[SESSION_HEX_MAX])
{
    uint8_t digest[DIGEST_MAX];

    if (!self->ctx)
        return 0;
    if (hmac(self, part, digest) < 0)
        return RH_ENOMEM;
    to_hex(digest, self->size, hex);
    return (int)(2 * self->size);
}

static int
verify(struct session *self, const struct msg *m, uint8_t digest[DIGEST_MAX],
       rh_error *err)
{
    struct span got = msg_part(m, MSG_SIGNATURE);
    char hex[SESSION_HEX_MAX];

    if (got.n == 0)
        return rh_fail(err, RH_EAUTH, "message is not signed");
    if (got.n != 2 * self->size)
        return rh_fail(err, RH_EAUTH, "signature of %zu bytes, expected %zu",
                       got.n, 2 * self->size);
    if (hmac(self, &m->frame[m->i_delim + MSG_HEADER], digest) < 0)
        return rh_fail(err, RH_ENOMEM, "OpenSSL: HMAC failed");
    to_hex(digest, self->size, hex);
    if (CRYPTO_memcmp(hex, got.p, got.n) != 0)
        return rh_fail(err, RH_EAUTH,
                       "bad signature: the sender has another key");
    return 0;
}

int
session_verify(struct session *self, const struct msg *m, rh_error *err)
{
    uint8_t digest[DIGEST_MAX];

    return self->ctx ? verify(self, m, digest, err) : 0;
}

int
session_admit(struct session *self, const struct msg *m, rh_error *err)
{
    uint8_t digest[DIGEST_MAX];
    int rc;

    if (!self->ctx)
        return 0;
    rc = verify(self, m, digest, err);
    if (rc < 0)
        return rc;
    rc = replay_add(&self->seen, digest);
    if (rc == RH_EREPLAY)
        return rh_fail(err, rc, "signature seen before: message repeated");
    if (rc < 0)
        return rh_fail(err, rc, "out of memory remembering a signature");
    return 0;
}

void
session_forget(struct session *self, const struct msg *m)
{
    uint8_t digest[DIGEST_MAX];

    if (self->ctx && verify(self, m, digest, NULL) == 0)
        replay_forget(&self->seen, digest);
}
