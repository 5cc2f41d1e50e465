/* What a model and a session hold in the memory of their devices. */
#include "session/session.h"

/* Adds what was asked of heap h. */
static void add_planned(const struct quern_session *s, uint32_t d, uint32_t h, struct quern_memory_use *use)
{
    const struct qn_plan_device *device = &s->model->plan_devices[d];
    if (h == 0) {
        use->mapped = s->model->weights[d].mapped;
        use->weights = s->model->weights[d].copied;
        use->kv = qn_kv_bytes(&s->kv, device->handle);
        use->activations = device->arena_bytes;
    }
    if (h == qn_host_heap(&device->caps)) {
        use->activations += device->output_bytes;
        if (s->ahead.slots && s->ahead.device.handle == device->handle)
            use->activations += s->ahead.bytes;
        use->staging = QN_LEN(device->staging.buffer) * device->staging.bytes;
    }
    use->planned = use->weights + use->kv + use->activations + use->staging;
}

/* The heaps of a device; those that are the same memory are one. */
static uint32_t list_heaps(const struct quern_session *s, uint32_t d,
                           struct quern_memory_use uses[QUERN_MAX_HEAPS])
{
    const struct qn_plan_device *device = &s->model->plan_devices[d];
    uint32_t n = 0, row_of[QUERN_MAX_HEAPS];
    for (uint32_t h = 0; h < device->caps.n_heaps; h++) {
        struct quern_memory memory = {.struct_size = sizeof memory, .left = UINT64_MAX, .same_as = h};
        if (QUERN_DRIVER_HAS(device->driver, memory))
            device->driver->memory(device->handle, h, &memory);
        bool first = memory.same_as >= h;
        row_of[h] = first ? n++ : row_of[memory.same_as];
        struct quern_memory_use *use = &uses[row_of[h]];
        if (first)
            *use = (struct quern_memory_use){.heap = h};
        add_planned(s, d, h, use);
        use->other = memory.asked > use->planned ? memory.asked - use->planned : 0;
        use->taken = memory.taken;
        use->left = memory.left;
    }
    return n;
}

uint32_t quern_session_memory(const struct quern_session *s, struct quern_memory_use *uses, uint32_t cap)
{
    struct quern_model *model = s->model;
    struct quern_memory_use heaps[QUERN_MAX_HEAPS];
    uint32_t n = 0, index = 0;
    qn_mutex_lock(&model->lock);
    for (uint32_t d = 0; d < model->n_devices; d++) {
        if (!model->plan_devices[d].handle)
            continue;
        uint32_t n_heaps = list_heaps(s, d, heaps);
        for (uint32_t i = 0; i < n_heaps; i++, n++)
            if (n < cap) {
                uses[n] = heaps[i];
                uses[n].device = index;
            }
        index++;
    }
    qn_mutex_unlock(&model->lock);
    return n;
}
