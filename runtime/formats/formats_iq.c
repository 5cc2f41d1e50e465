/* IQ formats: groups of 4 or 8 weights are points of a grid, named by an index. Scales and signs apart, a
 * weight is (superblock scale * sub-block scale) * grid value, in single precision in the order written. */
#include "formats/blocks.h"
#include "formats/codecs.h"
#include "formats/formats.h"
#include "formats/iq_tables.h"

enum { LEN = 256 };

static uint32_t u32_at(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t u16_at(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

/* n weights of a grid point; bit j of `signs` makes weight j negative. */
static void put_signed(float *out, float scale, const uint8_t *grid, uint32_t signs, int n)
{
    for (int j = 0; j < n; j++)
        out[j] = scale * (float)grid[j] * (signs >> j & 1 ? -1.0f : 1.0f);
}

/* For each 32 weights 4 grid indices of a byte, then a word: 4 sign indices of 7 bits, 4 bits of scale on
 * top. */
void qn_dequantise_iq2_xxs(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_iq2_xxs *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int sub = 0; sub < 8; sub++) {
            const uint8_t *qs = block->qs + 8 * sub;
            uint32_t word = u32_at(qs + 4);
            float scale = d * (0.5f + (float)(word >> 28)) * 0.25f;
            for (int l = 0; l < 4; l++)
                put_signed(out + i + 32 * sub + 8 * l, scale, qn_iq2xxs_grid[qs[l]],
                           qn_iq_signs[word >> 7 * l & 127], 8);
        }
    }
}

/* A nibble of `scales` for each 16 weights. */
static float iq2_scale(float d, const uint8_t *scales, int group)
{
    return d * (0.5f + (float)(scales[group / 2] >> group % 2 * 4 & 15)) * 0.25f;
}

/* For each 8 weights 9 bits of grid index and 7 bits of sign index. */
void qn_dequantise_iq2_xs(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_iq2_xs *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int point = 0; point < 32; point++) {
            uint32_t q = u16_at(block->qs + 2 * point);
            put_signed(out + i + 8 * point, iq2_scale(d, block->scales, point / 2), qn_iq2xs_grid[q & 511],
                       qn_iq_signs[q >> 9], 8);
        }
    }
}

/* For each 8 weights 10 bits of grid index (the high two in qh) and a byte of signs. */
void qn_dequantise_iq2_s(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_iq2_s *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int point = 0; point < 32; point++) {
            int index = block->qs[point] | (block->qh[point / 4] >> point % 4 * 2 & 3) << 8;
            put_signed(out + i + 8 * point, iq2_scale(d, block->scales, point / 2), qn_iq2s_grid[index],
                       block->signs[point], 8);
        }
    }
}

/* For each 32 weights 8 grid indices of a byte, and a word as in IQ2_XXS. */
void qn_dequantise_iq3_xxs(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_iq3_xxs *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int sub = 0; sub < 8; sub++) {
            uint32_t word = u32_at(block->scales_signs + 4 * sub);
            float scale = d * (0.5f + (float)(word >> 28)) * 0.5f;
            for (int l = 0; l < 8; l++)
                put_signed(out + i + 32 * sub + 4 * l, scale, qn_iq3xxs_grid[block->qs[8 * sub + l]],
                           (uint32_t)qn_iq_signs[word >> l / 2 * 7 & 127] >> l % 2 * 4, 4);
        }
    }
}

/* For each 4 weights 9 bits of grid index (the high one in qh); a bit of sign a weight; a nibble of scale for
 * each 32 weights. */
void qn_dequantise_iq3_s(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_iq3_s *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int point = 0; point < 64; point++) {
            int sub = point / 8;
            float scale = d * (float)(1 + 2 * (block->scales[sub / 2] >> sub % 2 * 4 & 15));
            int index = block->qs[point] | (block->qh[sub] >> point % 8 & 1) << 8;
            put_signed(out + i + 4 * point, scale, qn_iq3s_grid[index],
                       (uint32_t)block->signs[point / 2] >> point % 2 * 4, 4);
        }
    }
}

/* 8 weights of a ternary grid point, all shifted by an eighth up or down. */
static void put_shifted(float *out, float scale, const int8_t *grid, bool down)
{
    float shift = down ? -0.125f : 0.125f;
    for (int j = 0; j < 8; j++)
        out[j] = scale * ((float)grid[j] + shift);
}

/* For each 8 weights 11 bits of grid index; for each 32 a scale of 3 bits and the direction of the shift. */
void qn_dequantise_iq1_s(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_iq1_s *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int sub = 0; sub < 8; sub++) {
            uint32_t qh = block->qh[sub];
            float scale = d * (float)(2 * (qh >> 12 & 7) + 1);
            for (int l = 0; l < 4; l++) {
                uint32_t index = block->qs[4 * sub + l] | (qh >> 3 * l & 7) << 8;
                put_shifted(out + i + 32 * sub + 8 * l, scale, qn_iq1s_grid[index], qh & 0x8000);
            }
        }
    }
}

/* As IQ1_S, with a scale of 3 bits for each 16 weights and a shift for each 8. The half float d lies in the
 * top nibbles of the four words of scales. */
void qn_dequantise_iq1_m(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_iq1_m *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        uint32_t half = 0;
        for (int w = 0; w < 4; w++)
            half |= u16_at(block->scales + 2 * w) >> 12 << 4 * w;
        float d = qn_f16_to_f32((uint16_t)half);
        for (int point = 0; point < 32; point++) {
            int group = point / 2;
            uint32_t bits = u16_at(block->scales + group / 4 * 2) >> group % 4 * 3 & 7;
            uint32_t nibble = block->qh[group] >> point % 2 * 4 & 15;
            uint32_t index = block->qs[point] | (nibble & 7) << 8;
            put_shifted(out + i + 8 * point, d * (float)(2 * bits + 1), qn_iq1s_grid[index], nibble & 8);
        }
    }
}

/* 32 weights whose nibbles name one of 16 values; low nibbles first. */
static void put_values(float *out, float scale, const uint8_t qs[16])
{
    for (int j = 0; j < 16; j++) {
        out[j] = scale * (float)qn_iq4nl_values[qs[j] & 15];
        out[j + 16] = scale * (float)qn_iq4nl_values[qs[j] >> 4];
    }
}

void qn_dequantise_iq4_nl(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_iq4_nl *block = blocks;
    for (size_t i = 0; i < n; i += 32, block++)
        put_values(out + i, qn_f16_to_f32(block->d), block->qs);
}

/* IQ4_NL with a scale of 6 bits, less 32, for each 32 weights. */
void qn_dequantise_iq4_xs(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_iq4_xs *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int sub = 0; sub < 8; sub++) {
            int scale = (block->scales_l[sub / 2] >> sub % 2 * 4 & 15) | (block->scales_h >> 2 * sub & 3)
                                                                             << 4;
            put_values(out + i + 32 * sub, d * (float)(scale - 32), block->qs + 16 * sub);
        }
    }
}
