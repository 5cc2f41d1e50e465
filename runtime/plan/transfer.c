/* Bytes between the host and a device's buffers: in place where the host sees them, else through buffers that
 * it does see, two by turns, so that it fills one while the device empties the other. */
#include "plan/plan.h"

#include <string.h>

static const uint64_t STAGING_BYTES = 8u << 20; /* each of the two, at most */

uint32_t qn_host_heap(const struct quern_caps *caps)
{
    uint32_t found = QUERN_NONE;
    for (uint32_t h = caps->n_heaps; h-- > 0;) {
        bool slow = caps->heap[h].flags & QUERN_HEAP_SLOW_READ;
        if (caps->heap[h].flags & QUERN_HEAP_HOST_VISIBLE && (found == QUERN_NONE || !slow))
            found = h;
    }
    return found;
}

enum quern_status qn_fit_buffer(const struct qn_plan_device *device, uint32_t heap, uint64_t want,
                                struct quern_buffer **buffer, uint64_t *bytes, struct quern_error *err)
{
    if (want <= *bytes)
        return QUERN_OK;
    if (*buffer)
        device->driver->buffer_destroy(device->handle, *buffer);
    *bytes = 0;
    int32_t status = device->driver->buffer_create(device->handle, heap, want, buffer, err);
    if (status)
        *buffer = NULL;
    else
        *bytes = want;
    return (enum quern_status)status;
}

/* Makes the two buffers large enough for pieces of a transfer. Their size in *bytes. */
static enum quern_status ready(struct qn_plan_device *device, uint64_t *bytes, struct quern_error *err)
{
    struct qn_staging *staging = &device->staging;
    uint64_t want = STAGING_BYTES;
    if (want > device->caps.max_buffer_bytes)
        want = device->caps.max_buffer_bytes;
    while (want / 2 >= *bytes && want > 4096)
        want /= 2;
    *bytes = staging->bytes;
    if (staging->bytes >= want)
        return QUERN_OK;
    qn_transfer_finish(device);
    uint32_t heap = qn_host_heap(&device->caps);
    if (heap == QUERN_NONE)
        return qn_fail(err, QUERN_ERR_DEVICE, "the host can reach none of its memory");
    for (int i = 0; i < 2; i++) {
        int32_t status = device->driver->buffer_create(device->handle, heap, want, &staging->buffer[i], err);
        if (status) {
            staging->buffer[i] = NULL;
            qn_transfer_finish(device);
            return status;
        }
    }
    *bytes = staging->bytes = want;
    return QUERN_OK;
}

void qn_transfer_finish(struct qn_plan_device *device)
{
    struct qn_staging *staging = &device->staging;
    struct quern_error err;
    (void)qn_transfer_wait(device, &err);
    for (int i = 0; i < 2; i++)
        if (staging->buffer[i])
            device->driver->buffer_destroy(device->handle, staging->buffer[i]);
    *staging = (struct qn_staging){0};
}

enum quern_status qn_transfer_wait(struct qn_plan_device *device, struct quern_error *err)
{
    struct qn_staging *staging = &device->staging;
    uint64_t last = staging->point[0] > staging->point[1] ? staging->point[0] : staging->point[1];
    staging->point[0] = staging->point[1] = 0;
    return last > 0 ? device->driver->wait(device->handle, last, QN_HANG_NS, err) : QUERN_OK;
}

/* The next of the two buffers, and that it is not in use. */
static enum quern_status next(struct qn_plan_device *device, int *which, char **map, struct quern_error *err)
{
    struct qn_staging *staging = &device->staging;
    *which = staging->next;
    staging->next ^= 1;
    *map = device->driver->buffer_map(device->handle, staging->buffer[*which]);
    if (!*map)
        return qn_fail(err, QUERN_ERR_DEVICE, "the host cannot reach memory that it should");
    uint64_t point = staging->point[*which];
    staging->point[*which] = 0;
    return point > 0 ? device->driver->wait(device->handle, point, QN_HANG_NS, err) : QUERN_OK;
}

enum quern_status qn_transfer_write(struct qn_plan_device *device, struct quern_buffer *buffer,
                                    uint64_t offset, const void *data, uint64_t bytes,
                                    struct quern_error *err)
{
    char *direct = device->driver->buffer_map(device->handle, buffer);
    if (direct) {
        memcpy(direct + offset, data, bytes);
        return QUERN_OK;
    }
    uint64_t most = bytes;
    enum quern_status status = ready(device, &most, err);
    for (uint64_t at = 0; at < bytes && !status;) {
        uint64_t n = bytes - at < most ? bytes - at : most;
        int which;
        char *map;
        status = next(device, &which, &map, err);
        if (status)
            break;
        memcpy(map, (const char *)data + at, n);
        status = device->driver->copy(device->handle, buffer, offset + at, device->staging.buffer[which], 0,
                                      n, &device->staging.point[which], err);
        at += n;
    }
    return status;
}

enum quern_status qn_transfer_read(struct qn_plan_device *device, struct quern_buffer *buffer,
                                   uint64_t offset, void *data, uint64_t bytes, struct quern_error *err)
{
    const char *direct =
        qn_host_heap(&device->caps) == 0 ? device->driver->buffer_map(device->handle, buffer) : NULL;
    if (direct) {
        memcpy(data, direct + offset, bytes);
        return QUERN_OK;
    }
    uint64_t most = bytes;
    enum quern_status status = ready(device, &most, err);
    for (uint64_t at = 0; at < bytes && !status;) {
        uint64_t n = bytes - at < most ? bytes - at : most, point;
        int which;
        char *map;
        status = next(device, &which, &map, err);
        if (!status)
            status = device->driver->copy(device->handle, device->staging.buffer[which], 0, buffer,
                                          offset + at, n, &point, err);
        if (!status)
            status = device->driver->wait(device->handle, point, QN_HANG_NS, err);
        if (!status)
            memcpy((char *)data + at, map, n);
        at += n;
    }
    return status;
}

enum quern_status qn_transfer(struct qn_plan_device *from, struct quern_buffer *source,
                              uint64_t source_offset, struct qn_plan_device *to, struct quern_buffer *target,
                              uint64_t target_offset, void *bridge, uint64_t bytes,
                              struct qn_plan_device **failed, struct quern_error *err)
{
    *failed = from;
    enum quern_status status = qn_transfer_read(from, source, source_offset, bridge, bytes, err);
    if (!status) {
        *failed = to;
        status = qn_transfer_write(to, target, target_offset, bridge, bytes, err);
    }
    if (!status)
        *failed = NULL;
    return status;
}
