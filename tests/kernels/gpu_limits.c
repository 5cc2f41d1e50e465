/* Limits of a Vulkan device; see limits.h. */
#include "limits.h"

#include "support/gpu.h"

#include <stdio.h>

enum { MAX_DEVICES = 16, MEMORY = 128 << 20, GROUP = 64, LOADS = 64, CHAINS = 16, GROUPS = 8192 };

struct push {
    uint32_t rounds, never; /* as in limit_test.comp */
};

/* Runs a kernel with ever more repeats (or rounds) until it takes long enough; units of work a second. */
static double measure(struct qn_gpu *gpu, const char *folder, const char *name, uint32_t groups,
                      uint32_t rounds, double unit)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/limit_%s.spv", folder, name);
    VkPipeline pipeline = qn_gpu_pipeline(gpu, path);
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
    if (!qn_gpu_open(&gpu, physical[index], bytes, false, has_dot ? &dot : NULL))
        return false;
    const double per_round = 2.0 * 4 * CHAINS * GROUP * GROUPS;
    uint32_t groups = MEMORY / 16 / LOADS / GROUP;
    limits->read_bytes = measure(&gpu, folder, "READ", groups, 0, MEMORY);
    limits->copy_bytes = measure(&gpu, folder, "COPY", groups, 0, 2.0 * MEMORY);
    limits->float_ops = measure(&gpu, folder, "FMA", GROUPS, 16, 16 * per_round);
    if (has_dot)
        limits->int8_ops = measure(&gpu, folder, "DOT", GROUPS, 16, 16 * 4 * per_round);
    qn_gpu_close(&gpu);
    return true;
}
