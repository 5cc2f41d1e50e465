/* What MXFP4 and NVFP4 share: E2M1 elements, a nibble each. */

/* The doubled values of the low nibbles of four bytes: 0, 1, 2, 3, 4, 6, 8, 12, then the same negative; no -0. */
ivec4 e2m1_doubled(uint q)
{
    uvec4 n = bytes4(q);
    ivec4 magnitude = ivec4(uvec4(0xc8643210u) >> (n & 7u) * 4u & 15u);
    return mix(magnitude, -magnitude, notEqual(n & 8u, uvec4(0)));
}
