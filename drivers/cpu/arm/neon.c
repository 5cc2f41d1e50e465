/* Kernels for what every 64-bit Arm processor has. */
#include "drivers/cpu/arm/vec_neon.h"

#define QN_ISA_NAME "neon"
#define QN_Q8_LIST  "drivers/cpu/vector/q8_kernels.inc"
#include "drivers/cpu/vector/q8_decode.h"

#include "drivers/cpu/vector/fill_q8.h"
#include "drivers/cpu/vector/fill_float.h"

void qn_kernels_neon(struct qn_kernels *kernels)
{
    qn_fill_q8(kernels);
    qn_kernels_neon_low(kernels);
    qn_fill_float(kernels);
}
