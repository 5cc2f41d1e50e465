#include "session/kv.h"

#include <string.h>

void qn_kv_init(struct qn_kv *kv, const struct quern_callbacks *cb, const struct qn_kv_layout *layout,
                const struct qn_plan_device *devices, uint32_t n_devices)
{
    *kv = (struct qn_kv){.cb = cb, .layout = layout, .n_devices = n_devices, .n_homes = layout->n_homes};
    memcpy(kv->devices, devices, n_devices * sizeof *devices);
    for (uint32_t h = 0; h < layout->n_homes; h++) {
        kv->home_group[h] = layout->home[h].group;
        kv->home_owner[h] = layout->home[h].owner;
    }
}

/* Destroys the newest pool of a home on all devices, importers before the owner. */
static void drop_pool(struct qn_kv *kv, uint32_t home, uint32_t pool)
{
    uint32_t owner = kv->home_owner[home];
    for (uint32_t i = 0; i <= kv->n_devices; i++) {
        uint32_t d = i < kv->n_devices ? i : owner;
        if ((i < kv->n_devices && d == owner) || kv->cap_buffers[d][home] <= pool ||
            !kv->buffers[d][home][pool])
            continue;
        kv->devices[d].driver->buffer_destroy(kv->devices[d].handle, kv->buffers[d][home][pool]);
        kv->buffers[d][home][pool] = NULL;
    }
}

void qn_kv_finish(struct qn_kv *kv)
{
    for (uint32_t h = 0; h < kv->n_homes; h++)
        for (uint32_t p = kv->group[kv->home_group[h]].n_pools; p-- > 0;)
            drop_pool(kv, h, p);
    for (uint32_t d = 0; d < kv->n_devices; d++)
        for (uint32_t h = 0; h < kv->n_homes; h++)
            qn_free(kv->cb, kv->buffers[d][h]);
    for (uint32_t g = 0; g < QUERN_MAX_KV_GROUPS; g++) {
        qn_free(kv->cb, kv->group[g].refs);
        qn_free(kv->cb, kv->group[g].free_list);
    }
    qn_free(kv->cb, kv->bridge);
    *kv = (struct qn_kv){.cb = kv->cb};
}

/* Room for one more pool in the lists of the devices that touch the home. */
static bool grow_lists(struct qn_kv *kv, uint32_t home, uint32_t pool)
{
    const struct qn_kv_home *at = &kv->layout->home[home];
    for (uint32_t d = 0; d < kv->n_devices; d++) {
        if (d != at->owner && !(at->access >> d & 1))
            continue;
        if (!qn_grow(kv->cb, &kv->buffers[d][home], &kv->cap_buffers[d][home], pool + 1,
                     sizeof *kv->buffers[d][home]))
            return false;
        kv->buffers[d][home][pool] = NULL;
        kv->pools[d][home].pool = kv->buffers[d][home];
    }
    return true;
}

/* One pool of one home: the owner allocates, the other devices that touch it import. */
static enum quern_status add_home_pool(struct qn_kv *kv, uint32_t home, uint32_t pool, uint32_t *failed,
                                       struct quern_error *err)
{
    const struct qn_kv_home *at = &kv->layout->home[home];
    uint64_t bytes = at->page_bytes * kv->layout->pages_per_pool[at->group];
    void *memory = NULL;
    for (uint32_t i = 0; i <= kv->n_devices; i++) { /* the owner first */
        uint32_t d = i == 0 ? at->owner : i - 1;
        if ((i > 0 && d == at->owner) || (d != at->owner && !(at->access >> d & 1)))
            continue;
        const struct qn_plan_device *device = &kv->devices[d];
        struct quern_buffer **slot = &kv->buffers[d][home][pool];
        struct quern_error detail = {0};
        int32_t status;
        if (d == at->owner) {
            status = device->driver->buffer_create(device->handle, 0, bytes, slot, &detail);
            if (!status)
                memory = device->driver->buffer_map(device->handle, *slot);
        } else if (memory && device->driver->buffer_import) {
            status = device->driver->buffer_import(device->handle, memory, bytes, slot, &detail);
        } else {
            status =
                qn_fail(&detail, QUERN_ERR_UNSUPPORTED, "it cannot share the KV cache of another device");
        }
        if (status) {
            *slot = NULL;
            *failed = d;
            return qn_fail(err, status, "KV cache: %s", detail.text);
        }
    }
    return QUERN_OK;
}

static enum quern_status add_pool(struct qn_kv *kv, uint32_t g, uint32_t *failed, struct quern_error *err)
{
    struct qn_kv_group *group = &kv->group[g];
    uint32_t n_more = kv->layout->pages_per_pool[g], pool = group->n_pools;
    size_t n = (size_t)group->n_pages + n_more;
    if (!qn_grow(kv->cb, &group->refs, &group->cap_refs, n, sizeof *group->refs) ||
        !qn_grow(kv->cb, &group->free_list, &group->cap_free, n, sizeof *group->free_list))
        return qn_fail_memory(err, "the list of KV pages");
    for (uint32_t h = 0; h < kv->n_homes; h++)
        if (kv->home_group[h] == g && !grow_lists(kv, h, pool))
            return qn_fail_memory(err, "the list of KV pools");
    enum quern_status status = QUERN_OK;
    for (uint32_t h = 0; h < kv->n_homes && !status; h++)
        if (kv->home_group[h] == g)
            status = add_home_pool(kv, h, pool, failed, err);
    if (status) {
        for (uint32_t h = 0; h < kv->n_homes; h++)
            if (kv->home_group[h] == g)
                drop_pool(kv, h, pool);
        return status;
    }
    group->n_pools++;
    for (uint32_t d = 0; d < kv->n_devices; d++)
        for (uint32_t h = 0; h < kv->n_homes; h++)
            if (kv->home_group[h] == g && kv->buffers[d][h])
                kv->pools[d][h].n_pools = group->n_pools;
    for (uint32_t i = n_more; i-- > 0;) { /* low pages are taken first */
        group->refs[group->n_pages + i] = 0;
        group->free_list[group->n_free++] = group->n_pages + i;
    }
    group->n_pages += n_more;
    return QUERN_OK;
}

enum quern_status qn_kv_take(struct qn_kv *kv, uint32_t g, uint32_t *page, uint32_t *failed,
                             struct quern_error *err)
{
    struct qn_kv_group *group = &kv->group[g];
    *failed = QUERN_NONE;
    if (group->n_free == 0) {
        enum quern_status status = add_pool(kv, g, failed, err);
        if (status)
            return status;
    }
    *page = group->free_list[--group->n_free];
    group->refs[*page] = 1;
    return QUERN_OK;
}

void qn_kv_share(struct qn_kv *kv, uint32_t group, uint32_t page)
{
    kv->group[group].refs[page]++;
}

void qn_kv_release(struct qn_kv *kv, uint32_t g, uint32_t page)
{
    struct qn_kv_group *group = &kv->group[g];
    if (--group->refs[page] == 0)
        group->free_list[group->n_free++] = page;
}

/* Where a page lies in a home, on its owner. */
static struct qn_plan_place slice_of(const struct qn_kv *kv, uint32_t home, uint32_t page)
{
    const uint32_t n = kv->layout->pages_per_pool[kv->home_group[home]];
    return (struct qn_plan_place){kv->buffers[kv->home_owner[home]][home][page / n],
                                  page % n * kv->layout->home[home].page_bytes};
}

enum quern_status qn_kv_copy(struct qn_kv *kv, uint32_t g, uint32_t to, uint32_t from, uint32_t *failed,
                             struct quern_error *err)
{
    for (uint32_t h = 0; h < kv->n_homes; h++) {
        if (kv->home_group[h] != g)
            continue;
        uint32_t d = kv->home_owner[h];
        const struct qn_plan_device *device = &kv->devices[d];
        const struct qn_plan_place target = slice_of(kv, h, to), source = slice_of(kv, h, from);
        uint64_t bytes = kv->layout->home[h].page_bytes, point;
        struct quern_error detail = {0};
        int32_t status = device->driver->copy(device->handle, target.buffer, target.offset, source.buffer,
                                              source.offset, bytes, &point, &detail);
        if (!status)
            status = device->driver->wait(device->handle, point, QN_HANG_NS, &detail);
        if (status) {
            *failed = d;
            return qn_fail(err, status, "KV cache: %s", detail.text);
        }
    }
    return QUERN_OK;
}

static bool need_bridge(struct qn_kv *kv)
{
    uint64_t longest = 1;
    if (kv->bridge)
        return true;
    for (uint32_t i = 0; i < kv->layout->n_moves; i++)
        longest = kv->layout->moves[i].bytes > longest ? kv->layout->moves[i].bytes : longest;
    kv->bridge = qn_alloc(kv->cb, longest, 1);
    return kv->bridge != NULL;
}

enum quern_status qn_kv_move(struct qn_kv *kv, struct qn_plan_device *devices, uint32_t g, uint32_t page,
                             enum qn_phase to, uint32_t *failed, struct quern_error *err)
{
    *failed = QUERN_NONE;
    if (!need_bridge(kv))
        return qn_fail_memory(err, "keys and values between two devices");
    for (uint32_t i = 0; i < kv->layout->n_moves; i++) {
        const struct qn_kv_move *move = &kv->layout->moves[i];
        if (move->group != g)
            continue;
        struct qn_plan_device *device[QN_PHASES];
        struct qn_plan_place at[QN_PHASES];
        for (int phase = 0; phase < QN_PHASES; phase++) {
            device[phase] = &devices[kv->home_owner[move->home[phase]]];
            at[phase] = slice_of(kv, move->home[phase], page);
            at[phase].offset += move->offset[phase];
        }
        const enum qn_phase from = to == QN_PHASE_DECODE ? QN_PHASE_PREFILL : QN_PHASE_DECODE;
        struct qn_plan_device *culprit;
        struct quern_error detail = {0};
        enum quern_status status =
            qn_transfer(device[from], at[from].buffer, at[from].offset, device[to], at[to].buffer,
                        at[to].offset, kv->bridge, move->bytes, &culprit, &detail);
        if (status) {
            *failed = (uint32_t)(culprit - devices);
            return qn_fail(err, status, "KV cache: %s", detail.text);
        }
    }
    return QUERN_OK;
}

uint64_t qn_kv_bytes(const struct qn_kv *kv, const struct quern_device *device)
{
    uint64_t bytes = 0;
    for (uint32_t h = 0; h < kv->n_homes; h++) {
        uint32_t g = kv->home_group[h];
        if (kv->devices[kv->home_owner[h]].handle == device)
            bytes += kv->layout->home[h].page_bytes * kv->layout->pages_per_pool[g] * kv->group[g].n_pools;
    }
    return bytes;
}
