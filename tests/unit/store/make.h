/* make.h - messages and records for the store's tests */
#ifndef TESTS_STORE_MAKE_H
#define TESTS_STORE_MAKE_H

#include <jansson.h>
#include <string.h>

#include "store/store.h"

/* A parsed message of these dicts and up to one buffer; NULL: out of memory. */
static inline struct msg *
make_msg(const char *header, const char *metadata, const char *content,
         const char *buffer)
{
    const struct span f[] = {
        SPAN_LIT(MSG_DELIM), SPAN_LIT(""),       span_str(header),
        SPAN_LIT("{}"),      span_str(metadata), span_str(content),
        span_str(buffer),
    };
    struct msg *m = msg_new(f, buffer ? 7 : 6);

    if (m)
        assert_int_equal(msg_parse(m, &msg_limits_default, NULL), 0);
    return m;
}

static inline struct msg *
make_request(int i)
{
    char header[256];

    (void)snprintf(header, sizeof(header),
                   "{\"msg_id\": \"m%d\", \"msg_type\": \"apply_request\", "
                   "\"session\": \"client\"}",
                   i);
    return make_msg(header, "{\"label\": \"part-1\"}", "{}", "argument");
}

static inline struct msg *
make_reply(int i)
{
    char header[256];

    (void)snprintf(header, sizeof(header),
                   "{\"msg_id\": \"r%d\", \"msg_type\": \"apply_reply\", "
                   "\"session\": \"E0\"}",
                   i);
    return make_msg(header, "{\"status\": \"ok\"}", "{\"status\": \"ok\"}",
                    "value");
}

/* jansson takes its memory from where the sweep can refuse it. */
static inline void
jansson_from_mem(void)
{
    json_set_alloc_funcs(mem_alloc, mem_free);
}

#endif /* TESTS_STORE_MAKE_H */
