/* What a physical device says of itself. */
#include "drivers/vulkan/instance.h"
#include "drivers/vulkan/spirv.h"

#include <stdio.h>
#include <string.h>

static const char *const feature_names[QN_VK_FEATURE_END] = {
#define FEATURE(id, name, help) [QN_VK_##id] = name,
#include "drivers/vulkan/features.inc"
};

void qn_vk_features_print(uint32_t features, char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (int f = 0; f < QN_VK_FEATURE_END; f++)
        if (features >> f & 1 && n < size)
            n += (size_t)snprintf(text + n, size - n, "%s%s", n ? " " : "", feature_names[f]);
}

enum quern_status qn_vk_features_parse(const char *text, uint32_t *features, struct quern_error *err)
{
    *features = 0;
    while (*text) {
        size_t n = strcspn(text, ",");
        int f = 0;
        while (f < QN_VK_FEATURE_END && (strlen(feature_names[f]) != n || memcmp(feature_names[f], text, n)))
            f++;
        if (f == QN_VK_FEATURE_END) {
            char all[256];
            qn_vk_features_print(UINT32_MAX, all, sizeof all);
            return qn_fail(err, QUERN_ERR_PARAM, "\"%.*s\" is no optional feature of Vulkan; there are: %s",
                           (int)(n < 64 ? n : 64), text, all);
        }
        *features |= 1u << f;
        text += n + (text[n] == ',');
    }
    return QUERN_OK;
}

/* ---- reading ---- */

static uint32_t device_type(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return QUERN_DEVICE_INTEGRATED_GPU;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return QUERN_DEVICE_DISCRETE_GPU;
    default:
        return QUERN_DEVICE_SOFTWARE;
    }
}

/* The family that computes and does the least else. */
static void choose_queue(const struct qn_vk_instance *instance, struct qn_vk_facts *facts)
{
    VkQueueFamilyProperties families[32];
    uint32_t n = QN_LEN(families);
    instance->api.GetPhysicalDeviceQueueFamilyProperties(facts->handle, &n, families);
    facts->queue = QUERN_NONE;
    bool best_graphics = true;
    for (uint32_t i = 0; i < n; i++) {
        if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || families[i].queueCount == 0)
            continue;
        bool graphics = families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT;
        if (facts->queue != QUERN_NONE && (graphics || !best_graphics))
            continue;
        facts->queue = i;
        facts->time_bits = families[i].timestampValidBits;
        best_graphics = graphics;
    }
}

/* Bit per feature that needs an extension, and the extension is there. */
static uint32_t extension_features(const struct qn_vk_instance *instance, VkPhysicalDevice device)
{
    static const struct {
        const char *name;
        enum qn_vk_feature feature;
    } known[] = {
        {"VK_KHR_cooperative_matrix", QN_VK_COOPMAT},
        {"VK_NV_cooperative_matrix2", QN_VK_COOPMAT2},
        {"VK_EXT_memory_budget", QN_VK_MEMORY_BUDGET},
        {"VK_EXT_external_memory_host", QN_VK_HOST_IMPORT},
    };
    uint32_t n = 0, found = 0;
    if (instance->api.EnumerateDeviceExtensionProperties(device, NULL, &n, NULL) < 0 || n == 0)
        return 0;
    VkExtensionProperties *extensions = qn_alloc(instance->cb, n, sizeof *extensions);
    if (extensions && instance->api.EnumerateDeviceExtensionProperties(device, NULL, &n, extensions) >= 0)
        for (uint32_t i = 0; i < n; i++)
            for (size_t k = 0; k < QN_LEN(known); k++)
                if (strcmp(extensions[i].extensionName, known[k].name) == 0)
                    found |= 1u << known[k].feature;
    qn_free(instance->cb, extensions);
    return found;
}

static const char coopmat_unknown[] =
#ifdef VK_KHR_cooperative_matrix
    "the device has none of half floats that are summed in floats";
#else
    "this program was built with headers of Vulkan that do not know them";
#endif

/* The shape of cooperative matrices that kernels use; 0: none, or this build does not know how to ask. */
static uint32_t coopmat_shape(const struct qn_vk_instance *instance, VkPhysicalDevice device)
{
    uint32_t shape = 0;
#ifdef VK_KHR_cooperative_matrix
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR here = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                          .pNext = &here};
    instance->api.GetPhysicalDeviceFeatures2(device, &features);
    if (!here.cooperativeMatrix) /* the extension may be there without it */
        return 0;
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)instance->get_proc(
            instance->handle, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    VkCooperativeMatrixPropertiesKHR all[64];
    uint32_t n = QN_LEN(all);
    for (uint32_t i = 0; i < n; i++)
        all[i] =
            (VkCooperativeMatrixPropertiesKHR){.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    if (!get || get(device, &n, all) < 0)
        return 0;
    for (uint32_t i = 0; i < n && !shape; i++)
        if (all[i].AType == VK_COMPONENT_TYPE_FLOAT16_KHR && all[i].BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
            all[i].CType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
            all[i].ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR && all[i].scope == VK_SCOPE_SUBGROUP_KHR &&
            all[i].MSize <= 32 && all[i].NSize <= 32 && all[i].KSize <= 32)
            shape = all[i].MSize | all[i].NSize << 8 | all[i].KSize << 16;
#endif
    return shape;
}

#ifdef VK_NV_cooperative_matrix2
/* Whether kernels can load tensors that they decode, and finish elements. */
static bool has_tensors(const struct qn_vk_instance *instance, VkPhysicalDevice device, bool *workgroup)
{
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV here = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                          .pNext = &here};
    instance->api.GetPhysicalDeviceFeatures2(device, &features);
    *workgroup = here.cooperativeMatrixWorkgroupScope;
    return here.cooperativeMatrixFlexibleDimensions && here.cooperativeMatrixPerElementOperations &&
           here.cooperativeMatrixTensorAddressing && here.cooperativeMatrixBlockLoads;
}

static bool is_better(const VkCooperativeMatrixFlexibleDimensionsPropertiesNV *at,
                      const struct qn_vk_flexible *than, bool workgroup)
{
    bool whole = at->scope == VK_SCOPE_WORKGROUP_KHR;
    return at->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && at->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
           at->CType == VK_COMPONENT_TYPE_FLOAT32_KHR && at->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
           (whole ? workgroup : at->scope == VK_SCOPE_SUBGROUP_KHR) &&
           (than->m == 0 || whole > than->workgroup ||
            (whole && at->workgroupInvocations > than->invocations));
}
#endif

/* The cooperative matrices of any size: of workgroups, the largest, rather than of subgroups. */
static struct qn_vk_flexible flexible_matrices(const struct qn_vk_instance *instance, VkPhysicalDevice device)
{
    struct qn_vk_flexible best = {0};
#ifdef VK_NV_cooperative_matrix2
    bool workgroup;
    PFN_vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV get =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV)instance->get_proc(
            instance->handle, "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV");
    VkCooperativeMatrixFlexibleDimensionsPropertiesNV all[64];
    uint32_t n = QN_LEN(all);
    for (uint32_t i = 0; i < n; i++)
        all[i] = (VkCooperativeMatrixFlexibleDimensionsPropertiesNV){
            .sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_FLEXIBLE_DIMENSIONS_PROPERTIES_NV};
    if (!has_tensors(instance, device, &workgroup) || !get || get(device, &n, all) < 0)
        return best;
    for (uint32_t i = 0; i < n; i++)
        if (is_better(&all[i], &best, workgroup))
            best = (struct qn_vk_flexible){.m = all[i].MGranularity,
                                           .n = all[i].NGranularity,
                                           .k = all[i].KGranularity,
                                           .workgroup = all[i].scope == VK_SCOPE_WORKGROUP_KHR,
                                           .invocations = all[i].workgroupInvocations};
    VkPhysicalDeviceCooperativeMatrix2PropertiesNV limits = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_PROPERTIES_NV};
    VkPhysicalDeviceProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                              .pNext = &limits};
    instance->api.GetPhysicalDeviceProperties2(device, &properties);
    best.most = limits.cooperativeMatrixFlexibleDimensionsMaxDimension;
    best.reserved = best.workgroup ? limits.cooperativeMatrixWorkgroupScopeReservedSharedMemory : 0;
#endif
    return best;
}

static void read_features(const struct qn_vk_instance *instance, struct qn_vk_facts *facts,
                          const VkPhysicalDeviceSubgroupProperties *subgroup)
{
    bool has_1_3 = facts->properties.apiVersion >= VK_API_VERSION_1_3;
    VkPhysicalDeviceVulkan13Features v13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
    VkPhysicalDeviceVulkan12Features v12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
                                            .pNext = has_1_3 ? &v13 : NULL};
    VkPhysicalDeviceVulkan11Features v11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
                                            .pNext = &v12};
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &v11};
    instance->api.GetPhysicalDeviceFeatures2(facts->handle, &all);
    const bool here[QN_VK_FEATURE_END] = {
        [QN_VK_INT_DOT] = v13.shaderIntegerDotProduct,
        [QN_VK_SUBGROUP] = (subgroup->supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
                           (subgroup->supportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT),
        [QN_VK_SUBGROUP_SIZE] = v13.subgroupSizeControl && v13.computeFullSubgroups,
        [QN_VK_FLOAT16] = v12.shaderFloat16,
        [QN_VK_STORAGE8] = v12.storageBuffer8BitAccess,
    };
    facts->features = extension_features(instance, facts->handle);
    for (int f = 0; f < QN_VK_FEATURE_END; f++)
        facts->features |= (uint32_t)here[f] << f;
    if (facts->features >> QN_VK_COOPMAT & 1 && v12.shaderFloat16 && v12.vulkanMemoryModel)
        facts->coopmat = coopmat_shape(instance, facts->handle);
    if (facts->features >> QN_VK_COOPMAT & 1 && facts->coopmat == 0) {
        facts->features &= ~(1u << QN_VK_COOPMAT);
        snprintf(facts->no_coopmat, sizeof facts->no_coopmat, "%s", coopmat_unknown);
    }
    if (facts->coopmat && facts->features >> QN_VK_COOPMAT2 & 1 && v13.maintenance4 &&
        v12.bufferDeviceAddress)
        facts->flexible = flexible_matrices(instance, facts->handle);
    if (facts->flexible.m == 0) /* the extension has parts, of which a device may lack some */
        facts->features &= ~(1u << QN_VK_COOPMAT2);
    if (!v11.storageBuffer16BitAccess)
        facts->missing = "16-bit storage";
    else if (!v12.timelineSemaphore)
        facts->missing = "timeline semaphores";
}

static void write_identity(struct qn_vk_facts *facts, const VkPhysicalDeviceIDProperties *id)
{
    size_t n = 0;
    for (uint32_t i = 0; i < VK_UUID_SIZE; i++)
        n += (size_t)snprintf(facts->identity + n, sizeof facts->identity - n, "%02x", id->driverUUID[i]);
    for (uint32_t i = 0; i < VK_UUID_SIZE; i++)
        n += (size_t)snprintf(facts->identity + n, sizeof facts->identity - n, "%02x", id->deviceUUID[i]);
    snprintf(facts->identity + n, sizeof facts->identity - n, "-%08x-%08x-%08x", facts->properties.vendorID,
             facts->properties.deviceID, facts->properties.driverVersion);
}

/* The first number with dots in what the driver says of itself; else the number that it has as a version of
 * Vulkan's kind. */
static void write_version(struct qn_vk_facts *facts, const char *info)
{
    uint32_t version = facts->properties.driverVersion;
    for (const char *at = info; *at; at += strcspn(at, "0123456789")) {
        size_t n = strspn(at, "0123456789.");
        if (memchr(at, '.', n) && at[0] != '.' && at[n - 1] != '.') {
            snprintf(facts->driver_version, sizeof facts->driver_version, "%.*s", (int)(n < 60 ? n : 60), at);
            return;
        }
        at += n;
    }
    snprintf(facts->driver_version, sizeof facts->driver_version, "%u.%u.%u", VK_API_VERSION_MAJOR(version),
             VK_API_VERSION_MINOR(version), VK_API_VERSION_PATCH(version));
}

/* Limits that not every device tells. */
static void read_optional_limits(const struct qn_vk_instance *instance, struct qn_vk_facts *facts)
{
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT import = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT};
    VkPhysicalDeviceMaintenance4Properties buffers = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES, .maxBufferSize = UINT64_MAX};
    VkPhysicalDeviceShaderIntegerDotProductProperties dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    if (facts->properties.apiVersion >= VK_API_VERSION_1_3) {
        all.pNext = &buffers;
        buffers.pNext = &dot;
    }
    if (facts->features >> QN_VK_HOST_IMPORT & 1) {
        import.pNext = all.pNext;
        all.pNext = &import;
    }
    instance->api.GetPhysicalDeviceProperties2(facts->handle, &all);
    if (facts->max_buffer > buffers.maxBufferSize)
        facts->max_buffer = buffers.maxBufferSize;
    facts->fast_dot = dot.integerDotProduct4x8BitPackedSignedAccelerated;
    facts->import_align = import.minImportedHostPointerAlignment;
}

void qn_vk_facts_read(const struct qn_vk_instance *instance, uint32_t index, uint32_t without,
                      struct qn_vk_facts *facts)
{
    *facts = (struct qn_vk_facts){.handle = instance->devices[index]};
    VkPhysicalDeviceProperties2 first = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    instance->api.GetPhysicalDeviceProperties2(facts->handle, &first);
    facts->properties = first.properties;
    facts->type = device_type(first.properties.deviceType);
    choose_queue(instance, facts);
    if (first.properties.apiVersion < VK_API_VERSION_1_2) {
        facts->missing = "Vulkan 1.2";
        return;
    }
    bool has_1_3 = first.properties.apiVersion >= VK_API_VERSION_1_3;
    VkPhysicalDeviceSubgroupSizeControlProperties sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES};
    VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
                                               .pNext = has_1_3 ? &sizes : NULL};
    VkPhysicalDeviceMaintenance3Properties limits = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &driver};
    VkPhysicalDeviceSubgroupProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &limits};
    VkPhysicalDeviceIDProperties id = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES,
                                       .pNext = &subgroup};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &id};
    instance->api.GetPhysicalDeviceProperties2(facts->handle, &all);
    write_identity(facts, &id);
    VkPhysicalDeviceMemoryProperties2 memory = {.sType =
                                                    VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    instance->api.GetPhysicalDeviceMemoryProperties2(facts->handle, &memory);
    facts->memory = memory.memoryProperties;
    facts->max_buffer = limits.maxMemoryAllocationSize;
    facts->subgroup = subgroup.subgroupSize;
    facts->min_subgroup = has_1_3 ? sizes.minSubgroupSize : subgroup.subgroupSize;
    facts->max_subgroup = has_1_3 ? sizes.maxSubgroupSize : subgroup.subgroupSize;
    uint32_t version = first.properties.apiVersion;
    snprintf(facts->driver, sizeof facts->driver, "%.40s %.40s (Vulkan %u.%u.%u)", driver.driverName,
             driver.driverInfo, VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version),
             VK_API_VERSION_PATCH(version));
    snprintf(facts->driver_name, sizeof facts->driver_name, "%.60s", driver.driverName);
    write_version(facts, driver.driverInfo);
    /* Mesa's LP_MAX_TGSI_LOOP_ITERATIONS: after as many rounds it leaves every loop, and says nothing. */
    facts->max_rounds = driver.driverID == VK_DRIVER_ID_MESA_LLVMPIPE ? 65535 : 0;
    read_features(instance, facts, &subgroup);
    if (!has_1_3 || !(sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT))
        facts->features &= ~(1u << QN_VK_SUBGROUP_SIZE);
    facts->features &= ~without;
    bool one_size = has_1_3 && facts->min_subgroup == facts->max_subgroup;
    facts->full_subgroup = facts->features >> QN_VK_SUBGROUP_SIZE & 1 || one_size ? facts->subgroup : 0;
    if (facts->properties.limits.maxPerStageDescriptorStorageBuffers < QN_VK_SET_BUFFERS)
        facts->missing = "room for the storage buffers of a kernel";
    read_optional_limits(instance, facts);
    if (facts->queue == QUERN_NONE)
        facts->missing = "a queue that computes";
}

void qn_vk_facts_limit(struct qn_vk_facts *facts, struct qn_vk_shaders *shaders)
{
    static const struct {
        enum qn_vk_feature feature;
        enum qn_vk_kernel kernel; /* one of those that need it */
    } needed[] = {{QN_VK_COOPMAT, QN_VK_ATTENTION_COOPMAT},
                  {QN_VK_COOPMAT2, QN_VK_MATMUL_COOPMAT2 + QUERN_F16}};
    struct quern_error why;
    if (!qn_vk_has_coopmat(facts))
        facts->features &= ~(1u << QN_VK_COOPMAT2);
    for (size_t i = 0; i < QN_LEN(needed); i++)
        if (facts->features >> needed[i].feature & 1 && !qn_vk_can_have(shaders, needed[i].kernel, &why)) {
            facts->features &= ~(1u << QN_VK_COOPMAT2 | 1u << needed[i].feature);
            snprintf(facts->no_coopmat, sizeof facts->no_coopmat, "%s: there are no kernels: %.200s",
                     feature_names[needed[i].feature], why.text);
        }
}
