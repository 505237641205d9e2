/* OBTAIN writes 2 MiB into the sink, does not care that it is refused, and reports success. */
#include "bad.h"

static int32_t begin(void *inst, uint32_t op, pr_bytes input, void **flow, pr_sink *out) {
    static uint8_t chunk[4096];
    const pr_bytes bytes = {chunk, sizeof chunk};
    int i;
    (void)inst, (void)op, (void)input, (void)flow;
    memset(chunk, 'x', sizeof chunk);
    for (i = 0; i < 512; i++) {
        (void)pr_put(out, bytes);
    }
    return PR_DONE;
}

PLUGIN(PR_MAGIC, sizeof(pr_auth_v1), good_describe, begin, good_step)
