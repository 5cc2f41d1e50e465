/* Activations to half floats, for cooperative matrices: a column becomes k / 2 words, rounded up to whole quads, and the
 * float that the halves are to be multiplied by: a power of two, so that neither large nor small columns leave the range
 * of half floats. One workgroup a column. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
#define WORKGROUP    64
layout(local_size_x = WORKGROUP) in;
#include "lib/step.glsl"
#include "lib/types.glsl"

layout(set = 0, binding = 1) readonly buffer X { float x[]; }; // [k, per_token, T]
layout(set = 0, binding = 2) writeonly buffer Y { uint y[]; }; // [(k + 3) / 4 * 2 + 1, per_token, T]

layout(push_constant) uniform Push {
    uint k, per_token;
    uint per_output;
};

shared float most[WORKGROUP];

void main()
{
    uint column = gl_WorkGroupID.x + gl_NumWorkGroups.x * gl_WorkGroupID.z, lane = gl_LocalInvocationIndex;
    if (column >= step_rows(per_output != 0) * per_token)
        return;
    uint from = column * k, n_words = (k + 3) / 4 * 2, to = column * (n_words + 1);
    most[lane] = 0.0;
    for (uint i = lane; i < k; i += WORKGROUP)
        most[lane] = max(most[lane], abs(x[from + i]));
    for (uint step = WORKGROUP / 2; step > 0; step /= 2) {
        barrier();
        if (lane < step)
            most[lane] = max(most[lane], most[lane + step]);
    }
    barrier();
    float factor = half_factor(most[0]);
    for (uint i = lane; i < n_words; i += WORKGROUP) {
        uint at = 2 * i;
        vec2 v = vec2(at < k ? x[from + at] : 0.0, at + 1 < k ? x[from + at + 1] : 0.0);
        y[to + i] = packHalf2x16(v * factor);
    }
    if (lane == 0)
        y[to + n_words] = floatBitsToUint(1.0 / factor);
}
