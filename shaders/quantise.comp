/* Activations to 8 bits (lib/rounded.glsl). One invocation a block. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING    0
#define ROUNDED_BINDING 2
#define WORKGROUP       64
layout(local_size_x = WORKGROUP) in;
#include "lib/step.glsl"
#include "lib/rounded.glsl"

layout(set = 0, binding = 1) readonly buffer X { float x[]; }; // [k, per_token, T]

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
    float v[32];
    [[unroll]] for (uint i = 0; i < 32; i++)
        v[i] = x[from + i];
    store_block(v, column, block, k);
}
