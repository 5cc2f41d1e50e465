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
layout(set = 0, binding = 4) readonly buffer Bias { float bias[]; };   // [n]; of all products
layout(set = 0, binding = 5) readonly buffer Bias1 { float bias1[]; }; // [n]
layout(set = 0, binding = 6) readonly buffer Extra { uint extra[]; };  // residual [n, T]; expert ids; order of moe_sort
layout(set = 0, binding = 7) buffer Y { float y[]; };                  // [n, T]
layout(set = 0, binding = 8) readonly buffer Grids { uint grid[]; };   // tables of the IQ formats
#ifndef MOE
layout(set = 0, binding = 9) buffer Y1 { float y1[]; };                // [n, T] of the second and third product of X
layout(set = 0, binding = 10) buffer Y2 { float y2[]; };
#endif

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

layout(push_constant) uniform Push {
    uint k, row_bytes;
    uint n[3];             /* rows of each product of X; 0: it is not there */
    uint weight_at[3];     /* byte of what is bound: of each product, or of Weight and Weight1 */
    uint bias_at[3];       /* the same, first element; NONE: there is none */
    uint first, count;     /* rows (MOE: experts) that are bound, of the first product */
    uint n_weights, act, per_output;
    uint n_used, per_slot; /* MOE */
    uint has_residual;
    float scale, softcap, residual_scale;
};

uint product = 0; /* that the workgroup takes part in */

#include "epilogue.glsl"

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

void store(uint at, float v)
{
    if (product == 0)
        y[at] = v;
    else if (product == 1)
        y1[at] = v;
    else
        y2[at] = v;
}
#endif

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
