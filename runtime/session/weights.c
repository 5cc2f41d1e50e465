/* Weights on a device: the file's own bytes where the device reads those, with copies of tensors that it
 * reads faster in another layout; else copies of all, tensor after tensor as in the file, in as few buffers
 * as it allows.
 */
#include "session/weights.h"

#include "session/lay_out.h"

#include "formats/formats.h"

#include <stdlib.h>

static const uint64_t BUFFER_BYTES = 1u << 30; /* most that a buffer is made to take, of several tensors */
static const uint64_t GAP_BYTES = 1u << 16;    /* most that lies unused between two tensors of a buffer */
static const uint64_t START_ALIGN = 256;       /* of a buffer's start in the file: what kernels need */
static const uint64_t WRITE_BYTES = 64u << 20; /* between two reports of progress */

/* A tensor that the graph uses. */
struct used {
    uint32_t tensor, part;
    uint64_t offset, bytes;
};

/* A run of tensors of one part of the file that share a buffer. */
struct run {
    size_t first, n; /* in the list of used tensors */
    uint32_t part;
    uint64_t offset, bytes; /* in that part */
    uint64_t part_bytes;    /* of a buffer in parts; 0: it is one */
};

struct loading {
    struct quern_model *model;
    struct qn_plan_device *device;
    struct used *used;
    size_t n_used;
    struct run *runs;
    size_t n_runs, cap_runs;
    uint64_t bytes;
};

static int by_place(const void *a, const void *b)
{
    const struct used *x = a, *y = b;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Lists the tensors that the graph uses, as they stand in the file. */
static enum quern_status find_used(struct loading *loading, struct quern_error *err)
{
    const struct quern_model *model = loading->model;
    const struct qn_graph *graph = &model->graph;
    size_t n = qn_gguf_n_tensors(model->file.gguf);
    uint8_t *is_used = qn_zalloc(&model->cb, n ? n : 1, 1);
    loading->used = qn_alloc(&model->cb, n ? n : 1, sizeof *loading->used);
    if (!is_used || !loading->used) {
        qn_free(&model->cb, is_used);
        return qn_fail_memory(err, "the list of weights");
    }
    for (uint32_t v = 0; v < graph->view.n_values; v++)
        if (graph->values[v].kind == QUERN_VALUE_WEIGHT)
            is_used[graph->values[v].weight] = 1;
    for (size_t t = 0; t < n; t++) {
        const struct qn_gguf_tensor *tensor = qn_gguf_tensor_at(model->file.gguf, t);
        if (is_used[t] && tensor->bytes > 0)
            loading->used[loading->n_used++] = (struct used){.tensor = (uint32_t)t,
                                                             .part = tensor->part,
                                                             .offset = tensor->offset,
                                                             .bytes = tensor->bytes};
    }
    qn_free(&model->cb, is_used);
    qsort(loading->used, loading->n_used, sizeof *loading->used, by_place);
    return QUERN_OK;
}

/* How a tensor larger than any buffer is cut: into whole matrices, or rows where these are too large too. */
static enum quern_status cut(const struct loading *loading, struct run *run, struct quern_error *err)
{
    const struct qn_gguf_tensor *tensor =
        qn_gguf_tensor_at(loading->model->file.gguf, loading->used[run->first].tensor);
    uint64_t most = loading->device->caps.max_buffer_bytes;
    uint64_t unit = qn_format_row_bytes(tensor->format, tensor->dim[0]);
    if (tensor->dim[2] > 1 && unit * tensor->dim[1] <= most)
        unit *= tensor->dim[1];
    if (!QUERN_DRIVER_HAS(loading->device->driver, buffer_create_parts) || unit > most)
        return qn_fail(err, QUERN_ERR_MEMORY,
                       "tensor %.*s has %llu bytes, the device's buffers hold at most %llu",
                       (int)tensor->name.len, tensor->name.data, (unsigned long long)tensor->bytes,
                       (unsigned long long)most);
    run->offset = tensor->offset;
    run->bytes = tensor->bytes;
    run->part_bytes = most / unit * unit;
    return QUERN_OK;
}

/* Shares the tensors out to buffers. */
static enum quern_status make_runs(struct loading *loading, struct quern_error *err)
{
    const struct quern_callbacks *cb = &loading->model->cb;
    uint64_t most = loading->device->caps.max_buffer_bytes, limit = most < BUFFER_BYTES ? most : BUFFER_BYTES;
    for (size_t i = 0; i < loading->n_used;) {
        if (!qn_grow(cb, &loading->runs, &loading->cap_runs, loading->n_runs + 1, sizeof *loading->runs))
            return qn_fail_memory(err, "the list of weights");
        const struct used *first = &loading->used[i];
        struct run *run = &loading->runs[loading->n_runs++];
        uint64_t start = first->offset / START_ALIGN * START_ALIGN, end = first->offset + first->bytes;
        *run = (struct run){.first = i, .n = 1, .part = first->part, .offset = start, .bytes = end - start};
        for (i++; i < loading->n_used; i++) {
            const struct used *next = &loading->used[i];
            if (next->part != first->part || next->offset > end + GAP_BYTES ||
                next->offset + next->bytes - start > limit)
                break;
            if (next->offset + next->bytes > end)
                end = next->offset + next->bytes;
            run->bytes = end - start;
            run->n++;
        }
        enum quern_status status = run->bytes > most ? cut(loading, run, err) : QUERN_OK;
        if (status)
            return status;
        loading->bytes += run->bytes;
    }
    return QUERN_OK;
}

/* Refuses what the device has no room for, before anything is allocated. */
static enum quern_status check_room(const struct loading *loading, struct quern_error *err)
{
    const struct qn_plan_device *device = loading->device;
    struct quern_memory memory = {.struct_size = sizeof memory, .left = UINT64_MAX};
    if (QUERN_DRIVER_HAS(device->driver, memory))
        device->driver->memory(device->handle, 0, &memory);
    if (loading->bytes <= memory.left)
        return QUERN_OK;
    return qn_fail(err, QUERN_ERR_MEMORY,
                   "the weights take %llu MiB, %llu MiB are left: use a model with fewer bits per weight, or "
                   "another device",
                   (unsigned long long)(loading->bytes >> 20), (unsigned long long)(memory.left >> 20));
}

/* Creates the buffer of a run and fills it. */
static enum quern_status load_run(struct loading *loading, const struct run *run,
                                  struct quern_buffer **buffer, uint64_t *done, struct quern_error *err)
{
    struct qn_plan_device *device = loading->device;
    const char *data = (const char *)qn_gguf_part(loading->model->file.gguf, run->part)->data + run->offset;
    int32_t status =
        run->part_bytes
            ? device->driver->buffer_create_parts(device->handle, run->bytes, run->part_bytes, buffer, err)
            : device->driver->buffer_create(device->handle, 0, run->bytes, buffer, err);
    if (status)
        *buffer = NULL;
    for (uint64_t at = 0; at < run->bytes && !status; at += WRITE_BYTES) {
        uint64_t n = run->bytes - at < WRITE_BYTES ? run->bytes - at : WRITE_BYTES;
        status = qn_transfer_write(device, *buffer, at, data + at, n, err);
        *done += n;
        qn_progress(&loading->model->cb, "load", *done, loading->bytes);
        if (!status && qn_cancelled(&loading->model->cb))
            status = qn_fail(err, QUERN_ERR_CANCELLED, "cancelled");
    }
    return status;
}

static enum quern_status copy_weights(struct loading *loading, struct qn_weights *weights,
                                      struct quern_error *err)
{
    enum quern_status status = find_used(loading, err);
    if (!status)
        status = make_runs(loading, err);
    if (!status)
        status = check_room(loading, err);
    if (!status) {
        weights->buffers = qn_zalloc(&loading->model->cb, loading->n_runs + 1, sizeof(struct quern_buffer *));
        if (!weights->buffers)
            status = qn_fail_memory(err, "the list of weights");
    }
    uint64_t done = 0;
    for (size_t r = 0; r < loading->n_runs && !status; r++) {
        const struct run *run = &loading->runs[r];
        status = load_run(loading, run, &weights->buffers[weights->n_buffers++], &done, err);
        weights->copied += run->bytes;
        for (size_t i = run->first; i < run->first + run->n && !status; i++)
            weights->tensors[loading->used[i].tensor] =
                (struct quern_binding){.buffer = weights->buffers[r],
                                       .offset = loading->used[i].offset - run->offset,
                                       .bytes = loading->used[i].bytes,
                                       .layout = QUERN_LAYOUT_FILE};
    }
    struct quern_error ignored;
    enum quern_status last = qn_transfer_wait(loading->device, status ? &ignored : err);
    return status ? status : last;
}

static bool may_import(const struct qn_device *device)
{
    uint32_t flags = device->caps.heap[0].flags;
    return device->driver->buffer_import && flags & QUERN_HEAP_IMPORT &&
           (device->imports || !(flags & QUERN_HEAP_MEASURE));
}

/* Makes buffers of the parts of the file themselves. */
static enum quern_status import_parts(struct loading *loading, struct qn_weights *weights,
                                      struct quern_error *err)
{
    const struct qn_plan_device *device = loading->device;
    const struct qn_gguf *gguf = loading->model->file.gguf;
    uint32_t n_parts = qn_gguf_n_parts(gguf);
    weights->buffers = qn_zalloc(&loading->model->cb, n_parts + 1, sizeof(struct quern_buffer *));
    if (!weights->buffers)
        return qn_fail_memory(err, "the list of weights");
    for (uint32_t p = 0; p < n_parts; p++) {
        const struct qn_view *view = qn_gguf_part(gguf, p);
        int32_t status = device->driver->buffer_import(device->handle, (void *)(uintptr_t)view->data,
                                                       view->size, &weights->buffers[p], err);
        if (status) {
            weights->buffers[p] = NULL;
            return status;
        }
        weights->n_buffers++;
        weights->mapped += view->size;
        qn_progress(&loading->model->cb, "load", p + 1, n_parts);
    }
    for (size_t t = 0; t < qn_gguf_n_tensors(gguf); t++) {
        const struct qn_gguf_tensor *tensor = qn_gguf_tensor_at(gguf, t);
        weights->tensors[t] = (struct quern_binding){.buffer = weights->buffers[tensor->part],
                                                     .offset = tensor->offset,
                                                     .bytes = tensor->bytes,
                                                     .layout = QUERN_LAYOUT_FILE};
    }
    return QUERN_OK;
}

/* Has the imported weights laid out where the device reads them faster so. */
static enum quern_status lay_out_used(struct loading *loading, uint32_t d, struct quern_error *err)
{
    struct quern_model *model = loading->model;
    enum quern_status status = find_used(loading, err);
    if (status)
        return status;
    uint32_t *tensors = qn_alloc(&model->cb, loading->n_used + 1, sizeof *tensors);
    if (!tensors)
        return qn_fail_memory(err, "the list of weights");
    for (size_t i = 0; i < loading->n_used; i++)
        tensors[i] = loading->used[i].tensor;
    status = qn_lay_out(model, d, tensors, loading->n_used, err);
    qn_free(&model->cb, tensors);
    return status;
}

/* ---- all of it ---- */

static void free_buffers(struct quern_model *model, uint32_t d)
{
    struct qn_weights *weights = &model->weights[d];
    for (uint32_t i = 0; i < weights->n_buffers; i++)
        if (weights->buffers[i])
            model->devices[d].driver->buffer_destroy(model->devices[d].handle, weights->buffers[i]);
    qn_free(&model->cb, weights->buffers);
    weights->buffers = NULL;
    weights->n_buffers = 0;
    weights->mapped = weights->copied = 0;
    qn_kept_close(model, d);
}

enum quern_status qn_weights_load(struct quern_model *model, uint32_t d, struct quern_error *err)
{
    struct qn_weights *weights = &model->weights[d];
    struct qn_plan_device *device = &model->plan_devices[d];
    struct loading loading = {.model = model, .device = device};
    struct quern_error detail = {0};
    size_t n_tensors = qn_gguf_n_tensors(model->file.gguf);
    weights->tensors = qn_zalloc(&model->cb, n_tensors ? n_tensors : 1, sizeof *weights->tensors);
    if (!weights->tensors)
        return qn_fail_memory(err, "the list of weights");
    bool import = may_import(&model->devices[d]);
    enum quern_status status = import ? import_parts(&loading, weights, &detail) : QUERN_OK;
    if (status == QUERN_ERR_UNSUPPORTED) {
        qn_log(&model->cb, QUERN_LOG_INFO, "device %s: weights are copied: %s", model->devices[d].id,
               detail.text);
        free_buffers(model, d);
        import = false;
    }
    if (!import)
        status = copy_weights(&loading, weights, &detail);
    else if (!status && model->repack && QUERN_DRIVER_HAS(device->driver, weights_prepare))
        status = lay_out_used(&loading, d, &detail);
    qn_free(&model->cb, loading.used);
    qn_free(&model->cb, loading.runs);
    if (status) {
        qn_weights_unload(model, d);
        return qn_fail(err, status, "device %s: %s", model->devices[d].id, detail.text);
    }
    device->weights = weights->tensors;
    return QUERN_OK;
}

void qn_weights_unload(struct quern_model *model, uint32_t d)
{
    qn_lay_out_finish(model, d);
    free_buffers(model, d);
    qn_free(&model->cb, model->weights[d].tensors);
    model->weights[d].tensors = NULL;
    model->plan_devices[d].weights = NULL;
}
