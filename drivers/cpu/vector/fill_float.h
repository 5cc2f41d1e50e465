/* Float products, exact products of decoded weights, vector work, and qn_fill_float(), which puts them into
 * the table, for the set whose vocabulary (vec_*.h) comes first; QN_ISA_NAME is its name. Included once by
 * each set's file. */
#include "drivers/cpu/vector/attend.h"
#include "drivers/cpu/vector/float_tile.h"
#include "drivers/cpu/vector/vectors.h"

/* A kernel, with what there is for its kind of floats. */
#define QN_FLOAT_ENTRY(LAYOUT, id, lower, traits)                           \
    static void float_##LAYOUT##_##lower(const struct qn_matmul_call *call) \
    {                                                                       \
        qn_float_matmul(traits, QUERN_##id, QUERN_LAYOUT_##LAYOUT, call);   \
    }

#define QN_DECODE(lower, kind)                                                  \
    static void decode_##lower(const char *w, size_t n, float out[][QN_ROWS16]) \
    {                                                                           \
        qn_float_decode(kind, w, n, out);                                       \
    }
QN_DECODE(f16, QN_KIND_F16)
QN_DECODE(bf16, QN_KIND_BF16)
#undef QN_DECODE

#define QN_FLOAT_TRAITS(lower, kind, element, decode)                                           \
    static void pack_##lower(const char *rows, size_t row_bytes, size_t n, char *out)           \
    {                                                                                           \
        qn_float_pack(element, rows, row_bytes, n, out);                                        \
    }                                                                                           \
    static void few_##lower(const struct qn_float_piece *piece, uint32_t places, const char *x, \
                            size_t x_stride, uint32_t n_tokens)                                 \
    {                                                                                           \
        qn_float_few(kind, piece, places, x, x_stride, n_tokens);                               \
    }                                                                                           \
    static const struct qn_float_traits traits_of_##lower = {pack_##lower, decode, few_##lower};
QN_FLOAT_TRAITS(f32, QN_KIND_F32, 4, NULL)
QN_FLOAT_TRAITS(f16, QN_KIND_F16, 2, decode_f16)
QN_FLOAT_TRAITS(bf16, QN_KIND_BF16, 2, decode_bf16)
#undef QN_FLOAT_TRAITS

static const struct qn_float_traits traits_of_blocks;

#define QN_FORMAT_RAW(id, lower, len, bytes)
#define QN_FORMAT_PLAIN(id, lower, len, bytes)          \
    QN_FLOAT_ENTRY(FILE, id, lower, &traits_of_##lower) \
    QN_FLOAT_ENTRY(ROWS16, id, lower, &traits_of_##lower)
#define QN_FORMAT_R(id, lower, len, bytes)  QN_FLOAT_ENTRY(FILE, id, lower, &traits_of_blocks)
#define QN_FORMAT_RW(id, lower, len, bytes) QN_FORMAT_R(id, lower, len, bytes)
#include "formats/formats.inc"
#undef QN_FLOAT_ENTRY

static void qn_fill_float(struct qn_kernels *kernels)
{
#define QN_FORMAT_RAW(id, lower, len, bytes)
#define QN_FORMAT_PLAIN(id, lower, len, bytes)                                                            \
    kernels->exact[QUERN_##id] =                                                                          \
        (struct qn_matmul_kernel){float_FILE_##lower, QN_PACK_F32, "qn_matmul_" #lower "__" QN_ISA_NAME}; \
    kernels->fast[QUERN_LAYOUT_FILE][QUERN_##id] = kernels->exact[QUERN_##id];                            \
    kernels->fast[QUERN_LAYOUT_ROWS16][QUERN_##id] = (struct qn_matmul_kernel){                           \
        float_ROWS16_##lower, QN_PACK_F32, "qn_matmul_" #lower "_rows16__" QN_ISA_NAME};
#define QN_FORMAT_R(id, lower, len, bytes)                                                  \
    kernels->exact[QUERN_##id] = (struct qn_matmul_kernel){float_FILE_##lower, QN_PACK_F32, \
                                                           "qn_matmul_" #lower "_exact__" QN_ISA_NAME};
#define QN_FORMAT_RW(id, lower, len, bytes) QN_FORMAT_R(id, lower, len, bytes)
#include "formats/formats.inc"
    kernels->pack_q8 = qn_pack_q8;
    kernels->dequantise[QUERN_F16] = qn_floats_f16;
    kernels->dequantise[QUERN_BF16] = qn_floats_bf16;
    kernels->dequantise[QUERN_Q8_0] = qn_floats_q8_0;
    kernels->dequantise[QUERN_Q4_0] = qn_floats_q4_0;
    kernels->axpy_f32 = qn_axpy_f32;
    kernels->sum_squares = qn_sum_squares;
    kernels->gate = qn_gate;
    kernels->attend_transpose = qn_attend_transpose;
    kernels->attend_transpose_f16 = qn_attend_transpose_f16;
    kernels->attend_scores = qn_attend_scores;
    kernels->attend_weigh = qn_attend_weigh;
    kernels->attend_values = qn_attend_values;
}
