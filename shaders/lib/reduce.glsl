/* Sums and maxima over a workgroup of WORKGROUP invocations (a power of two), in the same order every time. */
shared float reduce_room[WORKGROUP];

float reduce(float x, const bool add)
{
    uint lane = gl_LocalInvocationIndex;
    reduce_room[lane] = x;
    barrier();
    for (uint half_n = WORKGROUP / 2; half_n > 0; half_n /= 2) {
        if (lane < half_n) {
            float other = reduce_room[lane + half_n];
            reduce_room[lane] = add ? reduce_room[lane] + other : max(reduce_room[lane], other);
        }
        barrier();
    }
    float all = reduce_room[0];
    barrier();
    return all;
}

float reduce_add(float x)
{
    return reduce(x, true);
}

float reduce_max(float x)
{
    return reduce(x, false);
}
