/* Sums of four products of signed bytes: SPV_KHR_integer_dot_product, for compilers that know no GLSL for it. */
#ifndef QN_DOT8_GLSL
#define QN_DOT8_GLSL
#extension GL_EXT_spirv_intrinsics : require

spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int dot8(uint a, uint b, spirv_literal int packed_format); /* OpSDot; format 0: four bytes in a word */

#endif
