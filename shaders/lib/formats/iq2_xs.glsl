/* d; for each 8 weights 9 bits of grid index and 7 bits of sign index; a nibble of scale for each 16 weights. */
#define BLOCK_LEN   256
#define BLOCK_BYTES 74
#include "../grids.glsl"
#include "iq_signs.glsl"

vec4 decode4(uint at, uint i)
{
    uint q = weight_u16(at + 2u + i / 8u * 2u);
    uint s = weight_u8(at + 66u + i / 32u) >> i % 32u / 16u * 4u & 15u;
    uint point = grid_word(2u * (q & 511u) + i % 8u / 4u);
    return iq_signed(iq2_scale(weight_half(at), s), point, iq_signs(q >> 9) >> i % 8u);
}
