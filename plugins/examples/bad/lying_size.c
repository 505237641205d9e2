/* Says that its table is too short to hold all six functions. */
#include "bad.h"

PLUGIN(PR_MAGIC, offsetof(pr_auth_v1, begin), good_describe, good_begin, good_step)
