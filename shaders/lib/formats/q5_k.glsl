/* As Q4_K, with 32 bytes before the nibbles: the fifth bit of weight 32 * sub + l is bit `sub` of byte l. */
#define BLOCK_LEN   256
#define BLOCK_BYTES 176
#define SUB_LEN     32
#include "k_scales.glsl"

uint quants4(uint at, uint i)
{
    uint sub = i / 32u, fifth = weight_word(at + 16u + i % 32u) >> sub & 0x01010101u;
    return weight_word(at + 48u + sub / 2u * 32u + i % 32u) >> sub % 2u * 4u & 0x0f0f0f0fu | fifth << 4;
}

vec2 scales(uint at, uint i)
{
    return k_scales(at, i / 32u);
}
