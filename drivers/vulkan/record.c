/* Preparing, recording and running segments. */
#include "drivers/vulkan/segment.h"

#include "base/clock.h"

#include <string.h>

/* ---------------------------------------------------------------- preparing */

static enum quern_status upload_constants(struct quern_device *device, struct quern_prepared *prepared,
                                          struct quern_error *err)
{
    if (prepared->n_constants == 0)
        return QUERN_OK;
    size_t bytes = prepared->n_constants * sizeof *prepared->constants;
    enum quern_status status =
        qn_vk_buffer_create(device, QN_VK_USE_DEVICE, bytes, &prepared->constant_buffer, err);
    if (!status)
        status = qn_vk_write(device, prepared->constant_buffer, 0, prepared->constants, bytes, err);
    qn_free(device->cb, prepared->constants);
    prepared->constants = NULL;
    return status;
}

/* Descriptor sets, one for each dispatch, and its pipeline. */
static enum quern_status make_sets(struct quern_device *device, struct quern_prepared *prepared,
                                   struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    size_t n = prepared->n_dispatches;
    VkDescriptorSetLayout *layouts = qn_alloc(device->cb, n, sizeof *layouts);
    prepared->sets = qn_zalloc(device->cb, n, sizeof *prepared->sets);
    VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER};
    if (!layouts || !prepared->sets)
        status = qn_fail_memory(err, "a prepared segment");
    else
        status = qn_vk_pipelines_get(device, prepared->dispatches, n, err);
    for (size_t i = 0; i < n && !status; i++) {
        const struct qn_vk_dispatch *d = &prepared->dispatches[i];
        struct qn_vk_kernel_info info = qn_vk_kernel_info(d->kernel);
        layouts[i] = d->pipeline->set_layout;
        size.descriptorCount += info.n_buffers + (info.pools ? QN_VK_POOLS - 1 : 0);
    }
    if (status)
        goto done;
    const VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                             .maxSets = (uint32_t)n,
                                             .poolSizeCount = 1,
                                             .pPoolSizes = &size};
    VK(device, CreateDescriptorPool, device->handle, &pool, NULL, &prepared->pool);
    const VkDescriptorSetAllocateInfo sets = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                              .descriptorPool = prepared->pool,
                                              .descriptorSetCount = (uint32_t)n,
                                              .pSetLayouts = layouts};
    VK(device, AllocateDescriptorSets, device->handle, &sets, prepared->sets);
done:
    qn_free(device->cb, layouts);
    return status;
}

static enum quern_status prepare(struct quern_device *device, const struct quern_segment *segment,
                                 struct quern_prepared **out, struct quern_error *err)
{
    *out = NULL;
    struct quern_prepared *prepared = qn_zalloc(device->cb, 1, sizeof *prepared);
    if (!prepared)
        return qn_fail_memory(err, "a prepared segment");
    enum quern_status status = qn_vk_ops_plan(device, segment, prepared, err);
    if (!status)
        status = upload_constants(device, prepared, err);
    if (!status && prepared->scratch_bytes > 0)
        status = qn_vk_buffer_create(device, QN_VK_USE_DEVICE, prepared->scratch_bytes,
                                     &prepared->scratch_buffer, err);
    if (!status)
        status = make_sets(device, prepared, err);
    if (status)
        qn_vk_release(device, prepared);
    else
        *out = prepared;
    return status;
}

int32_t qn_vk_prepare(struct quern_device *device, const struct quern_segment *segment,
                      struct quern_prepared **out, struct quern_error *err)
{
    enum quern_status status;
    uint32_t n_given_up;
    do { /* each time without kernels that the last one had */
        n_given_up = device->shaders.n_given_up;
        status = prepare(device, segment, out, err);
    } while (status && device->shaders.n_given_up > n_given_up);
    return status;
}

void qn_vk_release(struct quern_device *device, struct quern_prepared *prepared)
{
    if (!prepared)
        return;
    bool idle = qn_vk_idle(device);
    for (int i = 0; i < QN_VK_RECORDINGS; i++) {
        if (idle && prepared->n_commands[i] > 0)
            device->api.FreeCommandBuffers(device->handle, device->commands,
                                           (uint32_t)prepared->n_commands[i], prepared->commands[i]);
        qn_free(device->cb, prepared->commands[i]);
    }
    device->api.DestroyQueryPool(device->handle, prepared->queries, NULL);
    device->api.DestroyDescriptorPool(device->handle, prepared->pool, NULL);
    qn_vk_buffer_destroy(device, prepared->constant_buffer);
    qn_vk_steps_finish(device, prepared, idle);
    qn_vk_buffer_destroy(device, prepared->scratch_buffer);
    qn_vk_buffer_destroy(device, prepared->parts_buffer);
    qn_free(device->cb, prepared->sizes);
    qn_free(device->cb, prepared->constants);
    qn_free(device->cb, prepared->dispatches);
    qn_free(device->cb, prepared->cuts);
    qn_free(device->cb, prepared->sets);
    qn_free(device->cb, prepared);
}

/* ---------------------------------------------------------------- descriptors */

void qn_vk_forget_recordings(struct quern_prepared *prepared)
{
    memset(prepared->recorded, 0, sizeof prepared->recorded);
}

static VkDescriptorBufferInfo info_of(const struct quern_device *device,
                                      const struct quern_prepared *prepared, const struct qn_vk_bound *bound,
                                      uint32_t pool)
{
    const struct quern_buffer *step = prepared->step_buffer;
    switch (bound->kind) {
    case QN_VK_BOUND_BUFFER:
        return (VkDescriptorBufferInfo){bound->buffer->handle, bound->offset, bound->bytes};
    case QN_VK_BOUND_CONSTANTS:
        return (VkDescriptorBufferInfo){prepared->constant_buffer->handle, bound->offset, bound->bytes};
    case QN_VK_BOUND_SCRATCH:
        return (VkDescriptorBufferInfo){prepared->scratch_buffer->handle, bound->offset, bound->bytes};
    case QN_VK_BOUND_SIZES:
        return (VkDescriptorBufferInfo){step->handle, bound->offset, bound->bytes};
    case QN_VK_BOUND_PARTS:
        return (VkDescriptorBufferInfo){prepared->parts_buffer->handle, 0, VK_WHOLE_SIZE};
    case QN_VK_BOUND_GRIDS:
        return (VkDescriptorBufferInfo){device->grids->handle, 0, VK_WHOLE_SIZE};
    case QN_VK_BOUND_POOLS:
        if (prepared->pools[bound->home][pool])
            return (VkDescriptorBufferInfo){prepared->pools[bound->home][pool]->handle, 0, VK_WHOLE_SIZE};
        return (VkDescriptorBufferInfo){step->handle, prepared->step_at,
                                        VK_WHOLE_SIZE}; /* nothing is stored yet */
    case QN_VK_BOUND_STEP:
    default:
        return (VkDescriptorBufferInfo){step->handle, prepared->step_at, VK_WHOLE_SIZE};
    }
}

static void write_set(struct quern_device *device, struct quern_prepared *prepared, size_t i)
{
    const struct qn_vk_dispatch *d = &prepared->dispatches[i];
    struct qn_vk_kernel_info info = qn_vk_kernel_info(d->kernel);
    VkDescriptorBufferInfo buffers[QN_VK_MAX_BUFFERS + QN_VK_POOLS];
    VkWriteDescriptorSet writes[QN_VK_MAX_BUFFERS];
    uint32_t n = 0;
    for (uint32_t b = 0; b < info.n_buffers; b++) {
        uint32_t count = info.pools && b + 1 == info.n_buffers ? QN_VK_POOLS : 1;
        writes[b] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstSet = prepared->sets[i],
                                           .dstBinding = b,
                                           .descriptorCount = count,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .pBufferInfo = &buffers[n]};
        for (uint32_t pool = 0; pool < count; pool++)
            buffers[n++] = info_of(device, prepared, &d->bound[b], pool);
    }
    device->api.UpdateDescriptorSets(device->handle, info.n_buffers, writes, 0, NULL);
}

/* ---------------------------------------------------------------- hazards */

/* What was read and written since the last barrier. */
struct hazards {
    struct qn_vk_bound *seen;
    size_t n;
};

static bool overlap(const struct qn_vk_bound *a, const struct qn_vk_bound *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind == QN_VK_BOUND_POOLS)
        return a->home == b->home;
    if (a->kind == QN_VK_BOUND_PARTS)
        return true;
    return (a->kind == QN_VK_BOUND_BUFFER || a->kind == QN_VK_BOUND_SCRATCH) && a->buffer == b->buffer &&
           a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* Whether the dispatch must wait for what came before it; afterwards it is part of that. */
static bool must_wait(struct hazards *hazards, const struct qn_vk_dispatch *d)
{
    bool wait = false;
    for (uint32_t b = 0; b < QN_VK_MAX_BUFFERS; b++)
        for (size_t i = 0; i < hazards->n && !wait; i++)
            wait =
                (d->bound[b].written || hazards->seen[i].written) && overlap(&d->bound[b], &hazards->seen[i]);
    if (wait)
        hazards->n = 0;
    for (uint32_t b = 0; b < QN_VK_MAX_BUFFERS; b++)
        if (d->bound[b].kind == QN_VK_BOUND_BUFFER || d->bound[b].kind == QN_VK_BOUND_POOLS ||
            d->bound[b].kind == QN_VK_BOUND_SCRATCH || d->bound[b].kind == QN_VK_BOUND_PARTS)
            hazards->seen[hazards->n++] = d->bound[b];
    return wait;
}

/* ---------------------------------------------------------------- recording */

static void record_dispatch(struct quern_device *device, struct quern_prepared *prepared, size_t i,
                            uint32_t slice, VkCommandBuffer commands)
{
    const struct qn_vk_dispatch *d = &prepared->dispatches[i];
    const struct qn_vk_pipeline *pipeline = d->pipeline;
    struct qn_vk_kernel_info info = qn_vk_kernel_info(d->kernel);
    device->api.CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->handle);
    device->api.CmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->layout, 0, 1,
                                      &prepared->sets[i], 0, NULL);
    device->api.CmdPushConstants(commands, pipeline->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, info.n_words * 4,
                                 d->words);
    if (d->slices > 1) {
        uint32_t base[3], n[3];
        qn_vk_slice(prepared, d, slice, base, n);
        device->api.CmdDispatchBase(commands, base[0], base[1], base[2], n[0], n[1], n[2]);
    } else if (d->indirect) {
        VkDescriptorBufferInfo at = info_of(device, prepared, &d->bound[d->indirect], 0);
        device->api.CmdDispatchIndirect(commands, at.buffer, at.offset);
    } else {
        device->api.CmdDispatch(commands, d->groups[0], d->groups[1], d->groups[2]);
    }
}

static enum quern_status make_queries(struct quern_device *device, struct quern_prepared *prepared,
                                      struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    const VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                        .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                        .queryCount = (uint32_t)(2 * prepared->n_dispatches)};
    if (!prepared->queries)
        VK(device, CreateQueryPool, device->handle, &info, NULL, &prepared->queries);
done:
    return status;
}

/* As many command buffers as there are cuts. */
static enum quern_status fit_commands(struct quern_device *device, struct quern_prepared *prepared, int which,
                                      struct quern_error *err)
{
    VkCommandBuffer **commands = &prepared->commands[which];
    if (prepared->n_commands[which] == prepared->n_cuts)
        return QUERN_OK;
    if (prepared->n_commands[which] > 0)
        device->api.FreeCommandBuffers(device->handle, device->commands,
                                       (uint32_t)prepared->n_commands[which], *commands);
    prepared->n_commands[which] = 0;
    qn_free(device->cb, *commands);
    *commands = qn_zalloc(device->cb, prepared->n_cuts, sizeof(VkCommandBuffer));
    if (!*commands)
        return qn_fail_memory(err, "a prepared segment");
    enum quern_status status = qn_vk_commands(device, *commands, (uint32_t)prepared->n_cuts, err);
    prepared->n_commands[which] = status ? 0 : prepared->n_cuts;
    return status;
}

/* The slices of dispatch i that belong to cut c, from slice `first` on; whether the cut ends with them. */
static bool record_slices(struct quern_device *device, struct quern_prepared *prepared, int which, size_t c,
                          size_t i, uint32_t first, VkCommandBuffer commands)
{
    const struct qn_vk_dispatch *d = &prepared->dispatches[i];
    const struct qn_vk_cut *next = c + 1 < prepared->n_cuts ? &prepared->cuts[c + 1] : NULL;
    uint32_t n = d->slices > 1 ? d->slices : 1, end = next && next->dispatch == i ? next->slice : n;
    if (which == QN_VK_TIMED && first == 0)
        device->api.CmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, prepared->queries,
                                      (uint32_t)(2 * i));
    for (uint32_t s = first; s < end; s++)
        record_dispatch(device, prepared, i, s, commands);
    if (which == QN_VK_TIMED && end == n)
        device->api.CmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, prepared->queries,
                                      (uint32_t)(2 * i + 1));
    return next && (next->dispatch == i || (next->dispatch == i + 1 && next->slice == 0));
}

/* Records the work from one cut to the next. All that was given to the device before is waited for. */
static enum quern_status record_cut(struct quern_device *device, struct quern_prepared *prepared, int which,
                                    size_t c, struct hazards *hazards, struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    VkCommandBuffer commands = prepared->commands[which][c];
    const struct qn_vk_cut *from = &prepared->cuts[c];
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT};
    VK(device, BeginCommandBuffer, commands, &begin);
    if (c == 0 && which == QN_VK_TIMED)
        device->api.CmdResetQueryPool(commands, prepared->queries, 0, (uint32_t)(2 * prepared->n_dispatches));
    qn_vk_barrier(device, commands, false);
    hazards->n = 0;
    bool ended = false;
    for (size_t i = from->dispatch; i < prepared->n_dispatches && !ended; i++) {
        if (must_wait(hazards, &prepared->dispatches[i]))
            qn_vk_barrier(device, commands, false);
        ended = record_slices(device, prepared, which, c, i, i == from->dispatch ? from->slice : 0, commands);
    }
    if (c + 1 == prepared->n_cuts)
        qn_vk_barrier(device, commands, true);
    VK(device, EndCommandBuffer, commands);
done:
    return status;
}

enum quern_status qn_vk_record(struct quern_device *device, struct quern_prepared *prepared, int which,
                               struct quern_error *err)
{
    uint64_t begin = qn_now_ns();
    size_t n = prepared->n_dispatches;
    struct hazards hazards = {qn_alloc(device->cb, n * QN_VK_MAX_BUFFERS, sizeof *hazards.seen), 0};
    if (!hazards.seen)
        return qn_fail_memory(err, "a prepared segment");
    qn_vk_forget_recordings(prepared); /* they share the descriptor sets, which are written anew */
    enum quern_status status = fit_commands(device, prepared, which, err);
    if (!status && which == QN_VK_TIMED)
        status = make_queries(device, prepared, err);
    for (size_t i = 0; i < n && !status; i++)
        write_set(device, prepared, i);
    for (size_t c = 0; c < prepared->n_cuts && !status; c++)
        status = record_cut(device, prepared, which, c, &hazards, err);
    prepared->recorded[which] = !status;
    qn_free(device->cb, hazards.seen);
    qn_vk_phase_add(device, QN_VK_PHASE_RECORD, 1, qn_now_ns() - begin);
    return status;
}

/* ---------------------------------------------------------------- running */

int32_t qn_vk_run(struct quern_device *device, struct quern_prepared *prepared,
                  const struct quern_run_args *args, uint64_t *point, struct quern_error *err)
{
    bool timed = args->trace && device->facts.time_bits > 0;
    int which = timed ? QN_VK_TIMED : QN_VK_PLAIN;
    if (timed || prepared->begin_ns > 0) { /* times are those of the last run */
        enum quern_status status = qn_vk_settle(device, prepared, err);
        if (status)
            return status;
    }
    enum quern_status status = qn_vk_step_take(device, prepared, args, err);
    if (status)
        return status;
    bool first = !prepared->recorded[which] && !device->first_point;
    prepared->begin_ns = timed ? qn_now_ns() : 0;
    status = qn_vk_submit_all(device, prepared, which, err);
    prepared->slots[prepared->slot].point = prepared->point;
    if (first && !status && device->done_point < prepared->point) {
        device->first_ns = qn_now_ns();
        device->first_point = prepared->point;
    }
    *point = prepared->point;
    return status;
}

uint32_t qn_vk_times(struct quern_device *device, struct quern_prepared *prepared,
                     struct quern_node_time *times, uint32_t cap)
{
    if (prepared->begin_ns == 0)
        return 0;
    const double period = device->facts.properties.limits.timestampPeriod;
    const uint64_t mask = device->facts.time_bits < 64 ? (1ull << device->facts.time_bits) - 1 : UINT64_MAX;
    uint64_t first = 0;
    uint32_t n = 0;
    for (size_t i = 0; i < prepared->n_dispatches; i++) {
        uint64_t at[2];
        if (device->api.GetQueryPoolResults(device->handle, prepared->queries, (uint32_t)(2 * i), 2,
                                            sizeof at, at, sizeof at[0],
                                            VK_QUERY_RESULT_64_BIT) != VK_SUCCESS)
            return 0;
        if (i == 0)
            first = at[0];
        /* The first begins when the work was given to the device; the device's clock is its own. */
        uint64_t begin = prepared->begin_ns + (uint64_t)((double)((at[0] - first) & mask) * period);
        uint64_t end = prepared->begin_ns + (uint64_t)((double)((at[1] - first) & mask) * period);
        bool same = n > 0 && n <= cap && times[n - 1].node == prepared->dispatches[i].node;
        if (same)
            times[n - 1].end_ns = end;
        else if (n++ < cap)
            times[n - 1] = (struct quern_node_time){prepared->dispatches[i].node, 0, begin, end};
    }
    return n;
}
