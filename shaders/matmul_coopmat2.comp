/* MATMUL and, with -DMOE, MOE_MATMUL, for many columns, as in matmul.comp, by VK_NV_cooperative_matrix2.
 *
 * A workgroup has a tile of ROWS by COLUMNS of the result (lib/tile.glsl), which is one cooperative matrix; with two
 * weights it is two of half as many rows. What is loaded of W is decoded on the way, an element at a time, and X comes
 * from halve.comp, DEPTH of k at once; beyond the ends of either are zeros.
 *
 * Functions that are called for the elements of a matrix get all that differs between workgroups as arguments: compilers
 * do not see that they read what is global. */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_NV_cooperative_matrix2 : require
#define STEP_BINDING 0
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint ROWS = 64;
layout(constant_id = 2) const uint COLUMNS = 64;
layout(constant_id = 3) const uint DEPTH = 32;
layout(constant_id = 4) const uint SCOPE = gl_ScopeWorkgroup; /* or gl_ScopeSubgroup: the workgroup is one subgroup */
layout(constant_id = 6) const uint GATED = 0; /* 1: two weights */
const uint HEIGHT = GATED == 1 ? ROWS / 2 : ROWS;
#include "lib/step.glsl"
#include "lib/product.glsl"
#include "lib/tile.glsl"

layout(set = 0, binding = 3) readonly buffer Halves { float16_t x_half[]; };

/* ---- W and X ---- */

/* What a decoding function is told first: the block by which it could read. */
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Block { uint word; };

/* A weight: (product or matrix, row in what is bound, block). */
float16_t weight_of(const in Block unused, const in uint block[3], const in uint within[3])
{
    matrix = GATED == 1 ? block[0] : 0;
    return float16_t(decode(weight_at[block[0]] + block[1] * row_bytes + block[2] * BLOCK_BYTES, within[2]));
}

#ifdef MOE
/* An element of a column of the tile, which may lie anywhere: (column of the tile, element). */
float16_t element_of(const in Block unused, const in uint at[2], const in uint within[2])
{
    uint begin = x_begin[at[0]];
    return begin == NONE ? float16_t(0.0) : x_half[2 * begin + at[1]];
}
#endif

/* ---- results ---- */

/* What these functions are told of the tile; Mesa 26 does not take structures. */
uvec4 words_of(Tile tile)
{
    return uvec4(tile.row, tile.n_rows, tile.first_row, tile.expert);
}

Tile tile_of(uvec4 words)
{
    return Tile(words.x, words.y, 0, words.z, words.w);
}

float finish(const in uint r, const in uint c, const in float v, const in float v1, const in uvec4 words, const in uint of,
             const in uint part)
{
    Tile tile = tile_of(words);
    product = of;
    if (SPLIT > 1) {
        if (is_in_tile(tile, r, c))
            store_part(tile, r, c, part, v, v1);
        return 0.0;
    }
    return is_in_tile(tile, r, c) ? result_of(tile, r, c, v, v1) : 0.0;
}

float put(const in uint r, const in uint c, const in float v, const in uvec4 words, const in uint of)
{
    Tile tile = tile_of(words);
    product = of;
    if (is_in_tile(tile, r, c))
        store_result(tile, r, c, v);
    return v;
}

void main()
{
    Tile tile;
    if (!find_tile(HEIGHT, tile))
        return;
    tensorLayoutNV<3, gl_CooperativeMatrixClampModeConstantNV> w_layout =
        createTensorLayoutNV(3, gl_CooperativeMatrixClampModeConstantNV);
    w_layout = setTensorLayoutBlockSizeNV(w_layout, 1, 1, BLOCK_LEN);
    w_layout = setTensorLayoutDimensionNV(w_layout, 3, tile.weight_row + tile.n_rows, k);
    tensorLayoutNV<2, gl_CooperativeMatrixClampModeConstantNV> x_layout =
        createTensorLayoutNV(2, gl_CooperativeMatrixClampModeConstantNV);
#ifdef MOE
    const uint first_column = 0;
    x_layout = setTensorLayoutDimensionNV(x_layout, COLUMNS, k);
#else
    const uint first_column = column_group() * COLUMNS;
    x_layout = setTensorLayoutDimensionNV(x_layout, step_rows(per_output != 0), k);
    x_layout = setTensorLayoutStrideNV(x_layout, 2 * column_stride(), 1);
#endif
    tensorViewNV<2, false, 1, 0> columns = createTensorViewNV(2, false, 1, 0);

    uint row = tile.weight_row + tile.row;
    coopmat<float, SCOPE, HEIGHT, COLUMNS, gl_MatrixUseAccumulator> sum, sum1;
    sum = coopmat<float, SCOPE, HEIGHT, COLUMNS, gl_MatrixUseAccumulator>(0.0);
    sum1 = sum;
    uint part = part_of_k(), end = part_begin(part + 1);
    for (uint i = part_begin(part); i < end; i += DEPTH) {
        coopmat<float16_t, SCOPE, HEIGHT, DEPTH, gl_MatrixUseA> a;
        coopmat<float16_t, SCOPE, DEPTH, COLUMNS, gl_MatrixUseB> b;
#ifdef MOE
        coopMatLoadTensorNV(b, x_half, 0, sliceTensorLayoutNV(x_layout, first_column, COLUMNS, i, DEPTH), columns,
                            element_of);
#else
        coopMatLoadTensorNV(b, x_half, 0, sliceTensorLayoutNV(x_layout, first_column, COLUMNS, i, DEPTH), columns);
#endif
        coopMatLoadTensorNV(a, w, 0, sliceTensorLayoutNV(w_layout, product, 1, row, HEIGHT, i, DEPTH), weight_of);
        sum = coopMatMulAdd(a, b, sum);
        if (GATED == 1) {
            coopMatLoadTensorNV(a, w, 0, sliceTensorLayoutNV(w_layout, 1, 1, row, HEIGHT, i, DEPTH), weight_of);
            sum1 = coopMatMulAdd(a, b, sum1);
        }
    }
    coopMatPerElementNV(sum, sum, finish, sum1, words_of(tile), product, part);
    if (SPLIT == 1)
        coopMatPerElementNV(sum, sum, put, words_of(tile), product);
}
