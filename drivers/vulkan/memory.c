/* Buffers: which memory they lie in, copies between them, and bytes that the host brings and takes. */
#include "drivers/vulkan/device.h"

#include <string.h>

/* ---------------------------------------------------------------- kinds of memory */

enum {
    LOCAL = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
    CACHED = VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
    MAPPED = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
};

/* How well a memory type suits; 0: not at all. `large`: its heap is one of the large ones. A discrete GPU has
 * memory of its own, which the host may see in part (a small heap) or in full. All others share the host's.
 */
static int suits(enum qn_vk_use use, bool discrete, VkMemoryPropertyFlags flags, bool large)
{
    bool local = flags & LOCAL, cached = flags & CACHED, mapped = (flags & MAPPED) == MAPPED;
    if (flags &
        ~(VkMemoryPropertyFlags)(LOCAL | CACHED | MAPPED)) /* protected, uncached by the device, ... */
        return 0;
    if (use == QN_VK_USE_DEVICE && discrete)
        return 1 + 4 * local + 2 * large + mapped;
    if (!mapped)
        return 0;
    switch (use) {
    case QN_VK_USE_DEVICE:
        return 1 + 4 * large + 2 * local + cached;
    case QN_VK_USE_HOST:
        return 1 + 4 * cached + 2 * !local + large;
    case QN_VK_USE_STEP:
    default:
        return 1 + 2 * local + cached;
    }
}

uint32_t qn_vk_memory_type(const struct qn_vk_facts *facts, enum qn_vk_use use, uint32_t allowed)
{
    const VkPhysicalDeviceMemoryProperties *memory = &facts->memory;
    bool discrete = facts->type == QUERN_DEVICE_DISCRETE_GPU;
    VkMemoryPropertyFlags needed = use == QN_VK_USE_DEVICE && discrete ? LOCAL : MAPPED;
    uint64_t largest = 0;
    for (uint32_t t = 0; t < memory->memoryTypeCount; t++) {
        uint64_t bytes = memory->memoryHeaps[memory->memoryTypes[t].heapIndex].size;
        if (allowed >> t & 1 && (memory->memoryTypes[t].propertyFlags & needed) == needed && bytes > largest)
            largest = bytes;
    }
    uint32_t best = QUERN_NONE;
    int most = 0;
    for (uint32_t t = 0; t < memory->memoryTypeCount; t++) {
        const VkMemoryType *type = &memory->memoryTypes[t];
        bool large = memory->memoryHeaps[type->heapIndex].size >= largest / 2;
        int n = allowed >> t & 1 ? suits(use, discrete, type->propertyFlags, large) : 0;
        if (n > most) {
            most = n;
            best = t;
        }
    }
    return best;
}

/* ---------------------------------------------------------------- buffers */

static const VkBufferUsageFlags BUFFER_USAGE = /* of all buffers */
    VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT |
    VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;

static enum quern_status find_memory(struct quern_device *device, enum qn_vk_use use,
                                     struct quern_buffer *buffer, struct quern_error *err)
{
    const struct qn_vk_facts *facts = &device->facts;
    enum quern_status status =
        qn_fail(err, QUERN_ERR_DEVICE, "the device has no memory for buffers that the host can reach");
    VkMemoryRequirements need;
    device->api.GetBufferMemoryRequirements(device->handle, buffer->handle, &need);
    device->memory.allowed = need.memoryTypeBits; /* the same for all: they differ in size alone */
    uint32_t allowed = need.memoryTypeBits, type;
    while ((type = qn_vk_memory_type(facts, use, allowed)) != QUERN_NONE) {
        status = qn_vk_memory_take(device, type, need.size, need.alignment, &buffer->piece, err);
        buffer->type = type;
        if (status != QUERN_ERR_MEMORY ||
            (use == QN_VK_USE_DEVICE && facts->type == QUERN_DEVICE_DISCRETE_GPU))
            break; /* kernels over memory of the host would be slower than the host */
        allowed &= ~(1u << type);
    }
    return status;
}

static uint64_t *asked_of(struct quern_device *device, const struct quern_buffer *buffer)
{
    return &device->memory.asked[device->facts.memory.memoryTypes[buffer->type].heapIndex];
}

enum quern_status qn_vk_buffer_create(struct quern_device *device, enum qn_vk_use use, uint64_t bytes,
                                      struct quern_buffer **out, struct quern_error *err)
{
    *out = NULL;
    if (bytes > device->facts.max_buffer)
        return qn_fail(err, QUERN_ERR_MEMORY, "a buffer of %llu bytes; the device has them of at most %llu",
                       (unsigned long long)bytes, (unsigned long long)device->facts.max_buffer);
    enum quern_status status = QUERN_OK;
    struct quern_buffer *buffer = qn_zalloc(device->cb, 1, sizeof *buffer);
    if (!buffer)
        return qn_fail_memory(err, "a buffer");
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                     .size = (bytes + 3) / 4 * 4, /* kernels read whole words */
                                     .usage = BUFFER_USAGE};
    VK(device, CreateBuffer, device->handle, &info, NULL, &buffer->handle);
    status = find_memory(device, use, buffer, err);
    if (status)
        goto done;
    buffer->bytes = bytes;
    *asked_of(device, buffer) += bytes;
    VK(device, BindBufferMemory, device->handle, buffer->handle, buffer->piece.memory, buffer->piece.offset);
    buffer->map = buffer->piece.map;
    *out = buffer;
    return QUERN_OK;
done:
    qn_vk_buffer_destroy(device, buffer);
    return status;
}

enum quern_status qn_vk_buffer_create_parts(struct quern_device *device, uint64_t bytes, uint64_t part_bytes,
                                            struct quern_buffer **out, struct quern_error *err)
{
    *out = NULL;
    size_t n = (size_t)((bytes + part_bytes - 1) / part_bytes);
    struct quern_buffer *buffer = qn_zalloc(device->cb, 1, sizeof *buffer);
    struct quern_buffer **parts = qn_zalloc(device->cb, n, sizeof(struct quern_buffer *));
    if (!buffer || !parts) {
        qn_free(device->cb, buffer);
        qn_free(device->cb, parts);
        return qn_fail_memory(err, "a buffer");
    }
    *buffer = (struct quern_buffer){.bytes = bytes, .parts = parts, .part_bytes = part_bytes};
    enum quern_status status = QUERN_OK;
    for (size_t i = 0; i < n && !status; i++) {
        uint64_t left = bytes - i * part_bytes;
        status = qn_vk_buffer_create(device, QN_VK_USE_DEVICE, left < part_bytes ? left : part_bytes,
                                     &parts[i], err);
    }
    if (status)
        qn_vk_buffer_destroy(device, buffer);
    else
        *out = buffer;
    return status;
}

/* Memory over the host's, of a type that the device allows for it. */
static enum quern_status import_memory(struct quern_device *device, void *memory, VkDeviceSize bytes,
                                       struct quern_buffer *buffer, struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    const VkExternalMemoryHandleTypeFlagBits kind = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
    VkMemoryHostPointerPropertiesEXT allowed = {.sType =
                                                    VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    VkResult result = device->host_pointer_properties(device->handle, kind, memory, &allowed);
    if (result != VK_SUCCESS)
        return qn_vk_fail(err, result, "GetMemoryHostPointerPropertiesEXT");
    VkMemoryRequirements need;
    device->api.GetBufferMemoryRequirements(device->handle, buffer->handle, &need);
    buffer->type =
        qn_vk_memory_type(&device->facts, QN_VK_USE_DEVICE, need.memoryTypeBits & allowed.memoryTypeBits);
    if (buffer->type == QUERN_NONE)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "no memory of the device is the host's");
    const VkImportMemoryHostPointerInfoEXT import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = kind,
        .pHostPointer = memory};
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                       .pNext = &import,
                                       .allocationSize = bytes,
                                       .memoryTypeIndex = buffer->type};
    VK(device, AllocateMemory, device->handle, &info, NULL, &buffer->imported);
    VK(device, BindBufferMemory, device->handle, buffer->handle, buffer->imported, 0);
done:
    return status;
}

enum quern_status qn_vk_buffer_import(struct quern_device *device, void *memory, uint64_t bytes,
                                      struct quern_buffer **out, struct quern_error *err)
{
    *out = NULL;
    uint64_t align = device->facts.import_align, whole = align ? (bytes + align - 1) / align * align : 0;
    if (!device->imports || (uintptr_t)memory % align || whole > device->facts.max_buffer)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "the device cannot use %llu bytes of the host's memory",
                       (unsigned long long)bytes);
    enum quern_status status = QUERN_OK;
    struct quern_buffer *buffer = qn_zalloc(device->cb, 1, sizeof *buffer);
    if (!buffer)
        return qn_fail_memory(err, "a buffer");
    buffer->bytes = bytes;
    buffer->map = memory;
    const VkExternalMemoryBufferCreateInfo external = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT};
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                     .pNext = &external,
                                     .size = whole,
                                     .usage = BUFFER_USAGE};
    VK(device, CreateBuffer, device->handle, &info, NULL, &buffer->handle);
    status = import_memory(device, memory, whole, buffer, err);
    if (!status)
        *out = buffer;
done:
    if (status) {
        qn_vk_buffer_destroy(device, buffer);
        if (status != QUERN_ERR_LOST)
            status = err->status = QUERN_ERR_UNSUPPORTED; /* a copy will do */
    }
    return status;
}

void qn_vk_buffer_destroy(struct quern_device *device, struct quern_buffer *buffer)
{
    if (!buffer)
        return;
    for (uint64_t at = 0, i = 0; buffer->parts && at < buffer->bytes; at += buffer->part_bytes, i++)
        qn_vk_buffer_destroy(device, buffer->parts[i]);
    device->api.DestroyBuffer(device->handle, buffer->handle, NULL);
    if (buffer->imported)
        device->api.FreeMemory(device->handle, buffer->imported, NULL);
    if (buffer->piece.block) {
        *asked_of(device, buffer) -= buffer->bytes;
        qn_vk_memory_give(device, &buffer->piece);
    }
    qn_free(device->cb, buffer->parts);
    qn_free(device->cb, buffer);
}

const struct quern_buffer *qn_vk_buffer_part(const struct quern_buffer *buffer, uint64_t *offset)
{
    if (!buffer->parts)
        return buffer;
    const struct quern_buffer *part = buffer->parts[*offset / buffer->part_bytes];
    *offset %= buffer->part_bytes;
    return part;
}

/* ---------------------------------------------------------------- copies */

static bool lies_within(const struct quern_buffer *buffer, uint64_t offset, uint64_t bytes)
{
    return offset <= buffer->bytes && bytes <= buffer->bytes - offset;
}

/* Records the copy, part by part. */
static void record_copy(const struct quern_device *device, VkCommandBuffer commands,
                        const struct quern_buffer *dst, uint64_t dst_offset, const struct quern_buffer *src,
                        uint64_t src_offset, uint64_t bytes)
{
    while (bytes > 0) {
        VkBufferCopy region = {.srcOffset = src_offset, .dstOffset = dst_offset, .size = bytes};
        const struct quern_buffer *from = qn_vk_buffer_part(src, &region.srcOffset);
        const struct quern_buffer *to = qn_vk_buffer_part(dst, &region.dstOffset);
        if (region.size > from->bytes - region.srcOffset)
            region.size = from->bytes - region.srcOffset;
        if (region.size > to->bytes - region.dstOffset)
            region.size = to->bytes - region.dstOffset;
        device->api.CmdCopyBuffer(commands, from->handle, to->handle, 1, &region);
        src_offset += region.size;
        dst_offset += region.size;
        bytes -= region.size;
    }
}

enum quern_status qn_vk_copy(struct quern_device *device, struct quern_buffer *dst, uint64_t dst_offset,
                             struct quern_buffer *src, uint64_t src_offset, uint64_t bytes, uint64_t *point,
                             struct quern_error *err)
{
    if (!lies_within(dst, dst_offset, bytes) || !lies_within(src, src_offset, bytes) || bytes == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "a copy of %llu bytes leaves its buffers",
                       (unsigned long long)bytes);
    struct qn_vk_copy *copy = &device->copies[device->next_copy];
    enum quern_status status = qn_vk_wait(device, copy->point, QN_VK_PATIENCE_NS, err);
    if (status)
        return status;
    device->next_copy = (device->next_copy + 1) % QN_VK_COPIES;
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    VK(device, BeginCommandBuffer, copy->commands, &begin);
    qn_vk_barrier(device, copy->commands, false);
    record_copy(device, copy->commands, dst, dst_offset, src, src_offset, bytes);
    qn_vk_barrier(device, copy->commands, true);
    VK(device, EndCommandBuffer, copy->commands);
    status = qn_vk_submit(device, &copy->commands, 1, &copy->point, err);
    *point = copy->point;
done:
    return status;
}

/* ---------------------------------------------------------------- to the host and from it */

/* Bytes between the host's memory and a buffer, through one that the host sees. */
static enum quern_status transfer(struct quern_device *device, struct quern_buffer *buffer, uint64_t offset,
                                  char *to, const char *from, uint64_t bytes, struct quern_error *err)
{
    const uint64_t most = 1 << 20;
    struct quern_buffer *staging;
    enum quern_status status =
        qn_vk_buffer_create(device, QN_VK_USE_HOST, bytes < most ? bytes : most, &staging, err);
    if (status)
        return status;
    for (uint64_t at = 0; at < bytes && !status; at += staging->bytes) {
        uint64_t n = bytes - at < staging->bytes ? bytes - at : staging->bytes, point;
        if (from)
            memcpy(staging->map, from + at, n);
        status = from ? qn_vk_copy(device, buffer, offset + at, staging, 0, n, &point, err)
                      : qn_vk_copy(device, staging, 0, buffer, offset + at, n, &point, err);
        if (!status)
            status = qn_vk_wait(device, point, QN_VK_PATIENCE_NS, err);
        if (!status && to)
            memcpy(to + at, staging->map, n);
    }
    qn_vk_buffer_destroy(device, staging);
    return status;
}

enum quern_status qn_vk_write(struct quern_device *device, struct quern_buffer *buffer, uint64_t offset,
                              const void *data, uint64_t bytes, struct quern_error *err)
{
    if (!buffer->map)
        return transfer(device, buffer, offset, NULL, data, bytes, err);
    memcpy(buffer->map + offset, data, bytes);
    return QUERN_OK;
}

enum quern_status qn_vk_read(struct quern_device *device, struct quern_buffer *buffer, uint64_t offset,
                             void *data, uint64_t bytes, struct quern_error *err)
{
    if (!buffer->map)
        return transfer(device, buffer, offset, data, NULL, bytes, err);
    memcpy(data, buffer->map + offset, bytes);
    return QUERN_OK;
}
