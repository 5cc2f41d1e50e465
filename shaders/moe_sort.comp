/* Puts the slots of a step (slot: token * n_used + place) in order of their experts, for the grouped MOE_MATMUL: a
 * stable counting sort by one workgroup. The result, in words: the sizes of the indirect dispatch (x, y, 1), where
 * the list begins, a row (expert, first of the list, columns) for each tile of at most TILE slots, and the list. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
#define WORKGROUP    128
layout(local_size_x = WORKGROUP) in;
#include "lib/step.glsl"

const uint MAX_EXPERTS = 1024;

layout(set = 0, binding = 1) readonly buffer Ids { uint id[]; }; // [n_used, T]
layout(set = 0, binding = 2) buffer Order { uint order[]; };

layout(push_constant) uniform Push {
    uint n_expert, n_used;
    uint tile;    /* slots */
    uint groups;  /* workgroups of a tile, x */
    uint list_at; /* word */
    uint split;   /* workgroups that share a tile, y */
};

shared uint size[MAX_EXPERTS];  /* slots of each expert */
shared uint begin[MAX_EXPERTS]; /* the first in the list */
shared uint chunk[WORKGROUP];   /* ids, as all look at them */

void main()
{
    uint lane = gl_LocalInvocationIndex, n_slots = step_n_tokens * n_used;
    for (uint e = lane; e < n_expert; e += WORKGROUP)
        size[e] = 0;
    for (uint at = 0; at < n_slots; at += WORKGROUP) {
        barrier();
        chunk[lane] = at + lane < n_slots ? id[at + lane] : n_expert;
        barrier();
        for (uint e = lane; e < n_expert; e += WORKGROUP)
            for (uint i = 0; i < WORKGROUP; i++)
                size[e] += chunk[i] == e ? 1 : 0;
    }
    barrier();
    if (lane == 0) {
        uint n_tiles = 0, next = 0;
        for (uint e = 0; e < n_expert; e++) {
            begin[e] = next;
            for (uint done = 0; done < size[e]; done += tile) {
                uint row = 4 + 3 * n_tiles++;
                order[row] = e;
                order[row + 1] = next + done;
                order[row + 2] = min(size[e] - done, tile);
            }
            next += size[e];
        }
        order[0] = groups;
        order[1] = n_tiles * split;
        order[2] = 1;
        order[3] = list_at;
    }
    for (uint at = 0; at < n_slots; at += WORKGROUP) {
        barrier();
        chunk[lane] = at + lane < n_slots ? id[at + lane] : n_expert;
        barrier();
        for (uint e = lane; e < n_expert; e += WORKGROUP)
            for (uint i = 0; i < WORKGROUP; i++)
                if (chunk[i] == e)
                    order[list_at + begin[e]++] = at + i;
    }
}
