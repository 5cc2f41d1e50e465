/* Kernels for AVX-512 with VNNI: the products with 8-bit activations. The rest is that of avx512.c. */
#include "drivers/cpu/x86/vec_avx512.h"

#define QN_ISA_NAME "avx512_vnni"
#define QN_Q8_LIST  "drivers/cpu/vector/q8_kernels.inc"
#include "drivers/cpu/vector/q8_decode.h"

#include "drivers/cpu/vector/fill_q8.h"

void qn_kernels_avx512_vnni(struct qn_kernels *kernels)
{
    qn_fill_q8(kernels);
    qn_kernels_avx512_vnni_low(kernels);
}
