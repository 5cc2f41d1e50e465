/* EMBED: y = scale * row of the token in a table of any format. One invocation four elements of one token. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
layout(local_size_x = 64) in;
#include "lib/step.glsl"

layout(set = 0, binding = 1) readonly buffer Table { uint table_word[]; }; // [d, n_vocab]
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };            // [d, T]
layout(set = 0, binding = 3) readonly buffer Grids { uint grid[]; };       // tables of the IQ formats
#define WEIGHT_WORD(i) table_word[i]
#define GRID_WORD(i)   grid[i]
#include "lib/format.glsl"

layout(push_constant) uniform Push {
    uint d;
    uint table_at, row_bytes;  /* where row `first_row` begins, in bytes */
    uint first_row, n_rows;    /* rows of the table that are bound */
    float scale;
};

void main()
{
    uint i = 4 * gl_GlobalInvocationID.x, t = gl_WorkGroupID.y;
    if (t >= step_n_tokens || i >= d)
        return;
    uint row = step_token(t) - first_row;
    if (row >= n_rows)
        return;
    uint block = table_at + row * row_bytes + i / BLOCK_LEN * BLOCK_BYTES;
    if (i + 4 <= d) {
        vec4 v = scale * decode4(block, i % BLOCK_LEN);
        for (uint k = 0; k < 4; k++)
            y[t * d + i + k] = v[k];
        return;
    }
    for (uint k = 0; i + k < d; k++) /* only where a block is one element */
        y[t * d + i + k] = scale * decode(block + k * BLOCK_BYTES, 0);
}
