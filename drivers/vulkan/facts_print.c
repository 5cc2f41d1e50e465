/* What a physical device says of itself, as lines for people. */
#include "drivers/vulkan/instance.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct lines {
    char *text;
    size_t n, size;
};

/* Appends, up to the room that there is. */
static void put(struct lines *lines, const char *fmt, ...) QUERN_PRINTF(2, 3);
static void put(struct lines *lines, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(lines->text + lines->n, lines->size - lines->n, fmt, args);
    va_end(args);
    if (n > 0)
        lines->n += (size_t)n < lines->size - lines->n ? (size_t)n : lines->size - lines->n - 1;
}

static void put_heaps(struct lines *lines, const VkPhysicalDeviceMemoryProperties *memory)
{
    static const struct {
        VkMemoryPropertyFlags flag;
        const char *name;
    } flags[] = {{VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, "local"},
                 {VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT, "visible"},
                 {VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, "coherent"},
                 {VK_MEMORY_PROPERTY_HOST_CACHED_BIT, "cached"},
                 {VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT, "lazy"}};
    for (uint32_t h = 0; h < memory->memoryHeapCount; h++) {
        put(lines, "heap %u: %llu MiB%s", h, (unsigned long long)(memory->memoryHeaps[h].size >> 20),
            memory->memoryHeaps[h].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT ? ", of the device" : "");
        for (uint32_t t = 0; t < memory->memoryTypeCount; t++) {
            if (memory->memoryTypes[t].heapIndex != h)
                continue;
            put(lines, "; type %u", t);
            for (size_t f = 0; f < QN_LEN(flags); f++)
                if (memory->memoryTypes[t].propertyFlags & flags[f].flag)
                    put(lines, " %s", flags[f].name);
        }
        put(lines, "\n");
    }
}

#ifdef VK_KHR_cooperative_matrix
static const char *component_name(VkComponentTypeKHR type)
{
    static const char *const names[] = {"f16", "f32", "f64", "s8",  "s16", "s32",
                                        "s64", "u8",  "u16", "u32", "u64"};
    return (uint32_t)type < QN_LEN(names) ? names[type] : "other";
}

static void put_shapes(struct lines *lines, const struct qn_vk_instance *instance,
                       const struct qn_vk_facts *facts)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)instance->get_proc(
            instance->handle, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    VkCooperativeMatrixPropertiesKHR shapes[64];
    uint32_t n = QN_LEN(shapes);
    if (facts->coopmat == 0 || !get)
        return;
    for (uint32_t i = 0; i < n; i++)
        shapes[i] =
            (VkCooperativeMatrixPropertiesKHR){.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    if (get(facts->handle, &n, shapes) < 0)
        return;
    put(lines, "cooperative matrices (MxNxK A B C result): ");
    for (uint32_t i = 0; i < n; i++)
        put(lines, "%s%ux%ux%u %s %s %s %s%s", i ? ", " : "", shapes[i].MSize, shapes[i].NSize,
            shapes[i].KSize, component_name(shapes[i].AType), component_name(shapes[i].BType),
            component_name(shapes[i].CType), component_name(shapes[i].ResultType),
            shapes[i].saturatingAccumulation ? " saturating" : "");
    put(lines, "\n");
}
#else
static void put_shapes(struct lines *lines, const struct qn_vk_instance *instance,
                       const struct qn_vk_facts *facts)
{
    (void)lines;
    (void)instance;
    (void)facts;
}
#endif

void qn_vk_facts_print(const struct qn_vk_instance *instance, const struct qn_vk_facts *facts, char *text,
                       size_t size)
{
    struct lines lines = {.text = text, .size = size};
    const VkPhysicalDeviceProperties *p = &facts->properties;
    const VkPhysicalDeviceLimits *l = &p->limits;
    text[0] = '\0';
    put(&lines, "vulkan: %u.%u.%u\n", VK_API_VERSION_MAJOR(p->apiVersion),
        VK_API_VERSION_MINOR(p->apiVersion), VK_API_VERSION_PATCH(p->apiVersion));
    put(&lines, "vendor and device: 0x%04x 0x%04x\ndriver version: 0x%08x\n", p->vendorID, p->deviceID,
        p->driverVersion);
    if (facts->missing)
        put(&lines, "missing: %s\n", facts->missing);
    put_heaps(&lines, &facts->memory);
    put(&lines, "subgroup size: %u (%u to %u)\n", facts->subgroup, facts->min_subgroup, facts->max_subgroup);
    put(&lines, "8-bit dot products: %s\n",
        !(facts->features >> QN_VK_INT_DOT & 1) ? "no"
        : facts->fast_dot                       ? "yes"
                                                : "yes, put together from others");
    put_shapes(&lines, instance, facts);
    if (facts->flexible.m != 0)
        put(&lines, "cooperative matrices of any size: multiples of %ux%ux%u up to %u, of a %s\n",
            facts->flexible.m, facts->flexible.n, facts->flexible.k, facts->flexible.most,
            facts->flexible.workgroup ? "workgroup" : "subgroup");
    if (facts->no_coopmat[0])
        put(&lines, "cooperative matrices are not used: %s\n", facts->no_coopmat);
    put(&lines, "largest allocation: %llu\nlargest storage buffer: %u\nalignment of storage buffers: %llu\n",
        (unsigned long long)facts->max_buffer, l->maxStorageBufferRange,
        (unsigned long long)l->minStorageBufferOffsetAlignment);
    put(&lines,
        "shared memory: %u\ninvocations of a workgroup: %u\nworkgroup: %ux%ux%u\nworkgroups: %ux%ux%u\n",
        l->maxComputeSharedMemorySize, l->maxComputeWorkGroupInvocations, l->maxComputeWorkGroupSize[0],
        l->maxComputeWorkGroupSize[1], l->maxComputeWorkGroupSize[2], l->maxComputeWorkGroupCount[0],
        l->maxComputeWorkGroupCount[1], l->maxComputeWorkGroupCount[2]);
    put(&lines, "push constants: %u\nstorage buffers of a stage: %u\n", l->maxPushConstantsSize,
        l->maxPerStageDescriptorStorageBuffers);
    put(&lines, "timestamps: %u bits of %.4g ns\n", facts->time_bits, (double)l->timestampPeriod);
}
