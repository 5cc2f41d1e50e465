/* ROPE: rotates pairs of elements of each head by position times a rate. One invocation a pair of one token. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
layout(local_size_x = 64) in;
#include "lib/step.glsl"

layout(set = 0, binding = 1) readonly buffer X { float x[]; };      // [head_dim, n_head, T]
layout(set = 0, binding = 2) readonly buffer Rates { uvec2 rate[]; }; // [n_dims / 2], turns a position: (x + y / 2^32) / 2^32
layout(set = 0, binding = 3) buffer Y { float y[]; };               // [head_dim, n_head, T]

layout(push_constant) uniform Push {
    uint head_dim, n_dims, n_head;
    uint halves; /* pairs (i, i + n_dims / 2) in place of (2 i, 2 i + 1) */
    uint copy;   /* y is not x: what is not rotated is copied */
    float mscale;
};

/* cos and sin of the angle of pair i. Whole turns fall out at the top of 32 bits, which leaves the angle exact to
 * 2^-32 of a turn at any position. */
vec2 angle(uint i, uint position)
{
    uint carry, low;
    umulExtended(position, rate[i].y, carry, low);
    float a = float(int(position * rate[i].x + carry)) * (6.2831853071795865 / 4294967296.0);
    return vec2(cos(a), sin(a)) * mscale;
}

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
    vec2 turn = angle(i, step_position(t));
    float a = x[one], b = x[two];
    y[one] = a * turn.x - b * turn.y;
    y[two] = a * turn.y + b * turn.x;
}
