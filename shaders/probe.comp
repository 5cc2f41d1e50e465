/* No kernel: what those with -DCOOPMAT or -DCOOPMAT2 need of a compiler, in little. Who is about to compile them tries this
 * first. */
#version 450
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#ifdef COOPMAT2
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types : require
#extension GL_NV_cooperative_matrix2 : require
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint N = 16;

layout(set = 0, binding = 0) buffer Y { float y[]; };
#ifdef COOPMAT2
layout(constant_id = 2) const uint SCOPE = gl_ScopeWorkgroup;
layout(set = 0, binding = 1) readonly buffer W { uint w[]; };
layout(set = 0, binding = 2) readonly buffer X { float16_t x[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer Block { uint word; };

float16_t weight_of(const in Block unused, const in uint block[2], const in uint within[2])
{
    return float16_t(w[block[0] * N + block[1]] + within[1]);
}

float put(const in uint r, const in uint c, const in float v, const in uvec4 words)
{
    y[r * words.x + c] = v;
    return v;
}

void main()
{
    tensorLayoutNV<2, gl_CooperativeMatrixClampModeConstantNV> layout_of =
        createTensorLayoutNV(2, gl_CooperativeMatrixClampModeConstantNV);
    layout_of = setTensorLayoutDimensionNV(layout_of, N, N);
    layout_of = setTensorLayoutStrideNV(layout_of, N, 1);
    tensorViewNV<2, false, 1, 0> columns = createTensorViewNV(2, false, 1, 0);
    coopmat<float16_t, SCOPE, N, N, gl_MatrixUseA> a;
    coopmat<float16_t, SCOPE, N, N, gl_MatrixUseB> b;
    coopMatLoadTensorNV(b, x, 0, sliceTensorLayoutNV(layout_of, 0, N, 0, N), columns);
    layout_of = setTensorLayoutBlockSizeNV(layout_of, 1, 4);
    coopMatLoadTensorNV(a, w, 0, sliceTensorLayoutNV(layout_of, 0, N, 0, N), weight_of);
    coopmat<float, SCOPE, N, N, gl_MatrixUseAccumulator> sum =
        coopMatMulAdd(a, b, coopmat<float, SCOPE, N, N, gl_MatrixUseAccumulator>(0.0));
    coopMatPerElementNV(sum, sum, put, uvec4(N));
}
#else
shared float16_t tile[N * N];

void main()
{
    tile[gl_LocalInvocationIndex] = float16_t(y[gl_LocalInvocationIndex]);
    barrier();
    coopmat<float16_t, gl_ScopeSubgroup, N, N, gl_MatrixUseA> a;
    coopmat<float16_t, gl_ScopeSubgroup, N, N, gl_MatrixUseB> b;
    coopMatLoad(a, tile, 0, N, gl_CooperativeMatrixLayoutRowMajor);
    coopMatLoad(b, tile, 0, N, gl_CooperativeMatrixLayoutColumnMajor);
    coopmat<float, gl_ScopeSubgroup, N, N, gl_MatrixUseAccumulator> sum =
        coopMatMulAdd(a, b, coopmat<float, gl_ScopeSubgroup, N, N, gl_MatrixUseAccumulator>(0.0));
    coopMatStore(sum, y, 0, N, gl_CooperativeMatrixLayoutColumnMajor);
}
#endif
