/* MATMUL and MOE_MATMUL whose sums are split along k, second half: adds the sums that the parts have left, always in the
 * order of k. An invocation has one row of one column. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
layout(local_size_x = 64) in;
#include "lib/step.glsl"
#include "lib/result.glsl"

layout(set = 0, binding = 3) readonly buffer Sums { float sum[]; }; // [all, n_weights, SPLIT, columns]

void main()
{
    uint row = (gl_WorkGroupID.x + gl_NumWorkGroups.x * gl_WorkGroupID.z) * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
    uint column = gl_WorkGroupID.y, all = all_rows();
    bool moe = n_used != 0;
    if (row >= all || column >= (moe ? step_n_tokens * n_used : step_rows(per_output != 0)))
        return;
    float v = 0.0, v1 = 0.0;
    for (uint part = 0; part < SPLIT; part++) {
        uint at = sums_at(column, part) + row;
        v += sum[at];
        if (n_weights == 2)
            v1 += sum[at + all];
    }
    while (product < 2 && row >= n[product])
        row -= n[product++];
    uint at = column * n[product] + row;
    store(at, finished(v, v1, row, at, moe ? extra[column] : 0));
}
