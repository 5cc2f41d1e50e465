#include "formats/formats.h"
#include "formats/codecs.h"

#include <stdio.h>
#include <string.h>

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

enum quern_format qn_format_find(const char *name, size_t n)
{
    uint32_t f = 0;
    while (f < QUERN_FORMAT_END &&
           !(table[f].dequantise && strlen(table[f].name) == n && memcmp(table[f].name, name, n) == 0))
        f++;
    return (enum quern_format)f;
}

bool qn_setting_split(const char *setting, char name[QN_SETTING_NAME], enum quern_format *format)
{
    const char *last = strrchr(setting, '.'), *begin = last;
    if (strlen(setting) >= QN_SETTING_NAME || !last)
        return false;
    while (begin > setting && begin[-1] != '.')
        begin--;
    if (begin == setting)
        return false;
    *format = qn_format_find(begin, (size_t)(last - begin));
    snprintf(name, QN_SETTING_NAME, "%.*s%s", (int)(begin - 1 - setting), setting, last);
    return *format < QUERN_FORMAT_END;
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
