/* What IQ4_NL and IQ4_XS share: nibbles that name one of 16 values. */

/* The values of the low nibbles of four bytes, as bytes. */
uint iq4_values(uint q)
{
    uvec4 n = bytes4(q & 0x0f0f0f0fu);
    uvec4 words = uvec4(grid_word(n.x >> 2), grid_word(n.y >> 2), grid_word(n.z >> 2), grid_word(n.w >> 2));
    uvec4 value = words >> (n & 3u) * 8u & 255u;
    return value.x | value.y << 8 | value.z << 16 | value.w << 24;
}
