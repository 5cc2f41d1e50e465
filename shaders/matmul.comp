/* MATMUL and, with -DMOE, MOE_MATMUL, for many columns; what is computed is as in matvec.comp.
 *
 * A workgroup has a tile of ROWS by COLUMNS of the result. Tiles of W, decoded, and of X pass through shared memory,
 * DEPTH quads of k at a time. LANES invocations lie side by side along the rows, each with TM rows LANES apart and TN
 * columns; those of a subgroup have the same columns, so that reading X is a broadcast. With two weights the first
 * half of a tile's rows is W and the second W1. MOE: a tile's columns are slots of one expert, as moe_sort.comp put
 * them in order. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#define STEP_BINDING 0
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint LANES = 32;
layout(constant_id = 2) const uint TM = 2;
layout(constant_id = 3) const uint TN = 16;
layout(constant_id = 4) const uint DEPTH = 4;
layout(constant_id = 5) const uint SUBGROUPS = 0; /* 1: a subgroup has exactly LANES invocations */
layout(constant_id = 6) const uint GATED = 0;     /* 1: two weights */
const uint ROWS = LANES * TM, COLUMNS = gl_WorkGroupSize.x / LANES * TN;
const uint STRIDE = DEPTH + 1; /* odd: rows begin in different banks */
#include "lib/step.glsl"
#include "lib/product.glsl"

shared vec4 w_tile[ROWS * STRIDE];
shared vec4 x_tile[COLUMNS * STRIDE];
shared uint x_begin[COLUMNS]; /* first element of each column; NONE: there is no such column */
shared uint y_begin[COLUMNS];

/* Where the columns of this workgroup are, and its expert. False: it has nothing to do. */
bool find_columns(out uint expert)
{
    expert = 0;
#ifdef MOE
    uint tile = 4 + 3 * gl_WorkGroupID.y, list_at = extra[3]; /* as moe_sort.comp writes them */
    expert = extra[tile];
    uint begin = list_at + extra[tile + 1], n_columns = extra[tile + 2];
    if (expert - first >= count)
        return false;
#else
    uint begin = gl_WorkGroupID.y * COLUMNS, all = step_rows(per_output != 0);
    if (begin >= all)
        return false;
    uint n_columns = all - begin;
#endif
    for (uint c = gl_LocalInvocationIndex; c < COLUMNS; c += gl_WorkGroupSize.x) {
#ifdef MOE
        uint slot = c < n_columns ? extra[begin + c] : 0, from = per_slot != 0 ? slot : slot / n_used;
#else
        uint slot = begin + c, from = slot;
#endif
        x_begin[c] = c < n_columns ? from * k : NONE;
        y_begin[c] = slot * n;
    }
    barrier();
    return true;
}

/* Fills the tiles with the quads from `quad` on. */
void load_tiles(uint quad, uint group_row, uint n_rows, uint weight_row)
{
    for (uint e = gl_LocalInvocationIndex; e < ROWS * DEPTH; e += gl_WorkGroupSize.x) {
        uint r = e / DEPTH, q = e % DEPTH;
        matrix = GATED == 1 && r >= ROWS / 2 ? 1 : 0;
        uint row = weight_row + min(group_row + (GATED == 1 ? r % (ROWS / 2) : r), n_rows - 1);
        uint at = (matrix == 0 ? weight_at : weight1_at) + row * row_bytes;
        w_tile[r * STRIDE + q] = weights_of(at, 4 * (quad + q));
    }
    for (uint e = gl_LocalInvocationIndex; e < COLUMNS * DEPTH; e += gl_WorkGroupSize.x) {
        uint c = e / DEPTH, q = e % DEPTH, from = x_begin[c];
        x_tile[c * STRIDE + q] = from == NONE ? vec4(0.0) : column_of(from, 4 * (quad + q));
    }
}

/* Stores columns c to c + 3 of every strip, which are in w_tile. */
void store_columns(uint c, uint group_row, uint n_rows, uint first_row, uint expert)
{
    const uint rows = GATED == 1 ? ROWS / 2 : ROWS;
    for (uint e = gl_LocalInvocationIndex; e < COLUMNS / TN * rows; e += gl_WorkGroupSize.x) {
        uint r = e % rows, strip = e / rows, row = group_row + r;
        vec4 v = w_tile[strip * ROWS + r], v1 = GATED == 1 ? w_tile[strip * ROWS + rows + r] : vec4(0.0);
        for (uint j = 0; j < 4 && row < n_rows; j++) {
            uint column = strip * TN + c + j, at = y_begin[column] + first_row + row;
            if (x_begin[column] == NONE)
                continue;
            float result = epilogue(v[j], v1[j], first_row + row, expert);
#ifndef MOE
            if (has_residual != 0)
                result = uintBitsToFloat(extra[at]) + residual_scale * result;
#endif
            y[at] = result;
        }
    }
}

void main()
{
    uint expert;
    if (!find_columns(expert))
        return;
#ifdef MOE
    uint weight_row = (expert - first) * n, n_rows = n, first_row = 0;
#else
    uint weight_row = 0, n_rows = count, first_row = first;
#endif
    uint group_row = (gl_WorkGroupID.x + gl_NumWorkGroups.x * gl_WorkGroupID.z) * (GATED == 1 ? ROWS / 2 : ROWS);
    if (group_row >= n_rows)
        return;
    uint lane = SUBGROUPS == 1 ? gl_SubgroupInvocationID : gl_LocalInvocationIndex % LANES;
    uint strip = (SUBGROUPS == 1 ? gl_SubgroupID : gl_LocalInvocationIndex / LANES) * TN;
    float sum[TN * TM];
    [[unroll]] for (uint i = 0; i < TN * TM; i++)
        sum[i] = 0.0;
    uint n_quads = (k + 3) / 4;
    for (uint quad = 0; quad < n_quads; quad += DEPTH) {
        barrier();
        load_tiles(quad, group_row, n_rows, weight_row);
        barrier();
        for (uint q = 0; q < DEPTH; q++) {
            vec4 a[TM];
            [[unroll]] for (uint m = 0; m < TM; m++)
                a[m] = w_tile[(m * LANES + lane) * STRIDE + q];
            [[unroll]] for (uint c = 0; c < TN; c++) {
                vec4 b = x_tile[(strip + c) * STRIDE + q];
                [[unroll]] for (uint m = 0; m < TM; m++)
                    sum[c * TM + m] = fma(a[m].w, b.w, fma(a[m].z, b.z, fma(a[m].y, b.y, fma(a[m].x, b.x, sum[c * TM + m]))));
            }
        }
    }
    for (uint c = 0; c < TN; c += 4) {
        barrier();
        [[unroll]] for (uint i = 0; i < TN; i += 4)
            if (i == c)
                [[unroll]] for (uint m = 0; m < TM; m++)
                    w_tile[strip / TN * ROWS + m * LANES + lane] =
                        vec4(sum[i * TM + m], sum[(i + 1) * TM + m], sum[(i + 2) * TM + m], sum[(i + 3) * TM + m]);
        barrier();
        store_columns(c, group_row, n_rows, first_row, expert);
    }
}
