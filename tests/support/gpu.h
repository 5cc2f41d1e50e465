/* Vulkan, as much as it takes to run one kernel on a few storage buffers, without our driver. A call that
 * fails ends the program. */
#ifndef QN_TEST_GPU_H
#define QN_TEST_GPU_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

#include <stdbool.h>
#include <stdint.h>

enum { QN_GPU_STORAGES = 3, QN_GPU_PUSH = 16, QN_GPU_CONSTANTS = 4 };

struct qn_gpu_storage {
    VkBuffer buffer;
    VkDeviceMemory memory;
    void *mapped; /* NULL: the host does not see it */
};

struct qn_gpu {
    char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    struct qn_gpu_storage storage[QN_GPU_STORAGES]; /* bindings 0, 1, 2 */
    VkDescriptorSetLayout set_layout;
    VkDescriptorPool set_pool;
    VkDescriptorSet set;
    VkPipelineLayout layout;
    VkCommandPool command_pool;
    VkCommandBuffer commands;
};

/* Loads Vulkan, with the validation layer where that is installed; once in a program, which keeps it. False,
 * with a line that says why, where there is no Vulkan. */
bool qn_gpu_start(bool validating);
uint32_t qn_gpu_list(VkPhysicalDevice *physical, uint32_t cap);
uint32_t qn_gpu_version(VkPhysicalDevice physical); /* of Vulkan */
PFN_vkVoidFunction qn_gpu_function(const char *name);
int qn_gpu_messages(void); /* of the validation layer so far */

/* features: what the device is created with (pNext), and the extension of these (NULL: none). False where it
 * has no queue for compute. */
bool qn_gpu_open(struct qn_gpu *gpu, VkPhysicalDevice physical, const uint64_t bytes[QN_GPU_STORAGES],
                 bool mapped, const void *features, const char *extension);
void qn_gpu_close(struct qn_gpu *gpu);

/* From a file of SPIR-V, with its specialisation constants 0 .. n - 1 (at most QN_GPU_CONSTANTS);
 * VK_NULL_HANDLE: the file is not there. */
VkPipeline qn_gpu_pipeline(const struct qn_gpu *gpu, const char *path, const uint32_t *constants, uint32_t n);
void qn_gpu_pipeline_destroy(const struct qn_gpu *gpu, VkPipeline pipeline);

/* Runs groups workgroups along x and `repeats` along y and waits; seconds that it took. push_bytes: at most
 * QN_GPU_PUSH. */
double qn_gpu_run(struct qn_gpu *gpu, VkPipeline pipeline, const void *push, uint32_t push_bytes,
                  uint32_t groups, uint32_t repeats);

#endif
