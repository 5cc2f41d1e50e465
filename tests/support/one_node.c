/* See one_node.h. */
#include "one_node.h"

#include "base/host.h"
#include "formats/formats.h"
#include "test.h"

#include <stdatomic.h>

static const uint64_t PATIENCE_NS = 600ull * 1000 * 1000 * 1000; /* software devices compile in it as well */

/* ---------------------------------------------------------------- cases */

void qn_case_init(struct qn_case *c, const struct quern_driver *driver, enum quern_op op, uint32_t n_tokens)
{
    memset(c, 0, sizeof *c);
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
    for (uint32_t i = 0; i < c->n_values; i++)
        free(c->values[i].data);
    for (uint32_t i = 0; i < c->n_pools; i++)
        free(c->pool[i]);
    memset(c, 0, sizeof *c);
}

static uint32_t add_value(struct qn_case *c, struct quern_value value, size_t bytes, const void *data)
{
    assert_true(c->n_values < QN_CASE_VALUES);
    struct qn_case_value *v = &c->values[c->n_values];
    *v = (struct qn_case_value){.value = value, .bytes = bytes};
    v->data = calloc(1, bytes + 1);
    assert_non_null(v->data);
    if (data && bytes > 0)
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
    assert_true(c->n_pools <= QN_CASE_POOLS);
    for (uint32_t i = 0; i < c->n_pools; i++) {
        c->pool[i] = malloc(pages_per_pool * c->kv_at.page_bytes);
        assert_non_null(c->pool[i]);
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
    assert_true(used <= n_pages && n_pages % 7 != 0 && t == c->n_tokens);
}

/* ---------------------------------------------------------------- running */

struct block {
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
static void fill_step(const struct qn_case *c, struct range range, struct block *b)
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
        .token = offsetof(struct block, token),
        .position = offsetof(struct block, position),
        .sequence = offsetof(struct block, sequence),
        .slot = offsetof(struct block, slot),
        .output = offsetof(struct block, output),
        .kv_len = offsetof(struct block, kv_len),
        .page_table = offsetof(struct block, page_table),
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

static _Atomic uint64_t n_allocations; /* of all devices of the test */

static void *count_alloc(void *user, size_t size, size_t align)
{
    (void)user;
    atomic_fetch_add(&n_allocations, 1);
    struct quern_callbacks plain = qn_callbacks_resolve(NULL);
    return plain.alloc(NULL, size, align);
}

static void count_free(void *user, void *ptr)
{
    (void)user;
    struct quern_callbacks plain = qn_callbacks_resolve(NULL);
    plain.free(NULL, ptr);
}

const struct quern_callbacks qn_case_callbacks = {.alloc = count_alloc, .free = count_free};
static const struct quern_host case_host = {sizeof case_host, &qn_case_callbacks};

void qn_rig_finish(const struct qn_case *c, struct qn_rig *rig)
{
    if (!rig->device)
        return;
    c->driver->release(rig->device, rig->prepared);
    for (uint32_t i = 0; i < c->n_values; i++)
        c->driver->buffer_destroy(rig->device, rig->buffer[i]);
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

static int32_t prepare(const struct qn_case *c, struct qn_rig *rig, struct quern_error *err)
{
    struct quern_value values[QN_CASE_VALUES];
    struct quern_binding bindings[QN_CASE_VALUES];
    const struct quern_graph graph = graph_of(c, values);
    for (uint32_t i = 0; i < c->n_values; i++)
        bindings[i] = (struct quern_binding){.buffer = buffer_of(c, rig, i),
                                             .offset = offset_of(c, i),
                                             .bytes = c->values[i].bytes,
                                             .layout = c->values[i].layout};
    uint32_t node = 0;
    struct quern_segment segment = {.struct_size = sizeof segment,
                                    .n_nodes = 1,
                                    .graph = &graph,
                                    .nodes = &node,
                                    .bindings = bindings,
                                    .kv = &c->kv_at,
                                    .max_tokens = rig->bucket,
                                    .max_outputs = c->n_outputs < rig->bucket ? c->n_outputs : rig->bucket,
                                    .exact = c->exact};
    uint8_t mask = 0;
    c->driver->supports(rig->device, &graph, &mask);
    int32_t status = c->driver->prepare(rig->device, &segment, &rig->prepared, err);
    assert_true(mask == 1 || status != QUERN_OK);
    return status;
}

static int32_t write_weights(const struct qn_case *c, struct qn_rig *rig, struct quern_error *err)
{
    int32_t status = QUERN_OK;
    size_t bytes = 0;
    char *joined = NULL;
    for (uint32_t i = 0; i < c->n_values; i++)
        if (is_joined(c, i)) {
            bytes = offset_of(c, i) + c->values[i].bytes;
            joined = realloc(joined, bytes);
            assert_non_null(joined);
            memcpy(joined + offset_of(c, i), c->values[i].data, c->values[i].bytes);
        }
    for (uint32_t i = 0; i < c->n_values && !status; i++)
        if (is_joined(c, i)) {
            if (offset_of(c, i) == 0)
                status = move_bytes(c, rig, buffer_of(c, rig, i), joined, bytes, true, err);
        } else if (c->values[i].value.kind == QUERN_VALUE_WEIGHT) {
            status = move_bytes(c, rig, rig->buffer[i], c->values[i].data, c->values[i].bytes, true, err);
        }
    free(joined);
    return status;
}

int32_t qn_rig_init(const struct qn_case *c, struct qn_rig *rig, uint32_t bucket, const char *threads,
                    struct quern_error *err)
{
    *rig = (struct qn_rig){.device = c->device, .bucket = bucket};
    struct quern_setting settings[] = {{"threads", threads}, {"isa", c->isa ? c->isa : "all"}};
    struct quern_profile_view profile = {sizeof profile, 2, settings};
    int32_t status = c->device ? QUERN_OK : c->driver->open(&case_host, 0, &profile, &rig->device, err);
    for (uint32_t i = 0; i < c->n_values && !status; i++)
        status = c->driver->buffer_create(rig->device, 0, buffer_bytes(c, i), &rig->buffer[i], err);
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
    static struct block block;
    fill_step(c, range, &block);
    struct quern_kv_pools pools[2] = {{0, NULL}, {c->n_pools, rig->pool}};
    struct quern_run_args args = {
        .struct_size = sizeof args, .n_homes = 2, .step = &block.step, .kv = pools, .trace = 1};
    uint64_t before = atomic_load(&n_allocations), point = 0;
    int32_t status = c->driver->run(rig->device, rig->prepared, &args, &point, err);
    if (!status)
        status = c->driver->wait(rig->device, point, PATIENCE_NS, err);
    if ((rig->n_runs++ > 0 || !c->device) && !c->measured)
        assert_int_equal(atomic_load(&n_allocations), before);
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
    if (!status && c->driver->times) {
        assert_int_equal(c->driver->times(rig->device, rig->prepared, &time, 1), 1);
        assert_true(time.node == 0 && time.begin_ns <= time.end_ns);
    }
    return status;
}

void qn_left_init(const struct qn_case *c, struct qn_left *left)
{
    memset(left, 0, sizeof *left);
    for (uint32_t i = 0; i < c->n_values; i++) {
        left->results[i] = malloc(c->values[i].bytes + 1);
        assert_non_null(left->results[i]);
        memset(left->results[i], 0xff, c->values[i].bytes + 1);
    }
    for (uint32_t i = 0; i < c->n_pools; i++)
        left->pool[i] = calloc(1, c->kv_at.pages_per_pool * c->kv_at.page_bytes);
}

void qn_left_finish(struct qn_left *left)
{
    for (int i = 0; i < QN_CASE_VALUES; i++)
        free(left->results[i]);
    for (int i = 0; i < QN_CASE_POOLS; i++)
        free(left->pool[i]);
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

static int32_t run_way(const struct qn_case *c, const char *threads, uint32_t chunk, struct qn_left *left,
                       struct quern_error *err)
{
    struct qn_rig rig;
    qn_left_init(c, left);
    int32_t status = qn_rig_init(c, &rig, c->n_tokens, threads, err);
    if (!status)
        status = qn_rig_run(c, &rig, chunk, left, err);
    qn_rig_finish(c, &rig);
    return status;
}

static void keep(struct qn_case *c, const struct qn_left *left)
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
    int32_t status = run_way(c, threads, c->n_tokens, &left, err);
    if (!status)
        keep(c, &left);
    qn_left_finish(&left);
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

void qn_case_run(struct qn_case *c)
{
    static const char *const threads[] = {"1", "2", "3", "4", "1", "3"};
    struct qn_left first, left;
    struct quern_error err = {.text = ""};
    if (run_way(c, "1", c->n_tokens, &first, &err) != QUERN_OK)
        fail_msg("cannot run: %s", err.text);
    for (int way = 1; way < 6; way++) {
        const char *order = way >= 4 ? ", token by token" : "";
        if (run_way(c, threads[way], way >= 4 ? 1 : c->n_tokens, &left, &err) != QUERN_OK)
            fail_msg("cannot run with %s threads%s: %s", threads[way], order, err.text);
        const char *what = qn_left_differ(c, &first, &left);
        if (what)
            fail_msg("%s threads%s give other bits in %s", threads[way], order, what);
        qn_left_finish(&left);
    }
    keep(c, &first);
    qn_left_finish(&first);
}
