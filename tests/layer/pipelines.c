/* Shader modules and pipelines, and pipeline caches with data of their own: the keys of the pipelines that
 * were made with them. So a test can tell whether what a program saved came back, where the real driver's
 * data is empty. */
#include "layer.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a */
static uint64_t hash(uint64_t seed, const void *data, size_t n)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < n; i++)
        seed = (seed ^ bytes[i]) * 0x100000001b3ull;
    return seed;
}

static const uint64_t HASH_SEED = 0xcbf29ce484222325ull;

static VKAPI_ATTR VkResult VKAPI_CALL create_module(VkDevice handle, const VkShaderModuleCreateInfo *info,
                                                    const VkAllocationCallbacks *alloc, VkShaderModule *out)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_CreateShaderModule);
    uint64_t tensors;
    uint32_t *played = NULL;
    VkShaderModuleCreateInfo real = *info;
    if (qt_setting(QT_SET_cooperativeMatrixTensorAddressing, &tensors) && tensors)
        played = qt_play_tensors(info->pCode, info->codeSize / 4, &real.codeSize);
    if (played) {
        real.codeSize *= 4;
        real.pCode = played;
    }
    if (result == VK_SUCCESS)
        result = device->CreateShaderModule(handle, &real, alloc, out);
    free(played);
    if (result != VK_SUCCESS)
        return result;
    struct qt_object *module = qt_object_add(device, VK_OBJECT_TYPE_SHADER_MODULE, QT_ID(*out));
    module->hash = hash(HASH_SEED, info->pCode, info->codeSize);
    module->data = malloc(info->codeSize);
    if (!module->data)
        abort();
    memcpy(module->data, info->pCode, info->codeSize);
    module->n_data = info->codeSize / sizeof *info->pCode;
    return VK_SUCCESS;
}
const PFN_vkCreateShaderModule qt_hook_CreateShaderModule = create_module;

/* ---------------------------------------------------------------- the data of a cache */

/* VkPipelineCacheHeaderVersionOne, then ours. Little-endian, as the machine. */
struct cache_head {
    uint32_t bytes, version, vendor, device;
    uint8_t uuid[VK_UUID_SIZE];
    uint32_t magic,
        n; /* pipelines; their keys follow, 64 bits each, and a hash of all that comes before it */
};

enum { MAGIC = 0x434e5251, STANDARD_BYTES = 32 };

static struct cache_head head_for(const struct qt_device *device, uint32_t n)
{
    struct cache_head head = {.bytes = STANDARD_BYTES,
                              .version = VK_PIPELINE_CACHE_HEADER_VERSION_ONE,
                              .vendor = device->properties.vendorID,
                              .device = device->properties.deviceID,
                              .magic = MAGIC,
                              .n = n};
    memcpy(head.uuid, device->properties.pipelineCacheUUID, sizeof head.uuid);
    return head;
}

static size_t data_bytes(uint32_t n)
{
    return sizeof(struct cache_head) + (n + (size_t)1) * sizeof(uint64_t);
}

/* What is wrong with the data; NULL: nothing. */
static const char *check_data(const struct qt_device *device, const void *data, size_t bytes)
{
    struct cache_head head;
    uint64_t sum;
    if (bytes < data_bytes(0))
        return "short";
    memcpy(&head, data, sizeof head);
    struct cache_head mine = head_for(device, head.n);
    if (memcmp(&head, &mine, STANDARD_BYTES) != 0)
        return "of another device or driver";
    if (head.magic != MAGIC || bytes != data_bytes(head.n))
        return "damaged";
    memcpy(&sum, (const char *)data + bytes - sizeof sum, sizeof sum);
    return sum == hash(HASH_SEED, data, bytes - sizeof sum) ? NULL : "damaged";
}

static bool has_key(const struct qt_object *cache, uint64_t key)
{
    for (size_t i = 0; i + 1 < cache->n_data; i += 2)
        if (memcmp(&cache->data[i], &key, sizeof key) == 0)
            return true;
    return false;
}

static void add_key(struct qt_object *cache, uint64_t key)
{
    if (has_key(cache, key))
        return;
    uint32_t *data = realloc(cache->data, (cache->n_data + 2) * sizeof *data);
    if (!data)
        abort();
    memcpy(data + cache->n_data, &key, sizeof key);
    cache->data = data;
    cache->n_data += 2;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_cache(VkDevice handle, const VkPipelineCacheCreateInfo *info,
                                                   const VkAllocationCallbacks *alloc, VkPipelineCache *out)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_CreatePipelineCache);
    VkPipelineCacheCreateInfo empty = *info;
    empty.initialDataSize = 0;
    empty.pInitialData = NULL;
    if (result == VK_SUCCESS)
        result = device->CreatePipelineCache(handle, &empty, alloc, out);
    if (result != VK_SUCCESS)
        return result;
    struct qt_object *cache = qt_object_add(device, VK_OBJECT_TYPE_PIPELINE_CACHE, QT_ID(*out));
    const char *fault =
        info->initialDataSize == 0 ? "empty" : check_data(device, info->pInitialData, info->initialDataSize);
    qt_lock();
    if (!fault) {
        cache->n_data = (info->initialDataSize - data_bytes(0)) / sizeof *cache->data;
        cache->data = malloc(cache->n_data * sizeof *cache->data + 1);
        if (!cache->data)
            abort();
        memcpy(cache->data, (const char *)info->pInitialData + sizeof(struct cache_head),
               cache->n_data * sizeof *cache->data);
    }
    qt_log("cache in %zu %s", cache->n_data / 2, fault ? fault : "good");
    qt_unlock();
    return VK_SUCCESS;
}
const PFN_vkCreatePipelineCache qt_hook_CreatePipelineCache = create_cache;

static VKAPI_ATTR VkResult VKAPI_CALL get_cache_data(VkDevice handle, VkPipelineCache object, size_t *bytes,
                                                     void *data)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_GetPipelineCacheData);
    struct qt_object *cache = qt_object_find(device, VK_OBJECT_TYPE_PIPELINE_CACHE, QT_ID(object));
    if (result != VK_SUCCESS || !cache)
        return result != VK_SUCCESS ? result : VK_ERROR_OUT_OF_HOST_MEMORY;
    qt_lock();
    size_t need = data_bytes((uint32_t)(cache->n_data / 2));
    if (data && *bytes < need) {
        result = VK_INCOMPLETE;
        *bytes = 0;
    } else if (data) {
        struct cache_head head = head_for(device, (uint32_t)(cache->n_data / 2));
        memcpy(data, &head, sizeof head);
        if (cache->n_data > 0)
            memcpy((char *)data + sizeof head, cache->data, cache->n_data * sizeof *cache->data);
        uint64_t sum = hash(HASH_SEED, data, need - sizeof sum);
        memcpy((char *)data + need - sizeof sum, &sum, sizeof sum);
        qt_log("cache out %zu", cache->n_data / 2);
        *bytes = need;
    } else {
        *bytes = need;
    }
    qt_unlock();
    return result;
}
const PFN_vkGetPipelineCacheData qt_hook_GetPipelineCacheData = get_cache_data;

static VKAPI_ATTR VkResult VKAPI_CALL merge_caches(VkDevice handle, VkPipelineCache to, uint32_t n,
                                                   const VkPipelineCache *from)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_MergePipelineCaches);
    if (result == VK_SUCCESS)
        result = device->MergePipelineCaches(handle, to, n, from);
    struct qt_object *cache = qt_object_find(device, VK_OBJECT_TYPE_PIPELINE_CACHE, QT_ID(to));
    for (uint32_t i = 0; i < n && cache && result == VK_SUCCESS; i++) {
        const struct qt_object *other = qt_object_find(device, VK_OBJECT_TYPE_PIPELINE_CACHE, QT_ID(from[i]));
        qt_lock();
        for (size_t k = 0; other && k + 1 < other->n_data; k += 2) {
            uint64_t key;
            memcpy(&key, &other->data[k], sizeof key);
            add_key(cache, key);
        }
        qt_unlock();
    }
    return result;
}
const PFN_vkMergePipelineCaches qt_hook_MergePipelineCaches = merge_caches;

/* ---------------------------------------------------------------- pipelines */

static uint64_t key_of(const struct qt_object *module, const VkPipelineShaderStageCreateInfo *stage)
{
    uint64_t key = hash(module->hash, stage->pName, strlen(stage->pName));
    const VkSpecializationInfo *special = stage->pSpecializationInfo;
    if (special) {
        key = hash(key, special->pMapEntries, special->mapEntryCount * sizeof *special->pMapEntries);
        key = hash(key, special->pData, special->dataSize);
    }
    return key;
}

/* Checks one pipeline, and says whether the cache had it. */
static void note_pipeline(struct qt_device *device, VkPipelineCache cache_handle,
                          const VkComputePipelineCreateInfo *info, VkPipeline made)
{
    const struct qt_object *module =
        qt_object_find(device, VK_OBJECT_TYPE_SHADER_MODULE, QT_ID(info->stage.module));
    qt_object_add(device, VK_OBJECT_TYPE_PIPELINE, QT_ID(made));
    if (!module)
        return;
    qt_check_code(device, module->data, module->n_data, info->stage.pSpecializationInfo);
    struct qt_object *cache = qt_object_find(device, VK_OBJECT_TYPE_PIPELINE_CACHE, QT_ID(cache_handle));
    uint64_t key = key_of(module, &info->stage);
    qt_lock();
    qt_log("pipeline %s %016llx",
           !cache                ? "uncached"
           : has_key(cache, key) ? "hit"
                                 : "miss",
           (unsigned long long)key);
    if (cache)
        add_key(cache, key);
    qt_unlock();
}

/* Whether the device that is played cannot compile it. */
static bool is_broken(struct qt_device *device, const VkComputePipelineCreateInfo *info)
{
    const struct qt_object *module =
        qt_object_find(device, VK_OBJECT_TYPE_SHADER_MODULE, QT_ID(info->stage.module));
    uint64_t capability;
    if (!qt_setting(QT_SET_brokenCapability, &capability) || !module ||
        !qt_has_capability(module->data, module->n_data, capability))
        return false;
    qt_log("broken capability %u", (unsigned)capability);
    return true;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_pipelines(VkDevice handle, VkPipelineCache cache, uint32_t n,
                                                       const VkComputePipelineCreateInfo *infos,
                                                       const VkAllocationCallbacks *alloc, VkPipeline *out)
{
    struct qt_device *device = qt_device_of(handle);
    VkResult result = qt_before(device, QT_CreateComputePipelines);
    for (uint32_t i = 0; i < n && result == VK_SUCCESS; i++)
        result = is_broken(device, &infos[i]) ? VK_ERROR_UNKNOWN : VK_SUCCESS;
    if (result != VK_SUCCESS)
        memset(out, 0, n * sizeof *out);
    else
        result = device->CreateComputePipelines(handle, cache, n, infos, alloc, out);
    for (uint32_t i = 0; i < n; i++)
        if (out[i])
            note_pipeline(device, cache, &infos[i], out[i]);
    return result;
}
const PFN_vkCreateComputePipelines qt_hook_CreateComputePipelines = create_pipelines;
