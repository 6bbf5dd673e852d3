/* vector.h - a captured message, byte for byte: docs/protocol, appendix, A1 */
#ifndef TESTS_VECTOR_H
#define TESTS_VECTOR_H

#include "base/span.h"

#define VECTOR_KEY "f20474e5-fe019b2000efc5bd2eaf498e"
#define VECTOR_SIGNATURE \
    "3bd76f510e886b14e13c854a9b92ed7d9900713aca90dca85286ef51d0f7924a"
#define VECTOR_SESSION "97456ff1-e4409120c17d5d7876e003f8"
#define VECTOR_DATE_US INT64_C(1795215365030017)
#define VECTOR_HEADER                                        \
    "{\"msg_id\": \"" VECTOR_SESSION "_20331_1\", "          \
    "\"msg_type\": \"apply_request\", "                      \
    "\"username\": \"user\", \"session\": \"" VECTOR_SESSION \
    "\", \"date\": \"2026-11-20T22:56:05.030017Z\", "        \
    "\"version\": \"5.3\"}"

static const struct span vector_frame[] = {
    SPAN_INIT("E0"),
    SPAN_INIT("<IDS|MSG>"),
    SPAN_INIT(VECTOR_SIGNATURE),
    SPAN_INIT(VECTOR_HEADER),
    SPAN_INIT("{}"),
    SPAN_INIT("{}"),
    SPAN_INIT("{}"),
    SPAN_INIT("\x80\x04\x95\x14\x00\x00\x00\x00\x00\x00\x00\x8c\x08"
              "builtins\x94\x8c\x03len\x94\x93\x94."),
    SPAN_INIT("\x80\x04\x95)\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x05nargs"
              "\x94K\x01\x8c\tnarg_bufs\x94K\x01\x8c\x07kw_keys\x94]\x94u."),
    SPAN_INIT("\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02K"
              "\x03"
              "e."),
};

#define VECTOR_N (sizeof(vector_frame) / sizeof(vector_frame[0]))

#endif /* TESTS_VECTOR_H */
