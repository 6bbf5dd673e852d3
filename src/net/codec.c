/* codec.c - a socket whose wire does not speak JSON
 *
 * Translating where messages come and go leaves one language inside, so that no
 * other part knows of packers.  The price is a new signature on either side;
 * clusters that pack otherwise are rare.  Nothing is unpacked before its
 * signature was found right.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/private.h"
#include "wire/pack.h"
#include "wire/translate.h"

struct codec {
    char *pack, *unpack;
    struct session *session;
};

int
codec_new(struct codec **out, const struct net_codec *what, rh_error *err)
{
    struct codec *self;
    int rc = pack_check(what->pack, err);

    *out = NULL;
    if (rc == 0)
        rc = pack_check(what->unpack, err);
    if (rc < 0 || (pack_is_json(what->pack) && pack_is_json(what->unpack)))
        return rc;
    self = mem_zalloc(1, sizeof(*self));
    if (!self)
        return rh_fail(err, RH_ENOMEM, "opening a socket for %s", what->pack);
    self->pack = mem_strdup(what->pack);
    self->unpack = mem_strdup(what->unpack);
    rc = self->pack && self->unpack
             ? session_new(&self->session, what->key, what->scheme, err)
             : rh_fail(err, RH_ENOMEM, "opening a socket for %s", what->pack);
    if (rc < 0)
        codec_free(&self);
    *out = self;
    return rc;
}

void
codec_free(struct codec **self_p)
{
    struct codec *self = *self_p;

    if (!self)
        return;
    session_free(&self->session);
    mem_free(self->pack);
    mem_free(self->unpack);
    mem_free(self);
    *self_p = NULL;
}

int
codec_in(struct codec *self, struct msg **m, rh_error *err)
{
    struct msg *json = NULL;
    rh_error why = {0};
    char peer[80];
    int rc = msg_parse(*m, &msg_limits_default, &why);

    if (rc == 0)
        rc = session_verify(self->session, *m, &why);
    if (rc == 0)
        rc = translate_in(self->unpack, self->session, *m, &json, &why);
    if (rc < 0)
        return rh_fail(err, rc, "from '%s': %s",
                       log_escape((*m)->frame[0], peer, sizeof(peer)),
                       why.text);
    msg_unref(m);
    *m = json;
    return 0;
}

int
codec_out(struct codec *self, struct msg *m, struct msg **out, rh_error *err)
{
    return translate_out(self->pack, self->session, m, out, err);
}
