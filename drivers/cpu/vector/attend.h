/* Attention over a block of positions. Includes nothing: a vocabulary (vec_*.h) comes first. */
#ifndef QN_CPU_VECTOR_ATTEND_H
#define QN_CPU_VECTOR_ATTEND_H

#include "drivers/cpu/vector/vectors.h"

/* Sums of this many queries stay in registers: 16 vectors of 32 registers, or 12 of 16. What is left over is
 * taken by a few, by two, and alone. */
enum {
    ATTEND_VECTORS = QN_ATTEND_ROWS / LANES,
    ATTEND_QUERIES = (REGISTERS == 32 ? 16 : 12) / ATTEND_VECTORS,
    ATTEND_FEW = ATTEND_QUERIES > 4 ? 4 : 2,
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

/* A lane of a piece has two numbers of a row. */
static void qn_attend_transpose_f16(const uint16_t *rows, size_t d, float *keys)
{
    for (size_t j = 0; j < QN_ATTEND_ROWS; j += LANES)
        for (size_t i = 0; i < d; i += 8) {
            vi pair[4];
            vi_piece((const uint8_t *)(rows + j * d + i), d * sizeof *rows, pair);
            QN_UNROLL for (int c = 0; c < 4; c++)
            {
                float *to = keys + (i + 2 * c) * QN_ATTEND_ROWS + j;
                vf_store(to, vf_of_halves(pair[c]));
                vf_store(to + QN_ATTEND_ROWS, vf_of_halves(vi_srl(pair[c], 16)));
            }
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
    size_t t = 0;
    for (; t + ATTEND_QUERIES <= n; t += ATTEND_QUERIES)
        qn_attend_scores_n(q + t, ATTEND_QUERIES, d, keys, score + t * QN_ATTEND_ROWS);
    for (; t + ATTEND_FEW <= n; t += ATTEND_FEW)
        qn_attend_scores_n(q + t, ATTEND_FEW, d, keys, score + t * QN_ATTEND_ROWS);
    for (; t + 2 <= n; t += 2)
        qn_attend_scores_n(q + t, 2, d, keys, score + t * QN_ATTEND_ROWS);
    if (t < n)
        qn_attend_scores_n(q + t, 1, d, keys, score + t * QN_ATTEND_ROWS);
}

/* All bits where a query sees a row, read from ROWS - begin on and from 2 ROWS - end on. */
#define ATTEND_EIGHT(x) x, x, x, x, x, x, x, x
#define ATTEND_ROWS(x)  ATTEND_EIGHT(x), ATTEND_EIGHT(x), ATTEND_EIGHT(x), ATTEND_EIGHT(x)
_Static_assert(QN_ATTEND_ROWS == 32, "as many as ATTEND_ROWS");
static const int32_t qn_attend_seen[3 * QN_ATTEND_ROWS] = {ATTEND_ROWS(0), ATTEND_ROWS(-1), ATTEND_ROWS(0)};

/* cap tanh(x / cap) = cap (2 / (1 + e^(-2 x / cap)) - 1) */
QN_INLINE vf qn_attend_cap(vf x, float cap)
{
    vf twice = vf_div(vf_set(2.0f), vf_add(vf_set(1.0f), qn_exp(vf_mul(x, vf_set(-2.0f / cap)))));
    return vf_mul(vf_set(cap), vf_sub(twice, vf_set(1.0f)));
}

static float qn_attend_weigh(float *x, const struct qn_attend_rule *rule, float *max)
{
    const int32_t *from = qn_attend_seen + QN_ATTEND_ROWS - rule->begin;
    const int32_t *to = qn_attend_seen + 2 * QN_ATTEND_ROWS - rule->end;
    const vi lowest = vi_set((int32_t)0xff800000); /* minus infinity */
    vf score[ATTEND_VECTORS], most = vf_set(*max), sum;
    vi seen[ATTEND_VECTORS];
    QN_UNROLL for (int v = 0; v < ATTEND_VECTORS; v++)
    {
        seen[v] = vi_and(vi_load(from + v * LANES), vi_load(to + v * LANES));
        score[v] = vf_mul(vf_load(x + v * LANES), vf_set(rule->scale));
    }
    if (rule->cap > 0)
        QN_UNROLL for (int v = 0; v < ATTEND_VECTORS; v++) score[v] = qn_attend_cap(score[v], rule->cap);
    QN_UNROLL for (int v = 0; v < ATTEND_VECTORS; v++)
    {
        vi bits = vi_or(vi_and(seen[v], vf_bits(score[v])), vi_and(vi_xor(seen[v], vi_set(-1)), lowest));
        most = vf_max(vf_of_bits(bits), most); /* which stays where the other is NaN */
    }
    *max = vf_highest(most);
    QN_UNROLL for (int v = 0; v < ATTEND_VECTORS; v++)
    {
        vf weight = qn_exp(vf_sub(score[v], vf_set(*max)));
        weight = vf_of_bits(vi_and(seen[v], vf_bits(weight)));
        sum = v == 0 ? weight : vf_add(sum, weight);
        vf_store(x + v * LANES, weight);
    }
    return vf_sum(sum);
}

/* `vectors` vectors of the outputs of n queries. */
QN_INLINE void qn_attend_values_n(const float *weight, int n, int vectors, size_t d, const float *values,
                                  float *const *out, size_t at)
{
    vf sum[ATTEND_QUERIES][ATTEND_VECTORS];
    QN_UNROLL for (int t = 0; t < n; t++) QN_UNROLL for (int v = 0; v < vectors; v++) sum[t][v] =
        vf_load(out[t] + at + v * LANES);
    for (size_t j = 0; j < QN_ATTEND_ROWS; j++) {
        vf value[ATTEND_VECTORS];
        QN_UNROLL for (int v = 0; v < vectors; v++) value[v] = vf_load(values + j * d + at + v * LANES);
        QN_UNROLL for (int t = 0; t < n; t++)
        {
            vf element = vf_set(weight[t * QN_ATTEND_ROWS + j]);
            QN_UNROLL for (int v = 0; v < vectors; v++) sum[t][v] = vf_fma(element, value[v], sum[t][v]);
        }
    }
    QN_UNROLL for (int t = 0; t < n; t++) QN_UNROLL for (int v = 0; v < vectors; v++)
        vf_store(out[t] + at + v * LANES, sum[t][v]);
}

QN_INLINE void qn_attend_values_rows(const float *weight, int n, size_t d, const float *values,
                                     float *const *out)
{
    size_t i = 0;
    for (; i + ATTEND_VECTORS * LANES <= d; i += ATTEND_VECTORS * LANES)
        qn_attend_values_n(weight, n, ATTEND_VECTORS, d, values, out, i);
    for (; i < d; i += LANES)
        qn_attend_values_n(weight, n, 1, d, values, out, i);
}

static void qn_attend_values(const float *weight, size_t n, size_t d, const float *values, float *const *out)
{
    size_t t = 0;
    for (; t + ATTEND_QUERIES <= n; t += ATTEND_QUERIES)
        qn_attend_values_rows(weight + t * QN_ATTEND_ROWS, ATTEND_QUERIES, d, values, out + t);
    for (; t + ATTEND_FEW <= n; t += ATTEND_FEW)
        qn_attend_values_rows(weight + t * QN_ATTEND_ROWS, ATTEND_FEW, d, values, out + t);
    for (; t + 2 <= n; t += 2)
        qn_attend_values_rows(weight + t * QN_ATTEND_ROWS, 2, d, values, out + t);
    if (t < n)
        qn_attend_values_rows(weight + t * QN_ATTEND_ROWS, 1, d, values, out + t);
}

#endif
