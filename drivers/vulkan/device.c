/* Opening a device, giving it work, waiting for it. */
#include "drivers/vulkan/device.h"

#include "base/clock.h"

#include <string.h>

/* Tables of the IQ formats, one after another, as shaders/lib/grids.glsl reads them. */
static const uint32_t grid_words[] = {
#include "iq_grid_words.inc"
};

/* ---- opening ---- */

/* Features beyond those of Vulkan 1.2. */
struct features {
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot;
    VkPhysicalDeviceSubgroupSizeControlFeatures sizes;
#ifdef VK_KHR_cooperative_matrix
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coopmat;
#endif
#ifdef VK_NV_cooperative_matrix2
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV coopmat2;
#endif
    VkPhysicalDeviceMaintenance4Features size_by_id;
};

static void *chain(void *features, void *next, bool wanted)
{
    ((VkBaseOutStructure *)features)->pNext = next;
    return wanted ? features : next;
}

/* Turns on those that the device has and kernels use: the first of the chain, NULL: none. */
static void *chain_features(const struct qn_vk_facts *facts, struct features *f)
{
    *f = (struct features){
        .dot = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
                .shaderIntegerDotProduct = VK_TRUE},
        .sizes = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
                  .subgroupSizeControl = VK_TRUE,
                  .computeFullSubgroups = VK_TRUE},
#ifdef VK_KHR_cooperative_matrix
        .coopmat = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
                    .cooperativeMatrix = VK_TRUE},
#endif
#ifdef VK_NV_cooperative_matrix2
        .coopmat2 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV,
                     .cooperativeMatrixWorkgroupScope = facts->flexible.workgroup,
                     .cooperativeMatrixFlexibleDimensions = VK_TRUE,
                     .cooperativeMatrixPerElementOperations = VK_TRUE,
                     .cooperativeMatrixTensorAddressing = VK_TRUE,
                     .cooperativeMatrixBlockLoads = VK_TRUE},
#endif
        .size_by_id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES,
                       .maintenance4 = VK_TRUE}};
    void *first = chain(&f->dot, NULL, facts->features >> QN_VK_INT_DOT & 1);
    first = chain(&f->sizes, first, facts->features >> QN_VK_SUBGROUP_SIZE & 1);
#ifdef VK_KHR_cooperative_matrix
    first = chain(&f->coopmat, first, qn_vk_has_coopmat(facts));
#endif
#ifdef VK_NV_cooperative_matrix2
    first = chain(&f->coopmat2, first, qn_vk_has_coopmat2(facts));
#endif
    return chain(&f->size_by_id, first, qn_vk_has_coopmat2(facts)); /* which are modules of SPIR-V 1.6 */
}

static enum quern_status create_device(struct quern_device *device, struct quern_error *err)
{
    const float priority = 1.0f;
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                           .queueFamilyIndex = device->facts.queue,
                                           .queueCount = 1,
                                           .pQueuePriorities = &priority};
    bool has_coopmat = qn_vk_has_coopmat(&device->facts), has_coopmat2 = qn_vk_has_coopmat2(&device->facts);
    const char *extensions[3];
    uint32_t n_extensions = 0;
    if (has_coopmat)
        extensions[n_extensions++] = "VK_KHR_cooperative_matrix";
    if (has_coopmat2)
        extensions[n_extensions++] = "VK_NV_cooperative_matrix2";
    struct features more;
    VkPhysicalDeviceVulkan12Features v12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
                                            .pNext = chain_features(&device->facts, &more),
                                            .timelineSemaphore = VK_TRUE,
                                            .shaderFloat16 = has_coopmat,
                                            .bufferDeviceAddress = has_coopmat2,
                                            .vulkanMemoryModel = has_coopmat};
    VkPhysicalDeviceVulkan11Features v11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
                                            .pNext = &v12,
                                            .storageBuffer16BitAccess = VK_TRUE};
    const VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                                .pNext = &v11};
    device->imports &= device->facts.features >> QN_VK_HOST_IMPORT & 1 &&
                       device->facts.type != QUERN_DEVICE_DISCRETE_GPU && device->facts.import_align > 0;
    if (device->imports)
        extensions[n_extensions++] = "VK_EXT_external_memory_host";
    const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                     .pNext = &features,
                                     .queueCreateInfoCount = 1,
                                     .pQueueCreateInfos = &queue,
                                     .enabledExtensionCount = n_extensions,
                                     .ppEnabledExtensionNames = extensions};
    VkResult result = device->api.CreateDevice(device->facts.handle, &info, NULL, &device->handle);
    if (result != VK_SUCCESS) {
        device->handle = VK_NULL_HANDLE;
        return qn_vk_fail(err, result, "CreateDevice");
    }
    bool all = true;
#define QN_VK_GLOBAL(name)
#define QN_VK_INSTANCE(name)
#define QN_VK_DEVICE(name)                                                                      \
    device->api.name = (PFN_vk##name)device->api.GetDeviceProcAddr(device->handle, "vk" #name); \
    all = all && device->api.name;
#include "drivers/vulkan/functions.inc"
    if (device->imports)
        device->host_pointer_properties =
            (PFN_vkGetMemoryHostPointerPropertiesEXT)device->api.GetDeviceProcAddr(
                device->handle, "vkGetMemoryHostPointerPropertiesEXT");
    device->imports = device->host_pointer_properties != NULL;
    return all ? QUERN_OK : qn_fail(err, QUERN_ERR_DEVICE, "the driver lacks functions of Vulkan 1.2");
}

static enum quern_status create_objects(struct quern_device *device, struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    device->api.GetDeviceQueue(device->handle, device->facts.queue, 0, &device->queue);
    const VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                            .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    const VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
                                             .pNext = &type};
    VK(device, CreateSemaphore, device->handle, &semaphore, NULL, &device->timeline);
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = device->facts.queue};
    VK(device, CreateCommandPool, device->handle, &pool, NULL, &device->commands);
    for (int i = 0; i < QN_VK_COPIES && !status; i++)
        status = qn_vk_commands(device, &device->copies[i].commands, 1, err);
    if (!status)
        status = qn_vk_buffer_create(device, QN_VK_USE_DEVICE, sizeof grid_words, &device->grids, err);
    if (!status)
        status = qn_vk_write(device, device->grids, 0, grid_words, sizeof grid_words, err);
done:
    return status;
}

/* The subgroups that kernels ask for are of the size that the settings say, if the device has it. */
static void choose_subgroup(const struct quern_callbacks *cb, const struct qn_vk_settings *settings,
                            struct qn_vk_facts *facts)
{
    uint64_t size = qn_vk_set(settings, QN_VK_SET_SUBGROUP);
    const char *origin = settings->origin[QN_VK_SET_SUBGROUP];
    bool can_ask = facts->features >> QN_VK_SUBGROUP_SIZE & 1;
    if (size == QN_VK_UNSET || size == facts->full_subgroup)
        return;
    if (can_ask && size >= facts->min_subgroup && size <= facts->max_subgroup)
        facts->full_subgroup = (uint32_t)size;
    else
        qn_log(cb, QUERN_LOG_INFO, "%s%skernels.subgroup is %llu, which %s does not have; it has %u to %u%s",
               origin ? origin : "", origin ? ": " : "", (unsigned long long)size,
               facts->properties.deviceName, facts->min_subgroup, facts->max_subgroup,
               can_ask ? "" : " as it likes");
}

/* What a device says of itself is at most what its settings say. */
static void clamp_facts(const struct qn_vk_settings *settings, struct qn_vk_facts *facts)
{
    VkPhysicalDeviceLimits *limits = &facts->properties.limits;
    struct {
        enum qn_vk_setting id;
        uint32_t *limit;
    } const clamped[] = {{QN_VK_SET_STORAGE_BUFFER, &limits->maxStorageBufferRange},
                         {QN_VK_SET_SHARED_MEMORY, &limits->maxComputeSharedMemorySize},
                         {QN_VK_SET_INVOCATIONS, &limits->maxComputeWorkGroupInvocations}};
    for (size_t i = 0; i < QN_LEN(clamped); i++)
        if (qn_vk_set(settings, clamped[i].id) < *clamped[i].limit)
            *clamped[i].limit = (uint32_t)qn_vk_set(settings, clamped[i].id);
    if (qn_vk_set(settings, QN_VK_SET_ALLOCATION) < facts->max_buffer)
        facts->max_buffer = qn_vk_set(settings, QN_VK_SET_ALLOCATION);
    uint64_t rounds = qn_vk_set(settings, QN_VK_SET_LOOP_ROUNDS);
    if (facts->max_rounds == 0 || rounds < facts->max_rounds)
        facts->max_rounds = rounds == QN_VK_UNSET ? facts->max_rounds : rounds;
    uint64_t percent = qn_vk_set(settings, QN_VK_SET_MEMORY_FRACTION);
    for (uint32_t h = 0; h < facts->memory.memoryHeapCount && percent < 100; h++)
        facts->memory.memoryHeaps[h].size = facts->memory.memoryHeaps[h].size / 100 * percent;
}

enum quern_status qn_vk_device_init(struct quern_device *device, uint32_t index, struct quern_error *err)
{
    const struct qn_vk_settings *settings = &device->settings;
    const char *identity = settings->identity;
    uint64_t begin = qn_now_ns();
    enum quern_status status = qn_vk_instance_init(&device->instance, device->cb, settings->validate, err);
    if (status)
        return status;
    uint64_t made = qn_now_ns();
    qn_vk_phase_add(device, QN_VK_PHASE_INSTANCE, 1, made - begin);
    if (index >= device->instance.n_devices)
        status = qn_fail(err, QUERN_ERR_PARAM, "there is no Vulkan device %u", index);
    if (!status) {
        device->api = device->instance.api;
        qn_vk_facts_read(&device->instance, index, settings->without, &device->facts);
        qn_vk_facts_limit(&device->facts, &device->shaders);
        clamp_facts(settings, &device->facts);
        choose_subgroup(device->cb, settings, &device->facts);
        if (identity && strcmp(identity, device->facts.identity) != 0)
            status = qn_fail(err, QUERN_ERR_LOST, "Vulkan device %u is not the one that was listed", index);
        else if (device->facts.missing)
            status = qn_fail(err, QUERN_ERR_UNSUPPORTED, "%s has no %s", device->facts.properties.deviceName,
                             device->facts.missing);
    }
    if (!status)
        status = create_device(device, err);
    if (!status)
        status = create_objects(device, err);
    qn_vk_phase_add(device, QN_VK_PHASE_DEVICE, 1, qn_now_ns() - made);
    if (!status)
        qn_vk_pipeline_cache_open(device);
    if (status)
        qn_vk_device_finish(device);
    return status;
}

void qn_vk_device_finish(struct quern_device *device)
{
    bool idle = qn_vk_idle(device);
    if (device->handle && device->commands) {
        qn_vk_pipelines_finish(device);
        qn_vk_pipeline_cache_close(device);
        qn_vk_buffer_destroy(device, device->grids);
    }
    if (!idle) {
        qn_log(device->cb, QUERN_LOG_WARNING, "%s hangs: its memory is lost until the program ends",
               device->facts.properties.deviceName);
        return;
    }
    if (device->handle && device->api.DestroyDevice) {
        if (device->commands)
            device->api.DestroyCommandPool(device->handle, device->commands, NULL);
        if (device->timeline)
            device->api.DestroySemaphore(device->handle, device->timeline, NULL);
        device->api.DestroyDevice(device->handle, NULL);
    }
    device->handle = VK_NULL_HANDLE;
    qn_vk_instance_finish(&device->instance);
}

/* ---- work ---- */

enum quern_status qn_vk_commands(struct quern_device *device, VkCommandBuffer *commands, uint32_t n,
                                 struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    const VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                              .commandPool = device->commands,
                                              .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                              .commandBufferCount = n};
    VK(device, AllocateCommandBuffers, device->handle, &info, commands);
done:
    return status;
}

enum quern_status qn_vk_submit(struct quern_device *device, const VkCommandBuffer *commands, uint32_t n,
                               uint64_t *point, struct quern_error *err)
{
    uint64_t next = device->point + 1;
    const VkTimelineSemaphoreSubmitInfo values = {.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                                  .signalSemaphoreValueCount = 1,
                                                  .pSignalSemaphoreValues = &next};
    const VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                               .pNext = &values,
                               .commandBufferCount = n,
                               .pCommandBuffers = commands,
                               .signalSemaphoreCount = 1,
                               .pSignalSemaphores = &device->timeline};
    VkResult result = device->api.QueueSubmit(device->queue, 1, &info, VK_NULL_HANDLE);
    if (result != VK_SUCCESS)
        return qn_vk_fail(err, result, "QueueSubmit");
    *point = device->point = next;
    return QUERN_OK;
}

#define QN_VK_GLOBAL(name)
#define QN_VK_INSTANCE(name)
#define QN_VK_DEVICE(name)
#define QN_VK_DESTROY(name, Type)                                                          \
    static VKAPI_ATTR void VKAPI_CALL leave_##name(VkDevice device, Type object,           \
                                                   const VkAllocationCallbacks *allocator) \
    {                                                                                      \
    }
#include "drivers/vulkan/functions.inc"

/* The device hangs: from now on its objects are left as they are, because it may still use them. */
static void leave_objects(struct quern_device *device)
{
    device->hung = true;
#define QN_VK_GLOBAL(name)
#define QN_VK_INSTANCE(name)
#define QN_VK_DEVICE(name)
#define QN_VK_DESTROY(name, Type) device->api.name = leave_##name;
#include "drivers/vulkan/functions.inc"
}

enum quern_status qn_vk_wait(struct quern_device *device, uint64_t point, uint64_t timeout_ns,
                             struct quern_error *err)
{
    if (point > device->point)
        return qn_fail(err, QUERN_ERR_PARAM, "work %llu has not been submitted", (unsigned long long)point);
    const VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                      .semaphoreCount = 1,
                                      .pSemaphores = &device->timeline,
                                      .pValues = &point};
    VkResult result =
        device->hung ? VK_TIMEOUT : device->api.WaitSemaphores(device->handle, &info, timeout_ns);
    if (result == VK_TIMEOUT && timeout_ns >= QN_VK_PATIENCE_NS)
        leave_objects(device);
    if (device->hung)
        return qn_fail(err, QUERN_ERR_TIMEOUT, "it hangs: work given to it does not end");
    if (result == VK_SUCCESS && point > device->done_point) {
        device->done_point = point;
        device->done_ns = qn_now_ns();
    }
    if (result == VK_SUCCESS && device->first_point && point >= device->first_point) {
        qn_vk_phase_add(device, QN_VK_PHASE_FIRST_RUN, 1, qn_now_ns() - device->first_ns);
        device->first_point = 0;
    }
    return result == VK_SUCCESS ? QUERN_OK : qn_vk_fail(err, result, "WaitSemaphores");
}

bool qn_vk_idle(struct quern_device *device)
{
    uint64_t done;
    struct quern_error err;
    if (device->hung || device->point == 0)
        return !device->hung;
    /* where it is lost, nothing runs */
    if (device->api.GetSemaphoreCounterValue(device->handle, device->timeline, &done) == VK_SUCCESS &&
        done < device->point)
        (void)qn_vk_wait(device, device->point, QN_VK_PATIENCE_NS, &err);
    return !device->hung;
}

void qn_vk_barrier(const struct quern_device *device, VkCommandBuffer commands, bool host)
{
    const VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = host ? VK_ACCESS_HOST_READ_BIT
                              : VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                                    VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT |
                                    VK_ACCESS_INDIRECT_COMMAND_READ_BIT};
    const VkPipelineStageFlags work = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    device->api.CmdPipelineBarrier(
        commands, work, host ? VK_PIPELINE_STAGE_HOST_BIT : work | VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT, 0, 1,
        &barrier, 0, NULL, 0, NULL);
}
