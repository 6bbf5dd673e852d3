/* translate.h - messages of clusters that do not pack as JSON
 *
 * Inside, the four dicts of a message are JSON always.  Buffers and routing
 * frames are shared with the original.
 */
#ifndef WIRE_TRANSLATE_H
#define WIRE_TRANSLATE_H

#include "wire/msg.h"
#include "wire/session.h"

/* A parsed JSON message packed with 'packer' and signed anew. */
int translate_out(const char *packer, struct session *signer, struct msg *m,
                  struct msg **out, rh_error *err);
/* A parsed and verified message as JSON, signed anew; without a signer the
 * signature is the original's.
 */
int translate_in(const char *packer, struct session *signer, struct msg *m,
                 struct msg **out, rh_error *err);

#endif /* WIRE_TRANSLATE_H */
