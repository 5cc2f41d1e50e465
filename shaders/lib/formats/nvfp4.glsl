/* Four UE4M3 scales of 16 weights each, then 8 bytes of E2M1 for each 16 weights: low nibbles the first 8, high nibbles
 * the last 8. scale * element */
#define BLOCK_LEN   64
#define BLOCK_BYTES 36
#include "e2m1.glsl"

/* Half the value of an unsigned E4M3: 4 bits of exponent (bias 7), 3 of mantissa; the sign bit is ignored. The NaN
 * pattern 0x7f counts as 0. */
float ue4m3_half(uint x)
{
    x &= 127u;
    if (x == 127u)
        return 0.0;
    if (x < 8u)
        return float(x) * 0.0009765625; /* 2^-10 */
    return uintBitsToFloat((x << 20) + (119u << 23));
}

vec4 decode4(uint at, uint i)
{
    uint group = i / 16u;
    float scale = ue4m3_half(weight_u8(at + group));
    ivec4 doubled = e2m1_doubled(weight_word(at + 4u + 8u * group + i % 8u) >> i % 16u / 8u * 4u);
    precise vec4 v = vec4(doubled) * scale;
    return v;
}
