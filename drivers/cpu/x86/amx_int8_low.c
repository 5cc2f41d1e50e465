/* Kernels for AMX with bytes: formats with few bits a weight. */
#include "drivers/cpu/x86/vec_avx512.h"

#define QN_ISA_NAME                 "amx_int8"
#define QN_Q8_LIST                  "drivers/cpu/vector/q8_kernels_low.inc"
#define QN_Q8_TOKENS                qn_amx_tokens
#define QN_Q8_MATMUL                qn_amx_matmul
#define QN_Q8_FITS(groups, minimum) ((groups) == AMX_GROUPS && !(minimum))
#include "drivers/cpu/vector/q8_decode_low.h"
#include "drivers/cpu/x86/q8_amx.h"

#include "drivers/cpu/vector/fill_q8.h"

void qn_kernels_amx_int8_low(struct qn_kernels *kernels)
{
    qn_fill_q8(kernels);
}
