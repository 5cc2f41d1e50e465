/* QUERN_LAYOUT_ROWS16: the rows of a matrix in groups of 16, which lie side by side, so that vector units
 * load one row into each lane. A group takes the bytes of its rows, no more and no less, from where its first
 * row would start; rows that are left over, n_rows % 16 at the end of each matrix, stay as they are in a
 * file.
 *
 * In a group block follows block (a row of plain floats is one); each is cut into words of 4 bytes, and a
 * piece of 1 or 2 bytes where its size is no multiple of 4: the scale, at the block's start or end, or a
 * row's last half float. What is at byte i of the block of one row is, for the 16 rows, from byte 16 i on: 16
 * words, or 16 such pieces, in the order of the rows. */
#ifndef QN_FORMATS_ROWS16_H
#define QN_FORMATS_ROWS16_H

#include "formats/formats.h"

enum { QN_ROWS16 = 16 };

/* Whether there is such a layout of the format: that of any weights. */
bool qn_rows16_has(enum quern_format format);

/* Packs a matrix of n_rows rows of k weights (whole blocks). `out` has as many bytes, elsewhere. */
void qn_rows16_pack(enum quern_format format, size_t k, size_t n_rows, const void *restrict rows,
                    void *restrict out);

/* One row of a matrix in this layout, as it is in a file. */
void qn_rows16_row(enum quern_format format, size_t k, size_t n_rows, const void *restrict matrix, size_t row,
                   void *restrict out);

#endif
