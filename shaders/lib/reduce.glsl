/* Sums over a workgroup of WORKGROUP invocations (a power of two), in the same order every time. */
shared float reduce_room[WORKGROUP];

float reduce_add(float x)
{
    uint lane = gl_LocalInvocationIndex;
    reduce_room[lane] = x;
    barrier();
    for (uint half_n = WORKGROUP / 2; half_n > 0; half_n /= 2) {
        if (lane < half_n)
            reduce_room[lane] += reduce_room[lane + half_n];
        barrier();
    }
    float sum = reduce_room[0];
    barrier();
    return sum;
}
