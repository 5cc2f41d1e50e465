/* Activations to half floats (lib/rounded.glsl). One workgroup a column. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING    0
#define ROUNDED_BINDING 2
#define WORKGROUP       64
layout(local_size_x = WORKGROUP) in;
#include "lib/step.glsl"
#include "lib/reduce.glsl"
#include "lib/rounded.glsl"

layout(set = 0, binding = 1) readonly buffer X { float x[]; }; // [k, per_token, T]

layout(push_constant) uniform Push {
    uint k, per_token;
    uint per_output;
};

void main()
{
    uint column = gl_WorkGroupID.x + gl_NumWorkGroups.x * gl_WorkGroupID.z, lane = gl_LocalInvocationIndex;
    if (column >= step_rows(per_output != 0) * per_token)
        return;
    uint from = column * k;
    float most = 0.0;
    for (uint i = lane; i < k; i += WORKGROUP)
        most = max(most, abs(x[from + i]));
    float factor = half_factor(reduce_max(most));
    for (uint i = lane; i < half_words(k); i += WORKGROUP) {
        uint at = 2 * i;
        store_halves(vec2(at < k ? x[from + at] : 0.0, at + 1 < k ? x[from + at + 1] : 0.0), factor, column, i, k);
    }
    if (lane == 0)
        store_factor(factor, column, k);
}
