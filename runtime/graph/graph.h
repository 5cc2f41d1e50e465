/* The graph of a model: flat arrays of values and nodes that name each other by index (see quern/driver.h for
 * what each operation means). Built once per model, fused once, then read-only. Knows nothing of files,
 * devices or memory. */
#ifndef QN_GRAPH_H
#define QN_GRAPH_H

#include "base/host.h"
#include <quern/driver.h>

struct qn_graph {
    struct quern_graph view; /* what drivers see */
    struct quern_value *values;
    struct quern_node *nodes;
    struct quern_kv_layer *kv;
    size_t cap_values, cap_nodes, cap_kv;
};

void qn_graph_init(struct qn_graph *graph);
void qn_graph_finish(const struct quern_callbacks *cb, struct qn_graph *graph);

/* One row of ops.inc. */
struct qn_op_info {
    const char *name;
    uint32_t n_required; /* the first inputs that may not be QUERN_NONE */
    bool may_alias;
};
const struct qn_op_info *qn_op_get(uint32_t op);

/* Adds nodes with checked shapes. The first error sticks: later calls do nothing and return QUERN_NONE, so
 * that graph code reads without checks and looks at `status` once at the end. */
struct qn_builder {
    const struct quern_callbacks *cb;
    struct qn_graph *graph;
    uint32_t layer; /* stamped on what is added */
    enum quern_status status;
    struct quern_error *err;
};

/* A weight: `weight` is the number by which the runtime will find its data, `offset` where in it the value
 * starts (bytes). Unused dims are 1. */
uint32_t qn_add_weight(struct qn_builder *b, enum quern_format format, const int64_t dim[4], uint32_t weight,
                       uint64_t offset);
/* A KV layer; returns its number. */
uint32_t qn_add_kv(struct qn_builder *b, const struct quern_kv_layer *kv);
/* Adds a node: inputs and attributes come in `node`, outputs are made by the shape rule. Returns out[0]. */
uint32_t qn_add_node(struct qn_builder *b, const struct quern_node *node);

/* The operations, for graph code. Values and optional inputs as in quern/driver.h. */
uint32_t qn_embed(struct qn_builder *b, uint32_t table, float scale);
uint32_t qn_norm(struct qn_builder *b, uint32_t x, uint32_t weight, uint32_t bias, enum quern_norm_kind kind,
                 float eps, uint32_t group);
uint32_t qn_matmul(struct qn_builder *b, uint32_t x, uint32_t w, uint32_t bias);
uint32_t qn_matmul_attr(struct qn_builder *b, uint32_t x, uint32_t w, uint32_t bias, float scale,
                        float softcap);
uint32_t qn_rope(struct qn_builder *b, uint32_t x, uint32_t factors, const struct quern_rope_attr *attr);
void qn_kv_store(struct qn_builder *b, uint32_t k, uint32_t v, uint32_t kv_layer);
uint32_t qn_attention(struct qn_builder *b, uint32_t q, uint32_t sinks,
                      const struct quern_attention_attr *attr);
uint32_t qn_activation(struct qn_builder *b, enum quern_activation act, uint32_t gate, uint32_t up,
                       bool split);
uint32_t qn_add(struct qn_builder *b, uint32_t a, uint32_t y, float scale);
uint32_t qn_rows(struct qn_builder *b, uint32_t x);
/* Returns ids; *weights is the second output. */
uint32_t qn_moe_route(struct qn_builder *b, uint32_t logits, uint32_t bias,
                      const struct quern_moe_route_attr *attr, uint32_t *weights);
uint32_t qn_moe_matmul(struct qn_builder *b, uint32_t x, uint32_t w, uint32_t bias, uint32_t ids,
                       bool per_slot);
uint32_t qn_moe_combine(struct qn_builder *b, uint32_t y, uint32_t weights, uint32_t shared,
                        uint32_t shared_gate);
/* Marks the value as the one that the runtime reads after a step. */
void qn_output(struct qn_builder *b, uint32_t value);

/* Size of a value for a bucket; UINT64_MAX on overflow. */
uint64_t qn_value_bytes(const struct quern_value *value, uint32_t n_tokens, uint32_t n_outputs);
/* Elements along dimension i for a bucket. */
uint64_t qn_value_dim(const struct quern_value *value, unsigned i, uint32_t n_tokens, uint32_t n_outputs);

/* Rewrites the graph into fewer nodes with the same result: gate and up into one matmul with the activation,
 * Q, K and V into one, residual adds into epilogues, adds into the norm that follows. */
enum quern_status qn_graph_fuse(const struct quern_callbacks *cb, struct qn_graph *graph,
                                struct quern_error *err);

/* KV layer that a node reads or writes; QUERN_NONE for other operations. */
uint32_t qn_node_kv_layer(const struct quern_node *node);

/* Arithmetic of a node for a step: multiplications and additions, and the least bytes that must move.
 * `kv_bytes` is what one token's K and V take in the node's KV layer, n_kv the tokens it looks at. */
struct qn_node_work {
    uint64_t ops;
    uint64_t bytes;
};
struct qn_node_work qn_node_work(const struct quern_graph *graph, uint32_t node, uint32_t n_tokens,
                                 uint32_t n_outputs, uint64_t n_kv, uint64_t kv_bytes);

#endif
