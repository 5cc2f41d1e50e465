/* ACTIVATION and ADD: element by element. */
#include "drivers/cpu/ops.h"

/* ---------------------------------------------------------------- ACTIVATION */

static int32_t activation_check(const struct qn_op *op, const struct qn_kernels *kernels,
                                struct quern_error *err)
{
    const struct quern_activation_attr *attr = &op->node.attr.activation;
    const struct qn_arg *gate = &op->in[0], *up = &op->in[1], *y = &op->out[0];
    if (attr->act > QUERN_ACT_RELU2)
        return qn_op_fail(op, err, "activation %u is not known", attr->act);
    size_t factor = attr->split ? 2 : 1;
    if (!qn_is_rows(op, gate, 0) || !qn_is_rows(op, y, gate->row / factor) || gate->row % factor != 0)
        return qn_op_fail(op, err, "the output does not match the input");
    if (attr->split && (up->present || gate->dim[0] != 2 * y->dim[0]))
        return qn_op_fail(op, err, "a split input is twice the output, and the only one");
    if (!qn_is_rows_or_none(op, up, gate->row))
        return qn_op_fail(op, err, "the two inputs do not match");
    return QUERN_OK;
}

static struct qn_work activation_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){qn_rows(&op->out[0], run), (uint32_t)op->out[0].row};
}

static void activation_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                           struct qn_worker *worker)
{
    const struct quern_activation_attr *attr = &op->node.attr.activation;
    size_t n = (size_t)op->out[0].dim[0];
    for (uint32_t t = begin; t < end; t++) {
        const float *gate = qn_row(&op->in[0], t);
        const float *up = op->in[1].present ? qn_row(&op->in[1], t) : NULL;
        float *y = qn_row(&op->out[0], t);
        if (!attr->split) {
            run->kernels->gate(attr->act, gate, up, y, op->out[0].row);
            continue;
        }
        for (size_t i = 0; i < op->out[0].row; i += n)
            run->kernels->gate(attr->act, gate + 2 * i, gate + 2 * i + n, y + i, n);
    }
}

static bool activation_plan(struct qn_planner *planner, struct qn_op *op)
{
    qn_plan_stage(planner, op, activation_size, activation_run);
    return true;
}

const struct qn_op_kind qn_op_activation = {
    .name = "activation", .check = activation_check, .plan = activation_plan};

/* ---------------------------------------------------------------- ADD */

static int32_t add_check(const struct qn_op *op, const struct qn_kernels *kernels, struct quern_error *err)
{
    size_t row = op->in[0].row;
    if (!qn_is_rows(op, &op->in[0], 0) || !qn_is_rows(op, &op->in[1], row) ||
        !qn_is_rows(op, &op->out[0], row))
        return qn_op_fail(op, err, "inputs and output are not rows of one length");
    return QUERN_OK;
}

static struct qn_work add_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){qn_rows(&op->out[0], run), (uint32_t)op->out[0].row / 8};
}

static void add_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                    struct qn_worker *worker)
{
    float scale = op->node.attr.add.scale;
    for (uint32_t t = begin; t < end; t++) {
        const float *a = qn_row(&op->in[0], t), *b = qn_row(&op->in[1], t);
        float *y = qn_row(&op->out[0], t);
        for (size_t i = 0; i < op->out[0].row; i++)
            y[i] = a[i] + scale * b[i];
    }
}

static bool add_plan(struct qn_planner *planner, struct qn_op *op)
{
    qn_plan_stage(planner, op, add_size, add_run);
    return true;
}

const struct qn_op_kind qn_op_add = {.name = "add", .check = add_check, .plan = add_plan};
