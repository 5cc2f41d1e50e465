/* What this machine can do, measured with small loops: the yardstick of the kernel benchmark. */
#ifndef QN_TESTS_KERNELS_LIMITS_H
#define QN_TESTS_KERNELS_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

enum { QN_BENCH_THREADS = 64 };

struct qn_limits {
    double read_bytes; /* bytes per second from memory, several streams a thread */
    double copy_bytes; /* bytes per second, read and written together; 0: not measured */
    double int8_ops;   /* 8-bit multiplications and additions per second; 0: not known for this machine */
    double tile_ops;   /* the same in tile registers (AMX); 0: the machine has none */
    double float_ops;  /* the same in single precision */
    double matrix_ops; /* the same in cooperative matrices of half floats; 0: the machine has none */
};

/* Of Vulkan device number `index`, through kernels in the folder (limit_*.comp). False: it cannot be
 * opened. */
bool qn_measure_gpu_limits(const char *folder, uint32_t index, struct qn_limits *limits);

void qn_measure_limits(uint32_t isa, int threads, struct qn_limits *limits);

/* Runs `work` in `threads` threads at once, the caller's included, again and again for about `seconds`;
 * threads meeting between rounds. Seconds of the fastest round, which other work on the machine disturbed
 * least. */
typedef void (*qn_bench_work)(void *arg, int thread, int threads, uint64_t round);
double qn_time_rounds(qn_bench_work work, void *arg, int threads, double seconds);

#endif
