/* Numbers inside words: bytes, bits, half floats. Needs no extension, no 8 or 16 bit storage and no denormals. */
#ifndef QN_TYPES_GLSL
#define QN_TYPES_GLSL

/* The four bytes of a word, lowest first. */
uvec4 bytes4(uint word)
{
    return uvec4(word, word >> 8, word >> 16, word >> 24) & 255u;
}

/* The same as numbers from -128 to 127. */
ivec4 signed_bytes4(uint word)
{
    return ivec4(word << 24, word << 16, word << 8, word) >> 24;
}

/* Four bytes below 128, each less a byte of `offset`. */
uint minus4(uint q, uint offset)
{
    return (q | 0x80808080u) - offset ^ 0x80808080u;
}

/* The four lowest bits of a word, each in a byte. */
uint spread4(uint word)
{
    return (word & 15u) * 0x00204081u & 0x01010101u;
}

/* The four lowest bits of a word, lowest first. */
uvec4 bits4(uint word)
{
    return uvec4(word, word >> 1, word >> 2, word >> 3) & 1u;
}

/* 1 for each of the four lowest bits that is clear, -1 for each that is set. */
vec4 signs4(uint word)
{
    return 1.0 - 2.0 * vec4(bits4(word));
}

/* A half float, exactly. Subnormal halves are normal floats, but Vulkan allows unpackHalf2x16 to flush them to
 * zero; scales of blocks of small weights are often subnormal, so those go through integers. */
float half_to_float(uint h)
{
    uint magnitude = floatBitsToUint(float(h & 0x3ffu) * 5.9604644775390625e-8); /* 2^-24 */
    float subnormal = uintBitsToFloat(magnitude | (h & 0x8000u) << 16);
    return (h & 0x7c00u) == 0u ? subnormal : unpackHalf2x16(h & 0xffffu).x;
}

/* Numbers of which the largest is `most` become half floats: the power of two by which they are multiplied, so that
 * neither large nor small ones leave the range. With it the largest is below 2^14. */
float half_factor(float most)
{
    uint exponent = clamp(floatBitsToUint(most) >> 23, 14u, 255u);
    return uintBitsToFloat((267u - exponent) << 23);
}

#endif
