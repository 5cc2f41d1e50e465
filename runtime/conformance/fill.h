/* Random weights of every format, and activations, for verifying and timing kernels: plain and adversarial.
 */
#ifndef QN_CONFORMANCE_FILL_H
#define QN_CONFORMANCE_FILL_H

#include <quern/format.h>

/* How random blocks and activations are made. */
enum qn_fill {
    QN_FILL_RANDOM,
    QN_FILL_ZERO,    /* scales or activations are 0 */
    QN_FILL_TINY,    /* subnormal scales, activations near the smallest normal number */
    QN_FILL_HUGE,    /* large scales and activations */
    QN_FILL_EXTREME, /* all bits of the weights set; activations of one magnitude, signs alternating */
    QN_FILL_OUTLIER, /* no bit of the weights set; one activation outweighs the others */
    QN_FILL_END,
};

/* Fills n weights (a multiple of the format's block length) with finite values; the same for the same seed.
 */
void qn_fill_weights(enum quern_format format, enum qn_fill fill, uint64_t seed, void *blocks, size_t n);
/* The same, random, scaled to about this root mean square, as far as the format's scales reach. */
void qn_fill_weights_of(enum quern_format format, float rms, uint64_t seed, void *blocks, size_t n);
void qn_fill_activations(enum qn_fill fill, uint64_t seed, float *x, size_t n);

/* 64 random bits. */
uint64_t qn_fill_random(uint64_t *state);
static inline uint32_t qn_fill_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)(qn_fill_random(state) % n);
}

#endif
