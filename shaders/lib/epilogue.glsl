/* What becomes of a product before it is stored: with one weight act(softcap((W x + bias) * scale)), with two
 * act(W x + bias) * (W1 x + bias1). */
#ifndef QN_EPILOGUE_GLSL
#define QN_EPILOGUE_GLSL
#include "activation.glsl"
#include "softcap.glsl"

const uint NONE = 0xffffffff;

/* The kernel has bias[], bias1[] and the push constants, and `product`; `row` counts from the first row of the expert. */
float epilogue(float v, float v1, uint row, uint expert)
{
    if (bias_at[product] != NONE)
        v += bias[bias_at[product] + expert * n[product] + row];
    if (n_weights == 2) {
        if (bias_at[1] != NONE)
            v1 += bias1[bias_at[1] + expert * n[product] + row];
        return activate(act, v) * v1;
    }
    return activate(act, soft_cap(v * scale, softcap));
}

#endif
