/* Blocks of the formats as they lie in a model file: little-endian, packed, at any address. `d` is the scale
 * of a block, stored as a half float unless said otherwise. How a block decodes is told beside its function.
 */
#ifndef QN_FORMATS_BLOCKS_H
#define QN_FORMATS_BLOCKS_H

#include <stdint.h>

#pragma pack(push, 1)

/* ---- 32 weights ---- */

struct qn_block_q4_0 {
    uint16_t d;
    uint8_t qs[16]; /* low nibbles: weights 0 to 15, high nibbles: 16 to 31 */
};

struct qn_block_q4_1 {
    uint16_t d;
    uint16_t m; /* minimum */
    uint8_t qs[16];
};

struct qn_block_q5_0 {
    uint16_t d;
    uint8_t qh[4]; /* bit i: the fifth bit of weight i */
    uint8_t qs[16];
};

struct qn_block_q5_1 {
    uint16_t d;
    uint16_t m;
    uint8_t qh[4];
    uint8_t qs[16];
};

struct qn_block_q8_0 {
    uint16_t d;
    int8_t qs[32];
};

/* Activations only. */
struct qn_block_q8_1 {
    uint16_t d;
    uint16_t s; /* d times the sum of qs */
    int8_t qs[32];
};

struct qn_block_iq4_nl {
    uint16_t d;
    uint8_t qs[16]; /* nibbles index qn_iq4nl_values; order as in Q4_0 */
};

struct qn_block_mxfp4 {
    uint8_t e;      /* E8M0: 2^(e - 127) */
    uint8_t qs[16]; /* E2M1; order as in Q4_0 */
};

/* ---- 64 and 128 weights ---- */

struct qn_block_nvfp4 {
    uint8_t d[4];   /* UE4M3, one for each 16 weights */
    uint8_t qs[32]; /* E2M1; 8 bytes for each 16 weights: low nibbles the first 8, high nibbles the last 8 */
};

struct qn_block_q1_0 {
    uint16_t d;
    uint8_t qs[16]; /* one bit a weight, lowest first */
};

struct qn_block_q2_0 {
    uint16_t d;
    uint8_t qs[16]; /* two bits a weight, lowest first */
};

/* ---- 256 weights ---- */

struct qn_block_q2_k {
    uint8_t scales[16]; /* low nibble: scale, high nibble: minimum of 16 weights */
    uint8_t qs[64];
    uint16_t d;
    uint16_t dmin;
};

struct qn_block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12]; /* 16 scales of 6 bits */
    uint16_t d;
};

struct qn_block_q4_k {
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12]; /* 8 scales and 8 minima of 6 bits */
    uint8_t qs[128];
};

struct qn_block_q5_k {
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};

struct qn_block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};

/* Activations only. */
struct qn_block_q8_k {
    float d;
    int8_t qs[256];
    int16_t sums[16]; /* of 16 qs each */
};

struct qn_block_iq2_xxs {
    uint16_t d;
    uint8_t
        qs[64]; /* for each 32 weights: 4 grid indices, then u32: 4 sign indices of 7 bits, scale on top */
};

struct qn_block_iq2_xs {
    uint16_t d;
    uint8_t qs[64]; /* u16 for each 8 weights: 9 bits grid index, 7 bits sign index */
    uint8_t scales[8];
};

struct qn_block_iq2_s {
    uint16_t d;
    uint8_t qs[32];    /* low 8 bits of the grid index of 8 weights */
    uint8_t signs[32]; /* one bit a weight */
    uint8_t qh[8];     /* high 2 bits of the grid indices */
    uint8_t scales[8];
};

struct qn_block_iq3_xxs {
    uint16_t d;
    uint8_t qs[64];           /* grid index of 4 weights */
    uint8_t scales_signs[32]; /* u32 for each 32 weights: 4 sign indices of 7 bits, scale on top */
};

struct qn_block_iq3_s {
    uint16_t d;
    uint8_t qs[64]; /* low 8 bits of the grid index of 4 weights */
    uint8_t qh[8];  /* the ninth bits */
    uint8_t signs[32];
    uint8_t scales[4];
};

struct qn_block_iq1_s {
    uint16_t d;
    uint8_t qs[32]; /* low 8 bits of the grid index of 8 weights */
    uint16_t qh[8]; /* for each 32 weights: 4 times 3 high bits, 3 bits scale, sign of the shift */
};

struct qn_block_iq1_m {
    uint8_t qs[32];
    uint8_t qh[16];    /* for each 16 weights, two nibbles: 3 high bits of the index, sign of the shift */
    uint8_t scales[8]; /* u16 times 4: 4 times 3 bits of scale each, and a nibble of d on top */
};

struct qn_block_iq4_xs {
    uint16_t d;
    uint16_t scales_h;   /* 2 high bits for each 32 weights */
    uint8_t scales_l[4]; /* 4 low bits for each 32 weights */
    uint8_t qs[128];     /* 16 bytes for each 32 weights, as in IQ4_NL */
};

struct qn_block_tq1_0 {
    uint8_t qs[48]; /* 5 ternary digits a byte */
    uint8_t qh[4];  /* 4 ternary digits a byte */
    uint16_t d;
};

struct qn_block_tq2_0 {
    uint8_t qs[64]; /* 4 ternary digits a byte */
    uint16_t d;
};

#pragma pack(pop)

/* Sizes against the rows of formats.inc. */
#define QN_FORMAT_RAW(id, lower, len, bytes)
#define QN_FORMAT_PLAIN(id, lower, len, bytes)
#define QN_FORMAT_R(id, lower, len, bytes) \
    _Static_assert(sizeof(struct qn_block_##lower) == (bytes), #id " blocks have " #bytes " bytes");
#define QN_FORMAT_RW(id, lower, len, bytes) QN_FORMAT_R(id, lower, len, bytes)
#include "formats/formats.inc"

#endif
