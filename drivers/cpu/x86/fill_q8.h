/* The functions behind the rows of q8_kernels.inc and qn_fill_q8(), which puts them into the table, for the
 * set whose vocabulary (vec_*.h) comes first; QN_ISA_NAME is its name. Included once by each set's file. */
#include "drivers/cpu/x86/q8_decode.h"
#include "drivers/cpu/x86/q8_matmul.h"

/* Pieces of work: see struct qn_q8_format. */
#define QN_PIECES(LAYOUT, lower)                                                                          \
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
        else if (n_tokens == 2)                                                                           \
            qn_q8_few(&traits_##lower, qn_decode_##lower, 2, rows, n_blocks, at, n_tokens, tile, acc);    \
        else                                                                                              \
            qn_q8_few(&traits_##lower, qn_decode_##lower, FEW_TOKENS, rows, n_blocks, at, n_tokens, tile, \
                      acc);                                                                               \
    }

#define QN_Q8_KERNEL(id, lower, len, groups, minimum, zero, is_signed, largest)                              \
    static const struct qn_q8_traits traits_##lower = {                                                      \
        len, sizeof(struct qn_block_##lower), groups, minimum, zero, is_signed, largest};                    \
    QN_PIECES(FILE, lower)                                                                                   \
    QN_PIECES(ROWS16, lower)                                                                                 \
    static void tokens_##lower(const struct qn_q8_tile *tile, size_t n_blocks, int vectors,                  \
                               struct qn_q8_tokens at, uint32_t n_tokens, float *y, size_t y_stride,         \
                               uint32_t n_rows, bool first)                                                  \
    {                                                                                                        \
        const struct qn_q8_traits *traits = &traits_##lower;                                                 \
        if (vectors == 1)                                                                                    \
            qn_q8_tokens(tile, traits, n_blocks, 1, at, n_tokens, y, y_stride, n_rows, first);               \
        else                                                                                                 \
            qn_q8_tokens(tile, traits, n_blocks, TILE_VECTORS, at, n_tokens, y, y_stride, n_rows, first);    \
    }                                                                                                        \
    static const struct qn_q8_format format_##lower = {&traits_##lower,                                      \
                                                       {fill_FILE_##lower, fill_ROWS16_##lower},             \
                                                       {few_FILE_##lower, few_ROWS16_##lower},               \
                                                       tokens_##lower};                                      \
    static void fast_##lower(const void *w, size_t row_bytes, size_t k, uint32_t n_rows, const void *x,      \
                             size_t x_stride, uint32_t n_tokens, float *y, size_t y_stride, void *scratch)   \
    {                                                                                                        \
        const struct qn_q8_call call = {&format_##lower, QUERN_LAYOUT_FILE, w, row_bytes, k,      x,         \
                                        x_stride,        n_tokens,          y, y_stride,  scratch};          \
        qn_q8_matmul(call, n_rows);                                                                          \
    }                                                                                                        \
    static void rows16_##lower(const void *w, size_t row_bytes, size_t k, uint32_t n_rows, const void *x,    \
                               size_t x_stride, uint32_t n_tokens, float *y, size_t y_stride, void *scratch) \
    {                                                                                                        \
        const struct qn_q8_call call = {                                                                     \
            &format_##lower, QUERN_LAYOUT_ROWS16, w, row_bytes, k, x, x_stride, n_tokens, y, y_stride,       \
            scratch};                                                                                        \
        qn_q8_matmul(call, n_rows);                                                                          \
    }
#include "drivers/cpu/x86/q8_kernels.inc"

static void qn_fill_q8(struct qn_kernels *kernels)
{
#define QN_Q8_KERNEL(id, lower, len, groups, minimum, zero, is_signed, largest)                    \
    kernels->fast[QUERN_LAYOUT_FILE][QUERN_##id] =                                                 \
        (struct qn_matmul_kernel){fast_##lower, QN_PACK_Q8, "qn_matmul_" #lower "__" QN_ISA_NAME}; \
    kernels->fast[QUERN_LAYOUT_ROWS16][QUERN_##id] =                                               \
        (struct qn_matmul_kernel){rows16_##lower, QN_PACK_Q8, "qn_matmul_" #lower "_rows16__" QN_ISA_NAME};
#include "drivers/cpu/x86/q8_kernels.inc"
}
