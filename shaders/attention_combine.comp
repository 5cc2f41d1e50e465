/* ATTENTION for few tokens, second half: merges the blocks of keys that attention_split.comp left. An invocation has
 * four elements of one head of one token. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
layout(local_size_x = 64) in;
#include "lib/attention.glsl"

layout(set = 0, binding = 1) readonly buffer Parts { vec4 part[]; };  // [1 + V4, n_head, max_tokens, blocks]
layout(set = 0, binding = 2) readonly buffer Sinks { float sink[]; }; // [n_head]
layout(set = 0, binding = 3) writeonly buffer Y { float y[]; };       // [HEAD_V, n_head, T]

void main()
{
    uint head = gl_GlobalInvocationID.x / V4, d = gl_GlobalInvocationID.x % V4, t = gl_WorkGroupID.y;
    if (t >= step_n_tokens || head >= n_head)
        return;
    uint last = step_position(t), blocks = last / BLOCK - first_seen(last) / BLOCK + 1;
    float top = sink_at != NONE ? sink[sink_at + head] : LOWEST; /* a sink takes part in the sum only */
    float total = sink_at != NONE ? 1.0 : 0.0;
    vec4 result = vec4(0.0);
    for (uint b = 0; b < blocks; b++) {
        uint row = ((b * max_tokens + t) * n_head + head) * (1 + V4);
        float new_top = max(top, part[row].x);
        float old = shrink(top, new_top), new = shrink(part[row].x, new_top);
        top = new_top;
        total = fma(total, old, part[row].y * new);
        result = fma(result, vec4(old), part[row + 1 + d] * new);
    }
    result /= total;
    for (uint e = 0; e < 4 && 4 * d + e < HEAD_V; e++)
        y[(t * n_head + head) * HEAD_V + 4 * d + e] = result[e];
}
