/* What each operation becomes: kernels, buffers, constants, workgroups. The graph has been checked by the
 * runtime; `qn_vk_op_supported` says what of it these kernels do not do. */
#include "drivers/vulkan/segment.h"

#include "drivers/common/rope.h"
#include "formats/formats.h"

#include <string.h>

enum {
    MATVEC_ROWS = 4,        /* of a workgroup: ROWS of matvec.comp */
    MATVEC_VARIANT_MAX = 3, /* columns of a workgroup: 8 at most */
    GROUP = 64,             /* invocations of the other kernels' workgroups */
    MAX_GROUPS = 65535,     /* of one dimension, on any device */
    MAX_EXPERTS = 1024,     /* of moe_route.comp */
    MAX_EXPERTS_USED = 64,
    MAX_HEAD = 512, /* of attention.comp */
    MAX_PAGE_TOKENS = 64,
};

/* ---------------------------------------------------------------- building */

struct planner {
    struct quern_device *device;
    const struct quern_segment *segment;
    struct quern_prepared *prepared;
    const struct quern_node *node;
    uint32_t id;
    struct quern_error *err;
    enum quern_status status;
    struct qn_vk_dispatch nowhere; /* what is written to after a failure */
};

static const struct quern_value *value_of(const struct planner *p, uint32_t id)
{
    return quern_graph_value(p->segment->graph, id);
}

static uint32_t word_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static uint32_t ceil_div(uint64_t n, uint32_t by)
{
    return (uint32_t)((n + by - 1) / by);
}

/* Elements of an activation for each token. */
static uint64_t row_of(const struct quern_value *value)
{
    uint64_t n = 1;
    for (int i = 0; i < 4; i++)
        n *= value->dim[i] > 0 ? (uint64_t)value->dim[i] : 1;
    return n;
}

static bool per_output(const struct quern_value *value)
{
    for (int i = 0; i < 4; i++)
        if (value->dim[i] == QUERN_DIM_OUTPUTS)
            return true;
    return false;
}

/* Most rows of a step. */
static uint32_t rows_of(const struct planner *p, const struct quern_value *value)
{
    return per_output(value) ? p->segment->max_outputs : p->segment->max_tokens;
}

/* A new dispatch; the step block is bound as its first buffer, and wherever nothing else is. */
static struct qn_vk_dispatch *add(struct planner *p, enum qn_vk_kernel kernel, uint64_t x, uint64_t y)
{
    struct quern_prepared *prepared = p->prepared;
    if (!p->status && !qn_grow(p->device->cb, &prepared->dispatches, &prepared->cap_dispatches,
                               prepared->n_dispatches + 1, sizeof *prepared->dispatches))
        p->status = qn_fail_memory(p->err, "a prepared segment");
    if (p->status)
        return &p->nowhere;
    struct qn_vk_dispatch *d = &prepared->dispatches[prepared->n_dispatches++];
    *d = (struct qn_vk_dispatch){.kernel = kernel, .node = p->id};
    uint32_t z = ceil_div(x, MAX_GROUPS / 2);
    d->groups[0] = z > 1 ? MAX_GROUPS / 2 : (uint32_t)x;
    d->groups[1] = (uint32_t)y;
    d->groups[2] = z;
    return d;
}

static void bind_bytes(struct planner *p, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id,
                       uint64_t offset, uint64_t bytes, bool written)
{
    const struct quern_binding *at = &p->segment->bindings[id];
    if (!p->status && (!at->buffer || offset + bytes > at->buffer->bytes))
        p->status = qn_fail(p->err, QUERN_ERR_PARAM, "value %u is not within a buffer", id);
    uint64_t range = p->device->facts.properties.limits.maxStorageBufferRange;
    if (!p->status && bytes > range)
        p->status = qn_fail(p->err, QUERN_ERR_UNSUPPORTED,
                            "value %u has %llu bytes, a kernel can reach %llu on this device", id,
                            (unsigned long long)bytes, (unsigned long long)range);
    if (!p->status)
        d->bound[slot] = (struct qn_vk_bound){.kind = QN_VK_BOUND_BUFFER,
                                              .written = written,
                                              .buffer = at->buffer,
                                              .offset = offset,
                                              .bytes = (bytes + 3) / 4 * 4};
}

/* Binds an activation, all of it. False where there is none. */
static bool bind_rows(struct planner *p, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id, bool written)
{
    if (id == QUERN_NONE)
        return false;
    const struct quern_value *value = value_of(p, id);
    bind_bytes(p, d, slot, id, p->segment->bindings[id].offset, row_of(value) * rows_of(p, value) * 4,
               written);
    return true;
}

/* Binds part of a weight; where it begins in what is bound, in bytes: bindings begin at aligned places only.
 */
static uint32_t bind_weight(struct planner *p, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id,
                            uint64_t first, uint64_t bytes)
{
    uint64_t align = p->device->facts.properties.limits.minStorageBufferOffsetAlignment;
    uint64_t at = p->segment->bindings[id].offset + first, from = at / align * align;
    bind_bytes(p, d, slot, id, from, at - from + bytes, false);
    return (uint32_t)(at - from);
}

/* Binds a vector of floats; the number of its first element, QUERN_NONE where there is none. */
static uint32_t bind_vector(struct planner *p, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id)
{
    if (id == QUERN_NONE)
        return QUERN_NONE;
    uint64_t bytes = row_of(value_of(p, id)) * 4;
    return bind_weight(p, d, slot, id, 0, bytes) / 4;
}

/* ---------------------------------------------------------------- operations */

static void plan_embed(struct planner *p)
{
    const struct quern_value *table = value_of(p, p->node->in[0]);
    uint64_t row_bytes = qn_format_row_bytes(table->format, (uint64_t)table->dim[0]);
    uint64_t n = (uint64_t)table->dim[1];
    uint64_t most = (p->device->facts.properties.limits.maxStorageBufferRange - 1024) / row_bytes;
    for (uint64_t first = 0; first < n && !p->status; first += most) {
        uint64_t count = n - first < most ? n - first : most;
        struct qn_vk_dispatch *d = add(p, QN_VK_EMBED + table->format,
                                       ceil_div((uint64_t)table->dim[0], 4 * GROUP), p->segment->max_tokens);
        uint32_t at = bind_weight(p, d, 1, p->node->in[0], first * row_bytes, count * row_bytes);
        bind_rows(p, d, 2, p->node->out[0], true);
        d->bound[3].kind = QN_VK_BOUND_GRIDS;
        const uint32_t words[] = {(uint32_t)table->dim[0], at,
                                  (uint32_t)row_bytes,     (uint32_t)first,
                                  (uint32_t)count,         word_of(p->node->attr.embed.scale)};
        memcpy(d->words, words, sizeof words);
    }
}

static void plan_norm(struct planner *p)
{
    const struct quern_norm_attr *attr = &p->node->attr.norm;
    const struct quern_value *x = value_of(p, p->node->in[0]);
    uint32_t n = (uint32_t)row_of(x);
    struct qn_vk_dispatch *d = add(p, QN_VK_NORM, n / attr->group, rows_of(p, x));
    bind_rows(p, d, 1, p->node->in[0], false);
    uint32_t weight = bind_vector(p, d, 2, p->node->in[1]), bias = bind_vector(p, d, 3, p->node->in[2]);
    bool addend = bind_rows(p, d, 4, p->node->in[3], false);
    bind_rows(p, d, 5, p->node->out[0], true);
    bind_rows(p, d, 6, p->node->out[addend ? 1 : 0], true);
    const uint32_t words[] = {n,
                              attr->group,
                              weight,
                              bias,
                              addend,
                              attr->kind == QUERN_NORM_LAYER,
                              per_output(x),
                              word_of(attr->eps)};
    memcpy(d->words, words, sizeof words);
}

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
static void plan_product(struct planner *p, const struct product *product)
{
    const struct quern_value *w = value_of(p, product->weight[0]);
    const struct quern_value *x = value_of(p, product->x);
    bool moe = product->kernel == QN_VK_MOE_MATVEC;
    uint64_t row_bytes = qn_format_row_bytes(w->format, (uint64_t)w->dim[0]), n = (uint64_t)w->dim[1];
    uint64_t unit = moe ? row_bytes * n : row_bytes, n_units = moe ? (uint64_t)w->dim[2] : n;
    uint64_t most = (p->device->facts.properties.limits.maxStorageBufferRange - 1024) / unit;
    if (most == 0) {
        p->status = qn_fail(p->err, QUERN_ERR_UNSUPPORTED,
                            "a part of %llu bytes is more than a kernel can reach", (unsigned long long)unit);
        return;
    }
    uint32_t variant = 0; /* a workgroup has as many columns as the step, up to a number */
    while (!moe && variant < MATVEC_VARIANT_MAX && 1u << variant < rows_of(p, x))
        variant++;
    uint64_t columns =
        moe ? (uint64_t)rows_of(p, x) * product->n_used : ceil_div(rows_of(p, x), 1u << variant);
    for (uint64_t first = 0; first < n_units && !p->status; first += most) {
        uint64_t count = n_units - first < most ? n_units - first : most;
        struct qn_vk_dispatch *d =
            add(p, product->kernel + w->format, ceil_div(moe ? n : count, MATVEC_ROWS), columns);
        d->variant = variant;
        uint32_t at[2] = {0, 0};
        for (uint32_t i = 0; i < product->n_weights; i++)
            at[i] = bind_weight(p, d, 1 + i, product->weight[i], first * unit, count * unit);
        bind_rows(p, d, 3, product->x, false);
        uint32_t bias = bind_vector(p, d, 4, product->bias[0]),
                 bias1 = bind_vector(p, d, 5, product->bias[1]);
        bool extra = bind_rows(p, d, 6, product->extra, false);
        bind_rows(p, d, 7, product->out, true);
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
                                  per_output(x),
                                  product->n_used,
                                  product->per_slot,
                                  extra && !moe,
                                  word_of(product->scale),
                                  word_of(product->softcap),
                                  word_of(product->residual_scale)};
        memcpy(d->words, words, sizeof words);
    }
}

static void plan_matmul(struct planner *p)
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

static void plan_moe_matmul(struct planner *p)
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
                                      .n_used = (uint32_t)row_of(value_of(p, p->node->in[5])),
                                      .per_slot = attr->per_slot,
                                      .scale = 1});
}

/* Turns a position of each pair, in two floats that add up to more digits than one has. */
static void add_rates(struct planner *p, const struct quern_rope_attr *attr, uint32_t factors)
{
    struct quern_prepared *prepared = p->prepared;
    size_t n = attr->n_dims;
    if (!p->status && !qn_grow(p->device->cb, &prepared->constants, &prepared->cap_constants,
                               prepared->n_constants + n, sizeof *prepared->constants))
        p->status = qn_fail_memory(p->err, "a prepared segment");
    if (p->status)
        return;
    float *rate = prepared->constants + prepared->n_constants;
    for (uint32_t i = 0; i < attr->n_dims / 2; i++) {
        float factor = 1;
        if (factors != QUERN_NONE) {
            const struct quern_binding *at = &p->segment->bindings[factors];
            memcpy(&factor, at->buffer->map + at->offset + 4 * (size_t)i, sizeof factor);
        }
        double turns = qn_rope_step(attr, i) / factor / 6.283185307179586;
        rate[2 * i] = (float)turns;
        rate[2 * i + 1] = (float)(turns - rate[2 * i]);
    }
    prepared->n_constants += n;
}

static void plan_rope(struct planner *p)
{
    const struct quern_rope_attr *attr = &p->node->attr.rope;
    uint64_t align = p->device->facts.properties.limits.minStorageBufferOffsetAlignment;
    uint32_t n_head = (uint32_t)(row_of(value_of(p, p->node->in[0])) / attr->head_dim);
    while (!p->status && p->prepared->n_constants * 4 % align != 0)
        if (qn_grow(p->device->cb, &p->prepared->constants, &p->prepared->cap_constants,
                    p->prepared->n_constants + 1, sizeof *p->prepared->constants))
            p->prepared->constants[p->prepared->n_constants++] = 0;
        else
            p->status = qn_fail_memory(p->err, "a prepared segment");
    struct qn_vk_dispatch *d =
        add(p, QN_VK_ROPE, ceil_div((uint64_t)n_head * ((attr->head_dim + 1) / 2), GROUP),
            p->segment->max_tokens);
    bind_rows(p, d, 1, p->node->in[0], false);
    d->bound[2] = (struct qn_vk_bound){.kind = QN_VK_BOUND_CONSTANTS,
                                       .offset = p->prepared->n_constants * 4,
                                       .bytes = (uint64_t)attr->n_dims * 4};
    bind_rows(p, d, 3, p->node->out[0], true);
    const struct quern_binding *from = &p->segment->bindings[p->node->in[0]];
    const struct quern_binding *to = &p->segment->bindings[p->node->out[0]];
    const uint32_t words[] = {attr->head_dim,
                              attr->n_dims,
                              n_head,
                              attr->kind == QUERN_ROPE_HALVES,
                              from->buffer != to->buffer || from->offset != to->offset,
                              word_of(attr->mscale)};
    memcpy(d->words, words, sizeof words);
    add_rates(p, attr, p->node->in[1]);
}

/* The pools of the KV layer, as the kernel's buffer `slot`. */
static const struct quern_kv_binding *bind_pools(struct planner *p, struct qn_vk_dispatch *d, uint32_t slot,
                                                 uint32_t kv_layer, bool written)
{
    const struct quern_kv_binding *at = &p->segment->kv[kv_layer];
    d->bound[slot] = (struct qn_vk_bound){.kind = QN_VK_BOUND_POOLS, .written = written, .home = at->home};
    if (!p->status &&
        (at->page_tokens > MAX_PAGE_TOKENS || at->home >= QN_LEN(p->prepared->pools) || at->page_bytes % 4 ||
         at->k_offset % 4 || at->v_offset % 4 ||
         at->page_bytes * at->pages_per_pool > p->device->facts.properties.limits.maxStorageBufferRange))
        p->status =
            qn_fail(p->err, QUERN_ERR_UNSUPPORTED, "KV layer %u: pools of %llu bytes in pages of %u tokens",
                    kv_layer, (unsigned long long)(at->page_bytes * at->pages_per_pool), at->page_tokens);
    return at;
}

static void plan_kv_store(struct planner *p)
{
    uint32_t layer = p->node->attr.kv_store.kv_layer;
    const struct quern_kv_layer *kv = quern_graph_kv(p->segment->graph, layer);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t head_dim = i == 0 ? kv->head_dim_k : kv->head_dim_v;
        struct qn_vk_dispatch *d =
            add(p, QN_VK_KV_STORE, ceil_div((uint64_t)kv->n_head_kv * ceil_div(head_dim, 32), GROUP),
                p->segment->max_tokens);
        bind_rows(p, d, 1, p->node->in[i], false);
        const struct quern_kv_binding *at = bind_pools(p, d, 2, layer, true);
        const uint32_t words[] = {head_dim,
                                  kv->n_head_kv,
                                  i == 0 ? at->k_format : at->v_format,
                                  at->group,
                                  at->pages_per_pool,
                                  (uint32_t)at->page_bytes,
                                  (uint32_t)(i == 0 ? at->k_offset : at->v_offset)};
        memcpy(d->words, words, sizeof words);
    }
}

static void plan_attention(struct planner *p)
{
    const struct quern_attention_attr *attr = &p->node->attr.attention;
    const struct quern_kv_layer *kv = quern_graph_kv(p->segment->graph, attr->kv_layer);
    struct qn_vk_dispatch *d = add(p, QN_VK_ATTENTION, attr->n_head, p->segment->max_tokens);
    bind_rows(p, d, 1, p->node->in[0], false);
    uint32_t sinks = bind_vector(p, d, 2, p->node->in[1]);
    bind_rows(p, d, 3, p->node->out[0], true);
    const struct quern_kv_binding *at = bind_pools(p, d, 4, attr->kv_layer, false);
    const uint32_t words[] = {kv->head_dim_k,
                              kv->head_dim_v,
                              attr->n_head,
                              kv->n_head_kv,
                              at->k_format,
                              at->v_format,
                              at->group,
                              kv->window,
                              at->pages_per_pool,
                              (uint32_t)at->page_bytes,
                              (uint32_t)at->k_offset,
                              (uint32_t)at->v_offset,
                              sinks,
                              word_of(attr->scale),
                              word_of(attr->softcap)};
    memcpy(d->words, words, sizeof words);
}

static void plan_elementwise(struct planner *p)
{
    const struct quern_value *y = value_of(p, p->node->out[0]);
    uint32_t n = (uint32_t)row_of(y), act = 0, split = 0;
    enum qn_vk_kernel kernel = QN_VK_ROWS;
    float scale = 1;
    if (p->node->op == QUERN_OP_ADD) {
        kernel = QN_VK_ADD;
        scale = p->node->attr.add.scale;
    } else if (p->node->op == QUERN_OP_ACTIVATION) {
        kernel = QN_VK_ACTIVATION;
        act = p->node->attr.activation.act;
        split = p->node->attr.activation.split;
    }
    struct qn_vk_dispatch *d = add(p, kernel, ceil_div(n, GROUP), rows_of(p, y));
    bind_rows(p, d, 1, p->node->in[0], false);
    bool has_b = kernel != QN_VK_ROWS && bind_rows(p, d, 2, p->node->in[1], false);
    bind_rows(p, d, 3, p->node->out[0], true);
    const uint32_t words[] = {n, act, has_b, split, per_output(y), word_of(scale)};
    memcpy(d->words, words, sizeof words);
}

static void plan_moe_route(struct planner *p)
{
    const struct quern_moe_route_attr *attr = &p->node->attr.moe_route;
    struct qn_vk_dispatch *d = add(p, QN_VK_MOE_ROUTE, p->segment->max_tokens, 1);
    bind_rows(p, d, 1, p->node->in[0], false);
    uint32_t bias = bind_vector(p, d, 2, p->node->in[1]);
    bind_rows(p, d, 3, p->node->out[0], true);
    bind_rows(p, d, 4, p->node->out[1], true);
    const uint32_t words[] = {attr->n_expert,  attr->n_used, attr->gating,
                              attr->normalise, bias,         word_of(attr->scale)};
    memcpy(d->words, words, sizeof words);
}

static void plan_moe_combine(struct planner *p)
{
    const struct quern_value *y = value_of(p, p->node->out[0]);
    uint32_t n = (uint32_t)row_of(y);
    struct qn_vk_dispatch *d = add(p, QN_VK_MOE_COMBINE, ceil_div(n, GROUP), p->segment->max_tokens);
    bool has[3];
    bind_rows(p, d, 1, p->node->in[0], false);
    bind_rows(p, d, 2, p->node->in[1], false);
    for (uint32_t i = 0; i < 3; i++)
        has[i] = bind_rows(p, d, 3 + i, p->node->in[2 + i], false);
    bind_rows(p, d, 6, p->node->out[0], true);
    const uint32_t words[] = {n, (uint32_t)row_of(value_of(p, p->node->in[1])), has[0], has[1], has[2]};
    memcpy(d->words, words, sizeof words);
}

static void (*const plans[QUERN_OP_END])(struct planner *p) = {
    [QUERN_OP_EMBED] = plan_embed,
    [QUERN_OP_NORM] = plan_norm,
    [QUERN_OP_MATMUL] = plan_matmul,
    [QUERN_OP_ROPE] = plan_rope,
    [QUERN_OP_KV_STORE] = plan_kv_store,
    [QUERN_OP_ATTENTION] = plan_attention,
    [QUERN_OP_ACTIVATION] = plan_elementwise,
    [QUERN_OP_ADD] = plan_elementwise,
    [QUERN_OP_ROWS] = plan_elementwise,
    [QUERN_OP_MOE_ROUTE] = plan_moe_route,
    [QUERN_OP_MOE_MATMUL] = plan_moe_matmul,
    [QUERN_OP_MOE_COMBINE] = plan_moe_combine,
};

enum quern_status qn_vk_ops_plan(struct quern_device *device, const struct quern_segment *segment,
                                 struct quern_prepared *prepared, struct quern_error *err)
{
    struct planner p = {.device = device, .segment = segment, .prepared = prepared, .err = err};
    for (uint32_t i = 0; i < segment->n_nodes && !p.status; i++) {
        p.id = segment->nodes[i];
        p.node = quern_graph_node(segment->graph, p.id);
        if (qn_vk_op_supported(device, segment->graph, p.id))
            plans[p.node->op](&p);
        else
            p.status = qn_fail(err, QUERN_ERR_UNSUPPORTED, "node %u (operation %u) is not one that it runs",
                               p.id, p.node->op);
    }
    return p.status;
}

/* ---------------------------------------------------------------- what there is */

static bool is_float(const struct quern_graph *graph, uint32_t id)
{
    return id == QUERN_NONE || quern_graph_value(graph, id)->format == QUERN_F32;
}

static bool has_kernel(const struct quern_graph *graph, uint32_t id, enum qn_vk_kernel first)
{
    uint32_t format = quern_graph_value(graph, id)->format;
    return format < QUERN_FORMAT_END && qn_vk_module_find(first + format);
}

static bool product_supported(const struct quern_graph *graph, const struct quern_node *node,
                              uint32_t n_weights, uint32_t first_bias, uint32_t n_bias,
                              enum qn_vk_kernel kernel)
{
    bool ok = true;
    for (uint32_t i = 0; i < n_weights; i++)
        ok = ok && has_kernel(graph, node->in[1 + i], kernel);
    for (uint32_t i = 0; i < n_bias; i++)
        ok = ok && is_float(graph, node->in[first_bias + i]);
    return ok;
}

bool qn_vk_op_supported(const struct quern_device *device, const struct quern_graph *graph, uint32_t id)
{
    const struct quern_node *node = quern_graph_node(graph, id);
    const struct quern_kv_layer *kv;
    uint32_t gate;
    switch (node->op) {
    case QUERN_OP_EMBED:
        return has_kernel(graph, node->in[0], QN_VK_EMBED);
    case QUERN_OP_NORM:
        return is_float(graph, node->in[1]) && is_float(graph, node->in[2]);
    case QUERN_OP_MATMUL:
        gate = node->attr.matmul.glu ? 1 : 0;
        return (!gate || quern_graph_value(graph, node->in[1])->format ==
                             quern_graph_value(graph, node->in[2])->format) &&
               product_supported(graph, node, node->attr.matmul.n_weights, 4, 3, QN_VK_MATVEC);
    case QUERN_OP_MOE_MATMUL:
        gate = node->attr.moe_matmul.glu ? 1 : 0;
        return node->in[6] == QUERN_NONE && /* tables of slots */
               (!gate || quern_graph_value(graph, node->in[1])->format ==
                             quern_graph_value(graph, node->in[2])->format) &&
               product_supported(graph, node, node->attr.moe_matmul.n_weights, 3, 2, QN_VK_MOE_MATVEC);
    case QUERN_OP_MOE_ROUTE:
        return node->attr.moe_route.n_expert <= MAX_EXPERTS &&
               node->attr.moe_route.n_used <= MAX_EXPERTS_USED && is_float(graph, node->in[1]);
    case QUERN_OP_ATTENTION:
        kv = quern_graph_kv(graph, node->attr.attention.kv_layer);
        return kv->head_dim_k <= MAX_HEAD && kv->head_dim_v <= MAX_HEAD && is_float(graph, node->in[1]);
    case QUERN_OP_ROPE:
        return is_float(graph, node->in[1]);
    case QUERN_OP_KV_STORE:
    case QUERN_OP_ACTIVATION:
    case QUERN_OP_ADD:
    case QUERN_OP_ROWS:
    case QUERN_OP_MOE_COMBINE:
        return true;
    default:
        return false;
    }
}
