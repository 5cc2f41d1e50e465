/* Arrays of the graph, and the calls that add to them. */
#include "graph/graph.h"

#include "formats/formats.h"
#include "graph/shapes.h"

#include <string.h>

void qn_graph_init(struct qn_graph *graph)
{
    *graph = (struct qn_graph){.view = {.struct_size = sizeof graph->view,
                                        .value_size = sizeof(struct quern_value),
                                        .node_size = sizeof(struct quern_node),
                                        .kv_size = sizeof(struct quern_kv_layer)}};
}

void qn_graph_finish(const struct quern_callbacks *cb, struct qn_graph *graph)
{
    qn_free(cb, graph->values);
    qn_free(cb, graph->nodes);
    qn_free(cb, graph->kv);
    qn_graph_init(graph);
}

uint64_t qn_value_dim(const struct quern_value *value, unsigned i, uint32_t n_tokens, uint32_t n_outputs)
{
    int64_t dim = value->dim[i];
    return dim == QUERN_DIM_TOKENS ? n_tokens : dim == QUERN_DIM_OUTPUTS ? n_outputs : (uint64_t)dim;
}

uint64_t qn_value_bytes(const struct quern_value *value, uint32_t n_tokens, uint32_t n_outputs)
{
    uint64_t bytes = qn_format_row_bytes(value->format, qn_value_dim(value, 0, n_tokens, n_outputs));
    for (unsigned i = 1; i < 4; i++) {
        uint64_t dim = qn_value_dim(value, i, n_tokens, n_outputs);
        if (dim != 0 && bytes > UINT64_MAX / dim)
            return UINT64_MAX;
        bytes *= dim;
    }
    return bytes;
}

uint32_t qn_node_kv_layer(const struct quern_node *node)
{
    if (node->op == QUERN_OP_ATTENTION)
        return node->attr.attention.kv_layer;
    return node->op == QUERN_OP_KV_STORE ? node->attr.kv_store.kv_layer : QUERN_NONE;
}

/* ---- adding ---- */

static bool grow_failed(struct qn_builder *b)
{
    b->status = qn_fail_memory(b->err, "the graph");
    return false;
}

static uint32_t add_value(struct qn_builder *b, const struct quern_value *value)
{
    struct qn_graph *g = b->graph;
    if (!qn_grow(b->cb, &g->values, &g->cap_values, g->view.n_values + 1, sizeof *g->values)) {
        grow_failed(b);
        return QUERN_NONE;
    }
    g->values[g->view.n_values] = *value;
    g->view.values = g->values;
    return g->view.n_values++;
}

uint32_t qn_add_weight(struct qn_builder *b, enum quern_format format, const int64_t dim[4], uint32_t weight,
                       uint64_t offset)
{
    if (b->status)
        return QUERN_NONE;
    struct quern_value value = {.kind = QUERN_VALUE_WEIGHT,
                                .format = format,
                                .weight = weight,
                                .layer = b->layer,
                                .weight_offset = offset};
    memcpy(value.dim, dim, sizeof value.dim);
    return add_value(b, &value);
}

uint32_t qn_add_kv(struct qn_builder *b, const struct quern_kv_layer *kv)
{
    struct qn_graph *g = b->graph;
    if (b->status)
        return QUERN_NONE;
    if (!qn_grow(b->cb, &g->kv, &g->cap_kv, g->view.n_kv + 1, sizeof *g->kv)) {
        grow_failed(b);
        return QUERN_NONE;
    }
    g->kv[g->view.n_kv] = *kv;
    g->view.kv = g->kv;
    return g->view.n_kv++;
}

uint32_t qn_add_node(struct qn_builder *b, const struct quern_node *node)
{
    struct qn_graph *g = b->graph;
    if (b->status)
        return QUERN_NONE;
    struct qn_shape shape = {.graph = &g->view, .node = node};
    if (!qn_shape_infer(&shape)) {
        b->status = qn_fail(b->err, QUERN_ERR_FILE, "graph: %s in layer %d: %s", qn_op_get(node->op)->name,
                            b->layer == QUERN_NONE ? -1 : (int)b->layer, shape.fault);
        return QUERN_NONE;
    }
    if (!qn_grow(b->cb, &g->nodes, &g->cap_nodes, g->view.n_nodes + 1, sizeof *g->nodes)) {
        grow_failed(b);
        return QUERN_NONE;
    }
    struct quern_node *added = &g->nodes[g->view.n_nodes];
    *added = *node;
    added->layer = b->layer;
    for (unsigned i = 0; i < QUERN_MAX_OUT; i++) {
        added->out[i] = QUERN_NONE;
        if (i < shape.n_out) {
            shape.out[i].kind = QUERN_VALUE_ACTIVATION;
            shape.out[i].weight = QUERN_NONE;
            shape.out[i].layer = b->layer;
            added->out[i] = add_value(b, &shape.out[i]);
            if (b->status)
                return QUERN_NONE;
        }
    }
    g->view.nodes = g->nodes;
    g->view.n_nodes++;
    return added->out[0];
}

/* A node with inputs listed and the rest absent. */
#define NODE(OP, ...)                                                                \
    {                                                                                \
        .op = QUERN_OP_##OP, .in = {QUERN_NONE, QUERN_NONE, QUERN_NONE, QUERN_NONE,  \
                                    QUERN_NONE, QUERN_NONE, QUERN_NONE, QUERN_NONE}, \
        .attr = {                                                                    \
            __VA_ARGS__                                                              \
        }                                                                            \
    }

uint32_t qn_embed(struct qn_builder *b, uint32_t table, float scale)
{
    struct quern_node node = NODE(EMBED, .embed = {.scale = scale});
    node.in[0] = table;
    return qn_add_node(b, &node);
}

uint32_t qn_norm(struct qn_builder *b, uint32_t x, uint32_t weight, uint32_t bias, enum quern_norm_kind kind,
                 float eps, uint32_t group)
{
    struct quern_node node = NODE(NORM, .norm = {.kind = kind, .group = group, .eps = eps});
    node.in[0] = x;
    node.in[1] = weight;
    node.in[2] = bias;
    return qn_add_node(b, &node);
}

uint32_t qn_matmul(struct qn_builder *b, uint32_t x, uint32_t w, uint32_t bias)
{
    return qn_matmul_attr(b, x, w, bias, 1.0f, 0.0f);
}

uint32_t qn_matmul_attr(struct qn_builder *b, uint32_t x, uint32_t w, uint32_t bias, float scale,
                        float softcap)
{
    struct quern_node node =
        NODE(MATMUL, .matmul = {.n_weights = 1, .scale = scale, .softcap = softcap, .residual_scale = 1.0f});
    node.in[0] = x;
    node.in[1] = w;
    node.in[4] = bias;
    return qn_add_node(b, &node);
}

uint32_t qn_rope(struct qn_builder *b, uint32_t x, uint32_t factors, const struct quern_rope_attr *attr)
{
    struct quern_node node = NODE(ROPE, .rope = *attr);
    node.in[0] = x;
    node.in[1] = factors;
    return qn_add_node(b, &node);
}

void qn_kv_store(struct qn_builder *b, uint32_t k, uint32_t v, uint32_t kv_layer)
{
    struct quern_node node = NODE(KV_STORE, .kv_store = {.kv_layer = kv_layer});
    node.in[0] = k;
    node.in[1] = v;
    qn_add_node(b, &node);
}

uint32_t qn_attention(struct qn_builder *b, uint32_t q, uint32_t sinks,
                      const struct quern_attention_attr *attr)
{
    struct quern_node node = NODE(ATTENTION, .attention = *attr);
    node.in[0] = q;
    node.in[1] = sinks;
    return qn_add_node(b, &node);
}

uint32_t qn_activation(struct qn_builder *b, enum quern_activation act, uint32_t gate, uint32_t up,
                       bool split)
{
    struct quern_node node = NODE(ACTIVATION, .activation = {.act = act, .split = split});
    node.in[0] = gate;
    node.in[1] = up;
    return qn_add_node(b, &node);
}

uint32_t qn_add(struct qn_builder *b, uint32_t a, uint32_t y, float scale)
{
    struct quern_node node = NODE(ADD, .add = {.scale = scale});
    node.in[0] = a;
    node.in[1] = y;
    return qn_add_node(b, &node);
}

uint32_t qn_rows(struct qn_builder *b, uint32_t x)
{
    struct quern_node node = NODE(ROWS, .words = {0});
    node.in[0] = x;
    return qn_add_node(b, &node);
}

uint32_t qn_moe_route(struct qn_builder *b, uint32_t logits, uint32_t bias,
                      const struct quern_moe_route_attr *attr, uint32_t *weights)
{
    struct quern_node node = NODE(MOE_ROUTE, .moe_route = *attr);
    node.in[0] = logits;
    node.in[1] = bias;
    uint32_t ids = qn_add_node(b, &node);
    *weights = b->status ? QUERN_NONE : b->graph->nodes[b->graph->view.n_nodes - 1].out[1];
    return ids;
}

uint32_t qn_moe_matmul(struct qn_builder *b, uint32_t x, uint32_t w, uint32_t bias, uint32_t ids,
                       bool per_slot)
{
    struct quern_node node = NODE(MOE_MATMUL, .moe_matmul = {.n_weights = 1, .per_slot = per_slot});
    node.in[0] = x;
    node.in[1] = w;
    node.in[3] = bias;
    node.in[5] = ids;
    return qn_add_node(b, &node);
}

uint32_t qn_moe_combine(struct qn_builder *b, uint32_t y, uint32_t weights, uint32_t shared,
                        uint32_t shared_gate)
{
    struct quern_node node = NODE(MOE_COMBINE, .words = {0});
    node.in[0] = y;
    node.in[1] = weights;
    node.in[2] = shared;
    node.in[3] = shared_gate;
    return qn_add_node(b, &node);
}

static uint32_t add_select(struct qn_builder *b, uint32_t x)
{
    int64_t n = b->status ? 0 : b->graph->values[x].dim[0];
    struct quern_node node =
        NODE(SELECT, .select = {.k = n < QUERN_MAX_SELECT ? (uint32_t)n : QUERN_MAX_SELECT});
    node.in[0] = x;
    return qn_add_node(b, &node);
}

void qn_output(struct qn_builder *b, uint32_t value)
{
    uint32_t best = add_select(b, value);
    if (!b->status)
        b->graph->values[value].kind = b->graph->values[best].kind = QUERN_VALUE_OUTPUT;
}
