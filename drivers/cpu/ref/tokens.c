/* Operations that pick: EMBED takes rows of a table by token id, ROWS those of the step's outputs, SELECT the
 * best values of a row. */
#include "drivers/cpu/ops.h"
#include "formats/rows16.h"

#include <float.h>
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
    const size_t n_laid = qn_laid_rows(table);
    float scale = op->node.attr.embed.scale;
    for (uint32_t t = begin; t < end; t++) {
        float *y = qn_row(&op->out[0], t);
        const bool laid = (size_t)token[t] < n_laid;
        const char *row = laid ? table->data : table->origin;
        row += (size_t)token[t] * table->row_bytes;
        if (laid && table->layout == QUERN_LAYOUT_ROWS16) {
            qn_rows16_row(table->format, op->out[0].row, (size_t)table->dim[1], table->data, (size_t)token[t],
                          worker->scratch);
            row = worker->scratch;
        }
        run->kernels->dequantise[table->format](row, y, op->out[0].row);
        if (scale != 1.0f)
            for (size_t i = 0; i < op->out[0].row; i++)
                y[i] *= scale;
    }
}

static bool embed_plan(struct qn_planner *planner, struct qn_op *op)
{
    if (op->in[0].layout != QUERN_LAYOUT_FILE)
        qn_plan_scratch(planner, op->in[0].row_bytes);
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

/* ---------------------------------------------------------------- SELECT */

struct pair {
    int32_t bits, place;
};

/* Numbers in the order of floats; -0 is 0, and what is not finite comes last. */
static uint32_t key_of(float x)
{
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return UINT32_MAX;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* Places x at `place`, behind all earlier ones, among the n best so far, of which at most k are kept. */
static uint32_t insert(struct pair *best, uint32_t *keys, uint32_t n, uint32_t k, float x, int32_t place)
{
    uint32_t key = key_of(x), at = n < k ? n : k - 1;
    if (n == k && key <= keys[at])
        return n;
    for (; at > 0 && key > keys[at - 1]; at--) {
        best[at] = best[at - 1];
        keys[at] = keys[at - 1];
    }
    best[at].place = place;
    memcpy(&best[at].bits, &x, 4);
    keys[at] = key;
    return n < k ? n + 1 : k;
}

static void select_row(const float *x, size_t n, uint32_t k, struct pair *best)
{
    enum { STRIDE = 64 };
    uint32_t keys[QUERN_MAX_SELECT], found = 0;
    size_t i = 0;
    while (i < n && found < k) {
        found = insert(best, keys, found, k, x[i], (int32_t)i);
        i++;
    }
    while (i < n) { /* most stretches have nothing better than the last one */
        size_t end = i + STRIDE < n ? i + STRIDE : n;
        float last;
        memcpy(&last, &best[k - 1].bits, 4);
        uint32_t any = keys[k - 1] == UINT32_MAX;
        for (size_t j = i; j < end; j++)
            any |= !(x[j] <= last) | !(x[j] >= -FLT_MAX);
        for (; any && i < end; i++)
            insert(best, keys, k, k, x[i], (int32_t)i);
        i = end;
    }
}

static int32_t select_check(const struct qn_op *op, const struct qn_kernels *kernels, struct quern_error *err)
{
    const struct qn_arg *x = &op->in[0], *y = &op->out[0];
    uint32_t k = op->node.attr.select.k;
    if (!qn_is_rows(op, x, 0) || !x->per_output || k == 0 || k > QUERN_MAX_SELECT || k > x->row)
        return qn_op_fail(op, err, "the input has no row of %u or more for each output", k);
    if (!y->present || y->weight || y->format != QUERN_I32 || !y->per_output || y->row != 2 * (size_t)k)
        return qn_op_fail(op, err, "the output has no %u pairs for each output", k);
    return QUERN_OK;
}

static struct qn_work select_size(const struct qn_op *op, const struct qn_run *run)
{
    return (struct qn_work){run->step->select > 0 ? run->step->n_outputs : 0, (uint32_t)op->in[0].row / 4};
}

static void select_run(const struct qn_op *op, const struct qn_run *run, uint32_t begin, uint32_t end,
                       struct qn_worker *worker)
{
    uint32_t k = op->node.attr.select.k, wanted = run->step->select < k ? run->step->select : k;
    for (uint32_t o = begin; o < end; o++)
        select_row(qn_row(&op->in[0], o), op->in[0].row, wanted,
                   (struct pair *)op->out[0].data + (size_t)o * k);
}

static bool select_plan(struct qn_planner *planner, struct qn_op *op)
{
    qn_plan_stage(planner, op, select_size, select_run);
    return true;
}

const struct qn_op_kind qn_op_select = {.name = "select", .check = select_check, .plan = select_plan};
