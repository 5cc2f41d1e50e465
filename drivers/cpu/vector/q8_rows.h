/* How the decoders of quantised formats read LANES rows of weights: fields of a block, one row in each lane,
 * from rows as they stand in a file or side by side (formats/rows16.h). Includes nothing: a vocabulary
 * (vec_*.h) comes first. */
#ifndef QN_CPU_VECTOR_Q8_ROWS_H
#define QN_CPU_VECTOR_Q8_ROWS_H

#include "drivers/cpu/kernels.h"
#include "formats/rows16.h"

#include <stdbool.h>
#include <string.h>

#define QN_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define QN_UNROLL _Pragma("unroll")
#else
#define QN_UNROLL _Pragma("GCC unroll 16")
#endif

/* `layout` is a constant, so that each has its own code. */
struct qn_q8_rows {
    uint32_t layout;   /* enum quern_layout */
    const uint8_t *at; /* a block of the first row, or of the first row of its 16 */
    size_t stride;     /* QUERN_LAYOUT_FILE: bytes from row to row */
    size_t lane;       /* QUERN_LAYOUT_ROWS16: which of the 16 rows is the first lane */
};

/* LANES rows from row `first` on, at byte `offset` of the row. ROWS16: `first` is a multiple of LANES, and
 * the byte is the first of a block. */
QN_INLINE struct qn_q8_rows qn_q8_rows_at(uint32_t layout, const uint8_t *w, size_t row_bytes, size_t first,
                                          size_t offset)
{
    if (layout == QUERN_LAYOUT_FILE)
        return (struct qn_q8_rows){layout, w + first * row_bytes + offset, row_bytes, 0};
    const size_t lane = first % QN_ROWS16;
    return (struct qn_q8_rows){layout, w + (first - lane) * row_bytes + QN_ROWS16 * offset, row_bytes, lane};
}

/* On to the next block. */
QN_INLINE void qn_next_block(struct qn_q8_rows *rows, size_t block_bytes)
{
    rows->at += rows->layout == QUERN_LAYOUT_FILE ? block_bytes : QN_ROWS16 * block_bytes;
}

/* The 4 bytes at an offset of the block, in each row. */
QN_INLINE vi qn_word(struct qn_q8_rows rows, size_t offset)
{
    return rows.layout == QUERN_LAYOUT_FILE ? vi_gather(rows.at + offset, rows.stride)
                                            : vi_load(rows.at + QN_ROWS16 * offset + rows.lane * 4);
}

/* 16 bytes: lane r of out[j] has bytes 4 j to 4 j + 3 of row r. */
QN_INLINE void qn_words(struct qn_q8_rows rows, size_t offset, vi out[4])
{
    if (rows.layout == QUERN_LAYOUT_FILE)
        vi_piece(rows.at + offset, rows.stride, out);
    else
        QN_UNROLL for (int j = 0; j < 4; j++) out[j] = qn_word(rows, offset + 4 * (size_t)j);
}

/* A half float that stands at the block's start or end. */
QN_INLINE vf qn_half(struct qn_q8_rows rows, size_t offset)
{
    if (rows.layout != QUERN_LAYOUT_FILE)
        return vf_load_half(rows.at + QN_ROWS16 * offset + rows.lane * 2);
    return vf_of_halves(offset == 0 ? vi_gather(rows.at, rows.stride)
                                    : vi_srl(vi_gather(rows.at + offset - 2, rows.stride), 16));
}

/* The byte that a block starts with. */
QN_INLINE vi qn_first_byte(struct qn_q8_rows rows)
{
    return rows.layout == QUERN_LAYOUT_FILE ? vi_and(vi_gather(rows.at, rows.stride), vi_set(255))
                                            : vi_load_bytes(rows.at + rows.lane);
}

#endif
