/* The one list of matmul cases: every format with an entry in the kernel table, with 8-bit and with float
 * activations, for every instruction set of this machine. The test compares each with sums in double
 * precision; the benchmark times the same. */
#ifndef QN_TESTS_KERNELS_CASES_H
#define QN_TESTS_KERNELS_CASES_H

#include "drivers/cpu/kernels.h"

#include <stdbool.h>

struct qn_case {
    enum quern_format format;
    const struct qn_matmul_kernel *kernel; /* in the table that the visitor gets */
    bool exact;                            /* from exact[], not from fast[] */
};

/* Calls `visit` for each different kernel of the sets in qn_isa_detect(), weakest set first. */
typedef void (*qn_case_visit)(const struct qn_kernels *kernels, const struct qn_case *at, void *user);
void qn_cases(qn_case_visit visit, void *user);

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
void qn_fill_activations(enum qn_fill fill, uint64_t seed, float *x, size_t n);

/* A number generator for tests: 64 random bits. */
uint64_t qn_test_random(uint64_t *state);

#endif
