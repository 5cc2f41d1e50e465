/* Soft caps of scores and logits. */
#ifndef QN_SOFTCAP_GLSL
#define QN_SOFTCAP_GLSL

/* cap tanh(x / cap); cap 0: x. By the exponential, of which no argument makes NaN; near 0, where that cancels, by
 * the first terms of the series, whose next one is 17/315 t^6 of the result. */
float soft_cap(float x, float cap)
{
    if (cap == 0.0)
        return x;
    float t = x / cap, s = t * t;
    return s < 0.01 ? x * (1.0 - s * (1.0 / 3.0 - s * (2.0 / 15.0))) : cap * (1.0 - 2.0 / (exp(2.0 * t) + 1.0));
}

#endif
