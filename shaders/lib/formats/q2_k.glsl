/* 16 bytes with a scale (low nibble) and a minimum for each 16 weights; 64 bytes, of which each 32 hold 128 weights:
 * weight 32 * t + l at bits 2 * t of byte l; d, dmin. d * scale * q - dmin * minimum */
#define BLOCK_LEN   256
#define BLOCK_BYTES 84
#define SUB_LEN     16

uint quants4(uint at, uint i)
{
    return weight_word(at + 16u + i / 128u * 32u + i % 32u) >> i % 128u / 32u * 2u & 0x03030303u;
}

vec2 scales(uint at, uint i)
{
    uint packed = weight_u8(at + i / 16u);
    precise vec2 v = weight_half2(at + 80u) * vec2(packed & 15u, packed >> 4);
    return v;
}
