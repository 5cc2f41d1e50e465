/* Calls of a device that must stay within what the program was told of it. */
#include "layer.h"

#include <stdlib.h>
#include <string.h>

/* Whether a limit is set and the value beyond it. */
static bool beyond(enum qt_setting setting, uint64_t value, uint64_t *limit)
{
    return qt_setting(setting, limit) && value > *limit;
}

/* ---------------------------------------------------------------- memory */

static bool type_is(const struct qt_device *device, uint32_t type, VkMemoryPropertyFlags flags)
{
    return (device->memory.memoryTypes[type].propertyFlags & flags) == flags;
}

/* Takes the bytes from a heap where it has them. */
static bool take_from_heap(struct qt_device *device, uint32_t type, uint64_t bytes)
{
    uint32_t heap = device->memory.memoryTypes[type].heapIndex;
    qt_lock();
    bool fits = device->heap_used[heap] <= device->memory.memoryHeaps[heap].size &&
                bytes <= device->memory.memoryHeaps[heap].size - device->heap_used[heap];
    if (fits) {
        device->heap_used[heap] += bytes;
        device->n_allocations++;
    }
    qt_unlock();
    return fits;
}

static void give_back(struct qt_device *device, uint32_t type, uint64_t bytes)
{
    qt_lock();
    device->heap_used[device->memory.memoryTypes[type].heapIndex] -= bytes;
    device->n_allocations--;
    qt_unlock();
}

static VKAPI_ATTR VkResult VKAPI_CALL allocate_memory(VkDevice handle, const VkMemoryAllocateInfo *info,
                                                      const VkAllocationCallbacks *alloc, VkDeviceMemory *out)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_AllocateMemory);
    uint64_t limit;
    if (result != VK_SUCCESS)
        return result;
    if (info->memoryTypeIndex >= device->memory.memoryTypeCount) {
        qt_breach("memory of type %u of %u", info->memoryTypeIndex, device->memory.memoryTypeCount);
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    }
    if (beyond(QT_SET_maxMemoryAllocationSize, info->allocationSize, &limit)) {
        qt_breach("%llu bytes of memory at once, at most %llu", (unsigned long long)info->allocationSize,
                  (unsigned long long)limit);
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    }
    if (beyond(QT_SET_maxMemoryAllocationCount, device->n_allocations + 1, &limit)) {
        qt_breach("more than %llu allocations", (unsigned long long)limit);
        return VK_ERROR_TOO_MANY_OBJECTS;
    }
    if (!take_from_heap(device, info->memoryTypeIndex, info->allocationSize))
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    VkMemoryAllocateInfo real = *info;
    real.memoryTypeIndex = qt_real_memory_type(device, info->memoryTypeIndex);
    result = device->AllocateMemory(handle, &real, alloc, out);
    if (result != VK_SUCCESS) {
        give_back(device, info->memoryTypeIndex, info->allocationSize);
        return result;
    }
    struct qt_object *object = qt_object_add(device, VK_OBJECT_TYPE_DEVICE_MEMORY, QT_ID(*out));
    object->bytes = info->allocationSize;
    object->memory_type = info->memoryTypeIndex;
    return VK_SUCCESS;
}
const PFN_vkAllocateMemory qt_hook_AllocateMemory = allocate_memory;

static VKAPI_ATTR void VKAPI_CALL free_memory(VkDevice handle, VkDeviceMemory memory,
                                              const VkAllocationCallbacks *alloc)
{
    struct qt_device *device = qt_device_of(handle);
    qt_before(device, QT_FreeMemory);
    const struct qt_object *object = qt_object_find(device, VK_OBJECT_TYPE_DEVICE_MEMORY, QT_ID(memory));
    if (object)
        give_back(device, object->memory_type, object->bytes);
    qt_object_remove(device, VK_OBJECT_TYPE_DEVICE_MEMORY, QT_ID(memory));
    device->FreeMemory(handle, memory, alloc);
}
const PFN_vkFreeMemory qt_hook_FreeMemory = free_memory;

static VKAPI_ATTR VkResult VKAPI_CALL map_memory(VkDevice handle, VkDeviceMemory memory, VkDeviceSize offset,
                                                 VkDeviceSize bytes, VkMemoryMapFlags flags, void **out)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_MapMemory);
    if (result != VK_SUCCESS)
        return result;
    const struct qt_object *object = qt_object_find(device, VK_OBJECT_TYPE_DEVICE_MEMORY, QT_ID(memory));
    if (object && !type_is(device, object->memory_type, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)) {
        qt_breach("maps memory of type %u, which the host cannot reach", object->memory_type);
        return VK_ERROR_MEMORY_MAP_FAILED;
    }
    return device->MapMemory(handle, memory, offset, bytes, flags, out);
}
const PFN_vkMapMemory qt_hook_MapMemory = map_memory;

static VKAPI_ATTR VkResult VKAPI_CALL host_pointer(VkDevice handle, VkExternalMemoryHandleTypeFlagBits type,
                                                   const void *pointer, VkMemoryHostPointerPropertiesEXT *out)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_GetMemoryHostPointerPropertiesEXT);
    if (result == VK_SUCCESS)
        result = device->GetMemoryHostPointerPropertiesEXT(handle, type, pointer, out);
    if (result == VK_SUCCESS) {
        out->memoryTypeBits = qt_shown_memory_bits(device, out->memoryTypeBits);
        for (uint32_t t = 0; t < device->memory.memoryTypeCount; t++)
            if (!type_is(device, t, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT))
                out->memoryTypeBits &= ~(1u << t);
    }
    return result;
}
const PFN_vkGetMemoryHostPointerPropertiesEXT qt_hook_GetMemoryHostPointerPropertiesEXT = host_pointer;

/* ---------------------------------------------------------------- buffers */

static VKAPI_ATTR VkResult VKAPI_CALL create_buffer(VkDevice handle, const VkBufferCreateInfo *info,
                                                    const VkAllocationCallbacks *alloc, VkBuffer *out)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_CreateBuffer);
    uint64_t limit;
    if (result == VK_SUCCESS && beyond(QT_SET_maxBufferSize, info->size, &limit)) {
        qt_breach("a buffer of %llu bytes, at most %llu", (unsigned long long)info->size,
                  (unsigned long long)limit);
        result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    }
    if (result == VK_SUCCESS)
        result = device->CreateBuffer(handle, info, alloc, out);
    if (result == VK_SUCCESS)
        qt_object_add(device, VK_OBJECT_TYPE_BUFFER, QT_ID(*out))->bytes = info->size;
    return result;
}
const PFN_vkCreateBuffer qt_hook_CreateBuffer = create_buffer;

/* What the program sees of a buffer's needs. */
static void show_requirements(const struct qt_device *device, VkMemoryRequirements *needs)
{
    uint64_t align;
    needs->memoryTypeBits = qt_shown_memory_bits(device, needs->memoryTypeBits);
    if (qt_setting(QT_SET_minStorageBufferOffsetAlignment, &align) && needs->alignment < align) {
        needs->alignment = align;
        needs->size = (needs->size + align - 1) / align * align;
    }
}

static VKAPI_ATTR void VKAPI_CALL requirements(VkDevice handle, VkBuffer buffer, VkMemoryRequirements *out)
{
    struct qt_device *device = qt_device_of(handle);
    qt_before(device, QT_GetBufferMemoryRequirements);
    device->GetBufferMemoryRequirements(handle, buffer, out);
    show_requirements(device, out);
}
const PFN_vkGetBufferMemoryRequirements qt_hook_GetBufferMemoryRequirements = requirements;

static VKAPI_ATTR void VKAPI_CALL requirements2(VkDevice handle, const VkBufferMemoryRequirementsInfo2 *info,
                                                VkMemoryRequirements2 *out)
{
    struct qt_device *device = qt_device_of(handle);
    qt_before(device, QT_GetBufferMemoryRequirements2);
    device->GetBufferMemoryRequirements2(handle, info, out);
    show_requirements(device, &out->memoryRequirements);
}
const PFN_vkGetBufferMemoryRequirements2 qt_hook_GetBufferMemoryRequirements2 = requirements2;

/* ---------------------------------------------------------------- descriptors */

static void check_descriptor(struct qt_device *device, const VkDescriptorBufferInfo *info)
{
    const struct qt_object *buffer = qt_object_find(device, VK_OBJECT_TYPE_BUFFER, QT_ID(info->buffer));
    uint64_t bytes = info->range, limit;
    if (buffer && info->range == VK_WHOLE_SIZE)
        bytes = buffer->bytes - info->offset;
    if (buffer && (info->offset >= buffer->bytes || bytes > buffer->bytes - info->offset))
        qt_breach("a descriptor of %llu bytes at %llu of a buffer of %llu", (unsigned long long)bytes,
                  (unsigned long long)info->offset, (unsigned long long)buffer->bytes);
    if (beyond(QT_SET_maxStorageBufferRange, bytes, &limit))
        qt_breach("a descriptor of %llu bytes, at most %llu", (unsigned long long)bytes,
                  (unsigned long long)limit);
    if (info->offset % device->properties.limits.minStorageBufferOffsetAlignment != 0)
        qt_breach("a descriptor at byte %llu, alignment %llu", (unsigned long long)info->offset,
                  (unsigned long long)device->properties.limits.minStorageBufferOffsetAlignment);
}

static VKAPI_ATTR void VKAPI_CALL update_sets(VkDevice handle, uint32_t n, const VkWriteDescriptorSet *writes,
                                              uint32_t n_copies, const VkCopyDescriptorSet *copies)
{
    struct qt_device *device = qt_device_of(handle);
    qt_before(device, QT_UpdateDescriptorSets);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; writes[i].pBufferInfo && j < writes[i].descriptorCount; j++)
            check_descriptor(device, &writes[i].pBufferInfo[j]);
    device->UpdateDescriptorSets(handle, n, writes, n_copies, copies);
}
const PFN_vkUpdateDescriptorSets qt_hook_UpdateDescriptorSets = update_sets;

static VKAPI_ATTR VkResult VKAPI_CALL create_set_layout(VkDevice handle,
                                                        const VkDescriptorSetLayoutCreateInfo *info,
                                                        const VkAllocationCallbacks *alloc,
                                                        VkDescriptorSetLayout *out)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_CreateDescriptorSetLayout);
    uint64_t n = 0, limit;
    for (uint32_t i = 0; i < info->bindingCount; i++)
        n += info->pBindings[i].descriptorCount;
    if (beyond(QT_SET_maxPerStageDescriptorStorageBuffers, n, &limit))
        qt_breach("%llu buffers in one set, at most %llu", (unsigned long long)n, (unsigned long long)limit);
    if (result == VK_SUCCESS)
        result = device->CreateDescriptorSetLayout(handle, info, alloc, out);
    if (result == VK_SUCCESS)
        qt_object_add(device, VK_OBJECT_TYPE_DESCRIPTOR_SET_LAYOUT, QT_ID(*out));
    return result;
}
const PFN_vkCreateDescriptorSetLayout qt_hook_CreateDescriptorSetLayout = create_set_layout;

static VKAPI_ATTR VkResult VKAPI_CALL create_layout(VkDevice handle, const VkPipelineLayoutCreateInfo *info,
                                                    const VkAllocationCallbacks *alloc, VkPipelineLayout *out)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_CreatePipelineLayout);
    uint64_t limit;
    for (uint32_t i = 0; i < info->pushConstantRangeCount; i++) {
        const VkPushConstantRange *range = &info->pPushConstantRanges[i];
        if (beyond(QT_SET_maxPushConstantsSize, range->offset + range->size, &limit))
            qt_breach("push constants of %u bytes, at most %llu", range->offset + range->size,
                      (unsigned long long)limit);
    }
    if (result == VK_SUCCESS)
        result = device->CreatePipelineLayout(handle, info, alloc, out);
    if (result == VK_SUCCESS)
        qt_object_add(device, VK_OBJECT_TYPE_PIPELINE_LAYOUT, QT_ID(*out));
    return result;
}
const PFN_vkCreatePipelineLayout qt_hook_CreatePipelineLayout = create_layout;

/* Where these fail, the handles that they would have made are null. */
static VKAPI_ATTR VkResult VKAPI_CALL allocate_sets(VkDevice handle, const VkDescriptorSetAllocateInfo *info,
                                                    VkDescriptorSet *sets)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_AllocateDescriptorSets);
    if (result == VK_SUCCESS)
        return device->AllocateDescriptorSets(handle, info, sets);
    memset(sets, 0, info->descriptorSetCount * sizeof *sets);
    return result;
}
const PFN_vkAllocateDescriptorSets qt_hook_AllocateDescriptorSets = allocate_sets;

static VKAPI_ATTR VkResult VKAPI_CALL allocate_commands(VkDevice handle,
                                                        const VkCommandBufferAllocateInfo *info,
                                                        VkCommandBuffer *commands)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_AllocateCommandBuffers);
    if (result == VK_SUCCESS)
        return device->AllocateCommandBuffers(handle, info, commands);
    memset(commands, 0, info->commandBufferCount * sizeof *commands);
    return result;
}
const PFN_vkAllocateCommandBuffers qt_hook_AllocateCommandBuffers = allocate_commands;

/* ---------------------------------------------------------------- commands */

/* A device that hangs does not come further. */
static VKAPI_ATTR VkResult VKAPI_CALL counter_value(VkDevice handle, VkSemaphore semaphore, uint64_t *value)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_GetSemaphoreCounterValue);
    if (result == VK_SUCCESS)
        result = device->GetSemaphoreCounterValue(handle, semaphore, value);
    if (result == VK_SUCCESS && device->hung)
        *value = 0;
    return result;
}
const PFN_vkGetSemaphoreCounterValue qt_hook_GetSemaphoreCounterValue = counter_value;

static void check_wait(uint64_t timeout, enum qt_call call)
{
    if (timeout == UINT64_MAX)
        qt_breach("%s without a time limit", qt_call_name(call));
}

static VKAPI_ATTR VkResult VKAPI_CALL wait_semaphores(VkDevice handle, const VkSemaphoreWaitInfo *info,
                                                      uint64_t timeout)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_WaitSemaphores);
    check_wait(timeout, QT_WaitSemaphores);
    return result == VK_SUCCESS ? device->WaitSemaphores(handle, info, timeout) : result;
}
const PFN_vkWaitSemaphores qt_hook_WaitSemaphores = wait_semaphores;

static VKAPI_ATTR VkResult VKAPI_CALL wait_fences(VkDevice handle, uint32_t n, const VkFence *fences,
                                                  VkBool32 all, uint64_t timeout)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_WaitForFences);
    check_wait(timeout, QT_WaitForFences);
    return result == VK_SUCCESS ? device->WaitForFences(handle, n, fences, all, timeout) : result;
}
const PFN_vkWaitForFences qt_hook_WaitForFences = wait_fences;

/* Where it fails, nothing is being recorded any more. */
static VKAPI_ATTR VkResult VKAPI_CALL end_commands(VkCommandBuffer commands)
{
    struct qt_device *device = qt_device_of(commands);
    VkResult result = qt_before(device, QT_EndCommandBuffer);
    VkResult real = device->EndCommandBuffer(commands);
    return result == VK_SUCCESS ? real : result;
}
const PFN_vkEndCommandBuffer qt_hook_EndCommandBuffer = end_commands;

static VKAPI_ATTR void VKAPI_CALL dispatch(VkCommandBuffer commands, uint32_t x, uint32_t y, uint32_t z)
{
    struct qt_device *device = qt_device_of(commands);
    qt_before(device, QT_CmdDispatch);
    const uint32_t n[3] = {x, y, z}, *most = device->properties.limits.maxComputeWorkGroupCount;
    for (int i = 0; i < 3; i++)
        if (n[i] > most[i])
            qt_breach("%u workgroups in dimension %d, at most %u", n[i], i, most[i]);
    device->CmdDispatch(commands, x, y, z);
}
const PFN_vkCmdDispatch qt_hook_CmdDispatch = dispatch;

static VKAPI_ATTR void VKAPI_CALL timestamp(VkCommandBuffer commands, VkPipelineStageFlagBits stage,
                                            VkQueryPool pool, uint32_t query)
{
    struct qt_device *device = qt_device_of(commands);
    qt_before(device, QT_CmdWriteTimestamp);
    if (qt_feature_off(QT_SET_timestampValidBits))
        qt_breach("a timestamp on a queue that has none");
    device->CmdWriteTimestamp(commands, stage, pool, query);
}
const PFN_vkCmdWriteTimestamp qt_hook_CmdWriteTimestamp = timestamp;
