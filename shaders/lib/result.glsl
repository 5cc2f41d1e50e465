/* What all kernels of MATMUL and MOE_MATMUL are told, and where their sums go. Before it, the kernel includes step.glsl. */
#ifndef QN_RESULT_GLSL
#define QN_RESULT_GLSL

layout(set = 0, binding = 4) readonly buffer Bias { float bias[]; };   // [n]; of all products
layout(set = 0, binding = 5) readonly buffer Bias1 { float bias1[]; }; // [n]
layout(set = 0, binding = 6) readonly buffer Extra { uint extra[]; };  // residual [n, T]; expert ids; order of moe_sort
layout(set = 0, binding = 7) buffer Y { float y[]; };                  // [n, T]; SPLIT > 1: sums of parts
#ifndef MOE
layout(set = 0, binding = 9) buffer Y1 { float y1[]; };                // [n, T] of the second and third product of X
layout(set = 0, binding = 10) buffer Y2 { float y2[]; };
#endif

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

layout(constant_id = 8) const uint SPLIT = 1; /* workgroups that share the elements of a sum, for matmul_combine.comp */

uint product = 0; /* that the workgroup takes part in */

#include "epilogue.glsl"

/* What is stored as element `at` of the product, which is in row `row`, where its sums with one weight, or with both, are v
 * and v1. */
float finished(float v, float v1, uint row, uint at, uint expert)
{
    v = epilogue(v, v1, row, expert);
#ifndef MOE
    if (has_residual != 0)
        v = uintBitsToFloat(extra[at]) + residual_scale * v;
#endif
    return v;
}

void store(uint at, float v)
{
#ifndef MOE
    if (product == 1)
        y1[at] = v;
    else if (product == 2)
        y2[at] = v;
    else
#endif
        y[at] = v;
}

/* Rows of all products, which the sums of parts have side by side: [all, n_weights, SPLIT, columns]. */
uint all_rows()
{
    return n[0] + n[1] + n[2];
}

/* Where the sums of a part begin. */
uint sums_at(uint column, uint part)
{
    return (column * SPLIT + part) * n_weights * all_rows();
}

void store_sums(uint column, uint part, uint row, float v, float v1)
{
    uint at = sums_at(column, part) + (product > 0 ? n[0] : 0) + (product > 1 ? n[1] : 0) + row;
    y[at] = v;
    if (n_weights == 2)
        y[at + all_rows()] = v1;
}

#endif
