#include "conformance/errors.h"

#include "formats/formats.h"

#include <math.h>

static double norm_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* Norms of the rows of x or of a weight. NULL: memory is out. */
static double *norms(const struct quern_callbacks *cb, const float *x, size_t n_rows, size_t row)
{
    double *norm = qn_alloc(cb, n_rows + 1, sizeof *norm);
    for (size_t r = 0; r < n_rows && norm; r++)
        norm[r] = norm_of(x + r * row, row);
    return norm;
}

static double *weight_norms(struct qn_case *c, uint32_t id)
{
    const struct quern_value *w = &c->values[id].value;
    const struct qn_format *format = qn_format_get((enum quern_format)w->format);
    size_t k = (size_t)w->dim[0], n = (size_t)(w->dim[1] * w->dim[2]);
    size_t row_bytes = c->values[id].bytes / n;
    float *row = qn_alloc(c->cb, k, sizeof *row);
    double *norm = qn_alloc(c->cb, n, sizeof *norm);
    for (size_t r = 0; r < n && row && norm; r++) {
        format->dequantise((const char *)c->values[id].data + r * row_bytes, row, k);
        norm[r] = norm_of(row, k);
    }
    if (!row) {
        qn_free(c->cb, norm);
        norm = NULL;
    }
    qn_free(c->cb, row);
    return norm;
}

/* What an error is measured by: an element of a product by the norms of its row and column (and with two
 * products, by both), others by what goes into them. out: result number `which`, [n elements]. The caller
 * frees. */
static double *product_scale(const struct qn_op_case *at, struct qn_case *c, uint32_t which, size_t n)
{
    bool moe = at->op == QUERN_OP_MOE_MATMUL;
    uint32_t sides = at->op == QUERN_OP_MATMUL ? at->matmul.glu + 1u : at->moe.glu + 1u;
    const struct qn_case_value *x = &c->values[c->node.in[0]];
    size_t k = (size_t)x->value.dim[0], n_x = x->bytes / 4 / k;
    size_t rows = (size_t)c->values[c->node.in[1 + which]].value.dim[1];
    uint32_t act = moe ? at->moe.act : at->matmul.act;
    double *x_norm = norms(c->cb, x->data, n_x, k), *scale = qn_alloc(c->cb, n + 1, sizeof *scale);
    bool good = x_norm && scale;
    for (size_t i = 0; i < n && good; i++)
        scale[i] = 1;
    for (uint32_t side = 0; side < sides && good; side++) {
        double *w_norm = weight_norms(c, c->node.in[1 + which + side]);
        good = w_norm != NULL;
        uint32_t bias = c->node.in[(moe ? 3 : 4) + which + side];
        for (size_t i = 0; i < n && good; i++) {
            size_t column = i / rows, row = i % rows;
            if (moe) {
                row += rows * (size_t)((const int32_t *)c->values[c->node.in[5]].data)[column];
                column = at->moe.per_slot ? column : column / at->moe.n_used;
            }
            double size = w_norm[row] * x_norm[column] + (double)k * 1e-30;
            if (bias != QUERN_NONE)
                size += fabs((double)qn_case_data(c, bias)[row]);
            scale[i] *= act == QUERN_ACT_RELU2 ? size * size : size;
        }
        qn_free(c->cb, w_norm);
    }
    if (!moe && at->matmul.residual)
        for (size_t i = 0; i < n && good; i++)
            scale[i] += fabs((double)qn_case_data(c, c->node.in[7])[i]);
    qn_free(c->cb, x_norm);
    if (!good) {
        qn_free(c->cb, scale);
        scale = NULL;
    }
    return scale;
}

static double *activation_scale(const struct qn_op_case *at, struct qn_case *c, size_t n)
{
    double *scale = qn_alloc(c->cb, n + 1, sizeof *scale);
    for (size_t i = 0; i < n && scale; i++) {
        size_t d = at->activation.n, row = i / d;
        const float *gate = qn_case_data(c, c->node.in[0]) + row * d * (at->activation.split ? 2 : 1);
        double other = at->activation.split ? gate[d + i % d]
                       : at->activation.up  ? qn_case_data(c, c->node.in[1])[i]
                                            : 1;
        double x = fabs((double)gate[i % d]);
        scale[i] = (at->activation.act == QUERN_ACT_RELU2 ? x * x : x) * fabs(other) + 1e-30;
    }
    return scale;
}

/* The largest number of the row, as the reference has it. */
static double *row_scale(const struct quern_callbacks *cb, const float *want, size_t n, size_t row)
{
    double *scale = qn_alloc(cb, n + 1, sizeof *scale);
    for (size_t first = 0; first < n && scale; first += row) {
        double largest = 0;
        for (size_t i = first; i < first + row; i++)
            largest = fmax(largest, fabs((double)want[i]));
        for (size_t i = first; i < first + row; i++)
            scale[i] = largest + 1e-30;
    }
    return scale;
}

double *qn_error_scale(const struct qn_op_case *at, struct qn_case *c, uint32_t which, const float *want)
{
    const struct qn_case_value *value = &c->values[c->node.out[which]];
    size_t n = value->bytes / 4;
    switch (at->op) {
    case QUERN_OP_MATMUL:
    case QUERN_OP_MOE_MATMUL:
        return product_scale(at, c, which, n);
    case QUERN_OP_ACTIVATION:
        return activation_scale(at, c, n);
    case QUERN_OP_EMBED:
    case QUERN_OP_ROWS:
    case QUERN_OP_NORM:
        return row_scale(c->cb, want, n, at->op == QUERN_OP_NORM ? at->norm.group : 1);
    default:
        return row_scale(c->cb, want, n, value->row_bytes / 4);
    }
}

double qn_error_allowed(const struct qn_op_case *at)
{
    switch (at->op) {
    case QUERN_OP_MATMUL:
    case QUERN_OP_MOE_MATMUL:
        return at->exact ? 2e-6 : 6e-3;
    case QUERN_OP_ATTENTION: /* rounding of a score moves its weight as much as the score is large */
        return (at->exact ? 2e-6 : 2e-3) *
               (1 + (at->fill == QN_FILL_HUGE ? 1e26 : 1) * at->kv.scale * sqrt(at->kv.layer.head_dim_k));
    case QUERN_OP_EMBED:
    case QUERN_OP_ROWS:
        return 3e-7;
    default:
        return 5e-6;
    }
}

struct qn_error_of qn_error_compare(const float *got, const float *want, const double *scale, size_t n)
{
    struct qn_error_of error = {.finite = true};
    double squares = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - want[i]), relative = off / scale[i];
        error.finite = error.finite && isfinite(got[i]) && isfinite(want[i]);
        if (!(relative <= error.relative) || i == 0)
            error.relative = relative, error.at = i;
        squares += off * off;
        all += (double)want[i] * want[i];
    }
    error.rms = all > 0 ? sqrt(squares / all) : 0;
    return error;
}
