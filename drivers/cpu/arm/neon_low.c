/* Kernels for what every 64-bit Arm processor has: formats with few bits a weight. */
#include "drivers/cpu/arm/vec_neon.h"

#define QN_ISA_NAME "neon"
#define QN_Q8_LIST  "drivers/cpu/vector/q8_kernels_low.inc"
#include "drivers/cpu/vector/q8_decode_low.h"

#include "drivers/cpu/vector/fill_q8.h"

void qn_kernels_neon_low(struct qn_kernels *kernels)
{
    qn_fill_q8(kernels);
}
