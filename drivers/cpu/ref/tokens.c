/* Operations that pick rows: EMBED takes rows of a table by token id, ROWS those of the step's outputs. */
#include "drivers/cpu/ops.h"

#include <string.h>

/* ---------------------------------------------------------------- EMBED */

static int32_t embed_check(const struct qn_op *op, const struct qn_kernels *kernels, struct quern_error *err)
{
    const struct qn_arg *table = &op->in[0];
    if (!table->present || !table->weight || !kernels->dequantise[table->format])
        return qn_op_fail(op, err, "the table is not a weight that can be decoded");
    if (!qn_is_rows(op, &op->out[0], (size_t)table->dim[0]) || op->out[0].per_output)
        return qn_op_fail(op, err, "the output is not a row of the table for each token");
    return QUERN_OK;
}

static struct qn_work embed_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){qn_rows(&op->out[0], run), (uint32_t)op->out[0].row / 2};
}

static void embed_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                      struct qn_worker *worker)
{
    const struct qn_arg *table = &op->in[0];
    const int32_t *token = quern_step_tokens(run->step);
    float scale = op->node.attr.embed.scale;
    for (uint32_t t = begin; t < end; t++) {
        float *y = qn_row(&op->out[0], t);
        const char *row = (const char *)table->data + (size_t)token[t] * table->row_bytes;
        run->kernels->dequantise[table->format](row, y, op->out[0].row);
        if (scale != 1.0f)
            for (size_t i = 0; i < op->out[0].row; i++)
                y[i] *= scale;
    }
}

static bool embed_plan(struct qn_planner *planner, struct qn_op *op)
{
    qn_plan_stage(planner, op, embed_size, embed_run);
    return true;
}

const struct qn_op_kind qn_op_embed = {.name = "embed", .check = embed_check, .plan = embed_plan};

/* ---------------------------------------------------------------- ROWS */

static int32_t rows_check(const struct qn_op *op, const struct qn_kernels *kernels, struct quern_error *err)
{
    const struct qn_arg *x = &op->in[0], *y = &op->out[0];
    if (!qn_is_rows(op, x, 0) || x->per_output)
        return qn_op_fail(op, err, "the input has no row for each token");
    if (!y->present || y->weight || y->format != QUERN_F32 || !y->per_output || y->row != x->row)
        return qn_op_fail(op, err, "the output has no such row for each output");
    return QUERN_OK;
}

static struct qn_work rows_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){run->step->n_outputs, (uint32_t)op->in[0].row / 8};
}

static void rows_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                     struct qn_worker *worker)
{
    const uint32_t *output = quern_step_u32(run->step, run->step->output);
    for (uint32_t o = begin; o < end; o++)
        memcpy(qn_row(&op->out[0], o), qn_row(&op->in[0], output[o]), op->in[0].row * sizeof(float));
}

static bool rows_plan(struct qn_planner *planner, struct qn_op *op)
{
    qn_plan_stage(planner, op, rows_size, rows_run);
    return true;
}

const struct qn_op_kind qn_op_rows = {.name = "rows", .check = rows_check, .plan = rows_plan};
