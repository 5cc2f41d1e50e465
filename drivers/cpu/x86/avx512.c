/* Kernels for AVX-512 F, BW, DQ and VL. */
#include "drivers/cpu/x86/vec_avx512.h"

#define QN_ISA_NAME "avx512"
#include "drivers/cpu/x86/fill_q8.h"
#include "drivers/cpu/x86/fill_float.h"

void qn_kernels_avx512(struct qn_kernels *kernels)
{
    qn_fill_q8(kernels);
    qn_fill_float(kernels);
}
