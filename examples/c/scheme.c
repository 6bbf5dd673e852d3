/* scheme.c - a scheme of one's own: fill up one engine after the other
 *
 * With hwm=4 the engine with the lowest id gets four tasks before the next one
 * gets any: so the last engines stay free, to be stopped when nobody needs
 * them.
 *
 *     cc -shared -fPIC -I include -o scheme.so examples/c/scheme.c
 *     ipcontroller --hwm=4 --TaskScheduler.scheme_library=./scheme.so
 */
#include <roundhouse/scheme.h>

static size_t
pick(void *state, const struct rh_scheme_engine *engine, size_t n,
     uint64_t random)
{
    size_t best = 0;

    (void)state;
    (void)random;
    for (size_t i = 1; i < n; i++)
        if (engine[i].id < engine[best].id)
            best = i;
    return best;
}

const struct rh_scheme rh_scheme = {
    .version = RH_SCHEME_VERSION,
    .name = "fill up",
    .pick = pick,
};
