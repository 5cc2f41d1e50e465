/* d, m, a word with the fifth bit of each weight, 16 bytes as in Q4_0. q * d + m */
#define BLOCK_LEN   32
#define BLOCK_BYTES 24

vec4 decode4(uint at, uint i)
{
    uvec4 fifth = bits4(weight_word(at + 4u) >> i) << 4;
    uint q = weight_word(at + 8u + i % 16u) >> i / 16u * 4u & 0x0f0f0f0fu;
    vec2 d_m = weight_half2(at);
    precise vec4 v = vec4(bytes4(q) | fifth) * d_m.x + d_m.y;
    return v;
}
