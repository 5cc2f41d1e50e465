/* MATMUL and, with -DMOE, MOE_MATMUL, for few columns: y = act(softcap((W x + bias) * scale)), or with two weights
 * act(W x + bias) * (W1 x + bias1); residual + residual_scale * that.
 *
 * A workgroup has ROWS rows of W, or with SPLIT above 1 a part of them, LANES invocations for each of them or for EACH of
 * them, which share its weights among themselves. Every weight is decoded once for COLUMNS columns. -DDOT8: for activations
 * that quantise.comp rounded to 8 bits. A sum's order depends on the length of the row, on LANES and on SPLIT. */
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
layout(constant_id = 2) const uint EACH = 1; /* rows of an invocation, STEP apart, which share what it reads of X */
const uint STEP = WORKGROUP / LANES, ROWS = STEP * EACH;
const bool WHOLE = LANES == 1 && COLUMNS == 1; /* an invocation takes whole blocks */
layout(local_size_x = WORKGROUP) in;
#ifdef DOT8
#define WHOLE_BLOCKS
#endif
#include "lib/step.glsl"
#include "lib/product.glsl"
#ifdef DOT8
#include "lib/dot8.glsl"
#endif

const uint SUMS = COLUMNS * EACH; /* of an invocation: [COLUMNS][EACH] */
shared float part[SUMS * 2 * WORKGROUP]; // [SUMS][2][STEP][LANES]

uint part_at(uint s, uint which)
{
    return (s * 2 + which) * WORKGROUP + gl_LocalInvocationIndex / LANES * LANES;
}

#ifdef DOT8
/* Adds the products of weights i to i + SUB_LEN - 1 of the blocks at `at`, which are from element 32 * b + h of the rows
 * on. */
void add_sub(const uint at[EACH], uint i, uint b, uint h, const uint x_at[COLUMNS], inout float sum[SUMS])
{
    vec2 scale[EACH];
    uint q[SUB_LEN / 4 * EACH];
    [[unroll]] for (uint e = 0; e < EACH; e++) {
        block = e;
        scale[e] = scales(at[e], i);
        [[unroll]] for (uint j = 0; j < SUB_LEN / 4; j++)
            q[j * EACH + e] = quants4(at[e], i + 4 * j);
    }
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        uint words = x_at[c] + b * 8 + h / 4, scales_at = x_at[c] + k / 4 + 4 * b;
        int products[EACH];
        [[unroll]] for (uint j = 0; j < SUB_LEN / 4; j++) {
            uint four = x[words + j];
            [[unroll]] for (uint e = 0; e < EACH; e++)
                products[e] = (j == 0 ? 0 : products[e]) + dot8(q[j * EACH + e], four, 0);
        }
        float d = uintBitsToFloat(x[scales_at]);
        [[unroll]] for (uint e = 0; e < EACH; e++)
            sum[c * EACH + e] = fma(scale[e].x * d, float(products[e]), sum[c * EACH + e]);
        [[unroll]] for (uint e = 0; e < EACH; e++)
            if (scale[e].y != 0.0) {
                float total = uintBitsToFloat(x[scales_at + 1 + h / 16]);
                if (SUB_LEN == 32)
                    total += uintBitsToFloat(x[scales_at + 2]);
                sum[c * EACH + e] = fma(-scale[e].y, total, sum[c * EACH + e]);
            }
    }
}

/* Block number e, at `at`, an even address, into block_word. Of blocks at odd multiples of 2 none is a multiple of 4
 * long: either way it lies in as many words. */
void read_block(uint e, uint at)
{
    const uint WORDS = (BLOCK_BYTES + 3) / 4;
    uint raw[WORDS + 1];
    [[unroll]] for (uint i = 0; i < WORDS; i++)
        raw[i] = matrix == 0 ? w[at / 4 + i] : w1[at / 4 + i];
    raw[WORDS] = 0;
    bool odd = BLOCK_BYTES % 4 != 0 && at % 4 != 0;
    [[unroll]] for (uint i = 0; i < WORDS; i++)
        block_word[e * BLOCK_WORDS + i] = odd ? raw[i] >> 16 | raw[i + 1] << 16 : raw[i];
}

/* Sums of this lane for the rows at row_at and the columns that begin at x_at. */
void add_products(const uint row_at[EACH], const uint x_at[COLUMNS], inout float sum[SUMS])
{
    uint at[EACH], begin = part_begin(part_of_k()), end = part_begin(part_of_k() + 1);
    if (WHOLE) {
        for (uint b = begin / BLOCK_LEN; b < end / BLOCK_LEN; b++) {
            [[unroll]] for (uint e = 0; e < EACH; e++) {
                read_block(e, row_at[e] + b * BLOCK_BYTES);
                at[e] = 0;
            }
            [[unroll]] for (uint i = 0; i < BLOCK_LEN; i += SUB_LEN)
                add_sub(at, i, b * (BLOCK_LEN / 32) + i / 32, i % 32, x_at, sum);
        }
        return;
    }
    for (uint b = begin / 32 + gl_LocalInvocationIndex % LANES; b < end / 32; b += LANES) {
        [[unroll]] for (uint e = 0; e < EACH; e++)
            at[e] = row_at[e] + b * 32 / BLOCK_LEN * BLOCK_BYTES;
        [[unroll]] for (uint h = 0; h < 32; h += SUB_LEN)
            add_sub(at, b * 32 % BLOCK_LEN + h, b, h, x_at, sum);
    }
}
#else
/* Sums of this lane for the rows at row_at and the columns that begin at x_at. */
void add_products(const uint row_at[EACH], const uint x_at[COLUMNS], inout float sum[SUMS])
{
    uint begin = part_begin(part_of_k()), end = part_begin(part_of_k() + 1);
    for (uint i = begin + 4 * (gl_LocalInvocationIndex % LANES); i < end; i += 4 * LANES) {
        vec4 a[EACH];
        [[unroll]] for (uint e = 0; e < EACH; e++)
            a[e] = weights_of(row_at[e], i);
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            vec4 b = column_of(x_at[c], i);
            [[unroll]] for (uint e = 0; e < EACH; e++) {
                uint s = c * EACH + e;
                sum[s] = fma(a[e].w, b.w, fma(a[e].z, b.z, fma(a[e].y, b.y, fma(a[e].x, b.x, sum[s]))));
            }
        }
    }
}
#endif

void main()
{
    uint lane = gl_LocalInvocationIndex % LANES;
    uint group = gl_WorkGroupID.x + gl_NumWorkGroups.x * gl_WorkGroupID.z;
#ifndef MOE
    group = choose_product(group, ROWS);
#endif
    uint row = group * ROWS + gl_LocalInvocationIndex / LANES; /* the first, of what is bound */
    uint column = column_group() * COLUMNS, expert = 0;
#ifdef MOE
    uint n_columns = step_n_tokens * n_used;
    if (column >= n_columns)
        return;
    expert = extra[column];
    if (expert - first >= count)
        return;
    uint weight_row = (expert - first) * n[0], n_rows = n[0], first_row = 0;
#else
    uint n_columns = step_rows(per_output != 0);
    if (column >= n_columns)
        return;
    uint weight_row = 0, n_rows = product == 0 ? count : n[product], first_row = first;
#endif
    uint x_at[COLUMNS], row_at[EACH];
    float sum[SUMS], sum1[SUMS];
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
        uint from = min(column + c, n_columns - 1);
#ifdef MOE
        from = per_slot != 0 ? from : from / n_used;
#endif
        x_at[c] = from * column_stride();
    }
    [[unroll]] for (uint s = 0; s < SUMS; s++)
        sum[s] = sum1[s] = 0.0;
    matrix = 0;
    [[unroll]] for (uint e = 0; e < EACH; e++)
        row_at[e] = weight_at[product] + (weight_row + min(row + e * STEP, n_rows - 1)) * row_bytes;
    add_products(row_at, x_at, sum);
    if (n_weights == 2) {
        matrix = 1;
        [[unroll]] for (uint e = 0; e < EACH; e++)
            row_at[e] = weight_at[1] + (weight_row + min(row + e * STEP, n_rows - 1)) * row_bytes;
        add_products(row_at, x_at, sum1);
    }
    [[unroll]] for (uint s = 0; s < SUMS; s++) {
        part[part_at(s, 0) + lane] = sum[s];
        part[part_at(s, 1) + lane] = sum1[s];
    }
    barrier();
    for (uint s = lane; s < SUMS; s += LANES) {
        uint c = s / EACH, of_row = row + s % EACH * STEP;
        if (of_row >= n_rows || column + c >= n_columns)
            continue;
        float v = 0.0, v1 = 0.0;
        for (uint l = 0; l < LANES; l++) {
            v += part[part_at(s, 0) + l];
            v1 += part[part_at(s, 1) + l];
        }
        uint out_row = first_row + of_row, at = (column + c) * n[product] + out_row;
        if (SPLIT == 1)
            store(at, finished(v, v1, out_row, at, expert));
        else
            store_sums(column + c, part_of_k(), out_row, v, v1);
    }
}
