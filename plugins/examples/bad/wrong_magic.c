/* Its table is something else: a host must not call into it. */
#include "bad.h"

PLUGIN(UINT32_C(0x7F454C46), sizeof(pr_auth_v1), good_describe, good_begin, good_step)
