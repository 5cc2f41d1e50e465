/* What every 64-bit Arm processor has: float vectors, and 8-bit products widened to 16 bits. */
#include "drivers/cpu/arm/q8_units.h"

#define ISA_NAME    "neon"
#define NAME(lower) matmul_##lower##__neon

/* Products of bytes from -127 to 127 (weights -128 too) fit 16 bits, and so does a sum of one pair. */
QN_INLINE int32x4_t dot16(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vpadalq_s16(sum, vmull_s8(vget_high_s8(a), vget_high_s8(b)));
}

#include "drivers/cpu/arm/q8_dot.inc"
#include "drivers/cpu/arm/q8_formats.inc"

/* ---------------------------------------------------------------- floats */

/* Four floats of each format, at element i. */
QN_INLINE float32x4_t load4_f32(const void *p, size_t i)
{
    return vld1q_f32((const float *)p + i);
}

QN_INLINE float32x4_t load4_f16(const void *p, size_t i)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)p + i)));
}

QN_INLINE float32x4_t load4_bf16(const void *p, size_t i)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16((const uint16_t *)p + i), 16));
}

QN_INLINE float load1_f32(const void *p, size_t i)
{
    return ((const float *)p)[i];
}

QN_INLINE float load1_f16(const void *p, size_t i)
{
    return half_to_float(((const uint16_t *)p)[i]);
}

QN_INLINE float load1_bf16(const void *p, size_t i)
{
    return qn_bf16_to_f32(((const uint16_t *)p)[i]);
}

typedef float32x4_t (*load4_fn)(const void *p, size_t i);
typedef float (*load1_fn)(const void *p, size_t i);

/* sum w_i x_i for n tokens, whose rows are `stride` floats apart. */
QN_INLINE void dots(load4_fn load4, load1_fn load1, const void *w, const float *x, size_t stride, size_t k,
                    uint32_t n, float *out)
{
    float32x4_t sum[4][2];
    for (uint32_t t = 0; t < n; t++)
        sum[t][0] = sum[t][1] = vdupq_n_f32(0);
    size_t i = 0;
    for (; i + 8 <= k; i += 8) {
        float32x4_t a = load4(w, i), b = load4(w, i + 4);
        for (uint32_t t = 0; t < n; t++) {
            sum[t][0] = vfmaq_f32(sum[t][0], a, vld1q_f32(x + t * stride + i));
            sum[t][1] = vfmaq_f32(sum[t][1], b, vld1q_f32(x + t * stride + i + 4));
        }
    }
    for (uint32_t t = 0; t < n; t++) {
        out[t] = vaddvq_f32(vaddq_f32(sum[t][0], sum[t][1]));
        for (size_t j = i; j < k; j++)
            out[t] += load1(w, j) * x[t * stride + j];
    }
}

QN_INLINE void matmul_floats(load4_fn load4, load1_fn load1, const void *w, size_t row_bytes, size_t k,
                             uint32_t n_rows, const void *x, size_t x_stride, uint32_t n_tokens, float *y,
                             size_t y_stride)
{
    size_t stride = x_stride / sizeof(float);
    for (uint32_t t = 0; t < n_tokens; t += 4) {
        uint32_t n = n_tokens - t < 4 ? n_tokens - t : 4;
        const float *tokens = (const float *)x + t * stride;
        for (uint32_t r = 0; r < n_rows; r++) {
            const char *row = (const char *)w + r * row_bytes;
            float out[4];
            if (n == 4)
                dots(load4, load1, row, tokens, stride, k, 4, out);
            else if (n == 1)
                dots(load4, load1, row, tokens, stride, k, 1, out);
            else
                dots(load4, load1, row, tokens, stride, k, n, out);
            for (uint32_t i = 0; i < n; i++)
                y[(t + i) * y_stride + r] = out[i];
        }
    }
}

#define QN_FLOAT_FORMATS(F) F(F32, f32) F(F16, f16) F(BF16, bf16)
#define F(id, lower)                                                                                      \
    static void NAME(lower)(const void *w, size_t row_bytes, size_t k, uint32_t n_rows, const void *x,    \
                            size_t x_stride, uint32_t n_tokens, float *y, size_t y_stride, void *scratch) \
    {                                                                                                     \
        (void)scratch;                                                                                    \
        matmul_floats(load4_##lower, load1_##lower, w, row_bytes, k, n_rows, x, x_stride, n_tokens, y,    \
                      y_stride);                                                                          \
    }
QN_FLOAT_FORMATS(F)
#undef F

/* ---------------------------------------------------------------- vectors */

static float dot_f32(const float *a, const float *b, size_t n)
{
    float out;
    dots(load4_f32, load1_f32, a, b, 0, n, 1, &out);
    return out;
}

static float sum_squares(const float *x, size_t n)
{
    return dot_f32(x, x, n);
}

QN_INLINE void axpy(load4_fn load4, load1_fn load1, float a, const void *x, float *y, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(y + i, vfmaq_n_f32(vld1q_f32(y + i), load4(x, i), a));
    for (; i < n; i++)
        y[i] = vgetq_lane_f32(vfmaq_n_f32(vdupq_n_f32(y[i]), vdupq_n_f32(load1(x, i)), a), 0);
}

static void axpy_f32(float a, const float *restrict x, float *restrict y, size_t n)
{
    axpy(load4_f32, load1_f32, a, x, y, n);
}

static void dequantise_f16(const void *restrict blocks, float *restrict out, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(out + i, load4_f16(blocks, i));
    for (; i < n; i++)
        out[i] = load1_f16(blocks, i);
}

static void pack_q8(const float *restrict x, size_t k, void *restrict row)
{
    struct qn_q8_row at = qn_q8_row_at(row, k);
    int8_t *q = (int8_t *)(uintptr_t)at.q;
    float *d = (float *)(uintptr_t)at.d;
    int32_t *sum = (int32_t *)(uintptr_t)at.sum, *sum16 = (int32_t *)(uintptr_t)at.sum16;
    for (size_t b = 0; b < k / 32; b++) {
        float32x4_t v[8], largest = vdupq_n_f32(0);
        for (int i = 0; i < 8; i++) {
            v[i] = vld1q_f32(x + b * 32 + 4 * i);
            largest = vmaxq_f32(largest, vabsq_f32(v[i]));
        }
        float max = vmaxvq_f32(largest);
        float inverse = max > 0 ? 127.0f / max : 0.0f;
        d[b] = max / 127.0f;
        for (int half = 0; half < 2; half++) {
            int16x8_t words[2];
            for (int i = 0; i < 2; i++) {
                int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(v[4 * half + 2 * i], inverse));
                int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(v[4 * half + 2 * i + 1], inverse));
                words[i] = vcombine_s16(vmovn_s32(low), vmovn_s32(high));
            }
            int8x16_t bytes = vcombine_s8(vmovn_s16(words[0]), vmovn_s16(words[1]));
            vst1q_s8(q + b * 32 + 16 * half, bytes);
            sum16[2 * b + half] = vaddlvq_s8(bytes);
        }
        sum[b] = sum16[2 * b] + sum16[2 * b + 1];
    }
}

void qn_kernels_neon(struct qn_kernels *kernels)
{
    fill_q8(kernels);
#define F(id, lower)                                                            \
    kernels->exact[QUERN_##id] = kernels->fast[QUERN_LAYOUT_FILE][QUERN_##id] = \
        (struct qn_matmul_kernel){NAME(lower), QN_PACK_F32, "qn_matmul_" #lower "__" ISA_NAME};
    QN_FLOAT_FORMATS(F)
#undef F
    kernels->dequantise[QUERN_F16] = dequantise_f16;
    kernels->pack_q8 = pack_q8;
    kernels->axpy_f32 = axpy_f32;
    kernels->sum_squares = sum_squares;
}
