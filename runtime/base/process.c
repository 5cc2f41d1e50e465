/* The part of process.h that is the same on every system. */
#include "base/process.h"

#include <stdio.h>

void qn_process_describe(const struct qn_process_end *end, uint64_t timeout_ns, char *text, size_t size)
{
    switch (end->how) {
    case QN_PROCESS_EXITED:
        snprintf(text, size, "ended with code %u", end->code);
        break;
    case QN_PROCESS_CRASHED:
#ifdef _WIN32
        snprintf(text, size, "crashed (exception 0x%08x)", end->code);
#else
        snprintf(text, size, "crashed (signal %u)", end->code);
#endif
        break;
    case QN_PROCESS_ENDED:
        snprintf(text, size, "ended without a whole answer");
        break;
    case QN_PROCESS_TIMED_OUT:
        snprintf(text, size, "did not end within %.3g s", (double)timeout_ns / 1e9);
        break;
    case QN_PROCESS_CANCELLED:
        snprintf(text, size, "was cancelled");
        break;
    }
}
