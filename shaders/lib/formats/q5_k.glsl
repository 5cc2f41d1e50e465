/* As Q4_K, with 32 bytes before the nibbles: the fifth bit of weight 32 * sub + l is bit `sub` of byte l. */
#define BLOCK_LEN   256
#define BLOCK_BYTES 176
#include "k_scales.glsl"

vec4 decode4(uint at, uint i)
{
    uint sub = i / 32u;
    vec2 scales = k_scales(at, sub);
    uint fifth = weight_word(at + 16u + i % 32u) >> sub & 0x01010101u;
    uint q = weight_word(at + 48u + sub / 2u * 32u + i % 32u) >> sub % 2u * 4u & 0x0f0f0f0fu;
    precise vec4 v = scales.x * vec4(bytes4(q | fifth << 4)) - scales.y;
    return v;
}
