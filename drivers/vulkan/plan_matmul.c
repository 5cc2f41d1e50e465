/* Products: MATMUL and MOE_MATMUL. */
#include "drivers/vulkan/plan.h"

#include <string.h>

enum {
    MATVEC_ROWS = 4,        /* of a workgroup: ROWS of matvec.comp */
    MATVEC_COLUMNS_MAX = 8, /* of a workgroup */
};

/* One product; MATMUL with several outputs is as many. */
struct product {
    enum qn_vk_kernel kernel; /* the first of its formats */
    uint32_t weight[2], bias[2];
    uint32_t n_weights, act;
    uint32_t x, extra, out; /* extra: residual, or expert ids */
    uint32_t n_used, per_slot;
    float scale, softcap, residual_scale;
};

/* A weight larger than a kernel can reach is taken in parts: of rows, or of whole experts. */
static void plan_product(struct qn_vk_plan *p, const struct product *product)
{
    const struct quern_value *w = qn_vk_value(p, product->weight[0]);
    const struct quern_value *x = qn_vk_value(p, product->x);
    bool moe = product->kernel == QN_VK_MOE_MATVEC;
    uint64_t row_bytes = qn_format_row_bytes(w->format, (uint64_t)w->dim[0]), n = (uint64_t)w->dim[1];
    uint64_t unit = moe ? row_bytes * n : row_bytes, n_units = moe ? (uint64_t)w->dim[2] : n;
    uint32_t columns = 1; /* a workgroup has as many as the step, up to a number */
    while (!moe && columns < MATVEC_COLUMNS_MAX && columns < qn_vk_rows(p, x))
        columns *= 2;
    uint64_t groups =
        moe ? (uint64_t)qn_vk_rows(p, x) * product->n_used : qn_vk_ceil_div(qn_vk_rows(p, x), columns);
    uint32_t second = product->n_weights > 1 ? product->weight[1] : QUERN_NONE;
    uint64_t count;
    for (uint64_t first = 0; first < n_units && !p->status; first += count) {
        count = qn_vk_take_units(p, product->weight[0], second, unit, first, n_units);
        struct qn_vk_dispatch *d =
            qn_vk_add(p, product->kernel + w->format, qn_vk_ceil_div(moe ? n : count, MATVEC_ROWS), groups);
        d->constants[0] = columns;
        uint32_t at[2] = {0, 0};
        for (uint32_t i = 0; i < product->n_weights; i++)
            at[i] = qn_vk_bind_weight(p, d, 1 + i, product->weight[i], first * unit, count * unit);
        qn_vk_bind_rows(p, d, 3, product->x, false);
        uint32_t bias = qn_vk_bind_vector(p, d, 4, product->bias[0]),
                 bias1 = qn_vk_bind_vector(p, d, 5, product->bias[1]);
        bool extra = qn_vk_bind_rows(p, d, 6, product->extra, false);
        qn_vk_bind_rows(p, d, 7, product->out, true);
        d->bound[8].kind = QN_VK_BOUND_GRIDS;
        const uint32_t words[] = {(uint32_t)w->dim[0],
                                  (uint32_t)n,
                                  (uint32_t)row_bytes,
                                  at[0],
                                  at[1],
                                  (uint32_t)first,
                                  (uint32_t)count,
                                  bias,
                                  bias1,
                                  product->n_weights,
                                  product->act,
                                  qn_vk_per_output(x),
                                  product->n_used,
                                  product->per_slot,
                                  extra && !moe,
                                  qn_vk_word(product->scale),
                                  qn_vk_word(product->softcap),
                                  qn_vk_word(product->residual_scale)};
        memcpy(d->words, words, sizeof words);
    }
}

void qn_vk_plan_matmul(struct qn_vk_plan *p)
{
    const struct quern_matmul_attr *attr = &p->node->attr.matmul;
    uint32_t n_products = attr->glu ? 1 : attr->n_weights;
    for (uint32_t i = 0; i < n_products; i++)
        plan_product(p,
                     &(struct product){.kernel = QN_VK_MATVEC,
                                       .weight = {p->node->in[1 + i], p->node->in[2]},
                                       .bias = {p->node->in[4 + i], attr->glu ? p->node->in[5] : QUERN_NONE},
                                       .n_weights = attr->glu ? 2 : 1,
                                       .act = attr->act,
                                       .x = p->node->in[0],
                                       .extra = p->node->in[7],
                                       .out = p->node->out[i],
                                       .scale = attr->scale,
                                       .softcap = attr->softcap,
                                       .residual_scale = attr->residual_scale});
}

void qn_vk_plan_moe_matmul(struct qn_vk_plan *p)
{
    const struct quern_moe_matmul_attr *attr = &p->node->attr.moe_matmul;
    plan_product(p, &(struct product){.kernel = QN_VK_MOE_MATVEC,
                                      .weight = {p->node->in[1], p->node->in[2]},
                                      .bias = {p->node->in[3], attr->glu ? p->node->in[4] : QUERN_NONE},
                                      .n_weights = attr->n_weights,
                                      .act = attr->act,
                                      .x = p->node->in[0],
                                      .extra = p->node->in[5],
                                      .out = p->node->out[0],
                                      .n_used = (uint32_t)qn_vk_row(qn_vk_value(p, p->node->in[5])),
                                      .per_slot = attr->per_slot,
                                      .scale = 1});
}

static bool product_supported(const struct quern_graph *graph, const struct quern_node *node,
                              uint32_t n_weights, uint32_t first_bias, uint32_t n_bias,
                              enum qn_vk_kernel kernel)
{
    bool ok = true;
    for (uint32_t i = 0; i < n_weights; i++)
        ok = ok && qn_vk_has_kernel(graph, node->in[1 + i], kernel);
    for (uint32_t i = 0; i < n_bias; i++)
        ok = ok && qn_vk_is_float(graph, node->in[first_bias + i]);
    return ok;
}

static bool same_format(const struct quern_graph *graph, const struct quern_node *node)
{
    return quern_graph_value(graph, node->in[1])->format == quern_graph_value(graph, node->in[2])->format;
}

bool qn_vk_matmul_supported(const struct quern_graph *graph, const struct quern_node *node)
{
    const struct quern_matmul_attr *attr = &node->attr.matmul;
    return (!attr->glu || same_format(graph, node)) &&
           product_supported(graph, node, attr->n_weights, 4, 3, QN_VK_MATVEC);
}

bool qn_vk_moe_matmul_supported(const struct quern_graph *graph, const struct quern_node *node)
{
    const struct quern_moe_matmul_attr *attr = &node->attr.moe_matmul;
    return node->in[6] == QUERN_NONE && /* tables of slots */
           (!attr->glu || same_format(graph, node)) &&
           product_supported(graph, node, attr->n_weights, 3, 2, QN_VK_MOE_MATVEC);
}
