/* d; a byte of grid index for each 8 weights; 16 bits for each 32: four times 3 high bits of index, 3 bits of scale,
 * direction of the shift. d * (2 s + 1) * (point + shift) */
#define BLOCK_LEN   256
#define BLOCK_BYTES 50
#include "../grids.glsl"
#include "iq1.glsl"

vec4 decode4(uint at, uint i)
{
    uint qh = weight_u16(at + 34u + i / 32u * 2u);
    uint index = weight_u8(at + 2u + i / 8u) | (qh >> i % 32u / 8u * 3u & 7u) << 8;
    precise float scale = weight_half(at) * float(2u * (qh >> 12 & 7u) + 1u);
    return iq1_shifted(scale, index, i % 8u, (qh & 0x8000u) != 0u);
}
