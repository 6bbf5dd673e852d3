/* roundhouse.h - all of the public C API */
#ifndef ROUNDHOUSE_ROUNDHOUSE_H
#define ROUNDHOUSE_ROUNDHOUSE_H

#include "roundhouse/client.h"
#include "roundhouse/error.h"

#endif /* ROUNDHOUSE_ROUNDHOUSE_H */
