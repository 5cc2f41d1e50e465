/* MATMUL and, with -DMOE, MOE_MATMUL, for few columns: y = act(softcap((W x + bias) * scale)), or with two weights
 * act(W x + bias) * (W1 x + bias1); residual + residual_scale * that.
 *
 * A workgroup has ROWS rows of W, LANES invocations for each, which share its weights among themselves. Every weight
 * is decoded once for COLUMNS columns. A sum's order depends on nothing but the length of the row. */
#version 450
#extension GL_GOOGLE_include_directive : require
#define STEP_BINDING 0
#define LANES        16
#define ROWS         4
#ifdef MOE
const uint COLUMNS = 1;
#else
layout(constant_id = 0) const uint COLUMNS = 8;
#endif
layout(local_size_x = LANES, local_size_y = ROWS) in;
#include "lib/step.glsl"
#include "lib/activation.glsl"

layout(set = 0, binding = 1) readonly buffer Weight { uint w[]; };   // [k, n] or [k, n, n_expert]
layout(set = 0, binding = 2) readonly buffer Weight1 { uint w1[]; }; // the same; up, where W is the gate
layout(set = 0, binding = 3) readonly buffer X { float x[]; };                 // [k, T]
layout(set = 0, binding = 4) readonly buffer Bias { float bias[]; };           // [n]
layout(set = 0, binding = 5) readonly buffer Bias1 { float bias1[]; };         // [n]
layout(set = 0, binding = 6) readonly buffer Extra { uint extra[]; };          // residual [n, T], or expert ids [n_used, T]
layout(set = 0, binding = 7) buffer Y { float y[]; };                          // [n, T]
layout(set = 0, binding = 8) readonly buffer Grids { uint grid[]; };           // tables of the IQ formats

uint matrix; /* 0: Weight, 1: Weight1 */
#define WEIGHT_WORD(i) (matrix == 0 ? w[i] : w1[i])
#define GRID_WORD(i)   grid[i]
#include "lib/format.glsl"

layout(push_constant) uniform Push {
    uint k, n, row_bytes;
    uint weight_at, weight1_at; /* bytes; where what is bound begins */
    uint first, count;          /* rows (MOE: experts) that are bound */
    uint bias_at, bias1_at;     /* first element; NONE: there is none */
    uint n_weights, act, per_output;
    uint n_used, per_slot;      /* MOE */
    uint has_residual;
    float scale, softcap, residual_scale;
};
const uint NONE = 0xffffffff;

shared float part[COLUMNS * 2 * ROWS * LANES]; // [COLUMNS][2][ROWS][LANES]

uint part_at(uint column, uint which)
{
    return ((column * 2 + which) * ROWS + gl_LocalInvocationID.y) * LANES;
}

/* Sums of this lane for the columns from `column` on, of which the x begin at x_at. */
void add_products(uint row_at, const uint x_at[COLUMNS], inout float sum[COLUMNS])
{
    for (uint i = 4 * gl_LocalInvocationID.x; i + 4 <= k; i += 4 * LANES) {
        vec4 weights = decode4(row_at + i / BLOCK_LEN * BLOCK_BYTES, i % BLOCK_LEN);
        for (uint c = 0; c < COLUMNS; c++) {
            uint at = x_at[c] + i;
            sum[c] += dot(weights, vec4(x[at], x[at + 1], x[at + 2], x[at + 3]));
        }
    }
    uint i = k / 4 * 4 + gl_LocalInvocationID.x; /* what is left, where a block is one element */
    if (i < k) {
        float weight = decode(row_at + i / BLOCK_LEN * BLOCK_BYTES, i % BLOCK_LEN);
        for (uint c = 0; c < COLUMNS; c++)
            sum[c] += weight * x[x_at[c] + i];
    }
}

float finish(float v, float v1, uint row, uint expert, uint at)
{
    if (bias_at != NONE)
        v += bias[bias_at + expert * n + row];
    if (bias1_at != NONE)
        v1 += bias1[bias1_at + expert * n + row];
    if (n_weights == 2)
        return activate(act, v) * v1;
    v *= scale;
    if (softcap != 0.0)
        v = softcap * (1.0 - 2.0 / (exp(2.0 * v / softcap) + 1.0));
    return activate(act, v);
}

void main()
{
    uint lane = gl_LocalInvocationID.x, local_row = gl_LocalInvocationID.y;
    uint group = gl_WorkGroupID.x + gl_NumWorkGroups.x * gl_WorkGroupID.z;
    uint row = group * ROWS + local_row; /* of what is bound */
    uint column = gl_WorkGroupID.y * COLUMNS, expert = 0;
#ifdef MOE
    uint n_columns = step_n_tokens * n_used;
    if (column >= n_columns)
        return;
    expert = extra[column];
    if (expert - first >= count)
        return;
    uint weight_row = (expert - first) * n + min(row, n - 1), out_row = row;
    bool inside = row < n;
#else
    uint n_columns = step_rows(per_output != 0);
    if (column >= n_columns)
        return;
    uint weight_row = min(row, count - 1), out_row = first + row;
    bool inside = row < count;
#endif
    uint x_at[COLUMNS];
    float sum[COLUMNS], sum1[COLUMNS];
    for (uint c = 0; c < COLUMNS; c++) {
        uint from = min(column + c, n_columns - 1);
#ifdef MOE
        from = per_slot != 0 ? from : from / n_used;
#endif
        x_at[c] = from * k;
        sum[c] = sum1[c] = 0.0;
    }
    matrix = 0;
    add_products(weight_at + weight_row * row_bytes, x_at, sum);
    if (n_weights == 2) {
        matrix = 1;
        add_products(weight1_at + weight_row * row_bytes, x_at, sum1);
    }
    for (uint c = 0; c < COLUMNS; c++) {
        part[part_at(c, 0) + lane] = sum[c];
        part[part_at(c, 1) + lane] = sum1[c];
    }
    barrier();
    for (uint c = lane; c < COLUMNS && inside && column + c < n_columns; c += LANES) {
        float v = 0.0, v1 = 0.0;
        for (uint l = 0; l < LANES; l++) {
            v += part[part_at(c, 0) + l];
            v1 += part[part_at(c, 1) + l];
        }
        uint at = (column + c) * n + out_row;
        v = finish(v, v1, out_row, expert, at);
#ifndef MOE
        if (has_residual != 0)
            v = uintBitsToFloat(extra[at]) + residual_scale * v;
#endif
        y[at] = v;
    }
}
