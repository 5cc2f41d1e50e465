/* ROPE: rotates pairs of elements by angles that grow with the position. The angles of a step are worked out
 * once for all layers that use the same ones; in double precision, since positions are large. */
#include "drivers/common/rope.h"
#include "drivers/cpu/ops.h"

#include <math.h>
#include <string.h>

/* cos and sin for each pair of one position: table [n_dims / 2][2] */
static void rope_angles(const struct qn_op *op, uint32_t position, float *table)
{
    const struct quern_rope_attr *attr = &op->node.attr.rope;
    const float *factor = op->in[1].data;
    for (uint32_t i = 0; i < attr->n_dims / 2; i++) {
        double angle = position * (factor ? op->plan.rope.step[i] / factor[i] : op->plan.rope.step[i]);
        table[2 * i] = (float)(cos(angle) * attr->mscale);
        table[2 * i + 1] = (float)(sin(angle) * attr->mscale);
    }
}

/* One head; y may be x. */
static void rope_head(const struct quern_rope_attr *attr, const float *table, const float *x, float *y)
{
    uint32_t half = attr->n_dims / 2;
    uint32_t stride = attr->kind == QUERN_ROPE_HALVES ? 1 : 2; /* from pair to pair */
    uint32_t apart = attr->kind == QUERN_ROPE_HALVES ? half : 1;
    for (uint32_t i = 0; i < half; i++) {
        float c = table[2 * i], s = table[2 * i + 1];
        float a = x[i * stride], b = x[i * stride + apart];
        y[i * stride] = a * c - b * s;
        y[i * stride + apart] = a * s + b * c;
    }
    if (y != x)
        for (uint32_t i = attr->n_dims; i < attr->head_dim; i++)
            y[i] = x[i];
}

static int32_t rope_check(const struct qn_op *op, const struct qn_kernels *kernels, struct quern_error *err)
{
    const struct quern_rope_attr *attr = &op->node.attr.rope;
    const struct qn_arg *x = &op->in[0];
    if (!qn_is_rows(op, x, 0) || x->per_output || !qn_is_rows(op, &op->out[0], x->row))
        return qn_op_fail(op, err, "input and output are not rows of one length for each token");
    if (attr->kind > QUERN_ROPE_HALVES || attr->head_dim < 1 || x->row % attr->head_dim != 0)
        return qn_op_fail(op, err, "kind %u over rows of %zu in heads of %u", attr->kind, x->row,
                          attr->head_dim);
    if (attr->n_dims < 2 || attr->n_dims % 2 != 0 || attr->n_dims > attr->head_dim)
        return qn_op_fail(op, err, "rotates %u of %u elements", attr->n_dims, attr->head_dim);
    if (!(attr->base > 0) || (attr->ext_factor != 0 && (!(attr->base > 1) || !(attr->beta_fast > 0) ||
                                                        !(attr->beta_slow > 0) || attr->n_ctx_orig < 1)))
        return qn_op_fail(op, err, "base %g, betas %g and %g, context %u are out of range",
                          (double)attr->base, (double)attr->beta_fast, (double)attr->beta_slow,
                          attr->n_ctx_orig);
    if (!qn_is_vector_or_none(&op->in[1], attr->n_dims / 2))
        return qn_op_fail(op, err, "the factors are not F32 of %u elements", attr->n_dims / 2);
    return QUERN_OK;
}

static struct qn_work angles_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){run->step->n_tokens, op->node.attr.rope.n_dims * 20};
}

static float *angles_of(const struct qn_op *op, const struct qn_run *run, uint32_t token)
{
    return (float *)run->device->area[op->plan.rope.area].data + (size_t)token * op->node.attr.rope.n_dims;
}

static void angles_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                       struct qn_worker *worker)
{
    const uint32_t *position = quern_step_u32(run->step, run->step->position);
    for (uint32_t t = begin; t < end; t++)
        rope_angles(op, position[t], angles_of(op, run, t));
}

static struct qn_work rope_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){run->step->n_tokens, (uint32_t)op->in[0].row / 2};
}

static void rope_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                     struct qn_worker *worker)
{
    const struct quern_rope_attr *attr = &op->node.attr.rope;
    for (uint32_t t = begin; t < end; t++) {
        const float *table = angles_of(op, run, t);
        for (size_t i = 0; i < op->in[0].row; i += attr->head_dim)
            rope_head(attr, table, qn_row(&op->in[0], t) + i, qn_row(&op->out[0], t) + i);
    }
}

static bool same_angles(const struct qn_op *a, const struct qn_op *b)
{
    struct quern_rope_attr x = a->node.attr.rope, y = b->node.attr.rope;
    x.kind = y.kind;
    x.head_dim = y.head_dim;
    return memcmp(&x, &y, sizeof x) == 0 && a->node.in[1] == b->node.in[1];
}

/* The first operation of the segment with the same angles stands for all of them. */
static uint32_t angles_key(const struct qn_planner *planner, const struct qn_op *op)
{
    const struct qn_op *other = planner->prepared->ops;
    while (other != op && (other->node.op != QUERN_OP_ROPE || !same_angles(other, op)))
        other++;
    return (uint32_t)(other - planner->prepared->ops);
}

static bool rope_plan(struct qn_planner *planner, struct qn_op *op)
{
    const struct quern_rope_attr *attr = &op->node.attr.rope;
    struct qn_rope_plan *plan = &op->plan.rope;
    size_t bytes = (size_t)planner->prepared->max_tokens * attr->n_dims * sizeof(float);
    if (qn_plan_cached(planner, QN_AREA_ROPE_0, QN_AREA_ROPE_1, angles_key(planner, op), bytes,
                       &plan->area)) {
        plan->step = qn_alloc(planner->device->cb, attr->n_dims / 2, sizeof *plan->step);
        if (!plan->step)
            return false;
        for (uint32_t i = 0; i < attr->n_dims / 2; i++)
            plan->step[i] = qn_rope_step(attr, i);
        qn_plan_stage(planner, op, angles_size, angles_run);
    }
    qn_plan_stage(planner, op, rope_size, rope_run);
    return true;
}

static void rope_finish(const struct quern_callbacks *cb, struct qn_op *op)
{
    qn_free(cb, op->plan.rope.step);
    op->plan.rope.step = NULL;
}

const struct qn_op_kind qn_op_rope = {
    .name = "rope", .check = rope_check, .plan = rope_plan, .finish = rope_finish};
