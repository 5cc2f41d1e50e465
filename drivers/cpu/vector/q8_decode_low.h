/* Decoders of formats with few bits a weight: points of a grid, ternary digits, one and two bits; and NVFP4.
 * As those of q8_decode.h. */
#ifndef QN_CPU_VECTOR_Q8_DECODE_LOW_H
#define QN_CPU_VECTOR_Q8_DECODE_LOW_H

#include "drivers/cpu/vector/q8_decode.h"

#define QN_AT(type, member) offsetof(struct qn_block_##type, member)

/* Bits `from` to from + n - 1 of each lane. */
QN_INLINE vi qn_bits(vi a, int from, int n)
{
    return vi_and(vi_srl(a, from), vi_set((1 << n) - 1));
}

/* ---------------------------------------------------------------- grids with signs */

/* Weights with the signs of bits 0 to 3 of each lane. No byte of q is 0. */
QN_INLINE vi qn_negate(vi q, vi signs)
{
    const vi ones = qn_four_bits(signs), mask = vi_sub(vi_sll(ones, 8), ones);
    return vi_signed_bytes(vi_add(vi_xor(q, mask), ones));
}

/* 7 bits and one that makes their number even: qn_iq_signs. */
QN_INLINE vi qn_even_signs(vi seven)
{
    vi odd = vi_xor(seven, vi_srl(seven, 4));
    odd = vi_xor(odd, vi_srl(odd, 2));
    odd = vi_xor(odd, vi_srl(odd, 1));
    return vi_or(seven, vi_sll(qn_bits(odd, 0, 1), 7));
}

/* A point of 8 weights: groups `group` and the next one. */
QN_INLINE void qn_put_point(struct qn_q8_sink *to, int block, int group, const uint8_t (*grid)[8], vi index,
                            vi signs)
{
    qn_put(to, block, group, qn_negate(vi_fetch(grid[0], index, 8), signs));
    qn_put(to, block, group + 1, qn_negate(vi_fetch(grid[0] + 4, index, 8), vi_srl(signs, 4)));
}

/* d (1/2 + n) times a power of two. */
QN_INLINE vf qn_half_scale(vf d, vi n, float power)
{
    return vf_mul(vf_mul(d, vf_add(vf_set(0.5f), vf_from_int(n))), vf_set(power));
}

QN_INLINE void qn_decode_iq2_xxs(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    const vf d = qn_half(rows, 0);
    for (int pair = 0; pair < 4; pair++) {
        vi words[4];
        qn_words(rows, QN_AT(iq2_xxs, qs) + pair * 16, words);
        QN_UNROLL for (int i = 0; i < 2; i++)
        {
            const vi index = words[2 * i], signs = words[2 * i + 1];
            qn_put_scale(to, pair * 2 + i, qn_half_scale(d, vi_srl(signs, 28), 0.25f));
            QN_UNROLL for (int l = 0; l < 4; l++)
                qn_put_point(to, pair * 2 + i, 2 * l, qn_iq2xxs_grid, qn_byte(index, l),
                             qn_even_signs(qn_bits(signs, 7 * l, 7)));
            qn_end_blocks(to, pair * 2 + i, 1);
        }
    }
}

/* 16 scales of a nibble. */
QN_INLINE void qn_decode_iq2_scales(struct qn_q8_rows rows, size_t offset, struct qn_q8_sink *to)
{
    const vf d = qn_half(rows, 0);
    const vi scales[2] = {qn_word(rows, offset), qn_word(rows, offset + 4)};
    QN_UNROLL for (int sub = 0; sub < 16; sub++)
        qn_put_scale(to, sub, qn_half_scale(d, qn_bits(scales[sub / 8], sub % 8 * 4, 4), 0.25f));
}

QN_INLINE void qn_decode_iq2_xs(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    qn_decode_iq2_scales(rows, QN_AT(iq2_xs, scales), to);
    for (int quarter = 0; quarter < 4; quarter++) {
        vi words[4];
        qn_words(rows, QN_AT(iq2_xs, qs) + quarter * 16, words);
        QN_UNROLL for (int i = 0; i < 4; i++)
        {
            QN_UNROLL for (int l = 0; l < 2; l++)
                qn_put_point(to, quarter * 4 + i, 2 * l, qn_iq2xs_grid, qn_bits(words[i], 16 * l, 9),
                             qn_even_signs(qn_bits(words[i], 16 * l + 9, 7)));
            qn_end_blocks(to, quarter * 4 + i, 1);
        }
    }
}

QN_INLINE void qn_decode_iq2_s(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    qn_decode_iq2_scales(rows, QN_AT(iq2_s, scales), to);
    for (int half = 0; half < 2; half++) {
        vi qs[4], signs[4], qh = qn_word(rows, QN_AT(iq2_s, qh) + half * 4);
        qn_words(rows, QN_AT(iq2_s, qs) + half * 16, qs);
        qn_words(rows, QN_AT(iq2_s, signs) + half * 16, signs);
        QN_UNROLL for (int i = 0; i < 4; i++)
        {
            QN_UNROLL for (int l = 0; l < 4; l++)
            {
                const vi high = vi_sll(qn_bits(qh, 8 * i + 2 * l, 2), 8);
                qn_put_point(to, half * 8 + i * 2, 2 * l, qn_iq2s_grid, vi_or(qn_byte(qs[i], l), high),
                             qn_byte(signs[i], l));
            }
            qn_end_blocks(to, half * 8 + i * 2, 2);
        }
    }
}

QN_INLINE void qn_decode_iq3_xxs(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    const vf d = qn_half(rows, 0);
    for (int half = 0; half < 2; half++) {
        vi words[4];
        qn_words(rows, QN_AT(iq3_xxs, scales_signs) + half * 16, words);
        QN_UNROLL for (int pair = 0; pair < 2; pair++)
        {
            vi qs[4];
            qn_words(rows, QN_AT(iq3_xxs, qs) + half * 32 + pair * 16, qs);
            QN_UNROLL for (int i = 0; i < 2; i++)
            {
                const int block = half * 4 + pair * 2 + i;
                qn_put_scale(to, block, qn_half_scale(d, vi_srl(words[pair * 2 + i], 28), 0.5f));
                QN_UNROLL for (int l = 0; l < 8; l++)
                {
                    const vi signs = qn_even_signs(qn_bits(words[pair * 2 + i], l / 2 * 7, 7));
                    const vi index = qn_byte(qs[2 * i + l / 4], l % 4);
                    qn_put(to, block, l,
                           qn_negate(vi_fetch(qn_iq3xxs_grid[0], index, 4), vi_srl(signs, l % 2 * 4)));
                }
                qn_end_blocks(to, block, 1);
            }
        }
    }
}

QN_INLINE void qn_decode_iq3_s(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    const vf d = qn_half(rows, 0);
    const vi scales = qn_word(rows, QN_AT(iq3_s, scales));
    QN_UNROLL for (int sub = 0; sub < 8; sub++)
    {
        const vi odd = vi_or(vi_sll(qn_bits(scales, 4 * sub, 4), 1), vi_set(1));
        qn_put_scale(to, sub, vf_mul(d, vf_from_int(odd)));
    }
    for (int half = 0; half < 2; half++) {
        vi signs[4], qh = qn_word(rows, QN_AT(iq3_s, qh) + half * 4);
        qn_words(rows, QN_AT(iq3_s, signs) + half * 16, signs);
        QN_UNROLL for (int pair = 0; pair < 2; pair++)
        {
            vi qs[4];
            qn_words(rows, QN_AT(iq3_s, qs) + half * 32 + pair * 16, qs);
            QN_UNROLL for (int i = 0; i < 2; i++)
            {
                const int sub = pair * 2 + i, block = half * 4 + sub;
                QN_UNROLL for (int l = 0; l < 8; l++)
                {
                    const vi high = vi_sll(qn_bits(qh, 8 * sub + l, 1), 8);
                    const vi index = vi_or(qn_byte(qs[2 * i + l / 4], l % 4), high);
                    qn_put(to, block, l,
                           qn_negate(vi_fetch(qn_iq3s_grid[0], index, 4), vi_srl(signs[sub], 4 * l)));
                }
                qn_end_blocks(to, block, 1);
            }
        }
    }
}

/* ---------------------------------------------------------------- a ternary grid with shifts */

/* -1, 0, 1 and an eighth up, or down where `down` is 1, times 8, plus 16. */
QN_INLINE vi qn_shifted(vi grid, vi down)
{
    const vi ones = vi_set_bytes(1),
             digits = vi_and(vi_add(vi_and(grid, vi_set_bytes(3)), ones), vi_set_bytes(3));
    const vi shift = vi_sub(vi_set_bytes(9), vi_and(vi_sub(vi_zero(), down), vi_set_bytes(2)));
    return vi_add(vi_sll(digits, 3), shift);
}

QN_INLINE void qn_put_shifted(struct qn_q8_sink *to, int block, int group, vi index, vi down)
{
    qn_put(to, block, group, qn_shifted(vi_fetch(qn_iq1s_grid[0], index, 8), down));
    qn_put(to, block, group + 1, qn_shifted(vi_fetch(qn_iq1s_grid[0] + 4, index, 8), down));
}

/* d (2 n + 1) / 8 */
QN_INLINE vf qn_odd_scale(vf d, vi n)
{
    return vf_mul(vf_mul(d, vf_from_int(vi_or(vi_sll(n, 1), vi_set(1)))), vf_set(0.125f));
}

QN_INLINE void qn_decode_iq1_s(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    const vf d = qn_half(rows, 0);
    for (int half = 0; half < 2; half++) {
        vi qs[4], heads[2] = {qn_word(rows, QN_AT(iq1_s, qh) + half * 8),
                              qn_word(rows, QN_AT(iq1_s, qh) + half * 8 + 4)};
        qn_words(rows, QN_AT(iq1_s, qs) + half * 16, qs);
        QN_UNROLL for (int i = 0; i < 4; i++)
        {
            const vi qh = vi_srl(heads[i / 2], i % 2 * 16), down = qn_bits(qh, 15, 1);
            qn_put_scale(to, half * 4 + i, qn_odd_scale(d, qn_bits(qh, 12, 3)));
            QN_UNROLL for (int l = 0; l < 4; l++)
            {
                const vi high = vi_sll(qn_bits(qh, 3 * l, 3), 8);
                qn_put_shifted(to, half * 4 + i, 2 * l, vi_or(qn_byte(qs[i], l), high), down);
            }
            qn_end_blocks(to, half * 4 + i, 1);
        }
    }
}

/* 16 scales of 3 bits, and d in the top nibbles of their four words. */
QN_INLINE void qn_decode_iq1_m_scales(struct qn_q8_rows rows, struct qn_q8_sink *to)
{
    const vi scales[2] = {qn_word(rows, QN_AT(iq1_m, scales)), qn_word(rows, QN_AT(iq1_m, scales) + 4)};
    const vi low = vi_or(qn_bits(scales[0], 12, 4), vi_sll(vi_srl(scales[0], 28), 4));
    const vi high = vi_or(qn_bits(scales[1], 12, 4), vi_sll(vi_srl(scales[1], 28), 4));
    const vf d = vf_of_halves(vi_or(low, vi_sll(high, 8)));
    QN_UNROLL for (int sub = 0; sub < 16; sub++)
        qn_put_scale(to, sub, qn_odd_scale(d, qn_bits(scales[sub / 8], sub / 4 % 2 * 16 + sub % 4 * 3, 3)));
}

QN_INLINE void qn_decode_iq1_m(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    qn_decode_iq1_m_scales(rows, to);
    for (int half = 0; half < 2; half++) {
        vi qs[4], qh[2] = {qn_word(rows, QN_AT(iq1_m, qh) + half * 8),
                           qn_word(rows, QN_AT(iq1_m, qh) + half * 8 + 4)};
        qn_words(rows, QN_AT(iq1_m, qs) + half * 16, qs);
        QN_UNROLL for (int i = 0; i < 4; i++)
        {
            QN_UNROLL for (int l = 0; l < 4; l++)
            {
                const vi nibble = qn_bits(qh[i / 2], i % 2 * 16 + l * 4, 4);
                const vi index = vi_or(qn_byte(qs[i], l), vi_sll(qn_bits(nibble, 0, 3), 8));
                qn_put_shifted(to, half * 8 + i * 2, 2 * l, index, vi_srl(nibble, 3));
            }
            qn_end_blocks(to, half * 8 + i * 2, 2);
        }
    }
}

/* ---------------------------------------------------------------- ternary digits, one and two bits */

/* Weights less 1, all with one scale. */
QN_INLINE void qn_put_scales(struct qn_q8_sink *to, int first_block, int n, vf d)
{
    QN_UNROLL for (int b = 0; b < n; b++) qn_put_scale(to, first_block + b, d);
}

/* A ternary digit of each byte: the one on top of byte * 3 / 256. What is left of the bytes, even and odd
 * ones apart, holds the next one. */
QN_INLINE vi qn_next_digits(vi rest[2])
{
    const vi bytes = vi_set(0x00ff00ff);
    vi digit[2];
    QN_UNROLL for (int i = 0; i < 2; i++)
    {
        const vi three = vi_add(rest[i], vi_sll(rest[i], 1));
        digit[i] = vi_and(vi_srl(three, 8), bytes);
        rest[i] = vi_and(three, bytes);
    }
    return vi_or(digit[0], vi_sll(digit[1], 8));
}

/* n words whose digits follow each other, 5 (or 4) from each byte, from group `group` of the block on. */
QN_INLINE void qn_put_digits(struct qn_q8_sink *to, int block, int group, const vi *words, int n, int digits)
{
    const vi bytes = vi_set(0x00ff00ff);
    vi rest[8][2];
    QN_UNROLL for (int i = 0; i < n; i++)
    {
        rest[i][0] = vi_and(words[i], bytes);
        rest[i][1] = vi_and(vi_srl(words[i], 8), bytes);
    }
    QN_UNROLL for (int t = 0; t < digits; t++) QN_UNROLL for (int i = 0; i < n; i++)
        qn_put(to, block, group + t * n + i, qn_next_digits(rest[i]));
}

QN_INLINE void qn_decode_tq1_0(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    vi words[8], qh = qn_word(rows, QN_AT(tq1_0, qh));
    qn_put_scales(to, 0, 8, qn_half(rows, QN_AT(tq1_0, d)));
    qn_words(rows, QN_AT(tq1_0, qs), words);
    qn_words(rows, QN_AT(tq1_0, qs) + 16, words + 4);
    qn_put_digits(to, 0, 0, words, 8, 5);
    qn_end_blocks(to, 0, 5);
    qn_words(rows, QN_AT(tq1_0, qs) + 32, words);
    qn_put_digits(to, 5, 0, words, 4, 5);
    qn_put_digits(to, 5, 20, &qh, 1, 4);
    qn_end_blocks(to, 5, 3);
}

QN_INLINE void qn_decode_tq2_0(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    qn_put_scales(to, 0, 8, qn_half(rows, QN_AT(tq2_0, d)));
    for (int half = 0; half < 2; half++) {
        vi qs[8];
        qn_words(rows, QN_AT(tq2_0, qs) + half * 32, qs);
        qn_words(rows, QN_AT(tq2_0, qs) + half * 32 + 16, qs + 4);
        QN_UNROLL for (int t = 0; t < 4; t++)
        {
            QN_UNROLL for (int g = 0; g < 8; g++) qn_put(to, half * 4 + t, g, qn_two_bits(qs[g], t));
            qn_end_blocks(to, half * 4 + t, 1);
        }
    }
}

/* Bytes 0 and 2, less 1. */
QN_INLINE void qn_decode_q1_0(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    for (int b = 0; b < (int)n_blocks; b++, qn_next_block(&rows, sizeof(struct qn_block_q1_0))) {
        vi qs[4];
        qn_put_scales(to, b * 4, 4, qn_half(rows, 0));
        qn_words(rows, QN_AT(q1_0, qs), qs);
        QN_UNROLL for (int i = 0; i < 4; i++)
        {
            QN_UNROLL for (int g = 0; g < 8; g++)
                qn_put(to, b * 4 + i, g, vi_sll(qn_four_bits(vi_srl(qs[i], 4 * g)), 1));
            qn_end_blocks(to, b * 4 + i, 1);
        }
    }
}

/* The four pairs of bits of byte j, a byte each. */
QN_INLINE vi qn_pairs_of_byte(vi a, int j)
{
    const vi byte = qn_byte(a, j);
    const vi two = vi_or(byte, vi_sll(byte, 6));
    return vi_and(vi_or(two, vi_sll(two, 12)), vi_set_bytes(3));
}

QN_INLINE void qn_decode_q2_0(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    for (int b = 0; b < (int)n_blocks; b++, qn_next_block(&rows, sizeof(struct qn_block_q2_0))) {
        vi qs[4];
        qn_put_scales(to, b * 2, 2, qn_half(rows, 0));
        qn_words(rows, QN_AT(q2_0, qs), qs);
        QN_UNROLL for (int g = 0; g < 16; g++) qn_put(to, b * 2, g, qn_pairs_of_byte(qs[g / 4], g % 4));
        qn_end_blocks(to, b * 2, 2);
    }
}

/* ---------------------------------------------------------------- NVFP4 */

/* Half the value of UE4M3: 4 bits of exponent, 3 of mantissa; 0x7f counts as 0. */
QN_INLINE vf qn_ue4m3_half(vi byte)
{
    const vi x = qn_bits(byte, 0, 7);
    const vi normal = vi_add(vi_sll(x, 20), vi_set((127 - 8) << 23));
    const vi subnormal = vf_bits(vf_mul(vf_from_int(x), vf_set(0x1p-10f)));
    const vi is_small = vi_sra(vi_sub(x, vi_set(8)), 31), is_nan = vi_sra(vi_sub(vi_set(126), x), 31);
    const vi bits = vi_or(vi_and(is_small, subnormal), vi_and(vi_xor(is_small, vi_set(-1)), normal));
    return vf_of_bits(vi_and(vi_xor(is_nan, vi_set(-1)), bits));
}

QN_INLINE void qn_decode_nvfp4(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    const vi values = vi_table(qn_mxfp4_values);
    for (int b = 0; b < (int)n_blocks; b++, qn_next_block(&rows, sizeof(struct qn_block_nvfp4))) {
        vi qs[8], d = qn_word(rows, 0);
        QN_UNROLL for (int i = 0; i < 4; i++) qn_put_scale(to, b * 4 + i, qn_ue4m3_half(qn_byte(d, i)));
        qn_words(rows, QN_AT(nvfp4, qs), qs);
        qn_words(rows, QN_AT(nvfp4, qs) + 16, qs + 4);
        QN_UNROLL for (int g = 0; g < 16; g++) qn_put(
            to, b * 4, g, vi_signed_bytes(vi_look_up(values, qn_nibbles(qs[g / 4 * 2 + g % 2], g / 2 % 2))));
        qn_end_blocks(to, b * 4, 4);
    }
}

#undef QN_AT

#endif
