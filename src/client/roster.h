/* roster.h - the engines' part of the ledger; private to it */
#ifndef CLIENT_ROSTER_H
#define CLIENT_ROSTER_H

#include "client/ledger.h"

void roster_fini(struct ledger *self);

#endif /* CLIENT_ROSTER_H */
