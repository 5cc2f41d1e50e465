/* K formats: superblocks of 256 weights whose sub-blocks' scales are themselves quantised. Products are
 * single precision in the order written: (superblock scale * sub-block scale) * q - (dmin * sub-block
 * minimum). */
#include "formats/blocks.h"
#include "formats/codecs.h"
#include "formats/formats.h"
#include "formats/k_scales.h"

enum { LEN = 256 };

/* 16 sub-blocks of 16. Each 32 bytes of qs hold 128 weights: two bits of weight 32 * t + l are at bit 2 * t
 * of byte l. */
void qn_dequantise_q2_k(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q2_k *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d), dmin = qn_f16_to_f32(block->dmin);
        for (int sub = 0; sub < 16; sub++) {
            float scale = d * (float)(block->scales[sub] & 15), min = dmin * (float)(block->scales[sub] >> 4);
            const uint8_t *qs = block->qs + sub / 8 * 32 + sub % 2 * 16;
            int shift = sub % 8 / 2 * 2;
            for (int l = 0; l < 16; l++)
                out[i + 16 * sub + l] = scale * (float)(qs[l] >> shift & 3) - min;
        }
    }
}

/* 16 sub-blocks of 16, no minima: two low bits as in Q2_K, a third in hmask (weight 32 * t + l: bit t of byte
 * l); q - 4 in -4..3, scales of 6 bits less 32. */
void qn_dequantise_q3_k(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q3_k *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int sub = 0; sub < 16; sub++) {
            float scale = d * (float)(qn_q3_k_scale(block->scales, sub) - 32);
            const uint8_t *qs = block->qs + sub / 8 * 32 + sub % 2 * 16;
            const uint8_t *hmask = block->hmask + sub % 2 * 16;
            int shift = sub % 8 / 2 * 2;
            for (int l = 0; l < 16; l++) {
                int q = (qs[l] >> shift & 3) | (hmask[l] >> sub / 2 & 1) << 2;
                out[i + 16 * sub + l] = scale * (float)(q - 4);
            }
        }
    }
}

/* 8 sub-blocks of 32. Each 32 bytes of qs hold two of them: low nibbles, then high nibbles. */
void qn_dequantise_q4_k(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q4_k *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d), dmin = qn_f16_to_f32(block->dmin);
        for (int sub = 0; sub < 8; sub++) {
            float scale = d * (float)qn_q4_k_scale(block->scales, sub);
            float min = dmin * (float)qn_q4_k_min(block->scales, sub);
            const uint8_t *qs = block->qs + sub / 2 * 32;
            int shift = sub % 2 * 4;
            for (int l = 0; l < 32; l++)
                out[i + 32 * sub + l] = scale * (float)(qs[l] >> shift & 15) - min;
        }
    }
}

/* As Q4_K; the fifth bit of weight 32 * sub + l is bit `sub` of qh[l]. */
void qn_dequantise_q5_k(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q5_k *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d), dmin = qn_f16_to_f32(block->dmin);
        for (int sub = 0; sub < 8; sub++) {
            float scale = d * (float)qn_q4_k_scale(block->scales, sub);
            float min = dmin * (float)qn_q4_k_min(block->scales, sub);
            const uint8_t *qs = block->qs + sub / 2 * 32;
            int shift = sub % 2 * 4;
            for (int l = 0; l < 32; l++) {
                int q = (qs[l] >> shift & 15) | (block->qh[l] >> sub & 1) << 4;
                out[i + 32 * sub + l] = scale * (float)q - min;
            }
        }
    }
}

/* 16 sub-blocks of 16, q - 32. Each half of 128 weights has 64 bytes of low nibbles (weights 0 to 63 in the
 * low, 64 to 127 in the high nibbles) and 32 bytes of high bits (weight 32 * t + l: bits 2 * t of byte l). */
void qn_dequantise_q6_k(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q6_k *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++) {
        float d = qn_f16_to_f32(block->d);
        for (int sub = 0; sub < 16; sub++) {
            float scale = d * (float)block->scales[sub];
            const uint8_t *ql = block->ql + sub / 8 * 64 + sub % 4 * 16;
            const uint8_t *qh = block->qh + sub / 8 * 32 + sub % 2 * 16;
            int nibble = sub % 8 / 4 * 4, shift = sub % 8 / 2 * 2;
            for (int l = 0; l < 16; l++) {
                int q = (ql[l] >> nibble & 15) | (qh[l] >> shift & 3) << 4;
                out[i + 16 * sub + l] = scale * (float)(q - 32);
            }
        }
    }
}

void qn_dequantise_q8_k(const void *restrict blocks, float *restrict out, size_t n)
{
    const struct qn_block_q8_k *block = blocks;
    for (size_t i = 0; i < n; i += LEN, block++)
        for (int j = 0; j < LEN; j++)
            out[i + j] = block->d * (float)block->qs[j];
}
