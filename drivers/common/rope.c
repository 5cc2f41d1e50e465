#include "drivers/common/rope.h"

#include <math.h>

/* Share of the extrapolated angle for pair i: 1 for the fast pairs, 0 for the slow, a ramp between. */
static double yarn_share(const struct quern_rope_attr *attr, uint32_t i)
{
    const double two_pi = 6.283185307179586;
    double n = attr->n_dims, log_base = 2 * log((double)attr->base);
    double low = floor(n * log(attr->n_ctx_orig / (attr->beta_fast * two_pi)) / log_base);
    double high = ceil(n * log(attr->n_ctx_orig / (attr->beta_slow * two_pi)) / log_base);
    low = fmin(fmax(low, 0), n - 1);
    high = fmin(fmax(high, 0), n - 1);
    double ramp = fmin(fmax((i - low) / fmax(0.001, high - low), 0), 1);
    return attr->ext_factor * (1 - ramp);
}

double qn_rope_step(const struct quern_rope_attr *attr, uint32_t i)
{
    double extrapolated = pow((double)attr->base, -2.0 * i / attr->n_dims);
    double interpolated = attr->freq_scale * extrapolated;
    if (attr->ext_factor == 0)
        return interpolated;
    double r = yarn_share(attr, i);
    return interpolated * (1 - r) + extrapolated * r;
}
