/* query_cases.h - two records, and queries with what they find
 *
 * Every backend answers them alike.
 */
#ifndef TESTS_STORE_QUERY_CASES_H
#define TESTS_STORE_QUERY_CASES_H

#include "make.h"

#define T0 INT64_C(1700000000000000) // 2023-11-14T22:13:20Z

// clang-format off
static const struct { const char *query; bool done, waiting; } cases[] = {
    { "",                                                  true,  true },
    { "{}",                                                true,  true },
    /* plain equality */
    { "{\"msg_id\": \"m1\"}",                              true,  false },
    { "{\"queue\": \"mux\"}",                              true,  false },
    { "{\"queue\": null}",                                 false, true },
    { "{\"client_uuid\": \"client\"}",                     true,  true },
    { "{\"engine_uuid\": \"E0\"}",                         true,  false },
    { "{\"label\": \"part-1\"}",                           true,  true },
    { "{\"label\": 1}",                                    false, false },
    { "{\"stdout\": \"hello\\n\"}",                        true,  false },
    { "{\"stderr\": \"\"}",                                true,  true },
    { "{\"execute_input\": \"6*7\"}",                      true,  false },
    { "{\"content\": {\"code\": \"1\"}}",                  true,  true },
    { "{\"content\": {\"code\": \"2\"}}",                  false, false },
    { "{\"result_metadata\": {\"n\": 7.0, \"status\": \"ok\"}}", true, false },
    { "{\"metadata\": {}}",                                true,  true },
    /* several keys are and-ed (upstream compares all with the last value) */
    { "{\"queue\": \"mux\", \"engine_uuid\": \"E0\"}",     true,  false },
    { "{\"queue\": \"mux\", \"engine_uuid\": \"E1\"}",     false, false },
    { "{\"queue\": \"task\", \"engine_uuid\": \"E0\"}",    false, false },
    /* null */
    { "{\"completed\": null}",                             false, true },
    { "{\"completed\": {\"$eq\": null}}",                  false, true },
    { "{\"completed\": {\"$ne\": null}}",                  true,  false },
    { "{\"result_header\": null}",                         false, true },
    { "{\"result_buffers\": null}",                        false, true },
    { "{\"engine_uuid\": {\"$in\": [null, \"E9\"]}}",      false, true },
    { "{\"engine_uuid\": {\"$nin\": [null]}}",             true,  false },
    { "{\"engine_uuid\": {\"$lt\": \"Z\"}}",               true,  false },
    { "{\"engine_uuid\": {\"$gte\": \"A\"}}",              true,  false },
    /* order, with $gt the right way round */
    { "{\"msg_id\": {\"$gt\": \"m1\"}}",                   false, true },
    { "{\"msg_id\": {\"$gte\": \"m1\"}}",                  true,  true },
    { "{\"msg_id\": {\"$lt\": \"m2\"}}",                   true,  false },
    { "{\"msg_id\": {\"$lte\": \"m2\"}}",                  true,  true },
    { "{\"msg_id\": {\"$lt\": 5}}",                        false, false },
    { "{\"msg_id\": {\"$gt\": \"m\"}}",                    true,  true },
    { "{\"msg_id\": {\"$gt\": \"m0\", \"$lt\": \"m2\"}}",  true,  false },
    /* dates are times, whatever zone they are written in */
    { "{\"submitted\": \"2023-11-14T22:13:20Z\"}",         true,  false },
    { "{\"submitted\": \"2023-11-14T23:13:20+01:00\"}",    true,  false },
    { "{\"submitted\": {\"$gt\": \"2023-11-14T22:13:21Z\"}}",  false, true },
    { "{\"submitted\": {\"$gte\": \"2023-11-14T22:13:20.000000Z\"}}", true, true },
    { "{\"submitted\": {\"$lt\": \"2023-11-14T22:13:21Z\"}}",  true,  false },
    { "{\"submitted\": {\"$lte\": \"2023-11-14T22:13:20Z\"}}", true,  false },
    { "{\"submitted\": {\"$ne\": \"2023-11-14T22:13:20Z\"}}",  false, true },
    { "{\"completed\": {\"$lt\": \"2030-01-01T00:00:00Z\"}}",  true,  false },
    { "{\"completed\": {\"$in\": [null, \"2023-11-14T22:13:21Z\"]}}", true, true },
    { "{\"completed\": {\"$nin\": [\"2023-11-14T22:13:21Z\"]}}", false, true },
    { "{\"submitted\": \"yesterday\"}",                    false, false },
    { "{\"submitted\": {\"$in\": []}}",                    false, false },
    { "{\"submitted\": {\"$mod\": [2, 0]}}",               false, false },
    /* sets */
    { "{\"msg_id\": {\"$in\": [\"m1\", \"x\"]}}",          true,  false },
    { "{\"msg_id\": {\"$in\": []}}",                       false, false },
    { "{\"msg_id\": {\"$nin\": [\"m1\"]}}",                false, true },
    { "{\"msg_id\": {\"$all\": [[\"m1\", \"a\"], [\"m1\"]]}}", true, false },
    { "{\"msg_id\": {\"$all\": [\"xm1y\"]}}",              true,  false },
    { "{\"msg_id\": {\"$all\": []}}",                      true,  true },
    { "{\"completed\": {\"$all\": [[null]]}}",             false, false },
    /* $exists takes any truth */
    { "{\"completed\": {\"$exists\": true}}",              true,  false },
    { "{\"completed\": {\"$exists\": false}}",             false, true },
    { "{\"engine_uuid\": {\"$exists\": 1}}",               true,  false },
    { "{\"engine_uuid\": {\"$exists\": 0}}",               false, true },
    { "{\"engine_uuid\": {\"$exists\": null}}",            false, true },
    { "{\"buffers\": {\"$exists\": true}}",                true,  true },
    /* patterns */
    { "{\"label\": {\"$glob\": \"part*\"}}",               true,  true },
    { "{\"label\": {\"$glob\": \"part\"}}",                false, false },
    { "{\"engine_uuid\": {\"$glob\": \"*\"}}",             true,  false },
    { "{\"label\": {}}",                                   true,  true },
    { "{\"queue\": {\"$eq\": \"mux\"}}",                   true,  false },
    { "{\"queue\": {\"$ne\": \"mux\"}}",                   false, true },
};
// clang-format on

#endif /* TESTS_STORE_QUERY_CASES_H */
