/* Decoders of the quantised formats into tiles, see q8_tile.h. `rows` points at the first block of LANES
 * rows, `stride` bytes apart. Layouts of the blocks: formats/blocks.h and the exact decoders. */
#ifndef QN_CPU_X86_Q8_DECODE_H
#define QN_CPU_X86_Q8_DECODE_H

#include "drivers/cpu/x86/q8_tile.h"
#include "formats/blocks.h"
#include "formats/iq_tables.h"

#define QN_AT(type, member) (rows + offsetof(struct qn_block_##type, member))

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

QN_INLINE void qn_put(struct qn_q8_tile *tile, size_t group, int v, vi q)
{
    vi_store(tile->q[group][v], q);
}

/* ---------------------------------------------------------------- blocks of 32 */

QN_INLINE void qn_tile_q4_0(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                            int v)
{
    for (size_t b = 0; b < n_blocks; b++, rows += sizeof(struct qn_block_q4_0)) {
        vi qs[4];
        vf_store(tile->scale[b][v], vf_of_halves(vi_gather(rows, stride)));
        vi_piece(QN_AT(q4_0, qs), stride, qs);
        QN_UNROLL for (int g = 0; g < 8; g++) qn_put(tile, b * 8 + g, v, qn_nibbles(qs[g % 4], g / 4));
    }
}

QN_INLINE void qn_tile_q4_1(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                            int v)
{
    for (size_t b = 0; b < n_blocks; b++, rows += sizeof(struct qn_block_q4_1)) {
        vi qs[4], head = vi_gather(rows, stride);
        vf_store(tile->scale[b][v], vf_of_halves(head));
        vf_store(tile->min[b][v], vf_sub(vf_zero(), vf_of_halves(vi_srl(head, 16))));
        vi_piece(QN_AT(q4_1, qs), stride, qs);
        QN_UNROLL for (int g = 0; g < 8; g++) qn_put(tile, b * 8 + g, v, qn_nibbles(qs[g % 4], g / 4));
    }
}

/* Bits 4 g to 4 g + 3 of each lane as bit 4 of its four bytes. */
QN_INLINE vi qn_fifth_bits(vi bits, int g)
{
    vi four = vi_and(vi_srl(bits, 4 * g), vi_set(15));
    return vi_sll(vi_and(vi_mul(four, vi_set(0x00204081)), vi_set(0x01010101)), 4);
}

QN_INLINE void qn_tile_q5_0(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                            int v)
{
    for (size_t b = 0; b < n_blocks; b++, rows += sizeof(struct qn_block_q5_0)) {
        vi qs[4], qh = vi_gather(QN_AT(q5_0, qh), stride);
        vf_store(tile->scale[b][v], vf_of_halves(vi_gather(rows, stride)));
        vi_piece(QN_AT(q5_0, qs), stride, qs);
        QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(tile, b * 8 + g, v, vi_or(qn_nibbles(qs[g % 4], g / 4), qn_fifth_bits(qh, g)));
    }
}

QN_INLINE void qn_tile_q5_1(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                            int v)
{
    for (size_t b = 0; b < n_blocks; b++, rows += sizeof(struct qn_block_q5_1)) {
        vi qs[4], head = vi_gather(rows, stride), qh = vi_gather(QN_AT(q5_1, qh), stride);
        vf_store(tile->scale[b][v], vf_of_halves(head));
        vf_store(tile->min[b][v], vf_sub(vf_zero(), vf_of_halves(vi_srl(head, 16))));
        vi_piece(QN_AT(q5_1, qs), stride, qs);
        QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(tile, b * 8 + g, v, vi_or(qn_nibbles(qs[g % 4], g / 4), qn_fifth_bits(qh, g)));
    }
}

QN_INLINE void qn_tile_q8_0(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                            int v)
{
    for (size_t b = 0; b < n_blocks; b++, rows += sizeof(struct qn_block_q8_0)) {
        vi qs[8];
        vf_store(tile->scale[b][v], vf_of_halves(vi_gather(rows, stride)));
        vi_piece(QN_AT(q8_0, qs), stride, qs);
        vi_piece(QN_AT(q8_0, qs) + 16, stride, qs + 4);
        QN_UNROLL for (int g = 0; g < 8; g++) qn_put(tile, b * 8 + g, v, vi_signed_bytes(qs[g]));
    }
}

QN_INLINE void qn_tile_iq4_nl(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                              int v)
{
    const vi values = vi_table(qn_iq4nl_values);
    for (size_t b = 0; b < n_blocks; b++, rows += sizeof(struct qn_block_iq4_nl)) {
        vi qs[4];
        vf_store(tile->scale[b][v], vf_of_halves(vi_gather(rows, stride)));
        vi_piece(QN_AT(iq4_nl, qs), stride, qs);
        QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(tile, b * 8 + g, v, vi_signed_bytes(vi_look_up(values, qn_nibbles(qs[g % 4], g / 4))));
    }
}

/* Scales are 2^(e - 128), the values doubled; the two smallest scales are subnormal. */
QN_INLINE void qn_tile_mxfp4(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                             int v)
{
    const vi values = vi_table(qn_mxfp4_values);
    for (size_t b = 0; b < n_blocks; b++, rows += sizeof(struct qn_block_mxfp4)) {
        vi qs[4], e = qn_byte(vi_gather(rows, stride), 0);
        vi tiny = vi_srl(vi_set(0x00400000), 1); /* 2^-128; doubled for e = 1 */
        vi normal = vi_sll(vi_max(vi_sub(e, vi_set(1)), vi_zero()), 23);
        vi one = vi_and(e, vi_set(1));
        vi subnormal = vi_add(tiny, vi_mul(one, tiny));
        vi is_small = vi_sra(vi_sub(e, vi_set(2)), 31);
        vi bits = vi_or(vi_and(is_small, subnormal), vi_and(vi_xor(is_small, vi_set(-1)), normal));
        vf_store(tile->scale[b][v], vf_of_bits(bits));
        vi_piece(QN_AT(mxfp4, qs), stride, qs);
        QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(tile, b * 8 + g, v, vi_signed_bytes(vi_look_up(values, qn_nibbles(qs[g % 4], g / 4))));
    }
}

/* ---------------------------------------------------------------- blocks of 256 */

/* Scales and minima of Q4_K and Q5_K, from the first 16 bytes of a block: d, dmin and 12 bytes of packed
 * 6-bit numbers. */
QN_INLINE void qn_tile_k_scales(const uint8_t *rows, size_t stride, struct qn_q8_tile *tile, int v)
{
    const vi low6 = vi_set_bytes(63), low4 = vi_set_bytes(15), high2 = vi_set_bytes(48);
    vi head[4];
    vi_piece(rows, stride, head);
    vf d = vf_of_halves(head[0]), dmin = vf_of_halves(vi_srl(head[0], 16));
    vi scale[2] = {vi_and(head[1], low6), vi_or(vi_and(head[3], low4), vi_and(vi_srl(head[1], 2), high2))};
    vi min[2] = {vi_and(head[2], low6),
                 vi_or(vi_and(vi_srl(head[3], 4), low4), vi_and(vi_srl(head[2], 2), high2))};
    QN_UNROLL for (int sub = 0; sub < 8; sub++)
    {
        vf_store(tile->scale[sub][v], vf_mul(d, vf_from_int(qn_byte(scale[sub / 4], sub % 4))));
        vf_store(tile->min[sub][v], vf_mul(dmin, vf_from_int(qn_byte(min[sub / 4], sub % 4))));
    }
}

QN_INLINE void qn_tile_q4_k(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                            int v)
{
    qn_tile_k_scales(rows, stride, tile, v);
    for (int pair = 0; pair < 4; pair++) {
        vi qs[8];
        vi_piece(QN_AT(q4_k, qs) + pair * 32, stride, qs);
        vi_piece(QN_AT(q4_k, qs) + pair * 32 + 16, stride, qs + 4);
        QN_UNROLL for (int g = 0; g < 8; g++)
        {
            qn_put(tile, pair * 16 + g, v, qn_nibbles(qs[g], 0));
            qn_put(tile, pair * 16 + 8 + g, v, qn_nibbles(qs[g], 1));
        }
    }
}

QN_INLINE void qn_tile_q5_k(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                            int v)
{
    const vi fifth = vi_set_bytes(16);
    vi qh[8];
    qn_tile_k_scales(rows, stride, tile, v);
    vi_piece(QN_AT(q5_k, qh), stride, qh);
    vi_piece(QN_AT(q5_k, qh) + 16, stride, qh + 4);
    QN_UNROLL for (int pair = 0; pair < 4; pair++)
    {
        vi qs[8];
        vi_piece(QN_AT(q5_k, qs) + pair * 32, stride, qs);
        vi_piece(QN_AT(q5_k, qs) + pair * 32 + 16, stride, qs + 4);
        QN_UNROLL for (int g = 0; g < 8; g++)
        {
            /* bits 2 * pair and 2 * pair + 1 of qh go to bit 4 */
            vi a = pair <= 2 ? vi_sll(qh[g], 4 - 2 * pair) : vi_srl(qh[g], 2);
            vi b = pair <= 1 ? vi_sll(qh[g], 3 - 2 * pair) : vi_srl(qh[g], 2 * pair - 3);
            qn_put(tile, pair * 16 + g, v, vi_or(qn_nibbles(qs[g], 0), vi_and(a, fifth)));
            qn_put(tile, pair * 16 + 8 + g, v, vi_or(qn_nibbles(qs[g], 1), vi_and(b, fifth)));
        }
    }
}

QN_INLINE void qn_tile_q6_k(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                            int v)
{
    const vi two_bits = vi_set_bytes(48);
    vi scales[4];
    vi_piece(QN_AT(q6_k, scales), stride, scales);
    vf d = vf_of_halves(vi_srl(vi_gather(QN_AT(q6_k, d) - 2, stride), 16));
    QN_UNROLL for (int sub = 0; sub < 16; sub++)
        vf_store(tile->scale[sub][v], vf_mul(d, qn_signed_byte(scales[sub / 4], sub % 4)));
    for (int half = 0; half < 2; half++) {
        vi qh[8];
        vi_piece(QN_AT(q6_k, qh) + half * 32, stride, qh);
        vi_piece(QN_AT(q6_k, qh) + half * 32 + 16, stride, qh + 4);
        QN_UNROLL for (int part = 0; part < 2; part++)
        { /* low nibbles: weights 32 part, high: 64 + 32 part */
            vi ql[8];
            vi_piece(QN_AT(q6_k, ql) + half * 64 + part * 32, stride, ql);
            vi_piece(QN_AT(q6_k, ql) + half * 64 + part * 32 + 16, stride, ql + 4);
            QN_UNROLL for (int g = 0; g < 8; g++)
            {
                vi low = part == 0 ? vi_sll(qh[g], 4) : vi_sll(qh[g], 2);
                vi high = part == 0 ? qh[g] : vi_srl(qh[g], 2);
                size_t group = (size_t)half * 32 + part * 8 + g;
                qn_put(tile, group, v, vi_or(qn_nibbles(ql[g], 0), vi_and(low, two_bits)));
                qn_put(tile, group + 16, v, vi_or(qn_nibbles(ql[g], 1), vi_and(high, two_bits)));
            }
        }
    }
}

/* Two bits of weight 32 t + l of each half are at bit 2 t of byte l. */
QN_INLINE vi qn_two_bits(vi a, int t)
{
    return vi_and(vi_srl(a, 2 * t), vi_set_bytes(3));
}

QN_INLINE void qn_tile_q2_k(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                            int v)
{
    vi scales[4], head = vi_gather(QN_AT(q2_k, d), stride);
    vf d = vf_of_halves(head), dmin = vf_of_halves(vi_srl(head, 16));
    vi_piece(QN_AT(q2_k, scales), stride, scales);
    QN_UNROLL for (int sub = 0; sub < 16; sub++)
    {
        vi scale = qn_nibbles(scales[sub / 4], 0), min = qn_nibbles(scales[sub / 4], 1);
        vf_store(tile->scale[sub][v], vf_mul(d, vf_from_int(qn_byte(scale, sub % 4))));
        vf_store(tile->min[sub][v], vf_mul(dmin, vf_from_int(qn_byte(min, sub % 4))));
    }
    for (int half = 0; half < 2; half++) {
        vi qs[8];
        vi_piece(QN_AT(q2_k, qs) + half * 32, stride, qs);
        vi_piece(QN_AT(q2_k, qs) + half * 32 + 16, stride, qs + 4);
        QN_UNROLL for (int t = 0; t < 4; t++) QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(tile, (size_t)half * 32 + t * 8 + g, v, qn_two_bits(qs[g], t));
    }
}

/* 16 scales of 6 bits, less 32: nibbles in the first 8 bytes, the high bits in the last 4. */
QN_INLINE void qn_tile_q3_k_scales(const uint8_t *rows, size_t stride, struct qn_q8_tile *tile, int v)
{
    const vi high2 = vi_set_bytes(48);
    vi a = vi_gather(QN_AT(q3_k, scales), stride), b = vi_gather(QN_AT(q3_k, scales) + 4, stride);
    vi c = vi_gather(QN_AT(q3_k, scales) + 8, stride);
    vf d = vf_of_halves(vi_srl(vi_gather(QN_AT(q3_k, d) - 2, stride), 16));
    vi scale[4] = {vi_or(qn_nibbles(a, 0), vi_and(vi_sll(c, 4), high2)),
                   vi_or(qn_nibbles(b, 0), vi_and(vi_sll(c, 2), high2)),
                   vi_or(qn_nibbles(a, 1), vi_and(c, high2)),
                   vi_or(qn_nibbles(b, 1), vi_and(vi_srl(c, 2), high2))};
    QN_UNROLL for (int sub = 0; sub < 16; sub++)
    {
        vi s = vi_sub(qn_byte(scale[sub / 4], sub % 4), vi_set(32));
        vf_store(tile->scale[sub][v], vf_mul(d, vf_from_int(s)));
    }
}

QN_INLINE void qn_tile_q3_k(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                            int v)
{
    const vi third = vi_set_bytes(4);
    vi mask[8];
    qn_tile_q3_k_scales(rows, stride, tile, v);
    vi_piece(QN_AT(q3_k, hmask), stride, mask);
    vi_piece(QN_AT(q3_k, hmask) + 16, stride, mask + 4);
    QN_UNROLL for (int half = 0; half < 2; half++)
    {
        vi qs[8];
        vi_piece(QN_AT(q3_k, qs) + half * 32, stride, qs);
        vi_piece(QN_AT(q3_k, qs) + half * 32 + 16, stride, qs + 4);
        QN_UNROLL for (int t = 0; t < 4; t++)
        {
            const int bit = half * 4 + t; /* of the mask; goes to bit 2 */
            QN_UNROLL for (int g = 0; g < 8; g++)
            {
                vi high = bit <= 2 ? vi_sll(mask[g], 2 - (bit <= 2 ? bit : 2))
                                   : vi_srl(mask[g], bit <= 2 ? 0 : bit - 2);
                qn_put(tile, (size_t)bit * 8 + g, v, vi_or(qn_two_bits(qs[g], t), vi_and(high, third)));
            }
        }
    }
}

QN_INLINE void qn_tile_iq4_xs(const uint8_t *rows, size_t stride, size_t n_blocks, struct qn_q8_tile *tile,
                              int v)
{
    const vi values = vi_table(qn_iq4nl_values);
    vi head = vi_gather(rows, stride), low = vi_gather(QN_AT(iq4_xs, scales_l), stride);
    vf d = vf_of_halves(head);
    vi high = vi_srl(head, 16);
    QN_UNROLL for (int sub = 0; sub < 8; sub++)
    {
        vi s = vi_or(vi_and(vi_srl(low, 4 * sub), vi_set(15)),
                     vi_sll(vi_and(vi_srl(high, 2 * sub), vi_set(3)), 4));
        vf_store(tile->scale[sub][v], vf_mul(d, vf_from_int(vi_sub(s, vi_set(32)))));
    }
    for (size_t sub = 0; sub < 8; sub++) {
        vi qs[4];
        vi_piece(QN_AT(iq4_xs, qs) + sub * 16, stride, qs);
        QN_UNROLL for (int g = 0; g < 8; g++)
            qn_put(tile, sub * 8 + g, v, vi_signed_bytes(vi_look_up(values, qn_nibbles(qs[g % 4], g / 4))));
    }
}

#undef QN_AT

#endif
