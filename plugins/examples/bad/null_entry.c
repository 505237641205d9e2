/* A function is missing from its table. */
#include "bad.h"

PLUGIN(PR_MAGIC, sizeof(pr_auth_v1), good_describe, good_begin, NULL)
