/* Decoding of the number format that is chosen by -DFORMAT_<NAME>, say -DFORMAT_Q4_K. Before it, the kernel defines
 * WEIGHT_WORD (weights.glsl) and, if it is for IQ formats too, GRID_WORD (grids.glsl). Every format gives
 *
 *   BLOCK_LEN, BLOCK_BYTES            weights and bytes of a block, as in runtime/formats/formats.inc
 *   vec4 decode4(uint at, uint i)     weights i to i + 3, i a multiple of 4, of the block at byte `at`
 *   float decode(uint at, uint i)     weight i
 *
 * and those whose weights are whole numbers times a scale, less a minimum, from which the others follow
 *
 *   SUB_LEN                           weights that have these in common: 16 or 32
 *   uint quants4(uint at, uint i)     the numbers of weights i to i + 3 as signed bytes
 *   vec2 scales(uint at, uint i)      scale and minimum of weight i: scale * number - minimum
 *
 * A block is at a multiple of the largest of 1, 2 and 4 that divides BLOCK_BYTES, as in a model file. Blocks of the
 * plain floats are single weights: there i may go on beyond the block, and so does decode4.
 *
 * Results are those of runtime/formats bit for bit (the bits of a NaN apart): the same products in the same order,
 * `precise` where a product and a sum could become one fused operation, and nothing that depends on whether the
 * device keeps subnormal numbers. */
#ifndef QN_FORMAT_GLSL
#define QN_FORMAT_GLSL
#include "weights.glsl"

#if defined(FORMAT_F32)
#include "formats/f32.glsl"
#elif defined(FORMAT_F16)
#include "formats/f16.glsl"
#elif defined(FORMAT_BF16)
#include "formats/bf16.glsl"
#elif defined(FORMAT_Q4_0)
#include "formats/q4_0.glsl"
#elif defined(FORMAT_Q4_1)
#include "formats/q4_1.glsl"
#elif defined(FORMAT_Q5_0)
#include "formats/q5_0.glsl"
#elif defined(FORMAT_Q5_1)
#include "formats/q5_1.glsl"
#elif defined(FORMAT_Q8_0)
#include "formats/q8_0.glsl"
#elif defined(FORMAT_Q2_K)
#include "formats/q2_k.glsl"
#elif defined(FORMAT_Q3_K)
#include "formats/q3_k.glsl"
#elif defined(FORMAT_Q4_K)
#include "formats/q4_k.glsl"
#elif defined(FORMAT_Q5_K)
#include "formats/q5_k.glsl"
#elif defined(FORMAT_Q6_K)
#include "formats/q6_k.glsl"
#elif defined(FORMAT_IQ2_XXS)
#include "formats/iq2_xxs.glsl"
#elif defined(FORMAT_IQ2_XS)
#include "formats/iq2_xs.glsl"
#elif defined(FORMAT_IQ2_S)
#include "formats/iq2_s.glsl"
#elif defined(FORMAT_IQ3_XXS)
#include "formats/iq3_xxs.glsl"
#elif defined(FORMAT_IQ3_S)
#include "formats/iq3_s.glsl"
#elif defined(FORMAT_IQ1_S)
#include "formats/iq1_s.glsl"
#elif defined(FORMAT_IQ1_M)
#include "formats/iq1_m.glsl"
#elif defined(FORMAT_IQ4_NL)
#include "formats/iq4_nl.glsl"
#elif defined(FORMAT_IQ4_XS)
#include "formats/iq4_xs.glsl"
#elif defined(FORMAT_TQ1_0)
#include "formats/tq1_0.glsl"
#elif defined(FORMAT_TQ2_0)
#include "formats/tq2_0.glsl"
#elif defined(FORMAT_MXFP4)
#include "formats/mxfp4.glsl"
#elif defined(FORMAT_NVFP4)
#include "formats/nvfp4.glsl"
#elif defined(FORMAT_Q1_0)
#include "formats/q1_0.glsl"
#elif defined(FORMAT_Q2_0)
#include "formats/q2_0.glsl"
#else
#error "format.glsl: no known -DFORMAT_<NAME>"
#endif

#ifdef SUB_LEN
vec4 decode4(uint at, uint i)
{
    vec2 scale = scales(at, i);
    precise vec4 v = scale.x * vec4(signed_bytes4(quants4(at, i))) - scale.y;
    return v;
}

float decode(uint at, uint i)
{
    vec2 scale = scales(at, i);
    precise float v = scale.x * float(bitfieldExtract(int(quants4(at, i & ~3u)), int(i & 3u) * 8, 8)) - scale.y;
    return v;
}
#elif !defined(FORMAT_PLAIN)
/* For code that wants a weight here and there; whoever reads whole rows uses decode4. */
float decode(uint at, uint i)
{
    return decode4(at, i & ~3u)[i & 3u];
}
#endif

#endif
