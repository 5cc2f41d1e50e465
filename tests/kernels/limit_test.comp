/* What a device can do at most, for the benchmark: -DREAD, -DCOPY: memory; -DFMA: float arithmetic; -DDOT: 8-bit dot
 * products. An invocation does 64 loads, or `rounds` times 16 operations on four numbers each. */
#version 450
#ifdef DOT
#extension GL_EXT_spirv_intrinsics : require
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450) int dot_packed(
    int a, int b, spirv_literal int format);
#endif
layout(local_size_x = 64) in;

layout(set = 0, binding = 0) readonly buffer In { uvec4 data[]; };
layout(set = 0, binding = 1) writeonly buffer Out { uvec4 result[]; };
layout(set = 0, binding = 2) readonly buffer Unused { uint unused[]; };

layout(push_constant) uniform Push {
    uint rounds;
    uint never;  /* a sum that does not occur */
};

void main()
{
    uint i = gl_GlobalInvocationID.x;
#if defined(READ) || defined(COPY)
    uint n = gl_NumWorkGroups.x * 64;
    uvec4 sum = uvec4(0);
    for (uint k = 0; k < 64; k++) {
#ifdef COPY
        result[i + k * n] = data[i + k * n];
#else
        sum ^= data[i + k * n];
#endif
    }
    if (sum.x == never)
        result[i] = sum;
#elif defined(FMA)
    vec4 a = vec4(i, i + 1, i + 2, i + 3) * 1e-9, s[16];
    for (uint c = 0; c < 16; c++)
        s[c] = a * float(c);
    for (uint r = 0; r < rounds; r++)
        for (uint c = 0; c < 16; c++)
            s[c] = s[c] * a + a;
    vec4 sum = vec4(0);
    for (uint c = 0; c < 16; c++)
        sum += s[c];
    if (floatBitsToUint(sum.x + sum.y + sum.z + sum.w) == never)
        result[i] = floatBitsToUint(sum);
#else
    ivec4 a = ivec4(i, i * 3, i * 5, i * 7) | 0x01010101, s[16];
    for (uint c = 0; c < 16; c++)
        s[c] = a * int(c);
    for (uint r = 0; r < rounds; r++)
        for (uint c = 0; c < 16; c++)
            for (uint e = 0; e < 4; e++)
                s[c][e] += dot_packed(a[e], s[c][e], 0);
    ivec4 sum = ivec4(0);
    for (uint c = 0; c < 16; c++)
        sum ^= s[c];
    if (sum.x + sum.y + sum.z + sum.w == int(never))
        result[i] = uvec4(sum);
#endif
}
