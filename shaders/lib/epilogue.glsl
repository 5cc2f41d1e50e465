/* What becomes of a product before it is stored: with one weight act(softcap((W x + bias) * scale)), with two
 * act(W x + bias) * (W1 x + bias1). */
#ifndef QN_EPILOGUE_GLSL
#define QN_EPILOGUE_GLSL
#include "activation.glsl"

const uint NONE = 0xffffffff;

/* The kernel has bias[], bias1[] and the push constants; `row` counts from the first row of the expert. */
float epilogue(float v, float v1, uint row, uint expert)
{
    if (bias_at != NONE)
        v += bias[bias_at + expert * n + row];
    if (bias1_at != NONE)
        v1 += bias1[bias1_at + expert * n + row];
    if (n_weights == 2)
        return activate(act, v) * v1;
    v *= scale;
    if (softcap != 0.0)
        v = softcap * (1.0 - 2.0 / (exp(2.0 * v / softcap) + 1.0));
    return activate(act, v);
}

#endif
