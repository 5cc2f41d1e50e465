/* Rotary positions: pairs of elements of a head turned by position times a rate. The kernel says by RATES_BINDING
 * where the rates are. */
layout(set = 0, binding = RATES_BINDING) readonly buffer Rates {
    uvec2 rate[]; // [n_dims / 2], turns a position: (x + y / 2^32) / 2^32
};

/* cos and sin of the angle of pair i. Whole turns fall out at the top of 32 bits, which leaves the angle exact to
 * 2^-32 of a turn at any position. */
vec2 angle(uint i, uint position)
{
    uint carry, low;
    umulExtended(position, rate[i].y, carry, low);
    float a = float(int(position * rate[i].x + carry)) * (6.2831853071795865 / 4294967296.0);
    return vec2(cos(a), sin(a));
}

/* In all kernels the same bits. */
vec2 rotate(vec2 pair, vec2 turn)
{
    precise vec2 turned = vec2(pair.x * turn.x - pair.y * turn.y, pair.x * turn.y + pair.y * turn.x);
    return turned;
}
