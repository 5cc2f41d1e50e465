/* Products of quantised rows with 8-bit activations: one mechanism for every format and every set.
 *
 * A format's decoder (q8_decode.h) turns 256 weights of LANES rows into bytes with one row in each 32-bit
 * lane, 4 consecutive weights in a lane, and a scale (and minimum) per row and block. They are multiplied by
 * 4 activations spread over all lanes, so integer sums need no reduction across lanes:
 *     y[row] += d_x * (scale[row] * (sum q x - zero * sum x) - minimum[row] * sum x), block after block.
 * For few tokens the bytes are multiplied as they are decoded (q8_sink.h). For more they go to a tile, which
 * is decoded once for all tokens. Every element sees the same operations in the same order for any number of
 * tokens and rows, and in every layout of the weights. Includes nothing: a vocabulary (vec_*.h) comes first.
 */
#ifndef QN_CPU_VECTOR_Q8_TILE_H
#define QN_CPU_VECTOR_Q8_TILE_H

#include "drivers/cpu/vector/q8_rows.h"

/* A tile is TILE_VECTORS vectors of rows wide; tokens are taken up to TILE_TOKENS at a time, so that their
 * sums stay in registers: with 16 lanes 24 of 32, beside two of weights; else 16 of 32 or 8 of 16, beside as
 * many activations. */
enum {
    TILE_LEN = 256, /* weights of each row */
    TILE_VECTORS = REGISTERS == 32 ? 2 : 1,
    TILE_TOKENS = LANES == 16 ? 6 : 4,
    TILE_ROWS = TILE_VECTORS * LANES,
    TILE_BLOCK_BYTES = 292, /* no 256 weights take more */
};

struct qn_q8_tile {
    uint8_t q[TILE_LEN / 4][TILE_VECTORS][LANES * 4];
    float scale[TILE_LEN / 16][TILE_VECTORS][LANES]; /* one for each block of the format, 16 or 32 weights */
    float min[TILE_LEN / 16][TILE_VECTORS][LANES];
    uint8_t raw[TILE_ROWS][TILE_BLOCK_BYTES]; /* rows, where a weight has fewer than a tile */
};
_Static_assert(sizeof(struct qn_q8_tile) + 64 <= QN_MATMUL_SCRATCH, "a tile fits the scratch");

/* What a kernel needs to know of a format; constants, so that each format gets its own loop. */
struct qn_q8_traits {
    size_t block_len, block_bytes;
    int groups;     /* of 4 weights that share a scale: 4 or 8 */
    bool minimum;   /* tile.min is filled */
    int zero;       /* the byte that means 0: none or a power of two */
    bool is_signed; /* bytes are signed: not possible where V_DOT_UNSIGNED */
    int largest;    /* magnitude of a byte */
};

/* Signed bytes for V_DOT_UNSIGNED: 128 is added when decoding and taken off by `zero`. */
#define QN_SIGNED_ZERO (V_DOT_UNSIGNED ? 128 : 0)
#define QN_SIGNED      (!V_DOT_UNSIGNED)
QN_INLINE vi vi_signed_bytes(vi q)
{
    return V_DOT_UNSIGNED ? vi_xor(q, vi_set_bytes((char)0x80)) : q;
}

/* Where the tokens' packed rows are, advanced to the tile's weights. */
struct qn_q8_tokens {
    const char *row; /* of the first token */
    size_t stride;
    const uint8_t *next; /* bytes to ask for meanwhile, `each` for every block; NULL: none */
    size_t each;
    size_t q, d, sum; /* offsets in a row; sum: of the format's blocks, 16 or 32 long */
};

/* On to the weights from `first` on, of rows of k. */
QN_INLINE void qn_q8_move(struct qn_q8_tokens *at, const struct qn_q8_traits *traits, size_t k, size_t first)
{
    struct qn_q8_row row = qn_q8_row_at(at->row, k);
    at->q = (size_t)((const char *)row.q - at->row) + first;
    at->d = (size_t)((const char *)row.d - at->row) + first / 32 * 4;
    at->sum = traits->groups == 8 ? (size_t)((const char *)row.sum - at->row) + first / 32 * 4
                                  : (size_t)((const char *)row.sum16 - at->row) + first / 16 * 4;
}

/* sum += four products in each lane, of group g of a block; groups come in order. Without V_HAS_DOT sums stay
 * in 16 bits for as many groups as fit; `part` keeps them meanwhile. */
QN_INLINE void qn_q8_step(const struct qn_q8_traits *traits, int g, vi w, vx x, vp *part, vi *sum)
{
#if V_HAS_DOT
    *sum = vi_dot(*sum, w, x);
#else
    const int fit = 32767 / (VP_PRODUCTS * 127 * traits->largest), together = fit >= traits->groups
                                                                                  ? traits->groups
                                                                              : fit >= 4 ? 4
                                                                              : fit >= 2 ? 2
                                                                                         : 1;
    if (g % together == 0)
        *part = traits->is_signed ? vp_signed(w, x) : vp_unsigned(w, x);
    else
        *part = vp_add(*part, traits->is_signed ? vp_signed(w, x) : vp_unsigned(w, x));
    if (g % together == together - 1)
        *sum = vi_add(*sum, vp_join(*part));
#endif
}

/* Group `group` of those from `first` on, for vector v of the tile. With V_HAS_MATRIX two groups, the even
 * one of which comes before, are stored as 8 bytes of each row: half of the rows, then the others. */
QN_INLINE void qn_q8_store(struct qn_q8_tile *tile, int v, int first, int group, vi q)
{
#if V_HAS_MATRIX
    if (group % 2) {
        uint8_t *even = tile->q[first + group - 1][v];
        const vi before = vi_load(even);
        vi_store(even, vi_zip_low(before, q));
        q = vi_zip_high(before, q);
    }
#endif
    vi_store(tile->q[first + group][v], q);
}

/* acc + d * (scale * (sum - zero * total) - min * total), `total` being the sum of the activations. */
QN_INLINE vf qn_q8_fold(const struct qn_q8_traits *traits, vi sum, vi total, vf scale, const float *min, vf d,
                        vf acc)
{
    if (traits->zero)
        sum = vi_sub(sum, vi_sll(total, __builtin_ctz((unsigned)traits->zero)));
    vf f = vf_mul(vf_from_int(sum), scale);
    if (traits->minimum)
        f = vf_fnma(vf_load(min), vf_from_int(total), f);
    return vf_fma(f, d, acc);
}

/* Where the scale of a block is in a row of scales for each 32 activations. */
QN_INLINE size_t qn_q8_scale_at(const struct qn_q8_traits *traits, size_t block)
{
    return traits->groups == 8 ? block : block / 2;
}

/* sum[t][v] = q x over one block. With V_HAS_MATRIX by pairs of tokens, a single one with itself: a matrix
 * has the sums of half of the rows, each with both. */
#if V_HAS_MATRIX
QN_INLINE void qn_q8_sums(const struct qn_q8_tile *tile, const struct qn_q8_traits *traits, size_t block,
                          int vectors, int tokens, const char *const x[], vi sum[][TILE_VECTORS])
{
    const size_t groups = (size_t)traits->groups, first = block * groups;
    vi half[2][TILE_TOKENS / 2][TILE_VECTORS];
    QN_UNROLL for (int t = 0; t < tokens; t += 2) QN_UNROLL for (int v = 0; v < vectors; v++)
        half[0][t / 2][v] = half[1][t / 2][v] = vi_zero();
    QN_UNROLL for (size_t g = 0; g < groups; g += 2) QN_UNROLL for (int t = 0; t < tokens; t += 2)
    {
        const size_t at = (first + g) * 4;
        const vi two = vi_join_eights(x[t] + at, x[t + 1 < tokens ? t + 1 : t] + at);
        QN_UNROLL for (int v = 0; v < vectors; v++) QN_UNROLL for (size_t h = 0; h < 2; h++)
            half[h][t / 2][v] = vi_matrix(half[h][t / 2][v], vi_load(tile->q[first + g + h][v]), two);
    }
    QN_UNROLL for (int t = 0; t < tokens; t++) QN_UNROLL for (int v = 0; v < vectors; v++) sum[t][v] =
        t % 2 ? vi_odd(half[0][t / 2][v], half[1][t / 2][v]) : vi_even(half[0][t / 2][v], half[1][t / 2][v]);
}
#else
QN_INLINE void qn_q8_sums(const struct qn_q8_tile *tile, const struct qn_q8_traits *traits, size_t block,
                          int vectors, int tokens, const char *const x[], vi sum[][TILE_VECTORS])
{
    const int groups = traits->groups;
    vp part[TILE_TOKENS][TILE_VECTORS];
    QN_UNROLL for (int t = 0; t < tokens; t++) QN_UNROLL for (int v = 0; v < vectors; v++)
    {
        sum[t][v] = vi_zero();
        part[t][v] = vp_zero();
    }
    QN_UNROLL for (int g = 0; g < groups; g++)
    {
        vi w[TILE_VECTORS];
        QN_UNROLL for (int v = 0; v < vectors; v++) w[v] = vi_load(tile->q[block * groups + g][v]);
        QN_UNROLL for (int t = 0; t < tokens; t++)
        {
            vx four = vx_load(x[t] + block * groups * 4, g);
            QN_UNROLL for (int v = 0; v < vectors; v++)
                qn_q8_step(traits, g, w[v], four, &part[t][v], &sum[t][v]);
        }
    }
}
#endif

/* y of `tokens` tokens (a constant) += the tile's first n_blocks blocks. n_rows: lanes that are wanted. */
QN_INLINE void qn_q8_product(const struct qn_q8_tile *tile, const struct qn_q8_traits *traits,
                             size_t n_blocks, int vectors, int tokens, const struct qn_q8_tokens *at,
                             float *y, size_t y_stride, uint32_t n_rows, bool first)
{
    const bool whole = n_rows == (uint32_t)vectors * LANES;
    const char *x[TILE_TOKENS];
    vf acc[TILE_TOKENS][TILE_VECTORS];
    QN_UNROLL for (int t = 0; t < tokens; t++)
    {
        x[t] = at->row + (size_t)t * at->stride;
        QN_UNROLL for (int v = 0; v < vectors; v++)
        {
            const float *from = y + (size_t)t * y_stride + v * LANES;
            uint32_t before = (uint32_t)v * LANES;
            acc[t][v] = first   ? vf_zero()
                        : whole ? vf_load(from)
                                : vf_load_n(from, n_rows - before < LANES ? n_rows - before : LANES);
        }
    }
    for (size_t b = 0; b < n_blocks; b++) {
        for (size_t i = 0; at->next && i < at->each; i += 64)
            v_ask_for(at->next + b * at->each + i);
        vi sum[TILE_TOKENS][TILE_VECTORS];
        const char *q[TILE_TOKENS];
        QN_UNROLL for (int t = 0; t < tokens; t++) q[t] = x[t] + at->q;
        qn_q8_sums(tile, traits, b, vectors, tokens, q, sum);
        QN_UNROLL for (int t = 0; t < tokens; t++)
        {
            vf d = vf_set(*(const float *)(const void *)(x[t] + at->d + qn_q8_scale_at(traits, b) * 4));
            vi total = vi_zero();
            if (traits->zero || traits->minimum)
                total = vi_spread(x[t] + at->sum + b * 4);
            QN_UNROLL for (int v = 0; v < vectors; v++) acc[t][v] = qn_q8_fold(
                traits, sum[t][v], total, vf_load(tile->scale[b][v]), tile->min[b][v], d, acc[t][v]);
        }
    }
    QN_UNROLL for (int t = 0; t < tokens; t++)
    {
        QN_UNROLL for (int v = 0; v < vectors; v++)
        {
            float *to = y + (size_t)t * y_stride + v * LANES;
            uint32_t before = (uint32_t)v * LANES;
            if (whole)
                vf_store(to, acc[t][v]);
            else
                vf_store_n(to, acc[t][v], n_rows - before < LANES ? n_rows - before : LANES);
        }
    }
}

/* All tokens, a few at a time. */
QN_INLINE void qn_q8_tokens(const struct qn_q8_tile *tile, const struct qn_q8_traits *traits, size_t n_blocks,
                            int vectors, struct qn_q8_tokens at, uint32_t n_tokens, float *y, size_t y_stride,
                            uint32_t n_rows, bool first)
{
    while (n_tokens > 0) {
        uint32_t n;
        if (TILE_TOKENS >= 6 && n_tokens >= 6) {
            n = 6;
            qn_q8_product(tile, traits, n_blocks, vectors, TILE_TOKENS, &at, y, y_stride, n_rows, first);
        } else if (n_tokens >= 4) {
            n = 4;
            qn_q8_product(tile, traits, n_blocks, vectors, 4, &at, y, y_stride, n_rows, first);
        } else if (n_tokens >= 2) {
            n = 2;
            qn_q8_product(tile, traits, n_blocks, vectors, 2, &at, y, y_stride, n_rows, first);
        } else {
            n = 1;
            qn_q8_product(tile, traits, n_blocks, vectors, 1, &at, y, y_stride, n_rows, first);
        }
        at.row += n * at.stride;
        at.next = NULL;
        y += n * y_stride;
        n_tokens -= n;
    }
}

#endif
