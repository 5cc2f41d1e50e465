/* Limits of a Vulkan device; see limits.h. */
#include "limits.h"

#include "support/gpu.h"

#include <stdio.h>

enum { MAX_DEVICES = 16, MEMORY = 128 << 20, GROUP = 64, LOADS = 64, CHAINS = 16, GROUPS = 8192 };

struct push {
    uint32_t rounds, never; /* as in limit_test.comp */
};

struct constants {
    uint32_t n, value[QN_GPU_CONSTANTS];
};
static const struct constants none;

/* Runs a kernel with ever more repeats (or rounds) until it takes long enough; units of work a second. */
static double measure(struct qn_gpu *gpu, const char *folder, const char *name,
                      const struct constants *constants, uint32_t groups, uint32_t rounds, double unit)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/limit_%s.spv", folder, name);
    VkPipeline pipeline = qn_gpu_pipeline(gpu, path, constants->value, constants->n);
    if (pipeline == VK_NULL_HANDLE)
        return 0;
    double best = 0, seconds = 0;
    const struct push push = {rounds, 0x5a5a1234};
    for (uint32_t repeats = 1; seconds < 0.1 && repeats <= 1u << 15; repeats *= 2) {
        seconds = qn_gpu_run(gpu, pipeline, &push, sizeof push, groups, repeats);
        double rate = unit * repeats / seconds;
        best = rate > best ? rate : best;
    }
    qn_gpu_pipeline_destroy(gpu, pipeline);
    return best;
}

#if defined(VK_KHR_cooperative_matrix) && defined(QN_LIMIT_COOPMAT)
/* A shape for products of half floats, summed in floats, and the lanes of a subgroup; without where there is
 * none. */
static struct constants matrix_constants(VkPhysicalDevice physical)
{
    enum { MOST = 64 };
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)qn_gpu_function(
            "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    PFN_vkGetPhysicalDeviceProperties2 properties =
        (PFN_vkGetPhysicalDeviceProperties2)qn_gpu_function("vkGetPhysicalDeviceProperties2");
    PFN_vkGetPhysicalDeviceFeatures2 features =
        (PFN_vkGetPhysicalDeviceFeatures2)qn_gpu_function("vkGetPhysicalDeviceFeatures2");
    VkPhysicalDeviceSubgroupProperties subgroup = {.sType =
                                                       VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                       .pNext = &subgroup};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR here = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    VkPhysicalDeviceFeatures2 has = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &here};
    VkCooperativeMatrixPropertiesKHR shape[MOST] = {{0}};
    uint32_t n = MOST;
    properties(physical, &all);
    features(physical, &has);
    for (uint32_t i = 0; i < n; i++)
        shape[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    if (!here.cooperativeMatrix || !get || get(physical, &n, shape) < 0)
        return none;
    for (uint32_t i = 0; i < n; i++)
        if (shape[i].AType == VK_COMPONENT_TYPE_FLOAT16_KHR && shape[i].BType == shape[i].AType &&
            shape[i].CType == VK_COMPONENT_TYPE_FLOAT32_KHR && shape[i].ResultType == shape[i].CType &&
            shape[i].scope == VK_SCOPE_SUBGROUP_KHR)
            return (struct constants){
                4, {subgroup.subgroupSize, shape[i].MSize, shape[i].NSize, shape[i].KSize}};
    return none;
}

static double measure_matrices(const char *folder, VkPhysicalDevice physical,
                               const uint64_t bytes[QN_GPU_STORAGES])
{
    enum { MATRIX_CHAINS = 8, ROUNDS = 64 };
    const struct constants constants = matrix_constants(physical);
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrices = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
        .cooperativeMatrix = VK_TRUE};
    const VkPhysicalDeviceVulkan12Features features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = &matrices,
        .shaderFloat16 = VK_TRUE,
        .vulkanMemoryModel = VK_TRUE};
    struct qn_gpu gpu = {.device = VK_NULL_HANDLE};
    if (constants.n == 0 ||
        !qn_gpu_open(&gpu, physical, bytes, false, &features, "VK_KHR_cooperative_matrix"))
        return 0;
    const uint32_t *shape = constants.value + 1;
    double ops = 2.0 * shape[0] * shape[1] * shape[2] * MATRIX_CHAINS * ROUNDS * GROUPS;
    double rate = measure(&gpu, folder, "coopmat", &constants, GROUPS, ROUNDS, ops);
    qn_gpu_close(&gpu);
    return rate;
}
#else
static double measure_matrices(const char *folder, VkPhysicalDevice physical,
                               const uint64_t bytes[QN_GPU_STORAGES])
{
    return 0;
}
#endif

bool qn_measure_gpu_limits(const char *folder, uint32_t index, struct qn_limits *limits)
{
    VkPhysicalDevice physical[MAX_DEVICES];
    struct qn_gpu gpu = {.device = VK_NULL_HANDLE};
    const uint64_t bytes[QN_GPU_STORAGES] = {MEMORY, MEMORY, 64};
    const VkPhysicalDeviceVulkan13Features dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES, .shaderIntegerDotProduct = VK_TRUE};
    *limits = (struct qn_limits){0};
    if (!qn_gpu_start(false) || index >= qn_gpu_list(physical, MAX_DEVICES))
        return false;
    bool has_dot = qn_gpu_version(physical[index]) >= VK_API_VERSION_1_3; /* which has it always */
    if (!qn_gpu_open(&gpu, physical[index], bytes, false, has_dot ? &dot : NULL, NULL))
        return false;
    const double per_round = 2.0 * 4 * CHAINS * GROUP * GROUPS;
    uint32_t groups = MEMORY / 16 / LOADS / GROUP;
    limits->read_bytes = measure(&gpu, folder, "READ", &none, groups, 0, MEMORY);
    limits->copy_bytes = measure(&gpu, folder, "COPY", &none, groups, 0, 2.0 * MEMORY);
    limits->float_ops = measure(&gpu, folder, "FMA", &none, GROUPS, 16, 16 * per_round);
    if (has_dot)
        limits->int8_ops = measure(&gpu, folder, "DOT", &none, GROUPS, 16, 16 * 4 * per_round);
    qn_gpu_close(&gpu);
    limits->matrix_ops = measure_matrices(folder, physical[index], bytes);
    return true;
}
