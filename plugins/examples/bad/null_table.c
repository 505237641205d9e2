/* Has the symbol, but no table behind it. */
#include "postrider_auth.h"

PR_EXPORT const pr_auth_v1 *postrider_auth_v1(void) { return NULL; }
