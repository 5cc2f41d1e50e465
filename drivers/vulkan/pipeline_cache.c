/* VkPipelineCache on disk. */
#include "drivers/vulkan/device.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define CACHE_KIND "pipelines"

/* What pipelines are good for: a device under a driver, and these kernels. Others would work, and only pile
 * up. */
struct key {
    uint32_t vendor, device, driver;
    uint32_t from_folder; /* kernels that change all the time */
    uint8_t uuid[VK_UUID_SIZE];
    char kernels[32];
};

static struct key key_of(const struct quern_device *device)
{
    const VkPhysicalDeviceProperties *p = &device->facts.properties;
    struct key key = {.vendor = p->vendorID,
                      .device = p->deviceID,
                      .driver = p->driverVersion,
                      .from_folder = device->shaders.folder.path != NULL};
    memcpy(key.uuid, p->pipelineCacheUUID, sizeof key.uuid);
    snprintf(key.kernels, sizeof key.kernels, "%s", qn_vk_modules_hash);
    return key;
}

/* Whether the data were made by this device's driver. A driver may believe what it is given. */
static bool is_ours(const struct quern_device *device, const void *data, size_t bytes)
{
    const VkPhysicalDeviceProperties *p = &device->facts.properties;
    VkPipelineCacheHeaderVersionOne head;
    if (bytes < sizeof head)
        return false;
    memcpy(&head, data, sizeof head);
    return head.headerSize == sizeof head && head.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
           head.vendorID == p->vendorID && head.deviceID == p->deviceID &&
           memcmp(head.pipelineCacheUUID, p->pipelineCacheUUID, VK_UUID_SIZE) == 0;
}

/* ---- from disk ---- */

struct found {
    struct quern_device *device;
    VkPipelineCache cache; /* made of the data; VK_NULL_HANDLE: they are no good */
    uint64_t hash;
    size_t bytes;
};

static void take(void *user, const void *data, size_t bytes)
{
    struct found *found = user;
    struct quern_device *device = found->device;
    found->hash = XXH3_64bits(data, bytes);
    found->bytes = bytes;
    if (!is_ours(device, data, bytes)) {
        qn_log(device->cb, QUERN_LOG_WARNING, "kept pipelines are of another device or driver, and not used");
        return;
    }
    if (found->hash == device->kept_hash)
        return; /* known already */
    const VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                            .initialDataSize = bytes,
                                            .pInitialData = data};
    VkResult result = device->api.CreatePipelineCache(device->handle, &info, NULL, &found->cache);
    if (result != VK_SUCCESS) {
        qn_log(device->cb, QUERN_LOG_INFO, "kept pipelines are not used: vkCreatePipelineCache: %s",
               qn_vk_result_name(result));
        found->cache = VK_NULL_HANDLE;
    }
}

static bool find(struct quern_device *device, struct found *found)
{
    const struct quern_host *host = device->host;
    const struct key key = key_of(device);
    *found = (struct found){.device = device, .cache = VK_NULL_HANDLE};
    return host->cache && host->cache_get(host->cache, CACHE_KIND, &key, sizeof key, take, found);
}

void qn_vk_pipeline_cache_open(struct quern_device *device)
{
    uint64_t begin = qn_now_ns();
    struct found found;
    if (!device->host->cache)
        return;
    if (find(device, &found) && found.cache) {
        device->pipeline_cache = found.cache;
        device->kept_hash = found.hash;
        device->kept_bytes = found.bytes;
    } else {
        const VkPipelineCacheCreateInfo empty = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
        if (device->api.CreatePipelineCache(device->handle, &empty, NULL, &device->pipeline_cache) !=
            VK_SUCCESS)
            device->pipeline_cache = VK_NULL_HANDLE;
    }
    qn_vk_phase_add(device, QN_VK_PHASE_CACHE, 1, qn_now_ns() - begin);
}

/* ---- to disk ---- */

/* Adds what others have kept since it was read. Two that do this at the same moment may lose what one of them
 * adds, which is then compiled and kept again. */
static void merge(struct quern_device *device)
{
    struct found found;
    if (!find(device, &found) || !found.cache)
        return;
    (void)device->api.MergePipelineCaches(device->handle, device->pipeline_cache, 1, &found.cache);
    device->api.DestroyPipelineCache(device->handle, found.cache, NULL);
}

static void write(struct quern_device *device)
{
    const struct quern_host *host = device->host;
    size_t bytes = 0;
    if (device->api.GetPipelineCacheData(device->handle, device->pipeline_cache, &bytes, NULL) !=
            VK_SUCCESS ||
        bytes <= sizeof(VkPipelineCacheHeaderVersionOne) || bytes == device->kept_bytes)
        return; /* nothing is in it, or nothing new */
    void *data = qn_alloc(device->cb, bytes, 1);
    if (data &&
        device->api.GetPipelineCacheData(device->handle, device->pipeline_cache, &bytes, data) ==
            VK_SUCCESS &&
        is_ours(device, data, bytes)) {
        const struct key key = key_of(device);
        host->cache_put(host->cache, CACHE_KIND, &key, sizeof key, data, bytes);
        device->kept_hash = XXH3_64bits(data, bytes);
        device->kept_bytes = bytes;
    }
    qn_free(device->cb, data);
}

void qn_vk_pipeline_cache_save(struct quern_device *device)
{
    uint64_t begin = qn_now_ns();
    if (!device->pipeline_cache)
        return;
    merge(device);
    write(device);
    qn_vk_phase_add(device, QN_VK_PHASE_CACHE, 1, qn_now_ns() - begin);
}

void qn_vk_pipeline_cache_close(struct quern_device *device)
{
    if (!device->pipeline_cache)
        return;
    qn_vk_pipeline_cache_save(device); /* a driver may compile when work is given to it */
    device->api.DestroyPipelineCache(device->handle, device->pipeline_cache, NULL);
    device->pipeline_cache = VK_NULL_HANDLE;
}
