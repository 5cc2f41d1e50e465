/* Decodes blocks of the format chosen by -DFORMAT_<NAME>; an invocation decodes four weights. */
#version 450
#extension GL_GOOGLE_include_directive : require
layout(local_size_x = 64) in;

layout(set = 0, binding = 0) readonly buffer Weights { uint weights[]; };
layout(set = 0, binding = 1) writeonly buffer Out { uint bits[]; }; // [n]
layout(set = 0, binding = 2) readonly buffer Grids { uint grids[]; };
#define WEIGHT_WORD(i) weights[i]
#define GRID_WORD(i)   grids[i]
#include "lib/format.glsl"

layout(push_constant) uniform Push {
    uint n;       /* weights, a multiple of 4 */
    uint at;      /* byte at which they begin */
    uint by_four; /* 1: through decode4, 0: through decode */
};

void main()
{
    uint i = 4 * gl_GlobalInvocationID.x;
    if (i >= n)
        return;
    vec4 v;
    if (by_four != 0)
        v = decode4(at + i / BLOCK_LEN * BLOCK_BYTES, i % BLOCK_LEN);
    else
        for (uint k = 0; k < 4; k++)
            v[k] = decode(at + (i + k) / BLOCK_LEN * BLOCK_BYTES, (i + k) % BLOCK_LEN);
    for (uint k = 0; k < 4; k++)
        bits[i + k] = floatBitsToUint(v[k]);
}
