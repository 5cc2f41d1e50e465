/* 8-bit matrix work with the matrix instructions of Armv8.6: two rows with two tokens at a time. Where there
 * is one left, it stands for both. */
#include "drivers/cpu/arm/q8_units.h"

#define ISA_NAME    "i8mm"
#define NAME(lower) matmul_##lower##__i8mm

/* 16 values of a and of b: their first halves, then their second halves. */
QN_INLINE int8x16_t first_halves(int8x16_t a, int8x16_t b)
{
    return vcombine_s8(vget_low_s8(a), vget_low_s8(b));
}

QN_INLINE int8x16_t second_halves(int8x16_t a, int8x16_t b)
{
    return vcombine_s8(vget_high_s8(a), vget_high_s8(b));
}

/* Adds sums of 16 products: rows a, b with tokens s, t: as, at, bs, bt. */
QN_INLINE int32x4_t dot16_2x2(int32x4_t sum, int8x16_t a, int8x16_t b, int8x16_t s, int8x16_t t)
{
    sum = vmmlaq_s32(sum, first_halves(a, b), first_halves(s, t));
    return vmmlaq_s32(sum, second_halves(a, b), second_halves(s, t));
}

enum { PAIRS = 2 }; /* of tokens that share the decoded units */

/* sum[p]: rows a, b with the pair's tokens; each as unit_value() has it. */
QN_INLINE void rows_pairs(unit_fn load, bool split, const char *row_a, const char *row_b, size_t k,
                          const struct qn_q8_row *x, uint32_t n_pairs, float32x4_t *sum)
{
    for (uint32_t p = 0; p < n_pairs; p++)
        sum[p] = vdupq_n_f32(0);
    for (size_t b = 0; b < k / 32; b++) {
        struct unit ua = load(row_a, b), ub = load(row_b, b);
        float32x4_t d0 = vcombine_f32(vdup_n_f32(ua.d[0]), vdup_n_f32(ub.d[0]));
        float32x4_t d1 = vcombine_f32(vdup_n_f32(ua.d[1]), vdup_n_f32(ub.d[1]));
        float32x4_t m = vcombine_f32(vdup_n_f32(ua.m), vdup_n_f32(ub.m));
        for (uint32_t p = 0; p < n_pairs; p++) {
            const struct qn_q8_row *s = &x[2 * p], *t = &x[2 * p + 1];
            const int8_t *qs = s->q + 32 * b, *qt = t->q + 32 * b;
            int32x4_t zero = vdupq_n_s32(0);
            int32x4_t i0 = dot16_2x2(zero, ua.q[0], ub.q[0], vld1q_s8(qs), vld1q_s8(qt));
            int32x4_t i1 =
                dot16_2x2(split ? zero : i0, ua.q[1], ub.q[1], vld1q_s8(qs + 16), vld1q_s8(qt + 16));
            if (!split) {
                i0 = i1;
                i1 = zero;
            }
            float32x2_t dx = {s->d[b], t->d[b]};
            int32x2_t total = {s->sum[b], t->sum[b]};
            float32x4_t value = vmulq_f32(d0, vcvtq_f32_s32(i0));
            value = vaddq_f32(value, vmulq_f32(d1, vcvtq_f32_s32(i1)));
            value = vsubq_f32(value, vmulq_f32(m, vcvtq_f32_s32(vcombine_s32(total, total))));
            sum[p] = vaddq_f32(sum[p], vmulq_f32(value, vcombine_f32(dx, dx)));
        }
    }
}

QN_INLINE void matmul_units(unit_fn load, bool split, const void *w, size_t row_bytes, size_t k,
                            uint32_t n_rows, const void *x, size_t x_stride, uint32_t n_tokens, float *y,
                            size_t y_stride)
{
    for (uint32_t t = 0; t < n_tokens; t += 2 * PAIRS) {
        uint32_t n = n_tokens - t < 2 * PAIRS ? n_tokens - t : 2 * PAIRS;
        struct qn_q8_row rows[2 * PAIRS];
        for (uint32_t i = 0; i < 2 * PAIRS; i++)
            rows[i] = qn_q8_row_at((const char *)x + (t + (i < n ? i : n - 1)) * x_stride, k);
        for (uint32_t r = 0; r < n_rows; r += 2) {
            uint32_t second = r + 1 < n_rows ? r + 1 : r;
            const char *a = (const char *)w + r * row_bytes, *b = (const char *)w + second * row_bytes;
            float32x4_t sum[PAIRS];
            float out[PAIRS][4];
            if (n > 2)
                rows_pairs(load, split, a, b, k, rows, PAIRS, sum);
            else
                rows_pairs(load, split, a, b, k, rows, 1, sum);
            for (uint32_t p = 0; p < (n + 1) / 2; p++)
                vst1q_f32(out[p], sum[p]);
            for (uint32_t i = 0; i < n; i++) {
                y[(t + i) * y_stride + r] = out[i / 2][i % 2];
                y[(t + i) * y_stride + second] = out[i / 2][2 + i % 2];
            }
        }
    }
}

#include "drivers/cpu/arm/q8_formats.inc"

void qn_kernels_i8mm(struct qn_kernels *kernels)
{
    fill_q8(kernels);
}
