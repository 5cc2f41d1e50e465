/* See product.h. Results go through a tile in scratch, unless nothing follows the product. */
#include "drivers/cpu/ref/product.h"

#include <math.h>
#include <string.h>

enum { TILE_FLOATS = 32 * 1024, FLOAT_TOKENS = 256 };

size_t qn_product_scratch(void)
{
    return QN_MATMUL_SCRATCH + 2 * TILE_FLOATS * sizeof(float);
}

const struct qn_matmul_kernel *qn_product_kernel(const struct qn_kernels *kernels, uint32_t format,
                                                 uint32_t layout, bool exact)
{
    if (format >= QUERN_FORMAT_END || layout >= QUERN_LAYOUT_END || (exact && layout != QUERN_LAYOUT_FILE))
        return NULL;
    const struct qn_matmul_kernel *kernel = exact ? &kernels->exact[format] : &kernels->fast[layout][format];
    return kernel->run ? kernel : NULL;
}

/* Floats that lie as in the file are shared out by fewer rows, so that small products occupy all threads; the
 * others are best at QN_UNIT_ROWS. */
static uint32_t unit_rows(const struct qn_arg *w, const struct qn_matmul_kernel *kernel)
{
    enum { FLOAT_ROWS = 8 };
    return kernel->pack == QN_PACK_F32 && w->layout == QUERN_LAYOUT_FILE ? FLOAT_ROWS : QN_UNIT_ROWS;
}

void qn_product_plan(const struct qn_planner *planner, struct qn_op *op, uint32_t first, uint32_t n_weights,
                     bool gated)
{
    const struct qn_kernels *kernels = &planner->device->kernels;
    struct qn_matmul_plan *plan = &op->plan.matmul;
    size_t row_bytes = 0;
    for (uint32_t i = 0; i < n_weights; i++) {
        const struct qn_arg *w = &op->in[first + i];
        plan->kernel[i] = qn_product_kernel(kernels, w->format, w->layout, planner->exact);
        plan->origin_kernel[i] = qn_product_kernel(kernels, w->format, QUERN_LAYOUT_FILE, planner->exact);
        plan->packs[plan->kernel[i]->pack] = true;
        const uint32_t rows = unit_rows(w, plan->kernel[i]);
        plan->unit_rows = plan->unit_rows > rows ? plan->unit_rows : rows;
        row_bytes = gated ? row_bytes + w->row_bytes : w->row_bytes > row_bytes ? w->row_bytes : row_bytes;
    }
    plan->unit_bytes = row_bytes * plan->unit_rows;
    for (uint32_t i = 0; i < (gated ? 1 : n_weights); i++)
        plan->n_units[i] = (uint32_t)((op->in[first + i].dim[1] + plan->unit_rows - 1) / plan->unit_rows);
}

/* A thread reads some 16 bytes in a nanosecond, and multiplies with 64 weights or more. */
uint32_t qn_product_cost(const struct qn_matmul_plan *plan, size_t k, uint32_t n_tokens)
{
    const uint64_t cost = plan->unit_bytes / 16 + (uint64_t)plan->unit_rows * k / 64 * n_tokens;
    return cost < UINT32_MAX ? (uint32_t)cost : UINT32_MAX;
}

void qn_product_set_weight(struct qn_product_side *side, const struct qn_matmul_plan *plan, uint32_t i,
                           const struct qn_arg *w, size_t row)
{
    const size_t laid = qn_laid_rows(w);
    side->kernel = plan->kernel[i];
    side->w = (const char *)w->data + row * w->row_bytes;
    side->row_bytes = w->row_bytes;
    side->n_laid = laid > row ? laid - row : 0;
    side->origin_kernel = plan->origin_kernel[i];
    side->origin = w->origin ? (const char *)w->origin + row * w->row_bytes : NULL;
}

void qn_pack_row(const struct qn_kernels *kernels, enum qn_pack pack, const float *x, size_t k, void *row)
{
    if (pack == QN_PACK_Q8)
        kernels->pack_q8(x, k, row);
    else
        memcpy(row, x, k * sizeof *x);
}

/* As many of n as there is room for, in units; at least one unit. bytes: of one; 0: they are the same one. */
static uint32_t as_many(uint32_t n, uint64_t room, size_t bytes, uint32_t unit)
{
    uint64_t fit = bytes > 0 ? room / bytes / unit * unit : n;
    return fit >= n ? n : fit < unit ? unit : (uint32_t)fit;
}

/* Where the tokens do not all fit into the cache beside some rows, it is some rows and tokens at a time.
 * Kernels of floats take what fits along k. */
static void multiply_rows(struct qn_matmul_call call, const struct qn_matmul_kernel *kernel)
{
    enum { COLUMNS = 16 };
    const struct qn_matmul_call all = call;
    const struct qn_reading *how = &kernel->reading;
    uint32_t columns = how->columns, rows = all.n_rows;
    if (columns == 0)
        columns = kernel->pack == QN_PACK_F32
                      ? all.n_tokens
                      : as_many(all.n_tokens, how->cache_bytes / 8 * 3, all.x_stride, COLUMNS);
    if (columns < all.n_tokens)
        rows = as_many(all.n_rows, how->cache_bytes / 4, all.row_bytes, QN_UNIT_ROWS);
    call.reading = *how;
    for (uint32_t r = 0; r < all.n_rows; r += rows)
        for (uint32_t t = 0; t < all.n_tokens; t += columns) {
            call.w = (const char *)all.w + r * all.row_bytes;
            call.n_rows = all.n_rows - r < rows ? all.n_rows - r : rows;
            call.x = (const char *)all.x + t * all.x_stride;
            call.n_tokens = all.n_tokens - t < columns ? all.n_tokens - t : columns;
            call.y = all.y + t * all.y_stride + r;
            kernel->run(&call);
        }
}

/* Rows of one weight for some tokens: y[t * y_stride + i]. A weight that is being laid out is read in two
 * places, whose kernels give the same bits. */
static void multiply(const struct qn_product *product, int s, size_t first, size_t n_rows, uint32_t token,
                     uint32_t n_tokens, float *y, size_t y_stride, void *scratch)
{
    const struct qn_product_side *side = &product->side[s];
    const size_t left = side->n_laid > first ? side->n_laid - first : 0, laid = left < n_rows ? left : n_rows;
    struct qn_matmul_call call = {.row_bytes = side->row_bytes,
                                  .k = product->k,
                                  .n_tokens = n_tokens,
                                  .x = (const char *)side->x + (size_t)token * side->x_stride,
                                  .x_stride = side->x_stride,
                                  .y_stride = y_stride,
                                  .scratch = scratch};
    if (laid > 0) {
        call.w = side->w + first * side->row_bytes;
        call.n_rows = (uint32_t)laid;
        call.y = y;
        multiply_rows(call, side->kernel);
    }
    if (laid < n_rows) {
        call.w = side->origin + (first + laid) * side->row_bytes;
        call.n_rows = (uint32_t)(n_rows - laid);
        call.y = y + laid;
        multiply_rows(call, side->origin_kernel);
    }
}

static void add_bias(float *a, const float *bias, size_t n)
{
    if (bias)
        for (size_t i = 0; i < n; i++)
            a[i] += bias[i];
}

/* What follows n results of one token; b: those of the second weight. */
static void finish(const struct qn_product *product, const struct qn_run *run, size_t first, size_t n,
                   float *a, float *b, float *y, const float *residual)
{
    add_bias(a, product->side[0].bias ? product->side[0].bias + first : NULL, n);
    if (b) {
        add_bias(b, product->side[1].bias ? product->side[1].bias + first : NULL, n);
    } else {
        float scale = product->scale, cap = product->softcap;
        if (scale != 1.0f)
            for (size_t i = 0; i < n; i++)
                a[i] *= scale;
        if (cap > 0)
            for (size_t i = 0; i < n; i++)
                a[i] = cap * tanhf(a[i] / cap);
    }
    if (product->act != QUERN_ACT_NONE || b)
        run->kernels->gate(product->act, a, b, a, n);
    if (residual)
        for (size_t i = 0; i < n; i++)
            y[i] = residual[i] + product->residual_scale * a[i];
    else
        memcpy(y, a, n * sizeof *y);
}

static bool nothing_follows(const struct qn_product *product)
{
    return product->n_weights == 1 && !product->side[0].bias && product->scale == 1.0f &&
           product->softcap == 0 && product->act == QUERN_ACT_NONE && !product->residual && !product->row_of;
}

void qn_product_rows(const struct qn_product *product, const struct qn_run *run, size_t first, size_t n_rows,
                     struct qn_worker *worker)
{
    void *scratch = worker->scratch;
    if (nothing_follows(product)) {
        multiply(product, 0, first, n_rows, 0, product->n_tokens, product->y + first, product->y_stride,
                 scratch);
        return;
    }
    float *tile[2];
    tile[0] = (float *)(void *)((char *)scratch + QN_MATMUL_SCRATCH);
    tile[1] = tile[0] + TILE_FLOATS;
    /* Floats come from farther away than bytes: more rows share them. */
    const uint32_t most = product->side[0].kernel->pack == QN_PACK_F32 ? FLOAT_TOKENS : UINT32_MAX;
    const uint32_t at_once = product->n_tokens < most ? product->n_tokens : most;
    size_t rows = TILE_FLOATS / at_once / QN_UNIT_ROWS * QN_UNIT_ROWS;
    if (rows < QN_UNIT_ROWS)
        rows = QN_UNIT_ROWS;
    if (rows > n_rows)
        rows = n_rows;
    uint32_t tokens = (uint32_t)(TILE_FLOATS / rows);
    for (size_t r = 0; r < n_rows; r += rows) {
        size_t n = n_rows - r < rows ? n_rows - r : rows, row = first + r;
        for (uint32_t t = 0; t < product->n_tokens; t += tokens) {
            uint32_t m = product->n_tokens - t < tokens ? product->n_tokens - t : tokens;
            for (uint32_t side = 0; side < product->n_weights; side++)
                multiply(product, (int)side, row, n, t, m, tile[side], n, scratch);
            for (uint32_t i = 0; i < m; i++) {
                size_t at = (product->row_of ? product->row_of[t + i] : t + i) * product->y_stride + row;
                finish(product, run, row, n, tile[0] + i * n,
                       product->n_weights == 2 ? tile[1] + i * n : NULL, product->y + at,
                       product->residual ? product->residual + at : NULL);
            }
        }
    }
}
