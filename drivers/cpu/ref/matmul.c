/* MATMUL: up to three weights with one input. The input is packed once for all of them, and for the next
 * matmul of the same input; then the threads share the weights' rows. */
#include "drivers/cpu/ops.h"
#include "drivers/cpu/ref/product.h"

enum { X, W, BIAS = 4, RESIDUAL = 7 }; /* places among the inputs */

static int32_t check_weight(const struct qn_op *op, const struct qn_kernels *kernels, uint32_t i,
                            struct quern_error *err)
{
    const struct qn_arg *w = &op->in[W + i], *bias = &op->in[BIAS + i];
    if (!w->present || !w->weight || w->dim[0] != (int64_t)op->in[X].row || w->dim[2] != 1 || w->dim[3] != 1)
        return qn_op_fail(op, err, "weight %u is missing or has not rows of %zu", i, op->in[X].row);
    if (!qn_product_kernel(kernels, w->format, QUERN_LAYOUT_FILE, false) ||
        !qn_product_kernel(kernels, w->format, QUERN_LAYOUT_FILE, true))
        return qn_op_fail(op, err, "weight %u has the format %u", i, w->format);
    if (!qn_is_vector_or_none(bias, w->dim[1]))
        return qn_op_fail(op, err, "bias %u is not F32 of %lld elements", i, (long long)w->dim[1]);
    return QUERN_OK;
}

static int32_t matmul_check(const struct qn_op *op, const struct qn_kernels *kernels, struct quern_error *err)
{
    const struct quern_matmul_attr *attr = &op->node.attr.matmul;
    uint32_t n_out = attr->glu ? 1 : attr->n_weights;
    if (!qn_is_rows(op, &op->in[X], 0))
        return qn_op_fail(op, err, "the input is no row of numbers");
    if (attr->n_weights < 1 || attr->n_weights > 3 || attr->act > QUERN_ACT_RELU2 || !(attr->softcap >= 0))
        return qn_op_fail(op, err, "%u weights, activation %u, soft cap %g", attr->n_weights, attr->act,
                          (double)attr->softcap);
    for (uint32_t i = 0; i < attr->n_weights; i++) {
        int32_t status = check_weight(op, kernels, i, err);
        if (status)
            return status;
    }
    if (attr->glu && (attr->n_weights != 2 || op->in[W].dim[1] != op->in[W + 1].dim[1] ||
                      attr->scale != 1.0f || attr->softcap > 0))
        return qn_op_fail(op, err, "a gated product has two weights of one shape, no scale and no soft cap");
    for (uint32_t i = 0; i < n_out; i++)
        if (!qn_is_rows(op, &op->out[i], (size_t)op->in[W + i].dim[1]))
            return qn_op_fail(op, err, "output %u has not rows of %lld", i, (long long)op->in[W + i].dim[1]);
    if (op->in[RESIDUAL].present && (n_out != 1 || !qn_is_rows(op, &op->in[RESIDUAL], op->out[0].row)))
        return qn_op_fail(op, err, "a residual goes with one output of the same shape");
    return QUERN_OK;
}

/* ---------------------------------------------------------------- packing */

static struct qn_work pack_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){qn_rows(&op->in[X], run), (uint32_t)op->in[X].row / 8};
}

static void *packed_row(const struct qn_op *op, const struct qn_run *run, size_t row)
{
    char *base = run->device->area[op->plan.matmul.area].data;
    return base + row * qn_pack_stride(QN_PACK_Q8, op->in[X].row);
}

static void pack_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                     struct qn_worker *worker)
{
    for (uint32_t t = begin; t < end; t++)
        qn_pack_row(run->kernels, QN_PACK_Q8, qn_row(&op->in[X], t), op->in[X].row, packed_row(op, run, t));
}

/* ---------------------------------------------------------------- multiplying */

static struct qn_work matmul_size(const struct qn_op *op, const struct qn_run *run)
{
    const uint32_t *units = op->plan.matmul.n_units;
    uint32_t tokens = qn_rows(&op->in[X], run);
    return (struct qn_work){tokens > 0 ? units[0] + units[1] + units[2] : 0,
                            qn_product_cost(&op->plan.matmul, op->in[X].row, tokens)};
}

static void set_side(const struct qn_op *op, const struct qn_run *run, uint32_t weight, uint32_t side,
                     struct qn_product *product)
{
    const struct qn_arg *w = &op->in[W + weight];
    const struct qn_matmul_kernel *kernel = op->plan.matmul.kernel[weight];
    qn_product_set_weight(&product->side[side], &op->plan.matmul, weight, w, 0);
    product->side[side].bias = op->in[BIAS + weight].data;
    product->side[side].x = kernel->pack == QN_PACK_Q8 ? packed_row(op, run, 0) : op->in[X].data;
    product->side[side].x_stride = qn_pack_stride(kernel->pack, op->in[X].row);
}

static struct qn_product product_of(const struct qn_op *op, const struct qn_run *run, uint32_t weight)
{
    const struct quern_matmul_attr *attr = &op->node.attr.matmul;
    struct qn_product product = {.n_weights = attr->glu ? 2 : 1,
                                 .act = attr->act,
                                 .scale = attr->scale,
                                 .softcap = attr->softcap,
                                 .k = op->in[X].row,
                                 .n_tokens = qn_rows(&op->in[X], run),
                                 .y = op->out[weight].data,
                                 .y_stride = op->out[weight].row,
                                 .residual = op->in[RESIDUAL].data,
                                 .residual_scale = attr->residual_scale};
    set_side(op, run, weight, 0, &product);
    if (attr->glu)
        set_side(op, run, 1, 1, &product);
    return product;
}

static void matmul_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                       struct qn_worker *worker)
{
    const uint32_t *units = op->plan.matmul.n_units, unit_rows = op->plan.matmul.unit_rows;
    uint32_t base = 0; /* first unit of the weight */
    for (uint32_t i = 0; i < 3; base += units[i], i++) {
        uint32_t from = begin > base ? begin : base;
        uint32_t to = end < base + units[i] ? end : base + units[i];
        if (from >= to)
            continue;
        struct qn_product product = product_of(op, run, i);
        size_t first = (size_t)(from - base) * unit_rows, last = (size_t)(to - base) * unit_rows;
        if (last > product.y_stride)
            last = product.y_stride;
        qn_product_rows(&product, run, first, last - first, worker);
    }
}

static bool matmul_plan(struct qn_planner *planner, struct qn_op *op)
{
    const struct quern_matmul_attr *attr = &op->node.attr.matmul;
    struct qn_matmul_plan *plan = &op->plan.matmul;
    qn_product_plan(planner, op, W, attr->n_weights, attr->glu);
    size_t bytes = qn_plan_max_rows(planner, &op->in[X]) * qn_pack_stride(QN_PACK_Q8, op->in[X].row);
    if (plan->packs[QN_PACK_Q8] && bytes > 0 &&
        qn_plan_cached(planner, QN_AREA_PACK_0, QN_AREA_PACK_1, op->in[X].id, bytes, &plan->area))
        qn_plan_stage(planner, op, pack_size, pack_run);
    qn_plan_scratch(planner, qn_product_scratch());
    qn_plan_stage(planner, op, matmul_size, matmul_run);
    return true;
}

const struct qn_op_kind qn_op_matmul = {.name = "matmul", .check = matmul_check, .plan = matmul_plan};
