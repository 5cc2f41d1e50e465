/* Activations: enum quern_activation in quern/driver.h, with the same formulas. */
float activate(uint kind, float x)
{
    switch (kind) {
    case 1: return x / (1.0 + exp(-x));
    case 2: {
        /* tanh as 1 - 2 / (exp(2 u) + 1): some drivers' tanh is not a number for large arguments */
        float u = 0.79788456080286536 * (x + 0.044715 * x * x * x);
        return 0.5 * x * (2.0 - 2.0 / (exp(2.0 * u) + 1.0));
    }
    case 3: {
        /* erfc by Chebyshev fitting, fractional error below 1.2e-7 (Press et al., Numerical Recipes, 6.2) */
        float z = abs(x) * 0.70710678118654752, t = 1.0 / (1.0 + 0.5 * z);
        float r = t * exp(-z * z - 1.26551223 +
                          t * (1.00002368 +
                               t * (0.37409196 +
                                    t * (0.09678418 +
                                         t * (-0.18628806 +
                                              t * (0.27886807 +
                                                   t * (-1.13520398 +
                                                        t * (1.48851587 + t * (-0.82215223 + t * 0.17087277)))))))));
        return 0.5 * x * (x >= 0.0 ? 2.0 - r : r);
    }
    case 4: return x / (1.0 + exp(-1.702 * x));
    case 5: return max(x, 0.0);
    case 6: return max(x, 0.0) * max(x, 0.0);
    default: return x;
    }
}
