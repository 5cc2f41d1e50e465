/* The functions behind the rows of q8_kernels.inc and qn_fill_q8(), which puts them into the table, for the
 * set whose vocabulary (vec_*.h) comes first; QN_ISA_NAME is its name. Included once by each set's file. */
#include "drivers/cpu/x86/q8_decode.h"

#define QN_Q8_KERNEL(id, lower, len, groups, minimum, zero, is_signed, largest)                            \
    static void fast_##lower(const void *w, size_t row_bytes, size_t k, uint32_t n_rows, const void *x,    \
                             size_t x_stride, uint32_t n_tokens, float *y, size_t y_stride, void *scratch) \
    {                                                                                                      \
        const struct qn_q8_traits traits = {                                                               \
            len, sizeof(struct qn_block_##lower), groups, minimum, zero, is_signed, largest};              \
        qn_q8_matmul(traits, qn_tile_##lower, w, row_bytes, k, n_rows, x, x_stride, n_tokens, y, y_stride, \
                     scratch);                                                                             \
    }
#include "drivers/cpu/x86/q8_kernels.inc"

static void qn_fill_q8(struct qn_kernels *kernels)
{
#define QN_Q8_KERNEL(id, lower, len, groups, minimum, zero, is_signed, largest) \
    kernels->fast[QUERN_##id] =                                                 \
        (struct qn_matmul_kernel){fast_##lower, QN_PACK_Q8, "qn_matmul_" #lower "__" QN_ISA_NAME};
#include "drivers/cpu/x86/q8_kernels.inc"
}
