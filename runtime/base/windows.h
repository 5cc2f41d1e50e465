/* What the Windows sides share. */
#ifndef QN_BASE_WINDOWS_H
#define QN_BASE_WINDOWS_H

#include "base/host.h"

#include <wchar.h>

/* UTF-16 copy of UTF-8 text, or NULL when memory is out or the text is no UTF-8. */
wchar_t *qn_widen(const struct quern_callbacks *cb, const char *text);

#endif
