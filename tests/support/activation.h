/* Activations as driver.h has them, in double precision: what tests compare with. */
#ifndef QN_TEST_SUPPORT_ACTIVATION_H
#define QN_TEST_SUPPORT_ACTIVATION_H

#include <quern/driver.h>

#include <math.h>

static inline double qn_exact_activation(uint32_t act, double x)
{
    switch (act) {
    case QUERN_ACT_SILU:
        return x / (1 + exp(-x));
    case QUERN_ACT_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case QUERN_ACT_GELU_ERF:
        return x / 2 * (1 + erf(x / sqrt(2)));
    case QUERN_ACT_GELU_QUICK:
        return x / (1 + exp(-1.702 * x));
    case QUERN_ACT_RELU:
        return fmax(x, 0);
    case QUERN_ACT_RELU2:
        return fmax(x, 0) * fmax(x, 0);
    default:
        return x;
    }
}

#endif
