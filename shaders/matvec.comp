/* MATMUL and, with -DMOE, MOE_MATMUL, for few columns: y = act(softcap((W x + bias) * scale)), or with two weights
 * act(W x + bias) * (W1 x + bias1); residual + residual_scale * that.
 *
 * A workgroup has ROWS rows of W, LANES invocations for each, which share its weights among themselves. Every weight
 * is decoded once for COLUMNS columns. -DDOT8: for activations that quantise.comp rounded to 8 bits. A sum's order depends on the length of the row and on LANES. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define STEP_BINDING 0
#define WORKGROUP    64
#ifdef MOE
const uint COLUMNS = 1;
#else
layout(constant_id = 0) const uint COLUMNS = 8;
#endif
layout(constant_id = 1) const uint LANES = 16; /* a power of two */
const uint ROWS = WORKGROUP / LANES;
layout(local_size_x = WORKGROUP) in;
#include "lib/step.glsl"
#include "lib/product.glsl"
#ifdef DOT8
#include "lib/dot8.glsl"
#endif

shared float part[COLUMNS * 2 * WORKGROUP]; // [COLUMNS][2][ROWS][LANES]

uint part_at(uint column, uint which)
{
    return (column * 2 + which) * WORKGROUP + gl_LocalInvocationIndex / LANES * LANES;
}

#ifdef DOT8
/* Sums of this lane for the columns that begin at x_at, in blocks of 32. */
void add_products(uint row_at, const uint x_at[COLUMNS], inout float sum[COLUMNS])
{
    for (uint b = gl_LocalInvocationIndex % LANES; b < k / 32; b += LANES) {
        uint at = row_at + b * 32 / BLOCK_LEN * BLOCK_BYTES, first_of_block = b * 32 % BLOCK_LEN;
        [[unroll]] for (uint h = 0; h < 32; h += SUB_LEN) {
            vec2 scale = scales(at, first_of_block + h);
            uint q[SUB_LEN / 4];
            [[unroll]] for (uint i = 0; i < SUB_LEN / 4; i++)
                q[i] = quants4(at, first_of_block + h + 4 * i);
            [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
                uint words = x_at[c] + b * 8 + h / 4, scales_at = x_at[c] + k / 4 + 4 * b;
                int products = 0;
                [[unroll]] for (uint i = 0; i < SUB_LEN / 4; i++)
                    products += dot8(q[i], x[words + i], 0);
                sum[c] = fma(scale.x * uintBitsToFloat(x[scales_at]), float(products), sum[c]);
                if (scale.y != 0.0) {
                    float total = uintBitsToFloat(x[scales_at + 1 + h / 16]);
                    if (SUB_LEN == 32)
                        total += uintBitsToFloat(x[scales_at + 2]);
                    sum[c] = fma(-scale.y, total, sum[c]);
                }
            }
        }
    }
}
#else
/* Sums of this lane for the columns that begin at x_at. */
void add_products(uint row_at, const uint x_at[COLUMNS], inout float sum[COLUMNS])
{
    for (uint i = 4 * (gl_LocalInvocationIndex % LANES); i < k; i += 4 * LANES) {
        vec4 a = weights_of(row_at, i);
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            vec4 b = column_of(x_at[c], i);
            sum[c] = fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum[c]))));
        }
    }
}
#endif

void main()
{
    uint lane = gl_LocalInvocationIndex % LANES, local_row = gl_LocalInvocationIndex / LANES;
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
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        uint from = min(column + c, n_columns - 1);
#ifdef MOE
        from = per_slot != 0 ? from : from / n_used;
#endif
        x_at[c] = from * column_stride();
        sum[c] = sum1[c] = 0.0;
    }
    matrix = 0;
    add_products(weight_at + weight_row * row_bytes, x_at, sum);
    if (n_weights == 2) {
        matrix = 1;
        add_products(weight1_at + weight_row * row_bytes, x_at, sum1);
    }
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
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
        v = epilogue(v, v1, out_row, expert);
#ifndef MOE
        if (has_residual != 0)
            v = uintBitsToFloat(extra[at]) + residual_scale * v;
#endif
        y[at] = v;
    }
}
