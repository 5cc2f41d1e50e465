/* d, 16 bytes of nibbles as in Q4_0. d * value */
#define BLOCK_LEN   32
#define BLOCK_BYTES 18
#define SUB_LEN     32
#include "../grids.glsl"
#include "iq4.glsl"

uint quants4(uint at, uint i)
{
    return iq4_values(weight_u32(at + 2u + i % 16u) >> i / 16u * 4u);
}

vec2 scales(uint at, uint i)
{
    return vec2(weight_half(at), 0.0);
}
