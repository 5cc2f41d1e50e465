/* Number formats of tensors, by the numbers that model files use. Append-only. */
#ifndef QUERN_FORMAT_H
#define QUERN_FORMAT_H

#include <quern/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How the weights of one tensor are stored. Blocks run along the innermost dimension. The missing numbers
 * belonged to formats that were withdrawn. */
enum quern_format {
    QUERN_F32 = 0,
    QUERN_F16 = 1,
    QUERN_Q4_0 = 2,
    QUERN_Q4_1 = 3,
    QUERN_Q5_0 = 6,
    QUERN_Q5_1 = 7,
    QUERN_Q8_0 = 8,
    QUERN_Q8_1 = 9,
    QUERN_Q2_K = 10,
    QUERN_Q3_K = 11,
    QUERN_Q4_K = 12,
    QUERN_Q5_K = 13,
    QUERN_Q6_K = 14,
    QUERN_Q8_K = 15,
    QUERN_IQ2_XXS = 16,
    QUERN_IQ2_XS = 17,
    QUERN_IQ3_XXS = 18,
    QUERN_IQ1_S = 19,
    QUERN_IQ4_NL = 20,
    QUERN_IQ3_S = 21,
    QUERN_IQ2_S = 22,
    QUERN_IQ4_XS = 23,
    QUERN_I8 = 24,
    QUERN_I16 = 25,
    QUERN_I32 = 26,
    QUERN_I64 = 27,
    QUERN_F64 = 28,
    QUERN_IQ1_M = 29,
    QUERN_BF16 = 30,
    QUERN_TQ1_0 = 34,
    QUERN_TQ2_0 = 35,
    QUERN_MXFP4 = 39,
    QUERN_NVFP4 = 40,
    QUERN_Q1_0 = 41,
    QUERN_Q2_0 = 42,
    QUERN_FORMAT_END = 43,
};

/* Name as people write it, such as "Q4_K"; NULL for a number that no format has. */
QUERN_API const char *quern_format_name(enum quern_format format);

#ifdef __cplusplus
}
#endif

#endif
