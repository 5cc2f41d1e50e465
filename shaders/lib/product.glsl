/* What all kernels of MATMUL and MOE_MATMUL bind and are told. Before it, the kernel includes step.glsl. */
#ifndef QN_PRODUCT_GLSL
#define QN_PRODUCT_GLSL

layout(set = 0, binding = 1) readonly buffer Weight { uint w[]; };     // [k, n] or [k, n, n_expert]; of all products
layout(set = 0, binding = 2) readonly buffer Weight1 { uint w1[]; };   // the same; up, where W is the gate
#if defined(COOPMAT) || defined(COOPMAT2)
#define HALVES /* X is made of half floats, by halve.comp */
#endif
#if defined(DOT8) || defined(HALVES)
layout(set = 0, binding = 3) readonly buffer X { uint x[]; };          // of quantise.comp, halve.comp
#else
layout(set = 0, binding = 3) readonly buffer X { float x[]; };         // [k, T]
#endif
layout(set = 0, binding = 8) readonly buffer Grids { uint grid[]; };   // tables of the IQ formats
#include "result.glsl"

uint matrix; /* 0: Weight, 1: Weight1 */
#ifdef WHOLE_BLOCKS
/* WHOLE: blocks are read ahead, each word once, and their addresses are 0. */
const uint BLOCK_WORDS = 64;
uint block_word[EACH * BLOCK_WORDS], block; /* [EACH][BLOCK_WORDS]; which of them */
#define WEIGHT_WORD(i) (WHOLE ? block_word[block * BLOCK_WORDS + (i)] : matrix == 0 ? w[i] : w1[i])
#else
#define WEIGHT_WORD(i) (matrix == 0 ? w[i] : w1[i])
#endif
#define GRID_WORD(i)   grid[i]
#include "format.glsl"

#ifndef MOE
/* Sets `product`, each of which has a workgroup for every `rows` rows; the number of workgroup `group` among those of its
 * product. */
uint choose_product(uint group, uint rows)
{
    [[unroll]] for (uint i = 1; i < 3; i++) {
        uint before = (n[i - 1] + rows - 1) / rows;
        if (product == i - 1 && n[i] != 0 && group >= before) {
            group -= before;
            product = i;
        }
    }
    return group;
}
#endif

/* Number of the workgroup among those that have other columns of X. */
uint column_group()
{
    return gl_WorkGroupID.y / SPLIT;
}

/* Which of the SPLIT parts of k the workgroup has. */
uint part_of_k()
{
    return gl_WorkGroupID.y % SPLIT;
}

/* Where part number `part` of k begins, and the one before it ends. */
uint part_begin(uint part)
{
    const uint UNIT = 256; /* a multiple of the blocks of all formats, and of what kernels take of k at once */
    uint units = (k + UNIT - 1) / UNIT, each = (units + SPLIT - 1) / SPLIT;
    return SPLIT == 1 ? part * k : min(part * each * UNIT, k);
}

/* Weights i to i + 3 of the row that begins at byte row_at, 0 beyond its end; i is a multiple of 4. Formats that have
 * blocks of 32 or more have whole ones, and no tile is longer than that. */
vec4 weights_of(uint row_at, uint i)
{
#ifdef FORMAT_PLAIN
    vec4 v = vec4(0.0);
    if (i + 4 > k) {
        for (uint j = 0; i + j < k; j++)
            v[j] = decode(row_at + (i + j) * BLOCK_BYTES, 0);
        return v;
    }
#endif
    return decode4(row_at + i / BLOCK_LEN * BLOCK_BYTES, i % BLOCK_LEN);
}

/* Elements of X from column to column. */
uint column_stride()
{
#if defined(DOT8)
    return k / 8 * 3;
#elif defined(HALVES)
    return (k + 3) / 4 * 2 + 1;
#else
    return k;
#endif
}

/* What the elements of a column of X that begins at x_at are to be multiplied by. */
float column_scale(uint x_at)
{
#ifdef HALVES
    return uintBitsToFloat(x[x_at + (k + 3) / 4 * 2]);
#else
    return 1.0;
#endif
}

#ifndef DOT8
/* Elements i to i + 3 of a column of X that begins at x_at, 0 beyond its end; i is a multiple of 4. */
vec4 column_of(uint x_at, uint i)
{
#ifdef HALVES
    return i < k ? vec4(unpackHalf2x16(x[x_at + i / 2]), unpackHalf2x16(x[x_at + i / 2 + 1])) : vec4(0.0);
#else
#ifdef FORMAT_PLAIN
    vec4 v = vec4(0.0);
    if (i + 4 > k) {
        for (uint j = 0; i + j < k; j++)
            v[j] = x[x_at + i + j];
        return v;
    }
#endif
    return vec4(x[x_at + i], x[x_at + i + 1], x[x_at + i + 2], x[x_at + i + 3]);
#endif
}
#endif

#endif
