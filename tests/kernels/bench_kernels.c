/* Times kernels and says which fraction of the machine's measured limits they reach: every matmul kernel of
 * the CPU (cases.h), or every operation of a Vulkan device (conformance/cases.h).
 *
 *     bench_kernels [--json] [--threads N] [--seconds S] [--k K] [--rows N] [--tokens N]
 *                   [--pool MIB] [FILTER...]
 *
 *     bench_kernels --device vulkan[:N] [--disable FEATURE,...] [--exact] [--json] [--seconds S] [--k K]
 * [--rows N]
 *                   [--tokens N] [--pool MIB] [OPERATION|FORMAT...]
 *
 * FILTER: part of a kernel's name, such as "q4_k__avx512"; several must all match. Weights are taken from a
 * pool larger than the caches, so that one token reads memory as decoding does; a small pool and few rows
 * show what a kernel does from a cache. */
#include "cases.h"
#include "conformance/fill.h"
#include "limits.h"
#ifdef QN_LIMIT_KERNELS
#include "bench_device.h"
#endif

#include "base/host.h"
#include "base/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILTERS = 8, MAX_TOKENS = 512, UNIT_ROWS = 32, POOL_MIB = 768 };

struct options {
    const char *device, *disable;
    bool json, exact;
    int threads;
    double seconds;
    size_t k, rows, pool_bytes; /* 0: what suits the device */
    uint32_t tokens;            /* 0: 1, 8 and 512 */
    const char *filter[MAX_FILTERS];
    int n_filters;
    struct qn_limits limits;
    int printed;
};

struct bench {
    const struct qn_kernel_case *at;
    const uint8_t *pool;
    size_t k, row_bytes, rows, copies, x_stride;
    uint32_t tokens;
    const uint8_t *x;
    float *y;
    void *scratch[QN_BENCH_THREADS];
};

/* Threads share the rows in units, as the driver does. */
static void multiply(void *arg, int thread, int threads, uint64_t round)
{
    const struct bench *bench = arg;
    const uint8_t *w = bench->pool + round % bench->copies * bench->rows * bench->row_bytes;
    size_t units = bench->rows / UNIT_ROWS;
    size_t from = units * (size_t)thread / (size_t)threads * UNIT_ROWS;
    size_t to = units * ((size_t)thread + 1) / (size_t)threads * UNIT_ROWS;
    bench->at->kernel->run(&(struct qn_matmul_call){.w = w + from * bench->row_bytes,
                                                    .row_bytes = bench->row_bytes,
                                                    .k = bench->k,
                                                    .n_rows = (uint32_t)(to - from),
                                                    .n_tokens = bench->tokens,
                                                    .x = bench->x,
                                                    .x_stride = bench->x_stride,
                                                    .y = bench->y + from,
                                                    .y_stride = bench->rows,
                                                    .scratch = bench->scratch[thread],
                                                    .reading = bench->at->kernel->reading});
}

static void print_result(struct options *options, const struct bench *bench, double seconds)
{
    const struct qn_limits *limits = &options->limits;
    double bytes = (double)bench->rows * (double)bench->row_bytes / seconds;
    double ops = 2.0 * (double)bench->rows * (double)bench->k * bench->tokens / seconds;
    double bytes_peak = strstr(bench->at->kernel->name, "__amx_int8") ? limits->tile_ops : limits->int8_ops;
    double peak = bench->at->kernel->pack == QN_PACK_Q8 ? bytes_peak : limits->float_ops;
    double of_peak = peak > 0 ? ops / peak : 0;
    if (options->json)
        printf("%s\n  {\"kernel\": \"%s\", \"k\": %zu, \"rows\": %zu, \"tokens\": %u, \"threads\": %d, "
               "\"seconds\": %.9g, \"weight_bytes_per_second\": %.6g, \"of_read_limit\": %.4f, "
               "\"operations_per_second\": %.6g, \"of_arithmetic_limit\": %.4f}",
               options->printed ? "," : "", bench->at->kernel->name, bench->k, bench->rows, bench->tokens,
               options->threads, seconds, bytes, bytes / limits->read_bytes, ops, of_peak);
    else
        printf("%-36s k %5zu rows %6zu tokens %3u %10.1f us %6.1f GB/s %4.0f %% %7.1f GOP/s %4.0f %%\n",
               bench->at->kernel->name, bench->k, bench->rows, bench->tokens, seconds * 1e6, bytes * 1e-9,
               100 * bytes / limits->read_bytes, ops * 1e-9, 100 * of_peak);
    fflush(stdout);
    options->printed++;
}

static void *take(size_t bytes)
{
    const struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    void *memory = qn_alloc(&cb, 1, bytes);
    if (!memory) {
        fprintf(stderr, "bench_kernels: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    return memory;
}

static void give_back(void *memory)
{
    const struct quern_callbacks cb = qn_callbacks_resolve(NULL);
    qn_free(&cb, memory);
}

/* One row of random weights, repeated: its values do not change the time, nor does it matter then how the
 * rows are laid out. */
static uint8_t *make_pool(const struct options *options, enum quern_format format, struct bench *bench)
{
    bench->row_bytes = qn_format_row_bytes(format, bench->k);
    size_t one = bench->rows * bench->row_bytes;
    bench->copies = options->pool_bytes / one + 1;
    uint8_t *pool = take(one * bench->copies);
    qn_fill_weights(format, QN_FILL_RANDOM, 1, pool, bench->k);
    for (size_t i = 1; i < bench->rows * bench->copies; i++)
        memcpy(pool + i * bench->row_bytes, pool, bench->row_bytes);
    return pool;
}

static void bench_case(const struct qn_kernels *kernels, const struct qn_kernel_case *at, void *user)
{
    struct options *options = user;
    static const uint32_t some_tokens[] = {1, 8, MAX_TOKENS};
    const size_t block = qn_format_get(at->format)->block_len;
    for (int i = 0; i < options->n_filters; i++)
        if (!strstr(at->kernel->name, options->filter[i]))
            return;
    struct bench bench = {.at = at, .k = options->k / block * block, .rows = options->rows};
    uint8_t *pool = make_pool(options, at->format, &bench);
    bench.pool = pool;
    bench.x_stride = at->kernel->pack == QN_PACK_Q8 ? qn_q8_row_bytes(bench.k) : bench.k * sizeof(float);
    uint8_t *x = take(bench.x_stride * MAX_TOKENS);
    float *raw = take(bench.k * sizeof(float));
    qn_fill_activations(QN_FILL_RANDOM, 2, raw, bench.k);
    for (uint32_t t = 0; t < MAX_TOKENS; t++) {
        if (at->kernel->pack == QN_PACK_Q8)
            kernels->pack_q8(raw, bench.k, x + t * bench.x_stride);
        else
            memcpy(x + t * bench.x_stride, raw, bench.k * sizeof *raw);
    }
    bench.x = x;
    bench.y = take(bench.rows * MAX_TOKENS * sizeof(float));
    for (int i = 0; i < options->threads; i++)
        bench.scratch[i] = take(QN_MATMUL_SCRATCH);
    for (size_t i = 0; i < sizeof some_tokens / sizeof some_tokens[0]; i++) {
        bench.tokens = options->tokens ? options->tokens : some_tokens[i];
        print_result(options, &bench, qn_time_rounds(multiply, &bench, options->threads, options->seconds));
        if (options->tokens)
            break;
    }
    for (int i = 0; i < options->threads; i++)
        give_back(bench.scratch[i]);
    give_back(bench.y);
    give_back(raw);
    give_back(x);
    give_back(pool);
}

/* The number after argv[*i], at least 1. */
static double number_after(int argc, char **argv, int *i)
{
    double number = *i + 1 < argc ? strtod(argv[*i + 1], NULL) : 0;
    if (number <= 0) {
        fprintf(stderr, "bench_kernels: %s needs a number\n", argv[*i]);
        exit(2);
    }
    (*i)++;
    return number;
}

#ifdef QN_LIMIT_KERNELS
static int bench_vulkan(const struct options *options)
{
    const char *index = strchr(options->device, ':');
    struct qn_bench_device device = {
        .device = index ? (uint32_t)strtoul(index + 1, NULL, 10) : 0,
        .disable = options->disable,
        .json = options->json,
        .exact = options->exact,
        .seconds = options->seconds,
        .sizes = {.k = (uint32_t)options->k,
                  .rows = (uint32_t)options->rows,
                  .pool = options->pool_bytes,
                  .tokens = options->tokens},
    };
    for (int i = 0; i < options->n_filters; i++)
        if (!qn_op_choose(&device.choice, options->filter[i])) {
            fprintf(stderr, "bench_kernels: %s is no operation or number format\n", options->filter[i]);
            return 2;
        }
    return qn_bench_vulkan(&device);
}
#endif

static void parse(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            options->json = true;
        else if (strcmp(argv[i], "--exact") == 0)
            options->exact = true;
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            options->device = argv[++i];
        else if (strcmp(argv[i], "--disable") == 0 && i + 1 < argc)
            options->disable = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0)
            options->threads = (int)number_after(argc, argv, &i);
        else if (strcmp(argv[i], "--seconds") == 0)
            options->seconds = number_after(argc, argv, &i);
        else if (strcmp(argv[i], "--k") == 0)
            options->k = (size_t)number_after(argc, argv, &i);
        else if (strcmp(argv[i], "--rows") == 0)
            options->rows = ((size_t)number_after(argc, argv, &i) + UNIT_ROWS - 1) / UNIT_ROWS * UNIT_ROWS;
        else if (strcmp(argv[i], "--pool") == 0)
            options->pool_bytes = (size_t)number_after(argc, argv, &i) << 20;
        else if (strcmp(argv[i], "--tokens") == 0)
            options->tokens = (uint32_t)number_after(argc, argv, &i);
        else if (options->n_filters < MAX_FILTERS)
            options->filter[options->n_filters++] = argv[i];
    }
}

int main(int argc, char **argv)
{
    struct options options = {.device = "cpu", .threads = qn_cpu_count(), .seconds = 0.3};
    parse(argc, argv, &options);
    bool sizes_fit = options.tokens <= MAX_TOKENS && (options.k == 0 || options.k >= 256);
    if (options.threads > QN_BENCH_THREADS || !sizes_fit) {
        fprintf(stderr, "bench_kernels: at most %d threads and %d tokens, k at least 256\n", QN_BENCH_THREADS,
                MAX_TOKENS);
        return 2;
    }
#ifdef QN_LIMIT_KERNELS
    if (strncmp(options.device, "vulkan", 6) == 0)
        return bench_vulkan(&options);
#endif
    if (strcmp(options.device, "cpu") != 0) {
        fprintf(stderr, "bench_kernels: this build has no device %s\n", options.device);
        return 2;
    }
    options.k = options.k ? options.k : 2048;
    options.rows = options.rows ? options.rows : 8192;
    options.pool_bytes = options.pool_bytes ? options.pool_bytes : (size_t)POOL_MIB << 20;
    qn_measure_limits(qn_isa_detect(), options.threads, &options.limits);
    if (options.json)
        printf("{\"threads\": %d, \"read_bytes_per_second\": %.6g, \"int8_operations_per_second\": %.6g, "
               "\"tile_operations_per_second\": %.6g, \"float_operations_per_second\": %.6g, \"kernels\": [",
               options.threads, options.limits.read_bytes, options.limits.int8_ops, options.limits.tile_ops,
               options.limits.float_ops);
    else
        printf("%d threads; limits: reading %.1f GB/s, 8-bit %.0f GOP/s, in tiles %.0f GOP/s, float %.0f "
               "GFLOP/s\n",
               options.threads, options.limits.read_bytes * 1e-9, options.limits.int8_ops * 1e-9,
               options.limits.tile_ops * 1e-9, options.limits.float_ops * 1e-9);
    qn_kernel_cases(bench_case, &options);
    if (options.json)
        printf("\n]}\n");
    return 0;
}
