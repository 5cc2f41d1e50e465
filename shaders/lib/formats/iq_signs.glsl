/* Signs and scales that several IQ formats share. */

/* The signs of 8 weights from the 7 bits that are stored: the eighth makes the number of set bits even. */
uint iq_signs(uint index)
{
    return index | uint(bitCount(index) & 1) << 7;
}

/* IQ2: d * (1/2 + s) / 4 */
float iq2_scale(float d, uint s)
{
    precise float scale = d * (0.5 + float(s)) * 0.25;
    return scale;
}

/* scale * grid point, negative where a bit is set */
vec4 iq_signed(float scale, uint point, uint signs)
{
    precise vec4 v = scale * vec4(bytes4(point)) * signs4(signs);
    return v;
}
