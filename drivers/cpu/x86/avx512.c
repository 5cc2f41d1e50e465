/* Kernels for AVX-512 F, BW, DQ and VL. */
#include "drivers/cpu/x86/vec_avx512.h"

#define QN_ISA_NAME "avx512"
#define QN_Q8_LIST  "drivers/cpu/vector/q8_kernels.inc"
#include "drivers/cpu/vector/q8_decode.h"

#include "drivers/cpu/vector/fill_q8.h"
#include "drivers/cpu/vector/fill_float.h"

void qn_kernels_avx512(struct qn_kernels *kernels)
{
    qn_fill_q8(kernels);
    qn_kernels_avx512_low(kernels);
    qn_fill_float(kernels);
}
