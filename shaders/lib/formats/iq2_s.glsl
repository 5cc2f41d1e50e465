/* d; a byte of grid index for each 8 weights; a byte of signs for each 8; the high two bits of the indices; a nibble of
 * scale for each 16 weights. */
#define BLOCK_LEN   256
#define BLOCK_BYTES 82
#include "../grids.glsl"
#include "iq_signs.glsl"

vec4 decode4(uint at, uint i)
{
    uint p = i / 8u;
    uint high = weight_u8(at + 66u + p / 4u) >> p % 4u * 2u & 3u;
    uint s = weight_u8(at + 74u + p / 4u) >> p / 2u % 2u * 4u & 15u;
    uint point = grid_word(2u * (weight_u8(at + 2u + p) | high << 8) + i % 8u / 4u);
    return iq_signed(iq2_scale(weight_half(at), s), point, weight_u8(at + 34u + p) >> i % 8u);
}
