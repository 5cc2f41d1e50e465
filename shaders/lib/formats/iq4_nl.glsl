/* d, 16 bytes of nibbles as in Q4_0. d * value */
#define BLOCK_LEN   32
#define BLOCK_BYTES 18
#include "../grids.glsl"
#include "iq4.glsl"

vec4 decode4(uint at, uint i)
{
    precise vec4 v = weight_half(at) * iq4_values(weight_u32(at + 2u + i % 16u) >> i / 16u * 4u);
    return v;
}
