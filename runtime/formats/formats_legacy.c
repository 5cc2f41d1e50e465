/* Blocks of 32 weights: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q8_1. In the 4 and 5 bit formats, byte j holds
 * weight j in its low nibble and weight j + 16 in its high nibble. Scales are half floats; products are
 * single precision. */
#include "formats/blocks.h"
#include "formats/codecs.h"
#include "formats/formats.h"

#include <math.h>
#include <string.h>

enum { LEN = 32, HALF = 16 };

/* (q - 8) * d, q in 0..15 */
void qn_dequantise_q4_0(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q4_0 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int j = 0; j < HALF; j++) {
            out[i + j] = (float)((block->qs[j] & 15) - 8) * d;
            out[i + j + HALF] = (float)((block->qs[j] >> 4) - 8) * d;
        }
    }
}

/* q * d + m, q in 0..15 */
void qn_dequantise_q4_1(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q4_1 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d), m = qn_f16_to_f32(block->m);
        for (int j = 0; j < HALF; j++) {
            out[i + j] = (float)(block->qs[j] & 15) * d + m;
            out[i + j + HALF] = (float)(block->qs[j] >> 4) * d + m;
        }
    }
}

static uint32_t high_bits(const uint8_t qh[4])
{
    return qh[0] | (uint32_t)qh[1] << 8 | (uint32_t)qh[2] << 16 | (uint32_t)qh[3] << 24;
}

/* (q - 16) * d, q in 0..31; the fifth bits are in qh */
void qn_dequantise_q5_0(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q5_0 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        uint32_t qh = high_bits(block->qh);
        for (int j = 0; j < HALF; j++) {
            int low = (block->qs[j] & 15) | (int)(qh >> j & 1) << 4;
            int high = block->qs[j] >> 4 | (int)(qh >> (j + HALF) & 1) << 4;
            out[i + j] = (float)(low - 16) * d;
            out[i + j + HALF] = (float)(high - 16) * d;
        }
    }
}

/* q * d + m, q in 0..31 */
void qn_dequantise_q5_1(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q5_1 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d), m = qn_f16_to_f32(block->m);
        uint32_t qh = high_bits(block->qh);
        for (int j = 0; j < HALF; j++) {
            int low = (block->qs[j] & 15) | (int)(qh >> j & 1) << 4;
            int high = block->qs[j] >> 4 | (int)(qh >> (j + HALF) & 1) << 4;
            out[i + j] = (float)low * d + m;
            out[i + j + HALF] = (float)high * d + m;
        }
    }
}

/* q * d, q in -127..127 */
void qn_dequantise_q8_0(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q8_0 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int j = 0; j < LEN; j++)
            out[i + j] = (float)block->qs[j] * d;
    }
}

void qn_dequantise_q8_1(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q8_1 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int j = 0; j < LEN; j++)
            out[i + j] = (float)block->qs[j] * d;
    }
}

/* ---- encoding ---- */

/* The weight with the largest magnitude, with its sign; NaN counts as nothing. */
static float extreme(const float *in, int n)
{
    float best = 0, magnitude = 0;
    for (int j = 0; j < n; j++) {
        if (fabsf(in[j]) > magnitude) {
            magnitude = fabsf(in[j]);
            best = in[j];
        }
    }
    return best;
}

/* Nearest step, halves upwards, clamped; NaN becomes the lowest step. */
static uint8_t step_of(float x, int last)
{
    x += 0.5f;
    if (!(x > 0))
        return 0;
    return x >= (float)last ? (uint8_t)last : (uint8_t)x;
}

/* Nearest integer, halves away from zero, clamped to what a byte holds; NaN becomes 0. */
static int8_t byte_of(float x)
{
    x = roundf(x);
    return x >= 127 ? 127 : x <= -127 ? -127 : x == x ? (int8_t)x : 0;
}

static float inverse(float d)
{
    return d != 0 ? 1.0f / d : 0.0f;
}

/* The extreme weight falls on the lowest step: -8 * d. */
void qn_quantise_q4_0(const float *restrict in, void *restrict blocks, size_t n)
{
    struct qn_block_q4_0 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = extreme(in + i, LEN) / -8, id = inverse(d);
        block->d = qn_f32_to_f16(d);
        for (int j = 0; j < HALF; j++) {
            uint8_t low = step_of(in[i + j] * id + 8, 15), high = step_of(in[i + j + HALF] * id + 8, 15);
            block->qs[j] = (uint8_t)(low | high << 4);
        }
    }
}

/* Smallest and largest weight; NaN counts as nothing. */
static void range_of(const float *in, float *low, float *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (int j = 0; j < LEN; j++) {
        *low = in[j] < *low ? in[j] : *low;
        *high = in[j] > *high ? in[j] : *high;
    }
    if (*low > *high)
        *low = *high = 0;
}

void qn_quantise_q4_1(const float *restrict in, void *restrict blocks, size_t n)
{
    struct qn_block_q4_1 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float low, high;
        range_of(in + i, &low, &high);
        float d = (high - low) / 15, id = inverse(d);
        block->d = qn_f32_to_f16(d);
        block->m = qn_f32_to_f16(low);
        for (int j = 0; j < HALF; j++) {
            uint8_t first = step_of((in[i + j] - low) * id, 15);
            uint8_t second = step_of((in[i + j + HALF] - low) * id, 15);
            block->qs[j] = (uint8_t)(first | second << 4);
        }
    }
}

/* Spreads 32 steps of five bits over qs and qh. */
static void put_five_bits(const uint8_t step[LEN], uint8_t qs[HALF], uint8_t qh[4])
{
    memset(qh, 0, 4);
    for (int j = 0; j < LEN; j++)
        qh[j / 8] |= (uint8_t)((step[j] >> 4) << j % 8);
    for (int j = 0; j < HALF; j++)
        qs[j] = (uint8_t)((step[j] & 15) | (step[j + HALF] & 15) << 4);
}

void qn_quantise_q5_0(const float *restrict in, void *restrict blocks, size_t n)
{
    struct qn_block_q5_0 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = extreme(in + i, LEN) / -16, id = inverse(d);
        uint8_t step[LEN];
        block->d = qn_f32_to_f16(d);
        for (int j = 0; j < LEN; j++)
            step[j] = step_of(in[i + j] * id + 16, 31);
        put_five_bits(step, block->qs, block->qh);
    }
}

void qn_quantise_q5_1(const float *restrict in, void *restrict blocks, size_t n)
{
    struct qn_block_q5_1 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float low, high;
        range_of(in + i, &low, &high);
        float d = (high - low) / 31, id = inverse(d);
        uint8_t step[LEN];
        block->d = qn_f32_to_f16(d);
        block->m = qn_f32_to_f16(low);
        for (int j = 0; j < LEN; j++)
            step[j] = step_of((in[i + j] - low) * id, 31);
        put_five_bits(step, block->qs, block->qh);
    }
}

/* Scale and sum of 32 weights in bytes. */
static float put_bytes(const float *in, int8_t qs[LEN], int *sum)
{
    float d = fabsf(extreme(in, LEN)) / 127, id = inverse(d);
    *sum = 0;
    for (int j = 0; j < LEN; j++) {
        qs[j] = byte_of(in[j] * id);
        *sum += qs[j];
    }
    return d;
}

void qn_quantise_q8_0(const float *restrict in, void *restrict blocks, size_t n)
{
    struct qn_block_q8_0 *block = blocks;
    int sum;
    for (size_t i = 0; i < n; i += LEN, block++)
        block->d = qn_f32_to_f16(put_bytes(in + i, block->qs, &sum));
}

void qn_quantise_q8_1(const float *restrict in, void *restrict blocks, size_t n)
{
    struct qn_block_q8_1 *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        int sum;
        float d = put_bytes(in + i, block->qs, &sum);
        block->d = qn_f32_to_f16(d);
        block->s = qn_f32_to_f16(d * (float)sum);
    }
}

void qn_quantise_q8_k(const float *restrict in, void *restrict blocks, size_t n)
{
    struct qn_block_q8_k *block = blocks;
    for (size_t i = 0; i < n; i += 256, block++) {
        float d = fabsf(extreme(in + i, 256)) / 127, id = inverse(d);
        block->d = d;
        for (int g = 0; g < 16; g++) {
            int sum = 0;
            for (int j = 16 * g; j < 16 * g + 16; j++) {
                block->qs[j] = byte_of(in[i + j] * id);
                sum += block->qs[j];
            }
            block->sums[g] = (int16_t)sum;
        }
    }
}
