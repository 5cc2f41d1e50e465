/* d, a word with the fifth bit of each weight, 16 bytes as in Q4_0. (q - 16) * d */
#define BLOCK_LEN   32
#define BLOCK_BYTES 22

vec4 decode4(uint at, uint i)
{
    uvec4 fifth = bits4(weight_u32(at + 2u) >> i) << 4;
    uint q = weight_u32(at + 6u + i % 16u) >> i / 16u * 4u & 0x0f0f0f0fu;
    precise vec4 v = vec4(ivec4(bytes4(q) | fifth) - 16) * weight_half(at);
    return v;
}
