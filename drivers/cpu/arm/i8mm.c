/* Kernels with the matrix instructions of Armv8.6: the products with 8-bit activations, tiles by matrices and
 * few tokens by dot products. The rest is that of neon.c. */
#include "drivers/cpu/arm/vec_neon.h"

#define QN_ISA_NAME "i8mm"
#define QN_Q8_LIST  "drivers/cpu/vector/q8_kernels.inc"
#include "drivers/cpu/vector/q8_decode.h"

#include "drivers/cpu/vector/fill_q8.h"

void qn_kernels_i8mm(struct qn_kernels *kernels)
{
    qn_fill_q8(kernels);
    qn_kernels_i8mm_low(kernels);
}
