/* Describes itself in prose. */
#include "bad.h"

static int32_t describe(pr_sink *out) {
    return pr_puts(out, "I am a plugin") ? PR_E_INTERNAL : PR_DONE;
}

PLUGIN(PR_MAGIC, sizeof(pr_auth_v1), describe, good_begin, good_step)
