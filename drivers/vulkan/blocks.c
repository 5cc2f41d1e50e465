/* Memory of the device in blocks, which buffers share: a driver may allow few allocations, and each costs
 * more than its bytes. A block is given back when nothing lies in it any more. Only buffers are placed here,
 * so that bufferImageGranularity does not matter. */
#include "drivers/vulkan/device.h"

#include <string.h>

enum { MIB = 1 << 20 };

static const uint64_t MIN_BLOCK = MIB, MAX_BLOCK = 64 * MIB;

struct range {
    uint64_t offset, bytes;
};

struct qn_vk_block {
    struct qn_vk_block *next;
    VkDeviceMemory memory;
    uint32_t type; /* of memory */
    uint64_t bytes;
    char *map;          /* NULL: not visible to the host */
    struct range *used; /* in ascending order */
    size_t n_used, cap_used;
};

static uint64_t round_up(uint64_t bytes, uint64_t align)
{
    return (bytes + align - 1) / align * align;
}

/* ---- what there is ---- */

uint64_t qn_vk_memory_left(const struct quern_device *device, uint32_t heap)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &budget};
    uint64_t most = device->facts.memory.memoryHeaps[heap].size, used = device->memory.taken[heap];
    if (device->facts.features >> QN_VK_MEMORY_BUDGET & 1) {
        device->api.GetPhysicalDeviceMemoryProperties2(device->facts.handle, &memory);
        most = budget.heapBudget[heap];
        used = budget.heapUsage[heap] > used ? budget.heapUsage[heap] : used;
    } else if (device->facts.type == QUERN_DEVICE_SOFTWARE) {
        return UINT64_MAX; /* its heap is a number that someone wrote down */
    }
    return most > used ? most - used : 0;
}

/* ---- blocks ---- */

static void free_block(struct quern_device *device, struct qn_vk_block *block)
{
    device->api.FreeMemory(device->handle, block->memory, NULL); /* which unmaps it */
    qn_free(device->cb, block->used);
    qn_free(device->cb, block);
}

static enum quern_status check_room(const struct quern_device *device, uint32_t type, uint64_t bytes,
                                    struct quern_error *err)
{
    uint64_t left = qn_vk_memory_left(device, device->facts.memory.memoryTypes[type].heapIndex);
    if (bytes > left)
        return qn_fail(err, QUERN_ERR_MEMORY, "%llu MiB are needed, the device has %llu MiB left",
                       (unsigned long long)(bytes + MIB - 1) / MIB, (unsigned long long)left / MIB);
    if (device->memory.n_blocks >= device->facts.properties.limits.maxMemoryAllocationCount)
        return qn_fail(err, QUERN_ERR_MEMORY, "the device allows no more than %u allocations",
                       device->facts.properties.limits.maxMemoryAllocationCount);
    return QUERN_OK;
}

static enum quern_status add_block(struct quern_device *device, uint32_t type, uint64_t bytes,
                                   struct qn_vk_block **out, struct quern_error *err)
{
    enum quern_status status = check_room(device, type, bytes, err);
    if (status)
        return status;
    const VkMemoryType *of = &device->facts.memory.memoryTypes[type];
    struct qn_vk_block *block = qn_zalloc(device->cb, 1, sizeof *block);
    if (!block)
        return qn_fail_memory(err, "a block of memory");
    block->type = type;
    block->bytes = bytes;
    const VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = bytes, .memoryTypeIndex = type};
    VK(device, AllocateMemory, device->handle, &info, NULL, &block->memory);
    if (of->propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) {
        void *map = NULL;
        VK(device, MapMemory, device->handle, block->memory, 0, VK_WHOLE_SIZE, 0, &map);
        block->map = map;
    }
    block->next = device->memory.blocks;
    device->memory.blocks = block;
    device->memory.n_blocks++;
    device->memory.taken[of->heapIndex] += bytes;
    *out = block;
    return QUERN_OK;
done:
    free_block(device, block);
    return status;
}

static void remove_block(struct quern_device *device, struct qn_vk_block *block)
{
    struct qn_vk_block **link = &device->memory.blocks;
    while (*link != block)
        link = &(*link)->next;
    *link = block->next;
    device->memory.n_blocks--;
    device->memory.taken[device->facts.memory.memoryTypes[block->type].heapIndex] -= block->bytes;
    free_block(device, block);
}

/* Size of a new block for a piece: large pieces have their own; small ones share blocks that grow with what
 * has been asked for. */
static uint64_t block_bytes(const struct quern_device *device, uint32_t type, uint64_t piece)
{
    uint64_t bytes = device->memory.taken[device->facts.memory.memoryTypes[type].heapIndex] / 2;
    bytes = bytes < MIN_BLOCK ? MIN_BLOCK : bytes > MAX_BLOCK ? MAX_BLOCK : bytes / MIB * MIB;
    if (bytes > device->facts.max_buffer)
        bytes = device->facts.max_buffer;
    return piece > bytes / 4 ? piece : bytes;
}

/* ---- pieces ---- */

/* Takes the first gap of the block that holds the piece. */
static bool take_gap(struct quern_device *device, struct qn_vk_block *block, uint64_t bytes, uint64_t align,
                     struct qn_vk_piece *piece)
{
    uint64_t offset = 0;
    size_t i = 0;
    for (; i < block->n_used && offset + bytes > block->used[i].offset; i++)
        offset = round_up(block->used[i].offset + block->used[i].bytes, align);
    if (offset + bytes > block->bytes ||
        !qn_grow(device->cb, &block->used, &block->cap_used, block->n_used + 1, sizeof *block->used))
        return false;
    memmove(&block->used[i + 1], &block->used[i], (block->n_used - i) * sizeof *block->used);
    block->used[i] = (struct range){offset, bytes};
    block->n_used++;
    *piece = (struct qn_vk_piece){.block = block,
                                  .memory = block->memory,
                                  .offset = offset,
                                  .map = block->map ? block->map + offset : NULL};
    return true;
}

enum quern_status qn_vk_memory_take(struct quern_device *device, uint32_t type, uint64_t bytes,
                                    uint64_t align, struct qn_vk_piece *piece, struct quern_error *err)
{
    for (struct qn_vk_block *block = device->memory.blocks; block; block = block->next)
        if (block->type == type && take_gap(device, block, bytes, align, piece))
            return QUERN_OK;
    uint64_t whole = block_bytes(device, type, bytes);
    struct qn_vk_block *block;
    enum quern_status status = add_block(device, type, whole, &block, err);
    if (status == QUERN_ERR_MEMORY && whole > bytes) /* less may still be there */
        status = add_block(device, type, bytes, &block, err);
    if (status)
        return status;
    if (take_gap(device, block, bytes, align, piece))
        return QUERN_OK;
    remove_block(device, block);
    return qn_fail_memory(err, "a block of memory");
}

void qn_vk_memory_give(struct quern_device *device, const struct qn_vk_piece *piece)
{
    struct qn_vk_block *block = piece->block;
    size_t i = 0;
    while (block->used[i].offset != piece->offset)
        i++;
    block->n_used--;
    memmove(&block->used[i], &block->used[i + 1], (block->n_used - i) * sizeof *block->used);
    if (block->n_used == 0)
        remove_block(device, block);
}
