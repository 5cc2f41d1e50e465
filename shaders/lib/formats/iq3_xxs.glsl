/* d; a byte of grid index for each 4 weights; a word for each 32 weights: 4 sign indices of 7 bits, 4 bits of scale on
 * top. d * (1/2 + s) / 2 * point */
#define BLOCK_LEN   256
#define BLOCK_BYTES 98
#include "../grids.glsl"
#include "iq_signs.glsl"

vec4 decode4(uint at, uint i)
{
    uint word = weight_u32(at + 66u + i / 32u * 4u);
    precise float scale = weight_half(at) * (0.5 + float(word >> 28)) * 0.5;
    uint point = grid_word(weight_u8(at + 2u + i / 4u));
    return iq_signed(scale, point, iq_signs(word >> i % 32u / 8u * 7u & 127u) >> i % 8u);
}
