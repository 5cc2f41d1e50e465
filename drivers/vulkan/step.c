/* What changes from run to run: the step block, the sizes that follow from it, and the KV pools. The host
 * writes the step of a run into a slot of its own; a few commands before the recorded ones copy it to where
 * the kernels read it, and the step's token from where an earlier run has left it. So a run can be given to
 * the device while the last one is under way. */
#include "drivers/vulkan/segment.h"

#include <string.h>

enum quern_status qn_vk_settle(struct quern_device *device, const struct quern_prepared *prepared,
                               struct quern_error *err)
{
    return qn_vk_wait(device, prepared->point, QN_VK_PATIENCE_NS, err);
}

/* ---- room ---- */

void qn_vk_steps_finish(struct quern_device *device, struct quern_prepared *prepared, bool idle)
{
    for (int i = 0; i < QN_VK_SLOTS && idle; i++)
        if (prepared->slots[i].lead)
            device->api.FreeCommandBuffers(device->handle, device->commands, 1, &prepared->slots[i].lead);
    qn_vk_buffer_destroy(device, prepared->step_buffer);
    qn_vk_buffer_destroy(device, prepared->step_upload);
}

/* The sizes, and the step block behind them: they lie at the same places for step blocks of all sessions,
 * because these places are recorded. */
static enum quern_status fit_step(struct quern_device *device, struct quern_prepared *prepared,
                                  uint64_t block_bytes, struct quern_error *err)
{
    uint64_t align = device->facts.properties.limits.minStorageBufferOffsetAlignment;
    align = align > 64 ? align : 64;
    prepared->step_at = (prepared->n_sizes * QN_VK_SIZE_BYTES + align - 1) / align * align;
    uint64_t bytes = prepared->step_at + block_bytes;
    if (prepared->step_buffer && prepared->step_buffer->bytes >= bytes)
        return QUERN_OK;
    enum quern_status status = qn_vk_settle(device, prepared, err);
    if (status)
        return status;
    qn_vk_buffer_destroy(device, prepared->step_buffer);
    qn_vk_buffer_destroy(device, prepared->step_upload);
    prepared->step_buffer = prepared->step_upload = NULL;
    qn_vk_forget_recordings(prepared);
    for (int i = 0; i < QN_VK_SLOTS && !status; i++)
        if (!prepared->slots[i].lead)
            status = qn_vk_commands(device, &prepared->slots[i].lead, 1, err);
    if (!status)
        status =
            qn_vk_buffer_create(device, QN_VK_USE_STEP, QN_VK_SLOTS * bytes, &prepared->step_upload, err);
    if (!status) /* the last: where it is, all is */
        status = qn_vk_buffer_create(device, QN_VK_USE_DEVICE, bytes, &prepared->step_buffer, err);
    return status;
}

/* Notes the pools of the homes; the places beyond the last pool take the first. */
static enum quern_status fit_pools(struct quern_device *device, struct quern_prepared *prepared,
                                   const struct quern_run_args *args, struct quern_error *err)
{
    bool same = true;
    for (uint32_t h = 0; h < args->n_homes && h < QN_LEN(prepared->pools); h++) {
        const struct quern_kv_pools *pools = &args->kv[h];
        if (pools->n_pools > QN_VK_POOLS)
            return qn_fail(err, QUERN_ERR_UNSUPPORTED, "a KV cache of %u pools, its kernels reach %d",
                           pools->n_pools, QN_VK_POOLS);
        for (uint32_t i = 0; i < QN_VK_POOLS && pools->n_pools > 0; i++) {
            const struct quern_buffer *pool = pools->pool[i < pools->n_pools ? i : 0];
            same = same && prepared->pools[h][i] == pool;
            prepared->pools[h][i] = pool;
        }
    }
    if (same)
        return QUERN_OK;
    qn_vk_forget_recordings(prepared);
    return qn_vk_settle(device, prepared, err); /* before anything is recorded anew */
}

/* ---- the step ---- */

/* The most blocks of keys that a token of the step sees. */
static uint32_t key_blocks(const struct quern_step *step, uint32_t window)
{
    const uint32_t *position = quern_step_u32(step, step->position);
    uint32_t most = 0;
    for (uint32_t t = 0; t < step->n_tokens; t++) {
        uint32_t begin = window > 0 && position[t] + 1 > window ? position[t] + 1 - window : 0;
        uint32_t n = position[t] / QN_VK_KEY_BLOCK - begin / QN_VK_KEY_BLOCK + 1;
        most = n > most ? n : most;
    }
    return most;
}

/* The segment's sizes in this step, at `map`; *most: the blocks of keys that have parts of their own. */
static enum quern_status write_sizes(const struct quern_device *device, const struct quern_prepared *prepared,
                                     const struct quern_step *step, char *map, uint32_t *most,
                                     struct quern_error *err)
{
    *most = 0;
    for (size_t i = 0; i < prepared->n_sizes; i++) {
        const struct qn_vk_sizes *sizes = &prepared->sizes[i];
        const uint32_t groups[] = {sizes->x, key_blocks(step, sizes->window), step->n_tokens};
        uint64_t rounds = groups[1] * sizes->rounds, max_rounds = device->facts.max_rounds;
        if (max_rounds > 0 && rounds > max_rounds)
            return qn_fail(
                err, QUERN_ERR_UNSUPPORTED,
                "attention of %u tokens to %u keys: its loops go round up to %llu times, this device ends "
                "them after %llu",
                step->n_tokens, groups[1] * QN_VK_KEY_BLOCK, (unsigned long long)rounds,
                (unsigned long long)max_rounds);
        memcpy(map + i * QN_VK_SIZE_BYTES, groups, sizeof groups);
        if (sizes->x > 0)
            *most = groups[1] > *most ? groups[1] : *most;
    }
    return QUERN_OK;
}

/* Room for the parts of as many blocks of keys. */
static enum quern_status fit_parts(struct quern_device *device, struct quern_prepared *prepared,
                                   const struct quern_step *step, uint32_t most, struct quern_error *err)
{
    uint64_t bytes = most * prepared->part_bytes,
             range = device->facts.properties.limits.maxStorageBufferRange;
    if (bytes == 0 || (prepared->parts_buffer && prepared->parts_buffer->bytes >= bytes))
        return QUERN_OK;
    if (bytes > range)
        return qn_fail(
            err, QUERN_ERR_UNSUPPORTED,
            "attention of %u tokens to %u keys needs %llu bytes, a kernel can reach %llu on this device",
            step->n_tokens, most * QN_VK_KEY_BLOCK, (unsigned long long)bytes, (unsigned long long)range);
    enum quern_status status = qn_vk_settle(device, prepared, err);
    if (status)
        return status;
    qn_vk_buffer_destroy(device, prepared->parts_buffer);
    prepared->parts_buffer = NULL;
    qn_vk_forget_recordings(prepared);
    return qn_vk_buffer_create(device, QN_VK_USE_DEVICE, 2 * bytes < range ? 2 * bytes : range,
                               &prepared->parts_buffer, err);
}

/* The commands that go before the recorded ones. All that was given to the device before is waited for. */
static enum quern_status record_lead(struct quern_device *device, struct quern_prepared *prepared,
                                     const struct quern_run_args *args, struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    VkCommandBuffer lead = prepared->slots[prepared->slot].lead;
    uint64_t from = prepared->slot * prepared->step_buffer->bytes;
    uint64_t token = prepared->step_at + args->step->token, after = token + 4;
    uint64_t end = prepared->step_at + args->step->block_bytes;
    const VkBufferCopy all = {.srcOffset = from, .size = end};
    const VkBufferCopy around[] = {{.srcOffset = from, .size = token},
                                   {.srcOffset = from + after, .dstOffset = after, .size = end - after}};
    const VkBufferCopy one = {.srcOffset = args->token_offset, .dstOffset = token, .size = 4};
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    VkBuffer upload = prepared->step_upload->handle, to = prepared->step_buffer->handle;
    VK(device, BeginCommandBuffer, lead, &begin);
    qn_vk_barrier(device, lead, false);
    if (args->token)
        device->api.CmdCopyBuffer(lead, args->token->handle, to, 1, &one);
    device->api.CmdCopyBuffer(lead, upload, to, args->token ? 2 : 1, args->token ? around : &all);
    VK(device, EndCommandBuffer, lead);
done:
    return status;
}

/* Notes how long the runs took that have ended since: a run begins when it is submitted, or when the one
 * before it ends. */
static void note_times(const struct quern_device *device, struct quern_prepared *prepared)
{
    for (uint32_t i = 1; i <= QN_VK_SLOTS; i++) { /* the oldest first */
        struct qn_vk_slot *slot = &prepared->slots[(prepared->slot + i) % QN_VK_SLOTS];
        if (slot->begin_ns == 0 || device->done_point < slot->point)
            continue;
        uint64_t begin = slot->begin_ns > prepared->end_ns ? slot->begin_ns : prepared->end_ns;
        uint64_t took = device->done_ns > begin ? device->done_ns - begin : 0;
        prepared->took_ns = took > prepared->took_ns ? took : prepared->took_ns;
        prepared->end_ns = device->done_ns;
        slot->begin_ns = 0;
    }
}

enum quern_status qn_vk_step_take(struct quern_device *device, struct quern_prepared *prepared,
                                  const struct quern_run_args *args, struct quern_error *err)
{
    uint32_t next = (prepared->slot + 1) % QN_VK_SLOTS, most = 0;
    enum quern_status status = qn_vk_wait(device, prepared->slots[next].point, QN_VK_PATIENCE_NS, err);
    note_times(device, prepared);
    prepared->slot = next;
    if (!status)
        status = fit_step(device, prepared, args->step->block_bytes, err);
    if (!status)
        status = fit_pools(device, prepared, args, err);
    if (status)
        return status;
    char *map = prepared->step_upload->map + next * prepared->step_buffer->bytes;
    memcpy(map + prepared->step_at, args->step, args->step->block_bytes);
    status = write_sizes(device, prepared, args->step, map, &most, err);
    if (!status)
        status = fit_parts(device, prepared, args->step, most, err);
    return status ? status : record_lead(device, prepared, args, err);
}
