/* Products of rows of floats with float activations: F32, F16 and BF16 as they lie in the model, and any
 * format after exact decoding. Lanes run along k; a piece of PIECE_LEN products is summed in one vector per
 * element, then across its lanes, and pieces are added in order. Includes nothing: a vocabulary (vec_*.h)
 * comes first. */
#ifndef QN_CPU_VECTOR_FLOAT_TILE_H
#define QN_CPU_VECTOR_FLOAT_TILE_H

#include "drivers/cpu/kernels.h"
#include "drivers/cpu/vector/q8_tile.h"

enum {
    PIECE_LEN = 2048,
    PIECE_ROWS = 4,
    PIECE_TOKENS = REGISTERS == 32 ? 6 : 3,
};
_Static_assert(PIECE_ROWS *PIECE_LEN * sizeof(float) <= QN_MATMUL_SCRATCH, "decoded rows fit the scratch");

enum qn_float_kind { QN_KIND_F32, QN_KIND_F16, QN_KIND_BF16 };

QN_INLINE vf qn_float_load(enum qn_float_kind kind, const void *w, size_t i)
{
    return kind == QN_KIND_F32   ? vf_load((const float *)w + i)
           : kind == QN_KIND_F16 ? vf_load_half((const uint16_t *)w + i)
                                 : vf_load_bhalf((const uint16_t *)w + i);
}

QN_INLINE vf qn_float_load_n(enum qn_float_kind kind, const void *w, size_t i, size_t n)
{
    return kind == QN_KIND_F32   ? vf_load_n((const float *)w + i, n)
           : kind == QN_KIND_F16 ? vf_load_half_n((const uint16_t *)w + i, n)
                                 : vf_load_bhalf_n((const uint16_t *)w + i, n);
}

/* y += one piece of n products, for `rows` rows and `tokens` tokens (constants). next: weights to ask for
 * meanwhile, as many as are read, as one stream: a few rows at a time read by themselves stop at half the
 * bandwidth. NULL: none. */
QN_INLINE void qn_float_block(enum qn_float_kind kind, int rows, int tokens, const char *w, size_t row_bytes,
                              size_t n, const char *x, size_t x_stride, const char *next, float *y,
                              size_t y_stride, bool first)
{
    const size_t element = kind == QN_KIND_F32 ? 4 : 2, each = (size_t)rows * LANES * element;
    vf acc[PIECE_TOKENS][PIECE_ROWS];
    QN_UNROLL for (int t = 0; t < tokens; t++) QN_UNROLL for (int r = 0; r < rows; r++) acc[t][r] = vf_zero();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t at = 0; next && at < each; at += 64)
            v_ask_for(next + i * element * (size_t)rows + at);
        vf have[PIECE_TOKENS];
        QN_UNROLL for (int t = 0; t < tokens; t++) have[t] =
            vf_load((const float *)(const void *)(x + (size_t)t * x_stride) + i);
        QN_UNROLL for (int r = 0; r < rows; r++)
        {
            vf weight = qn_float_load(kind, w + (size_t)r * row_bytes, i);
            QN_UNROLL for (int t = 0; t < tokens; t++) acc[t][r] = vf_fma(weight, have[t], acc[t][r]);
        }
    }
    if (i < n) {
        QN_UNROLL for (int r = 0; r < rows; r++)
        {
            vf weight = qn_float_load_n(kind, w + (size_t)r * row_bytes, i, n - i);
            QN_UNROLL for (int t = 0; t < tokens; t++)
            {
                const float *from = (const float *)(const void *)(x + (size_t)t * x_stride) + i;
                acc[t][r] = vf_fma(weight, vf_load_n(from, n - i), acc[t][r]);
            }
        }
    }
    QN_UNROLL for (int t = 0; t < tokens; t++)
    {
        QN_UNROLL for (int r = 0; r < rows; r++)
        {
            float sum = vf_sum(acc[t][r]), *to = y + (size_t)t * y_stride + r;
            *to = first ? sum : *to + sum;
        }
    }
}

/* One piece of `rows` rows for all tokens. */
QN_INLINE void qn_float_tokens(enum qn_float_kind kind, int rows, const char *w, size_t row_bytes, size_t n,
                               const char *x, size_t x_stride, uint32_t n_tokens, const char *next, float *y,
                               size_t y_stride, bool first)
{
    uint32_t t = 0;
    for (; t + PIECE_TOKENS <= n_tokens; t += PIECE_TOKENS)
        qn_float_block(kind, rows, PIECE_TOKENS, w, row_bytes, n, x + t * x_stride, x_stride,
                       t == 0 ? next : NULL, y + t * y_stride, y_stride, first);
    for (; t + 2 <= n_tokens; t += 2)
        qn_float_block(kind, rows, 2, w, row_bytes, n, x + t * x_stride, x_stride, t == 0 ? next : NULL,
                       y + t * y_stride, y_stride, first);
    for (; t < n_tokens; t++)
        qn_float_block(kind, rows, 1, w, row_bytes, n, x + t * x_stride, x_stride, t == 0 ? next : NULL,
                       y + t * y_stride, y_stride, first);
}

QN_INLINE void qn_float_matmul(enum qn_float_kind kind, size_t element, const void *w, size_t row_bytes,
                               size_t k, uint32_t n_rows, const void *x, size_t x_stride, uint32_t n_tokens,
                               float *y, size_t y_stride)
{
    for (uint32_t r = 0; r < n_rows;) {
        const uint32_t rows = n_rows - r >= PIECE_ROWS ? PIECE_ROWS : 1;
        for (size_t from = 0; from < k; from += PIECE_LEN) {
            const size_t n = k - from < PIECE_LEN ? k - from : PIECE_LEN;
            const char *at = (const char *)w + r * row_bytes + from * element;
            const char *have = (const char *)x + from * sizeof(float);
            const char *next = (const char *)w + (r + rows) * row_bytes + from * element * rows;
            if (rows == PIECE_ROWS)
                qn_float_tokens(kind, PIECE_ROWS, at, row_bytes, n, have, x_stride, n_tokens, next, y + r,
                                y_stride, from == 0);
            else
                qn_float_tokens(kind, 1, at, row_bytes, n, have, x_stride, n_tokens, next, y + r, y_stride,
                                from == 0);
        }
        r += rows;
    }
}

/* The same after decoding PIECE_ROWS rows into the scratch. */
static inline void qn_decoded_matmul(const struct qn_format *format,
                                     void (*dequantise)(const void *restrict, float *restrict, size_t),
                                     const void *w, size_t row_bytes, size_t k, uint32_t n_rows,
                                     const void *x, size_t x_stride, uint32_t n_tokens, float *y,
                                     size_t y_stride, void *scratch)
{
    float(*decoded)[PIECE_LEN] = scratch;
    for (uint32_t r = 0; r < n_rows;) {
        const uint32_t rows = n_rows - r >= PIECE_ROWS ? PIECE_ROWS : 1;
        for (size_t from = 0; from < k; from += PIECE_LEN) {
            const size_t n = k - from < PIECE_LEN ? k - from : PIECE_LEN;
            const char *at = (const char *)w + r * row_bytes + from / format->block_len * format->block_bytes;
            const char *have = (const char *)x + from * sizeof(float);
            for (uint32_t i = 0; i < rows; i++)
                dequantise(at + i * row_bytes, decoded[i], n);
            if (rows == PIECE_ROWS)
                qn_float_tokens(QN_KIND_F32, PIECE_ROWS, (const char *)decoded, sizeof decoded[0], n, have,
                                x_stride, n_tokens, NULL, y + r, y_stride, from == 0);
            else
                qn_float_tokens(QN_KIND_F32, 1, (const char *)decoded, sizeof decoded[0], n, have, x_stride,
                                n_tokens, NULL, y + r, y_stride, from == 0);
        }
        r += rows;
    }
}

#endif
