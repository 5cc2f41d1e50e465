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

/* The same at bits 8 and up, above a byte. */
QN_INLINE vi qn_bits_above(vi a, int from, int n)
{
    return vi_and(from < 8 ? vi_sll(a, 8 - from) : vi_srl(a, from - 8), vi_set(((1 << n) - 1) << 8));
}

/* ---------------------------------------------------------------- grids with signs */

/* Weights with the signs of bits 4 g to 4 g + 3 of each lane. */
QN_INLINE vi qn_negate(vi q, vi signs, int g)
{
    const vi mask = qn_four_bits(signs, g);
    return vi_signed_bytes(vi_sub_bytes(vi_xor(q, mask), mask));
}

/* The low 7 bits of each byte and one that makes their number even: qn_iq_signs. */
QN_INLINE vi qn_even_signs(vi seven)
{
    vi odd = vi_xor(seven, vi_srl(seven, 4));
    odd = vi_xor(odd, vi_srl(odd, 2));
    odd = vi_xor(odd, vi_srl(odd, 1));
    return vi_or(seven, vi_sll(vi_and(odd, vi_set_bytes(1)), 7));
}

/* The same for four times 7 bits that follow each other. */
QN_INLINE vi qn_packed_signs(vi a)
{
    const vi two = vi_or(vi_and(a, vi_set(0x3fff)), vi_sll(vi_and(a, vi_set(0x0fffc000)), 2));
    const vi high = vi_sll(vi_and(two, vi_set(0x3f803f80)), 1);
    return qn_even_signs(vi_or(vi_and(two, vi_set(0x007f007f)), high));
}

/* A point of 8 weights: groups `group` and the next one. Its signs are byte `at` of each lane. */
QN_INLINE void qn_put_point(struct qn_q8_sink *to, int block, int group, const uint8_t (*grid)[8], vi index,
                            vi signs, int at)
{
    vi q[2];
    vi_fetch_two(grid[0], index, 8, q);
    qn_put(to, block, group, qn_negate(q[0], signs, 2 * at));
    qn_put(to, block, group + 1, qn_negate(q[1], signs, 2 * at + 1));
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
            const vi index = words[2 * i], signs = qn_packed_signs(words[2 * i + 1]);
            qn_put_scale(to, pair * 2 + i, qn_half_scale(d, vi_srl(words[2 * i + 1], 28), 0.25f));
            QN_UNROLL for (int l = 0; l < 4; l++)
                qn_put_point(to, pair * 2 + i, 2 * l, qn_iq2xxs_grid, qn_byte(index, l), signs, l);
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
        QN_UNROLL for (int i = 0; i < 4; i += 2)
        {
            /* Of two words: the one's in bytes 0 and 2, the other's in 1 and 3. */
            const vi signs = qn_even_signs(vi_or(vi_and(vi_srl(words[i], 9), vi_set(0x007f007f)),
                                                 vi_and(vi_srl(words[i + 1], 1), vi_set(0x7f007f00))));
            QN_UNROLL for (int l = 0; l < 4; l++)
                qn_put_point(to, quarter * 4 + i, 2 * l, qn_iq2xs_grid,
                             qn_bits(words[i + l / 2], 16 * (l % 2), 9), signs, l % 2 * 2 + l / 2);
            qn_end_blocks(to, quarter * 4 + i, 2);
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
                const vi high = qn_bits_above(qh, 8 * i + 2 * l, 2);
                qn_put_point(to, half * 8 + i * 2, 2 * l, qn_iq2s_grid, vi_or(qn_byte(qs[i], l), high),
                             signs[i], l);
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
                const vi signs = qn_packed_signs(words[pair * 2 + i]);
                qn_put_scale(to, block, qn_half_scale(d, vi_srl(words[pair * 2 + i], 28), 0.5f));
                QN_UNROLL for (int l = 0; l < 8; l++)
                {
                    const vi index = qn_byte(qs[2 * i + l / 4], l % 4);
                    qn_put(to, block, l, qn_negate(vi_fetch(qn_iq3xxs_grid[0], index, 4), signs, l));
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
                    const vi high = qn_bits_above(qh, 8 * sub + l, 1);
                    const vi index = vi_or(qn_byte(qs[2 * i + l / 4], l % 4), high);
                    qn_put(to, block, l, qn_negate(vi_fetch(qn_iq3s_grid[0], index, 4), signs[sub], l));
                }
                qn_end_blocks(to, block, 1);
            }
        }
    }
}

/* ---------------------------------------------------------------- a ternary grid with shifts */

/* Two groups of -1, 0, 1 and an eighth up, or down where `down` is 1, times 8, plus 16. */
QN_INLINE void qn_put_shifted(struct qn_q8_sink *to, int block, int group, vi index, vi down)
{
    const vi less = vi_add(vi_set_bytes(-17), vi_and(vi_sub(vi_zero(), down), vi_set_bytes(2)));
    vi q[2];
    vi_fetch_two((const uint8_t *)qn_iq1s_grid[0], index, 8, q);
    QN_UNROLL for (int i = 0; i < 2; i++)
        qn_put(to, block, group + i, vi_sub_bytes(vi_and(vi_sll(q[i], 3), vi_set_bytes((char)0xf8)), less));
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
                const vi high = qn_bits_above(heads[i / 2], i % 2 * 16 + 3 * l, 3);
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
                const int nibble = i % 2 * 16 + l * 4;
                const vi index = vi_or(qn_byte(qs[i], l), qn_bits_above(qh[i / 2], nibble, 3));
                qn_put_shifted(to, half * 8 + i * 2, 2 * l, index, qn_bits(qh[i / 2], nibble + 3, 1));
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

/* A ternary digit of each byte b, the high bit of which is flipped: b * 3 / 256. What is left, b * 3 % 256,
 * holds the next one, with its high bit flipped, since 3 * 128 is 128 more than 256. */
QN_INLINE vi qn_next_digits(vi *rest)
{
    const vi one = vi_more_bytes(*rest, vi_set_bytes(85 - 128)),
             two = vi_more_bytes(*rest, vi_set_bytes(170 - 128));
    *rest = vi_add_bytes(*rest, vi_add_bytes(*rest, *rest));
    return vi_sub_bytes(vi_sub_bytes(vi_zero(), one), two);
}

/* n words whose digits follow each other, 5 (or 4) from each byte, from group `group` of the block on. */
QN_INLINE void qn_put_digits(struct qn_q8_sink *to, int block, int group, const vi *words, int n, int digits)
{
    vi rest[8];
    QN_UNROLL for (int i = 0; i < n; i++) rest[i] = vi_xor(words[i], vi_set_bytes((char)0x80));
    QN_UNROLL for (int t = 0; t < digits; t++) QN_UNROLL for (int i = 0; i < n; i++)
        qn_put(to, block, group + t * n + i, qn_next_digits(&rest[i]));
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
                qn_put(to, b * 4 + i, g, vi_and(qn_four_bits(qs[i], g), vi_set_bytes(2)));
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
