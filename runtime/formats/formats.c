#include "formats/formats.h"
#include "formats/codecs.h"

static const struct qn_format table[QUERN_FORMAT_END] = {
#define QN_FORMAT_RAW(id, lower, len, bytes) [QUERN_##id] = {#id, len, bytes, NULL, NULL},
#define QN_FORMAT_R(id, lower, len, bytes)   [QUERN_##id] = {#id, len, bytes, qn_dequantise_##lower, NULL},
#define QN_FORMAT_RW(id, lower, len, bytes) \
    [QUERN_##id] = {#id, len, bytes, qn_dequantise_##lower, qn_quantise_##lower},
#define QN_FORMAT_PLAIN(id, lower, len, bytes) QN_FORMAT_RW(id, lower, len, bytes)
#include "formats/formats.inc"
};

const struct qn_format *qn_format_get(enum quern_format format)
{
    if ((uint32_t)format >= QUERN_FORMAT_END || !table[format].name)
        return NULL;
    return &table[format];
}

uint64_t qn_format_row_bytes(enum quern_format format, uint64_t n)
{
    const struct qn_format *row = qn_format_get(format);
    return row ? n / row->block_len * row->block_bytes : 0;
}

const char *quern_format_name(enum quern_format format)
{
    const struct qn_format *row = qn_format_get(format);
    return row ? row->name : NULL;
}
