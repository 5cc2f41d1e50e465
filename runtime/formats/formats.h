/* The number formats of weights: one row each. Pure functions, no state; a block's layout is documented
 * beside the function that decodes it. Rows are in formats.inc. */
#ifndef QN_FORMATS_H
#define QN_FORMATS_H

#include <quern/format.h>

/* Everything that the rest of Quern knows of a format. */
struct qn_format {
    const char *name;     /* "Q4_K" */
    uint16_t block_len;   /* weights per block */
    uint16_t block_bytes; /* bytes per block */
    /* Decodes n weights (a multiple of block_len) exactly. NULL: this format holds no weights (I32, ...). */
    void (*dequantise)(const void *restrict blocks, float *restrict out, size_t n);
    /* Encodes n floats (a multiple of block_len), round to nearest. NULL: not written by Quern yet. */
    void (*quantise)(const float *restrict in, void *restrict blocks, size_t n);
};

/* The row of a format, or NULL for a number that none has. */
const struct qn_format *qn_format_get(enum quern_format format);

/* The format of weights with that name of n characters; QUERN_FORMAT_END: there is none. */
enum quern_format qn_format_find(const char *name, size_t n);

/* A setting may be one for a format alone, whose name stands before its last word:
 * "kernels.matvec.Q4_K.lanes" to "kernels.matvec.lanes" and Q4_K. False: no format is in it. */
enum { QN_SETTING_NAME = 96 };
bool qn_setting_split(const char *setting, char name[QN_SETTING_NAME], enum quern_format *format);

/* Bytes of a row of n weights; n must be a multiple of block_len. */
uint64_t qn_format_row_bytes(enum quern_format format, uint64_t n);

/* Half floats and bfloat16, exact in both directions where representable; to half: round to nearest even. */
float qn_f16_to_f32(uint16_t h);
uint16_t qn_f32_to_f16(float f);
float qn_bf16_to_f32(uint16_t b);
uint16_t qn_f32_to_bf16(float f);

#endif
