/* What a device can do at most in cooperative matrices: a workgroup is one subgroup, which adds `rounds` times to 2 * 4
 * sums of its own. */
#version 450
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint M = 16;
layout(constant_id = 2) const uint N = 16;
layout(constant_id = 3) const uint K = 16;
const uint DOWN = 2, ACROSS = 4;

layout(set = 0, binding = 1) writeonly buffer Out { float result[]; };

layout(push_constant) uniform Push {
    uint rounds;
    uint never; /* a place that is not there, and a number of rounds that there never are */
};

void main()
{
    coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> a[DOWN];
    coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> b[ACROSS];
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sum[DOWN][ACROSS];
    for (uint i = 0; i < DOWN; i++)
        a[i] = coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA>(float16_t(gl_WorkGroupID.x + i));
    for (uint j = 0; j < ACROSS; j++)
        b[j] = coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB>(float16_t(0.01 * (j + 1)));
    for (uint i = 0; i < DOWN; i++)
        for (uint j = 0; j < ACROSS; j++)
            sum[i][j] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(float(j));
    for (uint r = 0; r < rounds; r++)
        for (uint i = 0; i < DOWN; i++) {
            a[i] = a[i] * float16_t(0.999); /* else compilers take the products out of the loop */
            for (uint j = 0; j < ACROSS; j++)
                sum[i][j] = coopMatMulAdd(a[i], b[j], sum[i][j]);
        }
    if (rounds == never)
        for (uint i = 0; i < DOWN; i++)
            for (uint j = 0; j < ACROSS; j++)
                coopMatStore(sum[i][j], result, (i * ACROSS + j) * M * N, N, gl_CooperativeMatrixLayoutRowMajor);
}
