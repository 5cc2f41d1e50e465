/* ROPE: rotates pairs of elements of each head by position times a rate. One invocation a pair of one token. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING  0
#define RATES_BINDING 2
layout(local_size_x = 64) in;
#include "lib/step.glsl"
#include "lib/rope.glsl"

layout(set = 0, binding = 1) readonly buffer X { float x[]; };      // [head_dim, n_head, T]
layout(set = 0, binding = 3) buffer Y { float y[]; };               // [head_dim, n_head, T]

layout(push_constant) uniform Push {
    uint head_dim, n_dims, n_head;
    uint halves; /* pairs (i, i + n_dims / 2) in place of (2 i, 2 i + 1) */
    uint copy;   /* y is not x: what is not rotated is copied */
    float mscale;
};

void main()
{
    uint pairs = (head_dim + 1) / 2; /* one invocation each; those beyond n_dims copy */
    uint t = gl_WorkGroupID.y, at = gl_GlobalInvocationID.x;
    if (t >= step_n_tokens || at >= pairs * n_head)
        return;
    uint i = at % pairs, first = (t * n_head + at / pairs) * head_dim;
    if (i >= n_dims / 2) {
        for (uint k = 2 * i; copy != 0 && k < min(2 * i + 2, head_dim); k++)
            y[first + k] = x[first + k];
        return;
    }
    uint one = first + (halves != 0 ? i : 2 * i), two = one + (halves != 0 ? n_dims / 2 : 1);
    vec2 turned = rotate(vec2(x[one], x[two]), angle(i, step_position(t)) * mscale);
    y[one] = turned.x;
    y[two] = turned.y;
}
