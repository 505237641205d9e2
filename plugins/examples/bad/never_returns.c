/* Its step waits by itself, for ever, where it should have yielded sleep_ms. */
#define _POSIX_C_SOURCE 199309L
#include <time.h>

#include "bad.h"

static int32_t step(void *flow, pr_bytes event, pr_sink *out) {
    const struct timespec pause = {1, 0};
    (void)flow, (void)event, (void)out;
    while (1) {
        nanosleep(&pause, NULL);
    }
    return PR_DONE;
}

PLUGIN(PR_MAGIC, sizeof(pr_auth_v1), good_describe, good_begin, step)
