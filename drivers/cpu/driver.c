/* The CPU driver's table: device, buffers, copies. Segments are in prepare.c and run.c. */
#include "drivers/cpu/cpu.h"

#include "base/file.h"
#include "base/thread.h"
#include "drivers/cpu/device.h"
#include "drivers/cpu/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <unistd.h>
#endif

enum { OFFSET_ALIGN = 64, LARGE_BYTES = 8 << 20 };

uint64_t qn_cpu_memory(void)
{
#if defined(_WIN32)
    MEMORYSTATUSEX memory = {.dwLength = sizeof memory};
    return GlobalMemoryStatusEx(&memory) ? memory.ullTotalPhys : 0;
#else
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
#endif
}

/* ---------------------------------------------------------------- device */

static int32_t cpu_probe(const struct quern_host *host, struct quern_device_info *infos, uint32_t cap,
                         uint32_t *n, struct quern_error *err)
{
    *n = 1;
    if (cap < 1)
        return QUERN_OK;
    struct quern_device_info *info = &infos[0];
    info->type = QUERN_DEVICE_CPU;
    qn_cpu_name(info->name, sizeof info->name);
    qn_cpu_identity(info->identity, sizeof info->identity);
    snprintf(info->driver, sizeof info->driver, "cpu %d", QUERN_DRIVER_ABI);
    qn_isa_names(qn_isa_detect(), info->features, sizeof info->features);
    info->memory = qn_cpu_memory();
    snprintf(info->driver_name, sizeof info->driver_name, "cpu");
    snprintf(info->driver_version, sizeof info->driver_version, "%s", QN_VERSION);
    return QUERN_OK;
}

static void cpu_close(struct quern_device *device)
{
    if (!device)
        return;
    const struct quern_callbacks *cb = device->cb;
    qn_pool_destroy(cb, &device->pool);
    for (int i = 0; i < QN_AREA_END; i++)
        qn_free(cb, device->area[i].data);
    if (device->workers)
        qn_free(cb, device->workers[0].scratch);
    qn_free(cb, device->workers);
    qn_free(cb, device);
}

/* Those of the sets that may be used; for the weights of some formats, of weaker ones alone. */
static void choose_kernels(struct qn_kernels *kernels, const struct qn_cpu_settings *settings)
{
    qn_kernels_init(kernels, settings->isa);
    for (uint32_t f = 0; f < QUERN_FORMAT_END; f++) {
        struct qn_kernels weaker;
        uint32_t isa = settings->isa & settings->isa_of[f];
        if (isa != settings->isa)
            qn_kernels_init(&weaker, isa);
        const struct qn_reading *reading = &settings->reading[f];
        for (uint32_t layout = 0; layout < QUERN_LAYOUT_END; layout++) {
            struct qn_matmul_kernel *kernel = &kernels->fast[layout][f];
            if (isa != settings->isa)
                *kernel = weaker.fast[layout][f];
            kernel->reading.cache_bytes = settings->cache_bytes;
            if (reading->columns != UINT32_MAX)
                kernel->reading.columns = reading->columns;
            if (reading->streams != UINT32_MAX)
                kernel->reading.streams = reading->streams;
            if (reading->ahead_bytes != UINT32_MAX)
                kernel->reading.ahead_bytes = reading->ahead_bytes;
        }
    }
}

static int32_t cpu_open(const struct quern_host *host, uint32_t index,
                        const struct quern_profile_view *profile, struct quern_device **out,
                        struct quern_error *err)
{
    *out = NULL;
    if (index != 0)
        return qn_fail(err, QUERN_ERR_PARAM, "there is no CPU device %u; the only one is 0", index);
    struct qn_cpu_settings settings;
    int32_t status = (int32_t)qn_cpu_settings_read(profile, &settings, err);
    if (status)
        return status;
    struct quern_device *device = qn_zalloc(host->callbacks, 1, sizeof *device);
    if (!device)
        return qn_fail_memory(err, "the CPU device");
    device->cb = host->callbacks;
    device->in_file_layout = settings.in_file_layout;
    choose_kernels(&device->kernels, &settings);
    device->workers = qn_zalloc(device->cb, settings.threads, sizeof *device->workers);
    if (!device->workers)
        status = qn_fail_memory(err, "the CPU device");
    else
        status = qn_pool_create(device->cb, &device->pool, settings.threads,
                                settings.bind ? &settings.cpus : NULL, err);
    if (status) {
        cpu_close(device);
        return status;
    }
    for (uint32_t i = 0; i < settings.threads; i++)
        device->workers[i].index = i;
    *out = device;
    return QUERN_OK;
}

static void cpu_caps(struct quern_device *device, struct quern_caps *caps)
{
    caps->n_heaps = 1;
    caps->heap[0].flags = QUERN_HEAP_HOST_VISIBLE | QUERN_HEAP_HOST_SHARED | QUERN_HEAP_IMPORT;
    caps->heap[0].pad = 0;
    caps->heap[0].bytes = qn_cpu_memory();
    caps->weight_formats = 0;
    for (uint32_t f = 0; f < QUERN_FORMAT_END; f++)
        if (device->kernels.dequantise[f] && device->kernels.fast[QUERN_LAYOUT_FILE][f].run &&
            device->kernels.exact[f].run)
            caps->weight_formats |= (uint64_t)1 << f;
    caps->kv_formats = QN_CPU_KV_FORMATS;
    caps->layouts = 1u << QUERN_LAYOUT_FILE | 1u << QUERN_LAYOUT_ROWS16;
    caps->rows16_formats = 0;
    for (uint32_t f = 0; f < QUERN_FORMAT_END; f++)
        if (device->kernels.fast[QUERN_LAYOUT_ROWS16][f].run)
            caps->rows16_formats |= (uint64_t)1 << f & ~device->in_file_layout;
    caps->offset_align = OFFSET_ALIGN;
    caps->max_buffer_bytes = SIZE_MAX / 2;
    caps->flags = QUERN_CAPS_ORIGINS;
}

static void cpu_supports(struct quern_device *device, const struct quern_graph *graph, uint8_t *mask)
{
    for (uint32_t i = 0; i < graph->n_nodes; i++) {
        struct quern_error err;
        struct qn_op op;
        mask[i] = qn_op_describe(graph, i, &device->kernels, &op, &err) == QUERN_OK;
    }
}

/* ---------------------------------------------------------------- buffers */

static int32_t make_buffer(struct quern_device *device, void *data, uint64_t bytes, bool imported,
                           struct quern_buffer **out, struct quern_error *err)
{
    struct quern_buffer *buffer = data ? qn_alloc(device->cb, 1, sizeof *buffer) : NULL;
    if (!buffer)
        return qn_fail(err, QUERN_ERR_MEMORY, "out of memory for a buffer of %llu bytes",
                       (unsigned long long)bytes);
    *buffer = (struct quern_buffer){.data = data, .bytes = bytes, .imported = imported};
    *out = buffer;
    return QUERN_OK;
}

static int32_t cpu_buffer_create(struct quern_device *device, uint32_t heap, uint64_t bytes,
                                 struct quern_buffer **out, struct quern_error *err)
{
    *out = NULL;
    if (heap != 0 || bytes == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "a buffer of %llu bytes in heap %u", (unsigned long long)bytes,
                       heap);
    void *data = bytes <= SIZE_MAX / 2 ? qn_alloc(device->cb, (size_t)bytes, 1) : NULL;
    if (data && bytes >= LARGE_BYTES)
        qn_memory_large_pages(data, bytes);
    int32_t status = make_buffer(device, data, bytes, false, out, err);
    if (status)
        qn_free(device->cb, data);
    return status;
}

static int32_t cpu_buffer_import(struct quern_device *device, void *memory, uint64_t bytes,
                                 struct quern_buffer **out, struct quern_error *err)
{
    *out = NULL;
    if (!memory)
        return qn_fail(err, QUERN_ERR_PARAM, "no memory to import");
    return make_buffer(device, memory, bytes, true, out, err);
}

static void cpu_buffer_destroy(struct quern_device *device, struct quern_buffer *buffer)
{
    if (buffer && !buffer->imported)
        qn_free(device->cb, buffer->data);
    qn_free(device->cb, buffer);
}

static void *cpu_buffer_map(struct quern_device *device, struct quern_buffer *buffer)
{
    return buffer->data;
}

static bool lies_within(const struct quern_buffer *buffer, uint64_t offset, uint64_t bytes)
{
    return offset <= buffer->bytes && bytes <= buffer->bytes - offset;
}

static int32_t cpu_copy(struct quern_device *device, struct quern_buffer *dst, uint64_t dst_offset,
                        struct quern_buffer *src, uint64_t src_offset, uint64_t bytes, uint64_t *point,
                        struct quern_error *err)
{
    if (!lies_within(dst, dst_offset, bytes) || !lies_within(src, src_offset, bytes))
        return qn_fail(err, QUERN_ERR_PARAM, "a copy of %llu bytes leaves its buffers",
                       (unsigned long long)bytes);
    memmove(dst->data + dst_offset, src->data + src_offset, (size_t)bytes);
    *point = ++device->point;
    return QUERN_OK;
}

/* ---------------------------------------------------------------- work */

/* Calls return when their work is done. */
static int32_t cpu_wait(struct quern_device *device, uint64_t point, uint64_t timeout_ns,
                        struct quern_error *err)
{
    if (point > device->point)
        return qn_fail(err, QUERN_ERR_PARAM, "work %llu has not been submitted", (unsigned long long)point);
    return QUERN_OK;
}

static uint32_t cpu_times(struct quern_device *device, struct quern_prepared *prepared,
                          struct quern_node_time *times, uint32_t cap)
{
    uint32_t n = prepared->n_times < cap ? prepared->n_times : cap;
    if (n > 0)
        memcpy(times, prepared->times, n * sizeof *times);
    return prepared->n_times;
}

static uint32_t cpu_phases(struct quern_device *device, struct quern_phase *phases, uint32_t cap)
{
    if (device->laying_out.n == 0)
        return 0;
    if (cap > 0) {
        phases[0] = device->laying_out;
        snprintf(phases[0].name, sizeof phases[0].name, "lay out weights");
    }
    return 1;
}

static const struct quern_driver quern_driver_cpu = {
    .struct_size = sizeof(struct quern_driver),
    .abi = QUERN_DRIVER_ABI,
    .name = "cpu",
    .probe = cpu_probe,
    .open = cpu_open,
    .close = cpu_close,
    .caps = cpu_caps,
    .supports = cpu_supports,
    .buffer_create = cpu_buffer_create,
    .buffer_import = cpu_buffer_import,
    .buffer_destroy = cpu_buffer_destroy,
    .buffer_map = cpu_buffer_map,
    .copy = cpu_copy,
    .prepare = qn_cpu_prepare,
    .release = qn_cpu_release,
    .run = qn_cpu_run,
    .wait = cpu_wait,
    .times = cpu_times,
    .phases = cpu_phases,
    .weights_prepare = qn_cpu_weights_prepare,
    .tunables = qn_cpu_tunables,
};

const struct quern_driver *quern_cpu_driver_get(uint32_t abi)
{
    return abi == QUERN_DRIVER_ABI ? &quern_driver_cpu : NULL;
}
