#include "trace/trace.h"

#include "graph/graph.h"

enum quern_status quern_trace_create(struct quern_trace **out, const struct quern_callbacks *callbacks,
                                     struct quern_error *err)
{
    struct quern_callbacks cb = qn_callbacks_resolve(callbacks);
    *out = qn_zalloc(&cb, 1, sizeof **out);
    if (!*out)
        return qn_fail_memory(err, "a trace");
    (*out)->cb = cb;
    return QUERN_OK;
}

void quern_trace_destroy(struct quern_trace **out)
{
    struct quern_trace *trace = *out;
    if (!trace)
        return;
    struct quern_callbacks cb = trace->cb;
    qn_free(&cb, trace->spans);
    qn_free(&cb, trace);
    *out = NULL;
}

void quern_trace_clear(struct quern_trace *trace)
{
    trace->n = 0;
    trace->lost = 0;
    trace->n_steps = 0;
}

size_t quern_trace_count(const struct quern_trace *trace)
{
    return trace->n;
}

const struct quern_span *quern_trace_at(const struct quern_trace *trace, size_t index)
{
    return index < trace->n ? &trace->spans[index] : NULL;
}

uint64_t quern_trace_lost(const struct quern_trace *trace)
{
    return trace->lost;
}

void qn_trace_add(struct quern_trace *trace, const struct quern_span *span)
{
    if (qn_grow(&trace->cb, &trace->spans, &trace->cap, trace->n + 1, sizeof *trace->spans))
        trace->spans[trace->n++] = *span;
    else
        trace->lost++;
}

const char *quern_op_name(uint32_t op)
{
    const struct qn_op_info *info = qn_op_get(op);
    return info ? info->name : NULL;
}
