/* See gpu.h. */
#include "gpu.h"

#include "base/clock.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUNCTIONS(X)                          \
    X(EnumeratePhysicalDevices)               \
    X(GetPhysicalDeviceProperties)            \
    X(GetPhysicalDeviceQueueFamilyProperties) \
    X(GetPhysicalDeviceMemoryProperties)      \
    X(GetDeviceQueue)                         \
    X(CreateDevice)                           \
    X(DestroyDevice)                          \
    X(CreateBuffer)                           \
    X(DestroyBuffer)                          \
    X(GetBufferMemoryRequirements)            \
    X(AllocateMemory)                         \
    X(FreeMemory)                             \
    X(BindBufferMemory)                       \
    X(MapMemory)                              \
    X(CreateDescriptorSetLayout)              \
    X(DestroyDescriptorSetLayout)             \
    X(CreateDescriptorPool)                   \
    X(DestroyDescriptorPool)                  \
    X(AllocateDescriptorSets)                 \
    X(UpdateDescriptorSets)                   \
    X(CreatePipelineLayout)                   \
    X(DestroyPipelineLayout)                  \
    X(CreateShaderModule)                     \
    X(DestroyShaderModule)                    \
    X(CreateComputePipelines)                 \
    X(DestroyPipeline)                        \
    X(CreateCommandPool)                      \
    X(DestroyCommandPool)                     \
    X(ResetCommandPool)                       \
    X(AllocateCommandBuffers)                 \
    X(BeginCommandBuffer)                     \
    X(EndCommandBuffer)                       \
    X(CmdBindPipeline)                        \
    X(CmdBindDescriptorSets)                  \
    X(CmdPushConstants)                       \
    X(CmdDispatch)                            \
    X(CmdPipelineBarrier)                     \
    X(QueueSubmit)                            \
    X(QueueWaitIdle)

#define DECLARE(name) static PFN_vk##name vk##name;
FUNCTIONS(DECLARE)

static PFN_vkGetInstanceProcAddr get_proc; /* these are for the whole program */
static VkInstance instance;
static int n_messages;

#define VK(call)                                                                      \
    do {                                                                              \
        VkResult vk_result = (call);                                                  \
        if (vk_result != VK_SUCCESS) {                                                \
            fprintf(stderr, "%s:%d: %s: %d\n", __FILE__, __LINE__, #call, vk_result); \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT type,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    fprintf(stderr, "validation: %s\n", data->pMessage);
    n_messages++;
    return VK_FALSE;
}

static bool layer_is_here(const char *name)
{
    PFN_vkEnumerateInstanceLayerProperties enumerate =
        (PFN_vkEnumerateInstanceLayerProperties)get_proc(NULL, "vkEnumerateInstanceLayerProperties");
    VkLayerProperties layers[64];
    uint32_t n = 64;
    enumerate(&n, layers);
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(layers[i].layerName, name) == 0)
            return true;
    return false;
}

bool qn_gpu_start(bool validating)
{
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL); /* stays open */
    if (!library) {
        fprintf(stderr, "SKIPPED: no Vulkan: %s\n", dlerror());
        return false;
    }
    get_proc = (PFN_vkGetInstanceProcAddr)dlsym(library, "vkGetInstanceProcAddr");
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)get_proc(NULL, "vkCreateInstance");
    static const char *const layer = "VK_LAYER_KHRONOS_validation", *const debug = "VK_EXT_debug_utils";
    bool validate = validating && layer_is_here(layer);
    if (validating && !validate)
        fprintf(stderr, "note: without validation: %s is not installed\n", layer);
    VkApplicationInfo application = {VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo info = {VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application,
                                 .enabledLayerCount = validate,          .ppEnabledLayerNames = &layer,
                                 .enabledExtensionCount = validate,      .ppEnabledExtensionNames = &debug};
    VkResult result = create(&info, NULL, &instance);
    if (result != VK_SUCCESS) {
        fprintf(stderr, "SKIPPED: no Vulkan instance: %d\n", result);
        return false;
    }
#define LOAD(name) vk##name = (PFN_vk##name)get_proc(instance, "vk" #name);
    FUNCTIONS(LOAD)
    if (validate) {
        VkDebugUtilsMessengerCreateInfoEXT to = {
            VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
            .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                               VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
            .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
            .pfnUserCallback = on_message};
        PFN_vkCreateDebugUtilsMessengerEXT listen =
            (PFN_vkCreateDebugUtilsMessengerEXT)get_proc(instance, "vkCreateDebugUtilsMessengerEXT");
        VkDebugUtilsMessengerEXT messenger;
        VK(listen(instance, &to, NULL, &messenger));
    }
    return true;
}

/* Host-visible memory is coherent too, of a type that every device has for buffers. */
static struct qn_gpu_storage storage_create(const struct qn_gpu *gpu, VkDeviceSize bytes, bool mapped)
{
    struct qn_gpu_storage s = {0};
    VkBufferCreateInfo info = {VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = bytes,
                               .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT};
    VK(vkCreateBuffer(gpu->device, &info, NULL, &s.buffer));
    VkMemoryRequirements need;
    vkGetBufferMemoryRequirements(gpu->device, s.buffer, &need);
    VkPhysicalDeviceMemoryProperties memory;
    vkGetPhysicalDeviceMemoryProperties(gpu->physical, &memory);
    const VkMemoryPropertyFlags kind =
        mapped ? VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT
               : VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT;
    uint32_t type = 0;
    while (!(need.memoryTypeBits >> type & 1) || (memory.memoryTypes[type].propertyFlags & kind) != kind)
        type++;
    VkMemoryAllocateInfo allocate = {VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = need.size,
                                     .memoryTypeIndex = type};
    VK(vkAllocateMemory(gpu->device, &allocate, NULL, &s.memory));
    VK(vkBindBufferMemory(gpu->device, s.buffer, s.memory, 0));
    if (mapped)
        VK(vkMapMemory(gpu->device, s.memory, 0, VK_WHOLE_SIZE, 0, &s.mapped));
    return s;
}

static void storage_destroy(const struct qn_gpu *gpu, struct qn_gpu_storage *s)
{
    vkDestroyBuffer(gpu->device, s->buffer, NULL);
    vkFreeMemory(gpu->device, s->memory, NULL);
}

/* Layouts, one descriptor set with the storages, one command buffer. */
static void gpu_prepare(struct qn_gpu *gpu)
{
    VkDescriptorSetLayoutBinding bindings[QN_GPU_STORAGES];
    for (uint32_t i = 0; i < QN_GPU_STORAGES; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1,
                                                     VK_SHADER_STAGE_COMPUTE_BIT, NULL};
    VkDescriptorSetLayoutCreateInfo set_layout = {VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                                  .bindingCount = QN_GPU_STORAGES, .pBindings = bindings};
    VK(vkCreateDescriptorSetLayout(gpu->device, &set_layout, NULL, &gpu->set_layout));
    VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, QN_GPU_PUSH};
    VkPipelineLayoutCreateInfo layout = {VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1,
                                         .pSetLayouts = &gpu->set_layout, .pushConstantRangeCount = 1,
                                         .pPushConstantRanges = &range};
    VK(vkCreatePipelineLayout(gpu->device, &layout, NULL, &gpu->layout));
    VkDescriptorPoolSize room = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, QN_GPU_STORAGES};
    VkDescriptorPoolCreateInfo pool = {VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = 1,
                                       .poolSizeCount = 1, .pPoolSizes = &room};
    VK(vkCreateDescriptorPool(gpu->device, &pool, NULL, &gpu->set_pool));
    VkDescriptorSetAllocateInfo set = {VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                       .descriptorPool = gpu->set_pool, .descriptorSetCount = 1,
                                       .pSetLayouts = &gpu->set_layout};
    VK(vkAllocateDescriptorSets(gpu->device, &set, &gpu->set));
    VkDescriptorBufferInfo buffers[QN_GPU_STORAGES];
    for (uint32_t i = 0; i < QN_GPU_STORAGES; i++)
        buffers[i] = (VkDescriptorBufferInfo){gpu->storage[i].buffer, 0, VK_WHOLE_SIZE};
    VkWriteDescriptorSet write = {VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = gpu->set,
                                  .descriptorCount = QN_GPU_STORAGES, .pBufferInfo = buffers,
                                  .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER};
    vkUpdateDescriptorSets(gpu->device, 1, &write, 0, NULL);
    VkCommandBufferAllocateInfo commands = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandPool = gpu->command_pool, .commandBufferCount = 1,
                                            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY};
    VK(vkAllocateCommandBuffers(gpu->device, &commands, &gpu->commands));
}

bool qn_gpu_open(struct qn_gpu *gpu, VkPhysicalDevice physical, const uint64_t bytes[QN_GPU_STORAGES],
                 bool mapped, const void *features, const char *extension)
{
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(physical, &properties);
    memcpy(gpu->name, properties.deviceName, sizeof gpu->name);
    gpu->physical = physical;
    VkQueueFamilyProperties families[16];
    uint32_t n = 16, family = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &n, families);
    while (family < n && !(families[family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        family++;
    if (family == n || properties.apiVersion < VK_API_VERSION_1_2)
        return false;
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueFamilyIndex = family,
                                     .queueCount = 1, .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = features,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = extension != NULL,
                               .ppEnabledExtensionNames = &extension};
    VK(vkCreateDevice(physical, &info, NULL, &gpu->device));
    vkGetDeviceQueue(gpu->device, family, 0, &gpu->queue);
    VkCommandPoolCreateInfo pool = {VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = family};
    VK(vkCreateCommandPool(gpu->device, &pool, NULL, &gpu->command_pool));
    for (uint32_t i = 0; i < QN_GPU_STORAGES; i++)
        gpu->storage[i] = storage_create(gpu, bytes[i], mapped);
    gpu_prepare(gpu);
    return true;
}

void qn_gpu_close(struct qn_gpu *gpu)
{
    for (uint32_t i = 0; i < QN_GPU_STORAGES; i++)
        storage_destroy(gpu, &gpu->storage[i]);
    vkDestroyCommandPool(gpu->device, gpu->command_pool, NULL);
    vkDestroyDescriptorPool(gpu->device, gpu->set_pool, NULL);
    vkDestroyPipelineLayout(gpu->device, gpu->layout, NULL);
    vkDestroyDescriptorSetLayout(gpu->device, gpu->set_layout, NULL);
    vkDestroyDevice(gpu->device, NULL);
}

VkPipeline qn_gpu_pipeline(const struct qn_gpu *gpu, const char *path, const uint32_t *constants, uint32_t n)
{
    VkSpecializationMapEntry entries[QN_GPU_CONSTANTS];
    for (uint32_t i = 0; i < n; i++)
        entries[i] = (VkSpecializationMapEntry){i, i * 4, 4};
    VkSpecializationInfo specialisation = {n, entries, n * 4, constants};
    static uint32_t code[1 << 16];
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s is not here\n", path);
        return VK_NULL_HANDLE;
    }
    size_t bytes = fread(code, 1, sizeof code, f);
    fclose(f);
    VkShaderModuleCreateInfo module_info = {VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = bytes,
                                            .pCode = code};
    VkShaderModule module;
    VK(vkCreateShaderModule(gpu->device, &module_info, NULL, &module));
    VkComputePipelineCreateInfo info = {VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                        .stage = {VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                  .stage = VK_SHADER_STAGE_COMPUTE_BIT, .module = module,
                                                  .pName = "main", .pSpecializationInfo = &specialisation},
                                        .layout = gpu->layout};
    VkPipeline pipeline;
    VK(vkCreateComputePipelines(gpu->device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline));
    vkDestroyShaderModule(gpu->device, module, NULL);
    return pipeline;
}

void qn_gpu_pipeline_destroy(const struct qn_gpu *gpu, VkPipeline pipeline)
{
    vkDestroyPipeline(gpu->device, pipeline, NULL);
}

double qn_gpu_run(struct qn_gpu *gpu, VkPipeline pipeline, const void *push, uint32_t push_bytes,
                  uint32_t groups, uint32_t repeats)
{
    VK(vkResetCommandPool(gpu->device, gpu->command_pool, 0));
    VkCommandBufferBeginInfo begin = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                      .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    VK(vkBeginCommandBuffer(gpu->commands, &begin));
    vkCmdBindPipeline(gpu->commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    vkCmdBindDescriptorSets(gpu->commands, VK_PIPELINE_BIND_POINT_COMPUTE, gpu->layout, 0, 1, &gpu->set, 0,
                            NULL);
    vkCmdPushConstants(gpu->commands, gpu->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, push_bytes, push);
    vkCmdDispatch(gpu->commands, groups, repeats, 1);
    VkMemoryBarrier to_host = {VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
                               .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
    vkCmdPipelineBarrier(gpu->commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0,
                         1, &to_host, 0, NULL, 0, NULL);
    VK(vkEndCommandBuffer(gpu->commands));
    VkSubmitInfo submit = {VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1,
                           .pCommandBuffers = &gpu->commands};
    const uint64_t start = qn_now_ns();
    VK(vkQueueSubmit(gpu->queue, 1, &submit, VK_NULL_HANDLE));
    VK(vkQueueWaitIdle(gpu->queue));
    return (double)(qn_now_ns() - start) * 1e-9;
}

uint32_t qn_gpu_list(VkPhysicalDevice *physical, uint32_t cap)
{
    vkEnumeratePhysicalDevices(instance, &cap, physical);
    return cap;
}

uint32_t qn_gpu_version(VkPhysicalDevice physical)
{
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(physical, &properties);
    return properties.apiVersion;
}

PFN_vkVoidFunction qn_gpu_function(const char *name)
{
    return get_proc(instance, name);
}

int qn_gpu_messages(void)
{
    return n_messages;
}
