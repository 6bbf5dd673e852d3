/* scheme.h - task scheduling schemes out of shared objects */
#ifndef CONTROLLER_SCHEME_H
#define CONTROLLER_SCHEME_H

#include "roundhouse/error.h"
#include "roundhouse/scheme.h"

struct scheme_library {
    void *handle; // NULL: none
    const struct rh_scheme *scheme;
    void *state;
};

/* 'path' as dlopen takes it.  RH_EINVAL says what is wrong with it. */
int scheme_load(struct scheme_library *self, const char *path, rh_error *err);
void scheme_unload(struct scheme_library *self);

#endif /* CONTROLLER_SCHEME_H */
