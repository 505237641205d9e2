/* OBTAIN yields an action that is not JSON. */
#include "bad.h"

static int32_t begin(void *inst, uint32_t op, pr_bytes input, void **flow, pr_sink *out) {
    (void)inst, (void)op, (void)input;
    *flow = &one;
    return pr_puts(out, "{\"http\":{\xff\x00") ? PR_E_INTERNAL : PR_YIELD;
}

PLUGIN(PR_MAGIC, sizeof(pr_auth_v1), good_describe, begin, good_step)
