/* A plugin without fault, for the others here to spoil: OBTAIN pauses once and gives a token. */
#ifndef POSTRIDER_BAD_H
#define POSTRIDER_BAD_H

#include "postrider_auth.h"

static char one; /* stands for every instance and flow: there is no state */

static inline int32_t good_describe(pr_sink *out) {
    return pr_puts(out, "{\"name\":\"bad\",\"version\":\"1.0.0\",\"ops\":[\"obtain\"],"
                        "\"config_schema\":{\"type\":\"object\"}}")
               ? PR_E_INTERNAL
               : PR_DONE;
}

static inline int32_t good_create(const pr_host *host, pr_bytes config, void **inst, pr_sink *out) {
    (void)host, (void)config, (void)out;
    *inst = &one;
    return PR_DONE;
}

static inline void good_destroy(void *inst) { (void)inst; }

static inline int32_t good_begin(void *inst, uint32_t op, pr_bytes input, void **flow,
                                 pr_sink *out) {
    (void)inst, (void)input;
    if (op != PR_OP_OBTAIN) {
        return pr_fail(out, PR_E_UNSUPPORTED, "only obtain");
    }
    *flow = &one;
    return pr_puts(out, "{\"sleep_ms\":1}") ? PR_E_INTERNAL : PR_YIELD;
}

static inline int32_t good_step(void *flow, pr_bytes event, pr_sink *out) {
    (void)flow, (void)event;
    return pr_puts(out, "{\"access_token\":\"token\"}") ? PR_E_INTERNAL : PR_DONE;
}

static inline void good_end(void *flow) { (void)flow; }

/* Defines the symbol, with the table's parts in the order of its fields. */
#define PLUGIN(magic, size, describe, begin, step)                                            \
    PR_EXPORT const pr_auth_v1 *postrider_auth_v1(void) {                                     \
        static const pr_auth_v1 table = {magic,    PR_MAJOR,    PR_MINOR,     size,           \
                                         PR_THREADSAFE, describe, good_create, good_destroy,  \
                                         begin,    step,        good_end};                    \
        return &table;                                                                        \
    }

#endif
