/* MATMUL and, with -DMOE, MOE_MATMUL, for many columns; what is computed is as in matvec.comp.
 *
 * A workgroup has a tile of ROWS by COLUMNS of the result (lib/tile.glsl). Tiles of W, decoded, and of X pass through
 * shared memory, DEPTH quads of k at a time; with SPLIT above 1 the workgroup has a part of k. With two weights the first
 * half of a tile's rows is W and the second W1.
 *
 * In floats, LANES invocations lie side by side along the rows, each with TM rows LANES apart and TN columns; those of
 * a subgroup have the same columns, so that reading X is a broadcast. With -DDOT8 it is the same in whole numbers of 8
 * bits; X comes from quantise.comp. With -DCOOPMAT a subgroup has TM by TN cooperative matrices in half floats, summed in
 * floats; X comes from halve.comp. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#ifdef COOPMAT
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
#define STEP_BINDING 0
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint LANES = 32;
layout(constant_id = 2) const uint TM = 2;
layout(constant_id = 3) const uint TN = 16;
layout(constant_id = 4) const uint DEPTH = 4;
layout(constant_id = 5) const uint SUBGROUPS = 0; /* 1: a subgroup has exactly LANES invocations */
layout(constant_id = 6) const uint GATED = 0;     /* 1: two weights */
layout(constant_id = 7) const uint SHAPE = 0x101010; /* of a cooperative matrix: M, N and K, a byte each */
#ifdef COOPMAT
const uint M = SHAPE & 255, N = SHAPE >> 8 & 255, K = SHAPE >> 16;
const uint ROWS = M * TM, STRIP = N * TN, AT_ONCE = N; /* columns of a subgroup, and those stored at once */
const uint STRIDE = 4 * DEPTH + 8;                     /* halves */
#else
const uint ROWS = LANES * TM, STRIP = TN, AT_ONCE = 4;
const uint STRIDE = DEPTH + 1; /* quads, four bytes with -DDOT8; an odd number: rows begin in different banks */
#endif
const uint STRIPS = gl_WorkGroupSize.x / LANES, COLUMNS = STRIPS * STRIP, SUMS = TN * TM;
#include "lib/step.glsl"
#include "lib/product.glsl"
#include "lib/tile.glsl"

#ifdef DOT8
#include "lib/dot8.glsl"
const uint SUBS = 4 * DEPTH / SUB_LEN, BLOCKS = DEPTH / 8; /* of a row, of a column */
shared uint w_tile[ROWS * STRIDE];
shared vec2 w_scale[SUBS * ROWS]; // of each sub-block: scale and minimum
shared uint x_tile[COLUMNS * STRIDE];
shared vec4 x_scale[BLOCKS * COLUMNS]; // of each 32: scale, and scale * sums of both halves
#elif defined(COOPMAT)
shared float16_t w_tile[ROWS * STRIDE];
shared float16_t x_tile[COLUMNS * STRIDE];
shared float result[STRIPS * N * ROWS];
#else
shared vec4 w_tile[ROWS * STRIDE];
shared vec4 x_tile[COLUMNS * STRIDE];
#endif

/* ---- tiles ---- */

/* Byte at which row r of the tile begins in its `matrix`. */
uint row_begin(Tile tile, uint r)
{
    matrix = GATED == 1 && r >= ROWS / 2 ? 1 : 0;
    uint row = tile.weight_row + min(tile.row + (GATED == 1 ? r % (ROWS / 2) : r), tile.n_rows - 1);
    return (matrix == 0 ? weight_at[product] : weight_at[1]) + row * row_bytes;
}

#ifdef DOT8
void load_weights(uint r, uint q, uint quad, Tile tile)
{
    uint at = row_begin(tile, r), i = 4 * (quad + q);
    at += i / BLOCK_LEN * BLOCK_BYTES;
    w_tile[r * STRIDE + q] = i < k ? quants4(at, i % BLOCK_LEN) : 0;
    if (4 * q % SUB_LEN == 0)
        w_scale[4 * q / SUB_LEN * ROWS + r] = i < k ? scales(at, i % BLOCK_LEN) : vec2(0.0);
}

void load_column(uint c, uint q, uint quad)
{
    uint from = x_begin[c];
    bool there = from != NONE && 4 * (quad + q) < k;
    x_tile[c * STRIDE + q] = there ? x[from + quad + q] : 0;
    uint scales_at = from + k / 4 + (quad + q) / 8 * 4;
    if (q % 8 == 0)
        x_scale[q / 8 * COLUMNS + c] =
            there ? uintBitsToFloat(uvec4(x[scales_at], x[scales_at + 1], x[scales_at + 2], 0)) : vec4(0.0);
}
#else
void load_weights(uint r, uint q, uint quad, Tile tile)
{
    vec4 v = weights_of(row_begin(tile, r), 4 * (quad + q));
#ifdef COOPMAT
    [[unroll]] for (uint j = 0; j < 4; j++)
        w_tile[r * STRIDE + 4 * q + j] = float16_t(v[j]);
#else
    w_tile[r * STRIDE + q] = v;
#endif
}

void load_column(uint c, uint q, uint quad)
{
    uint from = x_begin[c];
    vec4 v = from == NONE ? vec4(0.0) : column_of(from, 4 * (quad + q));
#ifdef COOPMAT
    [[unroll]] for (uint j = 0; j < 4; j++)
        x_tile[c * STRIDE + 4 * q + j] = float16_t(v[j]);
#else
    x_tile[c * STRIDE + q] = v;
#endif
}
#endif

/* Fills the tiles with the quads from `quad` on. */
void load_tiles(uint quad, Tile tile)
{
    for (uint e = gl_LocalInvocationIndex; e < ROWS * DEPTH; e += gl_WorkGroupSize.x)
        load_weights(e / DEPTH, e % DEPTH, quad, tile);
    for (uint e = gl_LocalInvocationIndex; e < COLUMNS * DEPTH; e += gl_WorkGroupSize.x)
        load_column(e / DEPTH, e % DEPTH, quad);
}

/* ---- products of the tiles ---- */

#ifdef DOT8
/* Adds those of the rows of `lane` and the columns of `strip`. */
void add_products(uint lane, uint strip, inout float sum[SUMS])
{
    const uint EACH_BLOCK = 32 / SUB_LEN; /* sub-blocks */
    for (uint b = 0; b < BLOCKS; b++) {
        uint a[TM * 8];
        vec2 scale[TM * EACH_BLOCK];
        [[unroll]] for (uint m = 0; m < TM; m++) {
            [[unroll]] for (uint j = 0; j < 8; j++)
                a[m * 8 + j] = w_tile[(m * LANES + lane) * STRIDE + 8 * b + j];
            [[unroll]] for (uint h = 0; h < EACH_BLOCK; h++)
                scale[m * EACH_BLOCK + h] = w_scale[(b * EACH_BLOCK + h) * ROWS + m * LANES + lane];
        }
        [[unroll]] for (uint c = 0; c < TN; c++) {
            uint four[8];
            [[unroll]] for (uint j = 0; j < 8; j++)
                four[j] = x_tile[(strip * STRIP + c) * STRIDE + 8 * b + j];
            vec4 d = x_scale[b * COLUMNS + strip * STRIP + c];
            [[unroll]] for (uint m = 0; m < TM; m++)
                [[unroll]] for (uint h = 0; h < EACH_BLOCK; h++) {
                    int whole = 0;
                    [[unroll]] for (uint j = 8 * h / EACH_BLOCK; j < 8 * (h + 1) / EACH_BLOCK; j++)
                        whole += dot8(a[m * 8 + j], four[j], 0);
                    vec2 s = scale[m * EACH_BLOCK + h];
                    float total = EACH_BLOCK == 1 ? d.y + d.z : d[1 + h];
                    uint at = c * TM + m;
                    sum[at] = fma(-s.y, total, fma(s.x * d.x, float(whole), sum[at]));
                }
        }
    }
}
#elif !defined(COOPMAT)
void add_products(uint lane, uint strip, inout float sum[SUMS])
{
    for (uint q = 0; q < DEPTH; q++) {
        vec4 a[TM];
        [[unroll]] for (uint m = 0; m < TM; m++)
            a[m] = w_tile[(m * LANES + lane) * STRIDE + q];
        [[unroll]] for (uint c = 0; c < TN; c++) {
            vec4 b = x_tile[(strip * STRIP + c) * STRIDE + q];
            [[unroll]] for (uint m = 0; m < TM; m++) {
                uint at = c * TM + m;
                sum[at] = fma(a[m].w, b.w, fma(a[m].z, b.z, fma(a[m].y, b.y, fma(a[m].x, b.x, sum[at]))));
            }
        }
    }
}
#endif

/* ---- results ---- */

#ifndef COOPMAT
/* Puts row r of a strip's columns where the tile of weights was. */
void put_sums(uint strip, uint r, vec4 v)
{
#ifdef DOT8
    [[unroll]] for (uint j = 0; j < 4; j++) /* a row has room for the columns of four strips */
        w_tile[(4 * strip + j) * ROWS + r] = floatBitsToUint(v[j]);
#else
    w_tile[strip * ROWS + r] = v;
#endif
}
#endif

/* Row r of column `at` of those that each of the strips has put there, one strip after another. */
float sum_of(uint at, uint r)
{
#ifdef DOT8
    return uintBitsToFloat(w_tile[at * ROWS + r]);
#elif defined(COOPMAT)
    return result[at * ROWS + r];
#else
    return w_tile[at / 4 * ROWS + r][at % 4];
#endif
}

/* Stores columns c to c + AT_ONCE - 1 of every strip. */
void store_columns(uint c, Tile tile)
{
    const uint rows = GATED == 1 ? ROWS / 2 : ROWS;
    for (uint e = gl_LocalInvocationIndex; e < STRIPS * AT_ONCE * rows; e += gl_WorkGroupSize.x) {
        uint r = e % rows, at = e / rows, column = at / AT_ONCE * STRIP + c + at % AT_ONCE;
        if (is_in_tile(tile, r, column)) {
            float v = sum_of(at, r), v1 = GATED == 1 ? sum_of(at, rows + r) : 0.0;
            if (SPLIT == 1)
                store_result(tile, r, column, result_of(tile, r, column, v, v1));
            else
                store_part(tile, r, column, part_of_k(), v, v1);
        }
    }
}

void main()
{
    Tile tile;
    if (!find_tile(GATED == 1 ? ROWS / 2 : ROWS, tile))
        return;
    uint lane = SUBGROUPS == 1 ? gl_SubgroupInvocationID : gl_LocalInvocationIndex % LANES;
    uint strip = SUBGROUPS == 1 ? gl_SubgroupID : gl_LocalInvocationIndex / LANES;
    uint first_quad = part_begin(part_of_k()) / 4, end_quad = (part_begin(part_of_k() + 1) + 3) / 4;
#ifdef COOPMAT
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sum[SUMS];
    [[unroll]] for (uint i = 0; i < SUMS; i++)
        sum[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
    for (uint quad = first_quad; quad < end_quad; quad += DEPTH) {
        barrier();
        load_tiles(quad, tile);
        barrier();
        for (uint i = 0; i < 4 * DEPTH; i += K) {
            coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a[TM];
            [[unroll]] for (uint m = 0; m < TM; m++)
                coopMatLoad(a[m], w_tile, m * M * STRIDE + i, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint c = 0; c < TN; c++) {
                coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b;
                coopMatLoad(b, x_tile, (strip * STRIP + c * N) * STRIDE + i, STRIDE,
                            gl_CooperativeMatrixLayoutColumnMajor);
                [[unroll]] for (uint m = 0; m < TM; m++)
                    sum[c * TM + m] = coopMatMulAdd(a[m], b, sum[c * TM + m]);
            }
        }
    }
    [[unroll]] for (uint c = 0; c < TN; c++) {
        barrier();
        [[unroll]] for (uint m = 0; m < TM; m++)
            coopMatStore(sum[c * TM + m], result, strip * N * ROWS + m * M, ROWS,
                         gl_CooperativeMatrixLayoutColumnMajor);
        barrier();
        store_columns(c * N, tile);
    }
#else
    float sum[SUMS];
    [[unroll]] for (uint i = 0; i < SUMS; i++)
        sum[i] = 0.0;
    for (uint quad = first_quad; quad < end_quad; quad += DEPTH) {
        barrier();
        load_tiles(quad, tile);
        barrier();
        add_products(lane, strip, sum);
    }
    for (uint c = 0; c < TN; c += 4) {
        barrier();
        [[unroll]] for (uint i = 0; i < TN; i += 4)
            if (i == c)
                [[unroll]] for (uint m = 0; m < TM; m++)
                    put_sums(strip, m * LANES + lane,
                             vec4(sum[i * TM + m], sum[(i + 1) * TM + m], sum[(i + 2) * TM + m], sum[(i + 3) * TM + m]));
        barrier();
        store_columns(c, tile);
    }
#endif
}
