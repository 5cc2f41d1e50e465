/* Kernels with the dot product instructions of Armv8.2: the products with 8-bit activations. The rest is that
 * of neon.c. */
#include "drivers/cpu/arm/vec_neon.h"

#define QN_ISA_NAME "dotprod"
#define QN_Q8_LIST  "drivers/cpu/vector/q8_kernels.inc"
#include "drivers/cpu/vector/q8_decode.h"

#include "drivers/cpu/vector/fill_q8.h"

void qn_kernels_dotprod(struct qn_kernels *kernels)
{
    qn_fill_q8(kernels);
    qn_kernels_dotprod_low(kernels);
}
