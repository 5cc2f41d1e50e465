/* NORM: y = (x - mean) / sqrt(variance + eps) * weight + bias, or without the mean (RMS). One workgroup a group of one
 * row. With an addend, x + addend is what is normalised, and kept. With AT_ONCE 32, y is stored in 8 bits as well, or
 * only so: what quantise.comp would make of it. With AT_ONCE 2 the same in half floats, as of halve.comp; the group is
 * then the row. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING    0
#define ROUNDED_BINDING 7
#define WORKGROUP       64
layout(constant_id = 0) const uint AT_ONCE = 1; /* elements of an invocation */
layout(local_size_x = WORKGROUP) in;
#include "lib/step.glsl"
#include "lib/reduce.glsl"
#include "lib/rounded.glsl"

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
    uint in_floats; /* whether y is to be stored */
    float eps;
};
const uint NONE = 0xffffffff;

float value(uint i)
{
    return has_addend != 0 ? x[i] + addend[i] : x[i];
}

/* Elements i to i + AT_ONCE - 1, which come first. */
float[32] values(uint i)
{
    float v[32];
    [[unroll]] for (uint e = 0; e < AT_ONCE; e++)
        v[e] = x[i + e];
    if (has_addend != 0)
        [[unroll]] for (uint e = 0; e < AT_ONCE; e++)
            v[e] += addend[i + e];
    return v;
}

/* Those from element i of the group on. */
void normalise(inout float v[32], uint i, float mean, float scale)
{
    [[unroll]] for (uint e = 0; e < AT_ONCE; e++)
        v[e] = (v[e] - mean) * scale;
    if (weight_at != NONE)
        [[unroll]] for (uint e = 0; e < AT_ONCE; e++)
            v[e] *= weight[weight_at + i + e];
    if (bias_at != NONE)
        [[unroll]] for (uint e = 0; e < AT_ONCE; e++)
            v[e] += bias[bias_at + i + e];
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
    float factor = 1.0;
    if (AT_ONCE == 2) {
        float most = 0.0;
        for (uint i = 2 * lane; i < group; i += 2 * WORKGROUP) {
            float v[32] = values(first + i);
            normalise(v, i, mean, scale);
            most = max(most, max(abs(v[0]), abs(v[1])));
        }
        factor = half_factor(reduce_max(most));
    }
    for (uint i = AT_ONCE * lane; i < group; i += AT_ONCE * WORKGROUP) {
        float v[32] = values(first + i);
        if (has_addend != 0)
            [[unroll]] for (uint e = 0; e < AT_ONCE; e++)
                sum[first + i + e] = v[e];
        normalise(v, i, mean, scale);
        if (in_floats != 0)
            [[unroll]] for (uint e = 0; e < AT_ONCE; e++)
                y[first + i + e] = v[e];
        if (AT_ONCE == 32)
            store_block(v, row, (at + i) / 32, d);
        if (AT_ONCE == 2)
            store_halves(vec2(v[0], v[1]), factor, row, i / 2, d);
    }
    if (AT_ONCE == 2 && lane == 0)
        store_factor(factor, row, d);
}
