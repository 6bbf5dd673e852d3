/* scheme.c - see scheme.h */
#include "controller/scheme.h"

#include <dlfcn.h>

int
scheme_load(struct scheme_library *self, const char *path, rh_error *err)
{
    const struct rh_scheme *scheme;
    const char *why;

    *self =
        (struct scheme_library){.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    if (!self->handle) {
        why = dlerror();
        return rh_fail(err, RH_EINVAL, "TaskScheduler.scheme_library: %s",
                       why ? why : path);
    }
    scheme = dlsym(self->handle, "rh_scheme");
    why = !scheme                                ? "exports no rh_scheme"
          : scheme->version != RH_SCHEME_VERSION ? "is of another version"
          : !scheme->pick                        ? "has no function 'pick'"
                                                 : NULL;
    if (why) {
        scheme_unload(self);
        return rh_fail(err, RH_EINVAL,
                       "TaskScheduler.scheme_library: %s %s: see "
                       "roundhouse/scheme.h",
                       path, why);
    }
    if (scheme->open)
        self->state = scheme->open();
    self->scheme = scheme;
    return 0;
}

void
scheme_unload(struct scheme_library *self)
{
    if (self->scheme && self->scheme->close)
        self->scheme->close(self->state);
    if (self->handle)
        dlclose(self->handle);
    *self = (struct scheme_library){.handle = NULL};
}
