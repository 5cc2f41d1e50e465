/* OCP MX: E8M0 scale, 16 bytes of E2M1 in the order of Q4_0. 2^(e - 127) * element. Blocks are at any address. */
#define BLOCK_LEN   32
#define BLOCK_BYTES 17
#include "e2m1.glsl"

/* doubled * 2^(e - 128) for e of 0 and 1, whose factor, and some of whose results, are subnormal: a device may flush
 * those in arithmetic, so the result is put together from bits. Less 128 in its exponent, a float is divided by
 * 2^128. */
float mxfp4_tiny(int doubled, uint e)
{
    uint steps = uint(abs(doubled)) << e; /* of 2^-128 */
    uint bits = steps < 4u ? steps << 21 : floatBitsToUint(float(steps)) - (128u << 23);
    return uintBitsToFloat(bits | (doubled < 0 ? 0x80000000u : 0u));
}

vec4 decode4(uint at, uint i)
{
    uint e = weight_u8(at);
    ivec4 doubled = e2m1_doubled(weight_u32(at + 1u + i % 16u) >> i / 16u * 4u);
    if (e < 2u)
        return vec4(mxfp4_tiny(doubled.x, e), mxfp4_tiny(doubled.y, e), mxfp4_tiny(doubled.z, e),
                    mxfp4_tiny(doubled.w, e));
    precise vec4 v = vec4(doubled) * uintBitsToFloat((e - 1u) << 23);
    return v;
}
