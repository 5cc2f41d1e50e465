/* From the graph's node to an operation: values described and checked. All that can be known without memory,
 * so that `supports` and `prepare` ask the same questions. */
#include "drivers/cpu/ops.h"

#include <stdarg.h>
#include <stdio.h>

static const struct qn_op_kind *const kinds[QUERN_OP_END] = {
#define QN_OP(id, lower) [QUERN_OP_##id] = &qn_op_##lower,
#include "drivers/cpu/ops.inc"
#undef QN_OP
};

const struct qn_op_kind *qn_op_kind_get(uint32_t op)
{
    return op < QUERN_OP_END ? kinds[op] : NULL;
}

int32_t qn_op_fail(const struct qn_op *op, struct quern_error *err, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return qn_fail(err, QUERN_ERR_UNSUPPORTED, "%s: %s", op->kind->name, text);
}

/* Fills a weight's row size. */
static int32_t describe_weight(const struct qn_op *op, struct qn_arg *arg, struct quern_error *err)
{
    const struct qn_format *format = qn_format_get((enum quern_format)arg->format);
    if (!format)
        return qn_op_fail(op, err, "value %u has the unknown format %u", arg->id, arg->format);
    for (int i = 0; i < 4; i++)
        if (arg->dim[i] < 1 || arg->dim[i] > INT32_MAX)
            return qn_op_fail(op, err, "weight %u has %lld elements in dimension %d", arg->id,
                              (long long)arg->dim[i], i);
    if (arg->dim[0] % format->block_len != 0)
        return qn_op_fail(op, err, "weight %u has rows of %lld elements, not a multiple of %u", arg->id,
                          (long long)arg->dim[0], format->block_len);
    arg->row_bytes = (size_t)qn_format_row_bytes((enum quern_format)arg->format, (uint64_t)arg->dim[0]);
    return QUERN_OK;
}

/* Finds the dimension that a step fills, which comes last. */
static int32_t describe_rows(const struct qn_op *op, struct qn_arg *arg, struct quern_error *err)
{
    if (arg->format != QUERN_F32 && arg->format != QUERN_I32)
        return qn_op_fail(op, err, "activation %u is neither F32 nor I32", arg->id);
    int64_t row = 1;
    bool found = false;
    for (int i = 0; i < 4; i++) {
        int64_t n = arg->dim[i];
        bool of_step = n == QUERN_DIM_TOKENS || n == QUERN_DIM_OUTPUTS;
        if (of_step && !found) {
            found = true;
            arg->per_output = n == QUERN_DIM_OUTPUTS;
            arg->dim[i] = 1;
        } else if (of_step || n < 1 || (found && n != 1) || n > INT32_MAX / row) {
            return qn_op_fail(op, err, "activation %u has an unusable shape", arg->id);
        } else {
            row *= n;
        }
    }
    if (!found)
        return qn_op_fail(op, err, "activation %u has no dimension for the tokens", arg->id);
    arg->row = (size_t)row;
    return QUERN_OK;
}

static int32_t describe_arg(const struct quern_graph *graph, uint32_t id, struct qn_op *op,
                            struct qn_arg *arg, struct quern_error *err)
{
    *arg = (struct qn_arg){.id = id};
    if (id == QUERN_NONE)
        return QUERN_OK;
    if (id >= graph->n_values)
        return qn_op_fail(op, err, "value %u is not in the graph", id);
    const struct quern_value *value = quern_graph_value(graph, id);
    arg->present = true;
    arg->format = value->format;
    for (int i = 0; i < 4; i++)
        arg->dim[i] = value->dim[i];
    arg->weight = value->kind == QUERN_VALUE_WEIGHT;
    return arg->weight ? describe_weight(op, arg, err) : describe_rows(op, arg, err);
}

/* The layer of keys and values of the operations that have one. */
static int32_t describe_kv(const struct quern_graph *graph, struct qn_op *op, struct quern_error *err)
{
    uint32_t layer = 0;
    if (op->node.op == QUERN_OP_KV_STORE)
        layer = op->node.attr.kv_store.kv_layer;
    else if (op->node.op == QUERN_OP_ATTENTION)
        layer = op->node.attr.attention.kv_layer;
    else
        return QUERN_OK;
    if (layer >= graph->n_kv)
        return qn_op_fail(op, err, "KV layer %u is not in the graph", layer);
    op->kv.layer = *quern_graph_kv(graph, layer);
    if (op->kv.layer.n_head_kv < 1 || op->kv.layer.head_dim_k < 1 || op->kv.layer.head_dim_v < 1)
        return qn_op_fail(op, err, "KV layer %u has no heads", layer);
    return QUERN_OK;
}

int32_t qn_op_describe(const struct quern_graph *graph, uint32_t id, const struct qn_kernels *kernels,
                       struct qn_op *op, struct quern_error *err)
{
    *op = (struct qn_op){.kind = NULL};
    if (graph->node_size < sizeof(struct quern_node) || graph->value_size < sizeof(struct quern_value) ||
        graph->kv_size < sizeof(struct quern_kv_layer))
        return qn_fail(err, QUERN_ERR_PARAM, "the graph's structs are smaller than this driver's");
    if (id >= graph->n_nodes)
        return qn_fail(err, QUERN_ERR_PARAM, "node %u is not in the graph", id);
    op->node = *quern_graph_node(graph, id);
    op->kind = qn_op_kind_get(op->node.op);
    if (!op->kind)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "operation %u is not known to this driver", op->node.op);
    int32_t status = QUERN_OK;
    for (int i = 0; i < QUERN_MAX_IN && !status; i++)
        status = describe_arg(graph, op->node.in[i], op, &op->in[i], err);
    for (int i = 0; i < QUERN_MAX_OUT && !status; i++) {
        status = describe_arg(graph, op->node.out[i], op, &op->out[i], err);
        if (!status && op->out[i].weight)
            status = qn_op_fail(op, err, "writes to the weight %u", op->out[i].id);
    }
    if (!status)
        status = describe_kv(graph, op, err);
    return status ? status : op->kind->check(op, kernels, err);
}

bool qn_is_rows(const struct qn_op *op, const struct qn_arg *arg, size_t row)
{
    return arg->present && !arg->weight && arg->format == QUERN_F32 && (row == 0 || arg->row == row) &&
           (op->in[0].weight || arg->per_output == op->in[0].per_output);
}

bool qn_is_rows_or_none(const struct qn_op *op, const struct qn_arg *arg, size_t row)
{
    return !arg->present || qn_is_rows(op, arg, row);
}

bool qn_is_vector_or_none(const struct qn_arg *arg, int64_t n)
{
    return !arg->present || (arg->weight && arg->format == QUERN_F32 && arg->dim[0] == n &&
                             arg->dim[1] == 1 && arg->dim[2] == 1 && arg->dim[3] == 1);
}
