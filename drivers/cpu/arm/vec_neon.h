/* The vocabulary of the kernels in the 128-bit vectors of 64-bit Arm, with dot products and matrix
 * instructions where the compiler may use them; x86/vec_avx512.h tells what the words mean. */
#ifndef QN_CPU_ARM_VEC_NEON_H
#define QN_CPU_ARM_VEC_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 4, REGISTERS = 32 };
typedef int32x4_t vi;
typedef float32x4_t vf;

/* ---- integers ---- */

#define vi_and(a, b)      vandq_s32(a, b)
#define vi_or(a, b)       vorrq_s32(a, b)
#define vi_xor(a, b)      veorq_s32(a, b)
#define vi_add(a, b)      vaddq_s32(a, b)
#define vi_sub(a, b)      vsubq_s32(a, b)
#define vi_mul(a, b)      vmulq_s32(a, b)
#define vi_max(a, b)      vmaxq_s32(a, b)
#define vi_max_u32(a, b)  vi_of_words(vmaxq_u32(vi_words(a), vi_words(b)))
#define vi_set(x)         vdupq_n_s32(x)
#define vi_set_bytes(x)   vreinterpretq_s32_s8(vdupq_n_s8(x))
#define vi_zero()         vdupq_n_s32(0)
#define vi_look_up(t, i)  vreinterpretq_s32_s8(vqtbl1q_s8(vi_bytes(t), vreinterpretq_u8_s32(i)))
#define vi_load(p)        vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)(p)))
#define vi_store(p, a)    vst1q_u8((uint8_t *)(p), vreinterpretq_u8_s32(a))
#define vi_table(p)       vi_load(p)
#define vi_spread(p)      vld1q_dup_s32((const int32_t *)(const void *)(p))
#define vi_bytes(a)       vreinterpretq_s8_s32(a)
#define vi_words(a)       vreinterpretq_u32_s32(a)
#define vi_of_words(a)    vreinterpretq_s32_u32(a)
#define vi_zip_low(a, b)  vzip1q_s32(a, b)
#define vi_zip_high(a, b) vzip2q_s32(a, b)
#define vi_even(a, b)     vuzp1q_s32(a, b)
#define vi_odd(a, b)      vuzp2q_s32(a, b)
#define v_ask_for(p)      __builtin_prefetch(p, 0, 2)

/* Byte by byte. */
#define vi_add_bytes(a, b)  vreinterpretq_s32_s8(vaddq_s8(vi_bytes(a), vi_bytes(b)))
#define vi_sub_bytes(a, b)  vreinterpretq_s32_s8(vsubq_s8(vi_bytes(a), vi_bytes(b)))
#define vi_more_bytes(a, b) vreinterpretq_s32_u8(vcgtq_s8(vi_bytes(a), vi_bytes(b)))
#define vi_test_bytes(a, b) vreinterpretq_s32_u8(vtstq_s8(vi_bytes(a), vi_bytes(b)))

/* Operators, because the functions take only numbers that are written down, from 1 on. */
static inline vi vi_srl(vi a, int n)
{
    return vi_of_words(vi_words(a) >> vdupq_n_u32((uint32_t)n));
}
static inline vi vi_sll(vi a, int n)
{
    return vi_of_words(vi_words(a) << vdupq_n_u32((uint32_t)n));
}
static inline vi vi_sra(vi a, int n)
{
    return a >> vdupq_n_s32(n);
}

static inline void vi_piece(const uint8_t *p, size_t stride, vi out[4])
{
    vi a = vi_load(p), b = vi_load(p + stride), c = vi_load(p + 2 * stride), d = vi_load(p + 3 * stride);
    int64x2_t even01 = vreinterpretq_s64_s32(vtrn1q_s32(a, b)),
              odd01 = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
    int64x2_t even23 = vreinterpretq_s64_s32(vtrn1q_s32(c, d)),
              odd23 = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
    out[0] = vreinterpretq_s32_s64(vtrn1q_s64(even01, even23));
    out[1] = vreinterpretq_s32_s64(vtrn1q_s64(odd01, odd23));
    out[2] = vreinterpretq_s32_s64(vtrn2q_s64(even01, even23));
    out[3] = vreinterpretq_s32_s64(vtrn2q_s64(odd01, odd23));
}

static inline int32x2_t vi_word(const uint8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return vdup_n_s32(word);
}

static inline vi vi_of_four(const uint8_t *a, const uint8_t *b, const uint8_t *c, const uint8_t *d)
{
    return vcombine_s32(vzip1_s32(vi_word(a), vi_word(b)), vzip1_s32(vi_word(c), vi_word(d)));
}

static inline vi vi_gather(const uint8_t *p, size_t stride)
{
    return vi_of_four(p, p + stride, p + 2 * stride, p + 3 * stride);
}

/* The places p + n * i. Lanes leave the vector two at a time. */
struct vi_places {
    const uint8_t *a, *b, *c, *d;
};
static inline struct vi_places vi_places_of(const uint8_t *p, vi i, size_t n)
{
    const uint64_t low = vgetq_lane_u64(vreinterpretq_u64_s32(i), 0);
    const uint64_t high = vgetq_lane_u64(vreinterpretq_u64_s32(i), 1);
    return (struct vi_places){p + n * (uint32_t)low, p + n * (low >> 32), p + n * (uint32_t)high,
                              p + n * (high >> 32)};
}

static inline vi vi_fetch(const uint8_t *p, vi i, size_t n)
{
    const struct vi_places at = vi_places_of(p, i, n);
    return vi_of_four(at.a, at.b, at.c, at.d);
}

static inline void vi_fetch_two(const uint8_t *p, vi i, size_t n, vi out[2])
{
    const struct vi_places at = vi_places_of(p, i, n);
    const vi ab = vreinterpretq_s32_u8(vcombine_u8(vld1_u8(at.a), vld1_u8(at.b)));
    const vi cd = vreinterpretq_s32_u8(vcombine_u8(vld1_u8(at.c), vld1_u8(at.d)));
    out[0] = vi_even(ab, cd);
    out[1] = vi_odd(ab, cd);
}

static inline vi vi_load_bytes(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    uint16x8_t halves = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    return vi_of_words(vmovl_u16(vget_low_u16(halves)));
}

/* ---- products ---- */

#define V_DOT_UNSIGNED 0
#ifdef __ARM_FEATURE_DOTPROD
#define V_HAS_DOT 1
/* Four groups of activations, and which of them is meant. */
typedef struct {
    int8x16_t bytes;
    int i;
} vx;
typedef vi vp;
#define vx_load(p, g) ((vx){vld1q_s8((const int8_t *)(p) + (g) / 4 * 16), (g) % 4})
#define vp_zero()     vi_zero()
static inline __attribute__((always_inline)) vi vi_dot(vi a, vi w, vx x)
{
    switch (x.i) {
    case 0:
        return vdotq_laneq_s32(a, vi_bytes(w), x.bytes, 0);
    case 1:
        return vdotq_laneq_s32(a, vi_bytes(w), x.bytes, 1);
    case 2:
        return vdotq_laneq_s32(a, vi_bytes(w), x.bytes, 2);
    default:
        return vdotq_laneq_s32(a, vi_bytes(w), x.bytes, 3);
    }
}
#else
/* A product in each 16 bits: of the first two rows, and of the others. */
#define V_HAS_DOT         0
#define VP_PRODUCTS       1
typedef int8x8_t vx;
typedef int16x8x2_t vp;
#define vx_load(p, g)     vreinterpret_s8_s32(vld1_dup_s32((const int32_t *)(const void *)(p) + (g)))
#define vp_unsigned(w, x) vp_signed(w, x)
static inline vp vp_zero(void)
{
    return (vp){{vdupq_n_s16(0), vdupq_n_s16(0)}};
}
static inline vp vp_signed(vi w, vx x)
{
    return (vp){{vmull_s8(vget_low_s8(vi_bytes(w)), x), vmull_s8(vget_high_s8(vi_bytes(w)), x)}};
}
static inline vp vp_add(vp a, vp b)
{
    return (vp){{vaddq_s16(a.val[0], b.val[0]), vaddq_s16(a.val[1], b.val[1])}};
}
static inline vi vp_join(vp a)
{
    return vpaddq_s32(vpaddlq_s16(a.val[0]), vpaddlq_s16(a.val[1]));
}
#endif

#ifdef __ARM_FEATURE_MATMUL_INT8
#define V_HAS_MATRIX       1
#define vi_matrix(a, w, x) vmmlaq_s32(a, vi_bytes(w), vi_bytes(x))
#else
#define V_HAS_MATRIX 0
#endif
/* 8 bytes from each place. */
static inline vi vi_join_eights(const char *a, const char *b)
{
    return vreinterpretq_s32_s8(vcombine_s8(vld1_s8((const int8_t *)a), vld1_s8((const int8_t *)b)));
}

/* ---- floats ---- */

#define vf_zero()        vdupq_n_f32(0)
#define vf_set(x)        vdupq_n_f32(x)
#define vf_add(a, b)     vaddq_f32(a, b)
#define vf_sub(a, b)     vsubq_f32(a, b)
#define vf_mul(a, b)     vmulq_f32(a, b)
#define vf_div(a, b)     vdivq_f32(a, b)
#define vf_fma(a, b, c)  vfmaq_f32(c, a, b)
#define vf_fnma(a, b, c) vfmsq_f32(c, a, b)
#define vf_round(a)      vrndnq_f32(a)
#define vf_load(p)       vld1q_f32(p)
#define vf_store(p, a)   vst1q_f32(p, a)
#define vf_from_int(a)   vcvtq_f32_s32(a)
#define vf_to_int(a)     vcvtnq_s32_f32(a)
#define vf_bits(a)       vreinterpretq_s32_f32(a)
#define vf_of_bits(a)    vreinterpretq_f32_s32(a)
#define vf_load_half(p)  vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)(p))))
#define vf_load_bhalf(p) \
    vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8((const uint8_t *)(p))), 16))
#define vf_of_halves(a) vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(vi_words(a))))

/* As on x86: b where one is NaN. */
static inline vf vf_min(vf a, vf b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
static inline vf vf_max(vf a, vf b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

static inline vf vf_load_n(const float *p, size_t n)
{
    float whole[4] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vf_load(whole);
}
static inline void vf_store_n(float *p, vf a, size_t n)
{
    float whole[4];
    vf_store(whole, a);
    memcpy(p, whole, n * sizeof *p);
}
static inline vf vf_load_half_n(const uint16_t *p, size_t n)
{
    uint16_t whole[4] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vf_load_half(whole);
}
static inline vf vf_load_bhalf_n(const uint16_t *p, size_t n)
{
    uint16_t whole[4] = {0};
    memcpy(whole, p, n * sizeof *p);
    return vf_load_bhalf(whole);
}

#define vf_sum(a)     vaddvq_f32(a)
#define vf_highest(a) vmaxvq_f32(a)

/* ---- packing ---- */

static inline void vi_store_bytes(int8_t *p, const vi q[32 / LANES])
{
    for (size_t i = 0; i < 32 / LANES; i += 4) {
        int16x8_t low = vcombine_s16(vqmovn_s32(q[i]), vqmovn_s32(q[i + 1]));
        int16x8_t high = vcombine_s16(vqmovn_s32(q[i + 2]), vqmovn_s32(q[i + 3]));
        vst1q_s8(p + 4 * i, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
    }
}

#define vi_highest_u32(a) vmaxvq_u32(vi_words(a))
#define vi_sum(a)         vaddvq_s32(a)

#endif
