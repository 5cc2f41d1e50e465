#include "conformance/one_node.h"

#include "base/clock.h"
#include "formats/formats.h"
#include "formats/rows16.h"

#include <assert.h>
#include <string.h>

static const uint64_t PATIENCE_NS = 600ull * 1000 * 1000 * 1000; /* software devices compile in it as well */

/* ---------------------------------------------------------------- cases */

void qn_case_init(struct qn_case *c, const struct quern_callbacks *cb, const struct quern_driver *driver,
                  enum quern_op op, uint32_t n_tokens)
{
    memset(c, 0, sizeof *c);
    c->cb = cb;
    c->driver = driver;
    c->n_tokens = n_tokens;
    c->n_seqs = 1;
    c->node.op = op;
    for (int i = 0; i < QUERN_MAX_IN; i++)
        c->node.in[i] = QUERN_NONE;
    for (int i = 0; i < QUERN_MAX_OUT; i++)
        c->node.out[i] = QUERN_NONE;
    for (uint32_t t = 0; t < n_tokens; t++)
        c->position[t] = t;
}

void qn_case_finish(struct qn_case *c)
{
    for (uint32_t i = 0; i < c->n_values; i++) {
        qn_free(c->cb, c->values[i].data);
        qn_free(c->cb, c->values[i].origin);
    }
    for (uint32_t i = 0; i < c->n_pools; i++)
        qn_free(c->cb, c->pool[i]);
    memset(c, 0, sizeof *c);
}

static uint32_t add_value(struct qn_case *c, struct quern_value value, size_t bytes, const void *data)
{
    assert(c->n_values < QN_CASE_VALUES);
    struct qn_case_value *v = &c->values[c->n_values];
    *v = (struct qn_case_value){.value = value, .bytes = bytes};
    v->data = qn_zalloc(c->cb, 1, bytes + 1);
    c->failed |= !v->data;
    if (v->data && data && bytes > 0)
        memcpy(v->data, data, bytes);
    return c->n_values++;
}

uint32_t qn_case_weight(struct qn_case *c, enum quern_format format, int64_t d0, int64_t d1, int64_t d2,
                        const void *data)
{
    struct quern_value value = {.kind = QUERN_VALUE_WEIGHT,
                                .format = format,
                                .dim = {d0, d1, d2, 1},
                                .weight = c->n_values,
                                .layer = QUERN_NONE};
    size_t bytes = (size_t)qn_format_row_bytes(format, (uint64_t)d0) * (size_t)d1 * (size_t)d2;
    return add_value(c, value, bytes, data);
}

static uint32_t add_rows(struct qn_case *c, struct quern_value value, int64_t row, bool per_output,
                         const void *data)
{
    uint32_t rows = per_output ? c->n_outputs : c->n_tokens;
    uint32_t id = add_value(c, value, (size_t)row * 4 * rows, data);
    c->values[id].row_bytes = (size_t)row * 4;
    c->values[id].per_output = per_output;
    return id;
}

uint32_t qn_case_rows(struct qn_case *c, enum quern_format format, int64_t d0, int64_t d1, const void *data)
{
    struct quern_value value = {.kind = QUERN_VALUE_ACTIVATION,
                                .format = format,
                                .dim = {d0, QUERN_DIM_TOKENS, 1, 1},
                                .weight = QUERN_NONE,
                                .layer = QUERN_NONE};
    if (d1 > 1) {
        value.dim[1] = d1;
        value.dim[2] = QUERN_DIM_TOKENS;
    }
    return add_rows(c, value, d0 * d1, false, data);
}

uint32_t qn_case_output_rows(struct qn_case *c, enum quern_format format, int64_t d0, const void *data)
{
    struct quern_value value = {.kind = QUERN_VALUE_OUTPUT,
                                .format = format,
                                .dim = {d0, QUERN_DIM_OUTPUTS, 1, 1},
                                .weight = QUERN_NONE,
                                .layer = QUERN_NONE};
    return add_rows(c, value, d0, true, data);
}

float *qn_case_data(struct qn_case *c, uint32_t id)
{
    return c->values[id].data;
}

void qn_case_kv(struct qn_case *c, struct quern_kv_layer layer, enum quern_format k_format,
                enum quern_format v_format, uint32_t page_tokens, uint32_t n_pages, uint32_t pages_per_pool)
{
    uint64_t k_bytes = qn_format_row_bytes(k_format, layer.head_dim_k) * layer.n_head_kv * page_tokens;
    uint64_t v_bytes = qn_format_row_bytes(v_format, layer.head_dim_v) * layer.n_head_kv * page_tokens;
    uint64_t k_offset = 64, v_offset = (k_offset + k_bytes + 63) & ~(uint64_t)63;
    c->kv = layer;
    c->kv_at = (struct quern_kv_binding){.home = 1,
                                         .group = 1,
                                         .k_format = k_format,
                                         .v_format = v_format,
                                         .k_offset = k_offset,
                                         .v_offset = v_offset,
                                         .page_bytes = (v_offset + v_bytes + 63) & ~(uint64_t)63,
                                         .page_tokens = page_tokens,
                                         .pages_per_pool = pages_per_pool};
    c->n_pools = (n_pages + pages_per_pool - 1) / pages_per_pool;
    assert(c->n_pools <= QN_CASE_POOLS);
    for (uint32_t i = 0; i < c->n_pools; i++) {
        c->pool[i] = qn_alloc(c->cb, pages_per_pool, c->kv_at.page_bytes);
        c->failed |= !c->pool[i];
        if (c->pool[i])
            memset(c->pool[i], 0xff, pages_per_pool * c->kv_at.page_bytes);
    }
}

char *qn_case_kv_row(struct qn_case *c, int part, uint32_t sequence, uint32_t position, uint32_t head)
{
    const struct quern_kv_binding *at = &c->kv_at;
    uint32_t page = c->pages[sequence][position / at->page_tokens], row = position % at->page_tokens;
    uint64_t row_bytes = qn_format_row_bytes((enum quern_format)(part ? at->v_format : at->k_format),
                                             part ? c->kv.head_dim_v : c->kv.head_dim_k);
    return c->pool[page / at->pages_per_pool] + (page % at->pages_per_pool) * at->page_bytes +
           (part ? at->v_offset : at->k_offset) + ((uint64_t)head * at->page_tokens + row) * row_bytes;
}

void qn_case_place(struct qn_case *c, uint32_t n_seqs, const uint32_t *held, const uint32_t *fed,
                   uint32_t n_pages)
{
    c->n_seqs = n_seqs;
    uint32_t t = 0, used = 0;
    for (uint32_t s = 0; s < n_seqs; s++) {
        for (uint32_t p = 0; p < QN_CASE_PAGES; p++)
            c->pages[s][p] = QUERN_NONE;
        uint32_t n = (held[s] + fed[s] + c->kv_at.page_tokens - 1) / c->kv_at.page_tokens;
        for (uint32_t p = 0; p < n; p++, used++)
            c->pages[s][p] = (used * 7 + 3) % n_pages; /* n_pages is no multiple of 7 */
        for (uint32_t i = 0; i < fed[s]; i++, t++) {
            c->sequence[t] = s;
            c->position[t] = held[s] + i;
        }
    }
    assert(used <= n_pages && n_pages % 7 != 0 && t == c->n_tokens);
}

/* ---------------------------------------------------------------- running */

struct qn_case_block {
    struct quern_step step;
    int32_t token[QN_CASE_TOKENS];
    uint32_t position[QN_CASE_TOKENS], sequence[QN_CASE_TOKENS];
    uint32_t slot[2][QN_CASE_TOKENS];
    uint32_t output[QN_CASE_TOKENS];
    uint32_t kv_len[QN_CASE_SEQS];
    uint32_t page_table[2][QN_CASE_SEQS][QN_CASE_PAGES];
};

/* Part of a case that one run does: tokens from `token`, outputs from `output`. */
struct range {
    uint32_t token, n_tokens, output, n_outputs;
};

/* Two groups of pages, of which the case uses the second. */
static void fill_step(const struct qn_case *c, struct range range, struct qn_case_block *b)
{
    memset(b, 0, sizeof *b);
    b->step = (struct quern_step){
        .struct_size = sizeof b->step,
        .block_bytes = sizeof *b,
        .n_tokens = range.n_tokens,
        .n_outputs = range.n_outputs,
        .n_seqs = c->n_seqs,
        .n_groups = 2,
        .page_tokens = c->kv_at.page_tokens ? c->kv_at.page_tokens : 1024,
        .max_tokens = QN_CASE_TOKENS,
        .max_seqs = QN_CASE_SEQS,
        .max_pages = QN_CASE_PAGES,
        .token = offsetof(struct qn_case_block, token),
        .position = offsetof(struct qn_case_block, position),
        .sequence = offsetof(struct qn_case_block, sequence),
        .slot = offsetof(struct qn_case_block, slot),
        .output = offsetof(struct qn_case_block, output),
        .kv_len = offsetof(struct qn_case_block, kv_len),
        .page_table = offsetof(struct qn_case_block, page_table),
        .select = c->select,
    };
    memset(b->page_table, 0xff, sizeof b->page_table);
    memcpy(b->page_table[1], c->pages, sizeof c->pages);
    memset(b->slot, 0xff, sizeof b->slot);
    for (uint32_t i = 0; i < range.n_tokens; i++) {
        uint32_t t = range.token + i, page_tokens = b->step.page_tokens;
        b->token[i] = c->token[t];
        b->position[i] = c->position[t];
        b->sequence[i] = c->sequence[t];
        b->kv_len[c->sequence[t]] = c->position[t] + 1;
        if (c->position[t] / page_tokens < QN_CASE_PAGES)
            b->slot[1][i] = c->pages[c->sequence[t]][c->position[t] / page_tokens] * page_tokens +
                            c->position[t] % page_tokens;
    }
    for (uint32_t i = 0; i < range.n_outputs; i++)
        b->output[i] = c->output[range.output + i] - range.token;
}

void qn_rig_finish(const struct qn_case *c, struct qn_rig *rig)
{
    qn_free(c->cb, rig->block);
    rig->block = NULL;
    if (!rig->device)
        return;
    c->driver->release(rig->device, rig->prepared);
    for (uint32_t i = 0; i < c->n_values; i++)
        c->driver->buffer_destroy(rig->device, rig->buffer[i]);
    for (uint32_t i = 0; i < c->n_values; i++)
        c->driver->buffer_destroy(rig->device, rig->origin[i]);
    for (uint32_t i = 0; i < c->n_pools; i++)
        c->driver->buffer_destroy(rig->device, rig->pool[i]);
    if (!c->device)
        c->driver->close(rig->device);
}

static bool is_joined(const struct qn_case *c, uint32_t id)
{
    return c->weights_joined && c->values[id].value.kind == QUERN_VALUE_WEIGHT;
}

static struct quern_buffer *buffer_of(const struct qn_case *c, const struct qn_rig *rig, uint32_t id)
{
    uint32_t at = 0;
    while (is_joined(c, id) && !is_joined(c, at))
        at++;
    if (is_joined(c, id))
        return rig->buffer[at];
    return rig->buffer[c->in_place && id == c->node.out[0] ? c->node.in[0] : id];
}

/* Where a value is in its buffer: weights that lie together are in that of the first, one after another. */
static size_t offset_of(const struct qn_case *c, uint32_t id)
{
    size_t offset = 0;
    for (uint32_t i = 0; i < id && is_joined(c, id); i++)
        if (is_joined(c, i))
            offset += (c->values[i].bytes + 31) / 32 * 32;
    return offset;
}

static size_t buffer_bytes(const struct qn_case *c, uint32_t id)
{
    size_t bytes = c->values[id].bytes;
    for (uint32_t i = id; i < c->n_values && is_joined(c, id); i++)
        if (is_joined(c, i))
            bytes = offset_of(c, i) - offset_of(c, id) + c->values[i].bytes;
    return bytes + 64;
}

/* Memory of the device that the host reaches. */
static uint32_t visible_heap(const struct qn_case *c, struct quern_device *device)
{
    struct quern_caps caps = {.struct_size = sizeof caps};
    c->driver->caps(device, &caps);
    uint32_t heap = 0;
    while (heap + 1 < caps.n_heaps && !(caps.heap[heap].flags & QUERN_HEAP_HOST_VISIBLE))
        heap++;
    return heap;
}

/* Copies bytes to (or from) the start of a buffer, through another one where the host does not see it. */
static int32_t move_bytes(const struct qn_case *c, const struct qn_rig *rig, struct quern_buffer *buffer,
                          void *bytes, size_t n, bool to_device, struct quern_error *err)
{
    void *map = n > 0 ? c->driver->buffer_map(rig->device, buffer) : NULL;
    if (map)
        memcpy(to_device ? map : bytes, to_device ? bytes : map, n);
    if (map || n == 0)
        return QUERN_OK;
    struct quern_buffer *staging = NULL;
    uint64_t point = 0;
    int32_t status = c->driver->buffer_create(rig->device, visible_heap(c, rig->device), n, &staging, err);
    map = status ? NULL : c->driver->buffer_map(rig->device, staging);
    if (!status && !map)
        status = qn_fail(err, QUERN_ERR_DEVICE, "the host can reach no memory of the device");
    if (!status && to_device)
        memcpy(map, bytes, n);
    if (!status)
        status = c->driver->copy(rig->device, to_device ? buffer : staging, 0, to_device ? staging : buffer,
                                 0, n, &point, err);
    if (!status)
        status = c->driver->wait(rig->device, point, PATIENCE_NS, err);
    if (!status && !to_device)
        memcpy(bytes, map, n);
    c->driver->buffer_destroy(rig->device, staging);
    return status;
}

/* values: room for the graph's. */
static struct quern_graph graph_of(const struct qn_case *c, struct quern_value values[QN_CASE_VALUES])
{
    for (uint32_t i = 0; i < c->n_values; i++)
        values[i] = c->values[i].value;
    return (struct quern_graph){.struct_size = sizeof(struct quern_graph),
                                .value_size = sizeof values[0],
                                .node_size = sizeof c->node,
                                .kv_size = sizeof c->kv,
                                .n_values = c->n_values,
                                .n_nodes = 1,
                                .n_kv = 1,
                                .values = values,
                                .nodes = &c->node,
                                .kv = &c->kv};
}

struct qn_node_work qn_case_work(const struct qn_case *c, uint64_t n_kv)
{
    struct quern_value values[QN_CASE_VALUES];
    const struct quern_graph graph = graph_of(c, values);
    const struct quern_kv_binding *at = &c->kv_at;
    uint64_t kv_bytes = 0;
    if (c->n_pools > 0)
        kv_bytes = (qn_format_row_bytes((enum quern_format)at->k_format, c->kv.head_dim_k) +
                    qn_format_row_bytes((enum quern_format)at->v_format, c->kv.head_dim_v)) *
                   c->kv.n_head_kv;
    return qn_node_work(&graph, 0, c->n_tokens, c->n_outputs, n_kv, kv_bytes);
}

/* Layout that a weight is brought to the device in. */
static uint32_t layout_of(const struct qn_case *c, struct quern_device *device, uint32_t id)
{
    const struct qn_case_value *v = &c->values[id];
    struct quern_caps caps = {.struct_size = sizeof caps};
    if (!c->laid_out || c->exact || v->value.kind != QUERN_VALUE_WEIGHT || v->layout != QUERN_LAYOUT_FILE ||
        v->value.dim[1] < QN_ROWS16 || !QUERN_DRIVER_HAS(c->driver, weights_prepare))
        return v->layout;
    c->driver->caps(device, &caps);
    return caps.rows16_formats >> v->value.format & 1 ? QUERN_LAYOUT_ROWS16 : QUERN_LAYOUT_FILE;
}

/* Has the driver lay out the first n_laid rows of a weight, in whole groups. */
static int32_t lay_out(const struct qn_case *c, struct qn_rig *rig, uint32_t id, const char *from,
                       uint64_t n_laid, struct quern_error *err)
{
    const struct qn_case_value *v = &c->values[id];
    const uint64_t row_bytes =
        qn_format_row_bytes((enum quern_format)v->value.format, (uint64_t)v->value.dim[0]);
    const uint64_t rows = v->bytes / row_bytes, per_matrix = (uint64_t)v->value.dim[1];
    int32_t status = QUERN_OK;
    for (uint64_t done = 0, n; done < rows && !status; done += n) {
        const uint64_t to_end = per_matrix - done % per_matrix, want = n_laid > done ? n_laid - done : 0;
        n = want < to_end ? want / QN_ROWS16 * QN_ROWS16 : to_end;
        if (n == 0)
            break;
        const struct quern_weight_rows part = {.struct_size = sizeof part,
                                               .layout = QUERN_LAYOUT_ROWS16,
                                               .format = v->value.format,
                                               .n = (uint64_t)v->value.dim[0],
                                               .n_rows = n,
                                               .rows = from + done * row_bytes,
                                               .buffer = rig->buffer[id],
                                               .offset = done * row_bytes};
        status = c->driver->weights_prepare(rig->device, &part, err);
    }
    return status;
}

static int32_t prepare(const struct qn_case *c, struct qn_rig *rig, struct quern_error *err)
{
    struct quern_value values[QN_CASE_VALUES];
    struct quern_binding bindings[QN_CASE_VALUES], origins[QN_CASE_VALUES];
    const struct quern_graph graph = graph_of(c, values);
    for (uint32_t i = 0; i < c->n_values; i++) {
        bindings[i] = (struct quern_binding){.buffer = buffer_of(c, rig, i),
                                             .offset = offset_of(c, i),
                                             .bytes = c->values[i].bytes,
                                             .layout = layout_of(c, rig->device, i)};
        origins[i] = (struct quern_binding){.buffer = rig->origin[i], .bytes = c->values[i].bytes};
    }
    uint32_t node = 0;
    struct quern_segment segment = {.struct_size = sizeof segment,
                                    .n_nodes = 1,
                                    .graph = &graph,
                                    .nodes = &node,
                                    .bindings = bindings,
                                    .kv = &c->kv_at,
                                    .max_tokens = rig->bucket,
                                    .max_outputs = c->n_outputs < rig->bucket ? c->n_outputs : rig->bucket,
                                    .exact = c->exact,
                                    .origins = c->laying_out ? origins : NULL};
    uint8_t mask = 0;
    c->driver->supports(rig->device, &graph, &mask);
    int32_t status = c->driver->prepare(rig->device, &segment, &rig->prepared, err);
    if (!status && mask != 1)
        status = qn_fail(err, QUERN_ERR_DEVICE, "it prepares what it says that it cannot run");
    return status;
}

static bool is_being_laid_out(const struct qn_case *c, uint32_t id)
{
    return c->laying_out && c->values[id].origin;
}

/* A weight that is being laid out: its origin, and the rows that the driver has done. */
static int32_t write_origin(const struct qn_case *c, struct qn_rig *rig, uint32_t id, struct quern_error *err)
{
    const struct qn_case_value *v = &c->values[id];
    int32_t status = move_bytes(c, rig, rig->origin[id], v->origin, v->bytes, true, err);
    return status ? status : lay_out(c, rig, id, v->origin, c->n_laid + QN_ROWS16 * id, err);
}

static int32_t write_weights(const struct qn_case *c, struct qn_rig *rig, struct quern_error *err)
{
    int32_t status = QUERN_OK;
    size_t bytes = 0;
    for (uint32_t i = 0; i < c->n_values; i++)
        if (is_joined(c, i))
            bytes = offset_of(c, i) + c->values[i].bytes;
    char *joined = bytes > 0 ? qn_zalloc(c->cb, bytes, 1) : NULL;
    if (bytes > 0 && !joined)
        return qn_fail_memory(err, "weights of a case");
    for (uint32_t i = 0; i < c->n_values; i++)
        if (is_joined(c, i))
            memcpy(joined + offset_of(c, i), c->values[i].data, c->values[i].bytes);
    for (uint32_t i = 0; i < c->n_values && !status; i++)
        if (is_joined(c, i)) {
            if (offset_of(c, i) == 0)
                status = move_bytes(c, rig, buffer_of(c, rig, i), joined, bytes, true, err);
        } else if (is_being_laid_out(c, i)) {
            status = write_origin(c, rig, i, err);
        } else if (layout_of(c, rig->device, i) != c->values[i].layout) {
            status = lay_out(c, rig, i, c->values[i].data, UINT64_MAX, err);
        } else if (c->values[i].value.kind == QUERN_VALUE_WEIGHT) {
            status = move_bytes(c, rig, rig->buffer[i], c->values[i].data, c->values[i].bytes, true, err);
        }
    qn_free(c->cb, joined);
    return status;
}

int32_t qn_rig_init(const struct qn_case *c, struct qn_rig *rig, uint32_t bucket, const char *threads,
                    struct quern_error *err)
{
    *rig = (struct qn_rig){.device = c->device, .bucket = bucket};
    struct quern_setting settings[] = {{"threads", threads}, {"isa", c->isa ? c->isa : "all"}};
    struct quern_profile_view profile = {sizeof profile, 2, settings};
    if (c->failed || !(rig->block = qn_alloc(c->cb, 1, sizeof *rig->block))) {
        rig->device = NULL;
        return qn_fail_memory(err, "a case");
    }
    rig->host = (struct quern_host){.struct_size = sizeof rig->host, .callbacks = c->cb};
    int32_t status = c->device ? QUERN_OK : c->driver->open(&rig->host, 0, &profile, &rig->device, err);
    for (uint32_t i = 0; i < c->n_values && !status; i++)
        status = c->driver->buffer_create(rig->device, 0, buffer_bytes(c, i), &rig->buffer[i], err);
    for (uint32_t i = 0; i < c->n_values && !status; i++)
        if (is_being_laid_out(c, i))
            status = c->driver->buffer_create(rig->device, 0, buffer_bytes(c, i), &rig->origin[i], err);
    for (uint32_t i = 0; i < c->n_pools && !status; i++)
        status = c->driver->buffer_create(rig->device, 0, c->kv_at.pages_per_pool * c->kv_at.page_bytes,
                                          &rig->pool[i], err);
    if (!status)
        status = write_weights(c, rig, err);
    return status ? status : prepare(c, rig, err);
}

bool qn_case_is_result(const struct qn_case *c, uint32_t id)
{
    for (int i = 0; i < QUERN_MAX_OUT; i++)
        if (c->node.out[i] == id)
            return true;
    return false;
}

/* Copies the range's rows of an activation to (or from) the device. */
static int32_t move_rows(const struct qn_case *c, struct qn_rig *rig, uint32_t id, struct range range,
                         char *rows, bool to_device, struct quern_error *err)
{
    const struct qn_case_value *v = &c->values[id];
    size_t first = v->row_bytes * (v->per_output ? range.output : range.token);
    size_t bytes = v->row_bytes * (v->per_output ? range.n_outputs : range.n_tokens);
    return move_bytes(c, rig, buffer_of(c, rig, id), rows + first, bytes, to_device, err);
}

/* The device does the range; no bytes are moved but the step's. */
static int32_t rig_step(const struct qn_case *c, struct qn_rig *rig, struct range range,
                        struct quern_error *err)
{
    fill_step(c, range, rig->block);
    struct quern_kv_pools pools[2] = {{0, NULL}, {c->n_pools, rig->pool}};
    struct quern_run_args args = {
        .struct_size = sizeof args, .n_homes = 2, .step = &rig->block->step, .kv = pools, .trace = 1};
    uint64_t before = c->n_allocations ? c->n_allocations() : 0, point = 0;
    int32_t status = c->driver->run(rig->device, rig->prepared, &args, &point, err);
    if (!status)
        status = c->driver->wait(rig->device, point, PATIENCE_NS, err);
    bool first = rig->n_runs++ == 0 && c->device;
    if (!status && c->n_allocations && !first && !c->measured && c->n_allocations() != before)
        status = qn_fail(err, QUERN_ERR_DEVICE, "a run allocates");
    return status;
}

static int32_t run_range(const struct qn_case *c, struct qn_rig *rig, struct range range, char **results,
                         struct quern_error *err)
{
    int32_t status = QUERN_OK;
    for (uint32_t i = 0; i < c->n_values && !status; i++)
        if (c->values[i].value.kind != QUERN_VALUE_WEIGHT) /* results hold no numbers yet */
            status = move_rows(c, rig, i, range, qn_case_is_result(c, i) ? results[i] : c->values[i].data,
                               true, err);
    if (c->in_place && !status)
        status = move_rows(c, rig, c->node.in[0], range, c->values[c->node.in[0]].data, true, err);
    if (!status)
        status = rig_step(c, rig, range, err);
    for (uint32_t i = 0; i < c->n_values && !status; i++)
        if (qn_case_is_result(c, i))
            status = move_rows(c, rig, i, range, results[i], false, err);
    struct quern_node_time time;
    if (!status && c->driver->times &&
        (c->driver->times(rig->device, rig->prepared, &time, 1) != 1 || time.node != 0 ||
         time.begin_ns > time.end_ns))
        status = qn_fail(err, QUERN_ERR_DEVICE, "it tells no time of the node, or one that runs backwards");
    return status;
}

bool qn_left_init(const struct qn_case *c, struct qn_left *left)
{
    bool good = true;
    memset(left, 0, sizeof *left);
    for (uint32_t i = 0; i < c->n_values; i++) {
        left->results[i] = qn_alloc(c->cb, c->values[i].bytes + 1, 1);
        good = good && left->results[i];
        if (left->results[i])
            memset(left->results[i], 0xff, c->values[i].bytes + 1);
    }
    for (uint32_t i = 0; i < c->n_pools; i++) {
        left->pool[i] = qn_zalloc(c->cb, c->kv_at.pages_per_pool, c->kv_at.page_bytes);
        good = good && left->pool[i];
    }
    return good;
}

void qn_left_finish(const struct qn_case *c, struct qn_left *left)
{
    for (int i = 0; i < QN_CASE_VALUES; i++)
        qn_free(c->cb, left->results[i]);
    for (int i = 0; i < QN_CASE_POOLS; i++)
        qn_free(c->cb, left->pool[i]);
    memset(left, 0, sizeof *left);
}

int32_t qn_rig_run(const struct qn_case *c, struct qn_rig *rig, uint32_t chunk, struct qn_left *left,
                   struct quern_error *err)
{
    const size_t pool_bytes = c->kv_at.pages_per_pool * c->kv_at.page_bytes;
    int32_t status = QUERN_OK;
    struct range range = {0, 0, 0, 0};
    for (uint32_t i = 0; i < c->n_pools && !status; i++)
        status = move_bytes(c, rig, rig->pool[i], c->pool[i], pool_bytes, true, err);
    for (; range.token < c->n_tokens && !status; range.token += range.n_tokens) {
        range.n_tokens = chunk < c->n_tokens - range.token ? chunk : c->n_tokens - range.token;
        range.n_outputs = 0;
        while (range.output + range.n_outputs < c->n_outputs &&
               (c->output[range.output + range.n_outputs] < range.token + range.n_tokens ||
                range.token + range.n_tokens == c->n_tokens))
            range.n_outputs++;
        status = run_range(c, rig, range, left->results, err);
        range.output += range.n_outputs;
    }
    for (uint32_t i = 0; i < c->n_pools && !status; i++)
        status = move_bytes(c, rig, rig->pool[i], left->pool[i], pool_bytes, false, err);
    return status;
}

int32_t qn_rig_again(const struct qn_case *c, struct qn_rig *rig, struct quern_error *err)
{
    return rig_step(c, rig, (struct range){0, c->n_tokens, 0, c->n_outputs}, err);
}

int32_t qn_case_run_way(const struct qn_case *c, const char *threads, uint32_t chunk, struct qn_left *left,
                        struct quern_error *err)
{
    struct qn_rig rig = {.device = NULL};
    int32_t status = qn_left_init(c, left) ? qn_rig_init(c, &rig, c->n_tokens, threads, err)
                                           : (int32_t)qn_fail_memory(err, "results of a case");
    if (!status)
        status = qn_rig_run(c, &rig, chunk, left, err);
    qn_rig_finish(c, &rig);
    return status;
}

void qn_case_keep(struct qn_case *c, const struct qn_left *left)
{
    for (uint32_t i = 0; i < c->n_values; i++)
        if (qn_case_is_result(c, i) && c->values[i].bytes > 0)
            memcpy(c->values[i].data, left->results[i], c->values[i].bytes);
    for (uint32_t i = 0; i < c->n_pools; i++)
        memcpy(c->pool[i], left->pool[i], c->kv_at.pages_per_pool * c->kv_at.page_bytes);
}

int32_t qn_case_run_once(struct qn_case *c, const char *threads, struct quern_error *err)
{
    struct qn_left left;
    int32_t status = qn_case_run_way(c, threads, c->n_tokens, &left, err);
    if (!status)
        qn_case_keep(c, &left);
    qn_left_finish(c, &left);
    return status;
}

const char *qn_left_differ(const struct qn_case *c, const struct qn_left *a, const struct qn_left *b)
{
    for (uint32_t i = 0; i < c->n_values; i++)
        if (memcmp(a->results[i], b->results[i], c->values[i].bytes) != 0)
            return "a result";
    for (uint32_t i = 0; i < c->n_pools; i++)
        if (memcmp(a->pool[i], b->pool[i], c->kv_at.pages_per_pool * c->kv_at.page_bytes) != 0)
            return "a KV pool";
    return NULL;
}

int32_t qn_case_time(const struct qn_case *c, double seconds, double *best, struct quern_error *err)
{
    struct qn_rig rig = {.device = NULL};
    struct qn_left left;
    int32_t status = qn_left_init(c, &left) ? qn_rig_init(c, &rig, c->n_tokens, "1", err)
                                            : (int32_t)qn_fail_memory(err, "results of a case");
    if (!status)
        status = qn_rig_run(c, &rig, c->n_tokens, &left, err); /* uploads, and compiles what is not yet */
    *best = 1e9;
    for (uint64_t start = qn_now_ns(); !status && (double)(qn_now_ns() - start) < seconds * 1e9;) {
        uint64_t begin = qn_now_ns();
        status = qn_rig_again(c, &rig, err);
        double took = (double)(qn_now_ns() - begin) * 1e-9;
        struct quern_node_time time;
        if (!status && c->driver->times && c->driver->times(rig.device, rig.prepared, &time, 1) == 1 &&
            time.end_ns > time.begin_ns)
            took = (double)(time.end_ns - time.begin_ns) * 1e-9;
        *best = took < *best ? took : *best;
    }
    qn_rig_finish(c, &rig);
    qn_left_finish(c, &left);
    return status;
}
