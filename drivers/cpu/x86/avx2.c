/* Kernels for AVX2 with FMA and F16C. */
#include "drivers/cpu/x86/vec_avx2.h"

#define QN_ISA_NAME "avx2"
#define QN_Q8_LIST  "drivers/cpu/vector/q8_kernels.inc"
#include "drivers/cpu/vector/q8_decode.h"

#include "drivers/cpu/vector/fill_q8.h"
#include "drivers/cpu/vector/fill_float.h"

void qn_kernels_avx2(struct qn_kernels *kernels)
{
    qn_fill_q8(kernels);
    qn_kernels_avx2_low(kernels);
    qn_fill_float(kernels);
}
