/* Products of quantised rows with 8-bit activations: one mechanism for every format and every x86 set.
 *
 * A format's decoder (q8_decode.h) turns 256 weights of some rows into a tile: bytes with one row in each
 * 32-bit lane, 4 consecutive weights in a lane, and a scale (and minimum) per row and block. The product then
 * reads the tile with 4 activations spread over all lanes, so integer sums need no reduction across lanes:
 *     y[row] += d_x * (scale[row] * (sum q x - zero * sum x) - minimum[row] * sum x), block after block.
 * The tile is decoded once for all tokens. Every element sees the same operations in the same order for any
 * number of tokens and rows. Includes nothing: a vocabulary (vec_*.h) comes first. */
#ifndef QN_CPU_X86_Q8_TILE_H
#define QN_CPU_X86_Q8_TILE_H

#include "drivers/cpu/kernels.h"

#include <stdbool.h>
#include <string.h>

#define QN_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define QN_UNROLL _Pragma("unroll")
#else
#define QN_UNROLL _Pragma("GCC unroll 16")
#endif

/* A tile is TILE_VECTORS vectors of rows wide; tokens are taken up to TILE_TOKENS at a time, so that their
 * sums stay in registers: 24 of 32, or 8 of 16. */
enum {
    TILE_LEN = 256, /* weights of each row */
    TILE_VECTORS = LANES == 16 ? 2 : 1,
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
    bool is_signed; /* bytes are signed: not possible where VI_HAS_DOT */
    int largest;    /* magnitude of a byte */
};

/* Signed bytes for VI_HAS_DOT: 128 is added when decoding and taken off by `zero`. */
#define QN_SIGNED_ZERO (VI_HAS_DOT ? 128 : 0)
#define QN_SIGNED      (!VI_HAS_DOT)
QN_INLINE vi vi_signed_bytes(vi q)
{
    return VI_HAS_DOT ? vi_xor(q, vi_set_bytes((char)0x80)) : q;
}

/* Where the tokens' packed rows are, advanced to the tile's weights. */
struct qn_q8_tokens {
    const char *row; /* of the first token */
    size_t stride;
    const uint8_t *next; /* bytes to ask for meanwhile, `each` for every block; NULL: none */
    size_t each;
    size_t q, d, sum; /* offsets in a row; sum: of the format's blocks, 16 or 32 long */
};

/* sum[t][v] += q x over one block. */
QN_INLINE void qn_q8_sums(const struct qn_q8_tile *tile, const struct qn_q8_traits *traits, size_t block,
                          int vectors, int tokens, const char *const x[], vi sum[][TILE_VECTORS])
{
    const int groups = traits->groups;
#if VI_HAS_DOT
    QN_UNROLL for (int g = 0; g < groups; g++)
    {
        vi w[TILE_VECTORS];
        QN_UNROLL for (int v = 0; v < vectors; v++) w[v] = vi_load(tile->q[block * groups + g][v]);
        QN_UNROLL for (int t = 0; t < tokens; t++)
        {
            vi four = vi_spread(x[t] + (block * groups + g) * 4);
            QN_UNROLL for (int v = 0; v < vectors; v++) sum[t][v] = vi_dot(sum[t][v], w[v], four);
        }
    }
#else
    /* Sums of pairs stay within 16 bits for `together` groups. */
    const int fit = 32767 / (2 * 127 * traits->largest), together = fit < groups ? fit : groups;
    QN_UNROLL for (int from = 0; from < groups; from += together)
    {
        vi pairs[TILE_TOKENS][TILE_VECTORS];
        QN_UNROLL for (int g = from; g < from + together; g++)
        {
            vi w[TILE_VECTORS], magnitude[TILE_VECTORS];
            QN_UNROLL for (int v = 0; v < vectors; v++)
            {
                w[v] = vi_load(tile->q[block * groups + g][v]);
                magnitude[v] = traits->is_signed ? vi_abs_bytes(w[v]) : w[v];
            }
            QN_UNROLL for (int t = 0; t < tokens; t++)
            {
                vi four = vi_spread(x[t] + (block * groups + g) * 4);
                QN_UNROLL for (int v = 0; v < vectors; v++)
                {
                    vi signed4 = traits->is_signed ? vi_sign_bytes(four, w[v]) : four;
                    vi two = vi_pairs(magnitude[v], signed4);
                    pairs[t][v] = g == from ? two : vi_add16(pairs[t][v], two);
                }
            }
        }
        QN_UNROLL for (int t = 0; t < tokens; t++) QN_UNROLL for (int v = 0; v < vectors; v++) sum[t][v] =
            vi_add(sum[t][v], vi_join_pairs(pairs[t][v]));
    }
#endif
}

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
            _mm_prefetch((const char *)at->next + b * at->each + i, _MM_HINT_T1);
        vi sum[TILE_TOKENS][TILE_VECTORS];
        const char *q[TILE_TOKENS];
        QN_UNROLL for (int t = 0; t < tokens; t++)
        {
            q[t] = x[t] + at->q;
            QN_UNROLL for (int v = 0; v < vectors; v++) sum[t][v] = vi_zero();
        }
        qn_q8_sums(tile, traits, b, vectors, tokens, q, sum);
        QN_UNROLL for (int t = 0; t < tokens; t++)
        {
            vf d = vf_set(*(const float *)(const void *)(x[t] + at->d + b * traits->groups / 8 * 4));
            vi total = vi_zero();
            if (traits->zero || traits->minimum)
                total = vi_spread(x[t] + at->sum + b * 4);
            QN_UNROLL for (int v = 0; v < vectors; v++)
            {
                vi s = sum[t][v];
                if (traits->zero)
                    s = vi_sub(s, vi_sll(total, __builtin_ctz((unsigned)traits->zero)));
                vf f = vf_mul(vf_from_int(s), vf_load(tile->scale[b][v]));
                if (traits->minimum)
                    f = vf_fnma(vf_load(tile->min[b][v]), vf_from_int(total), f);
                acc[t][v] = vf_fma(f, d, acc[t][v]);
            }
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

/* Fills the tile's vector of rows number v from n_blocks blocks of LANES rows. */
typedef void (*qn_q8_decode_fn)(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                                int v);

/* Copies one tile's piece of fewer rows than a tile has; the rest stays zero. */
static inline const uint8_t *qn_q8_pad_rows(struct qn_q8_tile *tile, const uint8_t *rows, size_t row_bytes,
                                            uint32_t n_rows, size_t bytes)
{
    for (uint32_t r = 0; r < n_rows; r++)
        memcpy(tile->raw[r], rows + r * row_bytes, bytes);
    return tile->raw[0];
}

/* One tile's rows for all tokens. */
QN_INLINE void qn_q8_rows(struct qn_q8_traits traits, qn_q8_decode_fn decode, const uint8_t *w,
                          size_t row_bytes, size_t k, uint32_t n_rows, int vectors, const char *x,
                          size_t x_stride, uint32_t n_tokens, float *y, size_t y_stride,
                          struct qn_q8_tile *tile)
{
    const bool padded = n_rows < (uint32_t)vectors * LANES;
    const size_t tile_bytes = TILE_LEN / traits.block_len * traits.block_bytes;
    struct qn_q8_row row = qn_q8_row_at(x, k);
    const size_t scales = TILE_LEN / 4 / (size_t)traits.groups; /* of a whole tile */
    struct qn_q8_tokens at = {.row = x, .stride = x_stride};
    at.each = ((size_t)vectors * LANES * tile_bytes / scales + 63) / 64 * 64;
    if (padded)
        memset(tile->raw, 0, sizeof tile->raw);
    for (size_t first = 0; first < k; first += TILE_LEN) {
        const size_t len = k - first < TILE_LEN ? k - first : TILE_LEN;
        const size_t n_blocks = len / traits.block_len, offset = first / TILE_LEN * tile_bytes;
        const uint8_t *from = w + offset;
        size_t stride = row_bytes;
        if (padded) {
            from = qn_q8_pad_rows(tile, from, row_bytes, n_rows, n_blocks * traits.block_bytes);
            stride = TILE_BLOCK_BYTES;
        }
        for (int v = 0; v < vectors; v++)
            decode(from + (size_t)v * LANES * stride, stride, n_blocks, tile, v);
        /* The next rows lie behind these: read as one stream into the second cache, where 16 streams of rows
         * would stop at a third of the bandwidth. */
        at.next =
            padded ? NULL : w + (size_t)vectors * LANES * row_bytes + first / TILE_LEN * scales * at.each;
        at.q = (size_t)((const char *)row.q - x) + first;
        at.d = (size_t)((const char *)row.d - x) + first / 32 * 4;
        at.sum = traits.groups == 8 ? (size_t)((const char *)row.sum - x) + first / 32 * 4
                                    : (size_t)((const char *)row.sum16 - x) + first / 16 * 4;
        qn_q8_tokens(tile, &traits, len / ((size_t)traits.groups * 4), vectors, at, n_tokens, y, y_stride,
                     n_rows, first == 0);
    }
}

/* All rows, a tile at a time. The last tile overlaps the one before it, where there is one. */
QN_INLINE void qn_q8_matmul(struct qn_q8_traits traits, qn_q8_decode_fn decode, const void *w,
                            size_t row_bytes, size_t k, uint32_t n_rows, const void *x, size_t x_stride,
                            uint32_t n_tokens, float *y, size_t y_stride, void *scratch)
{
    struct qn_q8_tile *tile = (void *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    for (uint32_t r = 0; r < n_rows;) {
        const uint32_t left = n_rows - r;
        const bool narrow = TILE_VECTORS > 1 && left <= LANES;
        const uint32_t want = narrow ? LANES : TILE_ROWS, have = n_rows < want ? n_rows : want;
        const uint32_t at = left < have ? n_rows - have : r;
        const uint8_t *rows = (const uint8_t *)w + at * row_bytes;
        if (narrow)
            qn_q8_rows(traits, decode, rows, row_bytes, k, have, 1, x, x_stride, n_tokens, y + at, y_stride,
                       tile);
        else
            qn_q8_rows(traits, decode, rows, row_bytes, k, have, TILE_VECTORS, x, x_stride, n_tokens, y + at,
                       y_stride, tile);
        r = at + have;
    }
}

#endif
