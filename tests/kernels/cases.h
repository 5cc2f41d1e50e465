/* The one list of matmul cases: every format with an entry in the kernel table, with 8-bit and with float
 * activations, in every layout, for every instruction set of this machine. The test compares each with sums
 * in double precision; the benchmark times the same. */
#ifndef QN_TESTS_KERNELS_CASES_H
#define QN_TESTS_KERNELS_CASES_H

#include "drivers/cpu/kernels.h"

#include <stdbool.h>

struct qn_kernel_case {
    enum quern_format format;
    enum quern_layout layout;              /* of the weights */
    const struct qn_matmul_kernel *kernel; /* in the table that the visitor gets */
    bool exact;                            /* from exact[], not from fast[][] */
};

/* Calls `visit` for each different kernel of the sets in qn_isa_detect(), weakest set first. */
typedef void (*qn_kernel_case_visit)(const struct qn_kernels *kernels, const struct qn_kernel_case *at,
                                     void *user);
void qn_kernel_cases(qn_kernel_case_visit visit, void *user);

#endif
