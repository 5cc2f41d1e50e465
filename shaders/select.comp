/* SELECT: the best of each row, best first, ties to the lower place. A workgroup takes the best of BLOCK values; with
 * -DMERGE one takes the best of those of all blocks. It finds one after the other: an invocation knows the best of its
 * values that is worse than all that were found. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
layout(local_size_x_id = 0) in;
const uint BLOCK = 2048;
#include "lib/step.glsl"

layout(set = 0, binding = 1) readonly buffer X { uint x[]; };       // [n, O], floats
layout(set = 0, binding = 2) buffer Found { uvec2 found[]; };       // key and place: [k, blocks, O]
layout(set = 0, binding = 3) buffer Y { uint y[]; };                // [2 k, O]

layout(push_constant) uniform Push {
    uint n, k;
};

const uvec2 NOTHING = uvec2(0, 0xffffffffu); /* as key and place: worse than any */
shared uvec2 best[gl_WorkGroupSize.x];

/* Numbers in the order of floats; -0 is 0, and what is not finite is better than the rest. */
uint key_of(uint bits)
{
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return 0xffffffffu;
    bits = bits == 0x80000000u ? 0 : bits;
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

bool is_better(uvec2 a, uvec2 b)
{
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}

/* The best of this invocation's candidates, of `all` or of those that are worse than `bound`. */
uvec2 best_below(bool all, uvec2 bound, uint from, uint end)
{
    uvec2 most = NOTHING;
    for (uint i = from + gl_LocalInvocationIndex; i < end; i += gl_WorkGroupSize.x) {
#ifdef MERGE
        uvec2 candidate = found[i];
#else
        uvec2 candidate = uvec2(key_of(x[gl_WorkGroupID.y * n + i]), i);
#endif
        if ((all || is_better(bound, candidate)) && is_better(candidate, most))
            most = candidate;
    }
    return most;
}

void main()
{
    uint lane = gl_LocalInvocationIndex, row = gl_WorkGroupID.y, wanted = min(step_select, k);
    if (wanted == 0 || row >= step_n_outputs)
        return;
    uint blocks = (n + BLOCK - 1) / BLOCK;
#ifdef MERGE
    uint from = row * blocks * k, end = from + blocks * k, to = row * 2 * k;
#else
    uint from = gl_WorkGroupID.x * BLOCK, end = min(from + BLOCK, n), to = (row * blocks + gl_WorkGroupID.x) * k;
#endif
    uvec2 mine = best_below(true, NOTHING, from, end);
    for (uint i = 0; i < wanted; i++) {
        best[lane] = mine;
        for (uint half_n = gl_WorkGroupSize.x / 2; half_n > 0; half_n /= 2) {
            barrier();
            if (lane < half_n && is_better(best[lane + half_n], best[lane]))
                best[lane] = best[lane + half_n];
        }
        barrier();
        uvec2 winner = best[0];
        barrier();
        if (mine == winner)
            mine = best_below(false, winner, from, end);
        if (lane == 0) {
#ifdef MERGE
            y[to + 2 * i] = x[row * n + winner.y];
            y[to + 2 * i + 1] = winner.y;
#else
            found[to + i] = winner;
#endif
        }
    }
#ifndef MERGE
    for (uint i = wanted + lane; i < k; i += gl_WorkGroupSize.x)
        found[to + i] = NOTHING;
#endif
}
