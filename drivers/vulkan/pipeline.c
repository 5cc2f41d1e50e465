/* Kernels become pipelines. */
#include "drivers/vulkan/device.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- kernels ---- */

struct qn_vk_kernel_info qn_vk_kernel_info(enum qn_vk_kernel kernel)
{
    static const struct row {
        enum qn_vk_kernel first;
        const char *name;
        uint32_t n_buffers, n_words;
        bool pools, formats;
    } rows[] = {
#define KERNEL(id, name, source, define, n_buffers, n_words) \
    {QN_VK_##id, #name, n_buffers, n_words, false, false},
#define KERNEL_POOLS(id, name, source, define, n_buffers, n_words) \
    {QN_VK_##id, #name, n_buffers, n_words, true, false},
#define KERNEL_FORMATS(id, name, source, define, n_buffers, n_words, formats) \
    {QN_VK_##id, #name, n_buffers, n_words, false, true},
#include "shaders/kernels.inc"
    };
    size_t i = QN_LEN(rows) - 1;
    while (kernel < rows[i].first)
        i--;
    struct qn_vk_kernel_info info = {
        .n_buffers = rows[i].n_buffers, .n_words = rows[i].n_words, .pools = rows[i].pools};
    const char *format =
        rows[i].formats ? quern_format_name((enum quern_format)(kernel - rows[i].first)) : NULL;
    int n = snprintf(info.name, sizeof info.name, "%s%s%s", rows[i].name, rows[i].formats ? "_" : "",
                     format ? format : "");
    for (int c = 0; c < n; c++)
        info.name[c] = (char)tolower((unsigned char)info.name[c]);
    return info;
}

static int compare_name(const void *name, const void *module)
{
    return strcmp(name, ((const struct qn_vk_module *)module)->name);
}

const struct qn_vk_module *qn_vk_module_find(enum qn_vk_kernel kernel)
{
    struct qn_vk_kernel_info info = qn_vk_kernel_info(kernel);
    return bsearch(info.name, qn_vk_modules, qn_vk_n_modules, sizeof *qn_vk_modules, compare_name);
}

/* ---- pipelines ---- */

static enum quern_status make_layout(struct quern_device *device, const struct qn_vk_kernel_info *info,
                                     struct qn_vk_pipeline *made, struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    VkDescriptorSetLayoutBinding bindings[QN_VK_MAX_BUFFERS];
    for (uint32_t i = 0; i < info->n_buffers; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){
            .binding = i,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = info->pools && i + 1 == info->n_buffers ? QN_VK_POOLS : 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    const VkDescriptorSetLayoutCreateInfo set = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                                 .bindingCount = info->n_buffers,
                                                 .pBindings = bindings};
    VK(device, CreateDescriptorSetLayout, device->handle, &set, NULL, &made->set_layout);
    const VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = info->n_words * 4};
    const VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                               .setLayoutCount = 1,
                                               .pSetLayouts = &made->set_layout,
                                               .pushConstantRangeCount = 1,
                                               .pPushConstantRanges = &push};
    VK(device, CreatePipelineLayout, device->handle, &layout, NULL, &made->layout);
done:
    return status;
}

static enum quern_status make_pipeline(struct quern_device *device, const struct qn_vk_module *module,
                                       struct qn_vk_pipeline *made, struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    VkShaderModule shader = VK_NULL_HANDLE;
    const VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                           .codeSize = module->bytes,
                                           .pCode = module->code};
    VkSpecializationMapEntry entries[QN_VK_MAX_CONSTANTS]; /* those that a module lacks are passed over */
    for (uint32_t i = 0; i < QN_VK_MAX_CONSTANTS; i++)
        entries[i] = (VkSpecializationMapEntry){.constantID = i, .offset = 4 * i, .size = 4};
    const VkSpecializationInfo special = {.mapEntryCount = QN_VK_MAX_CONSTANTS,
                                          .pMapEntries = entries,
                                          .dataSize = sizeof made->constants,
                                          .pData = made->constants};
    VK(device, CreateShaderModule, device->handle, &code, NULL, &shader);
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = shader,
                  .pName = "main",
                  .pSpecializationInfo = &special},
        .layout = made->layout};
    VK(device, CreateComputePipelines, device->handle, VK_NULL_HANDLE, 1, &info, NULL, &made->handle);
done:
    device->api.DestroyShaderModule(device->handle, shader, NULL);
    return status;
}

static void destroy(struct quern_device *device, struct qn_vk_pipeline *pipeline)
{
    device->api.DestroyPipeline(device->handle, pipeline->handle, NULL);
    device->api.DestroyPipelineLayout(device->handle, pipeline->layout, NULL);
    device->api.DestroyDescriptorSetLayout(device->handle, pipeline->set_layout, NULL);
    qn_free(device->cb, pipeline);
}

enum quern_status qn_vk_pipeline_get(struct quern_device *device, enum qn_vk_kernel kernel,
                                     const uint32_t constants[QN_VK_MAX_CONSTANTS],
                                     const struct qn_vk_pipeline **pipeline, struct quern_error *err)
{
    const size_t bytes = QN_VK_MAX_CONSTANTS * sizeof *constants;
    for (*pipeline = device->pipelines[kernel]; *pipeline; *pipeline = (*pipeline)->next)
        if (memcmp((*pipeline)->constants, constants, bytes) == 0)
            return QUERN_OK;
    struct qn_vk_kernel_info info = qn_vk_kernel_info(kernel);
    const struct qn_vk_module *module = qn_vk_module_find(kernel);
    if (!module)
        return qn_fail(err, QUERN_ERR_UNSUPPORTED, "there is no kernel %s", info.name);
    struct qn_vk_pipeline *made = qn_zalloc(device->cb, 1, sizeof *made);
    if (!made)
        return qn_fail_memory(err, "a pipeline");
    memcpy(made->constants, constants, bytes);
    enum quern_status status = make_layout(device, &info, made, err);
    if (!status)
        status = make_pipeline(device, module, made, err);
    if (status) {
        destroy(device, made);
        return status;
    }
    made->next = device->pipelines[kernel];
    *pipeline = device->pipelines[kernel] = made;
    return QUERN_OK;
}

void qn_vk_pipelines_finish(struct quern_device *device)
{
    for (int k = 0; k < QN_VK_KERNEL_END; k++)
        while (device->pipelines[k]) {
            struct qn_vk_pipeline *first = device->pipelines[k];
            device->pipelines[k] = first->next;
            destroy(device, first);
        }
}
