/* Activations to 8 bits, for products by integer dot products: each block of 32 becomes d * q with d = max |x| / 127. A
 * column is k / 4 words of four q each, then four floats a block: d, d times the sums of q 0 to 15 and 16 to 31, and
 * nothing. One invocation a block. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#define WORKGROUP    64
layout(local_size_x = WORKGROUP) in;
#include "lib/step.glsl"

layout(set = 0, binding = 1) readonly buffer X { float x[]; };       // [k, per_token, T]
layout(set = 0, binding = 2) writeonly buffer Y { uint y[]; };       // [3 k / 8, per_token, T]

layout(push_constant) uniform Push {
    uint k, per_token;
    uint per_output;
};

void main()
{
    uint column = gl_WorkGroupID.y, block = gl_GlobalInvocationID.x;
    if (column >= step_rows(per_output != 0) * per_token || block >= k / 32)
        return;
    uint from = column * k + block * 32;
    float most = 0.0;
    vec4 v[8];
    [[unroll]] for (uint i = 0; i < 8; i++) {
        v[i] = vec4(x[from + 4 * i], x[from + 4 * i + 1], x[from + 4 * i + 2], x[from + 4 * i + 3]);
        vec4 size = abs(v[i]);
        most = max(most, max(max(size.x, size.y), max(size.z, size.w)));
    }
    float d = most / 127.0, scale = most > 0.0 ? 127.0 / most : 0.0;
    uint to = column * (k / 8 * 3);
    ivec2 sum = ivec2(0);
    [[unroll]] for (uint i = 0; i < 8; i++) {
        ivec4 q = ivec4(floor(v[i] * scale + 0.5));
        sum[i / 4] += q.x + q.y + q.z + q.w;
        uvec4 low = uvec4(q) & 255u;
        y[to + block * 8 + i] = low.x | low.y << 8 | low.z << 16 | low.w << 24;
    }
    to += k / 4 + block * 4;
    y[to] = floatBitsToUint(d);
    y[to + 1] = floatBitsToUint(d * float(sum.x));
    y[to + 2] = floatBitsToUint(d * float(sum.y));
}
