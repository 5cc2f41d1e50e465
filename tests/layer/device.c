/* The device that is played: what a physical device says of itself, clamped. */
#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- settings */

static const char *const setting_names[QT_SETTINGS] = {
#define SETTING(name) #name,
#include "settings.inc"
};

enum { MAX_EXTENSIONS = 16 };

/* Written by qt_device_settings_read() with the layer's lock held, while no device is in use; read without
 * it. */
static struct {
    bool on[QT_SETTINGS];
    uint64_t value[QT_SETTINGS];
    char device_name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    char extensions[MAX_EXTENSIONS][VK_MAX_EXTENSION_NAME_SIZE]; /* hidden */
    size_t n_extensions;
} played;

/* What the weaker half of the phones has. */
static const char phone[] =
    "maxStorageBufferRange=128M,maxMemoryAllocationSize=256M,maxBufferSize=256M,maxComputeSharedMemorySize="
    "16K,"
    "maxPushConstantsSize=128,maxComputeWorkGroupInvocations=256,maxComputeWorkGroupSize=256,"
    "maxComputeWorkGroupCount=65535,minStorageBufferOffsetAlignment=256,storageBuffer8BitAccess=0,"
    "shaderFloat16=0,"
    "shaderInt8=0,shaderInt64=0,shaderIntegerDotProduct=0,subgroupArithmetic=0,subgroupSizeControl=0,"
    "computeFullSubgroups=0,VK_EXT_external_memory_host=0,VK_KHR_cooperative_matrix=0,deviceType=integrated,"
    "apiVersion=1.2";

bool qt_setting(enum qt_setting setting, uint64_t *value)
{
    if (played.on[setting])
        *value = played.value[setting];
    return played.on[setting];
}

bool qt_feature_off(enum qt_setting setting)
{
    return played.on[setting] && played.value[setting] == 0;
}

bool qt_hidden_extension(const char *name)
{
    for (size_t i = 0; i < played.n_extensions; i++)
        if (strcmp(played.extensions[i], name) == 0)
            return true;
    return false;
}

static void bad_setting(const char *text)
{
    fprintf(stderr, "VK_LAYER_QUERN_test: QUERN_LAYER_DEVICE does not understand \"%s\"\n", text);
    abort();
}

/* "64K", "0x10de" */
static uint64_t number_of(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 0);
    const char *units = "KMG", *unit = *end ? strchr(units, *end) : NULL;
    if (end == text || (*end && (!unit || end[1])))
        bad_setting(text);
    for (const char *u = units; unit && u <= unit; u++)
        value *= 1024;
    return value;
}

static uint64_t value_of(enum qt_setting setting, const char *text)
{
    static const struct {
        const char *name;
        VkPhysicalDeviceType type;
    } types[] = {{"integrated", VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU},
                 {"discrete", VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU},
                 {"cpu", VK_PHYSICAL_DEVICE_TYPE_CPU}};
    unsigned major, minor;
    if (setting == QT_SET_apiVersion) {
        if (sscanf(text, "%u.%u", &major, &minor) != 2)
            bad_setting(text);
        return VK_MAKE_API_VERSION(0, major, minor, 0);
    }
    if (setting == QT_SET_deviceType) {
        for (size_t i = 0; i < QT_LEN(types); i++)
            if (strcmp(text, types[i].name) == 0)
                return (uint64_t)types[i].type;
        bad_setting(text);
    }
    return number_of(text);
}

static void set(char *name)
{
    char *value = strchr(name, '=');
    if (!value)
        bad_setting(name);
    *value++ = '\0';
    if (strcmp(name, "deviceName") == 0) {
        snprintf(played.device_name, sizeof played.device_name, "%s", value);
        return;
    }
    if (strncmp(name, "VK_", 3) == 0 && strcmp(value, "0") == 0 && played.n_extensions < MAX_EXTENSIONS) {
        snprintf(played.extensions[played.n_extensions++], VK_MAX_EXTENSION_NAME_SIZE, "%s", name);
        return;
    }
    for (int s = 0; s < QT_SETTINGS; s++)
        if (strcmp(name, setting_names[s]) == 0) {
            played.value[s] = value_of((enum qt_setting)s, value);
            played.on[s] = true;
            return;
        }
    bad_setting(name);
}

static void set_all(const char *text)
{
    char copy[2048], *rest = copy;
    if (strlen(text) >= sizeof copy)
        bad_setting(text);
    strcpy(copy, text);
    for (char *one = strtok_r(copy, ",", &rest); one; one = strtok_r(NULL, ",", &rest))
        if (strcmp(one, "phone") == 0)
            set_all(phone);
        else
            set(one);
}

void qt_device_settings_read(const char *text)
{
    memset(&played, 0, sizeof played);
    set_all(text);
}

/* ---------------------------------------------------------------- limits */

static void at_most_32(enum qt_setting setting, uint32_t *limit)
{
    if (played.on[setting] && *limit > played.value[setting])
        *limit = (uint32_t)played.value[setting];
}

static void at_most_64(enum qt_setting setting, uint64_t *limit)
{
    if (played.on[setting] && *limit > played.value[setting])
        *limit = played.value[setting];
}

static void clamp_limits(VkPhysicalDeviceLimits *limits)
{
    at_most_32(QT_SET_maxStorageBufferRange, &limits->maxStorageBufferRange);
    at_most_32(QT_SET_maxMemoryAllocationCount, &limits->maxMemoryAllocationCount);
    at_most_32(QT_SET_maxComputeSharedMemorySize, &limits->maxComputeSharedMemorySize);
    at_most_32(QT_SET_maxPushConstantsSize, &limits->maxPushConstantsSize);
    at_most_32(QT_SET_maxComputeWorkGroupInvocations, &limits->maxComputeWorkGroupInvocations);
    at_most_32(QT_SET_maxPerStageDescriptorStorageBuffers, &limits->maxPerStageDescriptorStorageBuffers);
    for (int i = 0; i < 3; i++) {
        at_most_32(QT_SET_maxComputeWorkGroupSize, &limits->maxComputeWorkGroupSize[i]);
        at_most_32(QT_SET_maxComputeWorkGroupCount, &limits->maxComputeWorkGroupCount[i]);
    }
    uint64_t align;
    if (qt_setting(QT_SET_minStorageBufferOffsetAlignment, &align) &&
        align > limits->minStorageBufferOffsetAlignment)
        limits->minStorageBufferOffsetAlignment = align;
    if (qt_feature_off(QT_SET_timestampValidBits)) {
        limits->timestampComputeAndGraphics = VK_FALSE;
        limits->timestampPeriod = 0;
    }
}

static void clamp_properties(VkPhysicalDeviceProperties *p)
{
    uint64_t value;
    clamp_limits(&p->limits);
    if (qt_setting(QT_SET_apiVersion, &value) && value < p->apiVersion)
        p->apiVersion = (uint32_t)value;
    if (qt_setting(QT_SET_vendorID, &value))
        p->vendorID = (uint32_t)value;
    if (qt_setting(QT_SET_deviceID, &value))
        p->deviceID = (uint32_t)value;
    if (qt_setting(QT_SET_driverVersion, &value))
        p->driverVersion = (uint32_t)value;
    if (qt_setting(QT_SET_deviceType, &value))
        p->deviceType = (VkPhysicalDeviceType)value;
    if (qt_setting(QT_SET_pipelineCacheUUID, &value))
        memset(p->pipelineCacheUUID, (int)value, sizeof p->pipelineCacheUUID);
    if (played.device_name[0])
        memcpy(p->deviceName, played.device_name, sizeof p->deviceName);
}

static void no_subgroup_arithmetic(VkSubgroupFeatureFlags *operations)
{
    if (qt_feature_off(QT_SET_subgroupArithmetic))
        *operations &= VK_SUBGROUP_FEATURE_BASIC_BIT;
}

static void clamp_properties_chain(void *chain)
{
    for (VkBaseOutStructure *s = chain; s; s = s->pNext)
        switch (s->sType) {
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES:
            at_most_64(QT_SET_maxMemoryAllocationSize,
                       &((VkPhysicalDeviceMaintenance3Properties *)s)->maxMemoryAllocationSize);
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES:
            at_most_64(QT_SET_maxBufferSize, &((VkPhysicalDeviceMaintenance4Properties *)s)->maxBufferSize);
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES:
            no_subgroup_arithmetic(&((VkPhysicalDeviceSubgroupProperties *)s)->supportedOperations);
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES:
            at_most_64(QT_SET_maxMemoryAllocationSize,
                       &((VkPhysicalDeviceVulkan11Properties *)s)->maxMemoryAllocationSize);
            no_subgroup_arithmetic(&((VkPhysicalDeviceVulkan11Properties *)s)->subgroupSupportedOperations);
            break;
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES:
            at_most_64(QT_SET_maxBufferSize, &((VkPhysicalDeviceVulkan13Properties *)s)->maxBufferSize);
            break;
#ifdef VK_NV_cooperative_matrix2
        case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_PROPERTIES_NV:
            at_most_32(QT_SET_cooperativeMatrixFlexibleDimensionsMaxDimension,
                       &((VkPhysicalDeviceCooperativeMatrix2PropertiesNV *)s)
                            ->cooperativeMatrixFlexibleDimensionsMaxDimension);
            break;
#endif
        default:
            break;
        }
}

void qt_shown_properties(const struct qt_instance *instance, VkPhysicalDevice device,
                         VkPhysicalDeviceProperties *properties)
{
    instance->GetPhysicalDeviceProperties(device, properties);
    clamp_properties(properties);
}

static VKAPI_ATTR void VKAPI_CALL get_properties(VkPhysicalDevice device, VkPhysicalDeviceProperties *out)
{
    qt_before(NULL, QT_GetPhysicalDeviceProperties);
    qt_shown_properties(qt_instance_of(device), device, out);
}
const PFN_vkGetPhysicalDeviceProperties qt_instance_GetPhysicalDeviceProperties = get_properties;

static VKAPI_ATTR void VKAPI_CALL get_properties2(VkPhysicalDevice device, VkPhysicalDeviceProperties2 *out)
{
    qt_before(NULL, QT_GetPhysicalDeviceProperties2);
    qt_instance_of(device)->GetPhysicalDeviceProperties2(device, out);
    clamp_properties(&out->properties);
    clamp_properties_chain(out->pNext);
}
const PFN_vkGetPhysicalDeviceProperties2 qt_instance_GetPhysicalDeviceProperties2 = get_properties2;

/* ---------------------------------------------------------------- features */

/* Where the features are that can be turned off. */
static const struct {
    enum qt_setting setting;
    VkStructureType type;
    size_t offset;
} features[] = {
#define V11 VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, VkPhysicalDeviceVulkan11Features
#define V12 VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, VkPhysicalDeviceVulkan12Features
#define V13 VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES, VkPhysicalDeviceVulkan13Features
#define FEATURE_AT(setting, type, Struct, field)        \
    {                                                   \
        QT_SET_##setting, type, offsetof(Struct, field) \
    }
#define FEATURE(setting, where) FEATURE_IN(setting, where, setting)
#define FEATURE_IN(...)         FEATURE_AT(__VA_ARGS__)
    FEATURE(storageBuffer16BitAccess, V11),
    FEATURE(storageBuffer8BitAccess, V12),
    FEATURE(shaderFloat16, V12),
    FEATURE(shaderInt8, V12),
    FEATURE(timelineSemaphore, V12),
    FEATURE(bufferDeviceAddress, V12),
    FEATURE(shaderIntegerDotProduct, V13),
    FEATURE(subgroupSizeControl, V13),
    FEATURE(computeFullSubgroups, V13),
    FEATURE(synchronization2, V13),
    FEATURE_AT(storageBuffer16BitAccess, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
               VkPhysicalDevice16BitStorageFeatures, storageBuffer16BitAccess),
    FEATURE_AT(storageBuffer8BitAccess, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES,
               VkPhysicalDevice8BitStorageFeatures, storageBuffer8BitAccess),
    FEATURE_AT(shaderFloat16, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES,
               VkPhysicalDeviceShaderFloat16Int8Features, shaderFloat16),
    FEATURE_AT(shaderInt8, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES,
               VkPhysicalDeviceShaderFloat16Int8Features, shaderInt8),
    FEATURE_AT(timelineSemaphore, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
               VkPhysicalDeviceTimelineSemaphoreFeatures, timelineSemaphore),
    FEATURE_AT(shaderIntegerDotProduct, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
               VkPhysicalDeviceShaderIntegerDotProductFeatures, shaderIntegerDotProduct),
    FEATURE_AT(subgroupSizeControl, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
               VkPhysicalDeviceSubgroupSizeControlFeatures, subgroupSizeControl),
    FEATURE_AT(computeFullSubgroups, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
               VkPhysicalDeviceSubgroupSizeControlFeatures, computeFullSubgroups),
    FEATURE_AT(synchronization2, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES,
               VkPhysicalDeviceSynchronization2Features, synchronization2),
    FEATURE_AT(shaderInt16, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, VkPhysicalDeviceFeatures2,
               features.shaderInt16),
    FEATURE_AT(shaderInt64, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, VkPhysicalDeviceFeatures2,
               features.shaderInt64),
};

static VkBool32 *feature_at(void *structure, size_t index)
{
    return (VkBool32 *)(void *)((char *)structure + features[index].offset);
}

static void clamp_feature_chain(void *chain)
{
    for (VkBaseOutStructure *s = chain; s; s = s->pNext)
        for (size_t f = 0; f < QT_LEN(features); f++)
            if (features[f].type == s->sType && qt_feature_off(features[f].setting))
                *feature_at(s, f) = VK_FALSE;
}

static bool plays_tensors(void)
{
    uint64_t value;
    return qt_setting(QT_SET_cooperativeMatrixTensorAddressing, &value) && value;
}

#ifdef VK_NV_cooperative_matrix2
static void set_tensors(void *chain, VkBool32 to)
{
    for (VkBaseOutStructure *s = chain; s; s = s->pNext) {
        VkPhysicalDeviceCooperativeMatrix2FeaturesNV *f = (VkPhysicalDeviceCooperativeMatrix2FeaturesNV *)s;
        if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV &&
            f->cooperativeMatrixPerElementOperations)
            f->cooperativeMatrixTensorAddressing = f->cooperativeMatrixBlockLoads = to;
    }
}
#else
static void set_tensors(void *chain, VkBool32 to)
{
    (void)chain;
    (void)to;
}
#endif

void qt_hide_tensors(const VkDeviceCreateInfo *info, bool hidden)
{
    if (plays_tensors())
        set_tensors((void *)(uintptr_t)info->pNext, !hidden);
}

const char *qt_refused_feature(const VkDeviceCreateInfo *info)
{
    for (VkBaseOutStructure *s = (VkBaseOutStructure *)(uintptr_t)info->pNext; s; s = s->pNext) {
        for (size_t f = 0; f < QT_LEN(features); f++)
            if (features[f].type == s->sType && qt_feature_off(features[f].setting) && *feature_at(s, f))
                return setting_names[features[f].setting];
        uint64_t version;
        if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES &&
            qt_setting(QT_SET_apiVersion, &version) && version < VK_API_VERSION_1_3)
            return "the features of Vulkan 1.3";
    }
    const VkPhysicalDeviceFeatures *plain = info->pEnabledFeatures;
    if (plain && plain->shaderInt16 && qt_feature_off(QT_SET_shaderInt16))
        return "shaderInt16";
    if (plain && plain->shaderInt64 && qt_feature_off(QT_SET_shaderInt64))
        return "shaderInt64";
    return NULL;
}

static VKAPI_ATTR void VKAPI_CALL get_features(VkPhysicalDevice device, VkPhysicalDeviceFeatures *out)
{
    qt_before(NULL, QT_GetPhysicalDeviceFeatures);
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
    qt_instance_of(device)->GetPhysicalDeviceFeatures(device, &all.features);
    clamp_feature_chain(&all);
    *out = all.features;
}
const PFN_vkGetPhysicalDeviceFeatures qt_instance_GetPhysicalDeviceFeatures = get_features;

static VKAPI_ATTR void VKAPI_CALL get_features2(VkPhysicalDevice device, VkPhysicalDeviceFeatures2 *out)
{
    qt_before(NULL, QT_GetPhysicalDeviceFeatures2);
    qt_instance_of(device)->GetPhysicalDeviceFeatures2(device, out);
    clamp_feature_chain(out);
    if (plays_tensors())
        set_tensors(out->pNext, VK_TRUE);
}
const PFN_vkGetPhysicalDeviceFeatures2 qt_instance_GetPhysicalDeviceFeatures2 = get_features2;

/* ---------------------------------------------------------------- memory */

/* A device's heap that the host cannot reach, one of the host, and, with `bar`, one of the device that it
 * can. */
static void play_discrete(uint64_t bytes, VkPhysicalDeviceMemoryProperties *out)
{
    static const VkMemoryPropertyFlags host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    uint64_t bar;
    VkMemoryHeap of_host = {out->memoryHeaps[0].size, 0};
    *out = (VkPhysicalDeviceMemoryProperties){
        .memoryTypeCount = 3,
        .memoryTypes = {{VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0},
                        {host, 1},
                        {host | VK_MEMORY_PROPERTY_HOST_CACHED_BIT, 1}},
        .memoryHeapCount = 2,
        .memoryHeaps = {{bytes, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT}, of_host}};
    if (!qt_setting(QT_SET_bar, &bar))
        return;
    out->memoryTypes[out->memoryTypeCount++] = (VkMemoryType){host | VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 2};
    out->memoryHeaps[out->memoryHeapCount++] = (VkMemoryHeap){bar, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT};
}

void qt_shown_memory(const struct qt_instance *instance, VkPhysicalDevice device,
                     VkPhysicalDeviceMemoryProperties *memory)
{
    uint64_t bytes;
    instance->GetPhysicalDeviceMemoryProperties(device, memory);
    if (qt_setting(QT_SET_discrete, &bytes))
        play_discrete(bytes, memory);
    for (uint32_t h = 0; h < memory->memoryHeapCount; h++)
        at_most_64(QT_SET_heapSize, &memory->memoryHeaps[h].size);
}

/* Every type of a discrete device that is played is the real one that the host reaches best. */
static uint32_t best_real_type(const struct qt_device *device)
{
    const VkMemoryPropertyFlags all =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    for (uint32_t t = 0; t < device->real_memory.memoryTypeCount; t++)
        if ((device->real_memory.memoryTypes[t].propertyFlags & all) == all)
            return t;
    return 0;
}

uint32_t qt_real_memory_type(const struct qt_device *device, uint32_t type)
{
    return played.on[QT_SET_discrete] ? best_real_type(device) : type;
}

uint32_t qt_shown_memory_bits(const struct qt_device *device, uint32_t real_bits)
{
    if (!played.on[QT_SET_discrete])
        return real_bits;
    return real_bits >> best_real_type(device) & 1 ? (1u << device->memory.memoryTypeCount) - 1 : 0;
}

static VKAPI_ATTR void VKAPI_CALL get_memory(VkPhysicalDevice device, VkPhysicalDeviceMemoryProperties *out)
{
    qt_before(NULL, QT_GetPhysicalDeviceMemoryProperties);
    qt_shown_memory(qt_instance_of(device), device, out);
}
const PFN_vkGetPhysicalDeviceMemoryProperties qt_instance_GetPhysicalDeviceMemoryProperties = get_memory;

static VKAPI_ATTR void VKAPI_CALL get_memory2(VkPhysicalDevice device, VkPhysicalDeviceMemoryProperties2 *out)
{
    qt_before(NULL, QT_GetPhysicalDeviceMemoryProperties2);
    const struct qt_instance *instance = qt_instance_of(device);
    instance->GetPhysicalDeviceMemoryProperties2(device, out);
    qt_shown_memory(instance, device, &out->memoryProperties);
    for (VkBaseOutStructure *s = out->pNext; s; s = s->pNext) {
        VkPhysicalDeviceMemoryBudgetPropertiesEXT *budget = (VkPhysicalDeviceMemoryBudgetPropertiesEXT *)s;
        uint64_t bytes;
        if (s->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT ||
            !qt_setting(QT_SET_heapBudget, &bytes))
            continue;
        for (uint32_t h = 0; h < out->memoryProperties.memoryHeapCount; h++) {
            budget->heapBudget[h] = bytes;
            budget->heapUsage[h] = qt_heap_used(device, h);
        }
    }
}
const PFN_vkGetPhysicalDeviceMemoryProperties2 qt_instance_GetPhysicalDeviceMemoryProperties2 = get_memory2;

/* ---------------------------------------------------------------- queues and extensions */

static VKAPI_ATTR void VKAPI_CALL get_queues(VkPhysicalDevice device, uint32_t *n,
                                             VkQueueFamilyProperties *out)
{
    qt_before(NULL, QT_GetPhysicalDeviceQueueFamilyProperties);
    qt_instance_of(device)->GetPhysicalDeviceQueueFamilyProperties(device, n, out);
    for (uint32_t i = 0; out && i < *n; i++)
        at_most_32(QT_SET_timestampValidBits, &out[i].timestampValidBits);
}
const PFN_vkGetPhysicalDeviceQueueFamilyProperties qt_instance_GetPhysicalDeviceQueueFamilyProperties =
    get_queues;

static VKAPI_ATTR void VKAPI_CALL get_queues2(VkPhysicalDevice device, uint32_t *n,
                                              VkQueueFamilyProperties2 *out)
{
    qt_before(NULL, QT_GetPhysicalDeviceQueueFamilyProperties2);
    qt_instance_of(device)->GetPhysicalDeviceQueueFamilyProperties2(device, n, out);
    for (uint32_t i = 0; out && i < *n; i++)
        at_most_32(QT_SET_timestampValidBits, &out[i].queueFamilyProperties.timestampValidBits);
}
const PFN_vkGetPhysicalDeviceQueueFamilyProperties2 qt_instance_GetPhysicalDeviceQueueFamilyProperties2 =
    get_queues2;

/* The extensions of the device, without the hidden ones, with the one that is made up. *n: room for them at
 * `out`, which is two more than there are. */
static VkResult list_extensions(VkPhysicalDevice device, VkExtensionProperties **out, uint32_t *n)
{
    const struct qt_instance *instance = qt_instance_of(device);
    uint32_t all = 0, kept = 0;
    VkResult result = instance->EnumerateDeviceExtensionProperties(device, NULL, &all, NULL);
    *out = calloc(all + 1, sizeof **out);
    if (!*out)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    if (result == VK_SUCCESS)
        result = instance->EnumerateDeviceExtensionProperties(device, NULL, &all, *out);
    uint64_t budget;
    bool make_up = qt_setting(QT_SET_heapBudget, &budget);
    for (uint32_t i = 0; i < all; i++) {
        const char *name = (*out)[i].extensionName;
        if (!qt_hidden_extension(name) &&
            !(make_up && strcmp(name, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME) == 0))
            (*out)[kept++] = (*out)[i];
    }
    if (make_up)
        (*out)[kept++] = (VkExtensionProperties){VK_EXT_MEMORY_BUDGET_EXTENSION_NAME, 1};
    *n = kept;
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL get_extensions(VkPhysicalDevice device, const char *layer, uint32_t *n,
                                                     VkExtensionProperties *out)
{
    VkResult result = qt_before(NULL, QT_EnumerateDeviceExtensionProperties);
    if (result != VK_SUCCESS)
        return result;
    if (layer)
        return qt_instance_of(device)->EnumerateDeviceExtensionProperties(device, layer, n, out);
    VkExtensionProperties *list;
    uint32_t have = 0;
    result = list_extensions(device, &list, &have);
    if (result == VK_SUCCESS && out) {
        result = *n < have ? VK_INCOMPLETE : VK_SUCCESS;
        have = *n < have ? *n : have;
        memcpy(out, list, have * sizeof *out);
    }
    *n = have;
    free(list);
    return result;
}
const PFN_vkEnumerateDeviceExtensionProperties qt_instance_EnumerateDeviceExtensionProperties =
    get_extensions;
