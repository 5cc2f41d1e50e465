/* What IQ4_NL and IQ4_XS share: nibbles that name one of 16 values. */

/* The values of the low nibbles of four bytes. */
vec4 iq4_values(uint q)
{
    uvec4 n = bytes4(q & 0x0f0f0f0fu);
    uvec4 words = uvec4(grid_word(n.x >> 2), grid_word(n.y >> 2), grid_word(n.z >> 2), grid_word(n.w >> 2));
    return vec4(ivec4(words << (24u - (n & 3u) * 8u)) >> 24);
}
