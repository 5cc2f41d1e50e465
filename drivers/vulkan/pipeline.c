/* Kernels become pipelines. */
#include "drivers/vulkan/segment.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one pipeline ---- */

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

/* Compiles the pipeline; several threads do so at once. */
static enum quern_status make_pipeline(struct quern_device *device, struct qn_vk_pipeline *made,
                                       struct quern_error *err)
{
    struct qn_vk_spirv spirv;
    enum quern_status status = qn_vk_spirv_get(&device->shaders, made->kernel, &spirv, err);
    if (status)
        return status;
    VkShaderModule shader = VK_NULL_HANDLE;
    const VkShaderModuleCreateInfo code = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = spirv.bytes, .pCode = spirv.words};
    VkSpecializationMapEntry entries[QN_VK_MAX_CONSTANTS]; /* those that a module lacks are passed over */
    for (uint32_t i = 0; i < QN_VK_MAX_CONSTANTS; i++)
        entries[i] = (VkSpecializationMapEntry){.constantID = i, .offset = 4 * i, .size = 4};
    const VkSpecializationInfo special = {.mapEntryCount = QN_VK_MAX_CONSTANTS,
                                          .pMapEntries = entries,
                                          .dataSize = sizeof made->constants,
                                          .pData = made->constants};
    bool ask = made->full_subgroups && device->facts.features >> QN_VK_SUBGROUP_SIZE & 1;
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = device->facts.full_subgroup};
    VK(device, CreateShaderModule, device->handle, &code, NULL, &shader);
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = device->submit_ns > 0 ? VK_PIPELINE_CREATE_DISPATCH_BASE_BIT : 0, /* slices */
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = ask ? &size : NULL,
                  .flags = ask ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = shader,
                  .pName = "main",
                  .pSpecializationInfo = &special},
        .layout = made->layout};
    VK(device, CreateComputePipelines, device->handle, device->pipeline_cache, 1, &info, NULL, &made->handle);
done:
    device->api.DestroyShaderModule(device->handle, shader, NULL);
    qn_vk_spirv_finish(&device->shaders, &spirv);
    return status;
}

static void destroy(struct quern_device *device, struct qn_vk_pipeline *pipeline)
{
    device->api.DestroyPipeline(device->handle, pipeline->handle, NULL);
    device->api.DestroyPipelineLayout(device->handle, pipeline->layout, NULL);
    device->api.DestroyDescriptorSetLayout(device->handle, pipeline->set_layout, NULL);
    qn_free(device->cb, pipeline);
}

/* ---- all that are missing, at once ---- */

enum { MAX_THREADS = 16 };
static const uint64_t PATIENCE_NS = 200000000; /* what takes longer shows its progress */

/* Work that threads share. */
struct making {
    struct quern_device *device;
    struct qn_vk_pipeline **missing; /* [n] */
    size_t n;
    uint64_t begin_ns;
    struct qn_mutex lock; /* of what follows */
    size_t next, done;
    uint32_t n_given_up;
    enum qn_vk_kernel given_up; /* the first of these, and why */
    struct quern_error why;
    enum quern_status status; /* of the first that failed and is needed */
    struct quern_error err;
};

/* Whether that is a fault of the kernel, which another one can do without. */
static bool can_replace(enum qn_vk_kernel kernel, enum quern_status status)
{
    return (status == QUERN_ERR_DEVICE || status == QUERN_ERR_UNSUPPORTED) &&
           qn_vk_kernel_info(kernel).optional;
}

/* With the lock held. */
static void note_failure(struct making *m, enum qn_vk_kernel kernel, enum quern_status status,
                         const struct quern_error *err)
{
    if (can_replace(kernel, status)) {
        if (qn_vk_give_up(&m->device->shaders, kernel) && m->n_given_up++ == 0) {
            m->given_up = kernel;
            m->why = *err;
        }
    } else if (!m->status) {
        m->status = status;
        m->err = *err;
    }
}

static void make_some(void *arg)
{
    struct making *m = arg;
    qn_mutex_lock(&m->lock);
    while (!m->status && m->next < m->n) {
        struct qn_vk_pipeline *pipeline = m->missing[m->next++];
        struct quern_error err;
        qn_mutex_unlock(&m->lock);
        enum quern_status status = make_pipeline(m->device, pipeline, &err);
        qn_mutex_lock(&m->lock);
        if (status)
            note_failure(m, pipeline->kernel, status, &err);
        m->done++;
        if (qn_now_ns() - m->begin_ns > PATIENCE_NS)
            qn_progress(m->device->cb, "compile kernels", m->done, m->n);
    }
    qn_mutex_unlock(&m->lock);
}

/* The longest kernels first, so that no thread is left with one at the end. */
static int by_length(const void *a, const void *b)
{
    const struct qn_vk_pipeline *x = *(struct qn_vk_pipeline *const *)a,
                                *y = *(struct qn_vk_pipeline *const *)b;
    return x->bytes > y->bytes ? -1 : x->bytes < y->bytes;
}

static void tell_given_up(const struct making *m)
{
    char more[32] = "";
    if (m->n_given_up > 1)
        snprintf(more, sizeof more, " (and %u more)", m->n_given_up - 1);
    qn_log(m->device->cb, QUERN_LOG_WARNING, "%s: kernel %s%s is not used, others serve instead: %s",
           m->device->facts.properties.deviceName, qn_vk_kernel_info(m->given_up).name, more, m->why.text);
}

/* Compiles the pipelines on as many threads as there are processors. */
static enum quern_status make_all(struct quern_device *device, struct qn_vk_pipeline **missing, size_t n,
                                  struct quern_error *err)
{
    struct making making = {.device = device, .missing = missing, .n = n, .begin_ns = qn_now_ns()};
    if (!qn_mutex_init(&making.lock))
        return qn_fail_memory(err, "pipelines");
    qsort(missing, n, sizeof *missing, by_length);
    struct qn_thread threads[MAX_THREADS - 1];
    int most = qn_cpu_count() < MAX_THREADS ? qn_cpu_count() : MAX_THREADS;
    int n_threads = 0;
    while (n_threads + 1 < most && (size_t)n_threads + 1 < n &&
           qn_thread_start(&threads[n_threads], make_some, &making))
        n_threads++;
    make_some(&making);
    while (n_threads > 0)
        qn_thread_join(&threads[--n_threads]);
    qn_mutex_finish(&making.lock);
    uint64_t ns = qn_now_ns() - making.begin_ns;
    if (ns > PATIENCE_NS)
        qn_progress(device->cb, "compile kernels", n, n);
    qn_vk_phase_add(device, QN_VK_PHASE_PIPELINES, (uint32_t)making.done, ns);
    if (making.status || making.n_given_up == 0)
        return making.status ? qn_fail(err, making.status, "%s", making.err.text) : QUERN_OK;
    tell_given_up(&making);
    return qn_fail(err, QUERN_ERR_UNSUPPORTED, "%s", making.why.text);
}

/* The dispatch's pipeline, which may be one that is not compiled yet; NULL after a failure. */
static struct qn_vk_pipeline *find_or_add(struct quern_device *device, const struct qn_vk_dispatch *d,
                                          struct quern_error *err)
{
    struct qn_vk_pipeline *pipeline = device->pipelines[d->kernel];
    while (pipeline && (pipeline->full_subgroups != d->full_subgroups ||
                        memcmp(pipeline->constants, d->constants, sizeof d->constants) != 0))
        pipeline = pipeline->next;
    if (pipeline)
        return pipeline;
    pipeline = qn_zalloc(device->cb, 1, sizeof *pipeline);
    if (!pipeline) {
        qn_fail_memory(err, "a pipeline");
        return NULL;
    }
    pipeline->kernel = d->kernel;
    const struct qn_vk_module *module = qn_vk_module_find(d->kernel);
    pipeline->bytes = module ? module->bytes : SIZE_MAX;
    memcpy(pipeline->constants, d->constants, sizeof d->constants);
    pipeline->full_subgroups = d->full_subgroups;
    struct qn_vk_kernel_info info = qn_vk_kernel_info(d->kernel);
    if (make_layout(device, &info, pipeline, err)) {
        destroy(device, pipeline);
        return NULL;
    }
    pipeline->next = device->pipelines[d->kernel];
    device->pipelines[d->kernel] = pipeline;
    return pipeline;
}

/* Ends the pipelines that were not compiled, or all. */
static void drop(struct quern_device *device, bool all)
{
    for (int k = 0; k < QN_VK_KERNEL_END; k++)
        for (struct qn_vk_pipeline **at = &device->pipelines[k]; *at;) {
            struct qn_vk_pipeline *pipeline = *at;
            if (!all && pipeline->handle) {
                at = &pipeline->next;
                continue;
            }
            *at = pipeline->next;
            destroy(device, pipeline);
        }
}

enum quern_status qn_vk_pipelines_get(struct quern_device *device, struct qn_vk_dispatch *dispatches,
                                      size_t n, struct quern_error *err)
{
    struct qn_vk_pipeline **missing = qn_alloc(device->cb, n, sizeof *missing);
    enum quern_status status = missing ? QUERN_OK : qn_fail_memory(err, "pipelines");
    size_t n_missing = 0;
    for (size_t i = 0; i < n && !status; i++) {
        struct qn_vk_pipeline *pipeline = find_or_add(device, &dispatches[i], err);
        dispatches[i].pipeline = pipeline;
        if (!pipeline)
            status = err->status;
        else if (!pipeline->handle && !pipeline->listed)
            missing[n_missing++] = pipeline;
        if (pipeline)
            pipeline->listed = true;
    }
    if (!status && n_missing > 0)
        status = make_all(device, missing, n_missing, err);
    if (status)
        drop(device, false);
    else if (n_missing > 0)
        qn_vk_pipeline_cache_save(device);
    qn_free(device->cb, missing);
    return status;
}

void qn_vk_pipelines_finish(struct quern_device *device)
{
    drop(device, true);
}
