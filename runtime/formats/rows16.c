#include "formats/rows16.h"

#include <string.h>

/* The pieces of a block: `words` words of 4 bytes from byte `first_word` on, and `odd` bytes from `first_odd`
 * on.
 */
struct cut {
    size_t bytes, words, first_word, odd, first_odd;
};

static struct cut cut_of(enum quern_format format, size_t k)
{
    const bool plain = qn_format_get(format)->block_len == 1;
    struct cut cut = {.bytes = qn_format_get(format)->block_bytes * (plain ? k : 1)};
    cut.words = cut.bytes / 4;
    cut.odd = cut.bytes % 4;
    if (plain || format == QUERN_Q3_K || format == QUERN_Q6_K) /* the scale comes last */
        cut.first_odd = cut.words * 4;
    else
        cut.first_word = cut.odd;
    return cut;
}

bool qn_rows16_has(enum quern_format format)
{
    const struct qn_format *row = qn_format_get(format);
    return row && row->dequantise;
}

/* One block of 16 rows. */
static void pack_block(const struct cut *cut, const uint8_t *restrict in, size_t row_bytes,
                       uint8_t *restrict out)
{
    for (size_t w = 0; w < cut->words; w++) {
        const uint8_t *from = in + cut->first_word + 4 * w;
        uint8_t *to = out + QN_ROWS16 * (cut->first_word + 4 * w);
        for (size_t r = 0; r < QN_ROWS16; r++)
            memcpy(to + 4 * r, from + r * row_bytes, 4);
    }
    for (size_t r = 0; r < QN_ROWS16; r++)
        for (size_t i = 0; i < cut->odd; i++)
            out[QN_ROWS16 * cut->first_odd + r * cut->odd + i] = in[r * row_bytes + cut->first_odd + i];
}

void qn_rows16_pack(enum quern_format format, size_t k, size_t n_rows, const void *restrict rows,
                    void *restrict out)
{
    const struct cut cut = cut_of(format, k);
    const size_t row_bytes = (size_t)qn_format_row_bytes(format, k), whole = n_rows / QN_ROWS16 * QN_ROWS16;
    const uint8_t *in = rows;
    uint8_t *to = out;
    for (size_t first = 0; first < whole; first += QN_ROWS16)
        for (size_t at = 0; at < row_bytes; at += cut.bytes)
            pack_block(&cut, in + first * row_bytes + at, row_bytes, to + first * row_bytes + QN_ROWS16 * at);
    memcpy(to + whole * row_bytes, in + whole * row_bytes, (n_rows - whole) * row_bytes);
}

void qn_rows16_row(enum quern_format format, size_t k, size_t n_rows, const void *restrict matrix, size_t row,
                   void *restrict out)
{
    const struct cut cut = cut_of(format, k);
    const size_t row_bytes = (size_t)qn_format_row_bytes(format, k), r = row % QN_ROWS16;
    const uint8_t *in = (const uint8_t *)matrix + (row - r) * row_bytes;
    if (row >= n_rows / QN_ROWS16 * QN_ROWS16) {
        memcpy(out, (const uint8_t *)matrix + row * row_bytes, row_bytes);
        return;
    }
    uint8_t *to = out;
    for (size_t at = 0; at < row_bytes; at += cut.bytes, in += QN_ROWS16 * cut.bytes, to += cut.bytes) {
        for (size_t w = 0; w < cut.words; w++)
            memcpy(to + cut.first_word + 4 * w, in + QN_ROWS16 * (cut.first_word + 4 * w) + 4 * r, 4);
        memcpy(to + cut.first_odd, in + QN_ROWS16 * cut.first_odd + r * cut.odd, cut.odd);
    }
}
