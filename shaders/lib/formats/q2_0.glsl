/* d, 16 bytes with two bits a weight, lowest first. (q - 1) * d */
#define BLOCK_LEN   64
#define BLOCK_BYTES 18

vec4 decode4(uint at, uint i)
{
    uint q = weight_u8(at + 2u + i / 4u);
    precise vec4 v = vec4(ivec4(uvec4(q, q >> 2, q >> 4, q >> 6) & 3u) - 1) * weight_half(at);
    return v;
}
