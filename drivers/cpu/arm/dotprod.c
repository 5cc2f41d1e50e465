/* 8-bit matrix work with the dot product instructions of Armv8.2. */
#include "drivers/cpu/arm/q8_units.h"

#define ISA_NAME    "dotprod"
#define NAME(lower) matmul_##lower##__dotprod

QN_INLINE int32x4_t dot16(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    return vdotq_s32(sum, a, b);
}

#include "drivers/cpu/arm/q8_dot.inc"
#include "drivers/cpu/arm/q8_formats.inc"

void qn_kernels_dotprod(struct qn_kernels *kernels)
{
    fill_q8(kernels);
}
