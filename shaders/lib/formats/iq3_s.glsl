/* d; a byte of grid index for each 4 weights; the ninth bits; a bit of sign a weight; a nibble of scale for each 32
 * weights. d * (1 + 2 s) * point */
#define BLOCK_LEN   256
#define BLOCK_BYTES 110
#include "../grids.glsl"
#include "iq_signs.glsl"

vec4 decode4(uint at, uint i)
{
    uint p = i / 4u, sub = i / 32u;
    uint ninth = weight_u8(at + 66u + sub) >> p % 8u & 1u;
    uint s = weight_u8(at + 106u + sub / 2u) >> sub % 2u * 4u & 15u;
    precise float scale = weight_half(at) * float(1u + 2u * s);
    uint point = grid_word(weight_u8(at + 2u + p) | ninth << 8);
    return iq_signed(scale, point, weight_u8(at + 74u + i / 8u) >> i % 8u);
}
