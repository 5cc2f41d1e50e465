/* Spans: where the time of a step went, per node and device. Nothing is measured without a trace. */
#ifndef QUERN_TRACE_H
#define QUERN_TRACE_H

#include <quern/session.h>

#ifdef __cplusplus
extern "C" {
#endif

struct quern_span {
    uint64_t begin_ns, end_ns; /* monotonic, one clock for all devices */
    uint32_t device;           /* index among the model's devices */
    uint32_t op;               /* enum quern_op */
    uint32_t layer;            /* QUERN_NONE outside of layers */
    uint32_t node;             /* of the fused graph */
    uint32_t n_tokens;         /* of the step */
    uint32_t format;           /* of the first weight, QUERN_FORMAT_END without one */
    uint32_t step;             /* counts from 0 */
    uint64_t bytes;            /* least that must be read and written: weights, KV and activations */
    uint64_t ops;              /* multiplications and additions */
};

QUERN_API enum quern_status quern_trace_create(struct quern_trace **trace,
                                               const struct quern_callbacks *callbacks,
                                               struct quern_error *err);
QUERN_API void quern_trace_destroy(struct quern_trace **trace);
QUERN_API void quern_trace_clear(struct quern_trace *trace);
QUERN_API size_t quern_trace_count(const struct quern_trace *trace);
QUERN_API const struct quern_span *quern_trace_at(const struct quern_trace *trace, size_t index);
/* Spans that were lost because memory ran out. */
QUERN_API uint64_t quern_trace_lost(const struct quern_trace *trace);

/* "matmul"; NULL for a number that no operation has. */
QUERN_API const char *quern_op_name(uint32_t op);

#ifdef __cplusplus
}
#endif

#endif
