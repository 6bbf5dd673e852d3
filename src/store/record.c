/* record.c - the fields of a record and their JSON
 *
 * Frames are embedded as they came: the scanner checks that each is one
 * object, so that a single odd message cannot spoil a reply about thousands.
 */
#include "store/store.h"

#include "base/isodate.h"
#include "store/private.h"
#include "wire/scan.h"

const char *const record_field_name[N_RECORD_FIELDS] = {
#define X(name, text, kind) [RECORD_##name] = (text),
    RECORD_FIELD_MAP(X)
#undef X
};

const enum record_kind record_field_kind[N_RECORD_FIELDS] = {
#define X(name, text, kind) [RECORD_##name] = RECORD_KIND_##kind,
    RECORD_FIELD_MAP(X)
#undef X
};

int
record_field_of(struct span name)
{
    for (int i = 0; i < N_RECORD_FIELDS; i++)
        if (span_is(name, record_field_name[i]))
            return i;
    return RH_ENOENT;
}

void
record_init(struct record *self)
{
    *self = (struct record){
        .submitted_us = RECORD_NO_DATE,
        .started_us = RECORD_NO_DATE,
        .completed_us = RECORD_NO_DATE,
        .received_us = RECORD_NO_DATE,
    };
}

bool
record_is_unfinished(const struct record *self)
{
    return self->request && self->completed_us == RECORD_NO_DATE;
}

int64_t
record_date(const struct record *self, enum record_field field)
{
    switch (field) {
    case RECORD_SUBMITTED:
        return self->submitted_us;
    case RECORD_STARTED:
        return self->started_us;
    case RECORD_COMPLETED:
        return self->completed_us;
    case RECORD_RECEIVED:
        return self->received_us;
    default:
        return RECORD_NO_DATE;
    }
}

/* One key of one of the message's dicts, raw; empty if it is not there. */
static struct span
key_of(const struct msg *m, enum msg_part part, const char *key)
{
    struct scan_field f = {.key = key, .value = SPAN_NONE};

    if (!m || scan_object(msg_part(m, part), &f, 1, NULL) < 0)
        return SPAN_NONE;
    return f.value;
}

struct span
record_text(const struct record *self, enum record_field field,
            struct buf *scratch)
{
    struct span s = SPAN_NONE;

    switch (field) {
    case RECORD_MSG_ID:
        return self->msg_id;
    case RECORD_CLIENT_UUID:
        s = key_of(self->request, MSG_HEADER, "session");
        if (s.n == 0 || scan_string(s, scratch, &s) < 0)
            return SPAN_NONE;
        return s;
    case RECORD_ENGINE_UUID:
        return self->engine_uuid;
    case RECORD_RESUBMITTED:
        return self->resubmitted;
    case RECORD_QUEUE:
        return self->queue;
    case RECORD_STDOUT: // never null: no output is ""
        return self->out.p ? self->out : SPAN_LIT("");
    case RECORD_STDERR:
        return self->err.p ? self->err : SPAN_LIT("");
    default:
        return s;
    }
}

static struct span
part_of(const struct msg *m, enum msg_part part)
{
    struct span s;

    if (!m)
        return SPAN_NONE;
    s = msg_part(m, part);
    return scan_object(s, NULL, 0, NULL) < 0 ? SPAN_NONE : s;
}

struct span
record_raw(const struct record *self, enum record_field field)
{
    switch (field) {
    case RECORD_HEADER:
        return part_of(self->request, MSG_HEADER);
    case RECORD_METADATA:
        return part_of(self->request, MSG_METADATA);
    case RECORD_CONTENT:
        return part_of(self->request, MSG_CONTENT);
    case RECORD_RESULT_HEADER:
        return part_of(self->result, MSG_HEADER);
    case RECORD_RESULT_METADATA:
        return part_of(self->result, MSG_METADATA);
    case RECORD_RESULT_CONTENT:
        return part_of(self->result, MSG_CONTENT);
    case RECORD_LABEL:
        return key_of(self->request, MSG_METADATA, "label");
    case RECORD_EXECUTE_INPUT:
        return self->execute_input;
    case RECORD_EXECUTE_RESULT:
        return self->execute_result;
    case RECORD_ERROR:
        return self->error;
    case RECORD_DISPLAY_DATA:
        return self->display_data;
    default:
        return SPAN_NONE;
    }
}

static void
add_date(struct buf *out, int64_t wall_us)
{
    char text[ISODATE_SIZE];

    if (wall_us == RECORD_NO_DATE) {
        buf_add_str(out, "null");
        return;
    }
    isodate_format(wall_us, text);
    buf_add_fmt(out, "\"%s\"", text);
}

void
record_add_field(struct buf *out, const struct record *self,
                 enum record_field field)
{
    struct buf scratch = {0};
    struct span s;

    switch (record_field_kind[field]) {
    case RECORD_KIND_TEXT:
        s = record_text(self, field, &scratch);
        if (s.p)
            buf_add_json_str(out, s);
        else
            buf_add_str(out, "null");
        buf_fini(&scratch);
        return;
    case RECORD_KIND_DICT:
    case RECORD_KIND_MAYBE:
        s = record_raw(self, field);
        buf_add_span(out, s.n ? s : SPAN_LIT("null"));
        return;
    case RECORD_KIND_DATE:
        add_date(out, record_date(self, field));
        return;
    case RECORD_KIND_BUFFERS:
        buf_add_str(out, "null");
        return;
    }
}

void
record_add_json(struct buf *out, const struct record *self, uint32_t fields)
{
    buf_add_str(out, "{\"msg_id\": ");
    buf_add_json_str(out, self->msg_id);
    for (int i = RECORD_MSG_ID + 1; i < N_RECORD_FIELDS; i++) {
        const enum record_field field = (enum record_field)i;
        const enum record_kind kind = record_field_kind[i];

        if (!(fields & (UINT32_C(1) << i)) || kind == RECORD_KIND_BUFFERS)
            continue;
        if (kind == RECORD_KIND_MAYBE && fields == RECORD_ALL
            && record_raw(self, field).n == 0)
            continue;
        buf_add_fmt(out, ", \"%s\": ", record_field_name[i]);
        record_add_field(out, self, field);
    }
    buf_add_char(out, '}');
}

void
store_close(struct store **self_p)
{
    if (*self_p)
        (*self_p)->ops->close(*self_p);
    *self_p = NULL;
}
