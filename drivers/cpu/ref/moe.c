/* Mixture of experts: MOE_ROUTE chooses experts for each token, MOE_MATMUL multiplies with them, MOE_COMBINE
 * adds up. MOE_MATMUL first sorts the (token, choice) pairs by expert, so that an expert's rows are read once
 * for all tokens that chose it. */
#include "drivers/cpu/ops.h"
#include "drivers/cpu/ref/product.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- MOE_ROUTE */

static void softmax(float *x, size_t n)
{
    float max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        max = fmaxf(max, x[i]);
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += x[i];
    }
    for (size_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* Best first, ties to the lower id. taken: [n] of zeros. */
static void choose_best(const float *score, const float *bias, uint32_t n, uint8_t *taken, int32_t *ids,
                        uint32_t n_used)
{
    for (uint32_t j = 0; j < n_used; j++) {
        int32_t best = -1;
        float best_score = 0;
        for (uint32_t e = 0; e < n; e++) {
            float s = bias ? score[e] + bias[e] : score[e];
            if (!taken[e] && (best < 0 || s > best_score)) {
                best = (int32_t)e;
                best_score = s;
            }
        }
        taken[best] = 1;
        ids[j] = best;
    }
}

/* score: [n_expert] and taken: [n_expert], scratch */
static void route(const struct quern_moe_route_attr *attr, const float *logits, const float *bias,
                  int32_t *ids, float *weights, float *score, uint8_t *taken)
{
    uint32_t n = attr->n_expert;
    memcpy(score, logits, n * sizeof *score);
    memset(taken, 0, n);
    if (attr->gating == QUERN_GATING_SOFTMAX)
        softmax(score, n);
    else if (attr->gating == QUERN_GATING_SIGMOID)
        for (uint32_t e = 0; e < n; e++)
            score[e] = 1.0f / (1.0f + expf(-score[e]));
    choose_best(score, bias, n, taken, ids, attr->n_used);
    for (uint32_t j = 0; j < attr->n_used; j++)
        weights[j] = score[ids[j]];
    if (attr->gating == QUERN_GATING_SOFTMAX_SELECTED)
        softmax(weights, attr->n_used);
    float sum = 0;
    for (uint32_t j = 0; j < attr->n_used; j++)
        sum += weights[j];
    float scale = attr->normalise ? attr->scale / sum : attr->scale;
    for (uint32_t j = 0; j < attr->n_used; j++)
        weights[j] *= scale;
}

static int32_t moe_route_check(const struct qn_op *op, const struct qn_kernels *kernels,
                               struct quern_error *err)
{
    const struct quern_moe_route_attr *attr = &op->node.attr.moe_route;
    const struct qn_arg *ids = &op->out[0];
    if (attr->n_expert < 1 || attr->n_used < 1 || attr->n_used > attr->n_expert ||
        attr->gating > QUERN_GATING_SOFTMAX_SELECTED)
        return qn_op_fail(op, err, "%u of %u experts with gating %u", attr->n_used, attr->n_expert,
                          attr->gating);
    if (!qn_is_rows(op, &op->in[0], attr->n_expert) || op->in[0].per_output ||
        !qn_is_vector_or_none(&op->in[1], attr->n_expert))
        return qn_op_fail(op, err, "logits or bias are not F32 of %u experts", attr->n_expert);
    if (!ids->present || ids->format != QUERN_I32 || ids->row != attr->n_used || ids->per_output ||
        !qn_is_rows(op, &op->out[1], attr->n_used))
        return qn_op_fail(op, err, "the outputs are not %u ids and weights", attr->n_used);
    return QUERN_OK;
}

static struct qn_work moe_route_size(const struct qn_op *op, const struct qn_run *run)
{
    const struct quern_moe_route_attr *attr = &op->node.attr.moe_route;
    return (struct qn_work){run->step->n_tokens, attr->n_expert * (attr->n_used + 4)};
}

static void moe_route_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                          struct qn_worker *worker)
{
    const struct quern_moe_route_attr *attr = &op->node.attr.moe_route;
    float *score = worker->scratch;
    for (uint32_t t = begin; t < end; t++)
        route(attr, qn_row(&op->in[0], t), op->in[1].data, (int32_t *)op->out[0].data + t * op->out[0].row,
              qn_row(&op->out[1], t), score, (uint8_t *)(score + attr->n_expert));
}

static bool moe_route_plan(struct qn_planner *planner, struct qn_op *op)
{
    qn_plan_scratch(planner, op->node.attr.moe_route.n_expert * (sizeof(float) + 1));
    qn_plan_stage(planner, op, moe_route_size, moe_route_run);
    return true;
}

const struct qn_op_kind qn_op_moe_route = {
    .name = "moe_route", .check = moe_route_check, .plan = moe_route_plan};

/* ---------------------------------------------------------------- MOE_MATMUL */

enum { X, W, BIAS = 3, IDS = 5, SLOTS = 6 }; /* places among the inputs */

/* Pairs sorted by expert, in the shared area: pair[offset[e]] ... of the expert at place e of the weights. A
 * pair's number is token * n_used + choice, which is also its row of the output. */
struct group {
    uint32_t *n_active;
    uint32_t *active; /* [n]: places that some pair has chosen */
    uint32_t *offset; /* [n + 1] */
    uint32_t *pair;   /* [n_pairs] */
};

static struct group group_of(const struct qn_op *op, const struct qn_run *run)
{
    uint32_t *base = run->device->area[QN_AREA_GROUP].data;
    size_t n = (size_t)op->in[W].dim[2];
    return (struct group){base, base + 1, base + 1 + n, base + 2 + 2 * n};
}

static uint32_t n_used_of(const struct qn_op *op)
{
    return (uint32_t)op->in[IDS].row;
}

/* Place of a pair's expert in the weights, -1: not there. */
static int64_t place_of(const struct qn_op *op, uint32_t pair)
{
    int64_t id = ((const int32_t *)op->in[IDS].data)[pair];
    const int32_t *slots = op->in[SLOTS].data;
    int64_t n_slots = slots ? op->in[SLOTS].dim[0] : op->in[W].dim[2];
    if (id < 0 || id >= n_slots)
        return -1;
    int64_t place = slots ? slots[id] : id;
    return place < op->in[W].dim[2] ? place : -1;
}

static struct qn_work group_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){1, 1};
}

static void group_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                      struct qn_worker *worker)
{
    struct group group = group_of(op, run);
    uint32_t n = (uint32_t)op->in[W].dim[2], n_pairs = run->step->n_tokens * n_used_of(op);
    size_t row = (size_t)op->out[0].dim[0];
    memset(group.offset, 0, (n + 1) * sizeof *group.offset);
    for (uint32_t p = 0; p < n_pairs; p++) {
        int64_t place = place_of(op, p);
        if (place >= 0)
            group.offset[place + 1]++;
        else
            memset((float *)op->out[0].data + p * row, 0, row * sizeof(float));
    }
    *group.n_active = 0;
    for (uint32_t e = 0; e < n; e++) {
        if (group.offset[e + 1] > 0)
            group.active[(*group.n_active)++] = e;
        group.offset[e + 1] += group.offset[e];
    }
    uint32_t total = group.offset[n];
    for (uint32_t p = n_pairs; p-- > 0;) { /* the end of each expert's pairs moves down to their start */
        int64_t place = place_of(op, p);
        if (place >= 0)
            group.pair[--group.offset[place + 1]] = p;
    }
    memmove(group.offset, group.offset + 1, n * sizeof *group.offset);
    group.offset[n] = total;
}

/* All experts of a single token read the same row. */
static bool one_row(const struct qn_op *op, const struct qn_run *run)
{
    return run->step->n_tokens == 1 && !op->node.attr.moe_matmul.per_slot;
}

static struct qn_work gather_size(const struct qn_op *op, const struct qn_run *run)
{
    struct group group = group_of(op, run);
    uint32_t n = group.offset[op->in[W].dim[2]];
    return (struct qn_work){n > 1 && one_row(op, run) ? 1 : n, (uint32_t)op->in[W].dim[0] / 8};
}

static char *gathered_row(const struct qn_op *op, const struct qn_run *run, enum qn_pack pack, size_t place)
{
    return (char *)run->device->area[QN_AREA_PAIRS].data + op->plan.matmul.pack_offset[pack] +
           place * qn_pack_stride(pack, (size_t)op->in[W].dim[0]);
}

static void gather_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                       struct qn_worker *worker)
{
    struct group group = group_of(op, run);
    size_t k = (size_t)op->in[W].dim[0];
    uint32_t per_row = op->node.attr.moe_matmul.per_slot ? 1 : n_used_of(op);
    for (uint32_t i = begin; i < end; i++) {
        const float *x = (const float *)op->in[X].data + group.pair[i] / per_row * k;
        for (enum qn_pack pack = 0; pack < QN_PACK_END; pack++)
            if (op->plan.matmul.packs[pack])
                qn_pack_row(run->kernels, pack, x, k, gathered_row(op, run, pack, i));
    }
}

static struct qn_work moe_matmul_size(const struct qn_op *op, const struct qn_run *run)
{
    struct group group = group_of(op, run);
    uint32_t pairs = group.offset[op->in[W].dim[2]], active = *group.n_active;
    return (struct qn_work){
        active * op->plan.matmul.n_units[0],
        qn_product_cost(&op->plan.matmul, (size_t)op->in[W].dim[0], active > 0 ? pairs / active : 0)};
}

/* The product of one expert with the pairs that chose it. */
static struct qn_product expert_product(const struct qn_op *op, const struct qn_run *run, uint32_t expert)
{
    const struct quern_moe_matmul_attr *attr = &op->node.attr.moe_matmul;
    struct group group = group_of(op, run);
    uint32_t first = group.offset[expert];
    size_t rows = (size_t)op->in[W].dim[1];
    struct qn_product product = {.n_weights = attr->n_weights,
                                 .act = attr->act,
                                 .scale = 1.0f,
                                 .k = (size_t)op->in[W].dim[0],
                                 .n_tokens = group.offset[expert + 1] - first,
                                 .y = op->out[0].data,
                                 .y_stride = rows,
                                 .row_of = group.pair + first};
    for (uint32_t i = 0; i < attr->n_weights; i++) {
        const struct qn_arg *w = &op->in[W + i];
        const struct qn_matmul_kernel *kernel = op->plan.matmul.kernel[i];
        const float *bias = op->in[BIAS + i].data;
        qn_product_set_weight(&product.side[i], &op->plan.matmul, i, w, expert * rows);
        product.side[i].bias = bias ? bias + expert * rows : NULL;
        product.side[i].x = gathered_row(op, run, kernel->pack, one_row(op, run) ? 0 : first);
        product.side[i].x_stride = one_row(op, run) ? 0 : qn_pack_stride(kernel->pack, product.k);
    }
    return product;
}

static void moe_matmul_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                           struct qn_worker *worker)
{
    struct group group = group_of(op, run);
    uint32_t units = op->plan.matmul.n_units[0], unit_rows = op->plan.matmul.unit_rows;
    for (uint32_t i = begin; i < end;) {
        uint32_t from = i % units, to = end - i < units - from ? from + end - i : units;
        struct qn_product product = expert_product(op, run, group.active[i / units]);
        size_t first = (size_t)from * unit_rows, last = (size_t)to * unit_rows;
        if (last > product.y_stride)
            last = product.y_stride;
        qn_product_rows(&product, run, first, last - first, worker);
        i += to - from;
    }
}

static int32_t check_experts(const struct qn_op *op, const struct qn_kernels *kernels, uint32_t i,
                             struct quern_error *err)
{
    const struct qn_arg *w = &op->in[W + i], *first = &op->in[W], *bias = &op->in[BIAS + i];
    if (!w->present || !w->weight || w->dim[3] != 1 || w->dim[0] != first->dim[0] ||
        w->dim[1] != first->dim[1] || w->dim[2] != first->dim[2])
        return qn_op_fail(op, err, "weight %u is missing or has another shape", i);
    if (!qn_product_kernel(kernels, w->format, QUERN_LAYOUT_FILE, false) ||
        !qn_product_kernel(kernels, w->format, QUERN_LAYOUT_FILE, true))
        return qn_op_fail(op, err, "weight %u has the format %u", i, w->format);
    if (bias->present && (!bias->weight || bias->format != QUERN_F32 || bias->dim[0] != w->dim[1] ||
                          bias->dim[1] != w->dim[2]))
        return qn_op_fail(op, err, "bias %u is not F32 of each row of each expert", i);
    return QUERN_OK;
}

static int32_t moe_matmul_check(const struct qn_op *op, const struct qn_kernels *kernels,
                                struct quern_error *err)
{
    const struct quern_moe_matmul_attr *attr = &op->node.attr.moe_matmul;
    const struct qn_arg *x = &op->in[X], *ids = &op->in[IDS], *slots = &op->in[SLOTS];
    if (attr->n_weights != (attr->glu ? 2u : 1u) || attr->act > QUERN_ACT_RELU2)
        return qn_op_fail(op, err, "%u weights, gated %u, activation %u", attr->n_weights, attr->glu,
                          attr->act);
    for (uint32_t i = 0; i < attr->n_weights; i++) {
        int32_t status = check_experts(op, kernels, i, err);
        if (status)
            return status;
    }
    if (!ids->present || ids->weight || ids->format != QUERN_I32 || ids->per_output)
        return qn_op_fail(op, err, "the expert ids are no I32 row for each token");
    size_t k = (size_t)op->in[W].dim[0], n = (size_t)op->in[W].dim[1];
    if (!qn_is_rows(op, x, attr->per_slot ? k * ids->row : k) || x->per_output)
        return qn_op_fail(op, err, "the input has not rows of %zu", k);
    if (!qn_is_rows(op, &op->out[0], n * ids->row) || op->out[0].dim[0] != (int64_t)n)
        return qn_op_fail(op, err, "the output has not rows of %zu for each chosen expert", n);
    if (slots->present && (!slots->weight || slots->format != QUERN_I32))
        return qn_op_fail(op, err, "the table of slots is not I32");
    return QUERN_OK;
}

static bool moe_matmul_plan(struct qn_planner *planner, struct qn_op *op)
{
    struct qn_matmul_plan *plan = &op->plan.matmul;
    size_t k = (size_t)op->in[W].dim[0], n = (size_t)op->in[W].dim[2];
    size_t pairs = (size_t)planner->prepared->max_tokens * n_used_of(op), bytes = 0;
    qn_product_plan(planner, op, W, op->node.attr.moe_matmul.n_weights, op->node.attr.moe_matmul.glu);
    for (enum qn_pack pack = 0; pack < QN_PACK_END; pack++) {
        plan->pack_offset[pack] = bytes;
        if (plan->packs[pack])
            bytes += qn_q8_pad(pairs * qn_pack_stride(pack, k));
    }
    qn_plan_area(planner, QN_AREA_GROUP, (2 + 2 * n + pairs) * sizeof(uint32_t));
    qn_plan_area(planner, QN_AREA_PAIRS, bytes);
    qn_plan_scratch(planner, qn_product_scratch());
    qn_plan_stage(planner, op, group_size, group_run);
    qn_plan_stage(planner, op, gather_size, gather_run);
    qn_plan_stage(planner, op, moe_matmul_size, moe_matmul_run);
    return true;
}

const struct qn_op_kind qn_op_moe_matmul = {
    .name = "moe_matmul", .check = moe_matmul_check, .plan = moe_matmul_plan};

/* ---------------------------------------------------------------- MOE_COMBINE */

static int32_t moe_combine_check(const struct qn_op *op, const struct qn_kernels *kernels,
                                 struct quern_error *err)
{
    const struct qn_arg *y = &op->in[0], *weights = &op->in[1], *out = &op->out[0];
    if (!qn_is_rows(op, y, 0) || !qn_is_rows(op, weights, 0) || !qn_is_rows(op, out, 0) ||
        y->row != weights->row * out->row)
        return qn_op_fail(op, err, "inputs, weights and output do not match");
    if (!qn_is_rows_or_none(op, &op->in[2], out->row) || !qn_is_rows_or_none(op, &op->in[3], 1) ||
        !qn_is_rows_or_none(op, &op->in[4], out->row))
        return qn_op_fail(op, err, "shared expert, its gate or the residual do not match the output");
    return QUERN_OK;
}

static struct qn_work moe_combine_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){qn_rows(&op->out[0], run), (uint32_t)op->in[0].row / 4};
}

static void moe_combine_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                            struct qn_worker *worker)
{
    size_t n = op->out[0].row, n_used = op->in[1].row;
    for (uint32_t t = begin; t < end; t++) {
        const float *weights = qn_row(&op->in[1], t);
        const float *residual = op->in[4].present ? qn_row(&op->in[4], t) : NULL;
        float *out = qn_row(&op->out[0], t);
        for (size_t i = 0; i < n; i++)
            out[i] = residual ? residual[i] : 0.0f;
        for (size_t j = 0; j < n_used; j++)
            run->kernels->axpy_f32(weights[j], qn_row(&op->in[0], t) + j * n, out, n);
        if (op->in[2].present) {
            float gate = op->in[3].present ? 1.0f / (1.0f + expf(-*qn_row(&op->in[3], t))) : 1.0f;
            run->kernels->axpy_f32(gate, qn_row(&op->in[2], t), out, n);
        }
    }
}

static bool moe_combine_plan(struct qn_planner *planner, struct qn_op *op)
{
    qn_plan_stage(planner, op, moe_combine_size, moe_combine_run);
    return true;
}

const struct qn_op_kind qn_op_moe_combine = {
    .name = "moe_combine", .check = moe_combine_check, .plan = moe_combine_plan};
