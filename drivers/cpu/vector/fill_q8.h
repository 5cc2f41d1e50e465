/* The functions behind the rows of a list (q8_kernels.inc) and qn_fill_q8(), which puts them into the table,
 * for the set whose vocabulary (vec_*.h) comes first; QN_ISA_NAME is its name, QN_Q8_LIST the list, whose
 * decoders come first as well. Included once by each of a set's files. */
#include "drivers/cpu/vector/q8_matmul.h"

/* A set may have functions of its own for the tokens of a tile and around a call, for some numbers of groups.
 */
#ifndef QN_Q8_TOKENS
#define QN_Q8_TOKENS                qn_q8_tokens
#define QN_Q8_MATMUL                qn_q8_matmul
#define QN_Q8_FITS(groups, minimum) true
#endif

/* Pieces of work: see struct qn_q8_format. `two`: two tokens have code of their own. */
#define QN_PIECES(LAYOUT, lower, two)                                                                     \
    static void fill_##LAYOUT##_##lower(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_tile *tile, \
                                        int v)                                                            \
    {                                                                                                     \
        struct qn_q8_sink to = {.traits = &traits_##lower, .tile = tile, .v = v, .tokens = 0};            \
        rows.layout = QUERN_LAYOUT_##LAYOUT;                                                              \
        qn_decode_##lower(rows, n_blocks, &to);                                                           \
    }                                                                                                     \
    static void few_##LAYOUT##_##lower(struct qn_q8_rows rows, size_t n_blocks,                           \
                                       const struct qn_q8_tokens *at, uint32_t n_tokens,                  \
                                       struct qn_q8_tile *tile, float *acc)                               \
    {                                                                                                     \
        rows.layout = QUERN_LAYOUT_##LAYOUT;                                                              \
        if (n_tokens == 1)                                                                                \
            qn_q8_few(&traits_##lower, qn_decode_##lower, 1, rows, n_blocks, at, n_tokens, tile, acc);    \
        else if (two && n_tokens == 2)                                                                    \
            qn_q8_few(&traits_##lower, qn_decode_##lower, 2, rows, n_blocks, at, n_tokens, tile, acc);    \
        else                                                                                              \
            qn_q8_few(&traits_##lower, qn_decode_##lower, FEW_TOKENS, rows, n_blocks, at, n_tokens, tile, \
                      acc);                                                                               \
    }

#define QN_TRAITS(lower, len, groups, minimum, zero, is_signed, largest) \
    static const struct qn_q8_traits traits_##lower = {                  \
        len, sizeof(struct qn_block_##lower), groups, minimum, zero, is_signed, largest};

#define QN_TOKENS(lower)                                                                                  \
    static void tokens_##lower(struct qn_q8_tile *tile, size_t n_blocks, int vectors,                     \
                               struct qn_q8_tokens at, uint32_t n_tokens, float *y, size_t y_stride,      \
                               uint32_t n_rows, bool first)                                               \
    {                                                                                                     \
        const struct qn_q8_traits *traits = &traits_##lower;                                              \
        if (vectors == 1)                                                                                 \
            QN_Q8_TOKENS(tile, traits, n_blocks, 1, at, n_tokens, y, y_stride, n_rows, first);            \
        else                                                                                              \
            QN_Q8_TOKENS(tile, traits, n_blocks, TILE_VECTORS, at, n_tokens, y, y_stride, n_rows, first); \
    }

#define QN_ENTRY(LAYOUT, lower)                                              \
    static void matmul_##LAYOUT##_##lower(const struct qn_matmul_call *call) \
    {                                                                        \
        QN_Q8_MATMUL(&format_##lower, QUERN_LAYOUT_##LAYOUT, call);          \
    }

#define QN_Q8_KERNEL(id, lower, len, groups, minimum, zero, is_signed, largest)                  \
    QN_TRAITS(lower, len, groups, minimum, zero, is_signed, largest)                             \
    QN_PIECES(FILE, lower, true)                                                                 \
    QN_PIECES(ROWS16, lower, true)                                                               \
    QN_TOKENS(lower)                                                                             \
    static const struct qn_q8_format format_##lower = {&traits_##lower,                          \
                                                       {fill_FILE_##lower, fill_ROWS16_##lower}, \
                                                       {few_FILE_##lower, few_ROWS16_##lower},   \
                                                       tokens_##lower};                          \
    QN_ENTRY(FILE, lower)                                                                        \
    QN_ENTRY(ROWS16, lower)
#define QN_Q8_FILE_KERNEL(id, lower, len, groups, minimum, zero, is_signed, largest) \
    QN_TRAITS(lower, len, groups, minimum, zero, is_signed, largest)                 \
    QN_PIECES(FILE, lower, false)                                                    \
    QN_TOKENS(lower)                                                                 \
    static const struct qn_q8_format format_##lower = {                              \
        &traits_##lower, {fill_FILE_##lower}, {few_FILE_##lower}, tokens_##lower};   \
    QN_ENTRY(FILE, lower)
#include QN_Q8_LIST

static void qn_fill_q8(struct qn_kernels *kernels)
{
#define QN_Q8_FILE_KERNEL(id, lower, len, groups, minimum, zero, is_signed, largest) \
    if (QN_Q8_FITS(groups, minimum))                                                 \
        kernels->fast[QUERN_LAYOUT_FILE][QUERN_##id] = (struct qn_matmul_kernel){    \
            matmul_FILE_##lower, QN_PACK_Q8, "qn_matmul_" #lower "__" QN_ISA_NAME};
#define QN_Q8_KERNEL(id, lower, len, groups, minimum, zero, is_signed, largest)     \
    QN_Q8_FILE_KERNEL(id, lower, len, groups, minimum, zero, is_signed, largest)    \
    if (QN_Q8_FITS(groups, minimum))                                                \
        kernels->fast[QUERN_LAYOUT_ROWS16][QUERN_##id] = (struct qn_matmul_kernel){ \
            matmul_ROWS16_##lower, QN_PACK_Q8, "qn_matmul_" #lower "_rows16__" QN_ISA_NAME};
#include QN_Q8_LIST
}
