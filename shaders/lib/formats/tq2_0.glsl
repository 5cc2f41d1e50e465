/* 64 bytes, of which each 32 hold 128 weights: weight 32 * t + m at bits 2 * t of byte m; d. (q - 1) * d */
#define BLOCK_LEN   256
#define BLOCK_BYTES 66

vec4 decode4(uint at, uint i)
{
    uint q = weight_u32(at + i / 128u * 32u + i % 32u) >> i % 128u / 32u * 2u & 0x03030303u;
    precise vec4 v = vec4(ivec4(bytes4(q)) - 1) * weight_half(at + 64u);
    return v;
}
