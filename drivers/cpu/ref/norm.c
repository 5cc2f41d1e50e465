/* NORM: each group of a row by its root mean square, or by its mean and variance. */
#include "drivers/cpu/ops.h"

#include <math.h>

/* y = x / sqrt(mean(x^2) + eps) * weight; y may be x, weight NULL (ones) */
static void norm_rms(const struct qn_kernels *kernels, const float *x, const float *weight, float eps,
                     float *y, size_t n)
{
    float scale = 1.0f / sqrtf(kernels->sum_squares(x, n) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = weight ? x[i] * scale * weight[i] : x[i] * scale;
}

/* y = (x - mean) / sqrt(var + eps) * weight + bias; y may be x, weight and bias NULL */
static void norm_layer(const struct qn_kernels *kernels, const float *x, const float *weight,
                       const float *bias, float eps, float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    float mean = (float)(sum / (double)n);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] - mean;
    float scale = 1.0f / sqrtf(kernels->sum_squares(y, n) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = y[i] * scale * (weight ? weight[i] : 1.0f) + (bias ? bias[i] : 0.0f);
}

static int32_t norm_check(const struct qn_op *op, const struct qn_kernels *kernels, struct quern_error *err)
{
    const struct quern_norm_attr *attr = &op->node.attr.norm;
    const struct qn_arg *in = op->in, *out = op->out;
    if (!qn_is_rows(op, &in[0], 0) || !qn_is_rows(op, &out[0], in[0].row))
        return qn_op_fail(op, err, "input and output are not rows of one length");
    if (attr->kind > QUERN_NORM_LAYER || attr->group < 1 || in[0].row % attr->group != 0)
        return qn_op_fail(op, err, "kind %u over rows of %zu in groups of %u", attr->kind, in[0].row,
                          attr->group);
    if (!qn_is_vector_or_none(&in[1], attr->group) || !qn_is_vector_or_none(&in[2], attr->group))
        return qn_op_fail(op, err, "weight or bias is not F32 of %u elements", attr->group);
    if (attr->kind == QUERN_NORM_RMS && in[2].present)
        return qn_op_fail(op, err, "the root-mean-square norm has no bias");
    if (!qn_is_rows_or_none(op, &in[3], in[0].row) || !qn_is_rows_or_none(op, &out[1], in[0].row) ||
        in[3].present != out[1].present)
        return qn_op_fail(op, err, "an addend and the sum's output go together and are rows of %zu",
                          in[0].row);
    return QUERN_OK;
}

static struct qn_work norm_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){qn_rows(&op->in[0], run), (uint32_t)op->in[0].row / 4};
}

static void norm_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                     struct qn_worker *worker)
{
    const struct quern_norm_attr *attr = &op->node.attr.norm;
    const float *weight = op->in[1].data, *bias = op->in[2].data;
    size_t d = op->in[0].row, group = attr->group;
    for (uint32_t t = begin; t < end; t++) {
        const float *x = qn_row(&op->in[0], t);
        float *y = qn_row(&op->out[0], t);
        if (op->in[3].present) {
            const float *addend = qn_row(&op->in[3], t);
            float *sum = qn_row(&op->out[1], t);
            for (size_t i = 0; i < d; i++)
                sum[i] = x[i] + addend[i];
            x = sum;
        }
        for (size_t g = 0; g < d; g += group) {
            if (attr->kind == QUERN_NORM_RMS)
                norm_rms(run->kernels, x + g, weight, attr->eps, y + g, group);
            else
                norm_layer(run->kernels, x + g, weight, bias, attr->eps, y + g, group);
        }
    }
}

static bool norm_plan(struct qn_planner *planner, struct qn_op *op)
{
    qn_plan_stage(planner, op, norm_size, norm_run);
    return true;
}

const struct qn_op_kind qn_op_norm = {.name = "norm", .check = norm_check, .plan = norm_plan};
