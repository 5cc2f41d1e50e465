/* The kernel table in plain C. Sums run in eight lanes, so that a compiler can use whatever vectors there are
 * without changing the order of additions. */
#include <quern/driver.h>

#include "drivers/cpu/kernels.h"

#include <math.h>
#include <string.h>

enum { LANES = 8 };

static float add_lanes(const float lane[LANES])
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* ---------------------------------------------------------------- vectors */

static float dot_f32(const float *a, const float *b, size_t n)
{
    float lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lane[l] += a[i + l] * b[i + l];
    for (size_t l = 0; i < n; i++, l++)
        lane[l] += a[i] * b[i];
    return add_lanes(lane);
}

static void axpy_f32(float a, const float *restrict x, float *restrict y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static float sum_squares(const float *x, size_t n)
{
    return dot_f32(x, x, n);
}

static void attend_transpose(const float *rows, size_t d, float *keys)
{
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < QN_ATTEND_ROWS; j++)
            keys[i * QN_ATTEND_ROWS + j] = rows[j * d + i];
}

static void attend_transpose_f16(const uint16_t *rows, size_t d, float *keys)
{
    for (size_t j = 0; j < QN_ATTEND_ROWS; j++)
        for (size_t i = 0; i < d; i++)
            keys[i * QN_ATTEND_ROWS + j] = qn_f16_to_f32(rows[j * d + i]);
}

static void attend_scores(const float *const *q, size_t n, size_t d, const float *keys, float *score)
{
    for (size_t t = 0; t < n; t++) {
        float sum[QN_ATTEND_ROWS] = {0};
        for (size_t i = 0; i < d; i++)
            for (size_t j = 0; j < QN_ATTEND_ROWS; j++)
                sum[j] += q[t][i] * keys[i * QN_ATTEND_ROWS + j];
        memcpy(score + t * QN_ATTEND_ROWS, sum, sizeof sum);
    }
}

static float attend_weigh(float *x, const struct qn_attend_rule *rule, float *max)
{
    float lane[LANES] = {0}, most = *max, cap = rule->cap;
    for (uint32_t j = rule->begin; j < rule->end; j++) {
        x[j] *= rule->scale;
        if (cap > 0)
            x[j] = cap * tanhf(x[j] / cap);
        most = fmaxf(most, x[j]);
    }
    for (uint32_t j = 0; j < QN_ATTEND_ROWS; j++) {
        x[j] = j >= rule->begin && j < rule->end ? expf(x[j] - most) : 0.0f;
        lane[j % LANES] += x[j];
    }
    *max = most;
    return add_lanes(lane);
}

static void attend_values(const float *weight, size_t n, size_t d, const float *values, float *const *out)
{
    for (size_t t = 0; t < n; t++)
        for (size_t j = 0; j < QN_ATTEND_ROWS; j++)
            axpy_f32(weight[t * QN_ATTEND_ROWS + j], values + j * d, out[t], d);
}

static float act(uint32_t kind, float x)
{
    switch (kind) {
    case QUERN_ACT_SILU:
        return x / (1.0f + expf(-x));
    case QUERN_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case QUERN_ACT_GELU_ERF:
        return 0.5f * x * (1.0f + erff(x * 0.7071067812f));
    case QUERN_ACT_GELU_QUICK:
        return x / (1.0f + expf(-1.702f * x));
    case QUERN_ACT_RELU:
        return x > 0 ? x : 0;
    case QUERN_ACT_RELU2:
        return x > 0 ? x * x : 0;
    default:
        return x;
    }
}

static void gate(uint32_t kind, const float *g, const float *up, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = up ? act(kind, g[i]) * up[i] : act(kind, g[i]);
}

/* ---------------------------------------------------------------- packing */

/* The largest magnitude of 32 numbers. Compared as integers, where infinity and NaN are the largest, so that
 * they reach the scale and through it every result. */
static float largest(const float x[32])
{
    uint32_t most = 0;
    for (size_t i = 0; i < 32; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    float max;
    memcpy(&max, &most, sizeof max);
    return max;
}

/* Blocks below 1e-36 count as zeros: 127 / max would overflow. */
static void pack_q8(const float *restrict x, size_t k, void *restrict row)
{
    struct qn_q8_row at = qn_q8_row_at(row, k);
    int8_t *q = (int8_t *)(uintptr_t)at.q;
    float *d = (float *)(uintptr_t)at.d;
    int32_t *sum = (int32_t *)(uintptr_t)at.sum, *sum16 = (int32_t *)(uintptr_t)at.sum16;
    for (size_t b = 0; b < k / 32; b++) {
        float max = largest(x + b * 32);
        d[b] = max / 127.0f;
        float inverse = max < 1e-36f ? 0.0f : 127.0f / max;
        sum16[2 * b] = sum16[2 * b + 1] = 0;
        for (size_t i = 0; i < 32; i++) {
            q[b * 32 + i] = (int8_t)lrintf(x[b * 32 + i] * inverse);
            sum16[2 * b + i / 16] += q[b * 32 + i];
        }
        sum[b] = sum16[2 * b] + sum16[2 * b + 1];
    }
}

/* ---------------------------------------------------------------- matmul */

/* Rows are decoded a few at a time, so that the tokens are read once for all of them, and in pieces along k,
 * so that they fit the scratch. */
enum { ROWS = 4, PIECE = 8192 };
_Static_assert(ROWS *PIECE * sizeof(float) <= QN_MATMUL_SCRATCH, "decoded rows fit the scratch");

typedef float (*piece_dot_fn)(const float *w, const void *x, size_t k, size_t first, size_t n);

static float piece_dot_f32(const float *w, const void *x, size_t k, size_t first, size_t n)
{
    return dot_f32(w, (const float *)x + first, n);
}

/* Decoded weights with 8-bit activations. */
static float piece_dot_q8(const float *w, const void *x, size_t k, size_t first, size_t n)
{
    struct qn_q8_row row = qn_q8_row_at(x, k);
    const int8_t *q = row.q + first;
    const float *d = row.d + first / 32;
    float lane[LANES] = {0};
    for (size_t b = 0; b < n / 32; b++) {
        float block[LANES] = {0};
        for (size_t i = 0; i < 32; i += LANES)
            for (size_t l = 0; l < LANES; l++)
                block[l] += w[b * 32 + i + l] * (float)q[b * 32 + i + l];
        for (size_t l = 0; l < LANES; l++)
            lane[l] += block[l] * d[b];
    }
    return add_lanes(lane);
}

static inline void matmul(const struct qn_format *format, piece_dot_fn dot, const struct qn_matmul_call *call)
{
    float(*decoded)[PIECE] = call->scratch;
    for (uint32_t r = 0; r < call->n_rows; r += ROWS) {
        uint32_t rows = call->n_rows - r < ROWS ? call->n_rows - r : ROWS;
        for (size_t first = 0; first < call->k; first += PIECE) {
            size_t n = call->k - first < PIECE ? call->k - first : PIECE;
            size_t skip = first / format->block_len * format->block_bytes;
            for (uint32_t i = 0; i < rows; i++)
                format->dequantise((const char *)call->w + (r + i) * call->row_bytes + skip, decoded[i], n);
            for (uint32_t t = 0; t < call->n_tokens; t++) {
                float *out = call->y + t * call->y_stride + r;
                for (uint32_t i = 0; i < rows; i++) {
                    float sum =
                        dot(decoded[i], (const char *)call->x + t * call->x_stride, call->k, first, n);
                    out[i] = first == 0 ? sum : out[i] + sum;
                }
            }
        }
    }
}

/* The functions of each format that holds weights. */
#define KERNEL(prefix, dot, id, lower)                              \
    static void prefix##_##lower(const struct qn_matmul_call *call) \
    {                                                               \
        matmul(qn_format_get(QUERN_##id), dot, call);               \
    }
#define QN_FORMAT_RAW(id, lower, len, bytes)
#define QN_FORMAT_PLAIN(id, lower, len, bytes) KERNEL(exact, piece_dot_f32, id, lower)
#define QN_FORMAT_R(id, lower, len, bytes)  \
    KERNEL(exact, piece_dot_f32, id, lower) \
    KERNEL(fast, piece_dot_q8, id, lower)
#define QN_FORMAT_RW(id, lower, len, bytes) QN_FORMAT_R(id, lower, len, bytes)
#include "formats/formats.inc"

/* Plain floats have no 8-bit form: both columns are exact. */
#define QN_FORMAT_RAW(id, lower, len, bytes)
#define QN_FORMAT_PLAIN(id, lower, len, bytes)                                              \
    kernels->exact[QUERN_##id] =                                                            \
        (struct qn_matmul_kernel){exact_##lower, QN_PACK_F32, "qn_matmul_" #lower "__ref"}; \
    kernels->fast[QUERN_LAYOUT_FILE][QUERN_##id] = kernels->exact[QUERN_##id];              \
    kernels->dequantise[QUERN_##id] = qn_format_get(QUERN_##id)->dequantise;
#define QN_FORMAT_R(id, lower, len, bytes)                                                        \
    kernels->exact[QUERN_##id] =                                                                  \
        (struct qn_matmul_kernel){exact_##lower, QN_PACK_F32, "qn_matmul_" #lower "_exact__ref"}; \
    kernels->fast[QUERN_LAYOUT_FILE][QUERN_##id] =                                                \
        (struct qn_matmul_kernel){fast_##lower, QN_PACK_Q8, "qn_matmul_" #lower "__ref"};         \
    kernels->dequantise[QUERN_##id] = qn_format_get(QUERN_##id)->dequantise;
#define QN_FORMAT_RW(id, lower, len, bytes) QN_FORMAT_R(id, lower, len, bytes)

void qn_kernels_ref(struct qn_kernels *kernels)
{
#include "formats/formats.inc"
    kernels->pack_q8 = pack_q8;
    kernels->axpy_f32 = axpy_f32;
    kernels->sum_squares = sum_squares;
    kernels->attend_transpose = attend_transpose;
    kernels->attend_transpose_f16 = attend_transpose_f16;
    kernels->attend_scores = attend_scores;
    kernels->attend_weigh = attend_weigh;
    kernels->attend_values = attend_values;
    kernels->gate = gate;
}
