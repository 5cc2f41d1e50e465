/* How Q4_K and Q5_K begin: d, dmin, then 8 scales and 8 minima of 6 bits in three words. Byte j of the first two holds
 * scale j and minimum j; byte j of the third holds the low nibbles of scale and minimum j + 4, whose high bits are on
 * top of the first ones. */

/* d * scale and dmin * minimum of a sub-block of 32 weights */
vec2 k_scales(uint at, uint sub)
{
    uint shift = sub % 4u * 8u;
    uint first = weight_word(at + 4u) >> shift & 255u, second = weight_word(at + 8u) >> shift & 255u;
    uvec2 packed = uvec2(first, second) & 63u;
    if (sub >= 4u) {
        uint low = weight_word(at + 12u) >> shift & 255u;
        packed = uvec2((low & 15u) | first >> 6 << 4, low >> 4 | second >> 6 << 4);
    }
    precise vec2 scales = weight_half2(at) * vec2(packed);
    return scales;
}
