/* See bench_device.h. */
#include "bench_device.h"
#include "limits.h"

#include "base/clock.h"
#include "base/host.h"
#include "drivers/vulkan/vulkan.h"

#include <stdio.h>

struct bench {
    struct qn_bench_device options;
    struct quern_callbacks callbacks;
    struct quern_host host;
    const struct quern_driver *driver;
    struct quern_device *device;
    uint64_t formats;
    struct qn_limits limits;
    int printed;
};

static void print_result(struct bench *bench, const char *name, const struct qn_node_work *work,
                         double seconds)
{
    const struct qn_limits *limits = &bench->limits;
    double bytes = (double)work->bytes / seconds, ops = (double)work->ops / seconds;
    double of_memory = limits->read_bytes > 0 ? bytes / limits->read_bytes : 0;
    double of_floats = limits->float_ops > 0 ? ops / limits->float_ops : 0;
    double of_matrices = limits->matrix_ops > 0 ? ops / limits->matrix_ops : 0;
    if (bench->options.json)
        printf("%s\n  {\"case\": \"%s\", \"seconds\": %.6g, \"bytes_per_second\": %.6g, \"of_read_limit\": "
               "%.4f, "
               "\"operations_per_second\": %.6g, \"of_float_limit\": %.4f, \"of_matrix_limit\": %.4f}",
               bench->printed ? "," : "", name, seconds, bytes, of_memory, ops, of_floats, of_matrices);
    else
        printf("%10.1f us %8.1f GB/s %4.0f %% %9.1f GFLOP/s %4.0f %% %4.0f %%  %s\n", seconds * 1e6,
               bytes * 1e-9, 100 * of_memory, ops * 1e-9, 100 * of_floats, 100 * of_matrices, name);
    fflush(stdout);
    bench->printed++;
}

static void visit(const struct qn_op_case *listed, void *user)
{
    struct bench *bench = user;
    struct qn_op_case at = *listed;
    struct qn_case c;
    struct quern_error err = {.text = ""};
    char name[256];
    double seconds;
    bool kv = at.op == QUERN_OP_ATTENTION || at.op == QUERN_OP_KV_STORE;
    at.exact = bench->options.exact;
    qn_op_print(&at, name, sizeof name);
    qn_op_build(&at, &bench->callbacks, bench->driver, 1, &c);
    c.device = bench->device;
    int32_t status = qn_case_time(&c, bench->options.seconds, &seconds, &err);
    const struct qn_node_work work = qn_case_work(&c, kv ? at.kv.held[0] + (at.tokens + 1) / 2 : 0);
    if (status)
        fprintf(stderr, "bench_kernels: %s: %s\n", name, err.text);
    else
        print_result(bench, name, &work, seconds);
    qn_case_finish(&c);
}

static int32_t open_device(struct bench *bench, struct quern_error *err)
{
    bench->host = (struct quern_host){.struct_size = sizeof bench->host, .callbacks = &bench->callbacks};
    struct quern_setting setting = {"vk-disable", bench->options.disable};
    struct quern_profile_view profile = {sizeof profile, bench->options.disable ? 1 : 0, &setting};
    struct quern_device_info infos[16];
    struct quern_caps caps = {.struct_size = sizeof caps};
    uint32_t n = 0;
    for (size_t i = 0; i < QN_LEN(infos); i++)
        infos[i] = (struct quern_device_info){.struct_size = sizeof infos[i]};
    int32_t status = bench->driver->probe(&bench->host, infos, QN_LEN(infos), &n, err);
    if (!status)
        status = bench->driver->open(&bench->host, bench->options.device, &profile, &bench->device, err);
    if (status)
        return status;
    bench->driver->caps(bench->device, &caps);
    bench->formats = caps.weight_formats;
    const struct quern_device_info *info = &infos[bench->options.device];
    struct qn_op_sizes *sizes = &bench->options.sizes;
    bool software = info->type == QUERN_DEVICE_SOFTWARE;
    if (sizes->k == 0)
        sizes->k = software ? 1024 : 4096;
    if (sizes->rows == 0)
        sizes->rows = software ? 512 : 8192;
    if (sizes->pool == 0)
        sizes->pool = software ? 4 << 20 : 512 << 20;
    sizes->held = software ? 300 : 4096;
    sizes->many = software ? 64 : QN_CASE_TOKENS;
    if (!bench->options.json)
        printf("%s, %s: %s\n", info->name, info->driver, info->features);
    return QUERN_OK;
}

static void print_limits(const struct bench *bench)
{
    const struct qn_limits *limits = &bench->limits;
    if (bench->options.json)
        printf("{\"read_bytes_per_second\": %.6g, \"copy_bytes_per_second\": %.6g, "
               "\"float_operations_per_second\": %.6g, \"int8_operations_per_second\": %.6g, "
               "\"matrix_operations_per_second\": %.6g, \"cases\": [",
               limits->read_bytes, limits->copy_bytes, limits->float_ops, limits->int8_ops,
               limits->matrix_ops);
    else
        printf("limits: reading %.1f GB/s, copying %.1f GB/s, float %.0f GFLOP/s, 8-bit dot %.0f GOP/s, "
               "cooperative matrices %.0f GFLOP/s\n",
               limits->read_bytes * 1e-9, limits->copy_bytes * 1e-9, limits->float_ops * 1e-9,
               limits->int8_ops * 1e-9, limits->matrix_ops * 1e-9);
}

int qn_bench_vulkan(const struct qn_bench_device *options)
{
    struct bench bench = {.options = *options,
                          .callbacks = qn_callbacks_resolve(NULL),
                          .driver = quern_vulkan_driver_get(QUERN_DRIVER_ABI)};
    struct quern_error err = {.text = ""};
    if (!qn_measure_gpu_limits(QN_LIMIT_KERNELS, options->device, &bench.limits))
        fprintf(stderr, "bench_kernels: the limits of Vulkan device %u are not known\n", options->device);
    if (open_device(&bench, &err)) {
        fprintf(stderr, "bench_kernels: %s\n", err.text);
        return 1;
    }
    print_limits(&bench);
    for (int op = 0; op < QUERN_OP_END; op++)
        for (int f = 0; f < QUERN_FORMAT_END; f++) {
            bool once = qn_op_reads_weights((enum quern_op)op) ? bench.formats >> f & 1 : f == 0;
            if (once && qn_op_is_chosen(&options->choice, (enum quern_op)op, (enum quern_format)f))
                qn_op_bench((enum quern_op)op, (enum quern_format)f, &bench.options.sizes, visit, &bench);
        }
    if (options->json)
        printf("\n]}\n");
    bench.driver->close(bench.device);
    return 0;
}
