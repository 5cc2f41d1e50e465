/* 8-bit formats for 64-bit Arm, as all its instruction sets read them: in units of 32 weights, bytes q with
 * one scale for each half, and a minimum that all share, so that a weight is d * q - m. Whole numbers are
 * summed exactly; a unit then adds one float to a sum: sum += (d0 * i0 + d1 * i1 - m * total) * dx, in this
 * order whatever the number of rows and tokens. Where both halves have one scale, i0 is the sum of all 32
 * products and i1 is 0. */
#ifndef QN_CPU_ARM_Q8_UNITS_H
#define QN_CPU_ARM_Q8_UNITS_H

#include <arm_neon.h>
#include <string.h>

#include "drivers/cpu/kernels.h"
#include "formats/blocks.h"
#include "formats/k_scales.h"

#define QN_INLINE static inline __attribute__((always_inline))

struct unit {
    int8x16_t q[2];
    float d[2]; /* equal in formats with one scale for 32 weights */
    float m;
};

/* Hardware conversion: exact, as qn_f16_to_f32(). */
QN_INLINE float half_to_float(uint16_t h)
{
    float16x4_t v = vreinterpret_f16_u16(vdup_n_u16(h));
    return vgetq_lane_f32(vcvt_f32_f16(v), 0);
}

QN_INLINE float load_half(const void *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_to_float(h);
}

QN_INLINE int8x16_t low_nibbles(uint8x16_t x)
{
    return vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(15)));
}

QN_INLINE int8x16_t high_nibbles(uint8x16_t x)
{
    return vreinterpretq_s8_u8(vshrq_n_u8(x, 4));
}

/* Unit b of a row, one function a format. */

QN_INLINE struct unit unit_q8_0(const void *row, size_t b)
{
    const struct qn_block_q8_0 *block = (const struct qn_block_q8_0 *)row + b;
    float d = load_half(&block->d);
    return (struct unit){{vld1q_s8(block->qs), vld1q_s8(block->qs + 16)}, {d, d}, 0};
}

QN_INLINE struct unit unit_q4_0(const void *row, size_t b)
{
    const struct qn_block_q4_0 *block = (const struct qn_block_q4_0 *)row + b;
    uint8x16_t x = vld1q_u8(block->qs);
    float d = load_half(&block->d);
    int8x16_t eight = vdupq_n_s8(8);
    return (struct unit){{vsubq_s8(low_nibbles(x), eight), vsubq_s8(high_nibbles(x), eight)}, {d, d}, 0};
}

QN_INLINE struct unit unit_q4_k(const void *row, size_t b)
{
    const struct qn_block_q4_k *block = (const struct qn_block_q4_k *)row + b / 8;
    int sub = (int)(b % 8);
    const uint8_t *qs = block->qs + sub / 2 * 32;
    uint8x16_t x = vld1q_u8(qs), y = vld1q_u8(qs + 16);
    float d = load_half(&block->d) * (float)qn_q4_k_scale(block->scales, sub);
    float m = load_half(&block->dmin) * (float)qn_q4_k_min(block->scales, sub);
    if (sub % 2)
        return (struct unit){{high_nibbles(x), high_nibbles(y)}, {d, d}, m};
    return (struct unit){{low_nibbles(x), low_nibbles(y)}, {d, d}, m};
}

QN_INLINE struct unit unit_q5_k(const void *row, size_t b)
{
    const struct qn_block_q5_k *block = (const struct qn_block_q5_k *)row + b / 8;
    int sub = (int)(b % 8);
    struct unit unit;
    unit.d[0] = unit.d[1] = load_half(&block->d) * (float)qn_q4_k_scale(block->scales, sub);
    unit.m = load_half(&block->dmin) * (float)qn_q4_k_min(block->scales, sub);
    for (int half = 0; half < 2; half++) {
        uint8x16_t x = vld1q_u8(block->qs + sub / 2 * 32 + 16 * half);
        uint8x16_t bit = vshlq_u8(vld1q_u8(block->qh + 16 * half), vdupq_n_s8((int8_t)-sub));
        bit = vshlq_n_u8(vandq_u8(bit, vdupq_n_u8(1)), 4);
        int8x16_t low = sub % 2 ? high_nibbles(x) : low_nibbles(x);
        unit.q[half] = vorrq_s8(low, vreinterpretq_s8_u8(bit));
    }
    return unit;
}

QN_INLINE struct unit unit_q6_k(const void *row, size_t b)
{
    const struct qn_block_q6_k *block = (const struct qn_block_q6_k *)row + b / 8;
    int sub = (int)(b % 8); /* of 32 weights */
    const uint8_t *ql = block->ql + sub / 4 * 64 + sub % 2 * 32;
    const uint8_t *qh = block->qh + sub / 4 * 32;
    float d = load_half(&block->d);
    struct unit unit = {.m = 0};
    for (int half = 0; half < 2; half++) {
        uint8x16_t x = vld1q_u8(ql + 16 * half);
        uint8x16_t bits = vshlq_u8(vld1q_u8(qh + 16 * half), vdupq_n_s8((int8_t)(-2 * (sub % 4))));
        bits = vshlq_n_u8(vandq_u8(bits, vdupq_n_u8(3)), 4);
        int8x16_t low = sub % 4 / 2 ? high_nibbles(x) : low_nibbles(x);
        unit.q[half] = vsubq_s8(vorrq_s8(low, vreinterpretq_s8_u8(bits)), vdupq_n_s8(32));
        unit.d[half] = d * (float)block->scales[2 * sub + half];
    }
    return unit;
}

/* What a unit adds to the sum of a token: i0, i1 are the sums of products of the halves. */
QN_INLINE float unit_value(const struct unit *unit, int32_t i0, int32_t i1, int32_t total, float dx)
{
    float value = unit->d[0] * (float)i0 + unit->d[1] * (float)i1;
    return (value - unit->m * (float)total) * dx;
}

typedef struct unit (*unit_fn)(const void *row, size_t b);

#endif
