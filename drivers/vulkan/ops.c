/* What each operation becomes: kernels, buffers, constants, workgroups. The graph has been checked by the
 * runtime; `qn_vk_op_supported` says what of it these kernels do not do. */
#include "drivers/vulkan/plan.h"

#include <string.h>

enum {
    MAX_GROUPS = 65535, /* of one dimension, on any device */
    MAX_EXPERTS = 1024, /* of moe_route.comp */
    MAX_EXPERTS_USED = 64,
};

/* ---------------------------------------------------------------- building */

const struct quern_value *qn_vk_value(const struct qn_vk_plan *p, uint32_t id)
{
    return quern_graph_value(p->segment->graph, id);
}

uint32_t qn_vk_word(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

uint64_t qn_vk_row(const struct quern_value *value)
{
    uint64_t n = 1;
    for (int i = 0; i < 4; i++)
        n *= value->dim[i] > 0 ? (uint64_t)value->dim[i] : 1;
    return n;
}

bool qn_vk_per_output(const struct quern_value *value)
{
    for (int i = 0; i < 4; i++)
        if (value->dim[i] == QUERN_DIM_OUTPUTS)
            return true;
    return false;
}

uint32_t qn_vk_n_readers(const struct qn_vk_plan *p, uint32_t id)
{
    const struct quern_graph *graph = p->segment->graph;
    uint32_t n = quern_graph_value(graph, id)->kind == QUERN_VALUE_OUTPUT;
    for (uint32_t i = 0; i < graph->n_nodes; i++)
        for (uint32_t j = 0; j < QUERN_MAX_IN; j++)
            n += quern_graph_node(graph, i)->in[j] == id;
    return n;
}

uint32_t qn_vk_rows(const struct qn_vk_plan *p, const struct quern_value *value)
{
    return qn_vk_per_output(value) ? p->segment->max_outputs : p->segment->max_tokens;
}

struct qn_vk_dispatch *qn_vk_add(struct qn_vk_plan *p, enum qn_vk_kernel kernel, uint64_t x, uint64_t y)
{
    struct quern_prepared *prepared = p->prepared;
    if (!p->status && !qn_grow(p->device->cb, &prepared->dispatches, &prepared->cap_dispatches,
                               prepared->n_dispatches + 1, sizeof *prepared->dispatches))
        p->status = qn_fail_memory(p->err, "a prepared segment");
    if (p->status)
        return &p->nowhere;
    struct qn_vk_dispatch *d = &prepared->dispatches[prepared->n_dispatches++];
    *d = (struct qn_vk_dispatch){.kernel = kernel, .node = p->id};
    uint32_t z = qn_vk_ceil_div(x, MAX_GROUPS / 2);
    d->groups[0] = z > 1 ? MAX_GROUPS / 2 : (uint32_t)x;
    d->groups[1] = (uint32_t)y;
    d->groups[2] = z;
    d->by = z > 1 ? 2 : 0;
    return d;
}

/* Binds bytes of a value from byte `first`, or from up to `align` - 1 bytes before; how many these are. */
static uint32_t bind_bytes(struct qn_vk_plan *p, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id,
                           uint64_t first, uint64_t bytes, uint64_t align, bool written)
{
    const struct quern_binding *at = &p->segment->bindings[id];
    uint64_t offset = at->offset + first, range = p->device->facts.properties.limits.maxStorageBufferRange;
    if (!p->status && (!at->buffer || offset + bytes > at->buffer->bytes))
        p->status = qn_fail(p->err, QUERN_ERR_PARAM, "value %u is not within a buffer", id);
    if (p->status)
        return 0;
    const struct quern_buffer *part = qn_vk_buffer_part(at->buffer, &offset);
    uint64_t before = offset % align;
    bytes += before;
    offset -= before;
    if (bytes > range || offset + bytes > part->bytes) {
        p->status = qn_fail(
            p->err, QUERN_ERR_UNSUPPORTED, "value %u has %llu bytes, a kernel can reach %llu on this device",
            id, (unsigned long long)bytes, (unsigned long long)(bytes > range ? range : part->bytes));
        return 0;
    }
    d->bound[slot] = (struct qn_vk_bound){.kind = QN_VK_BOUND_BUFFER,
                                          .written = written,
                                          .buffer = part,
                                          .offset = offset,
                                          .bytes = (bytes + 3) / 4 * 4};
    return (uint32_t)before;
}

bool qn_vk_bind_rows(struct qn_vk_plan *p, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id, bool written)
{
    if (id == QUERN_NONE)
        return false;
    const struct quern_value *value = qn_vk_value(p, id);
    bind_bytes(p, d, slot, id, 0, qn_vk_row(value) * qn_vk_rows(p, value) * 4, 1, written);
    return true;
}

uint32_t qn_vk_bind_weight(struct qn_vk_plan *p, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id,
                           uint64_t first, uint64_t bytes)
{
    uint64_t align = p->device->facts.properties.limits.minStorageBufferOffsetAlignment;
    return bind_bytes(p, d, slot, id, first, bytes, align, false);
}

uint32_t qn_vk_bind_vector(struct qn_vk_plan *p, struct qn_vk_dispatch *d, uint32_t slot, uint32_t id)
{
    if (id == QUERN_NONE)
        return QUERN_NONE;
    uint64_t bytes = qn_vk_row(qn_vk_value(p, id)) * 4;
    return qn_vk_bind_weight(p, d, slot, id, 0, bytes) / 4;
}

static uint64_t reach_of(const struct qn_vk_plan *p, uint32_t id, uint64_t first)
{
    const struct quern_binding *at = &p->segment->bindings[id];
    uint64_t offset = at->offset + first;
    uint64_t reach = p->device->facts.properties.limits.maxStorageBufferRange - 1024;
    if (!at->buffer || offset >= at->buffer->bytes)
        return reach; /* which binding it will refuse */
    const struct quern_buffer *part = qn_vk_buffer_part(at->buffer, &offset);
    return part->bytes - offset < reach ? part->bytes - offset : reach;
}

uint64_t qn_vk_take_units(struct qn_vk_plan *p, uint32_t id, uint32_t other, uint64_t unit, uint64_t first,
                          uint64_t n)
{
    uint64_t reach = reach_of(p, id, first * unit);
    if (other != QUERN_NONE && reach_of(p, other, first * unit) < reach)
        reach = reach_of(p, other, first * unit);
    if (!p->status && reach < unit)
        p->status = qn_fail(p->err, QUERN_ERR_UNSUPPORTED,
                            "value %u has parts of %llu bytes, a kernel can reach %llu on this device", id,
                            (unsigned long long)unit, (unsigned long long)reach);
    return p->status || n - first < reach / unit ? n - first : reach / unit;
}

/* From the first byte of the values to the last, if they are in one buffer; 0 bytes: there is none. */
static uint64_t span_of(const struct qn_vk_plan *p, const uint32_t *ids, uint32_t n, uint32_t *lowest)
{
    const struct quern_binding *all = p->segment->bindings;
    uint64_t end = 0;
    *lowest = QUERN_NONE;
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] == QUERN_NONE)
            continue;
        if (*lowest == QUERN_NONE || all[ids[i]].offset < all[*lowest].offset)
            *lowest = ids[i];
        if (all[ids[i]].buffer != all[*lowest].buffer)
            return UINT64_MAX;
        end = all[ids[i]].offset + all[ids[i]].bytes > end ? all[ids[i]].offset + all[ids[i]].bytes : end;
    }
    return *lowest == QUERN_NONE ? 0 : end - all[*lowest].offset;
}

bool qn_vk_lie_together(const struct qn_vk_plan *p, const uint32_t *ids, uint32_t n)
{
    uint32_t lowest;
    uint64_t bytes = span_of(p, ids, n, &lowest);
    return lowest == QUERN_NONE || bytes <= reach_of(p, lowest, 0);
}

void qn_vk_bind_together(struct qn_vk_plan *p, struct qn_vk_dispatch *d, uint32_t slot, const uint32_t *ids,
                         uint32_t n, uint32_t unit, uint32_t *at)
{
    uint32_t lowest;
    uint64_t bytes = span_of(p, ids, n, &lowest);
    uint64_t before = lowest == QUERN_NONE ? 0 : qn_vk_bind_weight(p, d, slot, lowest, 0, bytes);
    for (uint32_t i = 0; i < n; i++)
        at[i] = ids[i] == QUERN_NONE ? QUERN_NONE
                                     : (uint32_t)((before + p->segment->bindings[ids[i]].offset -
                                                   p->segment->bindings[lowest].offset) /
                                                  unit);
}

static uint64_t scratch_end(const struct qn_vk_bound *bound)
{
    return bound->offset + (bound->bytes + 255) / 256 * 256;
}

struct qn_vk_bound qn_vk_scratch(struct qn_vk_plan *p, uint64_t bytes, bool written)
{
    struct qn_vk_bound bound = {
        .kind = QN_VK_BOUND_SCRATCH, .written = written, .offset = p->scratch, .bytes = bytes};
    p->scratch = scratch_end(&bound);
    if (p->scratch > p->prepared->scratch_bytes)
        p->prepared->scratch_bytes = p->scratch;
    return bound;
}

bool qn_vk_want_coopmat(const struct qn_vk_plan *p)
{
    return (qn_vk_set(&p->device->settings, QN_VK_SET_COOPMAT_SOFTWARE) == 1 ||
            p->device->facts.type != QUERN_DEVICE_SOFTWARE) &&
           !p->segment->exact;
}

bool qn_vk_use_coopmat(const struct qn_vk_plan *p)
{
    const struct qn_vk_facts *facts = &p->device->facts;
    const VkPhysicalDeviceLimits *limits = &facts->properties.limits;
    return qn_vk_want_coopmat(p) && qn_vk_has_coopmat(facts) && facts->full_subgroup > 0 &&
           QN_VK_COOPMAT_SUBGROUPS * facts->full_subgroup <= limits->maxComputeWorkGroupInvocations &&
           limits->maxComputeSharedMemorySize >= 32768;
}

bool qn_vk_rounds_fit(const struct qn_vk_plan *p, uint64_t rounds)
{
    uint64_t max = p->device->facts.max_rounds;
    return max == 0 || rounds <= max;
}

void qn_vk_need_rounds(struct qn_vk_plan *p, uint64_t rounds)
{
    if (!p->status && !qn_vk_rounds_fit(p, rounds))
        p->status =
            qn_fail(p->err, QUERN_ERR_UNSUPPORTED,
                    "node %u: its loops go round up to %llu times, this device ends them after %llu", p->id,
                    (unsigned long long)rounds, (unsigned long long)p->device->facts.max_rounds);
}

/* ---------------------------------------------------------------- operations */

static void plan_embed(struct qn_vk_plan *p)
{
    const struct quern_value *table = qn_vk_value(p, p->node->in[0]);
    uint64_t row_bytes = qn_format_row_bytes(table->format, (uint64_t)table->dim[0]);
    uint64_t n = (uint64_t)table->dim[1], count;
    for (uint64_t first = 0; first < n && !p->status; first += count) {
        count = qn_vk_take_units(p, p->node->in[0], QUERN_NONE, row_bytes, first, n);
        struct qn_vk_dispatch *d =
            qn_vk_add(p, QN_VK_EMBED + table->format,
                      qn_vk_ceil_div((uint64_t)table->dim[0], 4 * QN_VK_GROUP), p->segment->max_tokens);
        uint32_t at = qn_vk_bind_weight(p, d, 1, p->node->in[0], first * row_bytes, count * row_bytes);
        qn_vk_bind_rows(p, d, 2, p->node->out[0], true);
        d->bound[3].kind = QN_VK_BOUND_GRIDS;
        const uint32_t words[] = {(uint32_t)table->dim[0], at,
                                  (uint32_t)row_bytes,     (uint32_t)first,
                                  (uint32_t)count,         qn_vk_word(p->node->attr.embed.scale)};
        memcpy(d->words, words, sizeof words);
    }
}

/* Whether a norm can store its result so: in 8 bits by blocks, in half floats by rows. */
static bool can_store(enum qn_vk_form form, const struct quern_norm_attr *attr, uint64_t row)
{
    return form == QN_VK_8_BITS ? attr->group % 32 == 0
                                : form == QN_VK_HALVES && attr->group == row && row % 4 == 0;
}

/* Makes room for the norm's result as products of the segment read it, where they round: the first form that
 * one does. Whether all that reads it reads that. One such result is kept at a time. */
static bool keep_rounded(struct qn_vk_plan *p)
{
    uint32_t id = p->node->out[0], n = 0;
    const struct quern_value *y = qn_vk_value(p, id);
    uint64_t row = qn_vk_row(y);
    if (p->kept.id != QUERN_NONE)
        return false;
    for (uint32_t i = p->number + 1; i < p->segment->n_nodes; i++) {
        enum qn_vk_form form = qn_vk_reads(p, quern_graph_node(p->segment->graph, p->segment->nodes[i]), id);
        if (!can_store(form, &p->node->attr.norm, row) || (n > 0 && form != p->kept.form))
            continue;
        p->kept.form = form;
        p->kept_until = i;
        n++;
    }
    if (n == 0)
        return false;
    p->kept.id = id;
    p->kept.at = qn_vk_scratch(p, qn_vk_form_words(p->kept.form, row) * 4 * qn_vk_rows(p, y), true);
    return n == qn_vk_n_readers(p, id);
}

static void plan_norm(struct qn_vk_plan *p)
{
    const struct quern_norm_attr *attr = &p->node->attr.norm;
    const struct quern_value *x = qn_vk_value(p, p->node->in[0]);
    uint32_t n = (uint32_t)qn_vk_row(x);
    struct qn_vk_dispatch *d = qn_vk_add(p, QN_VK_NORM, n / attr->group, qn_vk_rows(p, x));
    qn_vk_bind_rows(p, d, 1, p->node->in[0], false);
    uint32_t weight = qn_vk_bind_vector(p, d, 2, p->node->in[1]),
             bias = qn_vk_bind_vector(p, d, 3, p->node->in[2]);
    bool addend = qn_vk_bind_rows(p, d, 4, p->node->in[3], false);
    qn_vk_bind_rows(p, d, 5, p->node->out[0], true);
    qn_vk_bind_rows(p, d, 6, p->node->out[addend ? 1 : 0], true);
    static const uint32_t at_once[] = {[QN_VK_FLOATS] = 1, [QN_VK_8_BITS] = 32, [QN_VK_HALVES] = 2};
    bool only_rounded = keep_rounded(p), rounded = p->kept.id == p->node->out[0];
    if (rounded)
        d->bound[7] = p->kept.at;
    else
        qn_vk_bind_rows(p, d, 7, p->node->out[0], true);
    p->kept.at.written = false;
    d->constants[0] = at_once[rounded ? p->kept.form : QN_VK_FLOATS];
    const uint32_t words[] = {n,
                              attr->group,
                              weight,
                              bias,
                              addend,
                              attr->kind == QUERN_NORM_LAYER,
                              qn_vk_per_output(x),
                              !only_rounded,
                              qn_vk_word(attr->eps)};
    memcpy(d->words, words, sizeof words);
}

static void plan_elementwise(struct qn_vk_plan *p)
{
    const struct quern_value *y = qn_vk_value(p, p->node->out[0]);
    uint32_t n = (uint32_t)qn_vk_row(y), act = 0, split = 0;
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
    struct qn_vk_dispatch *d = qn_vk_add(p, kernel, qn_vk_ceil_div(n, QN_VK_GROUP), qn_vk_rows(p, y));
    qn_vk_bind_rows(p, d, 1, p->node->in[0], false);
    bool has_b = kernel != QN_VK_ROWS && qn_vk_bind_rows(p, d, 2, p->node->in[1], false);
    qn_vk_bind_rows(p, d, 3, p->node->out[0], true);
    const uint32_t words[] = {n, act, has_b, split, qn_vk_per_output(y), qn_vk_word(scale)};
    memcpy(d->words, words, sizeof words);
}

static void plan_moe_route(struct qn_vk_plan *p)
{
    const struct quern_moe_route_attr *attr = &p->node->attr.moe_route;
    struct qn_vk_dispatch *d = qn_vk_add(p, QN_VK_MOE_ROUTE, p->segment->max_tokens, 1);
    qn_vk_bind_rows(p, d, 1, p->node->in[0], false);
    uint32_t bias = qn_vk_bind_vector(p, d, 2, p->node->in[1]);
    qn_vk_bind_rows(p, d, 3, p->node->out[0], true);
    qn_vk_bind_rows(p, d, 4, p->node->out[1], true);
    const uint32_t words[] = {attr->n_expert,  attr->n_used, attr->gating,
                              attr->normalise, bias,         qn_vk_word(attr->scale)};
    memcpy(d->words, words, sizeof words);
}

static void plan_moe_combine(struct qn_vk_plan *p)
{
    const struct quern_value *y = qn_vk_value(p, p->node->out[0]);
    uint32_t n = (uint32_t)qn_vk_row(y);
    struct qn_vk_dispatch *d =
        qn_vk_add(p, QN_VK_MOE_COMBINE, qn_vk_ceil_div(n, QN_VK_GROUP), p->segment->max_tokens);
    bool has[3];
    qn_vk_bind_rows(p, d, 1, p->node->in[0], false);
    qn_vk_bind_rows(p, d, 2, p->node->in[1], false);
    for (uint32_t i = 0; i < 3; i++)
        has[i] = qn_vk_bind_rows(p, d, 3 + i, p->node->in[2 + i], false);
    qn_vk_bind_rows(p, d, 6, p->node->out[0], true);
    const uint32_t words[] = {n, (uint32_t)qn_vk_row(qn_vk_value(p, p->node->in[1])), has[0], has[1], has[2]};
    memcpy(d->words, words, sizeof words);
}

static void plan_select(struct qn_vk_plan *p)
{
    enum { BLOCK = 2048 }; /* as in select.comp */
    const struct quern_value *x = qn_vk_value(p, p->node->in[0]);
    uint32_t n = (uint32_t)qn_vk_row(x), k = p->node->attr.select.k, blocks = qn_vk_ceil_div(n, BLOCK);
    uint32_t rows = qn_vk_rows(p, x) < QUERN_MAX_SELECT_ROWS ? qn_vk_rows(p, x) : QUERN_MAX_SELECT_ROWS;
    /* a processor runs invocations one after another: fewer of them meet sooner */
    uint32_t workgroup = p->device->facts.type == QUERN_DEVICE_SOFTWARE ? 32 : 128;
    struct qn_vk_bound found = qn_vk_scratch(p, (uint64_t)rows * blocks * k * 8, true);
    for (int merge = 0; merge < 2; merge++) {
        struct qn_vk_dispatch *d =
            qn_vk_add(p, merge ? QN_VK_SELECT_MERGE : QN_VK_SELECT, merge ? 1 : blocks, rows);
        uint32_t candidates = merge ? blocks * k : BLOCK;
        qn_vk_need_rounds(p, k * (uint64_t)(qn_vk_ceil_div(candidates, workgroup) + 10));
        d->constants[0] = workgroup;
        qn_vk_bind_rows(p, d, 1, p->node->in[0], false);
        found.written = !merge;
        d->bound[2] = found;
        if (merge)
            qn_vk_bind_rows(p, d, 3, p->node->out[0], true);
        const uint32_t words[] = {n, k};
        memcpy(d->words, words, sizeof words);
    }
}

static void (*const plans[QUERN_OP_END])(struct qn_vk_plan *p) = {
    [QUERN_OP_EMBED] = plan_embed,
    [QUERN_OP_NORM] = plan_norm,
    [QUERN_OP_MATMUL] = qn_vk_plan_matmul,
    [QUERN_OP_ROPE] = qn_vk_plan_rope,
    [QUERN_OP_KV_STORE] = qn_vk_plan_kv_store,
    [QUERN_OP_ATTENTION] = qn_vk_plan_attention,
    [QUERN_OP_ACTIVATION] = plan_elementwise,
    [QUERN_OP_ADD] = plan_elementwise,
    [QUERN_OP_ROWS] = plan_elementwise,
    [QUERN_OP_MOE_ROUTE] = plan_moe_route,
    [QUERN_OP_MOE_MATMUL] = qn_vk_plan_moe_matmul,
    [QUERN_OP_MOE_COMBINE] = plan_moe_combine,
    [QUERN_OP_SELECT] = plan_select,
};

enum quern_status qn_vk_ops_plan(struct quern_device *device, const struct quern_segment *segment,
                                 struct quern_prepared *prepared, struct quern_error *err)
{
    struct qn_vk_plan p = {
        .device = device, .segment = segment, .prepared = prepared, .kept.id = QUERN_NONE, .err = err};
    for (uint32_t i = 0, n; i < segment->n_nodes && !p.status; i += n > 1 ? n : 1) {
        p.id = segment->nodes[i];
        p.number = i;
        p.own.id = QUERN_NONE;
        if (i > p.kept_until)
            p.kept.id = QUERN_NONE;
        p.scratch = p.kept.id != QUERN_NONE ? scratch_end(&p.kept.at) : 0;
        p.node = quern_graph_node(segment->graph, p.id);
        n = qn_vk_plan_store_with(&p, i);
        if (n == 0 && qn_vk_op_supported(device, segment->graph, p.id))
            plans[p.node->op](&p);
        else if (n == 0)
            p.status = qn_fail(err, QUERN_ERR_UNSUPPORTED, "node %u (operation %u) is not one that it runs",
                               p.id, p.node->op);
    }
    return p.status;
}

/* ---------------------------------------------------------------- what there is */

bool qn_vk_is_float(const struct quern_graph *graph, uint32_t id)
{
    return id == QUERN_NONE || quern_graph_value(graph, id)->format == QUERN_F32;
}

bool qn_vk_has_kernel(const struct quern_graph *graph, uint32_t id, enum qn_vk_kernel first)
{
    uint32_t format = quern_graph_value(graph, id)->format;
    return format < QUERN_FORMAT_END && qn_vk_module_find(first + format);
}

bool qn_vk_op_supported(const struct quern_device *device, const struct quern_graph *graph, uint32_t id)
{
    const struct quern_node *node = quern_graph_node(graph, id);
    switch (node->op) {
    case QUERN_OP_EMBED:
        return qn_vk_has_kernel(graph, node->in[0], QN_VK_EMBED);
    case QUERN_OP_NORM:
        return qn_vk_is_float(graph, node->in[1]) && qn_vk_is_float(graph, node->in[2]);
    case QUERN_OP_MATMUL:
        return qn_vk_matmul_supported(graph, node);
    case QUERN_OP_MOE_MATMUL:
        return qn_vk_moe_matmul_supported(graph, node);
    case QUERN_OP_MOE_ROUTE:
        return node->attr.moe_route.n_expert <= MAX_EXPERTS &&
               node->attr.moe_route.n_used <= MAX_EXPERTS_USED && qn_vk_is_float(graph, node->in[1]);
    case QUERN_OP_ATTENTION:
        return qn_vk_attention_supported(graph, node);
    case QUERN_OP_ROPE:
        return qn_vk_is_float(graph, node->in[1]);
    case QUERN_OP_KV_STORE:
        return qn_vk_kv_store_supported(graph, node);
    case QUERN_OP_ACTIVATION:
    case QUERN_OP_ADD:
    case QUERN_OP_ROWS:
    case QUERN_OP_MOE_COMBINE:
    case QUERN_OP_SELECT:
        return true;
    default:
        return false;
    }
}
