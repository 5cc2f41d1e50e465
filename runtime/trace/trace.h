/* Collecting spans. One session fills a trace at a time. */
#ifndef QN_TRACE_H
#define QN_TRACE_H

#include "base/host.h"
#include <quern/trace.h>

struct quern_trace {
    struct quern_callbacks cb;
    struct quern_span *spans;
    size_t n, cap;
    uint64_t lost;
    uint32_t n_steps;
};

void qn_trace_add(struct quern_trace *trace, const struct quern_span *span);

#endif
