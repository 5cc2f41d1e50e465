/* Ternary, one and two bit formats, and the 4-bit floats MXFP4 and NVFP4. */
#include "formats/blocks.h"
#include "formats/codecs.h"
#include "formats/formats.h"
#include "formats/iq_tables.h"

#include <string.h>

/* Ternary digit t of a byte that holds several: the byte is a fraction of 256 in base 3, so multiplying
 * shifts digits out on top. */
static int ternary_digit(uint8_t byte, int t)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    uint8_t rest = (uint8_t)(byte * power[t]);
    return rest * 3 >> 8;
}

/* (digit - 1) * d. 32 bytes hold weights 0 to 159 (byte m, digit t: weight 32 * t + m), 16 bytes 160 to 239
 * (16 * t
 * + m), the 4 of qh 240 to 255 (4 * t + m). */
void qn_dequantise_tq1_0(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_tq1_0 *block = blocks;
    for (size_t i = 0; i < n; i += 256, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int t = 0; t < 5; t++) {
            for (int m = 0; m < 32; m++)
                out[i + 32 * t + m] = (float)(ternary_digit(block->qs[m], t) - 1) * d;
            for (int m = 0; m < 16; m++)
                out[i + 160 + 16 * t + m] = (float)(ternary_digit(block->qs[32 + m], t) - 1) * d;
        }
        for (int t = 0; t < 4; t++)
            for (int m = 0; m < 4; m++)
                out[i + 240 + 4 * t + m] = (float)(ternary_digit(block->qh[m], t) - 1) * d;
    }
}

/* (q - 1) * d. Each 32 bytes hold 128 weights: weight 32 * t + m at bits 2 * t of byte m. */
void qn_dequantise_tq2_0(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_tq2_0 *block = blocks;
    for (size_t i = 0; i < n; i += 256, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int j = 0; j < 256; j++)
            out[i + j] = (float)((block->qs[j / 128 * 32 + j % 32] >> j % 128 / 32 * 2 & 3) - 1) * d;
    }
}

/* d where the bit is set, else -d. */
void qn_dequantise_q1_0(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q1_0 *block = blocks;
    for (size_t i = 0; i < n; i += 128, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int j = 0; j < 128; j++)
            out[i + j] = block->qs[j / 8] >> j % 8 & 1 ? d : -d;
    }
}

/* (q - 1) * d */
void qn_dequantise_q2_0(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q2_0 *block = blocks;
    for (size_t i = 0; i < n; i += 64, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int j = 0; j < 64; j++)
            out[i + j] = (float)((block->qs[j / 4] >> j % 4 * 2 & 3) - 1) * d;
    }
}

/* 2^(e - 128): half the value of an E8M0 scale, because the table holds doubled E2M1 values. The two smallest
 * are subnormal. */
static float e8m0_half(uint8_t e)
{
    uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* OCP MX, block size 32: E2M1 elements, one E8M0 scale. */
void qn_dequantise_mxfp4(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_mxfp4 *block = blocks;
    for (size_t i = 0; i < n; i += 32, block++) {
        float d = e8m0_half(block->e);
        for (int j = 0; j < 16; j++) {
            out[i + j] = (float)qn_mxfp4_values[block->qs[j] & 15] * d;
            out[i + j + 16] = (float)qn_mxfp4_values[block->qs[j] >> 4] * d;
        }
    }
}

/* Half the value of an unsigned E4M3 scale: 4 bits of exponent (bias 7), 3 of mantissa; the sign bit is
 * ignored. The NaN pattern 0x7f counts as 0, so that a padded block decodes to zeros. */
static float ue4m3_half(uint8_t x)
{
    int exponent = x >> 3 & 15, mantissa = x & 7;
    if ((x & 0x7f) == 0x7f)
        return 0;
    if (exponent == 0)
        return (float)mantissa * 0x1p-10f;
    uint32_t bits = (uint32_t)(exponent - 8 + 127) << 23 | (uint32_t)mantissa << 20;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* 64 weights in four groups of 16 with a UE4M3 scale each. Layout as we understand the public description:
 * the four scales first, then 8 bytes of E2M1 for each group, weight j in the low and weight j + 8 in the
 * high nibble of byte j. A scale for the whole tensor, where a model has one, is a tensor of its own. */
void qn_dequantise_nvfp4(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_nvfp4 *block = blocks;
    for (size_t i = 0; i < n; i += 64, block++) {
        for (int group = 0; group < 4; group++) {
            float d = ue4m3_half(block->d[group]);
            float *to = out + i + 16 * group;
            for (int j = 0; j < 8; j++) {
                uint8_t pair = block->qs[8 * group + j];
                to[j] = (float)qn_mxfp4_values[pair & 15] * d;
                to[j + 8] = (float)qn_mxfp4_values[pair >> 4] * d;
            }
        }
    }
}
