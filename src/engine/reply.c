/* reply.c - the dicts of a reply
 *
 * Keys come in upstream's order (docs/protocol: section 4.3): nobody should
 * depend on it, and so nobody can be hurt.
 */
#include "engine/reply.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/isodate.h"

static const char *const status_name[] = {
    [OUTCOME_OK] = "ok",
    [OUTCOME_ERROR] = "error",
    [OUTCOME_ABORTED] = "aborted",
};

static void
add_bool(struct buf *out, struct span key, bool value)
{
    buf_add_span(out, key);
    buf_add_span(out, value ? SPAN_LIT("true, ") : SPAN_LIT("false, "));
}

static bool
true_value(struct span raw)
{
    bool value = false;

    return scan_bool(raw, &value) == 0 && value;
}

static bool
is_string(struct span raw)
{
    return raw.n >= 2 && raw.p[0] == '"';
}

void
reply_engine_info(struct buf *out, const struct reply_facts *facts)
{
    buf_add_fmt(out,
                "\"engine_info\": {\"engine_uuid\": \"%s\", "
                "\"engine_id\": %" PRId64,
                facts->uuid, facts->id);
    if (facts->method)
        buf_add_fmt(out, ", \"method\": \"%s\"", facts->method);
    buf_add_char(out, '}');
}

void
reply_metadata(struct buf *out, const struct reply_facts *facts,
               struct span request_metadata, const struct outcome *result)
{
    struct scan_field field[] = {
        {.key = "is_broadcast"},
        {.key = "is_coalescing"},
        {.key = "original_msg_id"},
        {.key = "label"},
    };
    struct reply_facts plain = *facts;
    char date[ISODATE_SIZE];

    // Two bytes are {}: most requests.
    if (request_metadata.n > 2)
        (void)scan_object(request_metadata, field, 4, NULL);
    // Built for every task: no printf here.
    isodate_format(facts->started_us, date);
    buf_add_span(out, SPAN_LIT("{\"started\": \""));
    buf_add(out, date, ISODATE_SIZE - 1);
    add_bool(out, SPAN_LIT("\", \"dependencies_met\": "), !result->unmet);
    buf_add_span(out, SPAN_LIT("\"engine\": \""));
    buf_add_str(out, facts->uuid);
    add_bool(out, SPAN_LIT("\", \"is_broadcast\": "),
             true_value(field[0].value));
    add_bool(out, SPAN_LIT("\"is_coalescing\": "), true_value(field[1].value));
    buf_add_span(out, SPAN_LIT("\"original_msg_id\": "));
    buf_add_span(out,
                 is_string(field[2].value) ? field[2].value : SPAN_LIT("\"\""));
    buf_add_span(out, SPAN_LIT(", \"label\": "));
    buf_add_span(out,
                 is_string(field[3].value) ? field[3].value : SPAN_LIT("null"));
    buf_add_span(out, SPAN_LIT(", \"status\": \""));
    buf_add_str(out, status_name[result->status]);
    buf_add_char(out, '"');
    if (facts->quiet)
        buf_add_span(out, SPAN_LIT(", \"roundhouse\": {\"quiet\": true}"));
    if (result->status == OUTCOME_ERROR) {
        plain.method = NULL;
        buf_add_str(out, ", ");
        reply_engine_info(out, &plain);
    }
    buf_add_char(out, '}');
}

bool
reply_may_be_quiet(struct span request_metadata)
{
    struct scan_field ours = {.key = "roundhouse"}, quiet = {.key = "quiet"};

    return request_metadata.n > 2
           && scan_object(request_metadata, &ours, 1, NULL) == 0 && ours.value.n
           && scan_object(ours.value, &quiet, 1, NULL) == 0
           && true_value(quiet.value);
}

void
reply_content(struct buf *out, const struct reply_facts *facts,
              const struct outcome *result)
{
    buf_add_char(out, '{');
    if (result->status == OUTCOME_ABORTED) {
        buf_add_str(out, "\"status\": \"aborted\"}");
        return;
    }
    if (result->content.n) {
        buf_add_span(out, buf_span(&result->content));
        if (result->own_status) {
            buf_add_char(out, '}');
            return;
        }
        buf_add_str(out, ", ");
    }
    if (result->status == OUTCOME_ERROR) {
        reply_engine_info(out, facts);
        buf_add_str(out, ", ");
    }
    buf_add_span(out, SPAN_LIT("\"status\": \""));
    buf_add_str(out, status_name[result->status]);
    buf_add_span(out, SPAN_LIT("\"}"));
}

void
reply_error(struct buf *out, const struct reply_facts *facts, const char *ename,
            const char *evalue)
{
    struct outcome result = {.status = OUTCOME_OK};

    outcome_fail(&result, ename, evalue);
    if (result.content.failed)
        out->failed = true;
    reply_content(out, facts, &result);
    outcome_fini(&result);
}

int
reply_type(char *out, size_t cap, struct span request_type)
{
    static const char tail[] = "_request";
    size_t n = request_type.n, m = sizeof(tail) - 1;
    int used;

    if (n > m && memcmp(request_type.p + n - m, tail, m) == 0)
        n -= m;
    used = n < cap ? snprintf(out, cap, "%.*s_reply", (int)n,
                              (const char *)request_type.p)
                   : -1;
    return used < 0 || (size_t)used >= cap ? RH_ELIMIT : 0;
}
