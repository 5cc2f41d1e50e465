/* d; for each 32 weights 6 bits of scale, offset by 32: 16 bits hold the high two of each, 4 bytes the low nibbles; 16
 * bytes as in IQ4_NL for each 32. d * scale * value */
#define BLOCK_LEN   256
#define BLOCK_BYTES 136
#define SUB_LEN     32
#include "../grids.glsl"
#include "iq4.glsl"

uint quants4(uint at, uint i)
{
    return iq4_values(weight_word(at + 8u + i / 32u * 16u + i % 16u) >> i % 32u / 16u * 4u);
}

vec2 scales(uint at, uint i)
{
    uint sub = i / 32u, head = weight_word(at);
    uint low = weight_word(at + 4u) >> 4u * sub & 15u, high = head >> 16u >> 2u * sub & 3u;
    precise float scale = half_to_float(head & 0xffffu) * float(int(low | high << 4) - 32);
    return vec2(scale, 0.0);
}
