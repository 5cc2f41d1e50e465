/* Buffers, each with memory of its own: a model has few. */
#include "drivers/vulkan/device.h"

#include <string.h>

/* The kinds of memory that the host can reach without ceremony, best first: on the device and cached by the
 * host, on the device, of the host and cached, of the host. */
static uint32_t memory_type(const struct qn_vk_facts *facts, uint32_t allowed)
{
    static const VkMemoryPropertyFlags wanted[] = {
        VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
        VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, VK_MEMORY_PROPERTY_HOST_CACHED_BIT, 0};
    const VkMemoryPropertyFlags always =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    for (size_t w = 0; w < QN_LEN(wanted); w++)
        for (uint32_t t = 0; t < facts->memory.memoryTypeCount; t++) {
            VkMemoryPropertyFlags all = wanted[w] | always;
            if (allowed >> t & 1 && (facts->memory.memoryTypes[t].propertyFlags & all) == all)
                return t;
        }
    return QUERN_NONE;
}

enum quern_status qn_vk_buffer_create(struct quern_device *device, uint64_t bytes, struct quern_buffer **out,
                                      struct quern_error *err)
{
    *out = NULL;
    enum quern_status status = QUERN_OK;
    struct quern_buffer *buffer = qn_zalloc(device->cb, 1, sizeof *buffer);
    if (!buffer)
        return qn_fail_memory(err, "a buffer");
    buffer->bytes = bytes;
    if (bytes > device->facts.max_allocation) {
        status = qn_fail(err, QUERN_ERR_MEMORY, "a buffer of %llu bytes; the device has them of at most %llu",
                         (unsigned long long)bytes, (unsigned long long)device->facts.max_allocation);
        goto done;
    }
    const VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = (bytes + 3) / 4 * 4, /* kernels read whole words */
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT |
                 VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    VK(device, CreateBuffer, device->handle, &info, NULL, &buffer->handle);
    VkMemoryRequirements need;
    device->api.GetBufferMemoryRequirements(device->handle, buffer->handle, &need);
    const VkMemoryAllocateInfo memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                         .allocationSize = need.size,
                                         .memoryTypeIndex = memory_type(&device->facts, need.memoryTypeBits)};
    if (memory.memoryTypeIndex == QUERN_NONE) {
        status = qn_fail(err, QUERN_ERR_DEVICE, "the host can reach no memory of the device");
        goto done;
    }
    VK(device, AllocateMemory, device->handle, &memory, NULL, &buffer->memory);
    VK(device, BindBufferMemory, device->handle, buffer->handle, buffer->memory, 0);
    void *map;
    VK(device, MapMemory, device->handle, buffer->memory, 0, VK_WHOLE_SIZE, 0, &map);
    buffer->map = map;
    *out = buffer;
    return QUERN_OK;
done:
    qn_vk_buffer_destroy(device, buffer);
    return status;
}

void qn_vk_buffer_destroy(struct quern_device *device, struct quern_buffer *buffer)
{
    if (!buffer)
        return;
    device->api.DestroyBuffer(device->handle, buffer->handle, NULL);
    device->api.FreeMemory(device->handle, buffer->memory, NULL); /* which unmaps it */
    qn_free(device->cb, buffer);
}

static bool lies_within(const struct quern_buffer *buffer, uint64_t offset, uint64_t bytes)
{
    return offset <= buffer->bytes && bytes <= buffer->bytes - offset;
}

enum quern_status qn_vk_copy(struct quern_device *device, struct quern_buffer *dst, uint64_t dst_offset,
                             struct quern_buffer *src, uint64_t src_offset, uint64_t bytes, uint64_t *point,
                             struct quern_error *err)
{
    if (!lies_within(dst, dst_offset, bytes) || !lies_within(src, src_offset, bytes) || bytes == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "a copy of %llu bytes leaves its buffers",
                       (unsigned long long)bytes);
    enum quern_status status = qn_vk_wait(device, device->copy_point, QN_VK_PATIENCE_NS, err);
    if (status)
        return status;
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    const VkBufferCopy region = {.srcOffset = src_offset, .dstOffset = dst_offset, .size = bytes};
    VK(device, BeginCommandBuffer, device->copy_commands, &begin);
    qn_vk_barrier(device, device->copy_commands, false);
    device->api.CmdCopyBuffer(device->copy_commands, src->handle, dst->handle, 1, &region);
    qn_vk_barrier(device, device->copy_commands, true);
    VK(device, EndCommandBuffer, device->copy_commands);
    status = qn_vk_submit(device, device->copy_commands, &device->copy_point, err);
    *point = device->copy_point;
done:
    return status;
}
