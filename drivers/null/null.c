/* See null.h. */
#include "drivers/null/null.h"

#include "base/clock.h"
#include "base/host.h"

#include <stdio.h>
#include <string.h>

struct quern_buffer {
    char *data;
    uint64_t bytes;
    bool imported;
};

struct quern_device {
    const struct quern_callbacks *cb;
    struct qn_null_counts counts;
    uint64_t point;
};

struct output {
    char *data;
    uint64_t bytes;
};

struct quern_prepared {
    uint32_t n_nodes, n_outputs;
    uint32_t *nodes;        /* [n_nodes] ids */
    struct output *outputs; /* [n_outputs] */
    uint64_t begin_ns;      /* of the last run with trace, else 0 */
};

static int32_t null_probe(const struct quern_host *host, struct quern_device_info *infos, uint32_t cap,
                          uint32_t *n, struct quern_error *err)
{
    *n = 1;
    if (cap < 1)
        return QUERN_OK;
    infos[0].type = QUERN_DEVICE_NULL;
    snprintf(infos[0].name, sizeof infos[0].name, "null device");
    snprintf(infos[0].driver, sizeof infos[0].driver, "null %d", QUERN_DRIVER_ABI);
    infos[0].features[0] = '\0';
    infos[0].memory = 0;
    return QUERN_OK;
}

static int32_t null_open(const struct quern_host *host, uint32_t index,
                         const struct quern_profile_view *profile, struct quern_device **device,
                         struct quern_error *err)
{
    *device = NULL;
    if (index != 0)
        return qn_fail(err, QUERN_ERR_PARAM, "there is no null device %u; the only one is 0", index);
    *device = qn_zalloc(host->callbacks, 1, sizeof **device);
    if (!*device)
        return qn_fail_memory(err, "the null device");
    (*device)->cb = host->callbacks;
    return QUERN_OK;
}

static void null_close(struct quern_device *device)
{
    if (device)
        qn_free(device->cb, device);
}

static void null_caps(struct quern_device *device, struct quern_caps *caps)
{
    caps->n_heaps = 1;
    caps->heap[0].flags = QUERN_HEAP_HOST_VISIBLE | QUERN_HEAP_HOST_SHARED | QUERN_HEAP_IMPORT;
    caps->heap[0].pad = 0;
    caps->heap[0].bytes = (uint64_t)1 << 40;
    caps->weight_formats = ((uint64_t)1 << QUERN_FORMAT_END) - 1;
    caps->kv_formats = caps->weight_formats;
    caps->layouts = 1u << QUERN_LAYOUT_FILE;
    caps->offset_align = QN_ALIGN;
    caps->max_buffer_bytes = SIZE_MAX / 2;
}

static void null_supports(struct quern_device *device, const struct quern_graph *graph, uint8_t *mask)
{
    memset(mask, 1, graph->n_nodes);
}

/* ---------------------------------------------------------------- buffers */

static int32_t null_buffer_create(struct quern_device *device, uint32_t heap, uint64_t bytes,
                                  struct quern_buffer **out, struct quern_error *err)
{
    *out = NULL;
    if (heap != 0 || bytes == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "a buffer of %llu bytes in heap %u", (unsigned long long)bytes,
                       heap);
    struct quern_buffer *buffer = qn_alloc(device->cb, 1, sizeof *buffer);
    char *data = bytes <= SIZE_MAX / 2 ? qn_zalloc(device->cb, (size_t)bytes, 1) : NULL;
    if (!buffer || !data) {
        qn_free(device->cb, data);
        qn_free(device->cb, buffer);
        return qn_fail_memory(err, "a buffer of the null device");
    }
    *buffer = (struct quern_buffer){data, bytes, false};
    device->counts.buffers_created++;
    *out = buffer;
    return QUERN_OK;
}

static int32_t null_buffer_import(struct quern_device *device, void *memory, uint64_t bytes,
                                  struct quern_buffer **out, struct quern_error *err)
{
    *out = qn_alloc(device->cb, 1, sizeof **out);
    if (!*out)
        return qn_fail_memory(err, "a buffer of the null device");
    **out = (struct quern_buffer){memory, bytes, true};
    device->counts.buffers_imported++;
    return QUERN_OK;
}

static void null_buffer_destroy(struct quern_device *device, struct quern_buffer *buffer)
{
    if (!buffer)
        return;
    device->counts.buffers_destroyed++;
    if (!buffer->imported)
        qn_free(device->cb, buffer->data);
    qn_free(device->cb, buffer);
}

static void *null_buffer_map(struct quern_device *device, struct quern_buffer *buffer)
{
    return buffer->data;
}

static bool lies_within(const struct quern_buffer *buffer, uint64_t offset, uint64_t bytes)
{
    return offset <= buffer->bytes && bytes <= buffer->bytes - offset;
}

/* Copies are real: what is moved between devices must arrive. */
static int32_t null_copy(struct quern_device *device, struct quern_buffer *dst, uint64_t dst_offset,
                         struct quern_buffer *src, uint64_t src_offset, uint64_t bytes, uint64_t *point,
                         struct quern_error *err)
{
    if (!lies_within(dst, dst_offset, bytes) || !lies_within(src, src_offset, bytes))
        return qn_fail(err, QUERN_ERR_PARAM, "a copy of %llu bytes leaves its buffers",
                       (unsigned long long)bytes);
    memmove(dst->data + dst_offset, src->data + src_offset, (size_t)bytes);
    device->counts.copies++;
    *point = ++device->point;
    return QUERN_OK;
}

/* ---------------------------------------------------------------- work */

static void null_release(struct quern_device *device, struct quern_prepared *prepared)
{
    if (!prepared)
        return;
    device->counts.releases++;
    qn_free(device->cb, prepared->outputs);
    qn_free(device->cb, prepared->nodes);
    qn_free(device->cb, prepared);
}

/* Notes the outputs that a node writes. */
static int32_t note_outputs(const struct quern_segment *segment, const struct quern_node *node,
                            struct quern_prepared *prepared, struct quern_error *err)
{
    for (int i = 0; i < QUERN_MAX_OUT; i++) {
        uint32_t id = node->out[i];
        if (id == QUERN_NONE)
            continue;
        if (id >= segment->graph->n_values)
            return qn_fail(err, QUERN_ERR_PARAM, "value %u is not in the graph", id);
        if (quern_graph_value(segment->graph, id)->kind != QUERN_VALUE_OUTPUT)
            continue;
        const struct quern_binding *binding = &segment->bindings[id];
        if (!binding->buffer || !lies_within(binding->buffer, binding->offset, binding->bytes))
            return qn_fail(err, QUERN_ERR_PARAM, "output %u is not bound to memory", id);
        prepared->outputs[prepared->n_outputs++] =
            (struct output){binding->buffer->data + binding->offset, binding->bytes};
    }
    return QUERN_OK;
}

static int32_t null_prepare(struct quern_device *device, const struct quern_segment *segment,
                            struct quern_prepared **out, struct quern_error *err)
{
    *out = NULL;
    device->counts.prepares++;
    if (segment->n_nodes == 0)
        return qn_fail(err, QUERN_ERR_PARAM, "a segment without nodes");
    struct quern_prepared *prepared = qn_zalloc(device->cb, 1, sizeof *prepared);
    if (!prepared)
        return qn_fail_memory(err, "a prepared segment");
    prepared->nodes = qn_zalloc(device->cb, segment->n_nodes, sizeof *prepared->nodes);
    prepared->outputs =
        qn_zalloc(device->cb, (size_t)segment->n_nodes * QUERN_MAX_OUT, sizeof *prepared->outputs);
    int32_t status = QUERN_OK;
    if (!prepared->nodes || !prepared->outputs)
        status = qn_fail_memory(err, "a prepared segment");
    for (uint32_t i = 0; i < segment->n_nodes && !status; i++) {
        if (segment->nodes[i] >= segment->graph->n_nodes) {
            status = qn_fail(err, QUERN_ERR_PARAM, "node %u is not in the graph", segment->nodes[i]);
            break;
        }
        prepared->nodes[prepared->n_nodes++] = segment->nodes[i];
        status = note_outputs(segment, quern_graph_node(segment->graph, segment->nodes[i]), prepared, err);
    }
    if (status) {
        null_release(device, prepared);
        device->counts.releases--;
        return status;
    }
    *out = prepared;
    return QUERN_OK;
}

static int32_t null_run(struct quern_device *device, struct quern_prepared *prepared,
                        const struct quern_run_args *args, uint64_t *point, struct quern_error *err)
{
    for (uint32_t i = 0; i < prepared->n_outputs; i++)
        memset(prepared->outputs[i].data, 0, (size_t)prepared->outputs[i].bytes);
    prepared->begin_ns = args->trace ? qn_now_ns() : 0;
    device->counts.runs++;
    device->counts.nodes += prepared->n_nodes;
    *point = ++device->point;
    return QUERN_OK;
}

static int32_t null_wait(struct quern_device *device, uint64_t point, uint64_t timeout_ns,
                         struct quern_error *err)
{
    device->counts.waits++;
    if (point > device->point)
        return qn_fail(err, QUERN_ERR_PARAM, "work %llu has not been submitted", (unsigned long long)point);
    return QUERN_OK;
}

/* Every node takes no time. */
static uint32_t null_times(struct quern_device *device, struct quern_prepared *prepared,
                           struct quern_node_time *times, uint32_t cap)
{
    if (prepared->begin_ns == 0)
        return 0;
    for (uint32_t i = 0; i < prepared->n_nodes && i < cap; i++)
        times[i] = (struct quern_node_time){
            .node = prepared->nodes[i], .begin_ns = prepared->begin_ns, .end_ns = prepared->begin_ns};
    return prepared->n_nodes;
}

struct qn_null_counts qn_null_counts(struct quern_device *device)
{
    return device->counts;
}

static const struct quern_driver quern_driver_null = {
    .struct_size = sizeof(struct quern_driver),
    .abi = QUERN_DRIVER_ABI,
    .name = "null",
    .probe = null_probe,
    .open = null_open,
    .close = null_close,
    .caps = null_caps,
    .supports = null_supports,
    .buffer_create = null_buffer_create,
    .buffer_import = null_buffer_import,
    .buffer_destroy = null_buffer_destroy,
    .buffer_map = null_buffer_map,
    .copy = null_copy,
    .prepare = null_prepare,
    .release = null_release,
    .run = null_run,
    .wait = null_wait,
    .times = null_times,
};

const struct quern_driver *quern_null_driver_get(uint32_t abi)
{
    return abi == QUERN_DRIVER_ABI ? &quern_driver_null : NULL;
}
