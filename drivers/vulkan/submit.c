/* How a segment's dispatches are shared out to submits, so that none takes longer than the device's budget:
 * systems reset a GPU that works too long at one thing. The first run gives the device one dispatch at a time
 * and measures; after that as many make a submit as fit the budget, and one that is too long alone is done in
 * slices of its workgroups. Where runs take much longer later (longer texts), one is measured again. */
#include "drivers/vulkan/segment.h"

#include "base/clock.h"

#include <string.h>

static uint32_t slices_of(const struct qn_vk_dispatch *d)
{
    return d->slices > 1 ? d->slices : 1;
}

/* How many workgroups there may be. Blocks of keys: as many as there is room for. */
static void most_groups(const struct quern_prepared *prepared, const struct qn_vk_dispatch *d,
                        uint32_t groups[3])
{
    memcpy(groups, d->groups, sizeof d->groups);
    if (d->indirect && d->bound[d->indirect].kind == QN_VK_BOUND_SIZES)
        groups[1] = (uint32_t)(prepared->parts_buffer->bytes / prepared->part_bytes);
}

/* Part `which` of n. */
static void take_part(uint32_t which, uint32_t n, uint32_t *base, uint32_t *groups)
{
    uint64_t all = *groups;
    *base = (uint32_t)(all * which / n);
    *groups = (uint32_t)(all * (which + 1) / n) - *base;
}

void qn_vk_slice(const struct quern_prepared *prepared, const struct qn_vk_dispatch *d, uint32_t slice,
                 uint32_t base[3], uint32_t groups[3])
{
    memset(base, 0, 3 * sizeof *base);
    most_groups(prepared, d, groups);
    take_part(slice / d->across, d->slices / d->across, &base[d->by], &groups[d->by]);
    take_part(slice % d->across, d->across, &base[1], &groups[1]);
}

/* ---- cuts ---- */

static enum quern_status add_cut(struct quern_device *device, struct quern_prepared *prepared,
                                 size_t dispatch, uint32_t slice, struct quern_error *err)
{
    if (!qn_grow(device->cb, &prepared->cuts, &prepared->cap_cuts, prepared->n_cuts + 1,
                 sizeof *prepared->cuts))
        return qn_fail_memory(err, "a prepared segment");
    prepared->cuts[prepared->n_cuts++] = (struct qn_vk_cut){dispatch, slice};
    return QUERN_OK;
}

/* One submit for each slice of each dispatch. */
static enum quern_status cut_all(struct quern_device *device, struct quern_prepared *prepared,
                                 struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    prepared->n_cuts = 0;
    for (size_t i = 0; i < prepared->n_dispatches; i++)
        for (uint32_t s = 0; s < slices_of(&prepared->dispatches[i]) && !status; s++)
            status = add_cut(device, prepared, i, s, err);
    return status;
}

static uint32_t least(uint64_t a, uint32_t b)
{
    return a < b ? (uint32_t)a : b;
}

/* As many slices as it takes for each to be within the budget, each of one workgroup at least. */
static void choose_slices(const struct quern_prepared *prepared, struct qn_vk_dispatch *d, uint64_t ns,
                          uint64_t budget)
{
    uint32_t groups[3];
    most_groups(prepared, d, groups);
    uint64_t n = ns > budget ? (ns + budget - 1) / budget : 1;
    uint32_t along = least(n, groups[d->by]);
    d->across = least((n + along - 1) / along, groups[1]);
    d->slices = along * d->across;
}

/* Joins what was measured, ns[dispatch], into submits within the budget. What the device itself counts the
 * groups of does not follow slices in a submit: a driver may begin it where the last slice began, as lavapipe
 * of Mesa 22.3 does. */
static enum quern_status cut_by_time(struct quern_device *device, struct quern_prepared *prepared,
                                     const uint64_t *ns, struct quern_error *err)
{
    enum quern_status status = QUERN_OK;
    uint64_t taken = UINT64_MAX; /* of the submit so far; the first dispatch begins one */
    bool sliced = false;         /* a dispatch of it */
    prepared->n_cuts = 0;
    prepared->expected_ns = 0;
    for (size_t i = 0; i < prepared->n_dispatches; i++) {
        struct qn_vk_dispatch *d = &prepared->dispatches[i];
        choose_slices(prepared, d, ns[i], device->submit_ns);
        uint64_t each = ns[i] / slices_of(d);
        for (uint32_t s = 0; s < slices_of(d) && !status; s++) {
            if (taken > device->submit_ns || device->submit_ns - taken < each || (sliced && d->indirect)) {
                status = add_cut(device, prepared, i, s, err);
                taken = 0;
                sliced = false;
            }
            taken += each;
            sliced |= d->slices > 1;
        }
        prepared->expected_ns += ns[i];
    }
    return status;
}

/* Whether a run took so much longer than expected that one should be measured again. */
static bool took_long(const struct quern_device *device, struct quern_prepared *prepared)
{
    uint64_t took = prepared->took_ns;
    prepared->took_ns = 0;
    if (took <= 2 * prepared->expected_ns + device->submit_ns)
        return false;
    prepared->expected_ns = took; /* or was it only noticed late? not twice for the same */
    return true;
}

/* ---- running ---- */

/* The commands of cut c; the first go together with those of the step's slot. */
static enum quern_status submit_cut(struct quern_device *device, struct quern_prepared *prepared, int which,
                                    size_t c, struct quern_error *err)
{
    const VkCommandBuffer commands[] = {prepared->slots[prepared->slot].lead, prepared->commands[which][c]};
    return c == 0 ? qn_vk_submit(device, commands, 2, &prepared->point, err)
                  : qn_vk_submit(device, commands + 1, 1, &prepared->point, err);
}

static enum quern_status run_measured(struct quern_device *device, struct quern_prepared *prepared, int which,
                                      struct quern_error *err)
{
    uint64_t least = prepared->expected_ns;
    uint64_t *ns = qn_zalloc(device->cb, prepared->n_dispatches, sizeof *ns);
    enum quern_status status =
        ns ? qn_vk_settle(device, prepared, err) : qn_fail_memory(err, "a segment's times");
    if (!status)
        status = cut_all(device, prepared, err);
    if (!status) {
        qn_vk_forget_recordings(prepared);
        status = qn_vk_record(device, prepared, which, err);
    }
    for (size_t c = 0; c < prepared->n_cuts && !status; c++) {
        uint64_t begin = qn_now_ns();
        status = submit_cut(device, prepared, which, c, err);
        if (!status)
            status = qn_vk_wait(device, prepared->point, QN_VK_PATIENCE_NS, err);
        ns[prepared->cuts[c].dispatch] += qn_now_ns() - begin;
    }
    if (!status)
        status = cut_by_time(device, prepared, ns, err);
    if (prepared->expected_ns < least)
        prepared->expected_ns = least;
    prepared->measured = !status;
    qn_vk_forget_recordings(prepared);
    qn_free(device->cb, ns);
    return status;
}

enum quern_status qn_vk_submit_all(struct quern_device *device, struct quern_prepared *prepared, int which,
                                   struct quern_error *err)
{
    if (prepared->n_dispatches == 0)
        return QUERN_OK;
    if (device->submit_ns > 0 && (!prepared->measured || took_long(device, prepared)))
        return run_measured(device, prepared, which, err);
    enum quern_status status = QUERN_OK;
    if (prepared->n_cuts == 0)
        status = add_cut(device, prepared, 0, 0, err);
    if (!status && !prepared->recorded[which])
        status = qn_vk_record(device, prepared, which, err);
    prepared->slots[prepared->slot].begin_ns = qn_now_ns();
    for (size_t c = 0; c < prepared->n_cuts && !status; c++)
        status = submit_cut(device, prepared, which, c, err);
    return status;
}
