/* The Vulkan driver's table. */
#include "drivers/vulkan/vulkan.h"

#include "drivers/vulkan/device.h"
#include "drivers/vulkan/manifests.h"
#include "drivers/vulkan/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- listing */

static uint64_t memory_of(const struct qn_vk_facts *facts)
{
    uint64_t most = 0;
    for (uint32_t h = 0; h < facts->memory.memoryHeapCount; h++) {
        const VkMemoryHeap *heap = &facts->memory.memoryHeaps[h];
        if ((heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && heap->size > most)
            most = heap->size;
    }
    return most;
}

static void describe(const struct qn_vk_instance *instance, const struct qn_vk_facts *facts,
                     struct quern_device_info *info)
{
    info->type = facts->type;
    snprintf(info->name, sizeof info->name, "%.120s", facts->properties.deviceName);
    snprintf(info->driver, sizeof info->driver, "%s", facts->driver);
    if (facts->missing)
        snprintf(info->features, sizeof info->features, "unusable: no %s", facts->missing);
    else
        qn_vk_features_print(facts->features, info->features, sizeof info->features);
    info->memory = memory_of(facts);
    snprintf(info->identity, sizeof info->identity, "%s", facts->identity);
    qn_vk_facts_print(instance, facts, info->facts, sizeof info->facts);
    info->vendor_id = facts->properties.vendorID;
    info->device_id = facts->properties.deviceID;
    snprintf(info->driver_name, sizeof info->driver_name, "%.60s", facts->driver_name);
    snprintf(info->driver_version, sizeof info->driver_version, "%.60s", facts->driver_version);
}

static int32_t vk_probe(const struct quern_host *host, struct quern_device_info *infos, uint32_t cap,
                        uint32_t *n, struct quern_error *err)
{
    *n = 0;
    struct qn_vk_instance instance;
    enum quern_status status = qn_vk_instance_init(&instance, host->callbacks, false, err);
    if (status)
        return status;
    struct qn_vk_shaders shaders;
    status = qn_vk_shaders_init(&shaders, host, NULL, err);
    *n = status ? 0 : instance.n_devices;
    for (uint32_t i = 0; i < *n && i < cap; i++) {
        struct qn_vk_facts facts;
        qn_vk_facts_read(&instance, i, 0, &facts);
        qn_vk_facts_limit(&facts, &shaders);
        describe(&instance, &facts, &infos[i]);
    }
    qn_vk_shaders_finish(&shaders);
    qn_vk_instance_finish(&instance);
    return status;
}

/* ---------------------------------------------------------------- device */

/* Systems reset a GPU after about 2 s, phones earlier; what it draws waits as long as a submit takes. */
static uint64_t submit_ns(const struct quern_device *device)
{
    uint64_t us = qn_vk_set(&device->settings, QN_VK_SET_SUBMIT_BUDGET);
    if (us != QN_VK_UNSET)
        return us * 1000;
    switch (device->facts.type) {
    case QUERN_DEVICE_INTEGRATED_GPU:
        return 100 * 1000000;
    case QUERN_DEVICE_DISCRETE_GPU:
        return 250 * 1000000;
    default:
        return 0;
    }
}

static int32_t vk_open(const struct quern_host *host, uint32_t index,
                       const struct quern_profile_view *profile, struct quern_device **out,
                       struct quern_error *err)
{
    *out = NULL;
    struct quern_device *device = qn_zalloc(host->callbacks, 1, sizeof *device);
    if (!device)
        return qn_fail_memory(err, "the Vulkan device");
    device->host = host;
    device->cb = host->callbacks;
    struct qn_vk_settings *settings = &device->settings;
    enum quern_status status = qn_vk_settings_read(profile, settings, err);
    uint64_t import = qn_vk_set(settings, QN_VK_SET_MEMORY_IMPORT);
    device->imports = import != QN_VK_IMPORT_OFF;
    device->unsure_import = import == QN_VK_IMPORT_MEASURE || import == QN_VK_UNSET;
    bool has_shaders = false;
    if (!status) {
        status = qn_vk_shaders_init(&device->shaders, host, settings->shaders, err);
        has_shaders = !status;
    }
    if (!status)
        status = qn_vk_device_init(device, index, err);
    settings->shaders = settings->identity = NULL; /* the caller's */
    memset(settings->origin, 0, sizeof settings->origin);
    if (status) {
        if (has_shaders)
            qn_vk_shaders_finish(&device->shaders);
        qn_free(host->callbacks, device);
    } else {
        device->submit_ns = submit_ns(device);
        *out = device;
    }
    return status;
}

static void vk_close(struct quern_device *device)
{
    if (!device)
        return;
    qn_vk_device_finish(device);
    qn_vk_shaders_finish(&device->shaders);
    qn_free(device->cb, device);
}

/* The use that buffers of a heap have: all are made for kernels, and, where the host needs help to see these,
 * a second heap for that. */
static const enum qn_vk_use heap_use[] = {QN_VK_USE_DEVICE, QN_VK_USE_HOST};

static void list_heaps(const struct quern_device *device, struct quern_caps *caps)
{
    const VkPhysicalDeviceMemoryProperties *memory = &device->facts.memory;
    bool discrete = device->facts.type == QUERN_DEVICE_DISCRETE_GPU;
    uint32_t first = 0;
    for (uint32_t i = 0; i < QN_LEN(heap_use); i++) {
        const VkMemoryType *type =
            &memory->memoryTypes[qn_vk_memory_type(&device->facts, heap_use[i], device->memory.allowed)];
        bool visible = type->propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
        bool cached = type->propertyFlags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
        bool shared = !discrete || !(type->propertyFlags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
        caps->heap[i].flags = (visible ? QUERN_HEAP_HOST_VISIBLE : 0) |
                              (shared ? QUERN_HEAP_HOST_SHARED : 0) |
                              (visible && !cached ? QUERN_HEAP_SLOW_READ : 0);
        caps->heap[i].pad = 0;
        caps->heap[i].bytes = memory->memoryHeaps[type->heapIndex].size;
        if (i == 0)
            first = caps->heap[0].flags;
    }
    caps->heap[0].flags |= device->imports ? QUERN_HEAP_IMPORT : 0;
    caps->heap[0].flags |= device->unsure_import ? QUERN_HEAP_MEASURE : 0;
    caps->n_heaps = first & QUERN_HEAP_HOST_VISIBLE && !(first & QUERN_HEAP_SLOW_READ) ? 1 : 2;
}

static void vk_caps(struct quern_device *device, struct quern_caps *caps)
{
    const VkPhysicalDeviceLimits *limits = &device->facts.properties.limits;
    list_heaps(device, caps);
    caps->weight_formats = 0;
    for (uint32_t f = 0; f < QUERN_FORMAT_END; f++)
        if (qn_vk_module_find(QN_VK_MATVEC + f))
            caps->weight_formats |= (uint64_t)1 << f;
    caps->kv_formats = (uint64_t)1 << QUERN_F32 | (uint64_t)1 << QUERN_F16 | (uint64_t)1 << QUERN_Q8_0;
    caps->layouts = 1u << QUERN_LAYOUT_FILE;
    caps->offset_align =
        limits->minStorageBufferOffsetAlignment > 64 ? (uint32_t)limits->minStorageBufferOffsetAlignment : 64;
    caps->max_buffer_bytes = device->facts.max_buffer;
    caps->max_pool_bytes = caps->max_value_bytes = limits->maxStorageBufferRange;
    caps->max_pools = QN_VK_POOLS;
    caps->flags = QUERN_CAPS_AHEAD;
}

static void vk_supports(struct quern_device *device, const struct quern_graph *graph, uint8_t *mask)
{
    for (uint32_t i = 0; i < graph->n_nodes; i++)
        mask[i] = qn_vk_op_supported(device, graph, i);
}

/* ---------------------------------------------------------------- buffers */

static int32_t vk_buffer_create(struct quern_device *device, uint32_t heap, uint64_t bytes,
                                struct quern_buffer **buffer, struct quern_error *err)
{
    *buffer = NULL;
    if (heap >= QN_LEN(heap_use) || bytes == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "a buffer of %llu bytes in heap %u", (unsigned long long)bytes,
                       heap);
    return qn_vk_buffer_create(device, heap_use[heap], bytes, buffer, err);
}

static int32_t vk_buffer_import(struct quern_device *device, void *memory, uint64_t bytes,
                                struct quern_buffer **buffer, struct quern_error *err)
{
    return qn_vk_buffer_import(device, memory, bytes, buffer, err);
}

static int32_t vk_buffer_create_parts(struct quern_device *device, uint64_t bytes, uint64_t part_bytes,
                                      struct quern_buffer **buffer, struct quern_error *err)
{
    *buffer = NULL;
    if (bytes == 0 || part_bytes == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "a buffer of %llu bytes in parts of %llu",
                       (unsigned long long)bytes, (unsigned long long)part_bytes);
    return qn_vk_buffer_create_parts(device, bytes, part_bytes, buffer, err);
}

/* The heap of Vulkan's that a heap is part of. */
static uint32_t heap_index(const struct quern_device *device, uint32_t heap)
{
    uint32_t type = qn_vk_memory_type(&device->facts, heap_use[heap], device->memory.allowed);
    return device->facts.memory.memoryTypes[type].heapIndex;
}

static void vk_memory(struct quern_device *device, uint32_t heap, struct quern_memory *memory)
{
    uint32_t index = heap_index(device, heap);
    memory->n_allocations = device->memory.n_blocks;
    memory->asked = device->memory.asked[index];
    memory->taken = device->memory.taken[index];
    memory->left = qn_vk_memory_left(device, index);
    if (memory->struct_size >= sizeof *memory)
        for (memory->same_as = 0; heap_index(device, memory->same_as) != index;)
            memory->same_as++;
}

static void vk_buffer_destroy(struct quern_device *device, struct quern_buffer *buffer)
{
    (void)qn_vk_idle(device);
    qn_vk_buffer_destroy(device, buffer);
}

static void *vk_buffer_map(struct quern_device *device, struct quern_buffer *buffer)
{
    return buffer->map;
}

static int32_t vk_copy(struct quern_device *device, struct quern_buffer *dst, uint64_t dst_offset,
                       struct quern_buffer *src, uint64_t src_offset, uint64_t bytes, uint64_t *point,
                       struct quern_error *err)
{
    return qn_vk_copy(device, dst, dst_offset, src, src_offset, bytes, point, err);
}

static int32_t vk_wait(struct quern_device *device, uint64_t point, uint64_t timeout_ns,
                       struct quern_error *err)
{
    return qn_vk_wait(device, point, timeout_ns, err);
}

static uint32_t vk_phases(struct quern_device *device, struct quern_phase *phases, uint32_t cap)
{
    static const char *const names[QN_VK_PHASE_END] = {
        "instance", "device", "compile GLSL", "make pipelines", "disk cache", "recording", "first runs"};
    qn_mutex_lock(&device->shaders.lock);
    device->phases[QN_VK_PHASE_GLSL].n = device->shaders.n_compiled;
    device->phases[QN_VK_PHASE_GLSL].ns = device->shaders.compile_ns;
    qn_mutex_unlock(&device->shaders.lock);
    for (uint32_t i = 0; i < QN_VK_PHASE_END && i < cap; i++) {
        phases[i] = device->phases[i];
        snprintf(phases[i].name, sizeof phases[i].name, "%s", names[i]);
    }
    return QN_VK_PHASE_END;
}

static const struct quern_driver quern_driver_vulkan = {
    .struct_size = sizeof(struct quern_driver),
    .abi = QUERN_DRIVER_ABI,
    .name = "vulkan",
    .probe = vk_probe,
    .open = vk_open,
    .close = vk_close,
    .caps = vk_caps,
    .supports = vk_supports,
    .buffer_create = vk_buffer_create,
    .buffer_import = vk_buffer_import,
    .buffer_destroy = vk_buffer_destroy,
    .buffer_map = vk_buffer_map,
    .copy = vk_copy,
    .prepare = qn_vk_prepare,
    .release = qn_vk_release,
    .run = qn_vk_run,
    .wait = vk_wait,
    .times = qn_vk_times,
    .phases = vk_phases,
    .examine = qn_vk_examine,
#if !defined(_WIN32) && !defined(__APPLE__)
    .identify = qn_vk_identify,
    .confine = qn_vk_confine,
#endif
    .buffer_create_parts = vk_buffer_create_parts,
    .memory = vk_memory,
    .tunables = qn_vk_tunables,
    .check = qn_vk_check,
};

const struct quern_driver *quern_vulkan_driver_get(uint32_t abi)
{
    return abi == QUERN_DRIVER_ABI ? &quern_driver_vulkan : NULL;
}
