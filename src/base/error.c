/* error.c - names of the error codes, and the one way to report one
 *
 * The tables are generated from RH_ERR_MAP, so a new code is one new row.
 */
#include "roundhouse/error.h"

#include <stdarg.h>
#include <stdio.h>

struct row {
    int code;
    const char *name, *exception, *text;
};

static const struct row row[] = {{RH_OK, "RH_OK", "", "success"},
#define X(name, value, exception, text) {(value), #name, (exception), (text)},
                                 RH_ERR_MAP(X)
#undef X
};

static const struct row unknown = {0, "RH_UNKNOWN", "RuntimeError",
                                   "unknown error"};

static const struct row *
find(int code)
{
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
        if (row[i].code == code)
            return &row[i];
    return &unknown;
}

const char *
rh_code_name(int code)
{
    return find(code)->name;
}

const char *
rh_code_text(int code)
{
    return find(code)->text;
}

const char *
rh_code_exception(int code)
{
    return find(code)->exception;
}

#undef rh_fail // of the analyzer

int
rh_fail(rh_error *err, int code, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return code;
    err->code = code;
    va_start(ap, fmt);
    if (vsnprintf(err->text, sizeof(err->text), fmt, ap) < 0)
        err->text[0] = '\0';
    va_end(ap);
    return code;
}
