/* content.c - arguments of requests */
#include <jansson.h>
#include <stdlib.h>

#include "base/mem.h"
#include "hub/private.h"

/* jansson reports a failed allocation inside its lexer as a syntax error; our
 * scanner needs no memory to tell.
 */
static bool
was_no_memory(struct span json, const json_error_t *error)
{
    switch (json_error_code(error)) {
    case json_error_unknown:
    case json_error_out_of_memory:
        return true;
    case json_error_invalid_syntax:
    case json_error_premature_end_of_input:
        return scan_object(json, NULL, 0, NULL) == 0;
    default:
        return false;
    }
}

int
content_parse(json_t **out, struct span json, rh_error *err)
{
    json_error_t error = {0}; // jansson may leave its code as it was
    json_t *tree = json_loadb(json.n ? (const char *)json.p : "", json.n,
                              JSON_ALLOW_NUL, &error);

    if (!tree && was_no_memory(json, &error))
        return rh_fail(err, RH_ENOMEM, "parsing %zu bytes of JSON", json.n);
    if (!tree)
        return rh_fail(err, RH_EPROTO, "%zu bytes are not JSON: %s", json.n,
                       error.text);
    if (!json_is_object(tree)) {
        json_decref(tree);
        return rh_fail(err, RH_EPROTO, "%zu bytes of JSON are no object",
                       json.n);
    }
    *out = tree;
    return 0;
}

static int
one_id(const json_t *value, const char *key, struct span *out,
       struct fault *fault)
{
    if (!json_is_string(value))
        return fault_set(fault, RH_EINVAL, "TypeError",
                         "%s must be strings, not numbers or other values",
                         key);
    *out = span_of(json_string_value(value), json_string_length(value));
    return 0;
}

static int
by_bytes(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    const size_t n = x->n < y->n ? x->n : y->n;
    const int c = n ? memcmp(x->p, y->p, n) : 0;

    return c ? c : (x->n > y->n) - (x->n < y->n);
}

static size_t
sort_unique(struct span *id, size_t n)
{
    size_t kept = 0;

    qsort(id, n, sizeof(*id), by_bytes);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || !span_eq(id[i], id[kept - 1]))
            id[kept++] = id[i];
    return kept;
}

int
content_ids(const struct request *req, const char *key, bool required,
            struct span **out, size_t *n, struct fault *fault)
{
    const json_t *ids = json_object_get(req->content, key);
    int rc = 0;

    *out = NULL;
    *n = 0;
    if (!ids && !required)
        return 0;
    if (!ids)
        return fault_key(fault, RH_EINVAL, "%s", key);
    if (!json_is_array(ids) && !json_is_string(ids))
        return fault_set(fault, RH_EINVAL, "TypeError",
                         "%s must be a list of message ids", key);
    *n = json_is_array(ids) ? json_array_size(ids) : 1;
    *out = mem_zalloc(*n + 1, sizeof(**out));
    if (!*out)
        return request_no_memory(fault);
    for (size_t i = 0; i < *n && rc == 0; i++)
        rc = one_id(json_is_array(ids) ? json_array_get(ids, i) : ids, key,
                    &(*out)[i], fault);
    if (rc < 0) {
        mem_free(*out);
        *out = NULL;
        return rc;
    }
    *n = sort_unique(*out, *n);
    return 0;
}

bool
content_flag(const struct request *req, const char *key)
{
    const json_t *v = json_object_get(req->content, key);

    return json_is_true(v) || (json_is_number(v) && json_number_value(v) != 0);
}
