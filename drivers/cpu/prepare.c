/* Prepares segments: operations described, bound to memory and turned into stages. Everything that a run
 * needs is allocated here. */
#include "drivers/cpu/device.h"
#include "drivers/cpu/ref/product.h"

#include <string.h>

/* ---------------------------------------------------------------- for the operations */

void qn_plan_stage(struct qn_planner *planner, const struct qn_op *op,
                   struct qn_work (*size)(const struct qn_op *op, const struct qn_run *run),
                   void (*run)(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                               struct qn_worker *worker))
{
    struct quern_prepared *prepared = planner->prepared;
    prepared->stages[prepared->n_stages++] =
        (struct qn_stage){.op = op, .node = (uint32_t)(op - prepared->ops), .size = size, .run = run};
}

void qn_plan_scratch(struct qn_planner *planner, size_t bytes)
{
    if (bytes > planner->scratch_bytes)
        planner->scratch_bytes = bytes;
}

void qn_plan_area(struct qn_planner *planner, enum qn_area area, size_t bytes)
{
    planner->area_holds[area] = QUERN_NONE;
    planner->area_used[area] = ++planner->clock;
    if (bytes > planner->area_bytes[area])
        planner->area_bytes[area] = bytes;
}

bool qn_plan_cached(struct qn_planner *planner, enum qn_area first, enum qn_area last, uint32_t key,
                    size_t bytes, enum qn_area *area)
{
    enum qn_area oldest = first;
    for (enum qn_area a = first; a <= last; a++) {
        if (planner->area_holds[a] == key) {
            planner->area_used[a] = ++planner->clock;
            *area = a;
            return false;
        }
        if (planner->area_used[a] < planner->area_used[oldest])
            oldest = a;
    }
    qn_plan_area(planner, oldest, bytes);
    planner->area_holds[oldest] = key;
    *area = oldest;
    return true;
}

uint32_t qn_plan_max_rows(const struct qn_planner *planner, const struct qn_arg *arg)
{
    return arg->per_output ? planner->prepared->max_outputs : planner->prepared->max_tokens;
}

/* ---------------------------------------------------------------- binding */

static uint64_t arg_bytes(const struct qn_arg *arg, const struct quern_prepared *prepared)
{
    if (arg->weight)
        return (uint64_t)arg->row_bytes * (uint64_t)arg->dim[1] * (uint64_t)arg->dim[2] *
               (uint64_t)arg->dim[3];
    return (uint64_t)arg->row * (arg->per_output ? prepared->max_outputs : prepared->max_tokens) * 4;
}

/* Whether an operation reads a weight in that layout. */
static bool reads_layout(const struct quern_device *device, const struct quern_segment *segment,
                         const struct qn_op *op, const struct qn_arg *arg, uint32_t layout)
{
    const uint32_t kind = op->node.op;
    bool weights = kind == QUERN_OP_EMBED || kind == QUERN_OP_MATMUL || kind == QUERN_OP_MOE_MATMUL;
    return layout == QUERN_LAYOUT_FILE ||
           (arg->weight && weights &&
            qn_product_kernel(&device->kernels, arg->format, layout, segment->exact));
}

/* Address of a value that is bound there. */
static int32_t find_data(const struct qn_op *op, const struct qn_arg *arg,
                         const struct quern_binding *binding, uint64_t need, void **data,
                         struct quern_error *err)
{
    const struct quern_buffer *buffer = binding->buffer;
    if (binding->offset > buffer->bytes || binding->bytes > buffer->bytes - binding->offset ||
        need > binding->bytes)
        return qn_fail(err, QUERN_ERR_PARAM,
                       "%s: value %u needs %llu bytes; it is bound to %llu at %llu of a buffer of %llu",
                       op->kind->name, arg->id, (unsigned long long)need, (unsigned long long)binding->bytes,
                       (unsigned long long)binding->offset, (unsigned long long)buffer->bytes);
    *data = buffer->data + binding->offset;
    size_t align = arg->format == QUERN_F32 || arg->format == QUERN_I32    ? 4
                   : arg->format == QUERN_F16 || arg->format == QUERN_BF16 ? 2
                                                                           : 1;
    if ((uintptr_t)*data % align != 0)
        return qn_fail(err, QUERN_ERR_PARAM, "%s: value %u is at an address that is no multiple of %zu",
                       op->kind->name, arg->id, align);
    return QUERN_OK;
}

static int32_t bind_arg(const struct quern_device *device, const struct quern_segment *segment,
                        const struct quern_prepared *prepared, const struct qn_op *op, struct qn_arg *arg,
                        struct quern_error *err)
{
    if (!arg->present)
        return QUERN_OK;
    const struct quern_binding *binding = &segment->bindings[arg->id];
    if (!binding->buffer)
        return qn_fail(err, QUERN_ERR_PARAM, "%s: value %u is bound to no buffer", op->kind->name, arg->id);
    arg->layout = binding->layout;
    if (!reads_layout(device, segment, op, arg, arg->layout))
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "%s: value %u has the layout %u, which is not read here",
                       op->kind->name, arg->id, arg->layout);
    const uint64_t need = arg_bytes(arg, prepared);
    int32_t status = find_data(op, arg, binding, need, &arg->data, err);
    if (status || arg->layout == QUERN_LAYOUT_FILE || !segment->origins || !segment->origins[arg->id].buffer)
        return status;
    void *origin;
    arg->buffer = binding->buffer;
    status = find_data(op, arg, &segment->origins[arg->id], need, &origin, err);
    arg->origin = origin;
    return status;
}

static int32_t bind_kv(const struct quern_segment *segment, struct qn_op *op, struct quern_error *err)
{
    if (op->node.op != QUERN_OP_KV_STORE && op->node.op != QUERN_OP_ATTENTION)
        return QUERN_OK;
    const struct quern_kv_layer *layer = &op->kv.layer;
    uint32_t number =
        op->node.op == QUERN_OP_KV_STORE ? op->node.attr.kv_store.kv_layer : op->node.attr.attention.kv_layer;
    op->kv.at = segment->kv[number];
    const struct quern_kv_binding *at = &op->kv.at;
    const uint32_t format[2] = {at->k_format, at->v_format};
    const uint32_t head_dim[2] = {layer->head_dim_k, layer->head_dim_v};
    const uint64_t offset[2] = {at->k_offset, at->v_offset};
    size_t *row_bytes[2] = {&op->kv.k_row_bytes, &op->kv.v_row_bytes};
    if (at->group >= QUERN_MAX_KV_GROUPS || at->page_tokens < 1 || at->pages_per_pool < 1)
        return qn_fail(err, QUERN_ERR_PARAM, "%s: KV layer %u has an unusable binding", op->kind->name,
                       number);
    for (int i = 0; i < 2; i++) {
        if (format[i] >= QUERN_FORMAT_END || !(QN_CPU_KV_FORMATS >> format[i] & 1))
            return qn_fail(err, QUERN_ERR_UNSUPPORTED, "%s: KV layer %u has the format %u", op->kind->name,
                           number, format[i]);
        if (head_dim[i] % qn_format_get((enum quern_format)format[i])->block_len != 0)
            return qn_fail(err, QUERN_ERR_UNSUPPORTED, "%s: heads of %u elements cannot be stored as %s",
                           op->kind->name, head_dim[i], quern_format_name((enum quern_format)format[i]));
        *row_bytes[i] = (size_t)qn_format_row_bytes((enum quern_format)format[i], head_dim[i]);
        uint64_t need = (uint64_t)*row_bytes[i] * layer->n_head_kv * at->page_tokens;
        if (offset[i] % 4 != 0 || offset[i] > at->page_bytes || need > at->page_bytes - offset[i])
            return qn_fail(err, QUERN_ERR_PARAM, "%s: KV layer %u does not fit its page", op->kind->name,
                           number);
    }
    return QUERN_OK;
}

static int32_t bind_op(const struct quern_device *device, const struct quern_segment *segment,
                       const struct quern_prepared *prepared, struct qn_op *op, struct quern_error *err)
{
    int32_t status = QUERN_OK;
    for (int i = 0; i < QUERN_MAX_IN && !status; i++)
        status = bind_arg(device, segment, prepared, op, &op->in[i], err);
    for (int i = 0; i < QUERN_MAX_OUT && !status; i++)
        status = bind_arg(device, segment, prepared, op, &op->out[i], err);
    return status ? status : bind_kv(segment, op, err);
}

/* ---------------------------------------------------------------- segments */

/* Makes the device's shared memory as large as the segment needs it. */
static int32_t grow_device(struct qn_planner *planner, struct quern_error *err)
{
    struct quern_device *device = planner->device;
    for (int i = 0; i < QN_AREA_END; i++) {
        struct qn_area_memory *area = &device->area[i];
        if (planner->area_bytes[i] <= area->bytes)
            continue;
        void *data = qn_alloc(device->cb, planner->area_bytes[i], 1);
        if (!data)
            return qn_fail_memory(err, "activations of the CPU device");
        qn_free(device->cb, area->data);
        *area = (struct qn_area_memory){data, planner->area_bytes[i]};
    }
    if (planner->scratch_bytes <= device->scratch_bytes)
        return QUERN_OK;
    uint32_t n = qn_pool_threads(device->pool);
    size_t stride = qn_q8_pad(planner->scratch_bytes);
    char *scratch = qn_alloc(device->cb, n, stride);
    if (!scratch)
        return qn_fail_memory(err, "scratch of the worker threads");
    qn_free(device->cb, device->workers[0].scratch);
    for (uint32_t i = 0; i < n; i++)
        device->workers[i].scratch = scratch + i * stride;
    device->scratch_bytes = planner->scratch_bytes;
    return QUERN_OK;
}

static int32_t plan_ops(struct qn_planner *planner, const struct quern_segment *segment,
                        struct quern_error *err)
{
    struct quern_prepared *prepared = planner->prepared;
    for (uint32_t i = 0; i < segment->n_nodes; i++) {
        struct qn_op *op = &prepared->ops[i];
        int32_t status =
            qn_op_describe(segment->graph, segment->nodes[i], &planner->device->kernels, op, err);
        if (!status)
            status = bind_op(planner->device, segment, prepared, op, err);
        if (status)
            return status;
        prepared->node_ids[i] = segment->nodes[i];
        prepared->n_ops = i + 1;
        if (!op->kind->plan(planner, op))
            return qn_fail_memory(err, "a prepared operation");
    }
    return grow_device(planner, err);
}

int32_t qn_cpu_prepare(struct quern_device *device, const struct quern_segment *segment,
                       struct quern_prepared **out, struct quern_error *err)
{
    *out = NULL;
    if (!segment->graph || segment->n_nodes == 0 || segment->max_tokens == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "a segment without graph, nodes or tokens");
    struct quern_prepared *prepared = qn_zalloc(device->cb, 1, sizeof *prepared);
    if (!prepared)
        return qn_fail_memory(err, "a prepared segment");
    size_t n = segment->n_nodes;
    prepared->max_tokens = segment->max_tokens;
    prepared->max_outputs = segment->max_outputs;
    prepared->ops = qn_zalloc(device->cb, n, sizeof *prepared->ops);
    prepared->stages = qn_zalloc(device->cb, n * QN_MAX_STAGES, sizeof *prepared->stages);
    prepared->node_ids = qn_zalloc(device->cb, n, sizeof *prepared->node_ids);
    prepared->times = qn_zalloc(device->cb, n, sizeof *prepared->times);
    struct qn_planner planner = {.device = device, .prepared = prepared, .exact = segment->exact != 0};
    for (int i = 0; i < QN_AREA_END; i++)
        planner.area_holds[i] = QUERN_NONE;
    int32_t status;
    if (!prepared->ops || !prepared->stages || !prepared->node_ids || !prepared->times)
        status = qn_fail_memory(err, "a prepared segment");
    else
        status = plan_ops(&planner, segment, err);
    if (status) {
        qn_cpu_release(device, prepared);
        return status;
    }
    *out = prepared;
    return QUERN_OK;
}

void qn_cpu_release(struct quern_device *device, struct quern_prepared *prepared)
{
    if (!prepared)
        return;
    for (uint32_t i = 0; i < prepared->n_ops; i++)
        if (prepared->ops[i].kind->finish)
            prepared->ops[i].kind->finish(device->cb, &prepared->ops[i]);
    qn_free(device->cb, prepared->times);
    qn_free(device->cb, prepared->node_ids);
    qn_free(device->cb, prepared->stages);
    qn_free(device->cb, prepared->ops);
    qn_free(device->cb, prepared);
}
