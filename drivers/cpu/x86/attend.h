/* Attention over a block of positions. Includes nothing: a vocabulary (vec_*.h) comes first. */
#ifndef QN_CPU_X86_ATTEND_H
#define QN_CPU_X86_ATTEND_H

#include "drivers/cpu/x86/vectors.h"

/* Sums of this many queries stay in registers: 12 vectors of 32 (or 16) registers. */
enum {
    ATTEND_VECTORS = QN_ATTEND_ROWS / LANES,
    ATTEND_QUERIES = 12 / ATTEND_VECTORS,
};

static void qn_attend_transpose(const float *rows, size_t d, float *keys)
{
    for (size_t j = 0; j < QN_ATTEND_ROWS; j += LANES)
        for (size_t i = 0; i < d; i += 4) {
            vi column[4];
            vi_piece((const uint8_t *)(rows + j * d + i), d * sizeof *rows, column);
            QN_UNROLL for (int c = 0; c < 4; c++) vi_store(keys + (i + c) * QN_ATTEND_ROWS + j, column[c]);
        }
}

QN_INLINE void qn_attend_scores_n(const float *const *q, int n, size_t d, const float *keys, float *score)
{
    vf sum[ATTEND_QUERIES][ATTEND_VECTORS];
    QN_UNROLL for (int t = 0; t < n; t++) QN_UNROLL for (int v = 0; v < ATTEND_VECTORS; v++) sum[t][v] =
        vf_zero();
    for (size_t i = 0; i < d; i++) {
        vf key[ATTEND_VECTORS];
        QN_UNROLL for (int v = 0; v < ATTEND_VECTORS; v++) key[v] =
            vf_load(keys + i * QN_ATTEND_ROWS + v * LANES);
        QN_UNROLL for (int t = 0; t < n; t++)
        {
            vf element = vf_set(q[t][i]);
            QN_UNROLL for (int v = 0; v < ATTEND_VECTORS; v++) sum[t][v] = vf_fma(element, key[v], sum[t][v]);
        }
    }
    QN_UNROLL for (int t = 0; t < n; t++) QN_UNROLL for (int v = 0; v < ATTEND_VECTORS; v++)
        vf_store(score + t * QN_ATTEND_ROWS + v * LANES, sum[t][v]);
}

static void qn_attend_scores(const float *const *q, size_t n, size_t d, const float *keys, float *score)
{
    for (; n >= ATTEND_QUERIES; n -= ATTEND_QUERIES) {
        qn_attend_scores_n(q, ATTEND_QUERIES, d, keys, score);
        q += ATTEND_QUERIES;
        score += ATTEND_QUERIES * QN_ATTEND_ROWS;
    }
    for (; n >= 2; n -= 2) {
        qn_attend_scores_n(q, 2, d, keys, score);
        q += 2;
        score += 2 * QN_ATTEND_ROWS;
    }
    if (n > 0)
        qn_attend_scores_n(q, 1, d, keys, score);
}

/* `vectors` vectors of the outputs of n queries. */
QN_INLINE void qn_attend_values_n(const float *weight, int n, int vectors, size_t d, const float *values,
                                  float *out)
{
    vf sum[ATTEND_QUERIES][ATTEND_VECTORS];
    QN_UNROLL for (int t = 0; t < n; t++) QN_UNROLL for (int v = 0; v < vectors; v++) sum[t][v] =
        vf_load(out + t * d + v * LANES);
    for (size_t j = 0; j < QN_ATTEND_ROWS; j++) {
        vf value[ATTEND_VECTORS];
        QN_UNROLL for (int v = 0; v < vectors; v++) value[v] = vf_load(values + j * d + v * LANES);
        QN_UNROLL for (int t = 0; t < n; t++)
        {
            vf element = vf_set(weight[t * QN_ATTEND_ROWS + j]);
            QN_UNROLL for (int v = 0; v < vectors; v++) sum[t][v] = vf_fma(element, value[v], sum[t][v]);
        }
    }
    QN_UNROLL for (int t = 0; t < n; t++) QN_UNROLL for (int v = 0; v < vectors; v++)
        vf_store(out + t * d + v * LANES, sum[t][v]);
}

QN_INLINE void qn_attend_values_rows(const float *weight, int n, size_t d, const float *values, float *out)
{
    size_t i = 0;
    for (; i + ATTEND_VECTORS * LANES <= d; i += ATTEND_VECTORS * LANES)
        qn_attend_values_n(weight, n, ATTEND_VECTORS, d, values + i, out + i);
    for (; i < d; i += LANES)
        qn_attend_values_n(weight, n, 1, d, values + i, out + i);
}

static void qn_attend_values(const float *weight, size_t n, size_t d, const float *values, float *out)
{
    for (; n >= ATTEND_QUERIES; n -= ATTEND_QUERIES) {
        qn_attend_values_rows(weight, ATTEND_QUERIES, d, values, out);
        weight += ATTEND_QUERIES * QN_ATTEND_ROWS;
        out += ATTEND_QUERIES * d;
    }
    for (; n >= 2; n -= 2) {
        qn_attend_values_rows(weight, 2, d, values, out);
        weight += 2 * QN_ATTEND_ROWS;
        out += 2 * d;
    }
    if (n > 0)
        qn_attend_values_rows(weight, 1, d, values, out);
}

static void qn_attend_exp(float *x, float max)
{
    QN_UNROLL for (int v = 0; v < ATTEND_VECTORS; v++)
        vf_store(x + v * LANES, qn_exp(vf_sub(vf_load(x + v * LANES), vf_set(max))));
}

#endif
