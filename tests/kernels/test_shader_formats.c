/* Decoding in shaders (shaders/lib): for every format that the runtime decodes, a small kernel runs on every
 * Vulkan device that is here, and what it writes is compared bit for bit with reference data and with the
 * runtime. With the validation layer, where that is installed: a message of it is a fault.
 *
 * usage: test_shader_formats FOLDER   where decode_<NAME>.spv are */
#define VK_NO_PROTOTYPES
#include <vulkan/vulkan.h>

#include "formats/formats.h"
#include "support/dequant.h"
#include "test.h"

#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>

enum {
    N_GOLDEN = 1024,
    N_BLOCKS = 1000,
    MAX_DEVICES = 4,
    IN_BYTES = 1 << 20,
    OUT_BYTES = 1 << 21,
    SKIPPED = 77
};

/* ---- Vulkan, as much as it takes to run one kernel ---- */

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

static PFN_vkGetInstanceProcAddr get_proc;
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

/* Storage that the host sees too. */
struct storage {
    VkBuffer buffer;
    VkDeviceMemory memory;
    void *mapped;
};

static struct gpu {
    char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    struct storage in, out, grids;
    VkDescriptorSetLayout set_layout;
    VkDescriptorPool set_pool;
    VkDescriptorSet set;
    VkPipelineLayout layout;
    VkCommandPool command_pool;
    VkCommandBuffer commands;
} gpus[MAX_DEVICES];
static uint32_t n_gpus;
static const char *spirv_folder;

static const uint32_t grid_words[] = {
#include "iq_grid_words.inc"
};

struct push {
    uint32_t n, at, by_four; /* as in decode_test.comp */
};

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

/* False, with a line that says why, where there is no Vulkan. */
static bool open_vulkan(void)
{
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL); /* stays open */
    if (!library) {
        fprintf(stderr, "SKIPPED: no Vulkan: %s\n", dlerror());
        return false;
    }
    get_proc = (PFN_vkGetInstanceProcAddr)dlsym(library, "vkGetInstanceProcAddr");
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)get_proc(NULL, "vkCreateInstance");
    static const char *const layer = "VK_LAYER_KHRONOS_validation", *const debug = "VK_EXT_debug_utils";
    bool validate = layer_is_here(layer);
    if (!validate)
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
static struct storage storage_create(const struct gpu *gpu, VkDeviceSize bytes)
{
    struct storage s = {0};
    VkBufferCreateInfo info = {VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = bytes,
                               .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT};
    VK(vkCreateBuffer(gpu->device, &info, NULL, &s.buffer));
    VkMemoryRequirements need;
    vkGetBufferMemoryRequirements(gpu->device, s.buffer, &need);
    VkPhysicalDeviceMemoryProperties memory;
    vkGetPhysicalDeviceMemoryProperties(gpu->physical, &memory);
    const VkMemoryPropertyFlags host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    uint32_t type = 0;
    while (!(need.memoryTypeBits >> type & 1) || (memory.memoryTypes[type].propertyFlags & host) != host)
        type++;
    VkMemoryAllocateInfo allocate = {VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = need.size,
                                     .memoryTypeIndex = type};
    VK(vkAllocateMemory(gpu->device, &allocate, NULL, &s.memory));
    VK(vkBindBufferMemory(gpu->device, s.buffer, s.memory, 0));
    VK(vkMapMemory(gpu->device, s.memory, 0, VK_WHOLE_SIZE, 0, &s.mapped));
    return s;
}

static void storage_destroy(const struct gpu *gpu, struct storage *s)
{
    vkDestroyBuffer(gpu->device, s->buffer, NULL);
    vkFreeMemory(gpu->device, s->memory, NULL);
}

/* Layouts, one descriptor set with the storages, one command buffer. */
static void gpu_prepare(struct gpu *gpu)
{
    VkDescriptorSetLayoutBinding bindings[3];
    for (uint32_t i = 0; i < 3; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1,
                                                     VK_SHADER_STAGE_COMPUTE_BIT, NULL};
    VkDescriptorSetLayoutCreateInfo set_layout = {VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                                  .bindingCount = 3, .pBindings = bindings};
    VK(vkCreateDescriptorSetLayout(gpu->device, &set_layout, NULL, &gpu->set_layout));
    VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof(struct push)};
    VkPipelineLayoutCreateInfo layout = {VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = 1,
                                         .pSetLayouts = &gpu->set_layout, .pushConstantRangeCount = 1,
                                         .pPushConstantRanges = &range};
    VK(vkCreatePipelineLayout(gpu->device, &layout, NULL, &gpu->layout));
    VkDescriptorPoolSize room = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 3};
    VkDescriptorPoolCreateInfo pool = {VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = 1,
                                       .poolSizeCount = 1, .pPoolSizes = &room};
    VK(vkCreateDescriptorPool(gpu->device, &pool, NULL, &gpu->set_pool));
    VkDescriptorSetAllocateInfo set = {VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                       .descriptorPool = gpu->set_pool, .descriptorSetCount = 1,
                                       .pSetLayouts = &gpu->set_layout};
    VK(vkAllocateDescriptorSets(gpu->device, &set, &gpu->set));
    VkDescriptorBufferInfo buffers[3] = {{gpu->in.buffer, 0, VK_WHOLE_SIZE},
                                         {gpu->out.buffer, 0, VK_WHOLE_SIZE},
                                         {gpu->grids.buffer, 0, VK_WHOLE_SIZE}};
    VkWriteDescriptorSet write = {VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = gpu->set,
                                  .descriptorCount = 3, .pBufferInfo = buffers,
                                  .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER};
    vkUpdateDescriptorSets(gpu->device, 1, &write, 0, NULL);
    VkCommandBufferAllocateInfo commands = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandPool = gpu->command_pool, .commandBufferCount = 1,
                                            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY};
    VK(vkAllocateCommandBuffers(gpu->device, &commands, &gpu->commands));
}

/* False where the device has no queue for compute. */
static bool gpu_open(struct gpu *gpu, VkPhysicalDevice physical)
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
    VkDeviceCreateInfo info = {VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue};
    VK(vkCreateDevice(physical, &info, NULL, &gpu->device));
    vkGetDeviceQueue(gpu->device, family, 0, &gpu->queue);
    VkCommandPoolCreateInfo pool = {VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = family};
    VK(vkCreateCommandPool(gpu->device, &pool, NULL, &gpu->command_pool));
    gpu->in = storage_create(gpu, IN_BYTES);
    gpu->out = storage_create(gpu, OUT_BYTES);
    gpu->grids = storage_create(gpu, sizeof grid_words);
    memcpy(gpu->grids.mapped, grid_words, sizeof grid_words);
    gpu_prepare(gpu);
    return true;
}

static void gpu_close(struct gpu *gpu)
{
    storage_destroy(gpu, &gpu->in);
    storage_destroy(gpu, &gpu->out);
    storage_destroy(gpu, &gpu->grids);
    vkDestroyCommandPool(gpu->device, gpu->command_pool, NULL);
    vkDestroyDescriptorPool(gpu->device, gpu->set_pool, NULL);
    vkDestroyPipelineLayout(gpu->device, gpu->layout, NULL);
    vkDestroyDescriptorSetLayout(gpu->device, gpu->set_layout, NULL);
    vkDestroyDevice(gpu->device, NULL);
}

static VkPipeline pipeline_create(const struct gpu *gpu, const char *format)
{
    static uint32_t code[1 << 16];
    char path[1024];
    snprintf(path, sizeof path, "%s/decode_%s.spv", spirv_folder, format);
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s is not here: does shaders/meson.build list the format?\n", path);
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
                                                  .pName = "main"},
                                        .layout = gpu->layout};
    VkPipeline pipeline;
    VK(vkCreateComputePipelines(gpu->device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline));
    vkDestroyShaderModule(gpu->device, module, NULL);
    return pipeline;
}

/* Decodes what lies in gpu->in to gpu->out. */
static void gpu_run(struct gpu *gpu, VkPipeline pipeline, const struct push *push)
{
    VK(vkResetCommandPool(gpu->device, gpu->command_pool, 0));
    VkCommandBufferBeginInfo begin = {VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                      .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    VK(vkBeginCommandBuffer(gpu->commands, &begin));
    vkCmdBindPipeline(gpu->commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    vkCmdBindDescriptorSets(gpu->commands, VK_PIPELINE_BIND_POINT_COMPUTE, gpu->layout, 0, 1, &gpu->set, 0,
                            NULL);
    vkCmdPushConstants(gpu->commands, gpu->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof *push, push);
    vkCmdDispatch(gpu->commands, (push->n / 4 + 63) / 64, 1, 1);
    VkMemoryBarrier to_host = {VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
                               .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
    vkCmdPipelineBarrier(gpu->commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0,
                         1, &to_host, 0, NULL, 0, NULL);
    VK(vkEndCommandBuffer(gpu->commands));
    VkSubmitInfo submit = {VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1,
                           .pCommandBuffers = &gpu->commands};
    VK(vkQueueSubmit(gpu->queue, 1, &submit, VK_NULL_HANDLE));
    VK(vkQueueWaitIdle(gpu->queue));
}

/* ---- the cases ---- */

/* The same bits; what is not a number has no bits to keep. */
static bool same(uint32_t got, const float *want)
{
    uint32_t bits;
    memcpy(&bits, want, sizeof bits);
    return got == bits || (isnan(*want) && (got & 0x7fffffffu) > 0x7f800000u);
}

/* Decodes n weights on every device, both ways. */
static void check(const struct qn_format *format, const void *blocks, const float *want, uint32_t n)
{
    /* where blocks begin: as little aligned as a file may have them */
    uint32_t at = format->block_bytes % 4 == 0 ? 4 : format->block_bytes % 2 == 0 ? 2 : 1;
    size_t bytes = (size_t)n / format->block_len * format->block_bytes;
    assert_true(at + bytes <= IN_BYTES && n * sizeof(float) <= OUT_BYTES);
    for (uint32_t g = 0; g < n_gpus; g++) {
        struct gpu *gpu = &gpus[g];
        VkPipeline pipeline = pipeline_create(gpu, format->name);
        assert_true(pipeline != VK_NULL_HANDLE);
        memset(gpu->in.mapped, 0xa5, IN_BYTES);
        memcpy((uint8_t *)gpu->in.mapped + at, blocks, bytes);
        int n_faults = 0;
        for (uint32_t by_four = 0; by_four < 2; by_four++) {
            memset(gpu->out.mapped, 0x5a, OUT_BYTES);
            gpu_run(gpu, pipeline, &(struct push){.n = n, .at = at, .by_four = by_four});
            const uint32_t *got = gpu->out.mapped;
            for (uint32_t i = 0; i < n; i++) {
                if (same(got[i], &want[i]) || n_faults++ >= 5)
                    continue;
                float value;
                memcpy(&value, &got[i], sizeof value);
                fprintf(stderr, "%s: %s by %s: weight %u of block %u is %.9g, expected %.9g\n", gpu->name,
                        format->name, by_four ? "decode4" : "decode", i % format->block_len,
                        i / format->block_len, value, want[i]);
            }
        }
        vkDestroyPipeline(gpu->device, pipeline, NULL);
        if (n_faults)
            fail_msg("%s: %d of %u weights differ", format->name, n_faults, 2 * n);
    }
}

/* Formats of weights; the 8-bit formats of activations are decoded nowhere but in the runtime. */
static const struct qn_format *weight_format(int id)
{
    const struct qn_format *format = qn_format_get((enum quern_format)id);
    return format && format->dequantise && id != QUERN_Q8_1 && id != QUERN_Q8_K ? format : NULL;
}

static void test_goldens(void **state)
{
    static uint8_t blocks[8192];
    static float want[N_GOLDEN];
    int n_checked = 0;
    for (int id = 0; id < QUERN_FORMAT_END; id++) {
        const struct qn_format *format = weight_format(id);
        size_t bytes = format ? qn_dequant_read(format->name, ".bin", blocks, sizeof blocks) : 0;
        if (bytes == 0)
            continue;
        assert_int_equal(bytes, qn_format_row_bytes((enum quern_format)id, N_GOLDEN));
        assert_int_equal(qn_dequant_read(format->name, ".f32", want, sizeof want), sizeof want);
        check(format, blocks, want, N_GOLDEN);
        n_checked++;
    }
    assert_int_equal(n_checked, 26);
}

/* Random bytes: all scales occur, subnormal, infinite and no numbers too. */
static void test_random(void **state)
{
    static uint8_t blocks[IN_BYTES];
    static float want[OUT_BYTES / sizeof(float)];
    uint32_t random = 1;
    int n_checked = 0;
    for (int id = 0; id < QUERN_FORMAT_END; id++) {
        const struct qn_format *format = weight_format(id);
        if (!format)
            continue;
        uint32_t n_blocks = format->block_len == 1 ? 64 * N_BLOCKS : N_BLOCKS,
                 n = n_blocks * format->block_len;
        for (uint32_t i = 0; i < n_blocks * format->block_bytes; i++) {
            random = random * 1664525u + 1013904223u;
            blocks[i] = (uint8_t)(random >> 24);
        }
        format->dequantise(blocks, want, n);
        check(format, blocks, want, n);
        n_checked++;
    }
    assert_int_equal(n_checked, 28);
}

/* Every half float, and every E8M0 and UE4M3 scale with every element. */
static void test_every_scale(void **state)
{
    static uint16_t halves[65536];
    static float want[65536];
    for (int i = 0; i < 65536; i++)
        halves[i] = (uint16_t)i;
    const struct qn_format *f16 = qn_format_get(QUERN_F16), *bf16 = qn_format_get(QUERN_BF16);
    f16->dequantise(halves, want, 65536);
    check(f16, halves, want, 65536);
    bf16->dequantise(halves, want, 65536);
    check(bf16, halves, want, 65536);

    static uint8_t blocks[256 * 36];
    const struct qn_format *mxfp4 = qn_format_get(QUERN_MXFP4), *nvfp4 = qn_format_get(QUERN_NVFP4);
    for (int b = 0; b < 256; b++) {
        blocks[17 * b] = (uint8_t)b;
        for (int i = 0; i < 16; i++)
            blocks[17 * b + 1 + i] = (uint8_t)(i * 0x11);
    }
    mxfp4->dequantise(blocks, want, 256 * 32);
    check(mxfp4, blocks, want, 256 * 32);
    for (int b = 0; b < 256; b++) {
        memset(blocks + 36 * b, b, 4);
        for (int i = 0; i < 32; i++)
            blocks[36 * b + 4 + i] = (uint8_t)(i % 16 * 0x11);
    }
    nvfp4->dequantise(blocks, want, 256 * 64);
    check(nvfp4, blocks, want, 256 * 64);
}

static void test_validation_is_silent(void **state)
{
    assert_int_equal(n_messages, 0);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    spirv_folder = argv[1];
    if (!open_vulkan())
        return SKIPPED;
    VkPhysicalDevice physical[MAX_DEVICES];
    uint32_t n = MAX_DEVICES;
    vkEnumeratePhysicalDevices(instance, &n, physical);
    for (uint32_t i = 0; i < n; i++) {
        if (!gpu_open(&gpus[n_gpus], physical[i]))
            continue;
        printf("device: %s\n", gpus[n_gpus].name);
        n_gpus++;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_every_scale),
        cmocka_unit_test(test_validation_is_silent),
    };
    int failed = SKIPPED;
    if (n_gpus > 0)
        failed = cmocka_run_group_tests(tests, NULL, NULL);
    else
        fprintf(stderr, "SKIPPED: no Vulkan 1.2 device\n");
    for (uint32_t i = 0; i < n_gpus; i++)
        gpu_close(&gpus[i]);
    /* the instance stays: drivers that are unloaded with it leave memory behind that nothing points to any
     * more */
    return failed;
}
