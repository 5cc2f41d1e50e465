/* MOE_COMBINE: y = residual + sum over the chosen experts of weight * their result + sigmoid(gate) * shared. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
layout(local_size_x = 64) in;
#include "lib/step.glsl"

layout(set = 0, binding = 1) readonly buffer Experts { float expert[]; };   // [n, n_used, T]
layout(set = 0, binding = 2) readonly buffer Weights { float weight[]; };   // [n_used, T]
layout(set = 0, binding = 3) readonly buffer Shared { float shared_y[]; };  // [n, T]
layout(set = 0, binding = 4) readonly buffer Gate { float gate[]; };        // [1, T]
layout(set = 0, binding = 5) readonly buffer Residual { float residual[]; }; // [n, T]
layout(set = 0, binding = 6) buffer Y { float y[]; };                       // [n, T]

layout(push_constant) uniform Push {
    uint n, n_used;
    uint has_shared, has_gate, has_residual;
};

void main()
{
    uint i = gl_GlobalInvocationID.x, t = gl_WorkGroupID.y;
    if (t >= step_n_tokens || i >= n)
        return;
    float v = 0.0;
    for (uint k = 0; k < n_used; k++)
        v += weight[t * n_used + k] * expert[(t * n_used + k) * n + i];
    if (has_shared != 0) {
        float share = has_gate != 0 ? 1.0 / (1.0 + exp(-gate[t])) : 1.0;
        v += share * shared_y[t * n + i];
    }
    y[t * n + i] = has_residual != 0 ? residual[t * n + i] + v : v;
}
