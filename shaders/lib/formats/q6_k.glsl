/* 128 bytes of low nibbles: each 64 hold 128 weights, low nibbles first; 64 bytes of high bits: each 32 hold 128
 * weights, weight 32 * t + l at bits 2 * t of byte l; a signed byte of scale for each 16 weights; d.
 * d * scale * (q - 32) */
#define BLOCK_LEN   256
#define BLOCK_BYTES 210
#define SUB_LEN     16

uint quants4(uint at, uint i)
{
    uint low = weight_u32(at + i / 128u * 64u + i % 64u) >> i % 128u / 64u * 4u & 0x0f0f0f0fu;
    uint high = weight_u32(at + 128u + i / 128u * 32u + i % 32u) >> i % 128u / 32u * 2u & 0x03030303u;
    return minus4(low | high << 4, 0x20202020u);
}

vec2 scales(uint at, uint i)
{
    precise float scale = weight_half(at + 208u) * float(bitfieldExtract(int(weight_u8(at + 192u + i / 16u)), 0, 8));
    return vec2(scale, 0.0);
}
