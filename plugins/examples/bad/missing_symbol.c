/* A library, but not a plugin. */
#include "postrider_auth.h"

PR_EXPORT int postrider_auth_v2(void);
PR_EXPORT int postrider_auth_v2(void) { return 2; }
