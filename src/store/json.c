/* json.c - JSON text to trees
 *
 * jansson reports a failed allocation inside its lexer as a syntax error, so
 * that what it refuses is asked of our own scanner as well: text that is well
 * formed there was refused for want of memory.
 */
#include "store/private.h"
#include "wire/scan.h"

static bool
is_well_formed(struct span text)
{
    struct span item;
    size_t pos = 0;
    int rc = -1;

    if (text.n == 0)
        return false;
    switch (text.p[0]) {
    case '{':
        return scan_object(text, NULL, 0, NULL) == 0;
    case '[':
        while ((rc = scan_next(text, &pos, &item)) == 1)
            ;
        return rc == 0;
    case '"':
        return text.n > 1 && text.p[text.n - 1] == '"';
    default:
        return false; // numbers and words need no memory to be refused
    }
}

int
json_tree(json_t **out, struct span text, json_error_t *error)
{
    memset(error, 0, sizeof(*error)); // jansson may leave its code as it was
    *out = json_loadb(text.n ? (const char *)text.p : "", text.n,
                      JSON_ALLOW_NUL | JSON_DECODE_ANY, error);
    if (*out)
        return 0;
    switch (json_error_code(error)) {
    case json_error_unknown:
    case json_error_out_of_memory:
        return RH_ENOMEM;
    case json_error_invalid_syntax:
    case json_error_premature_end_of_input:
        return is_well_formed(text) ? RH_ENOMEM : RH_EPROTO;
    default:
        return RH_EPROTO;
    }
}
