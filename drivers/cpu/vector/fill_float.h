/* Float products, exact products of decoded weights, vector work, and qn_fill_float(), which puts them into
 * the table, for the set whose vocabulary (vec_*.h) comes first; QN_ISA_NAME is its name. Included once by
 * each set's file. */
#include "drivers/cpu/vector/attend.h"
#include "drivers/cpu/vector/float_tile.h"
#include "drivers/cpu/vector/vectors.h"

#define QN_KIND(lower, kind, element)                                                                       \
    static void float_##lower(const struct qn_matmul_call *c)                                               \
    {                                                                                                       \
        qn_float_matmul(kind, element, c->w, c->row_bytes, c->k, c->n_rows, c->x, c->x_stride, c->n_tokens, \
                        c->y, c->y_stride);                                                                 \
    }
QN_KIND(f32, QN_KIND_F32, 4)
QN_KIND(f16, QN_KIND_F16, 2)
QN_KIND(bf16, QN_KIND_BF16, 2)
#undef QN_KIND

#define QN_FORMAT_RAW(id, lower, len, bytes)
#define QN_FORMAT_PLAIN(id, lower, len, bytes)
#define QN_FORMAT_R(id, lower, len, bytes)                                                       \
    static void exact_##lower(const struct qn_matmul_call *c)                                    \
    {                                                                                            \
        const struct qn_format *format = qn_format_get(QUERN_##id);                              \
        qn_decoded_matmul(format, format->dequantise, c->w, c->row_bytes, c->k, c->n_rows, c->x, \
                          c->x_stride, c->n_tokens, c->y, c->y_stride, c->scratch);              \
    }
#define QN_FORMAT_RW(id, lower, len, bytes) QN_FORMAT_R(id, lower, len, bytes)
#include "formats/formats.inc"

static void qn_fill_float(struct qn_kernels *kernels)
{
#define QN_FORMAT_RAW(id, lower, len, bytes)
#define QN_FORMAT_PLAIN(id, lower, len, bytes)                                                       \
    kernels->exact[QUERN_##id] =                                                                     \
        (struct qn_matmul_kernel){float_##lower, QN_PACK_F32, "qn_matmul_" #lower "__" QN_ISA_NAME}; \
    kernels->fast[QUERN_LAYOUT_FILE][QUERN_##id] = kernels->exact[QUERN_##id];
#define QN_FORMAT_R(id, lower, len, bytes) \
    kernels->exact[QUERN_##id] =           \
        (struct qn_matmul_kernel){exact_##lower, QN_PACK_F32, "qn_matmul_" #lower "_exact__" QN_ISA_NAME};
#define QN_FORMAT_RW(id, lower, len, bytes) QN_FORMAT_R(id, lower, len, bytes)
#include "formats/formats.inc"
    kernels->pack_q8 = qn_pack_q8;
    kernels->dequantise[QUERN_F16] = qn_decode_f16;
    kernels->axpy_f32 = qn_axpy_f32;
    kernels->sum_squares = qn_sum_squares;
    kernels->gate = qn_gate;
    kernels->attend_transpose = qn_attend_transpose;
    kernels->attend_transpose_f16 = qn_attend_transpose_f16;
    kernels->attend_scores = qn_attend_scores;
    kernels->attend_weigh = qn_attend_weigh;
    kernels->attend_values = qn_attend_values;
}
