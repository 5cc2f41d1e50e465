/* As IQ1_S, with a nibble for each 8 weights (3 high bits of index, direction of the shift) and 3 bits of scale for
 * each 16. d lies in the top nibbles of the four 16-bit words that hold the scales. */
#define BLOCK_LEN   256
#define BLOCK_BYTES 56
#include "../grids.glsl"
#include "iq1.glsl"

vec4 decode4(uint at, uint i)
{
    uvec2 scales = uvec2(weight_word(at + 48u), weight_word(at + 52u));
    uvec2 tops = (scales >> 12 & 15u) | (scales >> 28) << 4;
    uint s = scales[i / 128u] >> i % 128u / 64u * 16u >> i % 64u / 16u * 3u & 7u;
    uint nibble = weight_u8(at + 32u + i / 16u) >> i % 16u / 8u * 4u & 15u;
    uint index = weight_u8(at + i / 8u) | (nibble & 7u) << 8;
    precise float scale = half_to_float(tops.x | tops.y << 8) * float(2u * s + 1u);
    return iq1_shifted(scale, index, i % 8u, (nibble & 8u) != 0u);
}
