/* MATMUL and, with -DMOE, MOE_MATMUL, for few columns: y = act(softcap((W x + bias) * scale)), or with two weights
 * act(W x + bias) * (W1 x + bias1); residual + residual_scale * that.
 *
 * A workgroup has ROWS rows of W, LANES invocations for each, which share its weights among themselves. Every weight
 * is decoded once for COLUMNS columns. -DDOT8: for activations that quantise.comp rounded to 8 bits. A sum's order depends on
 * the length of the row and on LANES. */
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
const bool WHOLE = LANES == 1 && COLUMNS == 1; /* an invocation takes whole blocks */
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
/* Adds the products of weights i to i + SUB_LEN - 1 of the block at `at`, which are from element 32 * b + h of the row
 * on. */
void add_sub(uint at, uint i, uint b, uint h, const uint x_at[COLUMNS], inout float sum[COLUMNS])
{
    vec2 scale = scales(at, i);
    uint q[SUB_LEN / 4];
    [[unroll]] for (uint j = 0; j < SUB_LEN / 4; j++)
        q[j] = quants4(at, i + 4 * j);
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        uint words = x_at[c] + b * 8 + h / 4, scales_at = x_at[c] + k / 4 + 4 * b;
        int products = 0;
        [[unroll]] for (uint j = 0; j < SUB_LEN / 4; j++)
            products += dot8(q[j], x[words + j], 0);
        sum[c] = fma(scale.x * uintBitsToFloat(x[scales_at]), float(products), sum[c]);
        if (scale.y != 0.0) {
            float total = uintBitsToFloat(x[scales_at + 1 + h / 16]);
            if (SUB_LEN == 32)
                total += uintBitsToFloat(x[scales_at + 2]);
            sum[c] = fma(-scale.y, total, sum[c]);
        }
    }
}

/* The block at `at`, an even address, into block_word. Of blocks at odd multiples of 2 none is a multiple of 4 long:
 * either way it lies in as many words. */
void read_block(uint at)
{
    const uint WORDS = (BLOCK_BYTES + 3) / 4;
    uint raw[WORDS + 1];
    [[unroll]] for (uint i = 0; i < WORDS; i++)
        raw[i] = matrix == 0 ? w[at / 4 + i] : w1[at / 4 + i];
    raw[WORDS] = 0;
    bool odd = BLOCK_BYTES % 4 != 0 && at % 4 != 0;
    [[unroll]] for (uint i = 0; i < WORDS; i++)
        block_word[i] = odd ? raw[i] >> 16 | raw[i + 1] << 16 : raw[i];
}

/* Sums of this lane for the columns that begin at x_at. */
void add_products(uint row_at, const uint x_at[COLUMNS], inout float sum[COLUMNS])
{
    if (WHOLE) {
        for (uint block = 0; block < k / BLOCK_LEN; block++) {
            read_block(row_at + block * BLOCK_BYTES);
            [[unroll]] for (uint i = 0; i < BLOCK_LEN; i += SUB_LEN)
                add_sub(0, i, block * (BLOCK_LEN / 32) + i / 32, i % 32, x_at, sum);
        }
        return;
    }
    for (uint b = gl_LocalInvocationIndex % LANES; b < k / 32; b += LANES)
        [[unroll]] for (uint h = 0; h < 32; h += SUB_LEN)
            add_sub(row_at + b * 32 / BLOCK_LEN * BLOCK_BYTES, b * 32 % BLOCK_LEN + h, b, h, x_at, sum);
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
