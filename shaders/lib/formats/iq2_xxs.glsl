/* d; for each 32 weights 4 grid indices of a byte, then a word: 4 sign indices of 7 bits, 4 bits of scale on top. */
#define BLOCK_LEN   256
#define BLOCK_BYTES 66
#include "../grids.glsl"
#include "iq_signs.glsl"

vec4 decode4(uint at, uint i)
{
    uint qs = at + 2u + i / 32u * 8u, l = i % 32u / 8u;
    uint word = weight_u32(qs + 4u);
    float scale = iq2_scale(weight_half(at), word >> 28);
    uint point = grid_word(2u * weight_u8(qs + l) + i % 8u / 4u);
    return iq_signed(scale, point, iq_signs(word >> 7u * l & 127u) >> i % 8u);
}
