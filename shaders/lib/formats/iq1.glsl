/* What IQ1_S and IQ1_M share: ternary grid points, all shifted by an eighth up or down. */

/* scale * (grid value + shift) for half a point: weights i to i + 3, i 0 or 4 */
vec4 iq1_shifted(float scale, uint index, uint i, bool down)
{
    uint digits = grid_word(index / 2u) >> index % 2u * 16u >> 2u * i; /* value + 1, two bits each */
    ivec4 values = ivec4(uvec4(digits, digits >> 2, digits >> 4, digits >> 6) & 3u) - 1;
    precise vec4 v = scale * (vec4(values) + (down ? -0.125 : 0.125));
    return v;
}
