/* ADD, ACTIVATION and ROWS: y of each element from those of one or two inputs. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
layout(local_size_x = 64) in;
#include "lib/step.glsl"
#include "lib/activation.glsl"

layout(set = 0, binding = 1) readonly buffer A { float a[]; };
layout(set = 0, binding = 2) readonly buffer B { float b[]; };
layout(set = 0, binding = 3) buffer Y { float y[]; };

layout(push_constant) uniform Push {
    uint n; /* elements of a row of y */
    uint act;
    uint has_b, split, per_output;
    float scale;
};

void main()
{
    uint group = gl_WorkGroupID.x + gl_NumWorkGroups.x * gl_WorkGroupID.z;
    uint i = group * gl_WorkGroupSize.x + gl_LocalInvocationID.x, row = gl_WorkGroupID.y;
    if (row >= step_rows(per_output != 0) || i >= n)
        return;
    uint at = row * n + i;
#if defined(OP_ADD)
    y[at] = a[at] + scale * b[at];
#elif defined(OP_ROWS)
    y[at] = a[step_output(row) * n + i];
#else
    uint gate = split != 0 ? row * 2 * n + i : at;
    float v = activate(act, a[gate]);
    y[at] = split != 0 ? v * a[gate + n] : has_b != 0 ? v * b[at] : v;
#endif
}
