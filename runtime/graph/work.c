/* How much arithmetic and traffic a node stands for: the yardstick of profiles and placement. */
#include "graph/graph.h"

#include "formats/formats.h"

/* Elements of a value in a step. */
static uint64_t elements(const struct quern_value *value, uint32_t n_tokens, uint32_t n_outputs)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < 4; i++)
        n *= qn_value_dim(value, i, n_tokens, n_outputs);
    return n;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

struct qn_node_work qn_node_work(const struct quern_graph *graph, uint32_t node_id, uint32_t n_tokens,
                                 uint32_t n_outputs, uint64_t n_kv, uint64_t kv_bytes)
{
    const struct quern_node *node = quern_graph_node(graph, node_id);
    struct qn_node_work work = {0};
    uint64_t n_out = 0;
    for (unsigned i = 0; i < QUERN_MAX_OUT; i++)
        if (node->out[i] != QUERN_NONE) {
            const struct quern_value *value = quern_graph_value(graph, node->out[i]);
            n_out += elements(value, n_tokens, n_outputs);
            work.bytes += qn_value_bytes(value, n_tokens, n_outputs);
        }
    for (unsigned i = 0; i < QUERN_MAX_IN; i++) {
        if (node->in[i] == QUERN_NONE)
            continue;
        const struct quern_value *value = quern_graph_value(graph, node->in[i]);
        uint64_t bytes = qn_value_bytes(value, n_tokens, n_outputs);
        if (node->op == QUERN_OP_EMBED && i == 0)
            bytes = n_tokens * qn_format_row_bytes(value->format, (uint64_t)value->dim[0]);
        if (node->op == QUERN_OP_MOE_MATMUL && (i == 1 || i == 2)) {
            uint64_t n_used = (uint64_t)quern_graph_value(graph, node->in[5])->dim[0];
            uint64_t n_experts_read = min_u64(n_used * n_tokens, (uint64_t)value->dim[2]);
            bytes = bytes / (uint64_t)value->dim[2] * n_experts_read;
            work.ops += 2 * (uint64_t)value->dim[0] * (uint64_t)value->dim[1] * n_used * n_tokens;
        }
        if (node->op == QUERN_OP_MATMUL && i >= 1 && i <= 3) {
            uint64_t n_rows = qn_value_dim(quern_graph_value(graph, node->in[0]), 1, n_tokens, n_outputs);
            work.ops += 2 * (uint64_t)value->dim[0] * (uint64_t)value->dim[1] * n_rows;
        }
        work.bytes += bytes;
    }
    if (node->op == QUERN_OP_ATTENTION) {
        const struct quern_kv_layer *kv = quern_graph_kv(graph, node->attr.attention.kv_layer);
        uint64_t seen = kv->window ? min_u64(n_kv, kv->window) : n_kv;
        work.bytes += seen * kv_bytes;
        work.ops = 2 * seen * n_tokens * node->attr.attention.n_head * (kv->head_dim_k + kv->head_dim_v);
    } else if (node->op == QUERN_OP_KV_STORE) {
        work.bytes += n_tokens * kv_bytes;
    } else if (work.ops == 0) {
        work.ops = n_out;
    }
    return work;
}
