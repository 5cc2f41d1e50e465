/* The benchmark of a driver's operations, as bench_kernels.c begins it. */
#ifndef QN_TESTS_KERNELS_BENCH_DEVICE_H
#define QN_TESTS_KERNELS_BENCH_DEVICE_H

#include "conformance/cases.h"

struct qn_bench_device {
    uint32_t device;
    const char *disable; /* features, or NULL */
    bool json, exact;
    double seconds; /* for each case */
    struct qn_op_choice choice;
    struct qn_op_sizes sizes; /* 0: what fits the device */
};

/* Times the chosen operations on a Vulkan device; the program's exit code. */
int qn_bench_vulkan(const struct qn_bench_device *options);

#endif
