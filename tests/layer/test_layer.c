/* The layer itself: that what is set shows, that what is broken is seen, that what shall fail does. */
#include "test.h"

#include "drivers/vulkan/device.h"
#include "drivers/vulkan/vulkan.h"
#include "support/layer.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77 };

static struct quern_error err;
static struct quern_callbacks callbacks;
static struct quern_host host = {.struct_size = sizeof host, .callbacks = &callbacks};

/* The driver's own device, whose functions the tests call; NULL: `err` says why. */
static struct quern_device *open_device(const char *fault, const char *settings)
{
    struct quern_device *device;
    qn_layer_set(fault, settings);
    quern_vulkan_driver_get(QUERN_DRIVER_ABI)->open(&host, 0, NULL, &device, &err);
    return device;
}

static struct quern_device *must_open(const char *fault, const char *settings)
{
    struct quern_device *device = open_device(fault, settings);
    if (!device)
        fail_msg("%s: %s", settings ? settings : "", err.text);
    return device;
}

static void close_device(struct quern_device *device)
{
    quern_vulkan_driver_get(QUERN_DRIVER_ABI)->close(device);
}

/* Closes it; what was done must have been seen, or, without `breach`, nothing. */
static void close_after(struct quern_device *device, const char *breach)
{
    close_device(device);
    size_t all = qn_layer_lines("breach");
    if (!breach ? all != 0 : all != 1 || qn_layer_lines(breach) != 1)
        fail_msg("%zu breaches, expected %s", all, breach ? breach : "none");
    assert_int_equal(qn_layer_lines("create"), qn_layer_lines("destroy"));
}

/* ---- what is shown ---- */

static void test_shown(void **state)
{
    struct quern_device *device = must_open(
        NULL, "phone,maxStorageBufferRange=64K,vendorID=0x1234,deviceName=Small,timestampValidBits=0,"
              "deviceType=discrete");
    const VkPhysicalDeviceLimits *limits = &device->facts.properties.limits;
    assert_int_equal(limits->maxStorageBufferRange, 64 << 10); /* later ones win */
    assert_int_equal(limits->maxPushConstantsSize, 128);
    assert_int_equal(limits->maxComputeSharedMemorySize, 16 << 10);
    assert_int_equal(limits->maxComputeWorkGroupInvocations, 256);
    assert_int_equal(limits->maxComputeWorkGroupSize[2] <= 256, 1);
    assert_int_equal(limits->minStorageBufferOffsetAlignment, 256);
    assert_int_equal(device->facts.max_buffer, 256 << 20);
    assert_int_equal(device->facts.properties.vendorID, 0x1234);
    assert_int_equal(VK_API_VERSION_MINOR(device->facts.properties.apiVersion), 2);
    assert_string_equal(device->facts.properties.deviceName, "Small");
    assert_int_equal(device->facts.type, QUERN_DEVICE_DISCRETE_GPU);
    assert_int_equal(device->facts.time_bits, 0);
    assert_int_equal(device->facts.features, 0);
    close_after(device, NULL);
}

static void test_memory_shown(void **state)
{
    struct quern_device *device = must_open(NULL, "discrete=64M,bar=8M,heapBudget=1M");
    const VkPhysicalDeviceMemoryProperties *memory = &device->facts.memory;
    assert_int_equal(memory->memoryHeapCount, 3);
    assert_int_equal(memory->memoryHeaps[0].size, 64 << 20);
    assert_int_equal(memory->memoryHeaps[2].size, 8 << 20);
    assert_int_equal(memory->memoryTypes[0].propertyFlags, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    assert_true(device->facts.features >> QN_VK_MEMORY_BUDGET & 1);
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 now = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                             .pNext = &budget};
    device->api.GetPhysicalDeviceMemoryProperties2(device->facts.handle, &now);
    assert_int_equal(budget.heapBudget[0], 1 << 20);
    assert_true(budget.heapUsage[0] + budget.heapUsage[1] + budget.heapUsage[2] >
                0); /* the driver's tables */
    close_after(device, NULL);
}

/* ---- what is seen ---- */

static VkResult allocate(struct quern_device *device, uint64_t bytes, uint32_t type, VkDeviceMemory *memory)
{
    const VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = bytes, .memoryTypeIndex = type};
    return device->api.AllocateMemory(device->handle, &info, NULL, memory);
}

static void test_memory_breaches(void **state)
{
    VkDeviceMemory memory;
    void *map;
    struct quern_device *device = must_open(NULL, "maxMemoryAllocationSize=1M");
    assert_int_equal(allocate(device, 2 << 20, 0, &memory), VK_ERROR_OUT_OF_DEVICE_MEMORY);
    close_after(device, "breach 2097152 bytes of memory at once, at most 1048576");

    device = must_open(NULL, "discrete=1M");
    assert_int_equal(allocate(device, 2 << 20, 0, &memory), VK_ERROR_OUT_OF_DEVICE_MEMORY);
    assert_int_equal(allocate(device, 1 << 16, 0, &memory), VK_SUCCESS);
    assert_int_equal(device->api.MapMemory(device->handle, memory, 0, VK_WHOLE_SIZE, 0, &map),
                     VK_ERROR_MEMORY_MAP_FAILED);
    device->api.FreeMemory(device->handle, memory, NULL);
    close_after(device, "breach maps memory of type 0, which the host cannot reach");
}

static void test_leak(void **state)
{
    VkDeviceMemory memory;
    struct quern_device *device = must_open(NULL, NULL);
    assert_int_equal(allocate(device, 4096, 0, &memory), VK_SUCCESS);
    close_device(device);
    assert_int_equal(qn_layer_lines("leak 1 VkDeviceMemory"), 1);
    assert_false(qn_layer_clean());
}

/* A descriptor of `bytes` at `offset` of a buffer of 64 KiB. */
static void write_descriptor(struct quern_device *device, uint64_t offset, uint64_t bytes)
{
    struct quern_buffer *buffer;
    const VkDescriptorSetLayoutBinding binding = {.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                                  .descriptorCount = 1,
                                                  .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    const VkDescriptorSetLayoutCreateInfo layout_info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = 1,
        .pBindings = &binding};
    const VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1};
    const VkDescriptorPoolCreateInfo pool_info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                                  .maxSets = 1,
                                                  .poolSizeCount = 1,
                                                  .pPoolSizes = &size};
    VkDescriptorSetLayout layout;
    VkDescriptorPool pool;
    VkDescriptorSet set;
    assert_int_equal(qn_vk_buffer_create(device, QN_VK_USE_DEVICE, 64 << 10, &buffer, &err), QUERN_OK);
    assert_int_equal(device->api.CreateDescriptorSetLayout(device->handle, &layout_info, NULL, &layout), 0);
    assert_int_equal(device->api.CreateDescriptorPool(device->handle, &pool_info, NULL, &pool), 0);
    const VkDescriptorSetAllocateInfo sets = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                              .descriptorPool = pool,
                                              .descriptorSetCount = 1,
                                              .pSetLayouts = &layout};
    assert_int_equal(device->api.AllocateDescriptorSets(device->handle, &sets, &set), 0);
    const VkDescriptorBufferInfo info = {buffer->handle, offset, bytes};
    const VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                        .dstSet = set,
                                        .descriptorCount = 1,
                                        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                        .pBufferInfo = &info};
    device->api.UpdateDescriptorSets(device->handle, 1, &write, 0, NULL);
    device->api.DestroyDescriptorPool(device->handle, pool, NULL);
    device->api.DestroyDescriptorSetLayout(device->handle, layout, NULL);
    qn_vk_buffer_destroy(device, buffer);
}

static void test_descriptor_breaches(void **state)
{
    static const struct {
        uint64_t offset, bytes;
        const char *breach;
    } cases[] = {
        {256, 4096, NULL},
        {128, 4096, "breach a descriptor at byte 128, alignment 256"},
        {0, 40 << 10, "breach a descriptor of 40960 bytes, at most 32768"},
        {0, VK_WHOLE_SIZE, "breach a descriptor of 65536 bytes, at most 32768"},
        {62 << 10, 4096, "breach a descriptor of 4096 bytes at 63488 of a buffer of 65536"},
    };
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        struct quern_device *device =
            must_open(NULL, "maxStorageBufferRange=32K,minStorageBufferOffsetAlignment=256");
        write_descriptor(device, cases[i].offset, cases[i].bytes);
        close_after(device, cases[i].breach);
    }
}

static void test_endless_wait(void **state)
{
    struct quern_device *device = must_open(NULL, NULL);
    const uint64_t point = 0;
    const VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                      .semaphoreCount = 1,
                                      .pSemaphores = &device->timeline,
                                      .pValues = &point};
    assert_int_equal(device->api.WaitSemaphores(device->handle, &info, 1000), VK_SUCCESS);
    assert_int_equal(device->api.WaitSemaphores(device->handle, &info, UINT64_MAX), VK_SUCCESS);
    close_after(device, "breach vkWaitSemaphores without a time limit");
}

/* ---- pipelines ---- */

/* A kernel that does nothing, in a workgroup of 300, with 4,000 bytes of shared memory and 8-bit integers. */
static const uint32_t code[] = {
    0x07230203,    0x00010300, 0,  16,         0,    /* SPIR-V 1.3, 16 ids */
    2 << 16 | 17,  1,                                /* OpCapability Shader */
    2 << 16 | 17,  39,                               /* OpCapability Int8 */
    3 << 16 | 14,  0,          1,                    /* OpMemoryModel Logical GLSL450 */
    5 << 16 | 15,  5,          1,  0x6e69616d, 0,    /* OpEntryPoint GLCompute %1 "main" */
    6 << 16 | 16,  1,          17, 300,        1, 1, /* OpExecutionMode %1 LocalSize */
    2 << 16 | 19,  2,                                /* %2 void */
    3 << 16 | 33,  3,          2,                    /* %3 function */
    4 << 16 | 21,  5,          32, 0,                /* %5 uint */
    4 << 16 | 43,  5,          6,  1000,             /* %6 1000 */
    4 << 16 | 28,  7,          5,  6,                /* %7 uint[1000] */
    4 << 16 | 32,  8,          4,  7,                /* %8 pointer to it, Workgroup */
    4 << 16 | 59,  8,          9,  4,                /* %9 variable */
    5 << 16 | 54,  2,          1,  0,          3,    /* %1 function */
    2 << 16 | 248, 4,                                /* label */
    1 << 16 | 253,                                   /* return */
    1 << 16 | 56,                                    /* end */
};

static void make_pipeline(struct quern_device *device)
{
    const VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = sizeof code, .pCode = code};
    const VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = 100};
    const VkPipelineLayoutCreateInfo layout_info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                                    .pushConstantRangeCount = 1,
                                                    .pPushConstantRanges = &push};
    VkPipelineLayout layout;
    VkPipeline pipeline;
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .pName = "main"}};
    assert_int_equal(device->api.CreateShaderModule(device->handle, &module_info, NULL, &info.stage.module),
                     0);
    assert_int_equal(device->api.CreatePipelineLayout(device->handle, &layout_info, NULL, &layout), 0);
    info.layout = layout;
    assert_int_equal(
        device->api.CreateComputePipelines(device->handle, VK_NULL_HANDLE, 1, &info, NULL, &pipeline), 0);
    device->api.DestroyPipeline(device->handle, pipeline, NULL);
    device->api.DestroyPipelineLayout(device->handle, layout, NULL);
    device->api.DestroyShaderModule(device->handle, info.stage.module, NULL);
}

static void test_pipeline_breaches(void **state)
{
    static const char *const cases[][2] = {
        {"maxComputeWorkGroupInvocations=512", NULL},
        {"maxComputeWorkGroupInvocations=256", "breach a workgroup of 300, at most 256"},
        {"maxComputeWorkGroupSize=256", "breach a workgroup of 300 in dimension 0, at most 256"},
        {"maxComputeSharedMemorySize=2K", "breach a pipeline with 4000 bytes of shared memory, at most 2048"},
        {"shaderInt8=0", "breach a pipeline with capability Int8"},
        {"maxPushConstantsSize=64", "breach push constants of 100 bytes, at most 64"},
    };
    for (size_t i = 0; i < QN_LEN(cases); i++) {
        struct quern_device *device = must_open(NULL, cases[i][0]);
        make_pipeline(device);
        close_after(device, cases[i][1]);
    }
}

/* ---- what fails ---- */

static void test_lost(void **state)
{
    struct quern_device *device = must_open("vkQueueSubmit@2=VK_ERROR_DEVICE_LOST", NULL);
    VkSubmitInfo nothing = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO};
    uint64_t value;
    VkDeviceMemory memory;
    assert_int_equal(device->api.QueueSubmit(device->queue, 1, &nothing, VK_NULL_HANDLE), VK_SUCCESS);
    assert_int_equal(device->api.GetSemaphoreCounterValue(device->handle, device->timeline, &value),
                     VK_SUCCESS);
    for (int i = 0; i < 2; i++)
        assert_int_equal(device->api.QueueSubmit(device->queue, 1, &nothing, VK_NULL_HANDLE),
                         VK_ERROR_DEVICE_LOST);
    assert_int_equal(device->api.GetSemaphoreCounterValue(device->handle, device->timeline, &value),
                     VK_ERROR_DEVICE_LOST);
    assert_int_equal(allocate(device, 4096, 0, &memory), VK_SUCCESS); /* has nothing to do with that */
    device->api.FreeMemory(device->handle, memory, NULL);
    close_after(device, NULL);
    assert_int_equal(qn_layer_lines("fault vkQueueSubmit 2 VK_ERROR_DEVICE_LOST"), 1);
    assert_int_equal(qn_layer_lines("fault"), 1);
}

static void test_rules(void **state)
{
    VkDeviceMemory memory;
    struct quern_device *device =
        must_open("vkCreateFence=VK_ERROR_UNKNOWN,vkAllocateMemory@3+=VK_ERROR_OUT_OF_HOST_MEMORY",
                  NULL); /* 1: its tables */
    assert_int_equal(allocate(device, 4096, 0, &memory), VK_SUCCESS);
    for (int i = 0; i < 3; i++) {
        VkDeviceMemory none;
        assert_int_equal(allocate(device, 4096, 0, &none), VK_ERROR_OUT_OF_HOST_MEMORY);
    }
    device->api.FreeMemory(device->handle, memory, NULL);
    close_device(device);
    assert_int_equal(qn_layer_lines("fault vkAllocateMemory"), 3);
    assert_null(open_device("vkCreateInstance=VK_ERROR_INCOMPATIBLE_DRIVER", NULL));
    assert_null(open_device("vkCreateDevice=VK_ERROR_OUT_OF_HOST_MEMORY", NULL));
    assert_int_equal(err.status, QUERN_ERR_MEMORY);
}

/* How a process ends that opens a device. */
static int end_of_child(const char *fault)
{
    int how;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        alarm(2);
        _exit(open_device(fault, NULL) ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFSIGNALED(how) ? WTERMSIG(how) : -WEXITSTATUS(how);
}

static void test_crash_and_hang(void **state)
{
    assert_int_equal(end_of_child(NULL), 0);
    assert_int_equal(end_of_child("vkCreateDevice=crash"), SIGABRT);
    assert_int_equal(end_of_child("vkCreateDevice=hang"), SIGALRM);
    assert_int_equal(end_of_child("vkNoSuchCall=crash"), SIGABRT);
}

int main(void)
{
    callbacks = qn_callbacks_resolve(NULL);
    struct quern_device *device = open_device(NULL, NULL);
    if (!device) {
        fprintf(stderr, "SKIPPED: the layer for tests of Vulkan: %s\n", err.text);
        return SKIPPED;
    }
    close_device(device);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash_and_hang),
        cmocka_unit_test(test_shown),
        cmocka_unit_test(test_memory_shown),
        cmocka_unit_test(test_memory_breaches),
        cmocka_unit_test(test_leak),
        cmocka_unit_test(test_endless_wait),
        cmocka_unit_test(test_descriptor_breaches),
        cmocka_unit_test(test_pipeline_breaches),
        cmocka_unit_test(test_lost),
        cmocka_unit_test(test_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
