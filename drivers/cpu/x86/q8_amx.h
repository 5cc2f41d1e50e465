/* Products of a tile with many tokens in AMX: 16 tokens at a time, the others as in q8_tile.h; with the same
 * bits. For formats that have a scale for 32 weights and no minimum: elsewhere it wins too little.
 *
 * What a decoder makes is the second operand of a matrix product as it stands: one row in each 32-bit lane, 4
 * consecutive weights in it. The packed activations of 16 tokens are the first. Sums of a block are exact
 * integers here as there, and go through memory to the vector unit, which scales them while the blocks behind
 * are multiplied. It has half of its width meanwhile, so that scaling takes most of the time; to multiply
 * many blocks first takes longer, since their sums crowd the first cache. Includes nothing: a vocabulary
 * (vec_*.h) comes first. */
#ifndef QN_CPU_X86_Q8_AMX_H
#define QN_CPU_X86_Q8_AMX_H

#include "drivers/cpu/vector/q8_matmul.h"

enum {
    AMX_TOKENS = 16,         /* rows of a tile register */
    AMX_GROUPS = 8,          /* of 4 weights in a block */
    AMX_AHEAD = 2,           /* blocks from a product to its scaling, at most */
    AMX_SUMS = 4,            /* blocks whose sums are kept: a power of two above AMX_AHEAD */
    AMX_SUMS_AT = 32 * 1024, /* where these are in the scratch: apart from the tile, by whole pages */
};

/* ---------------------------------------------------------------- tile registers */

/* What LDTILECFG reads. */
struct qn_amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Compilers do not all know which memory these instructions read. */
#define QN_AMX_READS() __asm__ volatile("" ::: "memory")

/* Registers: 0 sums of 16 tokens with 16 rows, 1 activations, 2 weights. */
static inline void qn_amx_begin(void)
{
    struct qn_amx_config config = {
        .palette = 1, .row_bytes = {64, 4 * AMX_GROUPS, 64}, .rows = {AMX_TOKENS, AMX_TOKENS, AMX_GROUPS}};
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

/* ---------------------------------------------------------------- 16 tokens */

typedef int32_t qn_amx_sums[AMX_TOKENS][LANES];
_Static_assert(sizeof(struct qn_q8_tile) <= AMX_SUMS_AT &&
                   AMX_SUMS_AT + AMX_SUMS * sizeof(qn_amx_sums) + 64 <= QN_MATMUL_SCRATCH,
               "sums fit the scratch behind a tile");

/* 16 tokens at the tile's weights. */
struct qn_amx_tokens {
    struct qn_q8_tokens at;
    float *y;
    size_t y_stride;
    _Alignas(64) float d[AMX_TOKENS][LANES]; /* of each block */
};

QN_INLINE void qn_amx_take(struct qn_amx_tokens *tokens, size_t n_blocks)
{
    const struct qn_q8_tokens *at = &tokens->at;
    for (size_t t = 0; t < AMX_TOKENS; t++)
        vf_store(tokens->d[t],
                 vf_load_n((const float *)(const void *)(at->row + t * at->stride + at->d), n_blocks));
}

/* Asks for what one of the next 16 tokens has of the tile's weights: rows lie too far apart for the processor
 * to see it coming. */
QN_INLINE void qn_amx_ask(const struct qn_amx_tokens *tokens, size_t token)
{
    const struct qn_q8_tokens *at = &tokens->at;
    const char *row = at->row + (AMX_TOKENS + token) * at->stride;
    const char *y = (const char *)(tokens->y + (AMX_TOKENS + token) * tokens->y_stride);
    for (size_t i = 0; i < TILE_LEN; i += 64)
        _mm_prefetch(row + at->q + i, _MM_HINT_T0);
    _mm_prefetch(row + at->d, _MM_HINT_T0);
    for (size_t i = 0; i < TILE_ROWS * sizeof(float); i += 64)
        _mm_prefetch(y + i, _MM_HINT_T0);
}

/* ---------------------------------------------------------------- product */

/* A vector of the tile with the activations of 16 tokens; x NULL: none. */
struct qn_amx_turn {
    const char *x;
    int v;
};

QN_INLINE void qn_amx_multiply(const struct qn_q8_tile *tile, struct qn_amx_turn turn, size_t stride,
                               size_t b, int32_t (*sums)[LANES])
{
    _tile_loadd(1, turn.x + b * AMX_GROUPS * 4, stride);
    _tile_loadd(2, tile->q[b * AMX_GROUPS][turn.v], sizeof tile->q[0]);
    _tile_zero(0);
    _tile_dpbssd(0, 1, 2);
    _tile_stored(0, sums, sizeof sums[0]);
}

/* qn_q8_fold() of weights that are signed: `zero` is off already. */
QN_INLINE void qn_amx_fold(const float *scales, const struct qn_amx_tokens *tokens, size_t b,
                           int32_t (*sums)[LANES], vf acc[AMX_TOKENS])
{
    const vf scale = vf_load(scales);
    QN_UNROLL for (int t = 0; t < AMX_TOKENS; t++)
    {
        const vf f = vf_mul(vf_from_int(vi_load(sums[t])), scale);
        acc[t] = vf_fma(f, vf_set(tokens->d[t][b]), acc[t]);
    }
}

/* y of n_rows rows, at most LANES, += the tile's first n_blocks blocks. sums: where those of the first blocks
 * are that were multiplied before; those of the turn that comes next follow at its end. */
QN_INLINE void qn_amx_product(const struct qn_q8_tile *tile, size_t n_blocks, struct qn_amx_turn now,
                              struct qn_amx_turn next, const struct qn_amx_tokens *tokens, qn_amx_sums *sums,
                              size_t n_sums, uint32_t n_rows, bool first)
{
    const size_t ahead = n_blocks < AMX_AHEAD ? n_blocks : AMX_AHEAD;
    float *y = tokens->y + now.v * LANES;
    vf acc[AMX_TOKENS];
    QN_UNROLL for (int t = 0; t < AMX_TOKENS; t++) acc[t] =
        first ? vf_zero() : vf_load_n(y + (size_t)t * tokens->y_stride, n_rows);
    for (size_t b = 0; b < n_blocks; b++) {
        const size_t later = b + ahead;
        qn_amx_ask(tokens, b * AMX_TOKENS / (TILE_LEN / 32) + (size_t)now.v);
        for (size_t i = 0; now.v == 0 && tokens->at.next && i < tokens->at.each; i += 64)
            v_ask_for(tokens->at.next + b * tokens->at.each + i);
        if (later < n_blocks)
            qn_amx_multiply(tile, now, tokens->at.stride, later, sums[(n_sums + later) % AMX_SUMS]);
        else if (next.x)
            qn_amx_multiply(tile, next, tokens->at.stride, later - n_blocks,
                            sums[(n_sums + later) % AMX_SUMS]);
        qn_amx_fold(tile->scale[b][now.v], tokens, b, sums[(n_sums + b) % AMX_SUMS], acc);
    }
    QN_UNROLL for (int t = 0; t < AMX_TOKENS; t++)
        vf_store_n(y + (size_t)t * tokens->y_stride, acc[t], n_rows);
}

/* Weights less `zero`, as signed bytes. */
QN_INLINE void qn_amx_sign(struct qn_q8_tile *tile, const struct qn_q8_traits *traits, size_t n_blocks)
{
    const vi zero = vi_set_bytes((char)traits->zero);
    for (size_t g = 0; traits->zero && g < n_blocks * AMX_GROUPS; g++)
        QN_UNROLL for (int v = 0; v < TILE_VECTORS; v++)
            vi_store(tile->q[g][v], _mm512_sub_epi8(vi_load(tile->q[g][v]), zero));
}

/* Tokens that fill registers, n > 0 of them. */
QN_INLINE void qn_amx_whole(const struct qn_q8_tile *tile, size_t n_blocks, int vectors,
                            struct qn_amx_tokens *tokens, uint32_t n, uint32_t n_rows, bool first)
{
    qn_amx_sums *sums = (void *)((char *)(uintptr_t)tile + AMX_SUMS_AT);
    size_t n_sums = 0;
    struct qn_amx_turn now = {tokens->at.row + tokens->at.q, 0};
    QN_AMX_READS();
    for (size_t b = 0; b < AMX_AHEAD && b < n_blocks; b++)
        qn_amx_multiply(tile, now, tokens->at.stride, b, sums[b]);
    for (uint32_t t = 0; t < n; t += AMX_TOKENS) {
        qn_amx_take(tokens, n_blocks);
        QN_UNROLL for (int v = 0; v < vectors; v++)
        {
            const uint32_t left = n_rows - (uint32_t)v * LANES;
            const char *behind = t + AMX_TOKENS < n ? now.x + AMX_TOKENS * tokens->at.stride : NULL;
            const struct qn_amx_turn next = {v + 1 < vectors ? now.x : behind, (v + 1) % vectors};
            now.v = v;
            qn_amx_product(tile, n_blocks, now, next, tokens, sums, n_sums, left < LANES ? left : LANES,
                           first);
            n_sums += n_blocks;
            now.x = next.x;
        }
        tokens->at.row += AMX_TOKENS * tokens->at.stride;
        tokens->at.next = NULL;
        tokens->y += AMX_TOKENS * tokens->y_stride;
    }
}

/* All tokens, as qn_q8_tokens(), which has those that are left over, before the weights get a sign. */
QN_INLINE void qn_amx_tokens(struct qn_q8_tile *tile, const struct qn_q8_traits *traits, size_t n_blocks,
                             int vectors, struct qn_q8_tokens at, uint32_t n_tokens, float *y,
                             size_t y_stride, uint32_t n_rows, bool first)
{
    const uint32_t whole = n_tokens / AMX_TOKENS * AMX_TOKENS;
    struct qn_amx_tokens tokens = {.at = at, .y = y, .y_stride = y_stride};
    at.row += whole * at.stride;
    at.next = whole > 0 ? NULL : at.next;
    qn_q8_tokens(tile, traits, n_blocks, vectors, at, n_tokens - whole, y + whole * y_stride, y_stride,
                 n_rows, first);
    if (whole == 0)
        return;
    qn_amx_sign(tile, traits, n_blocks);
    qn_amx_whole(tile, n_blocks, vectors, &tokens, whole, n_rows, first);
}

/* Tile registers are in use within a call alone: a signal or a switch of threads outside has nothing to save.
 */
static inline void qn_amx_matmul(const struct qn_q8_format *format, uint32_t layout,
                                 const struct qn_matmul_call *call)
{
    if (call->n_tokens >= AMX_TOKENS)
        qn_amx_begin();
    qn_q8_matmul(format, layout, call);
    if (call->n_tokens >= AMX_TOKENS)
        _tile_release();
}

#endif
