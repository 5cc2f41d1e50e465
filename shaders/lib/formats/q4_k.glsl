/* d, dmin, 12 bytes of scales and minima for each 32 weights; 128 bytes, of which each 32 hold 64 weights: low nibbles,
 * then high nibbles. d * scale * q - dmin * minimum */
#define BLOCK_LEN   256
#define BLOCK_BYTES 144
#define SUB_LEN     32
#include "k_scales.glsl"

uint quants4(uint at, uint i)
{
    uint sub = i / 32u;
    return weight_word(at + 16u + sub / 2u * 32u + i % 32u) >> sub % 2u * 4u & 0x0f0f0f0fu;
}

vec2 scales(uint at, uint i)
{
    return k_scales(at, i / 32u);
}
