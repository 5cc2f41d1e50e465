/* A graph of one node, for testing a driver's operations through its table. The node is run in several ways:
 * all tokens in one batch with 1, 2, 3 and 4 threads, then token by token; all must give the same bits, and
 * no run may allocate. */
#ifndef QN_TEST_ONE_NODE_H
#define QN_TEST_ONE_NODE_H

#include <quern/driver.h>

#include "base/host.h"
#include "formats/formats.h"
#include "test.h"

#include <stdatomic.h>

enum { QN_CASE_VALUES = 12, QN_CASE_TOKENS = 512, QN_CASE_SEQS = 8, QN_CASE_PAGES = 64, QN_CASE_POOLS = 8 };

struct qn_case_value {
    struct quern_value value;
    void *data; /* rows of all tokens, or the weight; owned */
    size_t bytes;
    size_t row_bytes; /* activations: bytes for each token */
    bool per_output;
};

struct qn_case {
    const struct quern_driver *driver;
    const char *isa; /* setting of the device; NULL: all */
    bool exact;
    bool in_place; /* out[0] has the address of in[0] */
    struct quern_node node;
    struct qn_case_value values[QN_CASE_VALUES];
    uint32_t n_values;

    uint32_t n_tokens, n_outputs, n_seqs;
    int32_t token[QN_CASE_TOKENS];
    uint32_t position[QN_CASE_TOKENS], sequence[QN_CASE_TOKENS], output[QN_CASE_TOKENS];

    /* KV: page p of sequence s is pages[s][p], page_bytes each. */
    struct quern_kv_layer kv;
    struct quern_kv_binding kv_at;
    uint32_t pages[QN_CASE_SEQS][QN_CASE_PAGES];
    char *pool[QN_CASE_POOLS]; /* contents before the run, and afterwards those after it; owned */
    uint32_t n_pools;
};

/* ---------------------------------------------------------------- cases */

/* A case of n_tokens tokens of sequence 0 at positions 0, 1, ...; no outputs. */
static void qn_case_init(struct qn_case *c, const struct quern_driver *driver, enum quern_op op,
                         uint32_t n_tokens)
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

static void qn_case_finish(struct qn_case *c)
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

/* Adds a value and returns its id. `data` is copied; NULL: zeros, for results. */
static uint32_t qn_case_weight(struct qn_case *c, enum quern_format format, int64_t d0, int64_t d1,
                               int64_t d2, const void *data)
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

static uint32_t qn_case_rows(struct qn_case *c, enum quern_format format, int64_t d0, int64_t d1,
                             const void *data)
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

static uint32_t qn_case_output_rows(struct qn_case *c, int64_t d0, const void *data)
{
    struct quern_value value = {.kind = QUERN_VALUE_OUTPUT,
                                .format = QUERN_F32,
                                .dim = {d0, QUERN_DIM_OUTPUTS, 1, 1},
                                .weight = QUERN_NONE,
                                .layer = QUERN_NONE};
    return add_rows(c, value, d0, true, data);
}

/* Data of a value: after the run, a result. */
static float *qn_case_data(struct qn_case *c, uint32_t id)
{
    return c->values[id].data;
}

/* Lays out KV pages for one layer and allocates the pools, filled with 0xff. */
static void qn_case_kv(struct qn_case *c, struct quern_kv_layer layer, enum quern_format k_format,
                       enum quern_format v_format, uint32_t page_tokens, uint32_t n_pages,
                       uint32_t pages_per_pool)
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

/* Address in the pools of a row of K (part 0) or V (part 1) of a sequence's position. */
static char *qn_case_kv_row(struct qn_case *c, int part, uint32_t sequence, uint32_t position, uint32_t head)
{
    const struct quern_kv_binding *at = &c->kv_at;
    uint32_t page = c->pages[sequence][position / at->page_tokens], row = position % at->page_tokens;
    uint64_t row_bytes = qn_format_row_bytes((enum quern_format)(part ? at->v_format : at->k_format),
                                             part ? c->kv.head_dim_v : c->kv.head_dim_k);
    return c->pool[page / at->pages_per_pool] + (page % at->pages_per_pool) * at->page_bytes +
           (part ? at->v_offset : at->k_offset) + ((uint64_t)head * at->page_tokens + row) * row_bytes;
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

static const struct quern_callbacks case_callbacks = {.alloc = count_alloc, .free = count_free};
static const struct quern_host case_host = {sizeof case_host, &case_callbacks};

/* A device with the case's memory, and the node prepared on it. */
struct rig {
    struct quern_device *device;
    struct quern_buffer *buffer[QN_CASE_VALUES], *pool[QN_CASE_POOLS];
    struct quern_prepared *prepared;
};

static void rig_finish(const struct qn_case *c, struct rig *rig)
{
    if (!rig->device)
        return;
    c->driver->release(rig->device, rig->prepared);
    for (uint32_t i = 0; i < c->n_values; i++)
        c->driver->buffer_destroy(rig->device, rig->buffer[i]);
    for (uint32_t i = 0; i < c->n_pools; i++)
        c->driver->buffer_destroy(rig->device, rig->pool[i]);
    c->driver->close(rig->device);
}

static struct quern_buffer *buffer_of(const struct qn_case *c, const struct rig *rig, uint32_t id)
{
    return rig->buffer[c->in_place && id == c->node.out[0] ? c->node.in[0] : id];
}

static int32_t prepare(const struct qn_case *c, struct rig *rig, struct quern_error *err)
{
    struct quern_value values[QN_CASE_VALUES];
    struct quern_binding bindings[QN_CASE_VALUES];
    for (uint32_t i = 0; i < c->n_values; i++) {
        values[i] = c->values[i].value;
        bindings[i] = (struct quern_binding){.buffer = buffer_of(c, rig, i), .bytes = c->values[i].bytes};
    }
    struct quern_graph graph = {.struct_size = sizeof graph,
                                .value_size = sizeof values[0],
                                .node_size = sizeof c->node,
                                .kv_size = sizeof c->kv,
                                .n_values = c->n_values,
                                .n_nodes = 1,
                                .n_kv = 1,
                                .values = values,
                                .nodes = &c->node,
                                .kv = &c->kv};
    uint32_t node = 0;
    struct quern_segment segment = {.struct_size = sizeof segment,
                                    .n_nodes = 1,
                                    .graph = &graph,
                                    .nodes = &node,
                                    .bindings = bindings,
                                    .kv = &c->kv_at,
                                    .max_tokens = c->n_tokens,
                                    .max_outputs = c->n_outputs,
                                    .exact = c->exact};
    uint8_t mask = 0;
    c->driver->supports(rig->device, &graph, &mask);
    int32_t status = c->driver->prepare(rig->device, &segment, &rig->prepared, err);
    assert_true(mask == 1 || status != QUERN_OK);
    return status;
}

static int32_t rig_init(const struct qn_case *c, struct rig *rig, const char *threads,
                        struct quern_error *err)
{
    *rig = (struct rig){.device = NULL};
    struct quern_setting settings[] = {{"threads", threads}, {"isa", c->isa ? c->isa : "all"}};
    struct quern_profile_view profile = {sizeof profile, 2, settings};
    int32_t status = c->driver->open(&case_host, 0, &profile, &rig->device, err);
    for (uint32_t i = 0; i < c->n_values && !status; i++)
        status = c->driver->buffer_create(rig->device, 0, c->values[i].bytes + 64, &rig->buffer[i], err);
    for (uint32_t i = 0; i < c->n_pools && !status; i++)
        status = c->driver->buffer_create(rig->device, 0, c->kv_at.pages_per_pool * c->kv_at.page_bytes,
                                          &rig->pool[i], err);
    for (uint32_t i = 0; i < c->n_pools && !status; i++)
        memcpy(c->driver->buffer_map(rig->device, rig->pool[i]), c->pool[i],
               c->kv_at.pages_per_pool * c->kv_at.page_bytes);
    return status ? status : prepare(c, rig, err);
}

static bool is_result(const struct qn_case *c, uint32_t id)
{
    for (int i = 0; i < QUERN_MAX_OUT; i++)
        if (c->node.out[i] == id)
            return true;
    return false;
}

/* Copies the range's rows of a value to (or from) the device. */
static void move_rows(const struct qn_case *c, struct rig *rig, uint32_t id, struct range range, char *rows,
                      bool to_device)
{
    const struct qn_case_value *v = &c->values[id];
    char *device = c->driver->buffer_map(rig->device, buffer_of(c, rig, id));
    size_t first = 0, bytes = v->bytes;
    if (v->value.kind != QUERN_VALUE_WEIGHT) {
        first = v->row_bytes * (v->per_output ? range.output : range.token);
        bytes = v->row_bytes * (v->per_output ? range.n_outputs : range.n_tokens);
    }
    if (to_device)
        memcpy(device, rows + first, bytes);
    else
        memcpy(rows + first, device, bytes);
}

static int32_t run_range(const struct qn_case *c, struct rig *rig, struct range range, char **results,
                         struct quern_error *err)
{
    static struct block block;
    fill_step(c, range, &block);
    struct quern_kv_pools pools[2] = {{0, NULL}, {c->n_pools, rig->pool}};
    struct quern_run_args args = {
        .struct_size = sizeof args, .n_homes = 2, .step = &block.step, .kv = pools, .trace = 1};
    for (uint32_t i = 0; i < c->n_values; i++)
        if (!is_result(c, i))
            move_rows(c, rig, i, range, c->values[i].data, true);
    uint64_t before = atomic_load(&n_allocations), point = 0;
    int32_t status = c->driver->run(rig->device, rig->prepared, &args, &point, err);
    if (!status)
        status = c->driver->wait(rig->device, point, UINT64_MAX, err);
    assert_int_equal(atomic_load(&n_allocations), before);
    for (uint32_t i = 0; i < c->n_values && !status; i++)
        if (is_result(c, i))
            move_rows(c, rig, i, range, results[i], false);
    struct quern_node_time time;
    if (!status) {
        assert_int_equal(c->driver->times(rig->device, rig->prepared, &time, 1), 1);
        assert_true(time.node == 0 && time.begin_ns <= time.end_ns);
    }
    return status;
}

/* What a way of running leaves behind. */
struct left {
    char *results[QN_CASE_VALUES];
    char *pool[QN_CASE_POOLS];
};

static void left_init(const struct qn_case *c, struct left *left)
{
    memset(left, 0, sizeof *left);
    for (uint32_t i = 0; i < c->n_values; i++)
        left->results[i] = calloc(1, c->values[i].bytes + 1);
    for (uint32_t i = 0; i < c->n_pools; i++)
        left->pool[i] = calloc(1, c->kv_at.pages_per_pool * c->kv_at.page_bytes);
}

static void left_finish(struct left *left)
{
    for (int i = 0; i < QN_CASE_VALUES; i++)
        free(left->results[i]);
    for (int i = 0; i < QN_CASE_POOLS; i++)
        free(left->pool[i]);
}

static int32_t run_way(const struct qn_case *c, const char *threads, bool one_by_one, struct left *left,
                       struct quern_error *err)
{
    struct rig rig;
    left_init(c, left);
    int32_t status = rig_init(c, &rig, threads, err);
    struct range all = {0, c->n_tokens, 0, c->n_outputs};
    if (!status && !one_by_one)
        status = run_range(c, &rig, all, left->results, err);
    if (!status && one_by_one && c->n_outputs == 0)
        for (uint32_t t = 0; t < c->n_tokens && !status; t++)
            status = run_range(c, &rig, (struct range){t, 1, 0, 0}, left->results, err);
    if (!status && one_by_one)
        for (uint32_t o = 0; o < c->n_outputs && !status; o++)
            status = run_range(c, &rig, (struct range){c->output[o], 1, o, 1}, left->results, err);
    for (uint32_t i = 0; i < c->n_pools && !status; i++)
        memcpy(left->pool[i], c->driver->buffer_map(rig.device, rig.pool[i]),
               c->kv_at.pages_per_pool * c->kv_at.page_bytes);
    rig_finish(c, &rig);
    return status;
}

static void keep(struct qn_case *c, const struct left *left)
{
    for (uint32_t i = 0; i < c->n_values; i++)
        if (is_result(c, i) && c->values[i].bytes > 0)
            memcpy(c->values[i].data, left->results[i], c->values[i].bytes);
    for (uint32_t i = 0; i < c->n_pools; i++)
        memcpy(c->pool[i], left->pool[i], c->kv_at.pages_per_pool * c->kv_at.page_bytes);
}

/* Prepares and runs the node once, in one batch. */
static int32_t qn_case_run_once(struct qn_case *c, const char *threads, struct quern_error *err)
{
    struct left left;
    int32_t status = run_way(c, threads, false, &left, err);
    if (!status)
        keep(c, &left);
    left_finish(&left);
    return status;
}

static void assert_same(const struct qn_case *c, const struct left *a, const struct left *b, const char *way)
{
    for (uint32_t i = 0; i < c->n_values; i++)
        if (c->values[i].bytes > 0 && memcmp(a->results[i], b->results[i], c->values[i].bytes) != 0)
            fail_msg("%s gives other bits in value %u", way, i);
    for (uint32_t i = 0; i < c->n_pools; i++)
        if (memcmp(a->pool[i], b->pool[i], c->kv_at.pages_per_pool * c->kv_at.page_bytes) != 0)
            fail_msg("%s gives other bits in KV pool %u", way, i);
}

/* Runs it in all ways; results are those of the last. Fails the test where they differ. */
static void qn_case_run(struct qn_case *c)
{
    static const char *const threads[] = {"1", "2", "3", "4", "1", "3"};
    struct left first, left;
    struct quern_error err = {.text = ""};
    if (run_way(c, "1", false, &first, &err) != QUERN_OK)
        fail_msg("cannot run: %s", err.text);
    for (int way = 1; way < 6; way++) {
        char name[64];
        snprintf(name, sizeof name, "%s threads%s", threads[way], way >= 4 ? ", token by token" : "");
        if (run_way(c, threads[way], way >= 4, &left, &err) != QUERN_OK)
            fail_msg("cannot run with %s: %s", name, err.text);
        assert_same(c, &first, &left, name);
        left_finish(&left);
    }
    keep(c, &first);
    left_finish(&first);
}

#endif
