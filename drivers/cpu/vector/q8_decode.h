/* Decoders of the quantised formats, see q8_tile.h: n_blocks blocks of LANES rows, which go to a sink.
 * Layouts of the blocks: formats/blocks.h and the exact decoders. */
#ifndef QN_CPU_VECTOR_Q8_DECODE_H
#define QN_CPU_VECTOR_Q8_DECODE_H

#include "drivers/cpu/vector/q8_sink.h"
#include "formats/blocks.h"
#include "formats/iq_tables.h"

#define QN_AT(type, member) offsetof(struct qn_block_##type, member)

QN_INLINE vi qn_nibbles(vi a, int high)
{
    return vi_and(high ? vi_srl(a, 4) : a, vi_set_bytes(15));
}

/* Byte j of each lane. */
QN_INLINE vi qn_byte(vi a, int j)
{
    return j == 3 ? vi_srl(a, 24) : vi_and(vi_srl(a, 8 * j), vi_set(255));
}
QN_INLINE vf qn_signed_byte(vi a, int j)
{
    return vf_from_int(vi_sra(vi_sll(a, 24 - 8 * j), 24));
}

/* ---------------------------------------------------------------- blocks of 32 */

QN_INLINE void qn_decode_q4_0(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    for (int b = 0; b < (int)n_blocks; b++, qn_next_block(&rows, sizeof(struct qn_block_q4_0))) {
        vi qs[4];
        qn_put_scale(to, b, qn_half(rows, 0));
        qn_words(rows, QN_AT(q4_0, qs), qs);
        QN_UNROLL for (int g = 0; g < 8; g++) qn_put(to, b, g, qn_nibbles(qs[g % 4], g / 4));
        qn_end_blocks(to, b, 1);
    }
}

QN_INLINE void qn_decode_q4_1(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    for (int b = 0; b < (int)n_blocks; b++, qn_next_block(&rows, sizeof(struct qn_block_q4_1))) {
        vi qs[4], head = qn_word(rows, 0);
        qn_put_scale(to, b, vf_of_halves(head));
        qn_put_min(to, b, vf_sub(vf_zero(), vf_of_halves(vi_srl(head, 16))));
        qn_words(rows, QN_AT(q4_1, qs), qs);
        QN_UNROLL for (int g = 0; g < 8; g++) qn_put(to, b, g, qn_nibbles(qs[g % 4], g / 4));
        qn_end_blocks(to, b, 1);
    }
}

/* Byte j of each lane, in all of its bytes. */
QN_INLINE vi qn_spread_byte(vi a, int j)
{
    static const uint8_t places[4][16] = {{0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12},
                                          {1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9, 9, 13, 13, 13, 13},
                                          {2, 2, 2, 2, 6, 6, 6, 6, 10, 10, 10, 10, 14, 14, 14, 14},
                                          {3, 3, 3, 3, 7, 7, 7, 7, 11, 11, 11, 11, 15, 15, 15, 15}};
    return vi_look_up(a, vi_table(places[j]));
}

/* Bits 4 g to 4 g + 3 of each lane, a byte each: -1 where the bit is set. */
QN_INLINE vi qn_four_bits(vi bits, int g)
{
    return vi_test_bytes(qn_spread_byte(bits, g / 2), vi_set(g % 2 ? (int)0x80402010 : 0x08040201));
}

/* The same as bit 4 of each byte. */
QN_INLINE vi qn_fifth_bits(vi bits, int g)
{
    return vi_and(qn_four_bits(bits, g), vi_set_bytes(16));
}

QN_INLINE void qn_decode_q5_0(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    for (int b = 0; b < (int)n_blocks; b++, qn_next_block(&rows, sizeof(struct qn_block_q5_0))) {
        vi qs[4], qh = qn_word(rows, QN_AT(q5_0, qh));
        qn_put_scale(to, b, qn_half(rows, 0));
        qn_words(rows, QN_AT(q5_0, qs), qs);
        QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(to, b, g, vi_or(qn_nibbles(qs[g % 4], g / 4), qn_fifth_bits(qh, g)));
        qn_end_blocks(to, b, 1);
    }
}

QN_INLINE void qn_decode_q5_1(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    for (int b = 0; b < (int)n_blocks; b++, qn_next_block(&rows, sizeof(struct qn_block_q5_1))) {
        vi qs[4], head = qn_word(rows, 0), qh = qn_word(rows, QN_AT(q5_1, qh));
        qn_put_scale(to, b, vf_of_halves(head));
        qn_put_min(to, b, vf_sub(vf_zero(), vf_of_halves(vi_srl(head, 16))));
        qn_words(rows, QN_AT(q5_1, qs), qs);
        QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(to, b, g, vi_or(qn_nibbles(qs[g % 4], g / 4), qn_fifth_bits(qh, g)));
        qn_end_blocks(to, b, 1);
    }
}

QN_INLINE void qn_decode_q8_0(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    for (int b = 0; b < (int)n_blocks; b++, qn_next_block(&rows, sizeof(struct qn_block_q8_0))) {
        vi qs[8];
        qn_put_scale(to, b, qn_half(rows, 0));
        qn_words(rows, QN_AT(q8_0, qs), qs);
        qn_words(rows, QN_AT(q8_0, qs) + 16, qs + 4);
        QN_UNROLL for (int g = 0; g < 8; g++) qn_put(to, b, g, vi_signed_bytes(qs[g]));
        qn_end_blocks(to, b, 1);
    }
}

QN_INLINE void qn_decode_iq4_nl(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    const vi values = vi_table(qn_iq4nl_values);
    for (int b = 0; b < (int)n_blocks; b++, qn_next_block(&rows, sizeof(struct qn_block_iq4_nl))) {
        vi qs[4];
        qn_put_scale(to, b, qn_half(rows, 0));
        qn_words(rows, QN_AT(iq4_nl, qs), qs);
        QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(to, b, g, vi_signed_bytes(vi_look_up(values, qn_nibbles(qs[g % 4], g / 4))));
        qn_end_blocks(to, b, 1);
    }
}

/* Scales are 2^(e - 128), the values doubled; the two smallest scales are subnormal. */
QN_INLINE void qn_decode_mxfp4(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    const vi values = vi_table(qn_mxfp4_values);
    for (int b = 0; b < (int)n_blocks; b++, qn_next_block(&rows, sizeof(struct qn_block_mxfp4))) {
        vi qs[4], e = qn_first_byte(rows);
        vi tiny = vi_srl(vi_set(0x00400000), 1); /* 2^-128; doubled for e = 1 */
        vi normal = vi_sll(vi_max(vi_sub(e, vi_set(1)), vi_zero()), 23);
        vi one = vi_and(e, vi_set(1));
        vi subnormal = vi_add(tiny, vi_mul(one, tiny));
        vi is_small = vi_sra(vi_sub(e, vi_set(2)), 31);
        vi bits = vi_or(vi_and(is_small, subnormal), vi_and(vi_xor(is_small, vi_set(-1)), normal));
        qn_put_scale(to, b, vf_of_bits(bits));
        qn_words(rows, QN_AT(mxfp4, qs), qs);
        QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(to, b, g, vi_signed_bytes(vi_look_up(values, qn_nibbles(qs[g % 4], g / 4))));
        qn_end_blocks(to, b, 1);
    }
}

/* ---------------------------------------------------------------- blocks of 256 */

/* Scales and minima of Q4_K and Q5_K, from the first 16 bytes of a block: d, dmin and 12 bytes of packed
 * 6-bit numbers. */
QN_INLINE void qn_decode_k_scales(struct qn_q8_rows rows, struct qn_q8_sink *to)
{
    const vi low6 = vi_set_bytes(63), low4 = vi_set_bytes(15), high2 = vi_set_bytes(48);
    vi head[4];
    qn_words(rows, 0, head);
    vf d = vf_of_halves(head[0]), dmin = vf_of_halves(vi_srl(head[0], 16));
    vi scale[2] = {vi_and(head[1], low6), vi_or(vi_and(head[3], low4), vi_and(vi_srl(head[1], 2), high2))};
    vi min[2] = {vi_and(head[2], low6),
                 vi_or(vi_and(vi_srl(head[3], 4), low4), vi_and(vi_srl(head[2], 2), high2))};
    QN_UNROLL for (int sub = 0; sub < 8; sub++)
    {
        qn_put_scale(to, sub, vf_mul(d, vf_from_int(qn_byte(scale[sub / 4], sub % 4))));
        qn_put_min(to, sub, vf_mul(dmin, vf_from_int(qn_byte(min[sub / 4], sub % 4))));
    }
}

QN_INLINE void qn_decode_q4_k(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    qn_decode_k_scales(rows, to);
    for (int pair = 0; pair < 4; pair++) {
        vi qs[8];
        qn_words(rows, QN_AT(q4_k, qs) + pair * 32, qs);
        qn_words(rows, QN_AT(q4_k, qs) + pair * 32 + 16, qs + 4);
        QN_UNROLL for (int g = 0; g < 8; g++)
        {
            qn_put(to, pair * 2, g, qn_nibbles(qs[g], 0));
            qn_put(to, pair * 2, 8 + g, qn_nibbles(qs[g], 1));
        }
        qn_end_blocks(to, pair * 2, 2);
    }
}

QN_INLINE void qn_decode_q5_k(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    const vi fifth = vi_set_bytes(16);
    vi qh[8];
    qn_decode_k_scales(rows, to);
    qn_words(rows, QN_AT(q5_k, qh), qh);
    qn_words(rows, QN_AT(q5_k, qh) + 16, qh + 4);
    QN_UNROLL for (int pair = 0; pair < 4; pair++)
    {
        vi qs[8];
        qn_words(rows, QN_AT(q5_k, qs) + pair * 32, qs);
        qn_words(rows, QN_AT(q5_k, qs) + pair * 32 + 16, qs + 4);
        QN_UNROLL for (int g = 0; g < 8; g++)
        {
            /* bits 2 * pair and 2 * pair + 1 of qh go to bit 4 */
            vi a = pair <= 2 ? vi_sll(qh[g], 4 - 2 * pair) : vi_srl(qh[g], 2);
            vi b = pair <= 1 ? vi_sll(qh[g], 3 - 2 * pair) : vi_srl(qh[g], 2 * pair - 3);
            qn_put(to, pair * 2, g, vi_or(qn_nibbles(qs[g], 0), vi_and(a, fifth)));
            qn_put(to, pair * 2, 8 + g, vi_or(qn_nibbles(qs[g], 1), vi_and(b, fifth)));
        }
        qn_end_blocks(to, pair * 2, 2);
    }
}

QN_INLINE void qn_decode_q6_k(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    const vi two_bits = vi_set_bytes(48);
    vi scales[4];
    qn_words(rows, QN_AT(q6_k, scales), scales);
    vf d = qn_half(rows, QN_AT(q6_k, d));
    QN_UNROLL for (int sub = 0; sub < 16; sub++)
        qn_put_scale(to, sub, vf_mul(d, qn_signed_byte(scales[sub / 4], sub % 4)));
    for (int half = 0; half < 2; half++) {
        vi qh[8];
        qn_words(rows, QN_AT(q6_k, qh) + half * 32, qh);
        qn_words(rows, QN_AT(q6_k, qh) + half * 32 + 16, qh + 4);
        QN_UNROLL for (int part = 0; part < 2; part++)
        { /* low nibbles: weights 32 part, high: 64 + 32 part */
            vi ql[8];
            qn_words(rows, QN_AT(q6_k, ql) + half * 64 + part * 32, ql);
            qn_words(rows, QN_AT(q6_k, ql) + half * 64 + part * 32 + 16, ql + 4);
            QN_UNROLL for (int g = 0; g < 8; g++)
            {
                vi low = part == 0 ? vi_sll(qh[g], 4) : vi_sll(qh[g], 2);
                vi high = part == 0 ? qh[g] : vi_srl(qh[g], 2);
                int group = part * 8 + g;
                qn_put(to, half * 8, group, vi_or(qn_nibbles(ql[g], 0), vi_and(low, two_bits)));
                qn_put(to, half * 8, group + 16, vi_or(qn_nibbles(ql[g], 1), vi_and(high, two_bits)));
            }
        }
        qn_end_blocks(to, half * 8, 8);
    }
}

/* Two bits of weight 32 t + l of each half are at bit 2 t of byte l. */
QN_INLINE vi qn_two_bits(vi a, int t)
{
    return vi_and(vi_srl(a, 2 * t), vi_set_bytes(3));
}

QN_INLINE void qn_decode_q2_k(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    vi scales[4], head = qn_word(rows, QN_AT(q2_k, d));
    vf d = vf_of_halves(head), dmin = vf_of_halves(vi_srl(head, 16));
    qn_words(rows, QN_AT(q2_k, scales), scales);
    QN_UNROLL for (int sub = 0; sub < 16; sub++)
    {
        vi scale = qn_nibbles(scales[sub / 4], 0), min = qn_nibbles(scales[sub / 4], 1);
        qn_put_scale(to, sub, vf_mul(d, vf_from_int(qn_byte(scale, sub % 4))));
        qn_put_min(to, sub, vf_mul(dmin, vf_from_int(qn_byte(min, sub % 4))));
    }
    for (int half = 0; half < 2; half++) {
        vi qs[8];
        qn_words(rows, QN_AT(q2_k, qs) + half * 32, qs);
        qn_words(rows, QN_AT(q2_k, qs) + half * 32 + 16, qs + 4);
        QN_UNROLL for (int t = 0; t < 4; t++)
        {
            QN_UNROLL for (int g = 0; g < 8; g++) qn_put(to, half * 8 + t * 2, g, qn_two_bits(qs[g], t));
            qn_end_blocks(to, half * 8 + t * 2, 2);
        }
    }
}

/* 16 scales of 6 bits, less 32: nibbles in the first 8 bytes, the high bits in the last 4. */
QN_INLINE void qn_decode_q3_k_scales(struct qn_q8_rows rows, struct qn_q8_sink *to)
{
    const vi high2 = vi_set_bytes(48);
    vi a = qn_word(rows, QN_AT(q3_k, scales)), b = qn_word(rows, QN_AT(q3_k, scales) + 4);
    vi c = qn_word(rows, QN_AT(q3_k, scales) + 8);
    vf d = qn_half(rows, QN_AT(q3_k, d));
    vi scale[4] = {vi_or(qn_nibbles(a, 0), vi_and(vi_sll(c, 4), high2)),
                   vi_or(qn_nibbles(b, 0), vi_and(vi_sll(c, 2), high2)),
                   vi_or(qn_nibbles(a, 1), vi_and(c, high2)),
                   vi_or(qn_nibbles(b, 1), vi_and(vi_srl(c, 2), high2))};
    QN_UNROLL for (int sub = 0; sub < 16; sub++)
    {
        vi s = vi_sub(qn_byte(scale[sub / 4], sub % 4), vi_set(32));
        qn_put_scale(to, sub, vf_mul(d, vf_from_int(s)));
    }
}

/* `half` is a constant. */
QN_INLINE void qn_decode_q3_k_half(struct qn_q8_rows rows, const vi mask[8], int half, struct qn_q8_sink *to)
{
    const vi third = vi_set_bytes(4);
    vi qs[8];
    qn_words(rows, QN_AT(q3_k, qs) + half * 32, qs);
    qn_words(rows, QN_AT(q3_k, qs) + half * 32 + 16, qs + 4);
    QN_UNROLL for (int t = 0; t < 4; t++)
    {
        const int bit = half * 4 + t; /* of the mask; goes to bit 2 */
        QN_UNROLL for (int g = 0; g < 8; g++)
        {
            vi high = bit <= 2 ? vi_sll(mask[g], 2 - (bit <= 2 ? bit : 2))
                               : vi_srl(mask[g], bit <= 2 ? 0 : bit - 2);
            qn_put(to, bit * 2, g, vi_or(qn_two_bits(qs[g], t), vi_and(high, third)));
        }
        qn_end_blocks(to, bit * 2, 2);
    }
}

QN_INLINE void qn_decode_q3_k(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    vi mask[8];
    qn_decode_q3_k_scales(rows, to);
    qn_words(rows, QN_AT(q3_k, hmask), mask);
    qn_words(rows, QN_AT(q3_k, hmask) + 16, mask + 4);
    qn_decode_q3_k_half(rows, mask, 0, to);
    qn_decode_q3_k_half(rows, mask, 1, to);
}

QN_INLINE void qn_decode_iq4_xs(struct qn_q8_rows rows, size_t n_blocks, struct qn_q8_sink *to)
{
    const vi values = vi_table(qn_iq4nl_values);
    vi head = qn_word(rows, 0), low = qn_word(rows, QN_AT(iq4_xs, scales_l));
    vf d = vf_of_halves(head);
    vi high = vi_srl(head, 16);
    QN_UNROLL for (int sub = 0; sub < 8; sub++)
    {
        vi s = vi_or(vi_and(vi_srl(low, 4 * sub), vi_set(15)),
                     vi_sll(vi_and(vi_srl(high, 2 * sub), vi_set(3)), 4));
        qn_put_scale(to, sub, vf_mul(d, vf_from_int(vi_sub(s, vi_set(32)))));
    }
    for (int sub = 0; sub < 8; sub++) {
        vi qs[4];
        qn_words(rows, QN_AT(iq4_xs, qs) + sub * 16, qs);
        QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(to, sub, g, vi_signed_bytes(vi_look_up(values, qn_nibbles(qs[g % 4], g / 4))));
        qn_end_blocks(to, sub, 1);
    }
}

#undef QN_AT

#endif
