/* 32 bytes with the third bits (weight 32 * t + l: bit t of byte l); 64 bytes as in Q2_K; 16 scales of 6 bits in 12
 * bytes, offset by 32; d. d * scale * (q - 4) */
#define BLOCK_LEN   256
#define BLOCK_BYTES 110
#define SUB_LEN     16

/* 8 bytes hold the low nibbles of scales j and j + 8, then 4 the high bits of scales j, j + 4, j + 8 and j + 12. */
int q3_k_scale(uint packed_at, uint sub)
{
    uint low = weight_u8(packed_at + sub % 8u) >> sub / 8u * 4u & 15u;
    uint high = weight_u8(packed_at + 8u + sub % 4u) >> sub / 4u * 2u & 3u;
    return int(low | high << 4) - 32;
}

uint quants4(uint at, uint i)
{
    uint third = weight_u32(at + i % 32u) >> i / 32u & 0x01010101u;
    uint q = weight_u32(at + 32u + i / 128u * 32u + i % 32u) >> i % 128u / 32u * 2u & 0x03030303u;
    return minus4(q | third << 2, 0x04040404u);
}

vec2 scales(uint at, uint i)
{
    precise float scale = weight_half(at + 108u) * float(q3_k_scale(at + 96u, i / 16u));
    return vec2(scale, 0.0);
}
