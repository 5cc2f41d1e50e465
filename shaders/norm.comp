/* NORM: y = (x - mean) / sqrt(variance + eps) * weight + bias, or without the mean (RMS). One workgroup a group of one
 * row. With an addend, x + addend is what is normalised, and kept. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
#define WORKGROUP    64
layout(local_size_x = WORKGROUP) in;
#include "lib/step.glsl"
#include "lib/reduce.glsl"

layout(set = 0, binding = 1) readonly buffer X { float x[]; };           // [d, T]
layout(set = 0, binding = 2) readonly buffer Weight { float weight[]; }; // [group]
layout(set = 0, binding = 3) readonly buffer Bias { float bias[]; };     // [group]
layout(set = 0, binding = 4) readonly buffer Addend { float addend[]; }; // [d, T]
layout(set = 0, binding = 5) buffer Y { float y[]; };                    // [d, T]
layout(set = 0, binding = 6) buffer Sum { float sum[]; };                // [d, T]

layout(push_constant) uniform Push {
    uint d, group;
    uint weight_at, bias_at; /* first element; NONE: there is none */
    uint has_addend, layer_norm, per_output;
    float eps;
};
const uint NONE = 0xffffffff;

float value(uint i)
{
    return has_addend != 0 ? x[i] + addend[i] : x[i];
}

void main()
{
    uint row = gl_WorkGroupID.y, lane = gl_LocalInvocationIndex;
    uint at = (gl_WorkGroupID.x + gl_NumWorkGroups.x * gl_WorkGroupID.z) * group; /* of the row */
    if (row >= step_rows(per_output != 0) || at >= d)
        return;
    uint first = row * d + at;
    float mean = 0.0, square = 0.0;
    if (layer_norm != 0) {
        for (uint i = lane; i < group; i += WORKGROUP)
            mean += value(first + i);
        mean = reduce_add(mean) / float(group);
    }
    for (uint i = lane; i < group; i += WORKGROUP) {
        float v = value(first + i) - mean;
        square = fma(v, v, square); /* as kv_store.comp does */
    }
    float scale = 1.0 / sqrt(reduce_add(square) / float(group) + eps);
    for (uint i = lane; i < group; i += WORKGROUP) {
        float v = value(first + i);
        if (has_addend != 0)
            sum[first + i] = v;
        v = (v - mean) * scale;
        if (weight_at != NONE)
            v *= weight[weight_at + i];
        if (bias_at != NONE)
            v += bias[bias_at + i];
        y[first + i] = v;
    }
}
