/* made.h - messages for the ledger's tests, without sockets or signatures */
#ifndef TESTS_CLIENT_MADE_H
#define TESTS_CLIENT_MADE_H

#include <stdio.h>

#include "client/ledger.h"

#define SESSION "S"

static inline struct msg *
make_msg(const char *header, const char *parent, const char *metadata,
         const char *content, const char *buffer)
{
    struct span frame[] = {SPAN_LIT(MSG_DELIM), SPAN_NONE,
                           span_str(header),    span_str(parent),
                           span_str(metadata),  span_str(content),
                           span_str(buffer)};
    struct msg *m = msg_new(frame, buffer ? 7 : 6);

    m->i_delim = 0;
    return m;
}

static inline struct msg *
make_child(const char *type, const char *parent_id, const char *metadata,
           const char *content)
{
    char header[256], parent[512];

    snprintf(header, sizeof(header),
             "{\"msg_id\": \"x\", \"msg_type\": \"%s\", \"session\": \"E\"}",
             type);
    snprintf(parent, sizeof(parent),
             "{\"msg_id\": \"%s\", \"session\": \"" SESSION "\"}", parent_id);
    return make_msg(header, parent, metadata, content, NULL);
}

static inline struct msg *
make_notification(const char *what, int id, const char *uuid)
{
    char header[256], content[512];

    snprintf(header, sizeof(header),
             "{\"msg_id\": \"x\", \"msg_type\": \"%s_notification\", "
             "\"session\": \"H\"}",
             what);
    snprintf(content, sizeof(content), "{\"id\": %d, \"uuid\": \"%s\"}", id,
             uuid);
    return make_msg(header, "{}", "{}", content, NULL);
}

#define OK_CONTENT "{\"status\": \"ok\"}"
#define ERROR_CONTENT                                             \
    "{\"status\": \"error\", \"ename\": \"E\", \"engine_info\": " \
    "{\"engine_id\": 0}}"
#define REFUSAL_CONTENT \
    "{\"status\": \"error\", \"ename\": \"E\", \"engine_info\": {}}"
#define ABORTED_CONTENT "{\"status\": \"aborted\"}"
#define IDLE_CONTENT "{\"execution_state\": \"idle\"}"

static inline struct rh_request *
make_request(enum rh_channel channel, const char *id, const char *target,
             const char *type, bool coalescing)
{
    struct request_spec spec = {
        .channel = channel,
        .msg_id = id,
        .target = target,
        .msg_type = type,
        .header = SPAN_LIT("{\"msg_id\": \"r\", \"msg_type\": "
                           "\"apply_request\", \"session\": \"" SESSION "\"}"),
        .now_us = 1000000,
        .coalescing = coalescing,
    };

    return request_new(&spec);
}

#endif /* TESTS_CLIENT_MADE_H */
