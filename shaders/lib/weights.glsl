/* Weights as they lie in a model file, read through words. The kernel says which word WEIGHT_WORD(i) is, a `uint` of
 * a storage buffer; addresses are bytes from the first one's. What holds an addressed byte is read and no word more,
 * so a buffer ends at a multiple of 4 bytes and needs no further padding. */
#ifndef QN_WEIGHTS_GLSL
#define QN_WEIGHTS_GLSL
#include "types.glsl"

/* At any address. */
uint weight_u8(uint at)
{
    return bitfieldExtract(WEIGHT_WORD(at >> 2), int(at & 3u) * 8, 8);
}

/* At an even address. */
uint weight_u16(uint at)
{
    return bitfieldExtract(WEIGHT_WORD(at >> 2), int(at & 2u) * 8, 16);
}

/* At a multiple of 4. */
uint weight_word(uint at)
{
    return WEIGHT_WORD(at >> 2);
}

/* At any address. */
uint weight_u32(uint at)
{
    uint shift = (at & 3u) * 8u, low = WEIGHT_WORD(at >> 2);
    return shift == 0u ? low : low >> shift | WEIGHT_WORD((at >> 2) + 1u) << (32u - shift);
}

/* A half float at an even address. */
float weight_half(uint at)
{
    return half_to_float(weight_u16(at));
}

/* Two at a multiple of 4. */
vec2 weight_half2(uint at)
{
    uint word = weight_word(at);
    return vec2(half_to_float(word & 0xffffu), half_to_float(word >> 16));
}

#endif
