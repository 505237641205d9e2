/* Fails with a number that means nothing. */
#include "bad.h"

static int32_t step(void *flow, pr_bytes event, pr_sink *out) {
    (void)flow, (void)event;
    return pr_fail(out, -77, "from a future version");
}

PLUGIN(PR_MAGIC, sizeof(pr_auth_v1), good_describe, good_begin, step)
