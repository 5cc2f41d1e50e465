/* The functions behind the rows of formats.inc; everyone else reaches them through qn_format_get(). */
#ifndef QN_FORMATS_CODECS_H
#define QN_FORMATS_CODECS_H

#include <stddef.h>

#define QN_FORMAT_RAW(id, lower, len, bytes)
#define QN_FORMAT_R(id, lower, len, bytes) \
    void qn_dequantise_##lower(const void *restrict blocks, float *restrict out, size_t n);
#define QN_FORMAT_RW(id, lower, len, bytes) \
    QN_FORMAT_R(id, lower, len, bytes)      \
    void qn_quantise_##lower(const float *restrict in, void *restrict blocks, size_t n);
#define QN_FORMAT_PLAIN(id, lower, len, bytes) QN_FORMAT_RW(id, lower, len, bytes)
#include "formats/formats.inc"

#endif
