/* Vector work of the kernel table: packing, dot products, sums, gated activations. Includes nothing: a
 * vocabulary (vec_*.h) comes first. */
#ifndef QN_CPU_VECTOR_VECTORS_H
#define QN_CPU_VECTOR_VECTORS_H

#include "drivers/cpu/kernels.h"
#include "drivers/cpu/vector/q8_tile.h"

#include <quern/driver.h>

#include <math.h>

/* ---------------------------------------------------------------- packing */

/* Magnitudes are compared as integers, where infinity and NaN are the largest: they reach d, and through it
 * every result. Blocks below 1e-36 count as zeros, since 127 / max would overflow. */
static void qn_pack_q8(const float *restrict x, size_t k, void *restrict row)
{
    enum { PARTS = 32 / LANES };
    struct qn_q8_row at = qn_q8_row_at(row, k);
    char *base = row;
    int8_t *q = (int8_t *)base;
    float *d = (float *)(void *)(base + ((const char *)at.d - base));
    int32_t *sum = (int32_t *)(void *)(base + ((const char *)at.sum - base));
    int32_t *sum16 = (int32_t *)(void *)(base + ((const char *)at.sum16 - base));
    for (size_t b = 0; b < k / 32; b++) {
        vf have[PARTS];
        vi most = vi_zero(), bytes[PARTS];
        uint32_t half[2];
        QN_UNROLL for (int i = 0; i < PARTS; i++)
        {
            have[i] = vf_load(x + b * 32 + i * LANES);
            most = vi_max_u32(most, vi_and(vf_bits(have[i]), vi_set(0x7fffffff)));
        }
        uint32_t bits = vi_highest_u32(most);
        float max;
        memcpy(&max, &bits, sizeof max);
        d[b] = max / 127.0f;
        vf inverse = vf_set(max < 1e-36f ? 0.0f : 127.0f / max);
        QN_UNROLL for (int i = 0; i < PARTS; i++) bytes[i] = vf_to_int(vf_mul(have[i], inverse));
        vi_store_bytes(q + b * 32, bytes);
        QN_UNROLL for (int h = 0; h < 2; h++)
        {
            vi all = bytes[h * PARTS / 2];
            QN_UNROLL for (int i = 1; i < PARTS / 2; i++) all = vi_add(all, bytes[h * PARTS / 2 + i]);
            half[h] = (uint32_t)vi_sum(all);
            sum16[2 * b + h] = (int32_t)half[h];
        }
        sum[b] = (int32_t)(half[0] + half[1]);
    }
}

/* ---------------------------------------------------------------- sums */

static float qn_dot_f32(const float *a, const float *b, size_t n)
{
    vf acc[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        QN_UNROLL for (int j = 0; j < 4; j++) acc[j] =
            vf_fma(vf_load(a + i + j * LANES), vf_load(b + i + j * LANES), acc[j]);
    for (; i + LANES <= n; i += LANES)
        acc[0] = vf_fma(vf_load(a + i), vf_load(b + i), acc[0]);
    if (i < n)
        acc[1] = vf_fma(vf_load_n(a + i, n - i), vf_load_n(b + i, n - i), acc[1]);
    return vf_sum(vf_add(vf_add(acc[0], acc[1]), vf_add(acc[2], acc[3])));
}

static float qn_sum_squares(const float *x, size_t n)
{
    return qn_dot_f32(x, x, n);
}

static void qn_axpy_f32(float a, const float *restrict x, float *restrict y, size_t n)
{
    const vf scale = vf_set(a);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(y + i, vf_fma(scale, vf_load(x + i), vf_load(y + i)));
    if (i < n)
        vf_store_n(y + i, vf_fma(scale, vf_load_n(x + i, n - i), vf_load_n(y + i, n - i)), n - i);
}

/* `brain` is a constant. */
QN_INLINE void qn_floats_of_words(const uint16_t *x, float *restrict out, size_t n, bool brain)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vf_store(out + i, brain ? vf_load_bhalf(x + i) : vf_load_half(x + i));
    if (i < n)
        vf_store_n(out + i, brain ? vf_load_bhalf_n(x + i, n - i) : vf_load_half_n(x + i, n - i), n - i);
}

static void qn_floats_f16(const void *restrict blocks, float *restrict out, size_t n)
{
    qn_floats_of_words(blocks, out, n, false);
}

static void qn_floats_bf16(const void *restrict blocks, float *restrict out, size_t n)
{
    qn_floats_of_words(blocks, out, n, true);
}

static void qn_floats_q8_0(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q8_0 *block = blocks;
    for (size_t b = 0; b < n / 32; b++, block++) {
        const vf d = vf_set(qn_f16_to_f32(block->d));
        for (size_t i = 0; i < 32; i += LANES) {
            vi q = vi_load_bytes((const uint8_t *)block->qs + i);
            vf_store(out + b * 32 + i, vf_mul(vf_from_int(vi_sra(vi_sll(q, 24), 24)), d));
        }
    }
}

static void qn_floats_q4_0(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q4_0 *block = blocks;
    for (size_t b = 0; b < n / 32; b++, block++) {
        const vf d = vf_set(qn_f16_to_f32(block->d));
        for (size_t i = 0; i < 16; i += LANES) {
            vi q = vi_load_bytes(block->qs + i);
            vi low = vi_sub(vi_and(q, vi_set(15)), vi_set(8)), high = vi_sub(vi_srl(q, 4), vi_set(8));
            vf_store(out + b * 32 + i, vf_mul(vf_from_int(low), d));
            vf_store(out + b * 32 + 16 + i, vf_mul(vf_from_int(high), d));
        }
    }
}

/* ---------------------------------------------------------------- activations */

/* e^x within 2 units in the last place for -87 <= x <= 88, clamped outside; NaN stays NaN. x = n ln 2 + r,
 * then the Taylor series of e^r, |r| <= ln 2 / 2, whose eighth term is below the last place. */
QN_INLINE vf qn_exp(vf x)
{
    x = vf_min(vf_set(88.0f), vf_max(vf_set(-87.0f), x));
    vf n = vf_round(vf_mul(x, vf_set(1.44269504f)));
    vf r = vf_fnma(n, vf_set(0x1.62e4p-1f), x); /* ln 2 in two parts; n times the first is exact */
    r = vf_fnma(n, vf_set(0x1.7f7d1cp-20f), r);
    vf p = vf_set(1.0f / 5040);
    p = vf_fma(p, r, vf_set(1.0f / 720));
    p = vf_fma(p, r, vf_set(1.0f / 120));
    p = vf_fma(p, r, vf_set(1.0f / 24));
    p = vf_fma(p, r, vf_set(1.0f / 6));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    return vf_of_bits(vi_add(vf_bits(p), vi_sll(vf_to_int(n), 23)));
}

/* x / (1 + e^-z) */
QN_INLINE vf qn_sigmoid_times(vf x, vf z)
{
    return vf_div(x, vf_add(vf_set(1.0f), qn_exp(vf_sub(vf_zero(), z))));
}

QN_INLINE vf qn_act(uint32_t act, vf x)
{
    switch (act) {
    case QUERN_ACT_SILU:
        return qn_sigmoid_times(x, x);
    case QUERN_ACT_GELU_TANH: { /* (1 + tanh u) / 2 = 1 / (1 + e^-2u) */
        vf cube = vf_mul(vf_mul(x, x), x);
        return qn_sigmoid_times(x, vf_mul(vf_set(1.5957691216f), vf_fma(vf_set(0.044715f), cube, x)));
    }
    case QUERN_ACT_GELU_QUICK:
        return qn_sigmoid_times(x, vf_mul(vf_set(1.702f), x));
    case QUERN_ACT_RELU:
        return vf_max(vf_zero(), x);
    case QUERN_ACT_RELU2:
        return vf_mul(vf_max(vf_zero(), x), vf_max(vf_zero(), x));
    default:
        return x;
    }
}

QN_INLINE void qn_gate_loop(uint32_t act, const float *gate, const float *up, float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf a = qn_act(act, vf_load(gate + i));
        vf_store(y + i, up ? vf_mul(a, vf_load(up + i)) : a);
    }
    if (i < n) {
        vf a = qn_act(act, vf_load_n(gate + i, n - i));
        vf_store_n(y + i, up ? vf_mul(a, vf_load_n(up + i, n - i)) : a, n - i);
    }
}

static void qn_gate(uint32_t act, const float *gate, const float *up, float *y, size_t n)
{
    switch (act) {
    case QUERN_ACT_SILU:
        qn_gate_loop(QUERN_ACT_SILU, gate, up, y, n);
        break;
    case QUERN_ACT_GELU_TANH:
        qn_gate_loop(QUERN_ACT_GELU_TANH, gate, up, y, n);
        break;
    case QUERN_ACT_GELU_QUICK:
        qn_gate_loop(QUERN_ACT_GELU_QUICK, gate, up, y, n);
        break;
    case QUERN_ACT_RELU:
        qn_gate_loop(QUERN_ACT_RELU, gate, up, y, n);
        break;
    case QUERN_ACT_RELU2:
        qn_gate_loop(QUERN_ACT_RELU2, gate, up, y, n);
        break;
    case QUERN_ACT_GELU_ERF:
        for (size_t i = 0; i < n; i++) {
            float a = 0.5f * gate[i] * (1.0f + erff(gate[i] * 0.7071067812f));
            y[i] = up ? a * up[i] : a;
        }
        break;
    default:
        qn_gate_loop(QUERN_ACT_NONE, gate, up, y, n);
    }
}

#endif
